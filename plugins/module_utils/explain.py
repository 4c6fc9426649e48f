# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way a device's packets to the internet go now, and why: asked of the kernel, held against the records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .command import parsed
from .errors import BadInput
from .firewall import ROUTED
from .iptables import Saved
from .lookups import SOMEWHERE
from .networks import HOME, address_of, host_networks, network_of
from .reconcile import Cell
from .records import DIRECT, Link, Peer
from .routing import FORWARDING, MAIN, setting
from .wireguard import SILENT, Interface

_REFUSED = (0, 2)  # ip route get: 2 where the answer is "unreachable"


@dataclass
class Way:
    """The way of one address of a device: what was found on it, in the packet's order, and how it ends."""

    address: str
    leaves: bool = False
    by: str | None = None  # the interface
    verdict: str = ""
    found: list[str] = field(default_factory=list)


def explain(cell: Cell, name: str, to: str | None = None) -> list[Way]:
    """Follow a packet of each address of a device.

    to: where to; None for somewhere in the internet, in the address's own family. Raises BadInput for a device that is not known.
    """
    peers = cell.stored.peers
    if name not in peers:
        raise BadInput(f"Cell {cell.stored.cell.name!r} knows no device {name!r}. It knows {', '.join(sorted(peers)) or 'none'}.")
    families = {address: 6 if ":" in address else 4 for address in peers[name].addresses}
    if to is not None:
        families = {address: family for address, family in families.items() if family == (6 if ":" in to else 4)}
    return [_follow(cell, peers[name], address, family, to or SOMEWHERE[family]) for address, family in families.items()]


def words(cell: Cell, name: str, ways: list[Way]) -> list[str]:
    """Return the explanation as lines."""
    via = cell.stored.peers[name].route_via
    lines = [f"peer {name}: the records say {'direct' if via is None else f'via {via}'}"]
    for way in ways:
        lines += [f"{way.address}: {way.verdict}", *(f"    {line}" for line in way.found)]
    return lines


def _follow(cell: Cell, peer: Peer, address: str, family: int, to: str) -> Way:
    way = Way(address)
    way.verdict = _into_the_cell(cell, peer, address, way) or _through_routing(cell, peer, family, to, way) or _out_of_the_cell(cell, peer, family, to, way)
    way.leaves = not way.verdict.startswith("dropped")
    return way


def _into_the_cell(cell: Cell, peer: Peer, address: str, way: Way) -> str:
    """Look at the device's own tunnel; return why nothing comes out of it, empty where it does."""
    name = cell.stored.cell.interface
    interface = cell.observed.wireguard.get(name)
    if interface is None:
        return f"dropped: interface {name} is not there"
    device = interface.peers.get(peer.public_key or "")
    if device is None or not set(host_networks([address])) & set(device.allowed_ips):
        return f"dropped: {name} does not know the device with this address"
    way.found.append(f"device's tunnel: {_age(cell, device.handshake)}")
    return ""


def _through_routing(cell: Cell, peer: Peer, family: int, to: str, way: Way) -> str:
    """Ask the kernel for the way, and show the rules and routes that make it; return why there is none."""
    if setting(cell.host, FORWARDING[family]) == "0":
        return f"dropped: this host does not forward IPv{family} packets ({FORWARDING[family]} is 0)"
    seen = cell.observed.routing[family]
    for rule in sorted((rule for rule in seen.rules if rule.source == way.address), key=lambda rule: rule.priority):
        way.found.append(
            f"rule {rule.priority}: {'unreachable' if rule.table is None else 'main without defaults' if rule.table == MAIN else f'table {rule.table}'}"
        )
    tables = {rule.table for rule in seen.rules if rule.source == way.address} - {None, MAIN}
    way.found += [f"route: {route.words()}" for route in seen.routes if route.table in tables]
    argv = ["ip", f"-{family}", "-N", "-json", "route", "get", to, "from", way.address, "iif", cell.stored.cell.interface]
    result = cell.host.run(argv, ok=_REFUSED)
    answer = (parsed(argv, result.out) or [{}])[0]
    way.by = answer.get("dev") if result.rc == 0 and answer.get("type") not in ("unreachable", "7") else None
    if way.by is not None:
        table = f" by table {answer['table']}" if str(answer.get("table", MAIN)) != str(MAIN) else ""
        way.found.append(f"the kernel sends {to} through {way.by}{table}")
        return ""
    way.found.append(f"the kernel has no way to {to}: {result.err.strip() or 'unreachable'}")
    return f"dropped: {_why_no_way(cell, peer, family)}"


def _why_no_way(cell: Cell, peer: Peer, family: int) -> str:
    state, via = cell.stored, peer.route_via
    if via is None:
        return "the cell itself has no way to the internet"
    link = state.links.get(via)
    if link is None:
        return f"cell {via} is not linked"
    if link.pending:
        return f"the link with {via} is pending; its key or its networks are not known yet"
    if not link.remote_exit_offered:
        return f"cell {via} offers no exit now"
    if not link.has_family(family) or not state.cell.has_family(family):
        return f"cell {via} is no exit for IPv{family}"
    interface = cell.observed.wireguard.get(str(link.interface))
    if interface is None or not interface.up:
        return f"the link's interface {link.interface} is {'down' if interface else 'not there'}; 'pic-cell restore' brings it back"
    return "a rule or a route is missing; 'pic-cell restore' puts it back"


def _out_of_the_cell(cell: Cell, peer: Peer, family: int, to: str, way: Way) -> str:
    """Look at the firewall and, on a link, at its tunnel; return how the way ends."""
    walls = _walls(cell, family, way)
    link = next((link for link in cell.stored.links.values() if link.interface == way.by and way.by != cell.stored.cell.interface), None)
    if link is not None:
        return _through_the_tunnel(cell, peer, link, to, way)
    others = "" if walls else ", if the rules of others let it"
    if way.by == cell.stored.cell.interface or _holds(HOME[family], to):
        return f"stays in this cell's own networks, by {way.by}{others}"
    if peer.route_via is None:
        return f"leaves by {way.by}, directly{others}"
    if walls and any(rule.source == way.address and rule.table not in (None, MAIN) for rule in cell.observed.routing[family].rules):
        return f"dropped: a route of this host sends {to} out by {way.by}, past the exit; the firewall does not let it. Nothing of pic.cells is missing"
    if walls:
        return f"dropped: the routing would let it out by {way.by}, the firewall does not; 'pic-cell restore' mends the routing"
    return f"leaves by {way.by}, DIRECTLY, although it is routed via {peer.route_via}: rules are missing; 'pic-cell restore' puts them back"


def _through_the_tunnel(cell: Cell, peer: Peer, link: Link, to: str, way: Way) -> str:
    other = cell.observed.wireguard.get(str(link.interface), Interface("")).peers.get(str(link.public_key))
    if other is None:
        return f"dropped: {link.interface} does not know cell {link.name}"
    way.found.append(f"cell {link.name}: {'offers an exit' if link.remote_exit_offered else 'offers no exit'}; {_age(cell, other.handshake)}")
    if not _holds(other.allowed_ips, to):
        return f"dropped: WireGuard does not send cell {link.name} what goes there; 'pic-cell restore' mends it"
    if not other.handshake or cell.now - other.handshake > SILENT:
        return f"dropped: the tunnel to cell {link.name} is silent; it is off, or cannot be reached"
    if _holds(link.networks, to):
        return f"goes to cell {link.name}, which decides what it shares"
    return f"leaves by cell {link.name}{'' if link.name == peer.route_via else f', although the records say {peer.route_via or DIRECT}'}"


def _holds(networks: Iterable[object], address: str) -> bool:
    return any(address_of(address) in network_of(str(network)) for network in networks)


def _walls(cell: Cell, family: int, way: Way) -> bool:
    """Say which of our chains the packet meets; tell whether they decide about it. Either table's are enough."""
    kept = dict.fromkeys(("filter", "mangle"), False)
    routed = cell.stored.peers_lost or way.address in cell.stored.routed_addresses(family)
    missing = []
    for table in kept:
        saved = cell.observed.iptables[family].get(table, Saved())
        rules = {chain: " ".join(lines) for chain, lines in saved.rules.items()}
        if saved.hidden:
            way.found.append(f"firewall: {saved.hidden}")
        there = "PIC-FWD" in rules.get("FORWARD", "") and all(rules.get(chain) for chain in ("PIC-FWD", "PIC-PATH"))
        known = " ".join(text for chain, text in rules.items() if chain == ROUTED or chain.startswith("PIC-R-"))
        held = cell.stored.peers_lost or any(f"-s {network} " in known for network in host_networks([way.address]))
        kept[table] = there and (held or not routed)
        missing += [] if there else [table]
    where = f" in {missing[0]}" if len(missing) == 1 else ""
    way.found.append(f"firewall: our chains{f', or the jump to them, are missing{where}' if missing else ' are there'}")
    if routed:
        way.found.append(f"firewall: the device is {'kept' if any(kept.values()) else 'not kept'} from the uplink")
    return any(kept.values())


def _age(cell: Cell, handshake: int) -> str:
    return f"last handshake {max(0, int(cell.now - handshake))} s ago" if handshake else "no handshake yet"
