# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose answers count: a host speaks for its own cell alone, and one that fails, refuses or takes long counts as not reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import peer_sync
from ansible_collections.pic.cells.plugins.plugin_utils.answers import ELAPSED
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import Inventory
from ansible_collections.pic.cells.plugins.plugin_utils.outside import shown

READS = ("__cell_read", "__cell_others")
# What the steps of the role register, where another host can be among those that are worked on.
WORK = (
    *("__cell_packages", "__cell_advertised", "__cell_forwarding", "__cell_identity", "__cell_keys", "__cell_paired", "__cell_built", "__cell_handed"),
    *("__cell_applied", "__cell_pushed"),
)
_PATIENCE = 300  # seconds for all that another cell answers in one run
_LONGEST = 300  # characters of a reason
_GENERATED = "(generated)"
Owners = tuple[Mapping[str, list[str]], Mapping[str, list[str]], Mapping[str, list[str]]]


def silenced(inventory: Inventory, known: Owners, common: Mapping[str, str]) -> dict[str, str]:
    """Return the other hosts whose answers count for nothing in this run, as if they were not reached, and why. common: as silent_to_all returns it."""
    found = dict(common)
    for host in _suspects(inventory, known):
        owner = false_owner(inventory, lambda: known, host, inventory.answered(host).get("public_key"))
        if owner:
            found[host] = f"answered with the public key of {owner}"
    found.pop(str(inventory.own), None)
    return found


def silent_to_all(inventory: Inventory) -> dict[str, str]:
    """Return the hosts that gave no answer, or refused, and why their answers count for no other host."""
    sentences = ((host, inventory.answered(host).get("refusals")) for host in asked(inventory))
    found = {host: f"refused this run ({shown(said[0], _LONGEST)})" for host, said in sentences if said}
    mute = {host: f"gave no answer ({message})" for host, message in failures(inventory, READS) if not inventory.answered(host)}
    return {**found, **mute}


def _suspects(inventory: Inventory, known: Owners) -> dict[str, None]:
    """Return the hosts that have answered with a key that the host of this lookup knows, or that two have answered with."""
    cells, devices, hosts = known
    record = inventory.answered(str(inventory.own))
    keys = (record.get("public_key"), *cells, *devices, *record.get("taken_keys", ()), *(key for key, owners in hosts.items() if len(owners) > 1))
    return dict.fromkeys(host for key in keys for host in hosts.get(key, ()))


def lost(inventory: Inventory, asker: str = "") -> dict[str, str]:
    """Return the hosts on which a step of this run has failed, and why, by what one host of the batch has asked, or all; they are asked for nothing more.

    So are others that take long over every step, or each of them would hold up the run until its time limit.
    """
    taken: Counter[str] = Counter()
    for register in (*READS, *WORK):
        for result in inventory.registered(register, asker):
            taken[worked_on(result)] += result.get(ELAPSED) or 0
    slow = {host: f"its answers have taken {seconds} s" for host, seconds in taken.items() if seconds > _PATIENCE and host not in inventory.batch}
    return {**slow, **dict(failures(inventory, WORK, asker))}


def false_owner(inventory: Inventory, known: Callable[[], Owners], host: str, key: Any) -> str | None:
    """Return whose public key a host has answered with where that is another's: a host speaks for its own cell alone. known: as owners returns it."""
    own = inventory.own
    if own is None or host == own or not key or key == _GENERATED:
        return None
    record = inventory.answered(own)
    if key == record.get("public_key"):
        return inventory.name(own)
    cells, devices, hosts = known()
    if inventory.name(host) in cells.get(key, ()):
        return None
    owners = [*cells.get(key, ()), *(f"the device {name}" for name in devices.get(key, ()))]
    owners += [inventory.name(other) for other in hosts.get(key, ()) if other not in (own, host)]
    owners += ["a peer of another WireGuard interface"] if key in record.get("taken_keys", ()) else []
    return next(iter(owners), None)


def owners(inventory: Inventory, own: str, hosts: Mapping[str, list[str]]) -> Owners:
    """Return whose public keys a host of the play knows: of other cells and its devices by record and inventory, and which hosts have answered with one."""
    record = inventory.answered(own)
    links = {str(item["name"]): item for item in inventory.chosen_links(own)}
    leaving = {name for name, item in links.items() if item.get("state") == "absent"}
    cells = [(name, link) for name, link in (*record.get("links", {}).items(), *links.items()) if name not in leaving]
    devices = [*record.get("peers", {}).items(), *((peer["name"], peer) for peer in inventory.var(own, "cell_peers") or ())]
    return _by_key(cells), _by_key(devices), hosts


def keys(inventory: Inventory) -> dict[str, list[str]]:
    """Return by public key which hosts have answered with it."""
    return _by_key((host, inventory.answered(host)) for host in _heard(inventory))


def _by_key(items: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, item in items:
        if isinstance(item.get("public_key"), str):
            found.setdefault(item["public_key"], []).append(name)
    return found


def message(inventory: Inventory, host: str, payload: Any) -> dict[str, Any] | None:
    """Return what a host's cell tells another one if it is a message, and of that cell itself; else None."""
    try:
        found = peer_sync.check_payload(payload)
    except BadInput:
        return None
    return found if found["from_cell"] == inventory.name(host) else None


def asked(inventory: Inventory) -> list[str]:
    """Return the hosts that this run changes: those of the play, and in a day-2 job the other cells of the change."""
    others = [str(result["item"]) for result in inventory.registered("__cell_others")] if inventory.changes_links else []
    return list(dict.fromkeys([*others, *inventory.batch]))


def _heard(inventory: Inventory) -> list[str]:
    """Return the hosts that have been read in this run."""
    found = dict.fromkeys(str(result["item"]) for register in READS for result in inventory.registered(register))
    return [host for host in found if inventory.answered(host)]


def failures(inventory: Inventory, registers: tuple[str, ...], asker: str = "") -> Iterator[tuple[str, str]]:
    """Yield which hosts have failed, and what the module said, by what one host of the batch has asked, or all."""
    for register in registers:
        for result in inventory.registered(register, asker):
            if result.get("failed") or (result.get("unreachable") and register in WORK):
                yield worked_on(result), shown(result.get("msg") or "it was not reached", _LONGEST)


def worked_on(result: Mapping[str, Any]) -> str:
    """Return the host that a result of a loop over hosts is of."""
    item = result.get("item")
    return str(item[0] if isinstance(item, list) else item)
