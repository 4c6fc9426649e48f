# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewalls of nftables' own: what becomes of a packet in each of their chains. Pure.

A packet has to pass every base chain of its hook, whatever table accepts it elsewhere. What a rule asks for and nobody knows of
the packet may be or not be: such a rule is counted where it would accept, and left out where it would drop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.networks import address_of, interface_of

# Chains of these tables with such names are those of iptables-nft, whose rules are read by iptables-save.
_OF_IPTABLES = ({"ip", "ip6"}, {"filter", "nat", "mangle", "raw", "security"}, {"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"})
_FAMILIES = {4: {"inet", "ip"}, 6: {"inet", "ip6"}}
_HARMLESS = {"counter", "log", "mangle", "notrack", "comment", "set", "ct helper", "flow"}  # they decide nothing
_NAT = {"masquerade", "snat"}
_DECISIONS = {"accept", "drop", "nat"}
_DEPTH = 16  # of jumps, as the kernel has it (NFT_JUMP_STACK_SIZE)


class _Unknown:
    """What nobody knows of a packet."""


_UNKNOWN, _NONE = _Unknown(), object()  # _NONE: what such a packet does not have


@dataclass(frozen=True)
class Packet:
    """A packet as far as it is known; what is None can be anything. state: as conntrack has it."""

    family: int = 4
    protocol: str = "udp"
    iif: str | None = None
    oif: str | None = None
    source: str | None = None
    target: str | None = None
    sport: int | None = None
    dport: int | None = None
    state: str = "new"


@dataclass(frozen=True)
class Base:
    """A base chain of nftables' own."""

    family: str
    table: str
    name: str
    hook: str
    kind: str
    policy: str

    @property
    def where(self) -> str:
        """Return the chain as nft takes it."""
        return f"{self.family} {self.table} {self.name}"


@dataclass
class Natives:
    """All that nftables has of its own: base chains; rules by family, table and chain; elements of sets and maps by family, table and name."""

    bases: list[Base] = field(default_factory=list)
    rules: dict[tuple[str, str, str], list[list[dict[str, Any]]]] = field(default_factory=dict)
    sets: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def verdict(self, base: Base, packet: Packet) -> tuple[str, bool]:
        """Return what becomes of a packet in a base chain ("accept", "drop", "nat"), and whether a rule that nobody can judge may accept it before."""
        found, maybe = self._walk(base, base.name, packet, 0)
        return (base.policy if found == "end" else found), maybe

    def applies(self, base: Base, packet: Packet) -> bool:
        """Tell whether packets of this family meet a chain."""
        return base.family in _FAMILIES[packet.family]

    def _walk(self, base: Base, chain: str, packet: Packet, depth: int) -> tuple[str, bool]:
        """Follow a packet through a chain and on. Returns the decision, or "end", and whether a rule that nobody can judge may accept before."""
        maybe = False
        for expressions in self.rules.get((base.family, base.table, chain), ()) if depth <= _DEPTH else ():
            for verb, target, sure in self._effects(base, expressions, packet):
                found = verb
                if verb in ("jump", "goto"):
                    found, inner = self._walk(base, target, packet, depth + 1)
                    maybe = maybe or inner
                if not sure:
                    maybe = maybe or found == "accept"
                elif found in _DECISIONS:
                    return found, maybe
                elif verb in ("return", "goto"):
                    return "end", maybe
        return "end", maybe

    def _effects(self, base: Base, expressions: Iterable[dict[str, Any]], packet: Packet) -> list[tuple[str, str, bool]]:
        """Return what a rule does with a packet: verdict, the chain that it jumps to, and whether that is sure; nothing where it does not match."""
        sure, effects = True, []
        for expression in expressions:
            ((verb, what),) = expression.items()
            if verb == "match":
                matches = self._matches(base, what, packet)
                if matches is False:
                    break
                sure = sure and matches is True
            elif verb in ("accept", "drop", "return"):
                effects.append((verb, "", sure))
            elif verb == "reject":
                effects.append(("drop", "", sure))
            elif verb == "queue":
                effects.append(("accept", "", False))
            elif verb in _NAT:
                effects.append(("nat", "", sure))
            elif verb in ("jump", "goto"):
                effects.append((verb, str(what["target"]), sure))
            elif verb == "vmap":
                effects += self._mapped(base, what, packet, sure)
            elif verb not in _HARMLESS:
                sure = False
        return effects

    def _mapped(self, base: Base, what: dict[str, Any], packet: Packet, sure: bool) -> list[tuple[str, str, bool]]:
        effects = []
        for key, verdict in self._elements(base, what["data"]):
            matches = self._equals(base, _of(what["key"], packet), key)
            if matches is not False:
                effects += [(verb, target, sure and certain and matches is True) for verb, target, certain in self._effects(base, [verdict], packet)]
        return effects

    def _matches(self, base: Base, match: Mapping[str, Any], packet: Packet) -> bool | None:
        value, op = _of(match["left"], packet), match["op"]
        if op not in ("==", "!=", "in"):
            return False if value is _NONE else None
        matches = self._equals(base, value, match["right"])
        return matches if matches is None or value is _NONE or op != "!=" else not matches

    def _equals(self, base: Base, value: Any, right: Any) -> bool | None:
        """Tell whether what a packet has is what a rule asks for, or one element of it; None where nobody knows."""
        if value is _NONE:
            return False
        if isinstance(right, str) and right.startswith("@"):
            right = {"set": self._elements(base, right)} if (base.family, base.table, right[1:]) in self.sets else None
        if isinstance(right, dict) and "elem" in right:
            right = right["elem"]["val"]
        if isinstance(right, dict) and "set" in right:
            right = right["set"]
        if isinstance(right, list):
            answers = [self._equals(base, value, one) for one in right]
            return True if True in answers else None if None in answers else False
        if value is _UNKNOWN or right is None:
            return None
        return _is(value, right)

    def _elements(self, base: Base, data: Any) -> list[Any]:
        if isinstance(data, str):
            return list(self.sets.get((base.family, base.table, data.lstrip("@")), ()))
        return list(data.get("set", ()))


def parse(data: Mapping[str, Any]) -> Natives:
    """Read what 'nft -j list ruleset' or 'nft -j list chains' printed, without what is iptables'."""
    found = Natives()
    dormant = set()
    for item in data["nftables"]:
        ((kind, what),) = item.items()
        if kind == "table" and {"d", "dormant"}.intersection([what["flags"]] if isinstance(what.get("flags"), str) else what.get("flags", ())):
            dormant.add((what["family"], what["name"]))
        elif kind == "chain" and "hook" in what and not _is_of_iptables(what):
            base = Base(what["family"], what["table"], what["name"], what["hook"], what.get("type", "filter"), what.get("policy", "accept"))
            found.bases += [base] if (base.family, base.table) not in dormant else []
        elif kind == "rule":
            found.rules.setdefault((what["family"], what["table"], what["chain"]), []).append(what["expr"])
        elif kind in ("set", "map"):
            found.sets[what["family"], what["table"], what["name"]] = what.get("elem", [])
    return found


def _is_of_iptables(chain: Mapping[str, Any]) -> bool:
    return all(name in names for name, names in zip((chain["family"], chain["table"], chain["name"]), _OF_IPTABLES))


def _of(left: Any, packet: Packet) -> Any:
    """Return what a packet has where a rule looks; _UNKNOWN where nobody knows, _NONE where such a packet has nothing there."""
    ((kind, what),) = left.items() if isinstance(left, dict) and len(left) == 1 else (("", {}),)
    value: Any = _UNKNOWN
    if kind == "meta":
        value = {
            "iif": packet.iif,
            "iifname": packet.iif,
            "oif": packet.oif,
            "oifname": packet.oif,
            "l4proto": packet.protocol,
            "nfproto": f"ipv{packet.family}",
            "protocol": "ip6" if packet.family == 6 else "ip",
        }.get(what["key"])
    elif kind == "ct":
        # A packet of ours is no other's that was redirected here.
        value = {"state": packet.state, "status": _NONE}.get(what["key"])
    elif kind == "payload" and "protocol" in what:
        protocol, part = what["protocol"], what["field"]
        if protocol in ("ip", "ip6"):
            known = {"saddr": packet.source, "daddr": packet.target, "protocol": packet.protocol, "nexthdr": packet.protocol}
            value = known.get(part) if protocol == ("ip6" if packet.family == 6 else "ip") else _NONE
        elif protocol in ("th", packet.protocol):
            value = {"sport": packet.sport, "dport": packet.dport}.get(part)
        elif protocol in ("tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "igmp", "ah", "esp", "comp", "arp"):
            value = _NONE
    return _UNKNOWN if value is None else value


def _is(value: Any, right: Any) -> bool | None:
    """Tell whether a value is one element of what a rule asks for."""
    if isinstance(right, dict):
        if "prefix" in right:
            return address_of(value) in interface_of(f"{right['prefix']['addr']}/{right['prefix']['len']}").network
        if "range" in right:
            low, high = right["range"]
            if isinstance(value, int):
                return int(low) <= value <= int(high)
            return int(address_of(low)) <= int(address_of(value)) <= int(address_of(high))
        return None
    if isinstance(right, str) and right.endswith("*"):
        return str(value).startswith(right[:-1])
    return str(value) == str(right)
