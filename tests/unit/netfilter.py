# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packet's way through the rules of a fake host: what each table decides about it, for the matches that the fake host knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.iptables import OPTIONS

PASSED = "ACCEPT"


@dataclass(frozen=True)
class Packet:
    """One packet as conntrack and routing have seen it; without an outgoing interface it is for the host itself.

    state: of its flow; reply: whether it goes against the flow's direction. asked: where the flow's first packet went to, and which port; begun: who sent it.
    """

    source: str
    to: str
    came_by: str
    leaves_by: str = ""
    protocol: str = "tcp"
    port: int = 0
    state: str = "NEW"
    reply: bool = False
    syn: bool = True
    asked: tuple[str, int] | None = None
    begun: str | None = None
    icmp: str = ""
    from_port: int = 0
    status: frozenset[str] = field(default_factory=frozenset)

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.source else 4


def verdict(host: FakeHost, packet: Packet, *tables: str) -> str:
    """Return what becomes of a packet in some tables, or all, in the kernel's order: ACCEPT, DROP or REJECT."""
    hook = "FORWARD" if packet.leaves_by else "INPUT"
    for name in tables or ("mangle", "filter"):
        table = host.tables[host.default, packet.family].get(name)
        decided = _walk(table.rules, hook, packet) if table else None
        decided = decided or (table.policies[hook] if table else PASSED)
        if decided != PASSED:
            return decided
    return PASSED


def _walk(chains: dict[str, list[tuple[str, ...]]], chain: str, packet: Packet) -> str | None:
    for rule in chains[chain]:
        how, target = next(((option, value) for option, value in zip(rule, rule[1:]) if option in ("-j", "-g")), ("", ""))
        if not target or not _matches(rule, packet):
            continue
        if target == "RETURN":
            return None
        if target in chains:
            decided = _walk(chains, target, packet)
            if decided or how == "-g":
                return decided
        elif target in ("ACCEPT", "DROP", "REJECT"):
            return target
    return None


def _matches(rule: Sequence[str], packet: Packet) -> bool:
    words, negated = list(rule), False
    while words:
        option = words.pop(0)
        values = [words.pop(0) for _number in range(OPTIONS[option])]
        if option == "!":
            negated = True
            continue
        decides = option not in ("-m", "-j", "-g", "--comment", "--reject-with", "--clamp-mss-to-pmtu")
        if decides and _holds(option, values, packet) == negated:
            return False
        negated = False
    return True


def _holds(option: str, values: list[str], packet: Packet) -> bool:
    value = values[0] if values else ""
    asked = packet.asked or (packet.to, packet.port)
    if option in ("-i", "-o"):
        name = packet.came_by if option == "-i" else packet.leaves_by
        return name.startswith(value[:-1]) if value.endswith("+") else name == value
    if option in ("-s", "-d", "--ctorigsrc", "--ctorigdst"):
        address = {"-s": packet.source, "-d": packet.to, "--ctorigsrc": packet.begun or packet.source, "--ctorigdst": asked[0]}[option]
        return ipaddress.ip_address(address) in ipaddress.ip_network(value)
    if option == "--dport":
        first, _colon, last = value.partition(":")
        return int(first) <= packet.port <= int(last or first)
    if option == "--ctstate":
        return bool({packet.state, *packet.status} & set(value.split(",")))
    if option == "--ctdir":
        return packet.reply == (value == "REPLY")
    if option in ("--tcp-flags", "--syn"):
        return packet.protocol == "tcp" and packet.syn
    return value == {"-p": packet.protocol, "--ctorigdstport": str(asked[1]), "--sport": str(packet.from_port)}.get(option, packet.icmp)
