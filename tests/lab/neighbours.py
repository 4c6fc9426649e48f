# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighbours for the lab's cells: what other software and the owner have there, and wrappers that log every command's arguments.

On all cells: rules, policy rules, a docker-like bridge, and another VPN. On cella besides: docker itself with a published container, and an older wg0;
on cellb: ufw, and somebody's masquerade; on cellc: rules as firewalld writes them, and rules in the other iptables variant.
neighbours.py plants all of it, and keeps what was there before the collection came in .build/lab/neighbours.
"""

from __future__ import annotations

import json
import re
import sys

from lab import CELLS, PREFIX, STATE, inside, podman, run
from packets import snapshot

LOG = "/run/pic-argv.log"
PLANTED = "/run/pic-lab-planted"  # is gone after a reboot, like most of what was planted
TOOLS = "wg wg-quick ip conntrack systemctl sysctl getent " + " ".join(
    f"{tool}{variant}{job}" for tool in ("iptables", "ip6tables") for variant in ("", "-nft", "-legacy") for job in ("", "-save", "-restore")
)
READS = re.compile(
    r"(wg (show|pubkey|genkey)|ip (-[46N] |-json )*(addr|rule|route|link) show|ip6?tables(-save|-nft-save|-legacy-save)?( -V)?$"
    r"|systemctl (is-\S+|show|status|list-\S+)|sysctl -e -n|sysctl -n|getent )"
)

POLICY_RULES = "ip rule add from 192.0.2.0/24 lookup 777 pref 4500\nip -6 rule add from 2001:db8:2::/64 lookup 777 pref 3990"

# The wireguard interface wg0 of cella is there before: it is adopted, and its old peer stays.
PLANT = r"""
set -e
for tool in $TOOLS; do
    real=$(PATH=/usr/sbin:/usr/bin command -v "$tool")
    printf '#!/bin/sh\nprintf "%%s\\n" "%s $*" >>%s\nexec %s "$@"\n' "$tool" "$LOG" "$real" >"/usr/local/sbin/$tool"
    chmod +x "/usr/local/sbin/$tool"
done
for tool in iptables ip6tables; do
    [ $tool = iptables ] && net=192.0.2 suffix=.0/24 one=.9 || { net=2001:db8:2::; suffix=/64 one=9; }
    $tool-restore --noflush <<END
*filter
:DOCKER-LIKE - [0:0]
-A DOCKER-LIKE -s $net$one -j DROP
-A DOCKER-LIKE -j RETURN
-A FORWARD -j DOCKER-LIKE
-A FORWARD -s $net$suffix -m comment --comment pic-peer-tablet -j ACCEPT
-A FORWARD -s $net$one -m comment --comment "pic-cells-of-mine" -j ACCEPT
-A INPUT -s $net$one -m comment --comment "pic-cell-cellb_not_ours" -j DROP
COMMIT
*nat
-A POSTROUTING -s $net$suffix -o eth0 -m comment --comment pic-peer-tablet -j MASQUERADE
COMMIT
*mangle
-A PREROUTING -s $net$one -j MARK --set-mark 9
COMMIT
END
done
if [ "$(hostname)" = cella ]; then systemctl enable --quiet --now docker; else ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; fi
echo 1 >/proc/sys/net/ipv6/conf/docker0/disable_ipv6
ip link set docker0 up
$POLICY_RULES
ip route add 192.0.2.0/25 dev eth0 table 777
umask 077
key() { [ -e "/root/$1.key" ] || wg genkey >"/root/$1.key"; cat "/root/$1.key"; }
conf() {
    {
        printf '[Interface]\nPrivateKey = %s\nListenPort = %s\nAddress = %s\n\n' "$(key "$1")" "$2" "$3"
        printf '[Peer]\n# the tablet\nPublicKey = %s\nPresharedKey = %s\nAllowedIPs = %s\n' "$(key "$1-peer" | wg pubkey)" "$(key "$1-psk")" "$4"
    } >"/etc/wireguard/$1.conf"
    systemctl enable --quiet --now "wg-quick@$1"
}
conf wgother 51999 192.0.2.129/25 192.0.2.130/32
case $(hostname) in
cella)
    conf wg0 51820 "10.0.0.1/24, fd00:a::1/64" 10.0.0.200/32
    # its tool finds a peer again by the lines around it, and deletes from one to the other
    sed -i -e 's/^\[Peer\]$/### begin tablet ###\n[Peer] # of paper/' -e '$a ### end tablet ###' /etc/wireguard/wg0.conf
    cp /etc/wireguard/wg0.conf /root/wg0.before
    # the way of a container of docker's, as `docker run -p 8446:80 -p 8447:81` makes it
    echo 1 >/proc/sys/net/ipv6/conf/vweb/disable_ipv6
    ip link set vweb master docker0 up
    for port in 80 81; do
        iptables -t nat -A POSTROUTING -s 172.17.0.2 -d 172.17.0.2 -p tcp --dport $port -j MASQUERADE
        iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport $((port + 8366)) -j DNAT --to-destination 172.17.0.2:$port
        iptables -I DOCKER -d 172.17.0.2 ! -i docker0 -o docker0 -p tcp --dport $port -j ACCEPT
    done ;;
cellb)
    ufw allow 22/tcp
    ufw --force enable
    for tool in iptables ip6tables; do $tool -t nat -A POSTROUTING ! -o wg0 -j MASQUERADE; done ;;
cellc)
    for tool in iptables ip6tables; do
        [ $tool = iptables ] && prohibited=icmp-host-prohibited || prohibited=icmp6-adm-prohibited
        $tool-restore --noflush <<END
*filter
:INPUT_ZONES - [0:0]
:IN_public - [0:0]
:FORWARD_ZONES - [0:0]
:FWD_public - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A INPUT -j INPUT_ZONES
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -j REJECT --reject-with $prohibited
-A INPUT_ZONES -g IN_public
-A IN_public -p tcp --dport 22 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A FORWARD -j FORWARD_ZONES
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -j REJECT --reject-with $prohibited
-A FORWARD_ZONES -i eth0 -g FWD_public
COMMIT
END
        $tool -V | grep -q legacy && other=nft || other=legacy
        [ $tool = iptables ] && one=192.0.2.77 || one=2001:db8:2::77
        $tool-$other -A FORWARD -s $one -j DROP
    done ;;
esac
: >"$LOG"
: >$PLANTED
"""

# anycast routes are the kernel's own, of every network once it forwards
_OURS = re.compile(r"PIC-|proto 201|dev (pic-|wg0)|pic-cells? |^anycast ")


def foreign(texts: dict[str, str]) -> dict[str, list[str]]:
    """Returns of a snapshot what is not the collection's: rules, policies, chains, ip rules, routes, WireGuard interfaces and peers."""
    kept = {
        name: [line for line in text.splitlines() if not _OURS.search(line)]
        for name, text in texts.items()
        if not name.startswith(("/var/", "wg pic-", "wg wg0"))
    }
    # Peers that were on wg0 before are blocks of its text, the devices of the cell others.
    kept["wg wg0"] = [block for block in texts.get("wg wg0", "").split("\n\n") if "10.0.0.200/32" in block]
    return kept


def foreign_before(cell: str) -> dict[str, list[str]]:
    """Returns what was planted on a cell, as it was before the collection came."""
    return json.loads((STATE / "neighbours" / f"{cell}.json").read_text())


def forget_commands(cell: str) -> None:
    """Begins the log of commands anew."""
    inside(cell, "sh", "-c", f": >{LOG}")


def commands(cell: str) -> list[str]:
    """Returns all commands that ran on a cell since then, with their arguments."""
    return [line.rstrip() for line in inside(cell, "cat", LOG).stdout.splitlines()]


def writing_commands(cell: str) -> list[str]:
    """Returns those of them that can change something."""
    return [line for line in commands(cell) if not READS.match(line)]


def plug_in(container: str, cell: str) -> None:
    """Leads a wire from a container without network to a cell, as docker does for its own."""
    pid, cell_pid = (podman("inspect", "--format", "{{.State.Pid}}", PREFIX + host).stdout.strip() for host in (container, cell))
    inside(container, "ip", "link", "del", "eth0", check=False)  # its other end goes with a cell before, but not at once
    run(["ip", "link", "add", "vweb", "netns", cell_pid, "type", "veth", "peer", "name", "eth0", "netns", pid])
    inside(container, "ip", "-batch", "-", stdin="address add 172.17.0.2/16 dev eth0\nlink set eth0 up\nroute add default via 172.17.0.1\n")


def main() -> int:
    (STATE / "neighbours").mkdir(exist_ok=True, parents=True)
    plug_in("web", "cella")
    for cell in CELLS:
        inside(cell.name, "sh", "-c", f"TOOLS='{TOOLS}' LOG={LOG}\n{PLANT.replace('$POLICY_RULES', POLICY_RULES).replace('$PLANTED', PLANTED)}")
        (STATE / "neighbours" / f"{cell.name}.json").write_text(json.dumps(foreign(snapshot(cell.name))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
