# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes until a cell has back what somebody has taken away from it, with nftables and with iptables-legacy, and what listening costs.

The cell is a container of the lab's image that no network leads to, with systemd and the units as the role installs them. For the cost a container is started
and ended each second for a minute: a veth pair in a bridge, and the rules that `docker run -p` makes. The times are those of this machine; compare with
the cell that has the timer alone.
Run it as root with the collection and tests/lab on PYTHONPATH: python tests/benchmarks/repair.py [rounds]
"""

from __future__ import annotations

import json
import time
from typing import Any

import lab
from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, Comparison, parser, report
from ansible_collections.pic.cells.tests.benchmarks.restore_lab import Inside, archive, files, host

SMALL = 2  # links, with five devices
FLUSH = {"nft": "nft flush ruleset", "legacy": 'for t in filter nat mangle; do for i in iptables ip6tables; do echo "*$t\nCOMMIT" | $i-restore; done; done'}
FIRST = "iptables -S FORWARD | sed -n 2p | grep -q PIC"

# What is done, how it is known to be back, and what is cleared away afterwards.
DAMAGES = {
    "the rules of a chain": ("iptables -F PIC-HOME", "iptables -S PIC-HOME | grep -q DROP", ""),
    "a jump": ("iptables -D FORWARD 1", FIRST, ""),
    "an overtaken jump": ("iptables -I FORWARD -i wg0 -j ACCEPT", FIRST, "iptables -D FORWARD -i wg0 -j ACCEPT"),
    "the translation, IPv6's clamp": ("iptables -t nat -F PIC-POST; ip6tables -t mangle -F PIC-MSS", "ip6tables -t mangle -S PIC-MSS | grep -q TCPMSS", ""),
    "all rules of the host": ("FLUSH", f"{FIRST} && ip6tables -S INPUT | grep -q PIC", ""),
    "all policy rules": ("ip rule flush protocol 201", "ip rule | grep -q 4002.*10.0.1.6", ""),
    "an exit's table": ("ip route flush table 4200", "ip route show table 4200 | grep -q pic-", ""),
    "a link's route": ("ip route del 10.1.1.0/24 dev pic-x1", "ip route | grep -q '10.1.1.0/24 dev pic-x1'", ""),
    "a wall": ("ip -6 route del unreachable fd00:b:1::/64 metric 4294967295", "ip -6 route | grep -q '^unreachable fd00:b:1::/64'", ""),
    "a link's address": ("ip addr del 10.0.0.1/32 dev pic-x1", "ip route | grep -q '10.1.1.0/24 dev pic-x1'", ""),
    "a link that is down": ("ip link set pic-x1 down", "ip route | grep -q '10.1.1.0/24 dev pic-x1'", ""),
    "a link's interface": ("ip link del pic-x0", "ip route | grep -q '10.1.0.0/24 dev pic-x0'", ""),
}
SETUP = """
ip link add eth0 type veth peer name uplink; ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up; ip link set uplink up; ip route add default via 192.0.2.1
for tool in iptables ip6tables; do update-alternatives --quiet --set $tool /usr/sbin/$tool-BACKEND; done
echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
chmod 755 /usr/local/lib/pic-cells /usr/local/lib/pic-cells/pic-cell.pyz
ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up
iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
for chain in DOCKER DOCKER-USER DOCKER-ISOLATION-STAGE-1; do iptables -N $chain; done
iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
iptables -A FORWARD -o docker0 -j DOCKER; iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
"""
INSTALL = f"""
import sys
sys.path.insert(0, {agent.PROGRAM!r})
from pic_cells import agent
from pic_cells.base import command
from pic_cells.kernel import plan
from pic_cells.parts.part import Context
from pic_cells.records.store import STATE_DIR, Store
host = command.Host()
with Store(host, STATE_DIR).lock():
    plan.apply(host, agent.plan_agent(Context(host, Store(host, STATE_DIR))))
"""
# In the container, so that nothing but the commands themselves takes time.
MEASURE = """
import json, subprocess, sys, time
def done(command):
    return subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
damage, probe, after, limit = json.loads(sys.argv[1])
assert done(probe), "not there before"
begin = time.monotonic()
assert done(damage), damage
end = time.monotonic()
while not done(probe) and time.monotonic() - begin < limit:
    time.sleep(0.02)
print(time.monotonic() - end)
done(after)
"""
CHURN = """
start() {
    unshare -n sleep 5 & pid=$!
    ip link add veth$1 type veth peer name peer$1; ip link set veth$1 master docker0 up; ip link set peer$1 netns $pid
    nsenter -t $pid -n sh -c "ip link set peer$1 name eth0; ip address add 172.17.0.$2/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1"
    rules A $2 $((8000 + $1))
    running="$running $pid"
}
rules() {
    iptables -w -t nat -$1 DOCKER -p tcp -d 0/0 --dport $3 -j DNAT --to-destination 172.17.0.$2:80 ! -i docker0
    iptables -w -t filter -$1 DOCKER ! -i docker0 -o docker0 -p tcp -d 172.17.0.$2 --dport 80 -j ACCEPT
    iptables -w -t nat -$1 POSTROUTING -p tcp -s 172.17.0.$2 -d 172.17.0.$2 --dport 80 -j MASQUERADE
    iptables -w -t raw -$1 PREROUTING -p tcp -d 172.17.0.$2 --dport 80 ! -i docker0 -j DROP
}
begin=$(date +%s)
for n in $(seq 60); do
    start $n $((n + 1))
    [ $n -gt 1 ] && { rules D $n $((7999 + n)); ip link del veth$((n - 1)); }
    while [ $(date +%s) -lt $((begin + n)) ]; do sleep 0.05; done
done
rules D 61 8060; ip link del veth60; wait
"""


def make(inside: Inside, backend: str) -> None:
    """Make a host a cell."""
    inside("tar", "-x", "-C", "/", data=archive(files(SMALL)))
    inside("bash", "-e", data=SETUP.replace("BACKEND", backend).encode())
    inside("python3", "-", data=INSTALL.encode())
    inside("systemctl", "start", units.RESTORE)
    assert inside("pic-cell", "check") == ""
    time.sleep(12)  # until the records have rested


def measured(inside: Inside, what: str, backend: str, limit: float) -> float:
    """Do one damage; return the seconds until it is made good."""
    damage, probe, after = DAMAGES[what]
    return float(inside("python3", "-", json.dumps([damage.replace("FLUSH", FLUSH[backend]), probe, after, limit]), data=MEASURE.encode()))


def used(inside: Inside) -> float:
    """Return the seconds of processor time that the watcher and its children have had."""
    pid = inside("systemctl", "show", "-p", "MainPID", "--value", units.WATCH).strip()
    ticks = inside("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / 100


def cost(inside: Inside, script: str) -> float:
    """Return the share of a core, in percent, that the watcher takes while a script runs."""
    before, begin = used(inside), time.monotonic()
    inside("bash", "-c", script)
    return 100 * (used(inside) - before) / (time.monotonic() - begin)


def results(inside: Inside, backend: str, rounds: int) -> dict[str, Any]:
    """Measure everything on one cell."""
    make(inside, backend)
    inside("systemctl", "stop", units.TIMER)
    times: dict[str, list[float]] = {what: [] for what in DAMAGES}
    for _round in range(rounds):
        inside("systemctl", "restart", units.WATCH)  # the same again and again would be a rival's doing
        time.sleep(3)
        for what, found in times.items():
            found.append(measured(inside, what, backend, 20))
            time.sleep(2.5)
    quiet, busy = cost(inside, "sleep 20"), cost(inside, CHURN)
    inside("sh", "-c", "pic-cell check")
    inside("systemctl", "stop", units.WATCH)
    inside("systemctl", "start", units.TIMER)
    timer = [measured(inside, "a jump", backend, 130) for _time in range(2)]
    return {"times": times, "quiet": quiet, "busy": busy, "timer": timer}


def main() -> None:
    """Print the tables."""
    options = parser(__doc__)
    options.add_argument("rounds", nargs="?", type=int, default=ROUNDS)
    given = options.parse_args()
    lab.build_image(lab.RELEASES[0])
    found = {}
    for backend in lab.BACKENDS:
        with host("--cap-add", "NET_BROADCAST,SYS_ADMIN") as inside:
            found[backend] = results(inside, backend, given.rounds)
    rows = {**{what: {b: found[b]["times"][what] for b in found} for what in DAMAGES}, "a jump, with the timer alone": {b: found[b]["timer"] for b in found}}
    costs = {"nothing happens": "quiet", "a container each second": "busy"}
    report(
        given,
        [
            *(Comparison("Back after", what, "s", "", None, {"": figures}) for what, figures in rows.items()),
            *(Comparison("The watcher", what, "% of a core", "", None, {"": {b: [found[b][key]] for b in found}}) for what, key in costs.items()),
        ],
    )


if __name__ == "__main__":
    main()
