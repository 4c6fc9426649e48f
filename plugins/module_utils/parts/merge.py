# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merge what a call says into the records. What is not given (None, an empty text) stays; every value is judged here. Pure.

Each part of a cell names the merges that its plan starts from; all of them raise BadInput naming the item and the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..base import destinations, expectations, names, targets, wgkeys
from ..base.errors import BadInput
from ..base.names import EXIT, OWN
from ..base.networks import (
    LEAST_MTU,
    check_api_url,
    check_host,
    check_link_networks,
    host_port,
    interface_of,
    is_inside,
    is_private,
    network_of,
    outside,
    parse_address,
    parse_interface,
    parse_network,
)
from ..base.rates import parse_rate
from ..base.times import parse_moment
from ..records.model import Cell, Link, Peer, Service, State
from . import claims, near, remains
from .inputs import Args, Inputs
from .peer_sync import MOST_SERVICES

_EXITS = {"exit_failures": (60, "failures"), "exit_hold": (86400, "seconds"), "exit_switches": (60, "switches"), "exit_hold_limit": (86400, "seconds")}


def merge_cell(state: State, inputs: Inputs) -> None:
    """Merge the cell's own settings."""
    args = inputs.cell
    given = _given(args)
    cell = state.cell
    if "name" in given:
        cell.name = names.check_name("Cell", given["name"])
    if "networks" in given:
        cell.networks = [str(parse_interface(n, f"networks of cell {cell.name!r}")) for n in given["networks"]]
    for key in ("interface", "uplink"):
        if key in given:
            setattr(cell, key, names.check_interface(given[key]))
            prefix = given[key][: len(names.LINK_PREFIX)]
            if prefix in (names.LINK_PREFIX, names.BUCKET_PREFIX):
                raise BadInput(f"{key} {given[key]!r} of cell {cell.name!r} begins with {prefix!r}, as interfaces of links do. Name another interface.")
            if given[key] == names.PAIRING:
                raise BadInput(f"{key} {given[key]!r} of cell {cell.name!r} is the interface by which invitations are redeemed. Name another interface.")
    for key in ("listen_port", "link_port_base", "sync_port"):
        if key in given:
            setattr(cell, key, _port(given[key], f"{key} of cell {cell.name!r}"))
    for key, (most, unit) in _EXITS.items():
        if key in given:
            setattr(cell, key, _within(given[key], 1, most, f"{key} of cell {cell.name!r}", unit))
    if "endpoint" in given:
        cell.endpoint = check_host(given["endpoint"], f"endpoint of cell {cell.name!r}")
    if "admin_networks" in given or (args or {}).get("admin_networks") == []:  # an empty list lets nobody in any more
        cell.admin_networks = [str(parse_network(n, f"admin_networks of cell {cell.name!r}")) for n in given.get("admin_networks", ())]
    if (args or {}).get("exit_dns") is not None:
        stated = check_answerers(given.get("exit_dns", []), state, f"exit_dns of cell {cell.name!r}")
        cell.dns_by_exit = stated == [EXIT]
        cell.exit_dns = [] if stated in ([EXIT], [OWN]) else stated
    if (args or {}).get("exit_probes") is not None:  # an empty list asks nobody any more
        cell.exit_probes = targets.read(given.get("exit_probes", []), f"exit_probes of cell {cell.name!r}")
    if (args or {}).get("whoami") is not None:  # likewise
        cell.whoami = targets.read_urls(given.get("whoami", []), f"whoami of cell {cell.name!r}")
    if (args or {}).get("expect") is not None:  # an empty list expects nothing any more
        cell.expect = [one.render() for one in expectations.read(given.get("expect", []), f"expect of cell {cell.name!r}")]
    before = cell.udp_services()
    if (args or {}).get("resolver") is not None:  # an empty list states that there is none any more
        cell.resolver = _one_of_each_family(given.get("resolver", []), f"resolver of cell {cell.name!r}")
    for address in cell.resolver if {"networks", "resolver"} & given.keys() else ():
        if not is_inside(address, cell.own_networks()):
            raise BadInput(
                f"resolver of cell {cell.name!r}: {address} is in none of the cell's networks {', '.join(cell.own_networks())}. "
                "Linked cells reach no other: give an address in these."
            )
    for item in given.get("services", ()):
        _merge_service(cell, item)
    cell.retired = sorted({*cell.retired, *before} - cell.udp_services())


def check_answerers(texts: list[str], state: State, what: str) -> list[str]:
    """Read who answers routed devices: resolvers on the internet, one of each family, or a lone 'exit' or 'own'."""
    if texts in ([], [EXIT], [OWN]):
        return texts
    near = [*state.cell.own_networks(), *(network for link in state.links.values() for network in link.networks)]
    resolvers = _one_of_each_family(texts, what)
    for resolver in resolvers:
        if is_private(network_of(resolver)) or is_inside(resolver, near):
            remedy = f"Give the address of a public resolver, {EXIT!r} for that of the exit, or {OWN!r}"
            raise BadInput(f"{what}: {resolver} is not an address of the internet, so no exit leads to it. {remedy}.")
    return resolvers


def _one_of_each_family(texts: list[str], what: str) -> list[str]:
    addresses = [parse_address(text, what) for text in texts]
    if len({address.version for address in addresses}) < len(addresses):
        raise BadInput(f"{what}: {', '.join(map(str, addresses))} are too many. Give one IPv4 and one IPv6 address at most.")
    return [str(address) for address in addresses]


def merge_devices(state: State, inputs: Inputs) -> None:
    """Merge the devices: names, keys, addresses. Their exits are for merge_routes."""
    stored = state.copy()
    for item in inputs.devices:
        given = _given(item)
        name = names.check_name("Peer", given.get("name"))
        if given.get("state") == "absent":
            state.peers.pop(name, None)
            continue
        peer = state.peers.setdefault(name, Peer(name))
        if given.get("public_key") == wgkeys.GENERATED:
            peer.public_key = wgkeys.GENERATED
        elif "public_key" in given:
            peer.public_key = wgkeys.check_public_key(f"public_key of peer {name!r}", given["public_key"])
        if "addresses" in given:
            peer.addresses = [str(parse_address(a, f"addresses of peer {name!r}")) for a in given["addresses"]]
        if "route_via" in given:
            names.check_exits(f"route_via of peer {name!r}:", given["route_via"])
        if item.get("route_except") is not None:
            destinations.read(item["route_except"], f"route_except of peer {name!r}")
        if item.get("exit_dns") is not None:  # an empty list leaves it to the cell
            peer.exit_dns = check_answerers(given.get("exit_dns", []), state, f"exit_dns of peer {name!r}")
        if item.get("networks") is not None:  # an empty list takes away those that were there
            peer.networks = [str(parse_network(n, f"networks of peer {name!r}")) for n in given.get("networks", ())]
    state.cell.dns_by_device = any(peer.exit_dns for peer in state.peers.values()) or (state.peers_lost and state.cell.dns_by_device)
    remains.check_devices(stored, state)
    _check_peers(state)


def merge_ports(state: State, inputs: Inputs) -> None:
    """Merge which interface and which port each link has: all of a link that the cell's identity needs to know."""
    for item in inputs.present_links:
        _merge_link(state, {key: item.get(key) for key in ("name", "interface", "listen_port")})


def merge_links(state: State, inputs: Inputs) -> None:
    """Merge the facts of links. One that goes is for the plan that ends it."""
    for item in inputs.present_links:
        _merge_link(state, item)


def _merge_link(state: State, item: Args) -> None:
    given = _given(item)
    name = names.check_name("Cell", given.get("name"))
    if name == state.cell.name:
        raise BadInput(f"Cell {name!r} cannot be linked with itself. Name another cell.")
    link = state.links.setdefault(name, Link(name))
    place, key, dialled = (link.networks, link.address, link.remote_api_url), link.public_key, link.endpoint
    if link.provided:
        if set(given) - {"name", "state", "generated"}:
            raise BadInput(f"Link {name!r} has the name of an exit of this cell that is no cell (cell_exits). Choose another name for one of them.")
        return
    derived = api_url(link.address, state.cell.sync_port)
    where = f"link {name!r}"
    if "public_key" in given:
        if link.invited:  # where it was redeemed from is nobody's
            link.networks, link.address = [], []
        link.invited_until, link.judged_claim, link.refused_claim = given.get("invited_until"), [], []
    elif link.invited:  # where the other cell is counts from when it has redeemed its invitation
        given = {key: given[key] for key in given if key not in ("networks", "address", "endpoint", "api_url")}
    if "public_key" in given and given["public_key"] == wgkeys.GENERATED:
        link.public_key = wgkeys.GENERATED
    elif "public_key" in given:
        link.public_key = wgkeys.check_public_key(f"public_key of {where}", given["public_key"])
    if "allow_public_networks" in given:
        link.allow_public_networks = given["allow_public_networks"]
    if "networks" in given:
        has = link.networks, link.address
        link.networks = [str(parse_network(n, f"networks of {where}")) for n in given["networks"]]
        if link.judged_place[1:] == [""] and "count" not in given and not given.get("generated") and outside(has[0], link.networks):
            # Its owner puts back what the other cell has changed within what was set aside for it: it asks for that again.
            link.accept_networks, (link.asked_networks, link.asked_address) = [], has
        # A renumbered cell: an address of before is not held against the new networks. Which one it has there now it may have said.
        inside = [[a for a in known if is_inside(a, link.networks)] for known in (link.address, link.asked_address)]
        link.address = inside[0] or inside[1]
    if "networks" in given or "allow_public_networks" in given:
        check_link_networks(f"networks of {where}", link.networks, link.allow_public_networks or link.invited)
    if item.get("accept_networks") is not None:  # an empty list sets nothing aside any more
        link.accept_networks = [str(parse_network(n, f"accept_networks of {where}")) for n in given.get("accept_networks", ())]
    if "accept_networks" in given or "allow_public_networks" in given:
        claims.check_claimable(f"accept_networks of {where}", link.accept_networks, link.allow_public_networks)
    if "address" in given:
        stated = [str(parse_address(a, f"address of {where}")) for a in given["address"]]
        # The other cell has other networks by now, which is no reason to refuse a run.
        if "networks" not in given and [""] in (link.judged_place[1:], link.judged_claim[1:]):
            stated = [a for a in stated if is_inside(a, link.networks)] or link.address
        link.address = stated
    agreed = not outside(link.asked_networks, link.networks) and set(link.asked_address) <= set(link.address)
    if ("networks" in given or "address" in given) and ("count" in given or agreed):
        link.asked_networks, link.asked_address = [], []
    if "endpoint" in given:
        link.endpoint, link.refused_claim = wgkeys.check_endpoint(where, given["endpoint"]), []
        link.judged_claim = [given["claim"], ""] if "claim" in given else []
    if "keepalive" in given:
        link.keepalive = _within(given["keepalive"], 0, 65535, f"keepalive of {where}", "seconds")
    if "mtu" in given or ({"networks", "accept_networks"} & given.keys() and link.mtu and not link.invited):
        # What the other cell can take counts as its own: it is not to make this value a wrong one.
        least = max([LEAST_MTU[interface_of(network).version] for network in (*link.networks, *link.accept_networks)] or [LEAST_MTU[4]])
        link.mtu = _within(given.get("mtu", link.mtu), least, 65535, f"mtu of {where}", "bytes")
    if "api_url" in given:
        link.remote_api_url = check_api_url(f"api_url of {where}", given["api_url"])
    if "sync_auth" in given:
        link.sync_auth = given["sync_auth"]
    if "interface" in given or link.interface is None:
        interface = names.check_interface(given.get("interface") or names.link_interface(name))
        if link.interface == state.cell.interface != interface:
            link.listen_port = None  # that was the devices'
        link.interface = interface
    if "listen_port" in given:
        link.listen_port = _port(given["listen_port"], f"listen_port of {where}")
    if link.interface != state.cell.interface and not link.interface.startswith("pic-"):
        raise BadInput(
            f"interface {link.interface!r} of {where} is not the devices' interface {state.cell.interface!r} and does not begin with 'pic-', "
            "so the rules do not match it. Leave it out or rename it."
        )
    for address in link.address:
        if link.networks and not is_inside(address, link.networks):
            raise BadInput(f"address {address} of {where} is in none of its networks {', '.join(link.networks)}. Correct one of them.")
    near.check_endpoint(link)
    if link.remote_api_url in (None, derived):
        link.remote_api_url = api_url(link.address, state.cell.sync_port)
    if "count" in given:
        link.heard = claims.heard(link, given, given["claim"])
    replaced = {claims.DIALLED: link.endpoint != dialled, claims.PLACED: (link.networks, link.address, link.remote_api_url) != place}
    if replaced[claims.PLACED] or ("count" in given and "networks" in given):
        link.judged_place = [given["claim"], ""] if "count" in given else []
    if "count" not in given:  # what its owner has replaced is not to be brought again
        link.heard = {what: claims.used_up(known) if replaced[what] else known for what, known in link.heard.items()}
    if key and link.public_key != key:
        link.heard, link.judged_place, link.asked_networks, link.asked_address = {}, [], [], []
        link.accept_networks = link.accept_networks if "accept_networks" in given else []


def merge_rights(state: State, inputs: Inputs) -> None:
    """Merge what linked cells may reach: shares, the offer of an exit, and its use."""
    for item in inputs.rights:
        if item.get("state") != "absent":
            _merge_rights(state, item)


def _merge_rights(state: State, item: Args) -> None:
    given = _given(item)
    link = state.links[given["name"]]
    link.ruled = True
    if item.get("share") == [] or "share" in given:  # an empty list revokes all, an empty text says nothing
        wanted = given.get("share", [])
        for name in wanted:
            if name not in state.cell.services:
                there = ", ".join(sorted(state.cell.services)) or "none"
                raise BadInput(
                    f"Cell {state.cell.name!r} has no service {name!r} to share with {link.name!r}. Its services: {there}. Define it in cell_services."
                )
        if len(set(wanted)) > MOST_SERVICES:
            raise BadInput(f"{len(set(wanted))} services would be shared with {link.name!r}, but {MOST_SERVICES} is the limit. Share fewer.")
        inbound = dict.fromkeys(link.permissions["inbound"], False)
        inbound.update(dict.fromkeys(wanted, True))
        link.permissions = {"inbound": inbound, "outbound": link.permissions["outbound"]}
    for key, what in (("offer_until", "end"), ("offer_rate", "rate")):
        if key in given and given.get("offer_exit") is not True:
            raise BadInput(f"{key} of link {link.name!r} is the {what} of an offer, but offer_exit is not true. Set it to true, or leave {key} out.")
    if "offer_exit" in given:
        link.exit_offered = given["offer_exit"]
        link.exit_offered_until = parse_moment(given["offer_until"], f"offer_until of link {link.name!r}") if "offer_until" in given else None
        link.exit_offered_rate = parse_rate(given["offer_rate"], f"offer_rate of link {link.name!r}") if "offer_rate" in given else None
    if "exit_relay" in given:
        if given["exit_relay"] and given.get("offer_exit") is False:
            raise BadInput(f"exit_relay of link {link.name!r} is on while offer_exit is off. Offer the exit, or turn the relay off.")
        if given["exit_relay"] and not link.exit_offered:
            link.exit_offered, link.exit_offered_until, link.exit_offered_rate = True, None, None
        link.remote_exit_relay_active = given["exit_relay"]


def merge_offers(state: State, inputs: Inputs) -> None:
    """Merge what this run has learned of other cells' offers."""
    for item in inputs.offers:
        if item.get("state") != "absent":
            given = _given(item)
            _merge_link(state, {"name": given.get("name")})
            if "offered" in given:
                state.links[given["name"]].remote_exit_offered = given["offered"]


def merge_routes(state: State, inputs: Inputs) -> None:
    """Merge by which cell each device's internet traffic leaves."""
    for item in inputs.routes:
        given = _given(item)
        name = names.check_name("Peer", given.get("peer"))
        if name not in state.peers and "addresses" not in given:
            known = ", ".join(sorted(state.peers)) or "none"
            raise BadInput(f"Cell {state.cell.name!r} has no peer {name!r}. Its peers: {known}. Define it in cell_peers.")
        peer = state.peers.setdefault(name, Peer(name))
        if "addresses" in given:
            peer.addresses = [str(parse_address(a, f"addresses of peer {name!r}")) for a in given["addresses"]]
        if "via_cell" in given:
            peer.route_via = names.check_exits(f"via_cell of peer {name!r}:", given["via_cell"])
        if item.get("route_except") is not None:  # an empty list takes away those that were there
            peer.route_except = destinations.read(item["route_except"], f"route_except of peer {name!r}")
    near.check_exceptions(state)


def _merge_service(cell: Cell, item: Args) -> None:
    given = _given(item)
    name = names.check_name("Service", given.get("name"))
    if given.get("state") == "absent":
        cell.services.pop(name, None)
        return
    service = cell.services.setdefault(name, Service(name))
    if "address" in given:
        service.addresses = [str(parse_address(a, f"address of service {name!r}")) for a in given["address"]]
    if "port" in given:
        service.port = _port(given["port"], f"port of service {name!r}")
    if "protocol" in given:
        service.protocol = given["protocol"]
    if not service.addresses or not service.port:
        raise BadInput(f"Service {name!r} lacks an address or a port. Give both.")


def _check_peers(state: State) -> None:
    seen: dict[str, str] = dict.fromkeys(state.cell.own_addresses(), f"the cell {state.cell.name!r} itself")
    for peer in state.peers.values():
        for address in peer.addresses:
            if address in seen:
                raise BadInput(f"Address {address} of peer {peer.name!r} already belongs to {seen[address]}. Every device needs an address of its own.")
            seen[address] = f"peer {peer.name!r}"
            if state.cell.networks and not is_inside(address, state.cell.own_networks()):
                raise BadInput(
                    f"Address {address} of peer {peer.name!r} is in none of the cell's networks {', '.join(state.cell.own_networks())}. Give it one "
                    "from these networks."
                )


def api_url(addresses: Sequence[str], port: int) -> str | None:
    """Return where a cell's peer-sync API is unless somebody has said otherwise."""
    if not addresses:
        return None
    first = addresses[0]
    return f"http://{host_port(first, port)}"


def _port(value: Any, what: str) -> int:
    if not 0 < int(value) < 65536:
        raise BadInput(f"{what}: {value!r} is not a port. Give a number from 1 to 65535.")
    return int(value)


def _within(value: Any, least: int, most: int, what: str, unit: str) -> int:
    if not least <= int(value) <= most:
        raise BadInput(f"{what}: {value!r} is out of range. Give {least} to {most} {unit}.")
    return int(value)


def _given(args: Args | None) -> dict[str, Any]:
    """Drop what is not given: None, and the empty text of an unanswered survey question, also within a list."""
    given = {}
    for key, value in (args or {}).items():
        if isinstance(value, (list, tuple)):
            value = [item for item in value if item not in (None, "")]
            if not value:
                continue
        if value not in (None, ""):
            given[key] = value
    return given
