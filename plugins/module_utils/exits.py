# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to policy routing: the three rules of each routed peer and the table of each exit. Pure.

P    from <peer> lookup main suppress_prefixlength 7     own cell, LAN, docker, linked cells
P+1  from <peer> lookup <table of the exit cell>         default by the link, then unreachable
P+2  from <peer> unreachable                             holds even if the table is flushed
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .errors import BadInput
from .networks import FAMILIES, WIDEST_DEFAULT_LIKE, host_networks, of_family
from .plan import Plan
from .records import Cell, Link, State
from .routing import MAIN, PRIORITIES, RESERVED_TABLES, TABLES, UNREACHABLE_DEFAULT_METRIC, UNREACHABLE_NETWORK_METRIC, Change, Route, Routing, Rule, batch


@dataclass
class Move:
    """The ordered changes of one family's policy routing."""

    prepare: list[Change] = field(default_factory=list)  # closed tables, P and P+2; P+1 of an old way goes
    enter: list[Change] = field(default_factory=list)  # ways out of the tables, P+1 of the new way
    leave: list[Change] = field(default_factory=list)  # P+2 and P of peers that go direct, tables out of use
    flows: list[str] = field(default_factory=list)  # peers whose flows have to end in between
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.prepare or self.enter or self.leave)


def allocate_tables(state: State, seen: Iterable[Routing]) -> None:
    """Give each cell that some peer is routed via its own table, clear of what others use."""
    foreign = RESERVED_TABLES.union(*(routing.foreign_tables for routing in seen))
    for name in sorted({peer.route_via for peer in state.peers.values() if peer.route_via}):
        link = state.links.get(name)
        if link is None or (link.exit_table and link.exit_table not in foreign):
            continue
        taken = {other.exit_table for other in state.links.values()}
        link.exit_table = next((table for table in TABLES if table not in foreign and table not in taken), None)
        if link.exit_table is None:
            raise BadInput(f"No routing table from {TABLES.start} to {TABLES.stop - 1} is free for the exit cell {name!r}. Free one.")


def base_priority(routings: Iterable[Routing]) -> int:
    """Return P: the one our rules have, unless somebody else has come to stand there, or else the lowest free one."""
    routings = tuple(routings)
    foreign = frozenset[int]().union(*(routing.foreign_priorities for routing in routings))
    current = {rule.priority - rule.priority % 10 for routing in routings for rule in routing.rules}
    candidates: list[int] = [*sorted(current), *PRIORITIES]
    for priority in candidates:
        if not foreign.intersection(range(priority, priority + 3)):
            return priority
    raise BadInput(f"No three priorities from {PRIORITIES.start} to {PRIORITIES.stop} are free of other software's policy rules. Free some (ip rule show).")


def wanted_rules(state: State, family: int, priority: int) -> dict[str, list[Rule]]:
    """Return P, P+1 and P+2 of each address of each routed peer; P+1 is missing where the exit's cell is not linked."""
    rules = {}
    for peer in state.peers.values():
        if not peer.route_via:
            continue
        link = state.links.get(peer.route_via)
        for address in of_family(family, peer.addresses):
            rules[address] = closing_rules(family, priority, address)
            if link is not None and link.exit_table:
                rules[address].append(Rule(family, priority + 1, address, link.exit_table))
    return rules


def closing_rules(family: int, priority: int, address: str) -> list[Rule]:
    """Return P and P+2 of a routed peer's address: with no more than these it reaches no internet."""
    return [Rule(family, priority, address, MAIN, WIDEST_DEFAULT_LIKE[family]), Rule(family, priority + 2, address)]


def close_in(state: State, let_in: set[str], seen: Mapping[int, Routing]) -> Plan:
    """Plan P and P+2 for the addresses of routed peers that are not let in yet, for when they are. let_in: networks."""
    plan = Plan()
    priority = base_priority(seen.values())
    for family, routing in seen.items():
        changes: list[Change] = []
        for address in state.routed_addresses(family):
            wanted = [] if let_in.intersection(host_networks([address])) else closing_rules(family, priority, address)
            present = [rule for rule in routing.rules if rule.source == address]
            missing = [rule for rule in wanted if rule not in present]
            if missing:
                changes += [("add", rule) for rule in missing]
                plan.describe([f"{address}: {_words(present)}"] if present else [], [f"{address}: {_words([*present, *missing])}"])
        plan.extend(batch(family, changes))
    return plan


def exit_routes(state: State, family: int) -> list[Route]:
    """Return the routes of all exit tables in use; the way out stands only while the exit is offered."""
    routes = []
    for name in sorted({peer.route_via for peer in state.peers.values() if peer.route_via}):
        link = state.links.get(name)
        if link is not None and link.exit_table:
            routes.append(Route(family, "default", None, link.exit_table, UNREACHABLE_DEFAULT_METRIC))
            if state.exit_is_effective(name):
                routes += [route for route in ways_out(state.cell, link) if route.family == family]
    return routes


def ways_out(cell: Cell, link: Link) -> list[Route]:
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


def plan_move(state: State, routing: Routing, family: int, priority: int, devices: Collection[str] | None = None) -> Move:
    """Compare policy routing with what the records call for, and order the changes so that no packet finds a gap.

    devices: the interfaces that can be a way out now, None where all can; the others' tables stay closed.

    A peer's way changes with P+2 standing throughout and P+1 absent while its flows are ended: the other way round UDP
    left un-NATed for as long as the flow lived, and TCP hung.
    """
    move = Move()
    wanted = wanted_rules(state, family, priority)
    existing: dict[str, list[Rule]] = {}
    for rule in routing.rules:
        existing.setdefault(rule.source, []).append(rule)
    for source in sorted(set(wanted) | set(existing)):
        new, old = wanted.get(source, []), existing.get(source, [])
        if state.peers_lost and not new:
            continue  # the kernel alone still knows of this device's way
        if sorted(new, key=str) == sorted(old, key=str):
            continue
        missing = [rule for rule in new if rule not in old]
        surplus = _surplus(old, new)
        move.prepare += [("del", rule) for rule in surplus if _is_way(rule)]
        move.prepare += [("add", rule) for rule in missing if not _is_way(rule)]
        move.enter += [("add", rule) for rule in missing if _is_way(rule)]
        # P+2 goes before P: in between a packet finds main, as it does afterwards.
        move.leave += [("del", rule) for rule in sorted(surplus, key=lambda r: -r.priority) if not _is_way(rule)]
        # Where a way is only closed, flows end when one opens again.
        if not new or (any(map(_is_way, new)) and any(map(_is_way, [*missing, *surplus]))):
            move.flows.append(source)
        move.before.append(f"{source}: {_words(old)}")
        move.after.append(f"{source}: {_words(new)}")
    routes = [route for route in exit_routes(state, family) if devices is None or route.device is None or route.device in devices]
    present = [route for route in routing.routes if route.table != MAIN]
    missing_routes = [route for route in routes if route not in present]
    # The kernel takes "unreachable" always, a way out only while its interface is there: P and P+2 must not wait for that.
    move.prepare[:0] = [("replace", route) for route in missing_routes if not route.device]
    move.enter[:0] = [("replace", route) for route in missing_routes if route.device]
    for route in routes:
        if route not in present:
            move.after.append(route.words())
    for route in present:
        if route not in routes:
            # A default of an exit that is no longer offered goes at once, the tables only when nobody looks there.
            (move.prepare if route.device else move.leave).append(("del", route))
            move.before.append(route.words())
    return move


def _surplus(old: list[Rule], new: list[Rule]) -> list[Rule]:
    """Return the rules that are not wanted, and all but the first of doubles."""
    surplus, kept = [], set()
    for rule in old:
        if rule not in new or rule in kept:
            surplus.append(rule)
        kept.add(rule)
    return surplus


def _is_way(rule: Rule) -> bool:
    return rule.table not in (None, MAIN)


def _words(rules: list[Rule]) -> str:
    if not rules:
        return "direct"
    order = sorted(rules, key=lambda rule: rule.priority)
    return ", ".join(
        f"[{r.priority}] " + ("unreachable" if r.table is None else "main without defaults" if r.table == MAIN else f"table {r.table}") for r in order
    )
