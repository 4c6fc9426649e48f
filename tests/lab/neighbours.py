# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Neighbours for the lab's cells: what other software and the owner have there, and wrappers that log every command's arguments.

neighbours.py plants all of it on all cells, and keeps what was there before the collection came in .build/lab/neighbours.
"""

from __future__ import annotations

import json
import re
import sys

from lab import CELLS, STATE, inside
from packets import snapshot

LOG = "/run/pic-argv.log"
TOOLS = "wg wg-quick ip conntrack systemctl sysctl getent iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore"
READS = re.compile(
    r"(wg (show|pubkey|genkey)|ip (-[46N] |-json )*(addr|rule|route|link) show|ip6?tables(-save|-nft-save|-legacy-save)?( -V)?$"
    r"|systemctl (is-\S+|show|status|list-\S+)|sysctl -e -n|sysctl -n|getent )"
)

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
ip link add docker0 type bridge
echo 1 >/proc/sys/net/ipv6/conf/docker0/disable_ipv6
ip address add 172.17.0.1/16 dev docker0
ip link set docker0 up
ip rule add from 192.0.2.0/24 lookup 777 pref 4500
ip route add 192.0.2.0/25 dev eth0 table 777
ip -6 rule add from 2001:db8:2::/64 lookup 777 pref 3990
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
if [ "$(hostname)" = cella ]; then conf wg0 51820 "10.0.0.1/24, fd00:a::1/64" 10.0.0.200/32; fi
: >"$LOG"
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


def main() -> int:
    (STATE / "neighbours").mkdir(exist_ok=True, parents=True)
    for cell in CELLS:
        inside(cell.name, "sh", "-c", f"TOOLS='{TOOLS}' LOG={LOG}\n{PLANT}")
        (STATE / "neighbours" / f"{cell.name}.json").write_text(json.dumps(foreign(snapshot(cell.name))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
