# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge on the controller what the inventory states and what a day-2 playbook is asked for. Raises BadInput, changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.names import check_name, link_interface
from ansible_collections.pic.cells.plugins.module_utils.networks import check_api_url, check_link_networks, parse_address, parse_interface, parse_network
from ansible_collections.pic.cells.plugins.module_utils.records import DIRECT
from ansible_collections.pic.cells.plugins.module_utils.status import CONDITIONS
from ansible_collections.pic.cells.plugins.module_utils.wireguard import check_endpoint, check_preshared_key, check_public_key
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints, schema
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import read_invitation
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import LINK, SITE, WORDS, Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import is_misread, plain, shown

try:
    import netaddr
except ImportError:
    pass  # mesh.HAS_NETADDR says so

INPUTS = ("cell", "remote_cell", "services", "offered", "peer", "via_cell", "invitation", "fail_on")

NEEDED = {
    "link": ("cell", "remote_cell"),
    "unlink": ("cell", "remote_cell"),
    "share": ("cell", "remote_cell", "services"),
    "offer_exit": ("cell", "remote_cell", "offered"),
    "route_peer": ("cell", "peer", "via_cell"),
    "rekey": ("cell",),
    "uninstall": ("cell",),
}
# Playbooks for all cells, or for one that is named; they ask what is on the cells and not what the inventory states.
ON_THE_CELLS = ("replay", "restore", "status")
# Playbooks that do something with one cell as a whole; it has to be named, so that none is meant by mistake.
OF_ONE_CELL = ("rekey", "uninstall")
BEGIN = "begin"
JOBS = (SITE, *NEEDED, *ON_THE_CELLS, BEGIN)
_CELL_INPUTS = ("cell", "remote_cell", "via_cell")
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
        for variable in ("cell_services", "cell_peers", "cell_links"):
            _check_items(mesh, host, variable)
    _check_names(mesh)
    for host in mesh.hosts:
        if host in mesh.play_hosts and not mesh.var(host, "cell_networks"):
            raise BadInput(f"Host {host!r} in group {mesh.group!r} has no cell_networks. Give the cell's own address with prefix, like [10.0.0.1/24].")
        _check_services(mesh, host)
        _check_peers(mesh, host)
        for item in mesh.link_items(host).values():
            _check_link(mesh, host, item)
    _check_unique(_public_keys(mesh), "public_key", "Every cell and device needs a key of its own.")
    _check_unique(_endpoints(mesh), "endpoint", "Two cells cannot answer at one address and port. Correct one of them.")
    endpoints.check_endpoints(mesh)
    for host in mesh.hosts:
        _check_unique(_addresses(mesh, host), "address", "Every device needs one of its own.")
        _check_unique(_interfaces(mesh, host), "interface", "Give one of the links another.")
    _check_overlaps(mesh)
    _check_routes(mesh)
    return [*_unknown_variables(mesh), *endpoints.warnings(mesh), *_services_outside(mesh)]


def read_job(mesh: Mesh, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Turn extra vars (texts, as a survey gives them) into the job that the role carries out, and warnings; no job is for all cells."""
    kind = given["job"]
    asked = {key: _given(key, given[key]) for key in INPUTS if given.get(key) not in (None, "")}
    if kind == SITE:
        return {}, []
    if kind in ON_THE_CELLS:
        chosen: dict[str, Any] = {"host": _host(mesh, asked["cell"])} if "cell" in asked else {}
        return {**chosen, "fail_on": parse_conditions(asked["fail_on"])} if kind == "status" and "fail_on" in asked else chosen, []
    for key in NEEDED[kind]:
        if key not in asked:
            raise BadInput(f"The playbook pic.cells.{kind} needs the variable {key!r}. Give it with -e {key}=…")
    for key in _CELL_INPUTS:
        if key in asked and not (key == "via_cell" and asked[key] == DIRECT):
            check_name(f"{key}:", asked[key])
    host = _host(mesh, asked["cell"])
    if kind in OF_ONE_CELL:
        return {"job": kind, "host": host, "cell": asked["cell"]}, []
    for key in ("remote_cell", "via_cell"):
        if asked.get(key) == asked["cell"]:
            raise BadInput(f"{key}={asked[key]} is the cell itself. Name another cell{', or direct' if key == 'via_cell' else ''}.")
    job: dict[str, Any] = {"job": kind, "host": host, "cell": asked["cell"], "change": {}}
    if kind == "route_peer":
        job.update(peer=check_name("peer:", asked["peer"]), via_cell=asked["via_cell"])
        return _warned(mesh, host, job)
    job["remote_cell"] = asked["remote_cell"]
    if "services" in asked and kind in ("link", "share"):
        job["change"]["share"] = parse_services(asked["services"])
        for service in job["change"]["share"]:
            _check_service_known(mesh, host, service, f"services={asked['services']}")
    if "invitation" in asked and kind == LINK:
        job["invitation"] = True
        job["change"].update(read_invitation(asked["invitation"], asked["remote_cell"]))
        stated = mesh.link_items(host).get(asked["remote_cell"], {})
        _check_networks(f"networks of the invitation of {asked['remote_cell']!r}", job["change"].get("networks"), stated)
    if "offered" in asked and kind in ("link", "offer_exit"):
        job["change"]["offer_exit"] = parse_offered(asked["offered"])
    return _warned(mesh, host, job)


def _given(key: str, value: Any) -> Any:
    """Return what was given for a variable; refuse what is not even a text, which would be taken for another name."""
    if isinstance(value, str) or key in ("services", "invitation", "fail_on") or (key == "offered" and isinstance(value, bool)):
        return plain(value, key)
    raise BadInput(f"{key}={shown(value)} is no text. Put it in quotes.")


def _host(mesh: Mesh, cell: str) -> str:
    """Find the host of a cell; refuse one that no task of this run can reach."""
    host = mesh.host_of.get(cell)
    if host is None:
        known = ", ".join(sorted(mesh.host_of)) or "none"
        raise BadInput(f"cell={cell} is no cell of this inventory. Its cells: {known}. Correct the name, or add the host to the group {mesh.group!r}.")
    if host not in mesh.play_hosts:
        raise BadInput(f"cell={cell} is host {host!r}, which --limit leaves out. Run without --limit, or include that host.")
    return host


def parse_services(value: Any) -> list[str]:
    """Read the complete set of services: a list, or text with commas or newlines; 'none' is the empty set."""
    parts = re.split(r"[,\n]", value) if isinstance(value, str) else _listed(value)
    for part in parts:
        if not isinstance(part, str):
            raise BadInput(f"services: {shown(part)!r} is no text. Put it in quotes.")
    names = [part.strip() for part in parts if part.strip()]
    return [] if names == ["none"] else [check_name("services:", name) for name in names]


def parse_conditions(value: Any) -> list[str]:
    """Read what a report is to fail for: a list, or text with commas or newlines."""
    found = schema.listed(value)
    for word in found:
        if word not in CONDITIONS:
            raise BadInput(f"fail_on: {word!r} is nothing that pic.cells.status can fail for. Give one or more of {', '.join(CONDITIONS)}, with commas.")
    return found


def parse_offered(value: Any) -> bool:
    """Read a boolean as Ansible does."""
    try:
        return bool(boolean(value, strict=True))
    except TypeError:
        raise BadInput(f"offered={shown(value)} is neither true nor false. Give offered=true or offered=false.") from None


def _warned(mesh: Mesh, host: str, job: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the job and the warnings, which the run says once more at its end."""
    contradicts = _contradictions(mesh, host, job)
    return {**job, "contradicts": contradicts}, contradicts


def _contradictions(mesh: Mesh, host: str, job: Mapping[str, Any]) -> list[str]:
    """Warn where the next site run would undo a change because the inventory states otherwise."""
    warnings = []
    stated = mesh.link_items(host).get(job.get("remote_cell", ""), {})
    for key, value in job["change"].items():
        if key in stated and stated[key] is not None and stated[key] != value:
            warnings.append(
                f"The inventory states {key}: {stated[key]} for the link of {job['cell']!r} with {job['remote_cell']!r}; the next site run puts that back."
            )
    if job["job"] == "unlink" and stated and stated.get("state") != "absent":
        warnings.append(f"The inventory states a link of {job['cell']!r} with {job['remote_cell']!r}; the next site run makes it again. State it absent there.")
    for peer in mesh.var(host, "cell_peers") or ():
        if peer.get("name") == job.get("peer") and (peer.get("route_via") or job["via_cell"]) != job["via_cell"]:
            warnings.append(f"The inventory states route_via: {peer['route_via']} for {job['peer']!r}; the next site run puts that back.")
    return warnings


def _check_group(mesh: Mesh) -> None:
    """Refuse hosts that carry out the role and are no cells for the others: nobody would ever find them."""
    strangers = [host for host in mesh.play_hosts if host not in mesh.hosts]
    if strangers:
        raise BadInput(
            f"Host {', '.join(map(repr, strangers[:_SHOWN]))} is not in the group {mesh.group!r}, by which cells know each other. Put it there, "
            f"or name the group that they are in with the variable {schema.GROUP_VARIABLE}."
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
        f"{name} is no variable of a cell, and nothing reads it (host {', '.join(map(repr, hosts[:_SHOWN]))}). "
        + (f"Did you mean {meant}?" if meant else "Correct it, or call it something that does not begin with cell_.")
        for (name, meant), hosts in where.items()
    ]


def _check_items(mesh: Mesh, host: str, variable: str) -> None:
    """Refuse an item that has no name, or that of another one."""
    where = f"{variable} of host {host!r}"
    seen = set()
    for item in mesh.var(host, variable) or ():
        name = _check_name(f"{where}:", item.get("name"))
        if name in seen:
            raise BadInput(f"{where}: {name!r} is there twice. Merge the two, or rename one.")
        seen.add(name)


def _check_name(what: str, value: object) -> str:
    """Refuse a name too that no extra var could hold in every version of Ansible and AWX."""
    name = check_name(what, value)
    if is_misread(name):
        raise BadInput(f"{what} {name!r} is a name that YAML takes for a number, a date, a boolean or null. Choose another name.")
    return name


def _check_names(mesh: Mesh) -> None:
    seen: dict[str, str] = {}
    for host in mesh.hosts:
        if mesh.var(host, "cell_name") is None and netaddr.valid_ipv4(host, netaddr.INET_PTON) | netaddr.valid_ipv6(host):
            raise BadInput(f"Host {host!r} is called by its address, which is no name for a cell. Give it one with cell_name.")
        if host in WORDS:
            raise BadInput(f"Host {host!r} is called by a word that the role keeps for itself. Give it another name in the inventory; cell_name may stay.")
        name = _check_name(f"cell_name of host {host!r}:", mesh.name(host))
        if name in seen:
            raise BadInput(f"Hosts {seen[name]!r} and {host!r} both have the cell name {name!r}. Set cell_name of one of them to another name.")
        seen[name] = host
        for network in mesh.var(host, "cell_networks") or ():
            parse_interface(network, f"cell_networks of host {host!r}")


def _check_services(mesh: Mesh, host: str) -> None:
    for item in mesh.var(host, "cell_services") or ():
        for address in _listed(item.get("address")):
            parse_address(address, f"address of service {item['name']!r} on host {host!r}")


def _services_outside(mesh: Mesh) -> list[str]:
    """Warn of services at addresses that are not routed to linked cells."""
    found = []
    for host in mesh.hosts:
        networks = [netaddr.IPNetwork(network) for network in mesh.networks(host)]
        for item in mesh.var(host, "cell_services") or ():
            outside = [a for a in _listed(item.get("address")) if not any(netaddr.IPAddress(str(parse_address(a, ""))) in network for network in networks)]
            if networks and outside and item.get("state") != "absent":
                found.append(
                    f"Service {item['name']!r} on host {host!r} is at {', '.join(map(str, outside))}, in none of its cell_networks {mesh.networks(host)}. "
                    "Linked cells send only those through the tunnel. Give it an address of the cell or of a device, unless the other cells know better."
                )
    return found


def _check_peers(mesh: Mesh, host: str) -> None:
    for item in mesh.var(host, "cell_peers") or ():
        name = item["name"]
        if item.get("public_key"):
            check_public_key(f"public_key of peer {name!r} on host {host!r}", item["public_key"])
        if item.get("preshared_key"):
            check_preshared_key(f"peer {name!r} on host {host!r}", item["preshared_key"])
        for address in _listed(item.get("addresses")):
            parsed = parse_address(address, f"addresses of peer {name!r} on host {host!r}")
            if not any(netaddr.IPAddress(str(parsed)) in netaddr.IPNetwork(n) for n in mesh.networks(host)):
                raise BadInput(
                    f"Address {address} of peer {name!r} on host {host!r} is in none of its cell_networks {mesh.networks(host)}. Give it one from there."
                )
        for network in _listed(item.get("networks")):
            parse_network(network, f"networks of peer {name!r} on host {host!r}")


def _check_link(mesh: Mesh, host: str, item: Mapping[str, Any]) -> None:
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
    other = mesh.host_of.get(name)
    if item.get("state") != "absent":
        _check_networks(f"networks of {where}", item.get("networks") or (mesh.networks(other) if other else ()), item)
    for service in item.get("share") or ():
        _check_service_known(mesh, host, service, f"share of {where}")
    states = {i.get("state") or "present" for i in _stated_of_pair(mesh, host, other)} if other else set()
    if len(states) > 1:
        raise BadInput(f"The {where} is present on one side and absent on the other. State it alike on both, or on one side only.")


def _check_networks(where: str, networks: Any, link: Mapping[str, Any]) -> None:
    check_link_networks(where, [str(parse_network(network, where)) for network in _listed(networks)], link.get("allow_public_networks") is True)


def _stated_of_pair(mesh: Mesh, host: str, other: str) -> Iterator[Mapping[str, Any]]:
    for one, two in ((host, other), (other, host)):
        yield from (item for item in mesh.var(one, "cell_links") or () if item.get("name") == mesh.name(two))


def _check_service_known(mesh: Mesh, host: str, service: str, where: str) -> None:
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
            yield f"{endpoint}:{mesh.var(host, 'cell_listen_port') or 51820}", f"cell {mesh.name(host)!r}"
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
        for address in _listed(item.get("addresses")) if item.get("state") != "absent" else ():
            yield str(netaddr.IPAddress(str(address))), f"peer {item['name']!r} on host {host!r}"


def _interfaces(mesh: Mesh, host: str) -> Iterator[tuple[str, str]]:
    """Yield the links' own interfaces; that of the devices can be shared."""
    for item in mesh.link_items(host).values():
        interface = item.get("interface") or link_interface(item["name"])
        if item.get("state") != "absent" and interface != (mesh.var(host, "cell_interface") or "wg0"):
            yield interface, f"link {item['name']!r} of host {host!r}"


def _check_unique(pairs: Iterator[tuple[str, str]], what: str, remedy: str) -> None:
    seen: dict[str, str] = {}
    for value, who in pairs:
        if seen.setdefault(value, who) != who:
            raise BadInput(f"{what} {value!r} is stated for {seen[value]} and for {who}. {remedy}")


def _check_overlaps(mesh: Mesh) -> None:
    """Refuse networks that overlap: of visible cells, and of links with cells outside the inventory."""
    entries: list[tuple[str, netaddr.IPNetwork]] = []
    for host in mesh.hosts:
        entries += [(f"cell {mesh.name(host)!r}", netaddr.IPNetwork(network)) for network in mesh.networks(host)]
    outside: dict[str, set[str]] = {}
    for host in mesh.hosts:
        for item in mesh.link_items(host).values():
            if item["name"] not in mesh.host_of and item.get("state") != "absent":
                outside.setdefault(f"link {item['name']!r}", set()).update(_listed(item.get("networks")))
    entries += [(who, netaddr.IPNetwork(network)) for who, networks in outside.items() for network in sorted(networks)]
    for number, (who, network) in enumerate(entries):
        for other_who, other in entries[:number]:
            if network in other or other in network:
                raise BadInput(f"Network {network} of {who} overlaps {other} of {other_who}. Nothing was changed. Give one of them another network.")


def _check_routes(mesh: Mesh) -> None:
    for host in mesh.hosts:
        items = mesh.link_items(host)
        for peer in mesh.var(host, "cell_peers") or ():
            via = peer.get("route_via")
            if not via or via == DIRECT or peer.get("state") == "absent":
                continue
            where = f"route_via of peer {peer['name']!r} on host {host!r}"
            check_name(f"{where}:", via)
            if via == mesh.name(host):
                raise BadInput(f"{where}: {via!r} is the peer's own cell. Name another cell, or direct.")
            other = mesh.host_of.get(via)
            if other is None:
                continue
            if via not in items or items[via].get("state") == "absent":
                raise BadInput(f"{where}: cell {mesh.name(host)!r} has no link with {via!r}. State it in cell_links.")
            stated = [i.get("offer_exit") for i in mesh.var(other, "cell_links") or () if i.get("name") == mesh.name(host)]
            if stated and stated[0] is False:
                raise BadInput(
                    f"{where}: cell {via!r} states that it offers {mesh.name(host)!r} no exit (offer_exit: false). Set it to true there, "
                    "or route the peer direct."
                )


def _listed(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
