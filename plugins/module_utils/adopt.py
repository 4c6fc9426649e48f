# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that describes what is on a host already: an interface of WireGuard from any tool, or an older cell. It only reads."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .base import destinations, names
from .base.command import Host
from .base.errors import BadInput, CellError, ToolMissing
from .base.networks import FAMILIES
from .kernel.model import Saved
from .kernel.wgconfig import config_path
from .parts import adoptable, adoptable_links, adoption, keys, merge
from .parts.adoptable import Described
from .parts.part import Context
from .records import codec, soundness
from .records.model import Cell, Link, Peer, State

Loaded = TypeVar("Loaded")

# The files of a cell and of wg-easy, by which a folder is known.
_CELL, _LINKS, _PEERS, _CLIENTS, _CONFIG = "cell.json", "cell_links.json", ("peers.json", "peer_registry.json"), "wg0.json", "wg0.conf"
_ORDER = ("cell_name", "cell_endpoint", "cell_interface", "cell_networks", "cell_services", "cell_peers", "cell_links")
_LARGEST = soundness.LARGEST  # bytes or characters of a file
_MOST_NOTES = 1000


@dataclass
class _Sources:
    """What was read besides the interface's own file. config: the path of another file of wg-quick."""

    cell: Cell | None = None
    links: dict[str, Link] = field(default_factory=dict)
    described: list[Described] = field(default_factory=list)
    config: str | None = None
    notes: list[str] = field(default_factory=list)


def adopt(context: Context, interface: str | None, source: str | None) -> dict[str, Any]:
    """Return the variables of an inventory, and notes of what is in none of them.

    interface: the devices' one; None for the record's. source: a file, or a folder with some, that is read as well. Raises BadInput.
    """
    sources = _Sources()
    if source:
        _read_source(context.host, names.check_source(source), sources)
    _read_folder(context.host, context.store.path, sources)
    name = names.check_interface(interface or (sources.cell or Cell()).interface)
    found = adoption.look(context.host, name, context.observed.wireguard.get(name))
    identity = _judged(context, found, sources.notes)
    whole = adoptable.merged(_read_interface(context.host, found, sources), *sources.described)
    whole.notes = [*sources.notes, *whole.notes]
    if sources.cell:
        whole.variables.update(adoptable_links.cell_items(sources.cell))
    if name != Cell.interface:
        whole.variables["cell_interface"] = name
    if not whole.variables.get("cell_networks"):
        whole.notes.append("No network of a cell was found. State cell_networks: the cell's own address in each of its networks, with its prefix.")
    whole.variables.update(_items(context, whole, sources, name, {identity.public} if identity else set()))
    left = len(whole.notes) - _MOST_NOTES
    notes = [*whole.notes[:_MOST_NOTES], *([f"And {left} more."] if left > 0 else [])]
    return {"inventory": {key: whole.variables[key] for key in _ORDER if whole.variables.get(key)}, "notes": notes}


def _items(context: Context, whole: Described, sources: _Sources, interface: str, own: Collection[str]) -> dict[str, Any]:
    """Return devices, links and services as an inventory states them. interface: the devices' one. own: the cell's own key."""
    links, recorded = sources.links, (sources.cell or Cell()).services
    rules = [rule for family in FAMILIES for rule in context.observed.iptables[family].get("filter", Saved()).rules.get("FORWARD", ())]
    opened = adoptable_links.read_flat_rules(rules, links)
    services = [adoptable_links.service_item(recorded[name]) for name in sorted(recorded)]
    services += adoptable_links.services_of(links, recorded, opened, whole.notes)
    known = {service["name"] for service in services}
    here = {link.name for link in links.values() if link.public_key in whole.candidates or link.interface == interface}
    linked = [adoptable_links.link_item(link, known, interface if name in here else None, whole.notes) for name, link in sorted(links.items())]
    devices = adoptable.devices(whole, {*own, *(link.public_key or "" for link in links.values())})
    state = State(Cell(networks=list(whole.variables.get("cell_networks", ()))), links)
    for item in devices:
        peer = whole.candidates[item["public_key"]].known
        item.update({**_ways(peer, whole.notes), **_answerers(peer, state, whole.notes)})
    return {"cell_services": services, "cell_peers": devices, "cell_links": [item for item in linked if item]}


def _ways(peer: Peer | None, notes: list[str]) -> dict[str, Any]:
    """Return the ways that the registry of a cell has for a device."""
    try:
        exits = {"route_via": names.check_exits("route_via", peer.route_via)} if peer and peer.route_via else {}
        exceptions = destinations.listed(destinations.read(destinations.listed(peer.route_except), "route_except")) if peer else []
    except BadInput as error:
        notes.append(f"peer {peer.name if peer else ''!r}: its way to the internet is left out. {error}")
        return {}
    return {**exits, **({"route_except": exceptions} if exceptions else {})}


def _answerers(peer: Peer | None, state: State, notes: list[str]) -> dict[str, Any]:
    """Return who answers a device, as the registry of a cell has it. state: of the networks that are found."""
    try:
        found = merge.check_answerers(peer.exit_dns, state, f"exit_dns of peer {peer.name!r}") if peer else []
    except BadInput as error:
        notes.append(f"{error} It is left out.")
        return {}
    return {"exit_dns": found} if found else {}


def _judged(context: Context, found: adoption.Found, notes: list[str]) -> keys.Identity | None:
    """Return the cell's key pair, None where there is none yet; notes gets what a run would refuse of the interface."""
    identity = None
    try:
        with contextlib.suppress(ToolMissing):  # the first run installs it
            identity = keys.kept_identity(context.host, context.store.path, lambda: found)
        adoption.check_owner(context.host, found, identity.private if identity else None, {link.public_key for link in context.stored.links.values()})
    except CellError as error:
        notes.append(f"site refuses the interface {found.name} as it is. {error}")
    return identity


def _read_interface(host: Host, found: adoption.Found, sources: _Sources) -> Described | None:
    """Return what the file of the devices' interface says, or the one that stands elsewhere; None where there is none."""
    path, text = config_path(found.name), found.text
    if text is None and sources.config:
        sources.notes.append(
            f"{path} is not there, and {sources.config} is read in its place. Put that file there and start wg-quick@{found.name} before you run site, or "
            "the cell gets a new key, which no device knows."
        )
        path, text = sources.config, host.read_foreign(sources.config, _LARGEST)
    elif text is None and sources.described:
        sources.notes.append(f"{path} is not there, so site gives the cell a new key, and its devices no preshared keys. Put the old file there before that.")
    if text is not None and len(text) > _LARGEST:
        raise BadInput(f"{path} is larger than {_LARGEST} characters. Correct it.")
    if text is None:
        return None
    described = adoptable.read_config(path, text)
    recorded = {link.public_key for link in sources.links.values()}.union(*(other.candidates for other in sources.described))
    unwritten = sorted(set(found.kernel.peers) - set(described.candidates) - recorded) if found.kernel else []
    if unwritten:
        described.notes.append(f"{path}: the interface has peers that are not in it, and are left out: {adoptable.some(unwritten)}.")
    return described


def _read_source(host: Host, path: str, sources: _Sources) -> None:
    """Read what somebody has named: a folder, or a file that shows what it is. Raises BadInput."""
    if _read_folder(host, path, sources):
        return
    text = host.read_foreign(path, _LARGEST)
    if text is None:
        known = ", ".join((_CONFIG, _CLIENTS, _LINKS, *_PEERS, _CELL))
        raise BadInput(f"source {path!r} is neither a file of at most {_LARGEST} bytes nor a folder with one of {known}. Correct the path.")
    if text.lstrip()[:1] in ("{", "["):
        _read_json(path, text, sources)
    else:
        sources.config = path


def _read_folder(host: Host, folder: str, sources: _Sources) -> bool:
    """Read the files of a folder that are known by their names; tell whether there are any."""
    there = False
    for name in (_CLIENTS, _CELL, _LINKS, *_PEERS, _CONFIG):
        path = os.path.join(folder, name)
        text = host.read_foreign(path, _LARGEST)
        if text is None:
            sources.notes += [f"{path} is not a plain file of at most {_LARGEST} bytes, and is not read."] if host.exists(path) else []
        elif name == _CONFIG:
            there, sources.config = True, path
        else:
            there = True
            _read_json(path, text, sources)
    return there


def _read_json(path: str, text: str, sources: _Sources) -> None:
    """Read a file of wg-easy or of a cell, by what it holds and what it is called."""
    data: Any = _load(path, text, lambda data: data, sources)
    if adoptable.is_wg_easy(data):
        sources.described.append(adoptable.read_wg_easy(path, data))
    elif os.path.basename(path) == _CELL:
        sources.cell = _load(path, text, soundness.cell, sources) or sources.cell
    elif os.path.basename(path) == _LINKS:
        for name, link in (_load(path, text, codec.load_links, sources) or {}).items():
            try:
                sources.links.update(soundness.links(codec.dump_links({name: link})))
            except (BadInput, ValueError) as error:
                sources.notes.append(f"{path}: the link {adoptable.quoted(name)} is left out ({_why(error)}).")
    elif data is not None:
        peers = _load(path, text, lambda data: codec.load_peers(_named(data)), sources)
        sources.described.append(adoptable.read_peers(path, peers or {}))


def _load(path: str, text: str, load: Callable[[Any], Loaded], sources: _Sources) -> Loaded | None:
    """Read a file of JSON; None, and a note, where it is none."""
    try:
        return soundness.read(text, load)
    except ValueError as error:
        sources.notes.append(f"{path} cannot be read ({_why(error)}), and nothing of it is taken.")
        return None


def _why(error: Exception) -> str:
    """Return why a file is no record, without its values: any file of the host can be named, and root reads it."""
    if isinstance(error, codec.Mistyped):
        return f"{error.field} is of another type"
    return str(error) if isinstance(error, json.JSONDecodeError) else "a value in it is none that a record of a cell has there"


def _named(data: Any) -> Any:
    """Return a registry with the name of each device where the codec looks for it; there are some that call it peer."""
    items = data["peers"] if isinstance(data, Mapping) and "peers" in data else data
    return [{"name": item["peer"], **item} if isinstance(item, Mapping) and "peer" in item else item for item in items] if isinstance(items, list) else data
