# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay what was asked for over the records. What is not given (None, an empty text) stays; every value is judged here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from . import names, remains, wireguard
from .errors import BadInput
from .networks import (
    address_of,
    check_api_url,
    check_host,
    check_link_networks,
    conflicts,
    host_port,
    interface_of,
    network_of,
    parse_address,
    parse_interface,
    parse_network,
)
from .peer_sync import MOST_SERVICES
from .records import DIRECT, Cell, Link, Peer, Service, State

Args = Mapping[str, Any]
MIN_MTU = {4: 576, 6: 1280}  # bytes that every host has to take (RFC 791, RFC 8200)


def lay_cell(state: State, args: Args | None) -> None:
    """Lay the cell's own settings over its record. Raises BadInput naming the setting."""
    given = _given(args)
    cell = state.cell
    if "name" in given:
        cell.name = names.check_name("Cell", given["name"])
    if "networks" in given:
        cell.networks = [str(parse_interface(n, f"networks of cell {cell.name!r}")) for n in given["networks"]]
    for key in ("interface", "uplink"):
        if key in given:
            setattr(cell, key, names.check_interface(given[key]))
            if given[key].startswith("pic-"):
                raise BadInput(f"{key} {given[key]!r} of cell {cell.name!r} begins with 'pic-', which the rules take for a link. Name another interface.")
    for key in ("listen_port", "link_port_base", "sync_port"):
        if key in given:
            setattr(cell, key, _port(given[key], f"{key} of cell {cell.name!r}"))
    if "endpoint" in given:
        cell.endpoint = check_host(given["endpoint"], f"endpoint of cell {cell.name!r}")
    if "admin_networks" in given or (args or {}).get("admin_networks") == []:  # an empty list lets nobody in any more
        cell.admin_networks = [str(parse_network(n, f"admin_networks of cell {cell.name!r}")) for n in given.get("admin_networks", ())]
    before = cell.udp_services()
    for item in given.get("services", ()):
        _lay_service(cell, item)
    cell.retired = sorted({*cell.retired, *before} - cell.udp_services())


def lay_peers(state: State, items: Iterable[Args], stored: State) -> None:
    """Lay devices over the registry: names, keys, addresses. Raises BadInput naming the device. stored: the registry as it is."""
    for item in items:
        given = _given(item)
        name = names.check_name("Peer", given.get("name"))
        if given.get("state") == "absent":
            state.peers.pop(name, None)
            continue
        peer = state.peers.setdefault(name, Peer(name))
        if "public_key" in given:
            peer.public_key = wireguard.check_public_key(f"public_key of peer {name!r}", given["public_key"])
        if "addresses" in given:
            peer.addresses = [str(parse_address(a, f"addresses of peer {name!r}")) for a in given["addresses"]]
        if given.get("route_via", DIRECT) != DIRECT:
            names.check_name(f"route_via of peer {name!r}:", given["route_via"])
        if item.get("networks") is not None:  # an empty list takes away those that were there
            peer.networks = [str(parse_network(n, f"networks of peer {name!r}")) for n in given.get("networks", ())]
    remains.check_devices(stored, state)
    _check_peers(state)


def lay_link(state: State, item: Args) -> Link:
    """Lay the facts of one link over its record. Raises BadInput naming the link and the value."""
    given = _given(item)
    name = names.check_name("Cell", given.get("name"))
    if name == state.cell.name:
        raise BadInput(f"Cell {name!r} cannot be linked with itself. Name another cell.")
    link = state.links.setdefault(name, Link(name))
    derived = api_url(link.address, state.cell.sync_port)
    where = f"link {name!r}"
    if "public_key" in given and given["public_key"] == wireguard.GENERATED:
        link.public_key = wireguard.GENERATED
    elif "public_key" in given:
        link.public_key = wireguard.check_public_key(f"public_key of {where}", given["public_key"])
    if "allow_public_networks" in given:
        link.allow_public_networks = given["allow_public_networks"]
    if "networks" in given:
        link.networks = [str(parse_network(n, f"networks of {where}")) for n in given["networks"]]
        # A renumbered cell: an address of before is not held against the new networks.
        link.address = [a for a in link.address if _inside(a, link.networks)]
    if "networks" in given or "allow_public_networks" in given:
        check_link_networks(f"networks of {where}", link.networks, link.allow_public_networks)
    if "address" in given:
        link.address = [str(parse_address(a, f"address of {where}")) for a in given["address"]]
    if "endpoint" in given:
        link.endpoint = wireguard.check_endpoint(where, given["endpoint"])
    if "keepalive" in given:
        link.keepalive = _within(given["keepalive"], 0, 65535, f"keepalive of {where}", "seconds")
    if "mtu" in given:
        least = max([MIN_MTU[interface_of(network).version] for network in link.networks] or [MIN_MTU[4]])
        link.mtu = _within(given["mtu"], least, 65535, f"mtu of {where}", "bytes")
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
            f"interface {link.interface!r} of {where} is neither the devices' interface {state.cell.interface!r} nor begins with 'pic-', "
            "which the rules match. Leave it out or rename it."
        )
    for address in link.address:
        if link.networks and not _inside(address, link.networks):
            raise BadInput(f"address {address} of {where} is in none of its networks {', '.join(link.networks)}. Correct one of them.")
    _check_endpoint_outside(link)
    if link.remote_api_url in (None, derived):
        link.remote_api_url = api_url(link.address, state.cell.sync_port)
    return link


def lay_permissions(state: State, item: Args) -> None:
    """Lay shares, the exit offer and its use over a link's record. Raises BadInput for a service that is not there."""
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
            raise BadInput(f"{len(set(wanted))} services are to be shared with {link.name!r}, which takes word of {MOST_SERVICES} at most. Share fewer.")
        inbound = dict.fromkeys(link.permissions["inbound"], False)
        inbound.update(dict.fromkeys(wanted, True))
        link.permissions = {"inbound": inbound, "outbound": link.permissions["outbound"]}
    if "offer_exit" in given:
        link.exit_offered = given["offer_exit"]
    if "exit_relay" in given:
        if given["exit_relay"] and given.get("offer_exit") is False:
            raise BadInput(f"exit_relay of link {link.name!r} is on while offer_exit is off. Offer the exit, or turn the relay off.")
        link.exit_offered = link.exit_offered or given["exit_relay"]
        link.remote_exit_relay_active = given["exit_relay"]


def lay_offers(state: State, items: Iterable[Args]) -> None:
    """Lay over the records what this run has learned of other cells' offers."""
    for item in items:
        given = _given(item)
        if "offered" in given and given.get("name") in state.links:
            state.links[given["name"]].remote_exit_offered = given["offered"]


def lay_route(state: State, item: Args) -> Peer:
    """Lay the way of one device over its record. Raises BadInput for an unknown device or a name that is none."""
    given = _given(item)
    name = names.check_name("Peer", given.get("peer"))
    if name not in state.peers and "addresses" not in given:
        known = ", ".join(sorted(state.peers)) or "none"
        raise BadInput(f"Cell {state.cell.name!r} has no peer {name!r}. Its peers: {known}. Define it in cell_peers.")
    peer = state.peers.setdefault(name, Peer(name))
    if "addresses" in given:
        peer.addresses = [str(parse_address(a, f"addresses of peer {name!r}")) for a in given["addresses"]]
    if "via_cell" in given:
        peer.route_via = None if given["via_cell"] == DIRECT else names.check_name("Cell", given["via_cell"])
    return peer


def check_keys(state: State, own_key: str | None, kernel: Mapping[str, wireguard.Interface]) -> None:
    """Refuse a key that is the cell's own, or that two links, two devices or somebody else's peer share."""
    holders: dict[str, str] = {own_key: f"this cell {state.cell.name!r} itself"} if own_key else {}
    ours = {link.interface for link in state.links.values()} | {state.cell.interface}
    entries = [(f"peer {peer.name!r}", peer.public_key) for peer in state.peers.values()]
    entries += [(f"link {link.name!r}", link.public_key) for link in state.links.values()]
    for who, key in entries:
        if key is None or key == wireguard.GENERATED:
            continue
        if key in holders:
            raise BadInput(f"public_key of {who}: {key!r} is already the key of {holders[key]}. Every cell and device needs a key of its own.")
        holders[key] = who
    for name, interface in kernel.items():
        if name in ours or name.startswith("pic-"):
            continue
        for key in interface.peers:
            if key in holders:
                raise BadInput(
                    f"public_key of {holders[key]}: {key!r} is already a peer of interface {name!r} of this host. Use another key or remove that peer."
                )


def check_links(state: State, kernel: Mapping[str, wireguard.Interface], leaving: Collection[str] = ()) -> None:
    """Refuse an interface or a port that two links would have, and a port that another interface still has. leaving: links that go in this run."""
    interfaces: dict[str | None, str] = {state.cell.interface: f"the devices' interface {state.cell.interface!r}"}
    ports: dict[int | None, str] = {state.cell.listen_port: state.cell.interface}
    for name, link in sorted(state.links.items()):
        if link.interface == state.cell.interface or name in leaving:
            continue
        if link.interface in interfaces:
            raise BadInput(f"interface {link.interface!r} of link {name!r} is already that of {interfaces[link.interface]}. Give one of them another.")
        if link.listen_port in ports:
            holder = interfaces[ports[link.listen_port]]
            raise BadInput(f"listen_port {link.listen_port} of link {name!r} is already that of {holder}. Give one of them another.")
        interfaces[link.interface] = f"link {name!r}"
        ports[link.listen_port] = str(link.interface)
    for name, interface in kernel.items():
        owner = ports.get(interface.listen_port, name)
        # An interface that no link has any more goes first and takes its port along.
        if owner != name and (name in interfaces or not name.startswith("pic-")):
            raise BadInput(f"Port {interface.listen_port} of interface {owner!r} is still that of {name!r}. Give that one another port in a run of its own.")


def check_networks(state: State, host_networks: Mapping[str, Iterable[str]]) -> None:
    """Refuse networks of the cell and its links that overlap each other or a network of the host."""
    wanted: dict[str, Iterable[str]] = {f"this cell {state.cell.name!r}": state.cell.networks}
    wanted.update({f"link {name!r}": link.networks for name, link in sorted(state.links.items())})
    wanted.update({f"peer {name!r}": peer.networks for name, peer in sorted(state.peers.items()) if peer.networks})
    found = conflicts(wanted, host_networks)
    if found:
        raise BadInput("; ".join(f"The {sentence}" for sentence in found) + ". Nothing was changed. Give one of them another network.")


def _lay_service(cell: Cell, item: Args) -> None:
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
                raise BadInput(f"Address {address} of peer {peer.name!r} is already that of {seen[address]}. Every device needs an address of its own.")
            seen[address] = f"peer {peer.name!r}"
            if state.cell.networks and not _inside(address, state.cell.own_networks()):
                raise BadInput(
                    f"Address {address} of peer {peer.name!r} is in none of the cell's networks {', '.join(state.cell.own_networks())}. Give it one from there."
                )


def _check_endpoint_outside(link: Link) -> None:
    host = (link.endpoint or "").rpartition(":")[0].strip("[]")
    try:
        address = address_of(host)
    except ValueError:
        return
    for network in link.networks:
        if address in network_of(network):
            raise BadInput(
                f"endpoint {link.endpoint!r} of link {link.name!r} lies in the link's own network {network}, which would be a loop. "
                "Give the address outside the tunnel."
            )


def _inside(address: str, networks: Iterable[str]) -> bool:
    return any(interface_of(address).ip in interface_of(n).network for n in networks)


def api_url(addresses: Sequence[str], port: int) -> str | None:
    """Return where a cell's peer-sync API is unless somebody has said otherwise."""
    if not addresses:
        return None
    first = addresses[0]
    return f"http://{host_port(first, port)}"


def _port(value: Any, what: str) -> int:
    if not 0 < int(value) < 65536:
        raise BadInput(f"{what}: {value!r} is no port. Give a number from 1 to 65535.")
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
