# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge on the controller, before any cell is connected to, what the inventory states. Raises BadInput, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import check_exits, check_name, link_interface
from ansible_collections.pic.cells.plugins.module_utils.base.networks import (
    Overlaps,
    check_api_url,
    check_link_networks,
    interface_of,
    parse_address,
    parse_interface,
    parse_network,
)
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import check_endpoint, check_preshared_key, check_public_key
from ansible_collections.pic.cells.plugins.module_utils.kernel.provided import read as read_provided
from ansible_collections.pic.cells.plugins.module_utils.parts.claims import check_claimable
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints, schema
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import as_list
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import WORDS, Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import is_misread

try:
    import netaddr
except ImportError:
    pass  # mesh.HAS_NETADDR says so

_SHOWN = 12


def check_inventory(mesh: Mesh) -> list[str]:
    """Refuse an inventory that cannot work, over all cells that are visible, and return warnings.

    Every unknown key and wrong type is named at once; of what is wrong beyond that, the first thing.
    """
    _check_group(mesh)
    _check_schema(mesh)
    for host in mesh.hosts:
        mesh.state_dir(host)
    for host in mesh.hosts:
        for variable in ("cell_services", "cell_peers", "cell_links", "cell_exits"):
            _check_items(mesh, host, variable)
    _check_names(mesh)
    sound: set[tuple[tuple[Any, ...], bool]] = set()  # networks that links can have, and whether public ones are allowed
    for host in mesh.hosts:
        if host in mesh.play_hosts and not mesh.var(host, "cell_networks"):
            raise BadInput(f"Host {host!r} in group {mesh.group!r} has no cell_networks. Give the cell's own address with prefix, like [10.0.0.1/24].")
        _check_services(mesh, host)
        _check_peers(mesh, host)
        for item in mesh.link_items(host).values():
            _check_link(mesh, host, item, sound)
        for item in mesh.provided(host).values():
            _check_exit(mesh, host, item)
    _check_unique(_public_keys(mesh), "public_key", "Every cell and device needs a key of its own.")
    _check_unique(_endpoints(mesh), "endpoint", "Two cells cannot answer at one address and port. Correct one of them.")
    endpoints.check_endpoints(mesh)
    for host in mesh.hosts:
        _check_unique(_addresses(mesh, host), "address", "Every device needs one of its own.")
        _check_unique(_interfaces(mesh, host), "interface", "Give one of the links another.")
    _check_overlaps(mesh)
    _check_routes(mesh)
    return [*_unknown_variables(mesh), *endpoints.warnings(mesh), *_services_outside(mesh)]


def _check_group(mesh: Mesh) -> None:
    """Refuse hosts that carry out the role and are no cells for the others: nobody would ever find them."""
    strangers = [host for host in mesh.play_hosts if host not in mesh.hosts]
    if strangers:
        raise BadInput(
            f"Host {', '.join(map(repr, strangers[:_SHOWN]))} is not in the group {mesh.group!r}, in which cells find each other. Add it to that "
            f"group, or set {schema.GROUP_VARIABLE} to the group that your cells are in."
        )


def _check_schema(mesh: Mesh) -> None:
    """Refuse keys that no item has and values of a wrong type, all of them in one sentence each."""
    found = [sentence for host in mesh.hosts for variable in schema.options() for sentence in schema.problems(variable, mesh.stated(host, variable), host)]
    more = f" And {len(found) - _SHOWN} more." if len(found) > _SHOWN else ""
    if found:
        raise BadInput(" ".join(found[:_SHOWN]) + more)


def _unknown_variables(mesh: Mesh) -> list[str]:
    """Warn of variables that look like one of a cell, and that the role does not know."""
    where: dict[tuple[str, str], list[str]] = {}
    for host in mesh.hosts:
        for entry in schema.unknown(mesh.variables(host)):
            where.setdefault(entry, []).append(host)
    return [
        f"{name} is not a variable of the role, so nothing reads it (host {', '.join(map(repr, hosts[:_SHOWN]))}). "
        + (f"Did you mean {meant}?" if meant else "Correct it, or give it a name that does not begin with cell_.")
        for (name, meant), hosts in where.items()
    ]


def _check_items(mesh: Mesh, host: str, variable: str) -> None:
    """Refuse an item that has no name, or that of another one."""
    where = f"{variable} of host {host!r}"
    seen = set()
    for item in mesh.var(host, variable) or ():
        name = _check_name(f"{where}:", item.get("name"))
        if name in seen:
            raise BadInput(f"{where}: {name!r} is given twice. Merge the two, or rename one.")
        seen.add(name)


def _check_name(what: str, value: object) -> str:
    """Refuse a name too that no extra var could hold in every version of Ansible and AWX."""
    name = check_name(what, value)
    if is_misread(name):
        raise BadInput(f"{what} {name!r} is a name that YAML reads as a number, a date, a boolean or null. Choose another name.")
    return name


def _check_names(mesh: Mesh) -> None:
    seen: dict[str, str] = {}
    for host in mesh.hosts:
        if mesh.var(host, "cell_name") is None and netaddr.valid_ipv4(host, netaddr.INET_PTON) | netaddr.valid_ipv6(host):
            raise BadInput(f"Host {host!r} has an address as its inventory name, which cannot be the name of a cell. Set cell_name.")
        if host in WORDS:
            raise BadInput(f"Host {host!r} has an inventory name that the role reserves for itself. Give it another name in the inventory; cell_name may stay.")
        name = _check_name(f"cell_name of host {host!r}:", mesh.name(host))
        if name in seen:
            raise BadInput(f"Hosts {seen[name]!r} and {host!r} both have the cell name {name!r}. Set cell_name of one of them to another name.")
        seen[name] = host
        for network in mesh.var(host, "cell_networks") or ():
            parse_interface(network, f"cell_networks of host {host!r}")


def _check_services(mesh: Mesh, host: str) -> None:
    for item in mesh.var(host, "cell_services") or ():
        for address in as_list(item.get("address")):
            parse_address(address, f"address of service {item['name']!r} on host {host!r}")


def _services_outside(mesh: Mesh) -> list[str]:
    """Warn of services at addresses that are not routed to linked cells."""
    found = []
    for host in mesh.hosts:
        networks = [netaddr.IPNetwork(network) for network in mesh.networks(host)]
        for item in mesh.var(host, "cell_services") or ():
            outside = [a for a in as_list(item.get("address")) if not any(netaddr.IPAddress(str(parse_address(a, ""))) in network for network in networks)]
            if networks and outside and item.get("state") != "absent":
                found.append(
                    f"Service {item['name']!r} on host {host!r} is at {', '.join(map(str, outside))}, in none of its cell_networks {mesh.networks(host)}. "
                    "Linked cells send only traffic to those networks through the tunnel. Give the service an address of the cell or of a device, unless "
                    "the other cells have been told of more networks."
                )
    return found


def _check_peers(mesh: Mesh, host: str) -> None:
    for item in mesh.var(host, "cell_peers") or ():
        name = item["name"]
        if item.get("public_key"):
            check_public_key(f"public_key of peer {name!r} on host {host!r}", item["public_key"])
        if item.get("preshared_key"):
            check_preshared_key(f"peer {name!r} on host {host!r}", item["preshared_key"])
        for address in as_list(item.get("addresses")):
            parsed = parse_address(address, f"addresses of peer {name!r} on host {host!r}")
            if not any(netaddr.IPAddress(str(parsed)) in netaddr.IPNetwork(n) for n in mesh.networks(host)):
                raise BadInput(
                    f"Address {address} of peer {name!r} on host {host!r} is in none of its cell_networks {mesh.networks(host)}. Give it one from there."
                )
        for network in as_list(item.get("networks")):
            parse_network(network, f"networks of peer {name!r} on host {host!r}")


def _check_link(mesh: Mesh, host: str, item: Mapping[str, Any], sound: set[tuple[tuple[Any, ...], bool]]) -> None:
    name = item["name"]
    where = f"link {name!r} of host {host!r}"
    if name == mesh.name(host):
        raise BadInput(f"The {where} is a link with itself. Name another cell.")
    if item.get("public_key"):
        check_public_key(f"public_key of {where}", item["public_key"])
    if item.get("preshared_key"):
        check_preshared_key(where, item["preshared_key"])
    if item.get("endpoint"):
        check_endpoint(where, item["endpoint"])
    if item.get("api_url"):
        check_api_url(f"api_url of {where}", item["api_url"])
    if item.get("accept_networks"):
        beside = [key for key in ("networks", "address", "api_url") if item.get(key)]
        if beside:
            raise BadInput(
                f"The {where} states {', '.join(beside)} beside accept_networks: the next run would put back what that cell has changed by itself. Leave "
                f"{'these' if len(beside) > 1 else 'that'} out, as the cell's record keeps what the link has, or leave accept_networks out."
            )
        check_networks(f"accept_networks of {where}", item["accept_networks"], item)
        check_claimable(f"accept_networks of {where}", as_list(item["accept_networks"]), item.get("allow_public_networks") is True)
    other = mesh.host_of.get(name)
    if item.get("state") != "absent":
        networks = item.get("networks") or (mesh.networks(other) if other else ())
        judged = (tuple(as_list(networks)), item.get("allow_public_networks") is True)
        if judged not in sound:  # those of a cell are the networks of each link with it
            check_networks(f"networks of {where}", networks, item)
            sound.add(judged)
    for service in item.get("share") or ():
        check_service_known(mesh, host, service, f"share of {where}")
    states = {i.get("state") or "present" for i in _stated_of_pair(mesh, host, other)} if other else set()
    if len(states) > 1:
        raise BadInput(f"The {where} is present on one side and absent on the other. Give both sides the same state, or define the link on one side only.")


def _check_exit(mesh: Mesh, host: str, item: Mapping[str, Any]) -> None:
    """Refuse an exit that has the name of a cell, or no file of a provider that can be used."""
    name = item["name"]
    where = f"exit {name!r} of host {host!r}"
    if name in mesh.host_of or name in mesh.link_items(host):
        raise BadInput(f"The {where} has the name of a cell. Exits and cells share one space of names; give the exit another.")
    if (item.get("config") is None) == (item.get("config_file") is None):
        raise BadInput(f"The {where} needs either config or config_file. Give the text of the provider's WireGuard file, or its path on the cell.")
    if item.get("config") is not None:
        read_provided(item["config"], f"config of {where}")
    elif not str(item["config_file"]).startswith("/"):
        raise BadInput(f"config_file of {where}: {item['config_file']!r} is not an absolute path. Give the path of the file on the cell.")


def check_networks(where: str, networks: Any, link: Mapping[str, Any]) -> None:
    """Refuse networks that no link can have. where: what they are called in the sentence."""
    check_link_networks(where, [str(parse_network(network, where)) for network in as_list(networks)], link.get("allow_public_networks") is True)


def _stated_of_pair(mesh: Mesh, host: str, other: str) -> Iterator[Mapping[str, Any]]:
    for one, two in ((host, other), (other, host)):
        item = mesh.stated_link(one, mesh.name(two))
        if item is not None:
            yield item


def check_service_known(mesh: Mesh, host: str, service: str, where: str) -> None:
    """Refuse a service that a host's cell does not have. where: what names it."""
    known = {item["name"] for item in mesh.var(host, "cell_services") or () if item.get("state") != "absent"}
    if service not in known:
        raise BadInput(
            f"{where}: cell {mesh.name(host)!r} has no service {service!r}. Its services: {', '.join(sorted(known)) or 'none'}. Define it in cell_services."
        )


def _public_keys(mesh: Mesh) -> Iterator[tuple[str, str]]:
    foreign: dict[str, str] = {}
    for host in mesh.hosts:
        for item in mesh.var(host, "cell_peers") or ():
            if item.get("public_key") and item.get("state") != "absent":
                yield item["public_key"], f"peer {item['name']!r} on host {host!r}"
        for item in mesh.var(host, "cell_links") or ():
            if item.get("public_key"):
                foreign.setdefault(item["public_key"], str(item["name"]))
                if foreign[item["public_key"]] != item["name"]:
                    yield item["public_key"], f"link {foreign[item['public_key']]!r}"
                    yield item["public_key"], f"link {item['name']!r} on host {host!r}"
    for key, name in foreign.items():
        yield key, f"link {name!r}"


def _endpoints(mesh: Mesh) -> Iterator[tuple[str, str]]:
    for host in mesh.hosts:
        endpoint = mesh.var(host, "cell_endpoint")
        if endpoint:
            yield f"{endpoint}:{mesh.var(host, 'cell_listen_port') or Cell.listen_port}", f"cell {mesh.name(host)!r}"
    seen: dict[tuple[str, str], str] = {}
    for host in mesh.hosts:
        for item in mesh.var(host, "cell_links") or ():
            if item.get("endpoint") and seen.setdefault((host, item["endpoint"]), item["name"]) != item["name"]:
                yield item["endpoint"], f"link {seen[host, item['endpoint']]!r} on host {host!r}"
                yield item["endpoint"], f"link {item['name']!r} on host {host!r}"


def _addresses(mesh: Mesh, host: str) -> Iterator[tuple[str, str]]:
    """Yield the addresses of a host's cell and devices."""
    for address in mesh.addresses(host):
        yield address, f"cell {mesh.name(host)!r} itself"
    for item in mesh.var(host, "cell_peers") or ():
        for address in as_list(item.get("addresses")) if item.get("state") != "absent" else ():
            yield str(netaddr.IPAddress(str(address))), f"peer {item['name']!r} on host {host!r}"


def _interfaces(mesh: Mesh, host: str) -> Iterator[tuple[str, str]]:
    """Yield the links' own interfaces; that of the devices can be shared."""
    for item in mesh.link_items(host).values():
        interface = item.get("interface") or link_interface(item["name"])
        if item.get("state") != "absent" and interface != (mesh.var(host, "cell_interface") or Cell.interface):
            yield interface, f"link {item['name']!r} of host {host!r}"


def _check_unique(pairs: Iterator[tuple[str, str]], what: str, remedy: str) -> None:
    seen: dict[str, str] = {}
    for value, who in pairs:
        if seen.setdefault(value, who) != who:
            raise BadInput(f"{what} {value!r} is given for {seen[value]} and for {who}. {remedy}")


def _check_overlaps(mesh: Mesh) -> None:
    """Refuse networks that overlap: of visible cells, and of links with cells outside the inventory."""
    entries = [(f"cell {mesh.name(host)!r}", network) for host in mesh.hosts for network in mesh.networks(host)]
    outside: dict[str, set[str]] = {}
    for host in mesh.hosts:
        for item in mesh.link_items(host).values():
            if item["name"] not in mesh.host_of and item.get("state") != "absent":
                outside.setdefault(f"link {item['name']!r}", set()).update(as_list(item.get("networks")))
    entries += [(who, network) for who, networks in outside.items() for network in sorted(networks)]
    known = Overlaps()
    for who, text in entries:
        network = interface_of(text).network
        for other, other_who in known.of(network):
            raise BadInput(f"Network {network} of {who} overlaps {other} of {other_who}. Nothing was changed. Give one of them another network.")
        known.add(network, who)


def _check_routes(mesh: Mesh) -> None:
    for host in mesh.hosts:
        items = mesh.link_items(host)
        for peer in mesh.var(host, "cell_peers") or ():
            if peer.get("state") == "absent":
                continue
            of = f"of peer {peer['name']!r} on host {host!r}"
            stated = check_exits(f"route_via {of}:", peer["route_via"]) if peer.get("route_via") is not None else []
            ways = [(f"route_via {of}", via) for via in stated]
            ways += [(f"route_except {of}", item["via"]) for item in peer.get("route_except") or ()]
            for where, via in ways:
                if via == mesh.name(host):
                    raise BadInput(f"{where}: {via!r} is the peer's own cell. Name another cell, or direct.")
                other = mesh.host_of.get(via)
                if other is None:
                    continue
                if via not in items or items[via].get("state") == "absent":
                    raise BadInput(f"{where}: cell {mesh.name(host)!r} has no link with {via!r}. Add it to cell_links.")
                if (mesh.stated_link(other, mesh.name(host)) or {}).get("offer_exit") is False:
                    raise BadInput(f"{where}: cell {via!r} has offer_exit: false for {mesh.name(host)!r}. Set it to true there, or route the peer direct.")
