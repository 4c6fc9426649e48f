# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells that come back by themselves: after a restart, sniffed from the first packet, and after damage."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import lab
from cells import sh, within
from lab import INTERNET, PREFIX, inside, podman
from packets import Attached, Sniffer, reaches, seen_address
from playbooks import play, run

ADDRESSES = {cell.name: lab.NETWORKS["inet"].addresses(cell.at["inet"]) for cell in lab.CELLS}
EXITS = {"phone-a1": "cellb", "phone-a2": "cellc", "phone-a3": "cella", "phone-b1": "cella"}
# Seen by the internet itself, since a capture on the cell would end with it: whatever of A's phones comes by A's uplink, NATed or not.
OF_A = " or ".join(f"src net {network}" for network in (*ADDRESSES["cella"], "10.0.0.0/24", "fd00:a::/64"))
LEAK = f"({OF_A}) and (dst host {INTERNET[0]} or dst host {INTERNET[1]})"
# Ends by itself after a while, too: it would be a leak in the next scenario.
OFFER = """
exec >/dev/null 2>&1
ping -q -n -i 0.1 -w 100 {} & ipv4=$!
ping -q -n -i 0.1 -w 100 {} & ipv6=$!
for time in $(seq 500); do curl -s -g -m 1 http://{}/; sleep 0.1; done & web=$!
read -r end
kill $ipv4 $ipv6 $web
"""
PACKAGES = ("var/lib/pic", "etc/wireguard", "usr/local/lib/pic-cells", "usr/local/bin/pic-cell")


def leaves_by_its_exit(phone: str) -> bool:
    return (seen_address(phone, 4), seen_address(phone, 6)) == ADDRESSES[EXITS[phone]]


def state_of(cell: str) -> list[str]:
    """Our rules and policy rules in an order of their own, our routes, the interfaces; what others have planted does not outlive a reboot."""
    rules = "{ iptables-save; ip6tables-save; } | grep pic-cell | grep -v -e not_ours -e of-mine; { ip rule; ip -6 rule; } | grep 'proto 201'"
    text = sh(cell, rules + "; for f in 4 6; do ip -$f route show table all proto 201; done; wg show interfaces | xargs -n1 | grep -v wgother")
    return sorted(text.splitlines())


def is_as_recorded(cell: str) -> bool:
    return inside(cell, "pic-cell", "check", check=False).returncode == 0


@contextmanager
def busy(phone: str) -> Iterator[None]:
    """Lets a phone try the internet all the time, over both families, as a new flow and as an old one."""
    process = Attached(phone, "sh", "-c", OFFER.format(*INTERNET, INTERNET[0]))
    process.start()
    try:
        yield
    finally:
        process.stop()


def restart(*cells: str) -> None:
    """Reboots cells, and waits until systemd has started their interfaces."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda cell: podman("restart", PREFIX + cell), cells))
    for cell in cells:
        assert within(30, lambda cell=cell: not inside(cell, "systemctl", "is-active", "--quiet", "wg-quick@wg0", check=False).returncode), cell


def wake(phone: str) -> None:
    """A phone takes up to 15 s to see that its cell has forgotten the session, which is WireGuard's affair."""
    sh(phone, "systemctl restart wg-quick@wg0")


def test_the_capture_would_see_a_leak():
    with Sniffer("internet", "eth0", LEAK) as uplink:
        assert leaves_by_its_exit("phone-a3")
    assert len(uplink.lines) > 4
    with Sniffer("internet", "eth0", LEAK) as uplink:
        assert leaves_by_its_exit("phone-a1")
    assert uplink.lines == []


@pytest.mark.parametrize("cells", [("cella",), ("cellb",), ("cella", "cellb")], ids=" and ".join)
def test_after_a_restart_all_is_as_before_and_a_routed_phone_never_went_direct(cells):
    before = {cell: state_of(cell) for cell in cells}
    with Sniffer("internet", "eth0", LEAK) as uplink, busy("phone-a1"):
        restart(*cells)
        # once is enough to see that a phone comes back by itself
        for phone in ("phone-a2", "phone-b1", *(["phone-a1"] if "cellb" in cells else [])):
            wake(phone)
        assert within(10, lambda: leaves_by_its_exit("phone-a2")), "an exit, or the way to it, is not back"
        assert within(10, lambda: reaches("phone-b1", "10.0.0.1", 8443)), "a share is not back"
        assert not reaches("phone-b1", "10.0.0.1", 8444), "more than is shared"
        assert within(25, lambda: leaves_by_its_exit("phone-a1"))
    assert uplink.lines == []
    assert leaves_by_its_exit("phone-b1")
    for cell in cells:
        assert is_as_recorded(cell)
        assert state_of(cell) == before[cell]


def test_a_guard_that_fails_keeps_the_devices_interface_down():
    with Sniffer("internet", "eth0", LEAK) as uplink, busy("phone-a1"):
        sh("cella", "mv /var/lib/pic/cell.json /root/")
        podman("restart", PREFIX + "cella")
        assert within(30, lambda: sh("cella", "systemctl is-failed pic-cell-guard", check=False) == "failed\n")
        assert within(30, lambda: sh("cella", "systemctl is-system-running", check=False) == "degraded\n")
        assert sh("cella", "wg show interfaces").split() in ([], ["wgother"])
        assert "no record of it" in sh("cella", "journalctl -b -u pic-cell-guard --no-pager")
        sh("cella", "mv /root/cell.json /var/lib/pic/; systemctl start pic-cell-restore")
        assert within(25, lambda: leaves_by_its_exit("phone-a1"))
    assert uplink.lines == []
    assert is_as_recorded("cella")


DAMAGE = {
    "a jump": "iptables -D FORWARD 1",
    "the rules of a chain": "iptables -F PIC-L-cellb",
    "a share's rule of IPv6": "ip6tables -D PIC-S-cellb 1",
    "the translation": "iptables -t nat -F PIC-POST",
    "the clamp": "ip6tables -t mangle -F PIC-MSS",
    "a chain with its jump": "iptables -D OUTPUT 1; iptables -F PIC-OUT; iptables -X PIC-OUT",
    "a shared policy rule": "ip rule del pref 3999 from 10.0.0.0/24 to 10.0.0.0/8",
    "P+1": "ip rule del pref 4001 from 10.0.0.2",
    "P+2": "ip -6 rule del pref 4002 from fd00:a::2",
    "all policy rules": "ip rule flush protocol 201; ip -6 rule flush protocol 201",
    "an exit's table": "ip route flush table 4200",
    "a link's route": "ip route del 10.0.1.0/24 dev pic-cellb",
    "a wall": "ip -6 route del unreachable fd00:b::/64 metric 4294967295",
    "an address": "ip addr del 10.0.0.1/32 dev pic-cellb",
    "a link's interface": "ip link del pic-cellb",
    "a link that is down": "ip link set pic-cellc down",
    "the devices' interface": "systemctl stop wg-quick@wg0",
    "a device": 'wg set wg0 peer $(cat /var/lib/pic/peer_registry.json | sed -n \'s/.*"public_key": "\\(.*\\)".*/\\1/p\' | head -1) remove',
}
FOREIGN = (
    "iptables -N SOMEBODY; iptables -A SOMEBODY -s 192.0.2.0/24 -j DROP; iptables -A FORWARD -j SOMEBODY; ip rule add from 192.0.2.1 lookup 77 pref 4005;"
    "ip route add 192.0.2.0/24 dev eth0 table 77"
)


@pytest.fixture(scope="module")
def foreign() -> Iterator[None]:
    """Puts somebody else's rules and routes beside ours."""
    sh("cella", FOREIGN)
    yield
    sh("cella", "ip rule del pref 4005; iptables -D FORWARD -j SOMEBODY; iptables -F SOMEBODY; iptables -X SOMEBODY; ip route flush table 77")


@pytest.fixture
def timer_off() -> Iterator[None]:
    """Keeps the timer from putting back what a test has taken away, before the test has looked: once in some fifty times it would."""
    for cell in ("cella", "cellc"):
        sh(cell, "systemctl stop pic-cell-restore.timer; systemctl start pic-cell-restore")  # waits for one that runs already
    yield
    for cell in ("cella", "cellc"):
        # These tests can be quicker than systemd lets a unit be started: five times in ten seconds.
        sh(cell, "systemctl reset-failed pic-cell-restore.timer pic-cell-restore.service; systemctl start pic-cell-restore.timer")


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_deleted_by_hand_is_put_back_and_nothing_else(foreign, timer_off, what):
    before = state_of("cella")
    sh("cella", DAMAGE[what])
    assert not is_as_recorded("cella"), "the damage did none"
    said = sh("cella", "pic-cell restore")
    assert 1 <= len(said.splitlines()) < 60
    assert is_as_recorded("cella")
    assert state_of("cella") == before
    assert sh("cella", "pic-cell restore") == ""
    assert sh("cella", "iptables -S SOMEBODY; ip rule; ip route show table 77").count("192.0.2.") == 3


def test_the_timer_puts_it_back_and_says_what_was_missing(foreign):
    before = state_of("cella")
    sh("cella", DAMAGE["P+1"] + "; " + DAMAGE["the rules of a chain"])
    assert within(65, lambda: is_as_recorded("cella"))
    assert state_of("cella") == before
    said = sh("cella", "journalctl -u pic-cell-restore --no-pager -n 30")
    assert "missing: 10.0.0.2: [4001] table 4200, [4002] unreachable" in said


def test_a_restore_that_is_asked_for_again_and_again_is_no_failure():
    """As when docker or a firewall is restarted several times: systemd would refuse the sixth start in ten seconds."""
    for _time in range(8):
        sh("cella", "systemctl start pic-cell-restore")
    assert sh("cella", "systemctl is-failed pic-cell-restore", check=False) == "inactive\n"


def test_the_start_of_what_deletes_rules_puts_them_back_at_once(foreign):
    sh("cella", "systemctl start systemd-networkd")
    sh("cella", DAMAGE["P+2"])
    sh("cella", "systemctl restart systemd-networkd")
    back = within(8, lambda: is_as_recorded("cella"))
    sh("cella", "systemctl stop systemd-networkd.socket systemd-networkd")
    assert back


def test_the_playbook_puts_it_back_on_the_cell_that_is_named_and_check_mode_predicts_it(foreign, timer_off):
    before = state_of("cella")
    for cell in ("cella", "cellc"):
        sh(cell, "iptables -F PIC-FWD")
    sh("cella", DAMAGE["P+1"])
    predicted = play("restore", "--check", "--diff", cell="cella")
    assert not is_as_recorded("cella")
    done = play("restore", "--diff", cell="cella")
    assert (done.rc, done.changed) == (0, {"cella": 1, "cellb": 0, "cellc": 0}), done.text
    assert predicted.changes() == done.changes()
    assert (state_of("cella"), is_as_recorded("cellc")) == (before, False)
    assert play("restore").changed == {"cella": 0, "cellb": 0, "cellc": 1}
    assert is_as_recorded("cellc")


def test_explain_says_where_a_phone_goes(timer_off):
    assert "10.0.0.2: leaves through cell cellb" in sh("cella", "pic-cell explain phone-a1")
    assert "10.0.0.4: leaves through eth0, directly" in sh("cella", "pic-cell explain phone-a3")
    sh("cella", "ip rule flush protocol 201")
    assert "10.0.0.2: dropped: the routing would let it out through eth0, but the firewall blocks it" in sh("cella", "pic-cell explain phone-a1")
    sh("cella", "pic-cell restore")


def test_one_command_starts_a_cell_in_a_container_without_systemd():
    files = subprocess.run(["podman", "exec", PREFIX + "cella", "tar", "-C", "/", "-c", *PACKAGES], capture_output=True, check=True).stdout
    hook = "tar -x -C / && pic-cell restore >/dev/null && pic-cell check >/dev/null && wg show interfaces && ip rule"
    argv = ["run", "--rm", "-i", "--name", f"{PREFIX}hook", "--label", f"{lab.LABEL}=hook", "--network", "none", "--cap-add", "NET_ADMIN,NET_RAW"]
    image = podman("inspect", "--format", "{{.ImageName}}", PREFIX + "cella").stdout.strip()
    done = podman(*argv, "--device", "/dev/net/tun", "--security-opt", "unmask=/proc/sys", image, "sh", "-c", hook, stdin=files, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"wg0", "pic-cellb", "pic-cellc"} <= set(done.stdout.splitlines()[0].split())
    assert "4002:\tfrom 10.0.0.2 unreachable proto 201" in done.stdout


def test_a_run_afterwards_changes_nothing():
    done = run("site")
    assert done.returncode == 0, done.stdout
    assert " changed=0 " in next(line for line in done.stdout.splitlines() if line.startswith("cella "))
