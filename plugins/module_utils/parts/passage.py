# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to pass the firewalls of others so that a cell works, and what its owner has to add where it does not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..base.networks import FAMILIES
from ..kernel.lookups import SOMEWHERE
from ..kernel.nftables import Base, Natives, Packet
from ..records.model import State

_SHOWN = 6
_OUTSIDE = "(outside)"  # the name of an interface that no rule is about
_IN, _OUT, _THROUGH = ("prerouting", "input"), ("output", "postrouting"), ("prerouting", "forward", "postrouting")


@dataclass(frozen=True)
class Need:
    """One kind of packet that has to pass. words: what it is. rules: what lets it pass, in nft's words, by hook.

    keeps_source: whether it has to keep its source address.
    """

    words: str
    hooks: tuple[str, ...]
    packet: Packet
    rules: Mapping[str, tuple[str, ...]]
    keeps_source: bool = False


def needs(state: State, uplinks: Mapping[int, str | None]) -> Iterator[Need]:
    """Yield what has to pass. uplinks: the way out by family."""
    cell = state.cell
    links = [link for _name, link in sorted(state.links.items()) if link.interface and not link.pending]
    ports = sorted({cell.listen_port, *(link.listen_port for link in links if link.listen_port)})
    listed = ", ".join(map(str, ports))
    answered = {link.listen_port for link in links if link.provided}  # a provider never dials
    family = 4 if uplinks.get(4) or not uplinks.get(6) else 6
    outside = uplinks.get(family) or _OUTSIDE
    for port in ports:
        packet = Packet(family, "udp", iif=outside, dport=port, state="established" if port in answered else "new")
        yield Need(f"UDP to port {port}", _IN, packet, dict.fromkeys(_IN, (f"udp dport {{ {listed} }} accept",)))
        packet = Packet(family, "udp", oif=outside, sport=port)
        yield Need(f"UDP from port {port}", _OUT, packet, dict.fromkeys(_OUT, (f"udp sport {{ {listed} }} accept",)))
    ours = tuple(dict.fromkeys([cell.interface, *(["pic-*"] if any(link.interface != cell.interface for link in links) else [])]))
    forward = tuple(f'{side} "{name}" accept' for name in ours for side in ("iifname", "oifname"))
    through = dict.fromkeys(("prerouting", "forward"), forward) | {"postrouting": tuple(f'oifname "{name}" accept' for name in ours)}
    for family in FAMILIES:
        own, uplink = cell.own_addresses(family), uplinks.get(family)
        if not own:
            continue
        inside = [("devices", cell.interface, own[0])] if state.peers else []
        for link in links:
            for _who, name, address in inside[:1] if link.provided and link.has_family(family) else ():
                yield from _both(f"packets between devices and {link.name}", family, (name, address), (str(link.interface), SOMEWHERE[family]), through)
            theirs = [address for address in link.address if (":" in address) == (family == 6)]
            if not theirs or link.interface == cell.interface:
                continue
            packet = Packet(family, "tcp", iif=link.interface, source=theirs[0], target=own[0], dport=cell.sync_port)
            yield Need(
                f"what {link.name} tells this cell (TCP to port {cell.sync_port} through {link.interface})",
                _IN,
                packet,
                dict.fromkeys(_IN, ('iifname "pic-*" accept',)),
            )
            for _who, name, address in inside[:1]:
                yield from _both(f"packets between devices and {link.name}", family, (name, address), (str(link.interface), theirs[0]), through, True)
            if link.exit_offered:
                inside.append((f"{link.name}'s devices", str(link.interface), theirs[0]))
        for who, name, address in inside if uplink else ():
            yield from _both(f"packets between {who} and the internet", family, (name, address), (str(uplink), SOMEWHERE[family]), through)


def _both(
    words: str, family: int, one: tuple[str, str], other: tuple[str, str], rules: Mapping[str, tuple[str, ...]], keeps_source: bool = False
) -> Iterator[Need]:
    (name, address), (other_name, other_address) = one, other
    yield Need(words, _THROUGH, Packet(family, "tcp", name, other_name, address, other_address, None, 443), rules, keeps_source)
    yield Need(words, _THROUGH, Packet(family, "tcp", other_name, name, other_address, address, 443, None, "established"), rules)


def blocked(natives: Natives, state: State, uplinks: Mapping[int, str | None]) -> list[str]:
    """Return a sentence for each chain of nftables' own that does not let pass what has to, or not as it is."""
    found: dict[Base, tuple[dict[str, bool], dict[str, None]]] = {}
    for need in needs(state, uplinks):
        for base in natives.bases:
            translates = base.kind == "nat" and base.hook == "postrouting" and need.keeps_source
            if base.hook not in need.hooks or not (translates or base.kind == "filter") or not natives.applies(base, need.packet):
                continue
            verdict, maybe = natives.verdict(base, need.packet)
            if verdict == ("nat" if translates else "drop"):
                words, rules = found.setdefault(base, ({}, {}))
                words[need.words] = words.get(need.words, False) or not maybe
                rules.update(dict.fromkeys(need.rules[base.hook]))
    return [_sentence(base, words, rules) for base, (words, rules) in found.items()]


def _listed(what: list[str]) -> str:
    return ", ".join(what) if len(what) <= _SHOWN else f"{', '.join(what[:_SHOWN])} and {len(what) - _SHOWN} more"


def _sentence(base: Base, words: Mapping[str, bool], rules: Iterable[str]) -> str:
    sure, unsure = ([what for what, certain in words.items() if certain is kind] for kind in (True, False))
    verbs = ("gives another source address to", "may give another source address to") if base.kind == "nat" else ("drops", "may drop")
    said = [f"{verb} {_listed(what)}" for verb, what in zip(verbs, (sure, unsure)) if what]
    if base.table == "firewalld":
        remedy = "Allow it with firewall-cmd (--permanent --add-port for UDP, --permanent --zone=trusted --add-interface for the interfaces), then --reload"
    else:
        lines = [f"nft 'insert rule {base.where} {rule}'" for rule in rules]
        remedy = f"Add this to it: {'; '.join(lines)}; and add the same to the file that it is loaded from"
    return f"Chain {base.name!r} of table '{base.family} {base.table}' (nftables) {' and '.join(said)}. {remedy}."
