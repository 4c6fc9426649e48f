# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All of a cell that is in no inventory, as one text, and what of such a text a host takes back.

The text may be anybody's: names that follow from the records in it, contents that are judged, and no path. What is there already is never overwritten.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .base.errors import BadInput, StoreError
from .base.texts import printable
from .base.times import render_moment
from .base.wgkeys import clamped, is_key
from .kernel import wgconfig
from .kernel.model import Interface, WgPeer
from .kernel.plan import Plan, Write
from .kernel.wgquick import check_file, config_peers, render_link
from .parts import adoption, invitations, keys, providers
from .parts.part import Context
from .records import soundness
from .records.model import Link, State
from .records.store import FILES

LARGEST = 48 * 1024 * 1024  # characters of a backup; each record has a third of it at most
_FORMAT, _VERSION = "pic.cells backup", 1
# Not leaving.json: what an older host had still to remove, no other one has.
_RECORDS = ("cell.json", "cell_links.json", "peer_registry.json")
_IDENTITY, _WIREGUARD = "identity.key", "wireguard/"
_HOOKS = ("preup", "postup", "predown", "postdown")
_UNCHANGED = "Nothing was changed."
# What linked cells have said, or have been told: it goes on without us, and says nothing of what this cell has decided.
_SAID: dict[str, Any] = {
    **dict.fromkeys(("minted", "last_push_status", "last_push_at", "last_push_error", "last_remote_update_at", "exit_table")),
    **dict.fromkeys(("generation", "remote_generation"), 0),
    **dict.fromkeys(("pending_push", "remote_exit_offered", "remote_exit_relay_active", "exit_relay_active"), False),
    "remote_resolvers": (),
}


def collect(context: Context, name: str) -> dict[str, str]:
    """Return the files of a cell by their names in a backup. name: the cell's. Raises StoreError where a record cannot be read, and BadInput."""
    cell = context.stored.cell
    if context.store.warnings:
        raise StoreError(f"{' '.join(context.store.warnings)} A backup without it would be of no use: run pic.cells.site, or put it back.")
    if not cell.name:
        raise StoreError(f"This host is not a cell: there is no record of it in {context.store.path}. Run pic.cells.site first.")
    if cell.name != name:
        raise BadInput(f"This host is the cell {cell.name!r}, not {name!r}. Correct the name, or ansible_host in the inventory.")
    found = {file: context.host.read(path) for file, path in _places(context.store.path, context.stored).items()}
    if not (found[_IDENTITY] or "").strip():
        raise StoreError(f"{keys.identity_path(context.store.path)} is gone. Run pic.cells.site first.")
    return {file: text for file, text in found.items() if text is not None}


def render(name: str, files: Mapping[str, str], now: float) -> str:
    """Return the text of a backup."""
    return json.dumps({"format": _FORMAT, "version": _VERSION, "cell": name, "made": render_moment(now), "files": files}, indent=1, sort_keys=True) + "\n"


def plan_restore(context: Context, text: str, name: str) -> tuple[Plan, list[str]]:
    """Plan what a host lacks of the cell in a backup: what says who it is first, so that no run in between makes another key.

    Returns plan and the paths that are written. Raises BadInput, before anything has changed.
    """
    try:
        files = _read(text, name)
        wanted = _state(files, name)
        places = _places(context.store.path, wanted)
        texts, warnings = _sound(files, wanted, places)
        _check_host(context, wanted, texts, name)
    except BadInput as error:
        raise BadInput(f"{error} {_UNCHANGED}") from None
    plan, host = Plan(warnings=warnings), context.host
    for file, content in texts.items():
        kept = (host.read(places[file]) or "").strip()
        if not kept or (file == _IDENTITY and not is_key(kept)):
            plan.steps.append(Write(places[file], content))
    lost, stored = _lost(context), context.stored
    told_anew = {key: link if link.provided else replace(link, minted=None, pending_push=True) for key, link in wanted.links.items()}
    after = stored.copy()
    for part, value in (("cell", wanted.cell), ("links", told_anew), ("peers", wanted.peers)):
        setattr(after, part, value if part in lost else getattr(stored, part))
    plan.steps += [Write(path, content) for path, content in context.store.writes(stored, after)]
    written = [step.path for step in plan.steps if isinstance(step, Write)]
    plan.describe([], [f"{path}: as in the backup" for path in written])
    return plan, written


def _places(folder: str, state: State) -> dict[str, str]:
    """Return where each file of a cell is, by its name in a backup. folder: the one with the records."""
    inner = [keys.identity_path(folder), *(f"{folder}/{name}" for name in _RECORDS), adoption.kept_path(folder, state.cell.interface)]
    for name, link in sorted(state.links.items()):
        inner.append(providers.key_path(folder, name) if link.provided else invitations.key_path(folder, name))
    interfaces = dict.fromkeys([state.cell.interface, *state.link_interface_names()])
    return {
        **{path.removeprefix(f"{folder}/"): path for path in inner},
        **{f"{_WIREGUARD}{interface}.conf": wgconfig.config_path(interface) for interface in interfaces},
    }


def _read(text: str, name: str) -> dict[str, str]:
    """Return the files in a backup. Raises BadInput for what is none, and for that of another cell."""
    try:
        found = json.loads(text) if len(text) <= LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise BadInput("This is no backup of a cell. Give a file that pic.cells.backup has written.")
    if found.get("version") != _VERSION:
        raise BadInput(f"This is a backup of version {printable(str(found.get('version')))[:20]}, and only {_VERSION} is known here. Upgrade the collection.")
    files = found.get("files")
    whole = set(found) == {"format", "version", "cell", "made", "files"}
    if not whole or not isinstance(files, dict) or not all(isinstance(content, str) for content in files.values()):
        raise BadInput("This is no backup of a cell as pic.cells.backup writes it. Give such a file, as it was written.")
    if found["cell"] != name:
        raise BadInput(f"This is the backup of cell {printable(str(found['cell']))[:40]!r}, not of {name!r}. Give the other cell's name, or another file.")
    return dict(files)


def _state(files: Mapping[str, str], name: str) -> State:
    """Return the records in a backup. Raises BadInput."""
    state = State()
    for file in _RECORDS:
        part, load, _dump = FILES[file]
        if file in files:
            setattr(state, part, _judged(file, load, files[file]))
    if state.cell.name != name:
        raise BadInput(f"The record of the cell (cell.json) in the backup is of {state.cell.name!r}, not of {name!r}. Give another file.")
    for link in state.links.values():
        if link.interface and link.interface != state.cell.interface and not link.interface.startswith("pic-"):
            raise BadInput(f"cell_links.json in the backup names {link.interface!r} for link {link.name!r}, which is no interface of links. Give another file.")
    return state


def _judged(file: str, load: Callable[[Any], Any], text: str) -> Any:
    try:
        return soundness.read(text, load)
    except ValueError as error:
        raise BadInput(f"{file} in the backup is no sound record ({printable(str(error))[:200]}). Give another file.") from None


def _sound(files: Mapping[str, str], state: State, places: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return what is written of the files beside the records, in its order, and warnings. Raises BadInput.

    Of a link's file only its preshared key counts, since all else follows from the records; and no command comes back, as wg-quick would carry it out as root.
    """
    for file in files:
        if file not in places:
            raise BadInput(f"The backup holds {printable(file)[:80]!r}, which belongs to no file of the cell in it. Give another file.")
    if not is_key(files.get(_IDENTITY, "").strip()):
        raise BadInput(f"{_IDENTITY} in the backup holds no key. Give another file.")
    found, warnings = {_IDENTITY: files[_IDENTITY]}, []
    devices = f"{_WIREGUARD}{state.cell.interface}.conf"
    for file in sorted(set(files) - {_IDENTITY, *_RECORDS}):
        text = files[file]
        if file.startswith(_WIREGUARD):
            check_file(f"{file} in the backup", text)
            interface = file[len(_WIREGUARD) :].removesuffix(".conf")
            if file == devices:
                text, hooks = _without_hooks(text)
                warnings += (
                    [f"{places[file]} had commands ({', '.join(hooks)}), which no backup brings back. Put them in by hand if they are yours."] if hooks else []
                )
            else:
                text = _link_file(interface, text, files[_IDENTITY].strip(), [link for link in state.links.values() if link.interface == interface])
        elif file.startswith(("invitations/", "providers/")) and not all(is_key(word) for word in text.split()):
            raise BadInput(f"{file} in the backup holds something that is no key. Give another file.")
        if text:
            found[file] = text
    return found, warnings


def _without_hooks(text: str) -> tuple[str, list[str]]:
    """Return a file without the commands in it, and which settings these were."""
    config = wgconfig.parse(text)
    sections = config.of(wgconfig.INTERFACE)
    hooks = [hook for hook in _HOOKS if any(section.all(hook) for section in sections)]
    for section in sections:
        for hook in hooks:
            config.drop(section, hook)
    return config.render() if hooks else text, hooks


def _link_file(interface: str, text: str, private_key: str, links: list[Link]) -> str:
    """Return a file with the preshared keys of links, which the next run completes; none where there is no such key."""
    ours = {link.public_key: link for link in links if link.networks}
    peers = {
        peer.public_key: WgPeer(peer.public_key, ours[peer.public_key].networks, preshared_key=peer.preshared_key)
        for peer in config_peers(text)
        if peer.public_key in ours and peer.preshared_key
    }
    port = next((link.listen_port for link in links if link.listen_port), 0)
    labels = {key: f"link {ours[key].name}" for key in peers}
    return render_link(Interface(interface, private_key, None, port, peers), labels) if peers else ""


def _lost(context: Context) -> set[str]:
    """Return the parts of the records that a host does not have, or that cannot be read there."""
    stored, path = context.stored, context.store.path
    there = {FILES[file][0] for file in _RECORDS if context.host.exists(f"{path}/{file}")}
    damaged = {"cell": not stored.cell.name, "links": stored.links_lost, "peers": stored.peers_lost}
    return {part for part, is_damaged in damaged.items() if is_damaged or part not in there}


def _check_host(context: Context, wanted: State, texts: Mapping[str, str], name: str) -> None:
    """Refuse a host that is another cell, or has decided otherwise since. Raises BadInput."""
    stored, host, path = context.stored, context.host, context.store.path
    if stored.cell.name not in ("", name):
        raise BadInput(f"This host is the cell {stored.cell.name!r}, not {name!r}. Correct ansible_host in the inventory, or give another host.")
    devices = wgconfig.config_path(wanted.cell.interface)
    here = {
        keys.identity_path(path): (host.read(keys.identity_path(path)) or "").strip(),
        devices: wgconfig.parse(host.read(devices)).get("privatekey") or "",
    }
    for file, key in here.items():
        if key and is_key(key) and not _same(key, texts[_IDENTITY].strip()):
            raise BadInput(
                f"{file} on this host has another key than the backup, so it is another cell's, or the cell was set up anew. If the backup is to count, "
                "run pic.cells.uninstall first, which keeps a copy, and move that file away."
            )
    lost = _lost(context)
    said = {file: FILES[file][0] for file in _RECORDS if FILES[file][0] not in lost}
    differing = [file for file, part in said.items() if _decided(getattr(stored, part)) != _decided(getattr(wanted, part))]
    if differing:
        raise BadInput(
            f"This host is the cell {name!r} already, and its {' and '.join(differing)} differ from the backup, which may be older: devices and rights that "
            "were taken away would come back. If the backup is to count all the same, run pic.cells.uninstall first, which keeps a copy."
        )


def _decided(part: Any) -> Any:
    """Return what of a part of the records a cell has decided itself."""
    if not isinstance(part, dict):
        return part
    return {key: _plain(one) if isinstance(one, Link) else one for key, one in part.items()}


def _plain(link: Link) -> Link:
    return replace(link, **{**_SAID, "permissions": {"inbound": link.permissions["inbound"], "outbound": {}}})


def _same(one: str, two: str) -> bool:
    try:
        return clamped(one) == clamped(two)
    except (binascii.Error, ValueError, IndexError):
        return False
