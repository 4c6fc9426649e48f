# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to policy routing: the rules of each routed peer, the rules that all share, and the table of each exit. Pure.

E    from <peer> to <exception> lookup <main, or the table of a cell>             the longest prefix first
E+1  from <peer> to <exception> unreachable                                      holds even if that has no route
S    from <own network> to <near network> lookup main suppress_prefixlength 7    own cell, LAN, docker, linked cells
P+1  from <peer> lookup <table of the exit cell>                                 default by the link, then unreachable
P+2  from <peer> unreachable                                                     holds even if the table is flushed

P is the same for all peers where they are few (placement.py).

S names its destinations, or a public route of the host would come before the exit. It selects by source: the lookup of a strict
rp_filter has no interface. Until it came, each peer had a rule P instead, without a destination.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional, TypeVar

from ..base import destinations
from ..base.errors import BadInput
from ..base.names import DIRECT
from ..base.networks import FAMILIES, HOME, WIDEST_DEFAULT_LIKE, host_networks, network_of, of_family, outside
from ..kernel.model import MAIN, PolicyRule, Route, Routing, RoutingChange, Skip, foreign_priorities
from ..kernel.plan import Plan
from ..kernel.routing import (
    EXCEPTED_PRIORITIES,
    RESERVED_TABLES,
    SHARED_PRIORITIES,
    TABLES,
    UNREACHABLE_DEFAULT_METRIC,
    UNREACHABLE_NETWORK_METRIC,
    batch,
)
from ..records.model import Cell, Link, Peer, State
from . import probes
from .placement import Placement, place

_LONGEST = 128  # bits of a prefix

Item = TypeVar("Item", PolicyRule, Skip, Route)


@dataclass
class Move:
    """The ordered changes of one family's policy routing."""

    prepare: list[RoutingChange] = field(default_factory=list)  # closed tables, S and P+2; P+1 of an old exit goes
    enter: list[RoutingChange] = field(default_factory=list)  # default routes of the tables, P+1 of the new exit
    leave: list[RoutingChange] = field(default_factory=list)  # P+2 of peers that go direct, S and tables out of use
    flows: list[str] = field(default_factory=list)  # addresses of peers whose flows have to end in between
    excepted: list[tuple[str, str]] = field(default_factory=list)  # such addresses, of whose flows only those to a network have to end
    moved: dict[str, bool] = field(default_factory=dict)  # addresses of peers whose way changes, and whether the own uplink was closed for each
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.prepare or self.enter or self.leave)


def allocate_tables(state: State, seen: Iterable[Routing]) -> None:
    """Give each exit that has a way of its own a table, clear of what others use."""
    foreign = RESERVED_TABLES.union(*(routing.foreign_tables for routing in seen))
    taken = foreign.union(link.exit_table for link in state.links.values() if link.exit_table)
    free = (table for table in TABLES if table not in taken)
    for name in state.asked_exits:
        link = state.links.get(name)
        if link is None or (link.exit_table and link.exit_table not in foreign):
            continue
        link.exit_table = next(free, None)
        if link.exit_table is None:
            raise BadInput(f"No routing table from {TABLES.start} to {TABLES.stop - 1} is free for the exit cell {name!r}. Free one.")


Selected = tuple[str, Optional[str]]  # what a peer's rules select: its address, and the network of an exception


def placed(state: State, family: int, seen: Mapping[int, Routing]) -> Placement:
    """Return P of each routed peer's address. Raises BadInput."""
    # A rule of a peer that only the kernel knows may stand anywhere, so none is skipped then.
    return place(family, state.routed_addresses(family), seen, tree=not state.peers_lost)


def wanted_rules(state: State, family: int, priorities: Mapping[str, int]) -> dict[Selected, list[PolicyRule]]:
    """Return P+1 and P+2 of each address of each routed peer, and E and E+1 of each exception; P+1 and E are missing where the cell is not linked."""
    rules: dict[Selected, list[PolicyRule]] = {}
    for peer in state.peers.values():
        via = state.exit_of(peer)
        for address in of_family(family, peer.addresses):
            if via is not None:
                rules[address, None] = [closing_rule(family, priorities[address], address), *_way(state, via, family, priorities[address] + 1, address)]
            for closing in excepted_rules(peer, address):
                network = str(closing.destination)
                way = _way(state, peer.route_except[network], family, closing.priority - 1, address, network)
                rules[address, network] = [closing, *way]
    return rules


def _way(state: State, via: str, family: int, priority: int, address: str, network: str | None = None) -> list[PolicyRule]:
    """Return the rule that leads to an exit, or with an exception perhaps to main; none where the exit's cell is not linked."""
    link = state.links.get(via)
    table = MAIN if via == DIRECT else link.exit_table if link else None
    return [PolicyRule(family, priority, address, table, destination=network)] if table else []


def closing_rule(family: int, priority: int, address: str) -> PolicyRule:
    """Return P+2 of a routed peer's address: with no more than this it reaches no internet."""
    return PolicyRule(family, priority + 2, address)


def excepted_rules(peer: Peer, address: str) -> list[PolicyRule]:
    """Return E+1 of each exception of a peer, for one of its addresses: with no more than this it does not reach that network."""
    family = 6 if ":" in address else 4
    return [
        PolicyRule(family, EXCEPTED_PRIORITIES[2 * (_LONGEST - network_of(network).prefixlen) + 1], address, destination=network)
        for network, _via in destinations.longest_first(peer.route_except, family)
    ]


def is_shared(rule: PolicyRule) -> bool:
    """Tell whether a rule of ours is S."""
    return rule.priority in SHARED_PRIORITIES


def shared_rules(state: State, family: int, routings: Iterable[Routing]) -> list[PolicyRule]:
    """Return S: what routed peers reach without their exit, in main and by no route as wide as a default one. None where no peer is routed.

    Raises BadInput where others have all priorities.
    """
    routed = state.routed_addresses(family)
    if not routed:
        return []
    priority = shared_priority(routings)
    own = state.cell.own_networks(family)
    networks = [*own, *(network for link in state.links.values() if not link.pending for network in of_family(family, link.networks))]
    networks += [route.destination for route in device_routes(state) if route.family == family]
    near = [*map(str, HOME[family]), *outside(networks, map(str, HOME[family]))]
    return [PolicyRule(family, priority, source, MAIN, WIDEST_DEFAULT_LIKE[family], network) for source in [*own, *outside(routed, own)] for network in near]


def shared_priority(routings: Iterable[Routing]) -> int:
    """Return the priority that our shared rules have, unless somebody else has come to stand there, or else the highest free one. Raises BadInput."""
    routings = tuple(routings)
    foreign = foreign_priorities(routings)
    current = {rule.priority for routing in routings for rule in routing.rules if is_shared(rule)}
    for priority in (*sorted(current), *reversed(SHARED_PRIORITIES)):
        if priority not in foreign:
            return priority
    raise BadInput(
        f"No priority from {SHARED_PRIORITIES.start} to {SHARED_PRIORITIES.stop - 1} is free of other software's policy rules. Free one (ip rule show)."
    )


def plan_shared(state: State, seen: Mapping[int, Routing]) -> Plan:
    """Plan S alone, for when the networks change that it names."""
    plan = Plan()
    for family, routing in seen.items():
        missing, surplus = _shared_changes(state, routing, family, seen.values())
        plan.extend(batch(family, [*(("add", rule) for rule in missing), *(("del", rule) for rule in surplus)]))
        plan.describe(_shared_words(surplus), _shared_words(missing))
    return plan


def plan_closing(state: State, let_in: set[str], seen: Mapping[int, Routing]) -> Plan:
    """Plan P+2 and E+1 for the addresses of peers that are not let in yet, for when they are. let_in: networks."""
    plan = Plan()
    for family, routing in seen.items():
        existing, placement = _by_selected(routing.rules), placed(state, family, seen)
        closing = [closing_rule(family, priority, address) for address, priority in placement.priorities.items()]
        closing += [rule for peer in state.peers.values() for address in of_family(family, peer.addresses) for rule in excepted_rules(peer, address)]
        changes: list[RoutingChange] = []
        for rule in closing:
            if let_in.intersection(host_networks([rule.source])):
                continue
            present = existing.get(_selected(rule), [])
            if not any(other.table is None for other in present):
                changes.append(("add", rule))
                plan.describe([_line(_selected(rule), present)] if present else [], [_line(_selected(rule), [*present, rule])])
        if changes:  # a rule of before would perhaps skip what closes now
            changes[:0] = [("del", skip) for skip in _without(routing.skips, placement.skips)]
        plan.extend(batch(family, changes))
    return plan


def exit_routes(state: State, family: int) -> list[Route]:
    """Return the routes of all exit tables in use; its default route stands only while the exit is offered."""
    routes = []
    for name in state.asked_exits:
        link = state.links.get(name)
        if link is not None and link.exit_table:
            routes.append(Route(family, "default", None, link.exit_table, UNREACHABLE_DEFAULT_METRIC))
            if state.exit_is_effective(name):
                routes += [route for route in default_routes(state.cell, link) if route.family == family]
    return routes


def default_routes(cell: Cell, link: Link) -> list[Route]:
    """Return the default routes of an exit's table; an exit or a cell without a family has none there."""
    if not (link.exit_table and link.interface):
        return []
    return [Route(family, "default", link.interface, link.exit_table) for family in FAMILIES if link.has_family(family) and cell.has_family(family)]


def link_routes(cell: Cell, link: Link) -> list[Route]:
    """Return the routes to a linked cell's networks, each with an unreachable one behind it.

    Without that, traffic to a linked cell leaves by the uplink, NATed, while the link is down.
    """
    routes = []
    for family in FAMILIES:
        for network in of_family(family, link.networks):
            if cell.has_family(family):  # or it has no address there, and perhaps a kernel that refuses the route
                routes.append(Route(family, network, link.interface))
            routes.append(Route(family, network, None, MAIN, UNREACHABLE_NETWORK_METRIC))
    return routes


def device_routes(state: State) -> list[Route]:
    """Return the routes to the networks behind devices."""
    networks = {network for peer in state.peers.values() if peer.public_key for network in peer.networks}
    return [
        Route(family, network, state.cell.interface) for family in FAMILIES if state.cell.has_family(family) for network in of_family(family, sorted(networks))
    ]


def own_routes(cell: Cell) -> list[Route]:
    """Return the routes to the cell's own networks, as far as the kernel makes them with the addresses of the devices' interface."""
    networks = [(family, network) for family in FAMILIES for network in cell.own_networks(family)]
    return [Route(family, network, cell.interface) for family, network in networks if network_of(network).num_addresses > 1]


def plan_move(state: State, seen: Mapping[int, Routing], family: int, devices: Collection[str] | None = None) -> Move:
    """Compare policy routing with what the records call for, and order the changes so that no packet finds a gap. Raises BadInput.

    seen: the routing of all families, by family: the priorities that others have in one are left to them in both.
    devices: the interfaces that can be an exit now, None where all can; the others' tables stay closed.

    A peer's exit changes with P+2 standing throughout and P+1 absent while its flows are ended: the other way round UDP
    left un-NATed for as long as the flow lived, and TCP hung.
    """
    move, routing = Move(), seen[family]
    missing_shared, surplus_shared = _shared_changes(state, routing, family, seen.values())
    move.prepare += [("add", rule) for rule in missing_shared]
    move.before += _shared_words(surplus_shared)
    move.after += _shared_words(missing_shared)
    placement = placed(state, family, seen)
    wanted = wanted_rules(state, family, placement.priorities)
    probing, probed = probes.wanted_rules(state, family), [rule for rule in routing.rules if rule.device]
    missing_probing, surplus_probing = _without(probing, probed), _without(probed, probing)
    move.prepare += [("add", rule) for rule in missing_probing]
    move.leave += [("del", rule) for rule in surplus_probing]
    move.after += [f"what this cell sends by {rule.device}: {table_in_words(rule)}" for rule in missing_probing]
    move.before += [f"what this cell sends by {rule.device}: {table_in_words(rule)}" for rule in surplus_probing]
    existing = _by_selected(rule for rule in routing.rules if not is_shared(rule) and not rule.device)
    surplus_skips = _without(routing.skips, placement.skips)
    missing_skips = _without(placement.skips, routing.skips)
    placed_before: list[PolicyRule | Skip] = [*surplus_skips]
    placed_after: list[PolicyRule | Skip] = [*missing_skips]
    # Each rule can be reached while it stands: what skips others goes before they change, and comes when they are as it takes them to be.
    move.prepare[:0] = [("del", skip) for skip in surplus_skips]
    for selected in sorted(set(wanted) | set(existing), key=str):
        new, old = wanted.get(selected, []), existing.get(selected, [])
        if state.peers_lost and not new:
            continue  # the kernel alone still knows by which cell this device leaves
        if sorted(new, key=str) == sorted(old, key=str):
            continue
        missing = [rule for rule in new if rule not in old]
        surplus = _surplus(old, new)
        if set(map(_deciding, new)) == {_deciding(rule) for rule in old if not _is_older(rule)}:
            # It goes on leaving as it does, so its way comes before what closes it, and goes after that.
            move.enter += [("add", rule) for rule in sorted(missing, key=lambda r: r.priority)]
            move.leave += [("del", rule) for rule in sorted(surplus, key=lambda r: -r.priority)]
            placed_before.extend(surplus)
            placed_after.extend(missing)
            continue
        move.prepare += [("add", rule) for rule in missing if not _enters_exit(rule)]
        move.prepare += [("del", rule) for rule in surplus if _enters_exit(rule)]
        move.enter += [("add", rule) for rule in missing if _enters_exit(rule)]
        # P+2 goes before P, which is of before S: in between a packet finds main, as it does afterwards.
        move.leave += [("del", rule) for rule in sorted(surplus, key=lambda r: -r.priority) if not _enters_exit(rule)]
        # Where an exit only closes, flows end when one opens again.
        if not new or (any(map(_enters_exit, new)) and any(map(_enters_exit, [*missing, *surplus]))):
            source, network = selected
            if network is None:
                move.flows.append(source)
            else:
                move.excepted.append((source, network))
        if selected[1] is None:
            move.moved[selected[0]] = any(rule.table is None for rule in old)
        move.before.append(_line(selected, old))
        move.after.append(_line(selected, new))
    (move.leave or move.enter).extend(("add", skip) for skip in reversed(missing_skips))  # one command less where nothing leaves
    move.before += _placement_words(placed_before)
    move.after += _placement_words(placed_after)
    move.leave += [("del", rule) for rule in surplus_shared]
    routes = [route for route in exit_routes(state, family) if devices is None or route.device is None or route.device in devices]
    present = [route for route in routing.routes if route.table != MAIN]
    missing_routes = _without(routes, present)
    # The kernel takes "unreachable" always, a way out only while its interface is there: S and P+2 must not wait for that.
    move.prepare[:0] = [("replace", route) for route in missing_routes if not route.device]
    move.enter[:0] = [("replace", route) for route in missing_routes if route.device]
    move.after += [route.words() for route in missing_routes]
    for route in _without(present, routes):
        # A default of an exit that is no longer offered goes at once, the tables only when nobody looks there.
        (move.prepare if route.device else move.leave).append(("del", route))
        move.before.append(route.words())
    return move


def _without(items: Iterable[Item], others: Iterable[Item]) -> list[Item]:
    """Return those items that are not among others."""
    known = set(others)
    return [item for item in items if item not in known]


def _by_selected(rules: Iterable[PolicyRule]) -> dict[Selected, list[PolicyRule]]:
    found: dict[Selected, list[PolicyRule]] = {}
    for rule in rules:
        found.setdefault(_selected(rule), []).append(rule)
    return found


def _shared_changes(state: State, routing: Routing, family: int, routings: Iterable[Routing]) -> tuple[list[PolicyRule], list[PolicyRule]]:
    """Return which shared rules are missing, and which are surplus: none while the kernel alone still knows who is routed."""
    wanted = shared_rules(state, family, routings)
    present = [rule for rule in routing.rules if is_shared(rule)]
    return _without(wanted, present), [] if state.peers_lost else _without(present, wanted)


def _shared_words(rules: Iterable[PolicyRule]) -> list[str]:
    """Return shared rules as a person reads them, one line for each source."""
    near: dict[tuple[str, int], list[str]] = {}
    for rule in rules:
        near.setdefault((rule.source, rule.priority), []).append(str(rule.destination))
    return [f"{source} to {', '.join(networks)}: [{priority}] main without defaults" for (source, priority), networks in near.items()]


def _surplus(old: list[PolicyRule], new: list[PolicyRule]) -> list[PolicyRule]:
    """Return the rules that are not wanted, and all but the first of doubles."""
    surplus, kept = [], set()
    for rule in old:
        if rule not in new or rule in kept:
            surplus.append(rule)
        kept.add(rule)
    return surplus


def _deciding(rule: PolicyRule) -> tuple[int, str, int]:
    """Return what a rule of a peer says, wherever it stands."""
    return rule.table or 0, rule.destination or "", -1 if rule.suppress is None else rule.suppress


def _is_older(rule: PolicyRule) -> bool:
    """Tell whether a rule is P, which each peer had before S."""
    return rule.table == MAIN and rule.suppress is not None and rule.destination is None


def _placement_words(rules: list[PolicyRule | Skip]) -> list[str]:
    """Return how the rules of peers that leave as before are placed, as a person reads it; nothing where there are none."""
    sources = {rule.source for rule in rules if isinstance(rule, PolicyRule)}
    skips = sum(isinstance(rule, Skip) for rule in rules)
    what = [*([f"rules of {len(sources)} routed addresses"] if sources else []), *([f"{skips} rules that skip those of others"] if skips else [])]
    return [f"[{min(rule.priority for rule in rules)}] to [{max(rule.priority for rule in rules)}]: {', '.join(what)}"] if what else []


def _selected(rule: PolicyRule) -> Selected:
    return rule.source, rule.destination


def _enters_exit(rule: PolicyRule) -> bool:
    """Tell whether a rule of a peer leads to an exit, or with an exception perhaps to main."""
    return rule.table is not None and (rule.table != MAIN or rule.destination is not None)


def _line(selected: Selected, rules: list[PolicyRule]) -> str:
    """Return what a peer's rules say as a person reads it."""
    source, network = selected
    order = sorted(rules, key=lambda rule: rule.priority)
    said = ", ".join(f"[{rule.priority}] {table_in_words(rule)}" for rule in order)
    if network is None:
        return f"{source}: {said or DIRECT}"
    return f"{source} to {network}: {said or 'no exception'}"


def table_in_words(rule: PolicyRule) -> str:
    """Return where a rule of ours leads to as a person reads it."""
    if rule.table is None:
        return "unreachable"
    if rule.table != MAIN:
        return f"table {rule.table}"
    return "main" if rule.suppress is None else "main without defaults"
