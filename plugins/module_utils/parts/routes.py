# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which cell the internet traffic of each device leaves: exit tables, policy rules, the kill-switch chains.

Owns the exit of each device, and which link is an exit, with its table. Adds to the host policy rules, routing tables, the chains behind them, and the
default routes in the AllowedIPs of exits. Comes last in a run: a device moves when all that its new exit needs is there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..base import destinations
from ..base.errors import BadInput, StoreError
from ..base.names import DIRECT
from ..base.networks import EVERYWHERE
from ..kernel import conntrack
from ..kernel.model import WgPeer
from ..kernel.plan import Change, Plan
from ..kernel.routing import batch
from ..records.model import Link, Peer, State
from ..records.ownership import Fields
from . import exits, killswitch, meant, merge, probes, tunnels
from .part import Context, Part, Planned


def plan_routes(context: Context) -> Planned:
    """Plan the exits of devices. Returns plan and {pending: [device]}: the devices whose exit is not offered. Raises BadInput and StoreError."""
    state = context.wanted
    expected = {item["name"] for item in context.inputs.offers if item.get("expected")}
    for item in context.inputs.routes:
        _check_route(context, item["peer"], expected)
    tunnels.check_shared_exits(context)
    plan = _plan_exits(context)
    waiting = {peer.name: peer.route_via for peer in state.routed if not state.exit_is_effective(state.exit_of(peer))}
    for peer, vias in sorted(waiting.items()):
        cells = [repr(via) for via in vias]
        which, one = ("which offers no exit", cells[0]) if len(cells) == 1 else ("none of which offers an exit", "one of them")
        plan.warnings.append(f"Peer {peer!r} is routed via {', '.join(cells)}, {which} now: its internet traffic is blocked until {one} offers one.")
    closed = {(name, via) for name, peer in state.peers.items() for via in peer.route_except.values() if via != DIRECT and not state.exit_is_effective(via)}
    for name, via in sorted(closed):
        plan.warnings.append(f"Peer {name!r} has exceptions via {via!r}, which offers no exit now: their destinations are blocked until it offers one.")
    plan.warnings += _unanswered(state)
    return plan, {"pending": sorted(waiting)}


def _unanswered(state: State) -> list[str]:
    """Return a warning for each exit that was to answer what devices ask by DNS, and has named no resolver."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, peer in sorted(state.peers.items()):
        families = " and ".join(f"IPv{family}" for family in state.dns_by_uplink(peer))
        if families:
            found.setdefault((str(state.exit_of(peer)), families), []).append(repr(name))
    return [
        f"Cell {via!r} has named no resolver for {families}, so what {', '.join(peers)} asks private addresses by DNS leaves by this cell's own connection. "
        f"Let {via!r} state cell_resolver, or name public resolvers in cell_exit_dns."
        for (via, families), peers in found.items()
    ]


def _plan_closed(context: Context) -> Planned:
    """Plan the exits of devices as far as interfaces are there for them; the rest stays closed."""
    up = {name for name, interface in context.observed.wireguard.items() if interface.up}
    if not context.host.has("wg"):  # nobody can tell which is WireGuard, so none is taken for gone
        up = set(context.observed.links)
    return _plan_exits(context, up), {}


def _check_registry(context: Context) -> None:
    """Refuse routes for devices that nobody knows. Raises StoreError."""
    if context.stored.peers_lost and context.inputs.routes:
        raise StoreError(f"{' '.join(context.store.warnings)} Put it back from a backup, or run wg_cell with all devices (pic.cells.site) first.")


def _check_route(context: Context, name: str, expected: Collection[str]) -> None:
    """Refuse an exit that has never been offered. One that is expected to be, or was in use, waits fail-closed. Raises BadInput."""
    peer = context.wanted.peers[name]
    known = {DIRECT, *expected, *(context.stored.peers[name].exits if name in context.stored.peers else ())}
    for via in peer.exits:
        if via not in known:
            _check_exit(context, peer, via)


def _check_exit(context: Context, peer: Peer, via: str) -> None:
    link, cell = context.wanted.links.get(via), context.wanted.cell
    if link is None:
        raise BadInput(
            f"Peer {peer.name!r} cannot be routed via {via!r}: cell {cell.name!r} has no link with it. Its links: "
            f"{', '.join(sorted(context.wanted.links)) or 'none'}. Correct the name, link the cells first, or send the peer {DIRECT}."
        )
    if not link.offers_exit:
        raise BadInput(
            f"Peer {peer.name!r} cannot be routed via {via!r}: that cell has not offered {cell.name!r} an exit. "
            f"Let it offer one (pic.cells.offer_exit), or send the peer {DIRECT}."
        )


def _plan_exits(context: Context, devices: Collection[str] | None = None) -> Plan:
    """Order all changes: the new exit is prepared whole, flows end while only 'unreachable' stands, the old exit goes last.

    devices: the interfaces that can be an exit now, None for all. Raises BadInput.
    """
    state, seen = context.wanted, context.observed
    exits.allocate_tables(state, seen.routing.values())
    in_use = state.exits_in_use()
    for name, link in state.links.items():
        link.exit_relay_active = name in in_use
    moves = {family: exits.plan_move(state, seen.routing, family, devices) for family in seen.families}
    plan = context.write_records()
    before = context.before
    opened, closed = _plan_exit_peers(context, before)
    plan.extend(opened)
    for family, move in moves.items():
        plan.extend(batch(family, move.prepare))
    try:
        early, late = killswitch.plan_move(context, before)
    except BadInput:
        if devices is None:
            raise
        early, late = Plan(), Plan()  # the policy rules close the exits without it
    plan.extend(early)
    for move in moves.values():
        if context.ends_flows:
            plan.steps += conntrack.end_begun_by(move.flows)
            plan.steps += [conntrack.end(conntrack.to_network(*pair)) for pair in move.excepted if pair[0] not in move.flows]
    for family, move in moves.items():
        plan.extend(batch(family, move.enter))
    for family, move in moves.items():
        plan.extend(batch(family, move.leave))
        plan.describe(move.before, move.after)
    plan.extend(late)
    plan.extend(probes.plan_settings(context))
    if state.cell.leads_dns and context.ends_flows:
        # The redirect has outlived their other flows. A question that came in between would keep its answers by that.
        for family, move in moves.items():
            routed = set(state.routed_addresses(family))
            plan.steps += conntrack.end_begun_by([address for address in move.flows if address not in routed], conntrack.questions_of)
    plan.extend(closed)
    context.bury(plan, exits=[])
    plan.meant = meant.meant_ways(context, moves)
    return plan


def _plan_exit_peers(context: Context, before: State) -> tuple[Plan, Plan]:
    """Plan the links' AllowedIPs: those that become exits first, those that are none any more last. before: the records without this change."""
    opened, closed = Plan(), Plan()
    changed: dict[str, list[Link]] = {}
    said: dict[str, list[Change]] = {}
    for name, link in sorted(context.wanted.links.items()):
        old, used = before.links[name], link.exit_relay_active
        interface = context.observed.wireguard.get(str(link.interface))
        if link.pending or interface is None or not (used or name in context.leaving.exits):
            continue
        allowed = interface.peers.get(tunnels.peer_key(link), WgPeer("")).allowed_ips
        if (old.exit_relay_active, old.exit_table, EVERYWHERE[0] in allowed) != (used, link.exit_table, used):
            changed.setdefault(interface.name, []).append(link)
            was, will = ([f"{link.interface}: {link.kind} {name} with {', '.join(n)}"] for n in (allowed, tunnels.allowed_ips(link)))
            said.setdefault(interface.name, []).append(Change(was, will))
    if changed:
        known = tunnels.known(context, {})
    for name, links in changed.items():
        tunnel = tunnels.plan_tunnels(context, name, links, known)
        # All else of a link is for its own plan, and said there.
        tunnel.changes = said[name]
        (opened if any(link.exit_relay_active for link in links) else closed).extend(tunnel)
    return opened, closed


def _words(state: State) -> list[str]:
    lines = [f"peer {peer.name}: internet {destinations.ways_in_words(peer.route_via, peer.route_except)}" for peer in state.peers.values()]
    used = [link for link in state.links.values() if link.exit_relay_active]
    return lines + [f"{'exit' if link.provided else 'link'} {link.name}: used as an exit" for link in used]


def _offers_words(state: State) -> list[str]:
    return [f"cell {link.name}: offers an exit" for link in state.links.values() if link.remote_exit_offered]


ROUTES = Part(
    "routes",
    plan_routes,
    owns=Fields(links=("exit_relay_active", "exit_table"), peers=("addresses", "route_via", "route_except")),
    merges=(merge.merge_cell, merge.merge_offers, merge.merge_routes),
    check=_check_registry,
    words=_words,
)
OFFERS = Part(
    "offers",
    lambda context: (context.write_records(), {}),
    owns=Fields(links=("remote_exit_offered",)),
    merges=(merge.merge_cell, merge.merge_offers),
    words=_offers_words,
)
REPAIR = replace(ROUTES, name="exits")
CLOSED = replace(ROUTES, name="closed exits", plan=_plan_closed)
