# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell itself: its key, its devices and their interface, and a port for each link.

Owns the cell's own record, the devices but for their exits, and the interface and port of each link. Adds to the host the key file, the devices'
interface with the routes behind it, the policy rules that all routed devices share, and what lets systemd-networkd leave them alone.
Comes first in a run: the others need key and ports.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..base import destinations, wgkeys
from ..base.errors import BadInput, StoreError
from ..base.names import DIRECT, answered_in_words
from ..base.networks import host_networks, host_port, sorted_networks
from ..kernel import wgconfig, wireguard
from ..kernel.model import MAIN, Interface, WgPeer, loses_ipv4
from ..kernel.plan import Plan, Run, Write
from ..kernel.routing import NETWORKD, batch
from ..records.model import LAST, Cell, State
from ..records.ownership import Fields
from . import access, adoption, checks, exits, fitness, former, keys, killswitch, merge, tunnels
from .part import Context, Part, Planned

NETWORKD_TEXT = """\
# Kept by pic.cells: systemd-networkd would delete the policy rules and routes of others, also ours, whenever it starts.
[Network]
ManageForeignRoutingPolicyRules=no
ManageForeignRoutes=no
"""


def plan_identity(context: Context) -> Planned:
    """Plan the cell itself. Returns plan and {public_key, generated, links: {name: {interface, listen_port, exit_offered, share}}}. Raises BadInput."""
    state, stored, seen = context.wanted, context.stored, context.observed
    found = _check(context)
    if stored.peers_lost:
        _recover_exits(context)
    for item in context.inputs.devices:
        if item["name"] in state.peers and item.get("networks") is None:
            state.peers[item["name"]].networks = adoption.kept_networks(state, stored, found, item["name"])
    identity = context.identity
    checks.check_networks(state, seen.host_networks(state.cell.interface))
    adoption.check_others(state, stored, found)
    checks.check_keys(state, None if identity.new else identity.public, seen.wireguard)
    tunnels.allocate_ports(context)
    unknown = _note_moves(context)
    former.check(state, stored, context.inputs.absent_links)
    checks.check_links(state, seen.wireguard, context.inputs.absent_links)
    name = state.cell.interface
    fitness.check_families(context.host, state.cell, [name], seen.wireguard)
    fitness.check_port(context.host, name, state.cell.listen_port, "cell_listen_port", seen.wireguard)
    plan = _plan_adopted(context, found)
    plan.warnings += unknown
    plan.extend(context.write_records())
    plan.extend(_plan_networkd(context))
    plan.extend(plan_key(context))
    plan.extend(_plan_blocked(context))
    plan.extend(exits.plan_shared(state, context.routing()))
    plan.extend(_plan_devices(context))
    plan.extend(access.plan_access(context.host, context.store.path, name))
    context.bury(plan, devices=[])
    links = {
        name: {"interface": link.interface, "listen_port": link.listen_port, "exit_offered": link.exit_offered, "share": link.shares}
        for name, link in sorted(state.links.items())
    }
    return plan, {"public_key": identity.public, "generated": identity.new, "links": links}


def _note_moves(context: Context) -> list[str]:
    """Note where linked cells have to dial this one from now on, and that it has other networks. They are told before their tunnels lose what they know.

    Returns a sentence for each that is told a name, which only its owner can have it dial.
    """
    warnings, before, after = list[str](), context.stored.cell, context.wanted.cell
    stated = context.inputs.cell or {}
    forwarded, told = stated.get("endpoint_ports"), stated.get("in_run") or ()
    for name, link in context.wanted.links.items():
        if forwarded is not None:
            link.forwarded = forwarded.get(name)
        old = context.stored.links.get(name)
        if old is None or name in told or link.pending or link.provided or link.invited:
            continue
        renumbered = bool(before.networks) and _place(before) != _place(after)
        if renumbered and link.interface == after.interface:
            warnings.append(
                f"Cell {name!r} is not told the networks {', '.join(after.own_networks())}: its link is on the devices' interface {after.interface!r}, where "
                "the addresses by which it knows this cell are gone at once. Unlink the two cells and link them anew (pic.cells.unlink, pic.cells.link)."
            )
        elif renumbered and link.remote_api_url:
            link.known_as = list(dict.fromkeys([*old.known_as, *before.own_addresses()]))
        was, now = ((cell.endpoint, known.forwarded or known.listen_port) for cell, known in ((before, old), (after, link)))
        if after.endpoint and was != now and now[1]:
            link.moved = host_port(after.endpoint, now[1])
            if wireguard.is_named(link.moved) and before.endpoint != after.endpoint:
                warnings.append(
                    f"Cell {name!r} is told that this one is dialled at {link.moved}, and dials no name for that but the one that it knows. Ask its owner to "
                    f"set endpoint: {link.moved} for link {after.name!r} in cell_links. It takes an address in digits at once."
                )
        if (link.moved, link.known_as) != (old.moved, old.known_as) or (renumbered and link.known_as):
            link.told = min(old.told + 1, LAST)
    return warnings


def _place(cell: Cell) -> tuple[list[str], list[str]]:
    """Return what linked cells know of where a cell is: its networks, and its own addresses."""
    return cell.own_networks(), cell.own_addresses()


def plan_key(context: Context) -> Plan:
    """Plan the file with the cell's private key."""
    plan, identity, path = Plan(), context.identity, keys.identity_path(context.store.path)
    if (context.host.read(path) or "").strip() == (identity.private or wgkeys.GENERATED):
        return plan
    if identity.private is None:
        plan.steps.append(Run(("wg", "genkey")))  # ends a run without wg with the name of the missing package
    plan.steps.append(Write(path, f"{identity.private or wgkeys.GENERATED}\n"))
    plan.describe([], [f"identity: public key {wgkeys.GENERATED if identity.new else identity.public}"])
    return plan


def check_key(context: Context) -> None:
    """Refuse a repair without the cell's key. Raises StoreError."""
    if context.identity.new:
        path = keys.identity_path(context.store.path)
        raise StoreError(f"The cell's key {path} is gone, and no interface has it. Put it back from a backup, or run pic.cells.site for a new one.")


def _check(context: Context) -> adoption.Found:
    """Refuse a cell without networks, and an interface that cannot be the devices'. Returns that interface as it is. Raises BadInput."""
    cell, seen, host = context.wanted.cell, context.observed, context.host
    if not cell.networks:
        raise BadInput(f"Cell {cell.name!r} has no networks. Give its own address with prefix, like 10.0.0.1/24, in cell_networks.")
    if cell.interface in seen.links and cell.interface not in seen.wireguard:
        raise BadInput(f"Interface {cell.interface!r} exists but is not a WireGuard interface. Set cell_interface to another name.")
    found = context.devices_interface()
    if not context.has_interface:
        links = {link.public_key for link in context.stored.links.values()}
        adoption.check_owner(host, found, (host.read(keys.identity_path(context.store.path)) or "").strip() or None, links)
    return found


def _recover_exits(context: Context) -> None:
    """Give devices whose registry cannot be read the exits, and the exceptions, that the kernel still has for their addresses."""
    cells: dict[int | None, str] = {MAIN: DIRECT, **{link.exit_table: name for name, link in context.stored.links.items() if link.exit_table}}
    rules = [rule for routing in context.observed.routing.values() for rule in routing.rules if rule.table in cells and not exits.is_shared(rule)]
    found = {rule.source: cells[rule.table] for rule in rules if rule.destination is None and rule.table != MAIN and not rule.device}
    for peer in context.wanted.peers.values():
        peer.route_via = [found[address] for address in peer.addresses if address in found][:1]
        peer.route_except = {rule.destination: cells[rule.table] for rule in rules if rule.destination and rule.source in peer.addresses}


def _plan_adopted(context: Context, found: adoption.Found) -> Plan:
    """Plan the keeping of an older interface's file as it was, for the day when the cell goes."""
    plan, path = Plan(), adoption.kept_path(context.store.path, found.name)
    if found.text and not context.has_interface and not context.host.exists(path):
        plan.steps.append(Write(path, found.text))
        plan.describe([], [f"{path}: {wgconfig.config_path(found.name)} as it was"])
    return plan


def _plan_networkd(context: Context) -> Plan:
    """Plan the setting that lets systemd-networkd leave our rules and routes alone; it reads it when it starts, which is when it matters."""
    plan = Plan()
    if context.host.exists("/run/systemd/system"):
        plan.write(NETWORKD, context.host.read(NETWORKD), NETWORKD_TEXT, 0o644)
    return plan


def _plan_blocked(context: Context) -> Plan:
    """Plan what keeps a device that is routed, or is going to be, from going direct when WireGuard lets it in with a new address."""
    devices = context.observed.wireguard.get(context.wanted.cell.interface, Interface(""))
    let_in = {network for peer in devices.peers.values() for network in peer.allowed_ips}
    state = killswitch.with_blocked(context.wanted, context.observed.routing)
    for item in context.inputs.devices:
        peer, exits_wanted = state.peers.get(item["name"]), item.get("route_via") or [DIRECT]
        if peer is None or let_in.issuperset(host_networks(peer.addresses)):
            continue
        # One that goes direct now keeps its exit until the plan of the routes has the new one.
        if state.exit_of(peer) is None and exits_wanted[0] != DIRECT:
            peer.route_via = [killswitch.NOWHERE]
        if item.get("route_except") is not None:
            peer.route_except = destinations.read(item["route_except"], f"route_except of peer {peer.name!r}")
    plan = exits.plan_closing(state, let_in, context.routing())
    for family in context.observed.families:
        plan.extend(killswitch.plan_chains(context, state, family))
    return plan


def _plan_devices(context: Context) -> Plan:
    """Plan the devices' interface: each device that has a key is a peer."""
    cell, host = context.wanted.cell, context.host
    given = {str(item["name"]): item.get("preshared_key") or None for item in context.inputs.devices}
    in_file, observed = keys.written(host, cell.interface), context.observed.wireguard.get(cell.interface)
    peers, labels = {}, {}
    for name, peer in sorted(context.wanted.peers.items()):
        if not peer.public_key:
            continue
        key = peer.public_key
        if given.get(name):
            wgkeys.check_preshared_key(f"peer {name!r}", given[name] or "")
        secret = given.get(name) or keys.kept(context.observed, cell.interface, key, in_file)
        peers[key] = WgPeer(key, sorted_networks([*host_networks(peer.addresses), *peer.networks]), preshared_key=secret)
        labels[key] = f"device {name}"
    before = context.before
    removed = {*context.leaving.devices, *before.cell.networks} - set(peers)
    wanted = Interface(cell.interface, context.identity.private, None, cell.listen_port, peers, tunnels.device_addresses(context))
    plan = wireguard.plan_interface(host, wanted, observed, labels, removed, context.now)
    taken_along = (4,) if observed and loses_ipv4(observed, wanted) else ()
    plan.extend(_plan_routes_behind(context, before, bool(observed and observed.up), taken_along))
    if observed and observed.up:
        plan.extend(_plan_own_routes(context, observed))
    return plan


def _plan_own_routes(context: Context, observed: Interface) -> Plan:
    """Plan the routes that the kernel has made with addresses that are there, and somebody has deleted: it does not make them again."""
    plan, kept = Plan(), {wgconfig.plain_network(address) for address in observed.addresses}
    for family, routing in context.routing().items():
        there = {network for device, network in routing.host_networks if device == observed.name}
        routes = [route for route in exits.own_routes(context.wanted.cell) if route.family == family and route.destination in kept - there]
        missing = [route for route in routes if route not in routing.routes]
        plan.extend(batch(family, (("replace", route) for route in missing)))
        plan.describe((), (route.words() for route in missing))
    return plan


def _plan_routes_behind(context: Context, before: State, up: bool, taken_along: Collection[int]) -> Plan:
    """Plan the routes to the networks behind devices.

    up: whether the devices' interface has been up, so that those that it had are still there. taken_along: families whose routes go with its addresses.
    """
    plan, wanted, old = Plan(), exits.device_routes(context.wanted), exits.device_routes(before)
    for family, routing in context.routing().items():
        present = routing.routes if up else ()
        # wg-quick makes them too when it starts the interface.
        theirs = {network for device, network in routing.host_networks if device == context.wanted.cell.interface} if up else set()
        there = [route for route in (*old, *wanted) if route.family == family and (route in present or route.destination in theirs)]
        stale = [route for route in there if route in old and route not in wanted]
        missing = [route for route in wanted if route.family == family and route not in there]
        left = [] if family in taken_along else stale
        taken = [("replace", route) for route in left if route not in present]  # only what is ours is deleted
        plan.extend(batch(family, [*taken, *(("del", route) for route in left), *(("replace", route) for route in missing)]))
        plan.describe((route.words() for route in stale), (route.words() for route in missing))
    return plan


def _words(state: State) -> list[str]:
    cell = state.cell
    lines = [f"admin network {network}" for network in cell.admin_networks]
    if cell.name:
        uplink = f", uplink {cell.uplink}" if cell.uplink else ""
        lines.append(
            f"cell {cell.name}: {', '.join(cell.networks)} on {cell.interface}, port {cell.listen_port}, links from port {cell.link_port_base}{uplink}"
        )
        lines.append(f"cell {cell.name}: endpoint {cell.endpoint or 'none'}, peer-sync port {cell.sync_port}")
        if cell.exit_dns:
            lines.append(f"cell {cell.name}: devices that leave by another cell are answered by {', '.join(cell.exit_dns)}")
        if cell.dns_by_exit:
            lines.append(f"cell {cell.name}: devices that leave by another cell are answered by the resolver of that cell")
        if cell.resolver:
            lines.append(f"cell {cell.name}: cells that use its exit are answered by its resolver {', '.join(cell.resolver)}")
    lines += [f"expectation {line}: stated" for line in cell.expect]
    lines += [f"service {s.name}: {', '.join(s.addresses)} port {s.port}/{s.protocol}" for s in cell.services.values()]
    lines += [f"peer {p.name}: {', '.join(p.addresses)} with key {p.public_key}" for p in state.peers.values()]
    lines += [f"peer {p.name}: networks behind it {', '.join(p.networks)}" for p in state.peers.values() if p.networks]
    lines += [f"peer {p.name}: its DNS is answered by {answered_in_words(p.exit_dns)}" for p in state.peers.values() if p.exit_dns]
    lines += [f"link {link.name}: {link.interface}, port {link.listen_port}" for link in state.links.values()]
    lines += [f"link {link.name}: is to hear that this cell is dialled at {link.moved}" for link in state.links.values() if link.moved]
    networks = ", ".join(cell.own_networks())
    return lines + [f"link {link.name}: is to hear that the networks of this cell are {networks}" for link in state.links.values() if link.known_as]


IDENTITY = Part(
    "identity",
    plan_identity,
    owns=Fields(
        cell=True,
        links=("interface", "listen_port", "moved", "known_as", "told", "forwarded"),
        makes_links=True,
        peers=("public_key", "addresses", "route_via", "route_except", "networks", "exit_dns"),
        makes_peers=True,
        removes_peers=True,
    ),
    merges=(merge.merge_cell, merge.merge_devices, merge.merge_ports),
    words=_words,
)
REPAIR = replace(IDENTITY, name="cell", check=check_key)
