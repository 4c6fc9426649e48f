# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where cells are dialled: which endpoints cannot be, which two cells would answer at one port, and which links nobody can begin."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.networks import check_host
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell
from ansible_collections.pic.cells.plugins.plugin_utils.participants import Participants

LINKS_PORT = Cell.link_port_base


def check_endpoints(mesh: Participants) -> None:
    """Refuse what is no name or address alone, and cells at one endpoint whose links would be dialled at one port."""
    for host in mesh.hosts:
        if mesh.var(host, "cell_endpoint"):
            check_host(mesh.var(host, "cell_endpoint"), f"cell_endpoint of host {host!r}")
        for item in mesh.var(host, "cell_links") or ():
            for key in ("listen_port", "endpoint_port"):
                if not 0 < item.get(key, 1) < 65536:
                    raise BadInput(f"{key} of link {item['name']!r} of host {host!r}: {item[key]!r} is not a port. Give a number from 1 to 65535.")
    for one, two, endpoint in _neighbours(mesh):
        for (ports, what), (others, whose) in itertools.product(_stated_ports(mesh, one), _stated_ports(mesh, two)):
            both = sorted({*ports} & {*others})
            if both:
                raise BadInput(
                    f"Port {both[0]} at {endpoint} would belong to {what} and to {whose}: both cells have the same cell_endpoint. Give one of them another "
                    "cell_link_port_base, or its links a listen_port. If a router forwards other ports, set endpoint_port of the link."
                )


def refusals(mesh: Participants) -> Iterator[str]:
    """Yield which links of cells at one endpoint have one port, by what their records say of them."""
    for one, two, endpoint in _neighbours(mesh):
        kept = dict(_kept_ports(mesh, one))
        for port, whose in _kept_ports(mesh, two):
            if port in kept:
                yield (
                    f"Port {port} at {endpoint} belongs to {kept[port]} and to {whose}: both cells have the same cell_endpoint. Set listen_port of one of "
                    "these links in cell_links, or endpoint_port if a router forwards another port."
                )


def port_of(mesh: Participants, host: str, name: str) -> int | None:
    """Return the port at which a host's link is dialled where the inventory says that it is not the link's own."""
    port: int | None = (mesh.link_item(host, name) or {}).get("endpoint_port")
    return port


def warnings(mesh: Participants) -> list[str]:
    """Warn of links of which the inventory states no endpoint on either side."""
    found = {}
    for host in mesh.hosts:
        for name, item in mesh.link_items(host).items():
            other = mesh.host_of.get(name)
            if item.get("state") == "absent" or (other is None and not item.get("public_key")) or _dialled(mesh, host, name):
                continue
            pair = sorted((mesh.name(host), name))
            found[tuple(pair)] = (
                f"Neither end of the link of {pair[0]!r} with {pair[1]!r} has an endpoint in the inventory, so neither can dial the other. "
                f"Give the cell that can be reached a cell_endpoint{' (or the link an endpoint)' if other is None else ''}."
            )
    return list(found.values())


def undialled(mesh: Participants, host: str, links: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the cells with which a host's cell has a link that nobody can begin, by inventory and records. links: those of this run."""
    found = []
    for link in links:
        name = str(link["name"])
        other = mesh.host_of.get(name)
        known = link.get("endpoint") or not link.get("public_key") or link.get("state") == "absent" or _dialled(mesh, host, name)
        if not (known or _recorded(mesh, host, name) or (other and _recorded(mesh, other, mesh.name(host)))):
            found.append(name)
    return found


def _dialled(mesh: Participants, host: str, name: str) -> bool:
    """Tell whether the inventory states an endpoint for one of a link's ends."""
    other = mesh.host_of.get(name)
    stated: list[Any] = [mesh.var(host, "cell_endpoint"), (mesh.link_item(host, name) or {}).get("endpoint")]
    if other is not None:
        stated += [mesh.var(other, "cell_endpoint"), (mesh.link_item(other, mesh.name(host)) or {}).get("endpoint")]
    return any(stated)


def _recorded(mesh: Participants, host: str, name: str) -> bool:
    return bool(mesh.read(host).get("links", {}).get(name, {}).get("endpoint"))


def _neighbours(mesh: Participants) -> Iterator[tuple[str, str, str]]:
    """Yield pairs of hosts that have one endpoint."""
    at: dict[str, list[str]] = {}
    for host in mesh.hosts:
        if mesh.var(host, "cell_endpoint"):
            at.setdefault(str(mesh.var(host, "cell_endpoint")).lower().rstrip("."), []).append(host)
    for endpoint, hosts in at.items():
        for one, two in itertools.combinations(hosts, 2):
            yield one, two, endpoint


def _stated_ports(mesh: Participants, host: str) -> Iterator[tuple[range, str]]:
    """Yield the ports at which others dial a host's links, and whose they are; those that the cell chooses lie one after another."""
    left = 0
    for name, item in mesh.link_items(host).items():
        port = _own_port(mesh, host, item)
        if item.get("state") != "absent" and port:
            yield range(port, port + 1), f"link {name!r} of cell {mesh.name(host)!r}"
        left += item.get("state") != "absent" and not port
    base = mesh.var(host, "cell_link_port_base") or LINKS_PORT
    yield range(base, base + left), f"the links of cell {mesh.name(host)!r} (from {base} on)"


def _kept_ports(mesh: Participants, host: str) -> Iterator[tuple[int, str]]:
    for name, item in mesh.link_items(host).items():
        port = _own_port(mesh, host, item) or mesh.read(host).get("links", {}).get(name, {}).get("listen_port")
        if item.get("state") != "absent" and port:
            yield port, f"link {name!r} of cell {mesh.name(host)!r}"


def _own_port(mesh: Participants, host: str, item: Mapping[str, Any]) -> int | None:
    if item.get("interface") == (mesh.var(host, "cell_interface") or Cell.interface):
        return item.get("endpoint_port") or mesh.var(host, "cell_listen_port") or Cell.listen_port
    return item.get("endpoint_port") or item.get("listen_port")
