# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules of iptables make of the first packet of a connection that comes in: whether it passes, and which rule says so. Pure.

What a rule asks for and nobody knows of the packet may be or not be: such a rule is counted where it would accept, and left out where it would drop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..base.networks import address_of, interface_of
from .iptables import without_comment
from .model import SavedRuleset
from .ruleset import words_of

HERE = ""  # instead of an interface: the packet is for the host itself
_DEPTH = 64  # of jumps
_ENDS = {"ACCEPT": True, "DROP": False, "REJECT": False, "QUEUE": True, "NFQUEUE": True}
_PROTOCOLS = {"tcp": ("tcp", "6"), "udp": ("udp", "17")}
_MODULES = ("comment", "conntrack", "state", "tcp", "udp", "multiport", "addrtype", "icmp", "icmp6")  # that ask for nothing but what their options say


@dataclass(frozen=True)
class Packet:
    """A packet that comes in and begins a connection, as routing and conntrack have seen it.

    leaves_by: an interface, or HERE. asked: where it was sent to before somebody changed that, address and port; None where nobody has.
    """

    source: str
    to: str
    port: int
    protocol: str
    came_by: str
    leaves_by: str = HERE
    asked: tuple[str, int] | None = None

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.source else 4


class Verdict(NamedTuple):
    """What becomes of a packet, and by which rule, as 'CHAIN words'. sure: whether it is known that this rule is about it."""

    passes: bool
    rule: str
    sure: bool = True


class _Found(NamedTuple):
    target: str
    rule: str
    words: list[str]
    sure: bool


# The first address, and the first port, of a range of them.
_TO = re.compile(r"(?:\[([0-9a-fA-F:.]+)[^\]]*\]|([0-9.]+|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*))?(?:-[0-9.]+)?(?::([0-9]{1,5}).*)?")
_HOOKS = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("mangle", ""), ("filter", ""))


def verdict(rules: SavedRuleset, packet: Packet, here: frozenset[str] = frozenset()) -> Verdict:
    """Return what becomes of a packet in all tables. here: the host's own addresses."""
    found = Verdict(True, "")
    for table, hook in _HOOKS:
        decided = _in_table(rules, table, hook or ("FORWARD" if packet.leaves_by else "INPUT"), packet, here)
        if decided and not decided.passes:
            return decided
        found = decided._replace(sure=decided.sure and found.sure) if decided else found
    return found


def redirected(rules: SavedRuleset, packet: Packet, here: frozenset[str] = frozenset()) -> Packet:
    """Return a packet as it is when its way is looked up: its destination may be another one then (DNAT)."""
    found = _walk(rules["nat"].rules, "PREROUTING", packet, here) if "nat" in rules else None
    to = found.words[found.words.index("--to-destination") + 1] if found and "--to-destination" in found.words else ""
    changed = _TO.fullmatch(to)
    if not to or changed is None:
        return packet
    return replace(packet, to=changed[1] or changed[2] or packet.to, port=int(changed[3] or packet.port), asked=(packet.to, packet.port))


def _in_table(rules: SavedRuleset, table: str, hook: str, packet: Packet, here: frozenset[str]) -> Verdict | None:
    saved = rules.get(table)
    if saved is None or hook not in saved.rules:
        return None
    found = _walk(saved.rules, hook, packet, here)
    if found is None:
        return None if saved.policies.get(hook) in (None, "-", "ACCEPT") else Verdict(False, f"the policy of {hook}, {saved.policies[hook]},")
    return Verdict(_ENDS[found.target], found.rule, found.sure)


def _walk(chains: Mapping[str, list[str]], chain: str, packet: Packet, here: frozenset[str], depth: int = 0) -> _Found | None:
    """Follow a packet through a chain and on; return the rule that decides, None where none does, or where a packet that it drops may have left before."""
    may_leave = False
    for rule in chains.get(chain, ()) if depth <= _DEPTH else ():
        words = words_of(rule)
        at = next((number for number, word in enumerate(words) if word in ("-j", "-g")), len(words))
        target = words[at + 1] if at + 1 < len(words) else ""
        matches = _matches(words[:at], packet, here) if target else False
        if matches is False:
            continue
        if target in chains:
            found = _walk(chains, target, packet, here, depth + 1)
            if found and (matches or _ENDS.get(found.target)):
                return _unless(may_leave, found if matches else found._replace(sure=False))
            if matches and words[at] == "-g":
                return None
            may_leave = may_leave or words[at] == "-g"
        elif target == "RETURN":
            if matches:
                return None
            may_leave = True
        elif (matches and (target in _ENDS or target == "DNAT")) or _ENDS.get(target):
            return _unless(may_leave, _Found(target, f"{chain} {without_comment(rule)}", words, matches is True))
    return None


def _unless(may_leave: bool, found: _Found) -> _Found | None:
    """Return what was found for a packet that may have left the chain before: no drop, and nothing for sure."""
    if not may_leave:
        return found
    return None if _ENDS.get(found.target) is False else found._replace(sure=False)


def _matches(words: list[str], packet: Packet, here: frozenset[str]) -> bool | None:
    """Tell whether a rule is about a packet; None where nobody knows."""
    sure, words = True, list(words)
    while words:
        inverted = words[0] == "!"
        option, values = words.pop(1 if inverted else 0), []
        words = words[1:] if inverted else words
        while words and not words[0].startswith(("-", "!")):
            values.append(words.pop(0))
        holds = _holds(option, values, packet, here)
        sure = sure and holds is not None
        if holds is inverted:
            return False
    return True if sure else None


def _holds(option: str, values: list[str], packet: Packet, here: frozenset[str]) -> bool | None:
    judge = _OPTIONS.get(option)
    try:
        return judge(packet, here, *values) if judge else None
    except (ValueError, TypeError):  # of another form than we know
        return None


def _is_from(address: str | None, network: str) -> bool:
    return address is not None and address_of(address) in interface_of(network).network


def _is_named(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def _is_among(port: int, listed: str) -> bool:
    ranges = (item.partition(":") for item in listed.split(","))
    return any(int(first or 0) <= port <= int(last or (65535 if colon else first)) for first, colon, last in ranges)


def _is_in_state(packet: Packet, states: str) -> bool:
    return "NEW" in states.split(",") or (packet.asked is not None and "DNAT" in states.split(","))


def _has_flags(packet: Packet, looked_at: str, set_ones: str) -> bool:
    return packet.protocol == "tcp" and {"SYN"}.intersection(looked_at.replace("ALL", "SYN").split(",")) == set(set_ones.split(",")) - {"NONE"}


def _asked(packet: Packet) -> tuple[str, int]:
    return packet.asked or (packet.to, packet.port)


_OPTIONS: Mapping[str, Callable[..., bool | None]] = {
    "-m": lambda _packet, _here, module: True if module in _MODULES else None,
    "--comment": lambda *_rest: True,
    "-i": lambda packet, _here, pattern: _is_named(packet.came_by, pattern),
    "-o": lambda packet, _here, pattern: _is_named(packet.leaves_by, pattern),
    "-s": lambda packet, _here, network: _is_from(packet.source, network),
    "-d": lambda packet, _here, network: _is_from(packet.to, network),
    "-p": lambda packet, _here, protocol: protocol in (*_PROTOCOLS[packet.protocol], "all", "0"),
    "--dport": lambda packet, _here, ports: _is_among(packet.port, ports),
    "--dports": lambda packet, _here, ports: _is_among(packet.port, ports),
    "--syn": lambda packet, _here: packet.protocol == "tcp",
    "--tcp-flags": lambda packet, _here, looked_at, set_ones: _has_flags(packet, looked_at, set_ones),
    "--ctstate": lambda packet, _here, states: _is_in_state(packet, states),
    "--state": lambda packet, _here, states: _is_in_state(packet, states),
    "--ctdir": lambda _packet, _here, direction: direction == "ORIGINAL",
    "--ctorigsrc": lambda packet, _here, network: _is_from(packet.source, network),
    "--ctorigdst": lambda packet, _here, network: _is_from(_asked(packet)[0], network),
    "--ctorigdstport": lambda packet, _here, ports: _is_among(_asked(packet)[1], ports),
    "--dst-type": lambda packet, here, kind: packet.to in here if kind == "LOCAL" else None,
    "--icmp-type": lambda *_rest: False,
    "--icmpv6-type": lambda *_rest: False,
}
