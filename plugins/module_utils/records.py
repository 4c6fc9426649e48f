# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell remembers: itself, its links and its peers; reading records of every age."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from .networks import interface_of, of_family, sort_key

Record = TypeVar("Record", "Cell", "Service", "Link", "Peer", "Leaving")

DIRECT = "direct"


@dataclass
class Service:
    """Something that listens on a cell or on one of its peers."""

    name: str
    addresses: list[str] = field(default_factory=list)
    port: int = 0
    protocol: str = "tcp"


@dataclass
class Cell:
    """The cell itself: own addresses with prefix, devices' interface, services."""

    name: str = ""
    networks: list[str] = field(default_factory=list)
    endpoint: str | None = None
    interface: str = "wg0"
    listen_port: int = 51820
    link_port_base: int = 51821
    services: dict[str, Service] = field(default_factory=dict)
    uplink: str | None = None
    admin_networks: list[str] = field(default_factory=list)
    sync_port: int = 8088
    retired: list[str] = field(default_factory=list)  # "address port" where a UDP service was: its server may not know yet

    def udp_services(self) -> set[str]:
        """Return where UDP services answer, as "address port"."""
        return {f"{address} {service.port}" for service in self.services.values() if service.protocol == "udp" for address in service.addresses}

    def copy(self) -> Cell:
        """Return a copy with services of its own."""
        return replace(self, services={name: copy.copy(service) for name, service in self.services.items()})

    def own_addresses(self, family: int | None = None) -> list[str]:
        """Return the cell's own addresses, without prefix."""
        return [str(interface_of(n).ip) for n in self.networks if family in (None, interface_of(n).version)]

    def has_family(self, family: int) -> bool:
        """Tell whether the cell has a network of this family; while none is known it may have both."""
        return not self.networks or bool(self.own_networks(family))

    def own_networks(self, family: int | None = None) -> list[str]:
        """Return the cell's own networks."""
        return [str(interface_of(n).network) for n in self.networks if family in (None, interface_of(n).version)]


@dataclass
class Link:
    """What this cell knows and has decided of one other cell. Every flag is false until somebody says otherwise."""

    name: str
    public_key: str | None = None
    networks: list[str] = field(default_factory=list)
    address: list[str] = field(default_factory=list)
    endpoint: str | None = None
    interface: str | None = None
    listen_port: int | None = None
    keepalive: int | None = None
    mtu: int | None = None
    allow_public_networks: bool = False
    permissions: dict[str, dict[str, bool]] = field(default_factory=lambda: {"inbound": {}, "outbound": {}})
    exit_offered: bool = False
    remote_exit_offered: bool = False
    exit_relay_active: bool = False
    remote_exit_relay_active: bool = False
    exit_table: int | None = None
    ruled: bool = True
    remote_api_url: str | None = None
    sync_auth: str = "hmac"
    last_push_status: int | None = None
    last_push_at: str | None = None
    last_push_error: str | None = None
    pending_push: bool = False
    last_remote_update_at: str | None = None
    generation: int = 0
    minted: str | None = None
    remote_generation: int = 0

    @property
    def shares(self) -> list[str]:
        """Return the names of the services that the other cell may reach here."""
        return sorted(name for name, allowed in self.permissions["inbound"].items() if allowed)

    @property
    def pending(self) -> bool:
        """Tell whether too little is known of the other cell to make a tunnel."""
        return not (self.public_key and self.networks)

    @property
    def relays(self) -> bool:
        """Tell whether this cell forwards the other's devices to the internet now."""
        return self.exit_offered and self.remote_exit_relay_active

    def has_family(self, family: int) -> bool:
        """Tell whether the other cell has a network of this family."""
        return bool(of_family(family, self.networks))


@dataclass
class Peer:
    """A device of this cell."""

    name: str
    public_key: str | None = None
    addresses: list[str] = field(default_factory=list)
    route_via: str | None = None
    networks: list[str] = field(default_factory=list)  # behind it


@dataclass
class Leaving:
    """What has to go: noted before the other records forget it, struck out when it is gone.

    Only the records tell what is ours of it. A run that ends in between would leave it for ever.
    """

    devices: list[str] = field(default_factory=list)  # keys
    links: list[str] = field(default_factory=list)  # interface and key
    exits: list[str] = field(default_factory=list)  # names of links that have been an exit
    flows: list[str] = field(default_factory=list)  # how conntrack finds them


@dataclass
class State:
    """Everything that a cell remembers."""

    cell: Cell = field(default_factory=Cell)
    links: dict[str, Link] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    peers_lost: bool = False  # the registry is there but cannot be read: nobody knows which devices are routed
    leaving: Leaving = field(default_factory=Leaving)
    links_lost: bool = False  # the link records are there but cannot be read: nobody knows what belongs to a link

    def copy(self) -> State:
        """Return a copy to be overlaid with what was asked for. A field that is a list or a dictionary is replaced, never changed in place."""
        links = {name: copy.copy(link) for name, link in self.links.items()}
        return State(self.cell.copy(), links, {name: copy.copy(peer) for name, peer in self.peers.items()}, self.peers_lost, self.leaving, self.links_lost)

    def link_interface_names(self) -> list[str]:
        """Return the interfaces of all links, sorted."""
        return sorted({link.interface for link in self.links.values() if link.interface})

    def device_keys(self) -> set[str]:
        """Return the keys of all devices."""
        return {peer.public_key for peer in self.peers.values() if peer.public_key}

    def tunnels(self) -> set[str]:
        """Return interface and key of each link that has a tunnel."""
        return {f"{link.interface} {link.public_key}" for link in self.links.values() if not link.pending}

    def exits(self) -> set[str]:
        """Return the names of the links that are used as exit."""
        return {link.name for link in self.links.values() if link.exit_relay_active}

    def routed_addresses(self, family: int) -> list[str]:
        """Return the addresses of all peers that are meant to leave by another cell, in numeric order."""
        return sorted_networks(of_family(family, (a for peer in self.peers.values() if peer.route_via for a in peer.addresses)))

    def routed_networks(self, family: int) -> list[str]:
        """Return the networks behind peers that are meant to leave by another cell."""
        return sorted_networks(of_family(family, (network for peer in self.peers.values() if peer.route_via for network in peer.networks)))

    def exit_is_effective(self, name: str | None) -> bool:
        """Tell whether a cell can be used as exit now: linked, known, and offering."""
        link = self.links.get(name or "")
        return link is not None and not link.pending and link.remote_exit_offered

    def exit_in_use(self, name: str) -> bool:
        """Tell whether some peer leaves by this cell now."""
        return self.exit_is_effective(name) and any(peer.route_via == name for peer in self.peers.values())


@dataclass(frozen=True)
class Part:
    """What one module owns of the records: which fields it writes, and how they read in words."""

    words: Callable[[State], list[str]]
    cell: bool = False
    links: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    removes_links: bool = False
    removes_peers: bool = False


def _cell_words(state: State) -> list[str]:
    cell = state.cell
    lines = [f"admin network {network}" for network in cell.admin_networks]
    if cell.name:
        uplink = f", uplink {cell.uplink}" if cell.uplink else ""
        lines.append(
            f"cell {cell.name}: {', '.join(cell.networks)} on {cell.interface}, port {cell.listen_port}, links from port {cell.link_port_base}{uplink}"
        )
        lines.append(f"cell {cell.name}: endpoint {cell.endpoint or 'none'}, peer-sync port {cell.sync_port}")
    lines += [f"service {s.name}: {', '.join(s.addresses)} port {s.port}/{s.protocol}" for s in cell.services.values()]
    lines += [f"peer {p.name}: {', '.join(p.addresses)} with key {p.public_key}" for p in state.peers.values()]
    lines += [f"peer {p.name}: behind it {', '.join(p.networks)}" for p in state.peers.values() if p.networks]
    return lines + [f"link {link.name}: {link.interface}, port {link.listen_port}" for link in state.links.values()]


def _link_words(state: State) -> list[str]:
    lines = []
    for link in state.links.values():
        lines.append(f"link {link.name}: {', '.join(link.networks) or 'networks not known yet'}, endpoint {link.endpoint or 'none'}")
        lines.append(f"link {link.name}: public key {link.public_key or 'not known yet'}")
    return lines


def _rights_words(state: State) -> list[str]:
    return [
        f"link {link.name}: shares {', '.join(link.shares) or 'nothing'}{', offers an exit' if link.exit_offered else ''}{'' if link.ruled else ', no rules'}"
        for link in state.links.values()
    ]


def _ways_words(state: State) -> list[str]:
    lines = [f"peer {peer.name}: internet {'direct' if peer.route_via is None else f'via {peer.route_via}'}" for peer in state.peers.values()]
    return lines + [f"link {link.name}: used as exit" for link in state.links.values() if link.exit_relay_active]


CELL_PART = Part(_cell_words, cell=True, links=("interface", "listen_port"), peers=("public_key", "addresses", "route_via", "networks"), removes_peers=True)
LINK_PART = Part(
    _link_words,
    links=(
        "public_key",
        "networks",
        "address",
        "endpoint",
        "interface",
        "listen_port",
        "keepalive",
        "mtu",
        "remote_api_url",
        "sync_auth",
        "allow_public_networks",
    ),
    removes_links=True,
)
RIGHTS_PART = Part(_rights_words, links=("permissions.inbound", "exit_offered", "remote_exit_relay_active", "ruled"))
WAYS_PART = Part(_ways_words, links=("exit_relay_active", "exit_table"), peers=("addresses", "route_via"))
WAYS_AND_OFFERS_PART = replace(
    WAYS_PART,
    words=lambda state: [*_ways_words(state), *(f"cell {link.name}: offers an exit" for link in state.links.values() if link.remote_exit_offered)],
    links=(*WAYS_PART.links, "remote_exit_offered"),
)
SYNC_PART = Part(
    lambda _state: [],
    links=(
        *("permissions.outbound", "remote_exit_offered", "remote_exit_relay_active", "last_remote_update_at", "remote_generation"),
        *("generation", "minted", "pending_push", "last_push_status", "last_push_at", "last_push_error"),
    ),
)


def replace_part(stored: State, wanted: State, part: Part) -> State:
    """Return the stored records with one module's own fields as wanted."""
    result = stored.copy()
    if part.cell:
        result.cell = wanted.cell.copy()
    for name, link in wanted.links.items():
        target = result.links.get(name, Link(name))
        for key in part.links:
            _copy_field(link, target, key)
        if name in result.links or target != Link(name):
            result.links[name] = target
    for name, peer in wanted.peers.items():
        device = result.peers.get(name, Peer(name))
        for key in part.peers:
            _copy_field(peer, device, key)
        if name in result.peers or device != Peer(name):
            result.peers[name] = device
    if part.removes_links:
        result.links = {name: link for name, link in result.links.items() if name in wanted.links}
    if part.removes_peers:
        result.peers = {name: peer for name, peer in result.peers.items() if name in wanted.peers}
    return result


def leaving(before: State, after: State) -> Leaving:
    """Return what the first has of devices' keys, tunnels and exits, and the second has not."""
    return Leaving(
        devices=sorted(before.device_keys() - after.device_keys()),
        links=sorted(before.tunnels() - after.tunnels()),
        exits=sorted(before.exits() - after.exits()),
    )


def _copy_field(source: object, target: object, key: str) -> None:
    name, _dot, inner = key.partition(".")
    value = getattr(source, name)
    setattr(target, name, {**getattr(target, name), inner: value[inner]} if inner else value)


def load_cell(data: Any) -> Cell:
    """Read the cell's own record, whatever version wrote it. Raises ValueError where it is none."""
    if not isinstance(data, Mapping):
        raise ValueError("no record of a cell")
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
            values[name] = _as_list(values.get(name))
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
        values["addresses"] = _as_list(values.get("addresses") or values.get("ip"))
        if values.get("route_via") in ("", DIRECT):
            values["route_via"] = None
        peer = _known_fields(Peer, values)
        peers[peer.name] = peer
    return peers


def load_leaving(data: Any) -> Leaving:
    """Read the note of what has to go. Raises ValueError where it is none."""
    if not isinstance(data, Mapping):
        raise ValueError("no note of what has to go")
    return _known_fields(Leaving, data)


def dump_cell(cell: Cell) -> dict[str, Any]:
    """Turn the cell's own record into what is written (inverse of load_cell)."""
    values = asdict(cell)
    values["services"] = [asdict(cell.services[name]) for name in sorted(cell.services)]
    return values


def dump_links(links: Mapping[str, Link]) -> dict[str, Any]:
    """Turn link records into what is written (inverse of load_links)."""
    return {"links": [asdict(links[name]) for name in sorted(links)]}


def dump_peers(peers: Mapping[str, Peer]) -> dict[str, Any]:
    """Turn the registry of peers into what is written (inverse of load_peers)."""
    return {"peers": [asdict(peers[name]) for name in sorted(peers)]}


def sorted_networks(values: Iterable[str]) -> list[str]:
    """Return networks or addresses without doubles, IPv4 first, in numeric order."""
    return sorted(set(values), key=sort_key)


def _items(data: Any, key: str) -> list[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        data = data[key] if key in data else [dict(value, name=name) for name, value in data.items()]
    if not isinstance(data, list) or not all(isinstance(item, Mapping) and (item.get("name") or item.get("cell_name")) for item in data):
        raise ValueError(f"no list of {key}")
    return data


def _known_fields(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Build a record of the fields that this version knows. Raises ValueError for a value of another type."""
    known = {f.name: str(f.type) for f in fields(kind) if f.name in values}
    for name, annotation in known.items():
        if not _is_of(annotation, values[name]):
            raise ValueError(f"{name} is {values[name]!r}")
    return kind(**{name: values[name] for name in known})


def _is_of(annotation: str, value: object) -> bool:
    if value is None:
        return annotation.endswith("| None")
    if annotation.startswith("list"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value).__name__ == annotation.partition("[")[0].partition(" ")[0]


def _as_list(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)
