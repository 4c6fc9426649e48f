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
Owners = tuple[dict[str, list[str]], dict[str, list[str]], dict[str, list[str]]]


def silenced(inventory: Inventory, known: Callable[[], Owners]) -> dict[str, str]:
    """Return the other hosts whose answers count for nothing in this run, as if they were not reached, and why."""
    found = {}
    for host, message in failures(inventory, READS):
        if not inventory.answered(host):
            found[host] = f"gave no answer ({message})"
    for host in _heard(inventory):
        owner = false_owner(inventory, known, host, inventory.answered(host).get("public_key"))
        if owner:
            found[host] = f"answered with the public key of {owner}"
    for host in asked(inventory):
        sentences = inventory.answered(host).get("refusals")
        if sentences:
            found.setdefault(host, f"refused this run ({shown(sentences[0], _LONGEST)})")
    found.pop(str(inventory.own), None)
    return found


def lost(inventory: Inventory) -> dict[str, str]:
    """Return the hosts on which a step of this run has failed, and why; they are asked for nothing more in it.

    So are others that take long over every step, or each of them would hold up the run until its time limit.
    """
    taken: Counter[str] = Counter()
    for register in (*READS, *WORK):
        for result in inventory.registered(register):
            taken[worked_on(result)] += result.get(ELAPSED) or 0
    slow = {host: f"its answers have taken {seconds} s" for host, seconds in taken.items() if seconds > _PATIENCE and host not in inventory.batch}
    return {**slow, **dict(failures(inventory, WORK))}


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


def owners(inventory: Inventory, own: str) -> Owners:
    """Return whose public keys a host of the play knows: of other cells and its devices by record and inventory, and which hosts have answered with one."""
    record = inventory.answered(own)
    links = {str(item["name"]): item for item in inventory.chosen_links(own)}
    leaving = {name for name, item in links.items() if item.get("state") == "absent"}
    cells = [(name, link) for name, link in (*record.get("links", {}).items(), *links.items()) if name not in leaving]
    devices = [*record.get("peers", {}).items(), *((peer["name"], peer) for peer in inventory.var(own, "cell_peers") or ())]
    return _by_key(cells), _by_key(devices), _by_key((host, inventory.answered(host)) for host in _heard(inventory))


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


def failures(inventory: Inventory, registers: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield which hosts have failed, and what the module said."""
    for register in registers:
        for result in inventory.registered(register):
            if result.get("failed") or (result.get("unreachable") and register in WORK):
                yield worked_on(result), shown(result.get("msg") or "it was not reached", _LONGEST)


def worked_on(result: Mapping[str, Any]) -> str:
    """Return the host that a result of a loop over hosts is of."""
    item = result.get("item")
    return str(item[0] if isinstance(item, list) else item)
