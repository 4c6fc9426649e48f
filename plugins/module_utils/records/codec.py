# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as files have them: reading what any version wrote, and writing it. Raises ValueError for what is no record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from ..base.names import DIRECT
from .model import Cell, Link, Peer, Service
from .tombstones import Flows, Leaving, Tunnel

_OF_ANNOUNCEMENTS = ("known_as", "told", "accept_networks", "asked_networks", "asked_address", "heard", "judged_place")
_LATER = ("given_addresses", "given_resolvers", "invited_until", "judged_claim", "refused_claim", "moved", "forwarded", *_OF_ANNOUNCEMENTS)
# Of a link that is invited: for a version that knows no invitations, as after a downgrade, such a link has no key and no networks, and so no tunnel.
_OF_AN_INVITATION = ("invited_until", "public_key", "networks", "address", "remote_api_url")
Record = TypeVar("Record", "Cell", "Service", "Link", "Peer")


class Mistyped(ValueError):
    """A field has a value of another type."""

    def __init__(self, name: str, value: object) -> None:
        super().__init__(f"{name} is {value!r}")
        self.field = name


def load_cell(data: Any) -> Cell:
    """Read the cell's own record, whatever version wrote it. Raises ValueError where it is none."""
    if not isinstance(data, Mapping):
        raise ValueError("not a record of a cell")
    values = dict(data)
    services = values.pop("services", {})
    listed = services.values() if isinstance(services, Mapping) else services
    cell = _known_fields(Cell, values)
    cell.services = {item["name"]: _known_fields(Service, item) for item in listed}
    return cell


def load_links(data: Any) -> dict[str, Link]:
    """Read link records, whatever version wrote them; a missing flag is false.

    data: {"links": [...]}, or the plain list or {name: record} of older versions.
    Raises ValueError where it is none of these.
    """
    links = {}
    for item in _items(data, "links"):
        values = dict(item)
        if "name" not in values and "cell_name" in values:
            values["name"] = values.pop("cell_name")
        if not values.get("networks") and values.get("vpn_subnet"):
            values["networks"] = values["vpn_subnet"]
        for name in ("networks", "address"):
            values[name] = as_list(values.get(name))
        values.update({key: value for key, value in dict(values.pop("invitation", None) or {}).items() if key in _OF_AN_INVITATION})
        values["permissions"] = {
            side: {str(k): v is True for k, v in dict((values.get("permissions") or {}).get(side) or {}).items()} for side in ("inbound", "outbound")
        }
        for name in ("exit_offered", "remote_exit_offered", "exit_relay_active", "remote_exit_relay_active", "allow_public_networks"):
            values[name] = values.get(name) is True
        link = _known_fields(Link, values)
        links[link.name] = link
    return links


def load_peers(data: Any) -> dict[str, Peer]:
    """Read the registry of peers, whatever version wrote it. Raises ValueError where it is none."""
    peers = {}
    for item in _items(data, "peers"):
        values = dict(item)
        values["addresses"] = as_list(values.get("addresses") or values.get("ip"))
        exits = as_list(values.get("route_via"))
        values["route_via"] = [] if exits == [DIRECT] else exits
        peer = _known_fields(Peer, values)
        peers[peer.name] = peer
    return peers


def load_leaving(data: Any) -> Leaving:
    """Read the note of what has to go. Raises ValueError where it is none."""
    if not isinstance(data, Mapping):
        raise ValueError("not a list of what has to be removed")
    kinds = {kind.name: data.get(kind.name, []) for kind in fields(Leaving)}
    for kind, entries in kinds.items():
        if not _is_of("list[str]", entries):
            raise ValueError(f"{kind} is {entries!r}")
    return Leaving(kinds["devices"], [Tunnel.parse(text) for text in kinds["links"]], kinds["exits"], [Flows.parse(text) for text in kinds["flows"]])


def dump_leaving(leaving: Leaving) -> dict[str, Any]:
    """Turn the note of what has to go into what is written (inverse of load_leaving)."""
    return {
        "devices": leaving.devices,
        "links": [tunnel.render() for tunnel in leaving.links],
        "exits": leaving.exits,
        "flows": [flows.render() for flows in leaving.flows],
    }


def dump_cell(cell: Cell) -> dict[str, Any]:
    """Turn the cell's own record into what is written (inverse of load_cell); what is new is there only where something is stated."""
    values = {key: value for key, value in asdict(cell).items() if value or key not in ("dns_by_device", "expect")}
    values["services"] = [asdict(cell.services[name]) for name in sorted(cell.services)]
    return values


def dump_links(links: Mapping[str, Link]) -> dict[str, Any]:
    """Turn link records into what is written (inverse of load_links)."""
    return {"links": [_dump_link(links[name]) for name in sorted(links)]}


def _dump_link(link: Link) -> dict[str, Any]:
    """Return a link's record; where it has none of the later fields it is as every version before them wrote it."""
    values = {key: value for key, value in asdict(link).items() if value or key not in _LATER}
    if link.invited:
        nothing = asdict(Link(link.name))
        values["invitation"] = {key: values.pop(key) for key in _OF_AN_INVITATION}
        values.update({key: nothing[key] for key in _OF_AN_INVITATION[1:]})
    return values


def dump_peers(peers: Mapping[str, Peer]) -> dict[str, Any]:
    """Turn the registry of peers into what is written (inverse of load_peers)."""
    return {"peers": [dump_peer(peers[name]) for name in sorted(peers)]}


def dump_peer(peer: Peer) -> dict[str, Any]:
    """Turn a device's record into what is written: its exit as a text where it has one, as every version before lists wrote it.

    Likewise who answers it is there only where that is stated.
    """
    exits = peer.route_via
    values = {key: value for key, value in asdict(peer).items() if value or key != "exit_dns"}
    return {**values, "route_via": exits if len(exits) > 1 else next(iter(exits), None)}


def _items(data: Any, key: str) -> list[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        data = data[key] if key in data else [dict(value, name=name) for name, value in data.items()]
    if not isinstance(data, list) or not all(isinstance(item, Mapping) and (item.get("name") or item.get("cell_name")) for item in data):
        raise ValueError(f"not a list of {key}")
    return data


def _known_fields(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Build a record of the fields that this version knows. Raises Mistyped."""
    known = {f.name: str(f.type) for f in fields(kind) if f.name in values}
    for name, annotation in known.items():
        if not _is_of(annotation, values[name]):
            raise Mistyped(name, values[name])
    return kind(**{name: values[name] for name in known})


def _is_of(annotation: str, value: object) -> bool:
    if value is None:
        return annotation.endswith("| None")
    if annotation.startswith("list"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value).__name__ == annotation.partition("[")[0].partition(" ")[0]


def as_list(value: Any) -> list[str]:
    """Return the items of a list, a text as a list of it, and nothing as an empty one."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)
