# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a device's packets to the internet go now, and why: asked of the kernel, compared with the records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..base import destinations
from ..base.command import parsed
from ..base.errors import BadInput
from ..base.names import DIRECT, EXIT, OWN, exits_in_words, why_not_better
from ..base.networks import FORWARDING, HOME, address_of, host_networks, network_of
from ..kernel.answers import devices_of, question
from ..kernel.handshakes import SILENT, age, is_recent
from ..kernel.lookups import SOMEWHERE
from ..kernel.model import MAIN, Interface, Saved
from ..kernel.packets import HERE, Packet, verdict
from ..kernel.routing import forwards, setting
from ..parts import exits
from ..parts.part import Context
from ..parts.stages import ROUTED
from ..records.model import Link, Peer, State

_AN_EXCEPTION = ", as an exception"
TABLES = ("filter", "mangle")
_PORT = 443  # that explain asks for
_REFUSED = (0, 2)  # ip route get: 2 where the answer is "unreachable"


@dataclass
class Path:
    """The path of one address of a device: what was found on it, in the packet's order, and how it ends."""

    address: str
    leaves: bool = False
    by: str | None = None  # the interface
    verdict: str = ""
    found: list[str] = field(default_factory=list)


def explain(context: Context, name: str, to: str | None = None) -> list[Path]:
    """Follow a packet of each address of a device.

    to: where to; None for somewhere in the internet, in the address's own family. Raises BadInput for a device that is not known.
    """
    peer = device(context, name)
    families = {address: 6 if ":" in address else 4 for address in peer.addresses}
    if to is not None:
        families = {address: family for address, family in families.items() if family == (6 if ":" in to else 4)}
    return [_follow(context, peer, address, family, to or SOMEWHERE[family]) for address, family in families.items()]


def device(context: Context, name: str) -> Peer:
    """Return a device of the cell; raise BadInput where there is none of this name."""
    peers = context.stored.peers
    if name not in peers:
        raise BadInput(f"Cell {context.stored.cell.name!r} has no device {name!r}. Its devices: {', '.join(sorted(peers)) or 'none'}.")
    return peers[name]


def words(context: Context, name: str, paths: list[Path]) -> list[str]:
    """Return the explanation as lines."""
    peer = context.stored.peers[name]
    lines = [f"peer {name}: the records say {destinations.ways_in_words(peer.route_via, peer.route_except)}"]
    for path in paths:
        lines += [f"{path.address}: {path.verdict}", *(f"    {line}" for line in path.found)]
    return lines


def _follow(context: Context, peer: Peer, address: str, family: int, to: str) -> Path:
    path = Path(address)
    path.verdict = (
        _into_the_cell(context, peer, address, path) or _through_routing(context, peer, family, to, path) or _out_of_the_cell(context, peer, family, to, path)
    )
    path.leaves = not path.verdict.startswith("dropped")
    return path


def _into_the_cell(context: Context, peer: Peer, address: str, path: Path) -> str:
    """Look at the device's own tunnel; return why nothing comes out of it, empty where it does."""
    name = context.stored.cell.interface
    interface = context.observed.wireguard.get(name)
    if interface is None:
        return f"dropped: interface {name} is missing"
    device = interface.peers.get(peer.public_key or "")
    if device is None or not set(host_networks([address])) & set(device.allowed_ips):
        return f"dropped: interface {name} has no peer with this device's key and address"
    path.found.append(f"device's tunnel: {age(device.handshake, context.now)}")
    return ""


def _through_routing(context: Context, peer: Peer, family: int, to: str, path: Path) -> str:
    """Ask the kernel for the path, and show the rules and routes that make it; return why there is none."""
    if setting(context.host, FORWARDING[family]) == "0":
        return f"dropped: this host does not forward IPv{family} packets ({FORWARDING[family]} is 0)"
    inward = context.stored.cell.interface
    if family == 4 and setting(context.host, forwards(inward)) == "0":
        return f"dropped: this host does not forward IPv4 packets that come in by {inward} ({forwards(inward)} is 0)"
    seen = context.observed.routing[family]
    near: dict[int, list[str]] = {}
    for rule in seen.rules:
        if exits.is_shared(rule) and address_of(path.address) in network_of(rule.source):
            near.setdefault(rule.priority, []).append(str(rule.destination))
    own = sorted((rule for rule in seen.rules if rule.source == path.address and not exits.is_shared(rule)), key=lambda rule: rule.priority)
    own = [rule for rule in own if rule.destination is None or address_of(to) in network_of(rule.destination)]
    path.found += [f"rule {rule.priority}: {exits.table_in_words(rule)}, to {rule.destination}" for rule in own if rule.destination]
    path.found += [f"rule {priority}: main without defaults, to {', '.join(networks)}" for priority, networks in near.items()]
    path.found += [f"rule {rule.priority}: {exits.table_in_words(rule)}" for rule in own if rule.destination is None]
    tables = {rule.table for rule in own} - {None, MAIN}
    path.found += [f"route: {route.words()}" for route in seen.routes if route.table in tables]
    argv = ["ip", f"-{family}", "-N", "-json", *question(to, path.address, context.stored.cell.interface)]
    result = context.host.run(argv, ok=_REFUSED)
    answer = (parsed(argv, result.out) or [{}])[0]
    path.by = next(iter(devices_of(answer)), None) if result.rc == 0 else None
    if path.by is not None:
        table = f" by table {answer['table']}" if str(answer.get("table", MAIN)) != str(MAIN) else ""
        path.found.append(f"the kernel sends {to} through {path.by}{table}")
        return ""
    path.found.append(f"the kernel has no route to {to}: {result.err.strip() or 'unreachable'}")
    return f"dropped: {_why_no_route(context, peer, family, to)}"


def _why_no_route(context: Context, peer: Peer, family: int, to: str) -> str:
    via = context.stored.way_of(peer, to)
    if via is None:
        return "the cell itself has no route to the internet"
    if context.stored.exit_is_effective(via) or destinations.way_of(peer.route_except, to):
        return _why_closed(context, via, family)
    return "; ".join(_why_closed(context, name, family) for name in peer.route_via if name != DIRECT)


def _why_closed(context: Context, via: str, family: int) -> str:
    link = context.stored.links.get(via)
    if link is not None and context.stored.exit_is_effective(via) and not (link.has_family(family) and context.stored.cell.has_family(family)):
        return f"{link.kind} {via} cannot be an exit for IPv{family}"
    return why_unusable(context, via) or "a rule or a route is missing; 'pic-cell restore' puts it back"


def why_unusable(context: Context, via: str) -> str:
    """Say what keeps a cell from being an exit by the records, or by the interface of its link; empty where nothing does."""
    link = context.stored.links.get(via)
    if link is None:
        return f"cell {via} is not linked"
    if link.pending:
        return f"the link with {via} is pending; its key or its networks are not known yet"
    if not link.offers_exit:
        return f"cell {via} offers no exit now"
    interface = context.observed.wireguard.get(str(link.interface))
    if interface is None or not interface.up:
        return f"the link's interface {link.interface} is {'down' if interface else 'missing'}; 'pic-cell restore' brings it back"
    return ""


def _out_of_the_cell(context: Context, peer: Peer, family: int, to: str, path: Path) -> str:
    """Look at the firewall and, on a link, at its tunnel; return how the path ends."""
    excepted = destinations.network_of_exception(peer.route_except, to)
    blocked = _blocks(context, peer, family, path, excepted if context.stored.way_of(peer, to) else None)
    why = context.observed.why_silent(path.by or "")
    if why:
        return f"dropped: interface {path.by} {why}"
    refused = _refused(context, family, path, to)
    link = next((link for link in context.stored.links.values() if link.interface == path.by and path.by != context.stored.cell.interface), None)
    near = path.by == context.stored.cell.interface or _holds(HOME[family], to)
    if refused and (link or near):
        return f"dropped: {refused}"
    if link is not None:
        return _through_the_tunnel(context, peer, link, to, path)
    others = "" if blocked else ", if other software's rules let it"
    if near:
        return f"stays in this cell's own networks, through {path.by}{others}"
    way = context.stored.way_of(peer, to)
    if way is None and excepted and blocked and not all(layer(context, family, table, path.address, excepted)[1] for table in TABLES):
        return "dropped: the firewall lacks this exception; 'pic-cell restore' puts it back"
    if way is None and refused:
        return f"dropped: {refused}"
    if way is None:
        return f"leaves through {path.by}, directly{_AN_EXCEPTION if excepted else ''}{others}"
    if blocked and any(rule.source == path.address and rule.table not in (None, MAIN) for rule in context.observed.routing[family].rules):
        return f"dropped: a policy rule or route of this host sends {to} out through {path.by}, past the exit, but the firewall blocks it. Nothing is missing"
    if blocked:
        return f"dropped: the routing would let it out through {path.by}, but the firewall blocks it; 'pic-cell restore' repairs the routing"
    meant = exits_in_words([way] if excepted else peer.route_via)
    return f"leaves through {path.by}, DIRECTLY, although it is routed {meant}: rules are missing; 'pic-cell restore' puts them back"


def _refused(context: Context, family: int, path: Path, to: str) -> str:
    """Say which rule drops the packet, of ours or of others, where it is the first of a connection to a web server; empty where none does."""
    here = context.observed.addresses()
    packet = Packet(path.address, to, _PORT, "tcp", context.stored.cell.interface, HERE if to in here else str(path.by))
    found = verdict(context.observed.iptables[family], packet, here)
    return "" if found.passes else f"{found.rule} drops it"


def _through_the_tunnel(context: Context, peer: Peer, link: Link, to: str, path: Path) -> str:
    other = context.observed.wireguard.get(str(link.interface), Interface("")).peers.get(str(link.public_key))
    if other is None:
        return f"dropped: interface {link.interface} has no peer for {link.kind} {link.name}"
    path.found.append(f"{link.kind} {link.name}: {'offers an exit' if link.offers_exit else 'offers no exit'}; {age(other.handshake, context.now)}")
    if not _holds(other.allowed_ips, to):
        return f"dropped: WireGuard's allowed IPs for {link.kind} {link.name} do not contain this address; 'pic-cell restore' repairs that"
    if not is_recent(other.handshake, context.now, SILENT):
        return f"dropped: the tunnel to {link.kind} {link.name} is silent; that {'server' if link.provided else 'cell'} is off, or cannot be reached"
    if _holds(link.networks, to):
        return f"goes to cell {link.name}, which lets through only what it shares"
    meant = context.stored.way_of(peer, to)
    if link.name != meant:
        return f"leaves through {link.kind} {link.name}, although the records say {meant or DIRECT}"
    if destinations.way_of(peer.route_except, to):
        return f"leaves through {link.kind} {link.name}{_AN_EXCEPTION}"
    down = {name: found.words(name) for name, found in context.stored.down.items() if context.stored.exit_is_effective(name)}
    if link.name in down:
        return f"leaves through {link.kind} {link.name}, though {down[link.name]}"
    return f"leaves through {link.kind} {link.name}{why_not_better(peer.route_via, link.name, down)}"


def layer(context: Context, family: int, table: str, address: str, excepted: str | None = None) -> tuple[bool, bool]:
    """Tell whether the cell's chains are there in a table, and whether they decide at the uplink about a device's address.

    excepted: about its packets to this exception; about all where it is left out.
    """
    saved = context.observed.iptables[family].get(table, Saved()).rules
    rules = {chain: " ".join(lines) for chain, lines in saved.items()}
    there = "PIC-FWD" in rules.get("FORWARD", "") and all(rules.get(chain) for chain in ("PIC-FWD", "PIC-PATH"))
    deciding = [line for chain, lines in saved.items() if chain == ROUTED or chain.startswith("PIC-R-") for line in lines]
    deciding = [line for line in deciding if (f" -d {excepted} " in line if excepted else " -d " not in line)]
    return there, context.stored.peers_lost or any(f"-s {network} " in line for network in host_networks([address]) for line in deciding)


def who_answers(state: State, peer: Peer, family: int) -> str:
    """Say who answers what a routed device asks by DNS near it; the rest leaves by the exit as all else does."""
    answerer, follows, via = state.answerer(peer, family), state.answered_by(peer) == [EXIT], state.exit_of(peer)
    if answerer == OWN:
        return f"what it asks a resolver of this cell leaves by this cell's own connection{f', since {via} has named no resolver' if follows else ''}"
    if answerer is None:
        return f"what it asks private addresses is dropped, since {f'cell {via} offers no exit now' if follows else 'no resolver is stated'}"
    return f"what it asks private addresses is answered by {answerer}, {f'the resolver of {via}' if follows else 'through its exit'}"


def _holds(networks: Iterable[object], address: str) -> bool:
    return any(address_of(address) in network_of(str(network)) for network in networks)


def _blocks(context: Context, peer: Peer, family: int, path: Path, excepted: str | None) -> bool:
    """Say which of our chains the packet meets; tell whether they decide about it. Either table's are enough. excepted: the exception that it is one of."""
    kept = {}
    routed = context.stored.peers_lost or path.address in context.stored.routed_addresses(family)
    missing = []
    for table in TABLES:
        saved = context.observed.iptables[family].get(table, Saved())
        if saved.hidden:
            path.found.append(f"firewall: {saved.hidden}")
        there, held = layer(context, family, table, path.address)
        if excepted and not routed:
            held = layer(context, family, table, path.address, excepted)[1]
        kept[table] = there and (held or not (routed or excepted))
        missing += [] if there else [table]
    where = f" in {missing[0]}" if len(missing) == 1 else ""
    path.found.append(f"firewall: the cell's chains{f', or the jump to them, are missing{where}' if missing else ' are there'}")
    if routed:
        path.found.append(f"firewall: the device is {'' if any(kept.values()) else 'not '}blocked from the uplink")
        path.found.append(f"DNS: {who_answers(context.stored, peer, family)}")
    return any(kept.values())
