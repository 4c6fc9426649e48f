# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnels to linked cells: interface, peer, addresses, routes.

Owns what is known of linked cells: keys, networks, endpoints. Adds to the host an interface and its file for each link, or a peer on the devices'
interface, and the routes to the networks behind it. Comes after the rules, and takes away a tunnel only after its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..base import wgkeys
from ..base.errors import BadInput
from ..kernel import conntrack, wireguard
from ..kernel.model import MAIN
from ..kernel.plan import Plan, Write
from ..kernel.routing import batch
from ..records.model import Link, State
from ..records.ownership import Fields
from . import adoption, checks, exits, fitness, former, invitations, merge, providers, reach, remains, setaside, tunnels
from .identity import check_key, plan_key
from .inputs import Args, Inputs
from .part import Context, Part, Planned


def plan_links(context: Context) -> Planned:
    """Plan the tunnels to linked cells. Returns plan and {pending: [link], public_key, links: {name: {interface, listen_port}}}. Raises BadInput."""
    state, inputs = context.wanted, context.inputs
    for name in inputs.absent_links:
        state.links.pop(name, None)
    present = inputs.present_tunnels
    _check(context, present)
    pending = [item["name"] for item in present if state.links[item["name"]].pending]
    plan = context.write_records()
    plan.steps += plan_key(context).steps
    plan.extend(providers.plan_keys(context, [item["name"] for item in present]))
    leftovers, changed = _plan_leftovers(context), _by_interface(context, present)
    made = _plan_interfaces(context, present, changed)
    # The files first: one that goes may be all that has the preshared key of a link that moves.
    plan.steps += [step for step in made.steps if isinstance(step, Write)]
    made.steps = wireguard.started_together(step for step in made.steps if not isinstance(step, Write))
    plan.extend(leftovers)
    plan.extend(exits.plan_shared(state, context.routing()))
    plan.extend(plan_unreachable(context, (state.links[name] for name in pending)))
    plan.extend(made)
    used = [link.name for links in changed.values() for link in links if not link.invited]
    plan.extend(invitations.plan_used(context.host, context.store.path, [*inputs.absent_links, *used]))
    # The flows of a link that stays end when its rules have changed.
    networks = {network for link in state.links.values() for network in link.networks}
    over = [flows for flows in context.leaving.flows if context.ends_flows and networks.isdisjoint((flows.source, flows.target))]
    plan.steps += [conntrack.end(flows) for flows in over]
    context.bury(plan, links=[], flows=[flows for flows in context.leaving.flows if flows not in over])
    plan.warnings += [f"Link {name!r} is pending: its public key or its networks are not known yet." for name in pending]
    made_now = {item["public_key"] for item in present if item.get("generated") and item.get("public_key")}
    if made_now:
        plan.changes = [replace(change, after=[wgkeys.unnamed(line, made_now) for line in change.after]) for change in plan.changes]
    ends = {name: {"interface": state.links[name].interface, "listen_port": state.links[name].listen_port} for name in sorted({i["name"] for i in present})}
    return plan, {"pending": sorted(pending), "public_key": context.identity.public, "links": ends}


def plan_unreachable(context: Context, links: Iterable[Link]) -> Plan:
    """Plan the unreachable routes that keep traffic to linked cells from the uplink while their tunnels are not there."""
    wanted = [route for link in links for route in exits.link_routes(context.stored.cell, link) if not route.device]
    plan = Plan()
    for family, routing in context.routing().items():
        present = set(routing.routes)
        missing = [route for route in wanted if route.family == family and route not in present]
        plan.extend(batch(family, (("replace", route) for route in missing)))
        plan.describe((), (route.words() for route in missing))
    return plan


def _check(context: Context, present: Sequence[Args]) -> None:
    """Refuse links that cannot be, and give each its port. Raises BadInput."""
    state, seen = context.wanted, context.observed
    remains.check_links(context.stored, state)
    checks.check_keys(state, None if context.identity.new else context.identity.public, seen.wireguard)
    host_networks = seen.host_networks(state.cell.interface)
    checks.check_networks(state, host_networks)
    former.check(state, context.stored)
    providers.check(state, context.stored, host_networks)
    adoption.check_others(state, context.stored, context.devices_interface())
    tunnels.allocate_ports(context)
    checks.check_links(state, seen.wireguard)
    reach.check_reach(context.host, state, context.stored, seen.wireguard)
    links = [state.links[item["name"]] for item in present]
    for link in links:
        if link.interface in seen.links and link.interface not in seen.wireguard:
            raise BadInput(
                f"Interface {link.interface!r} of link {link.name!r} exists but is not a WireGuard interface. Set the link's interface to another name."
            )
    made = [link for link in links if link.interface != state.cell.interface]
    fitness.check_families(context.host, state.cell, [str(link.interface) for link in made], seen.wireguard)
    for link in made:
        fitness.check_port(context.host, str(link.interface), link.listen_port, f"listen_port of link {link.name!r}", seen.wireguard)
    tunnels.check_shared_exits(context, {item["name"] for item in present if item.get("exit")})


def _by_interface(context: Context, present: Sequence[Args]) -> dict[str, list[Link]]:
    """Return the links that get a tunnel, by its interface; the devices' interface too where a link has left it."""
    found: dict[str, list[Link]] = {}
    for item in present:
        link = context.wanted.links[item["name"]]
        if not link.pending:
            # Whether it is an exit is for the plan of the routes, which has its order, unless somebody says otherwise.
            exit_wanted = link.exit_relay_active if item.get("exit") is None else item["exit"]
            found.setdefault(str(link.interface), []).append(replace(link, exit_relay_active=exit_wanted))
    for link in context.wanted.links.values():
        # Also where nobody states it: it has both the new addresses and the old before the other cell is told.
        if former.of_link(context.wanted.cell, link) and not link.pending and str(link.interface) not in found:
            found[str(link.interface)] = [link]
    if context.wanted.cell.interface in tunnels.left_keys(context):
        found.setdefault(context.wanted.cell.interface, [])
    return found


def _plan_interfaces(context: Context, present: Sequence[Args], by_interface: dict[str, list[Link]]) -> Plan:
    # The key of an invitation is the one that was sent along; what is stated counts from when the link is complete.
    stated = (item for item in present if item.get("invited_until") or not context.wanted.links[item["name"]].invited)
    plan, given = Plan(), {str(item["name"]): item.get("preshared_key") or None for item in stated}
    known = tunnels.known(context, given)
    renewed = [f"link {name}: " for name, key in given.items() if key and known.kept.get(name) not in (None, key)]
    plan.describe([f"{link}a preshared key" for link in renewed], [f"{link}another preshared key" for link in renewed])
    for interface, links in by_interface.items():
        plan.extend(tunnels.plan_tunnels(context, interface, links, known))
    return plan


def _plan_leftovers(context: Context) -> Plan:
    """Plan the end of the routes and interfaces of links that are gone, renumbered, or on another interface; their ports are free then."""
    plan, state = Plan(), context.wanted
    standing = {route for link in state.links.values() for route in exits.link_routes(state.cell, link)}
    standing |= {*exits.device_routes(state), *exits.own_routes(state.cell)}
    for family, routing in context.routing().items():
        stale = [route for route in routing.routes if route.table == MAIN and route not in standing]
        plan.extend(batch(family, (("del", route) for route in stale)))
        plan.describe((route.words() for route in stale), ())
    left = {tunnel.interface for tunnel in context.leaving.links}
    for name in sorted(left - {link.interface for link in state.links.values() if not link.pending}):
        if name.startswith("pic-"):
            plan.extend(wireguard.plan_removal(context.host, name, context.observed.wireguard.get(name)))
    return plan


def _plan_unless_lost(context: Context) -> Planned:
    # Where the records of the links cannot be read the kernel alone still knows of them.
    return (Plan(), {}) if context.stored.links_lost else plan_links(context)


def _check_unless_lost(context: Context) -> None:
    if not context.stored.links_lost:
        check_key(context)


def _words(state: State) -> list[str]:
    lines = []
    for link in state.links.values():
        kind, networks = ("exit", link.given_addresses) if link.provided else ("link", link.networks)
        lines.append(f"{kind} {link.name}: {', '.join(networks) or 'networks not known yet'}, endpoint {link.endpoint or 'none'}")
        lines.append(f"{kind} {link.name}: public key {link.public_key or 'not known yet'}")
    return lines


LINKS = Part(
    "links",
    plan_links,
    owns=Fields(
        links=(
            *("public_key", "networks", "address", "endpoint", "interface", "listen_port", "keepalive", "mtu"),
            *("remote_api_url", "sync_auth", "allow_public_networks", "given_addresses", "given_resolvers", "invited_until"),
            *("judged_claim", "refused_claim", "judged_place", "heard", "accept_networks", "asked_networks", "asked_address"),
        ),
        makes_links=True,
        removes_links=True,
    ),
    merges=(merge.merge_cell, merge.merge_links, providers.merge_exits),
    check=setaside.check,
    words=_words,
)
TAKEN = replace(LINKS, check=lambda _context: None)  # by another cell: nothing is stated
REPAIR = replace(
    LINKS,
    plan=_plan_unless_lost,
    check=_check_unless_lost,
    repair=lambda stored: Inputs(links=[{"name": name} for name in sorted(stored.links)]),
)
UNREACHABLE = Part("unreachable routes", lambda context: (plan_unreachable(context, context.stored.links.values()), {}))
