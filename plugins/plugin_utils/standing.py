# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answer of one host may decide for another: only what depends on it.

What a cell takes back by itself (a share, an offer, a link, a device, a way through another cell) depends on no other cell, so no other
cell's refusal, silence or false answer ends that. Whoever gives something, or asks for it, waits until all are ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ansible_collections.pic.cells.plugins.module_utils import packages, peer_sync
from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.records import DIRECT
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints
from ansible_collections.pic.cells.plugins.plugin_utils.outside import shown

if TYPE_CHECKING:
    from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh

READS = ("__cell_read", "__cell_others")
# What the steps of the role register, where another host can be among those that are worked on.
WORK = (
    *("__cell_packages", "__cell_advertised", "__cell_forwarding", "__cell_identity", "__cell_keys", "__cell_built", "__cell_taken", "__cell_handed"),
    *("__cell_noted", "__cell_rules", "__cell_links", "__cell_routes", "__cell_agent", "__cell_pushed"),
)
_LONGEST = 300  # characters of a reason
_GENERATED = "(generated)"


def refusals(mesh: Mesh) -> list[str]:
    """Return what ends the run of a host of the play: what its own cell refuses, and where it takes nothing away, what any other does."""
    objections = list(_objections(mesh))
    if mesh.own is not None and takes_away(mesh, mesh.own):
        return [sentence for host, sentence in objections if host == mesh.own]
    return [sentence for _host, sentence in objections]


def silenced(mesh: Mesh) -> dict[str, str]:
    """Return the other hosts whose answers count for nothing in this run, as if they were not reached, and why."""
    found = {}
    for host, message in _failures(mesh, READS):
        if not mesh.answered(host):
            found[host] = f"gave no answer ({message})"
    for host in _heard(mesh):
        owner = false_owner(mesh, host, mesh.answered(host).get("public_key"))
        if owner:
            found[host] = f"answered with the public key of {owner}"
    for host in _asked(mesh):
        sentences = mesh.answered(host).get("refusals")
        if sentences:
            found.setdefault(host, f"refused this run ({shown(sentences[0], _LONGEST)})")
    found.pop(str(mesh.own), None)
    return found


def lost(mesh: Mesh) -> dict[str, str]:
    """Return the hosts on which a step of this run has failed, and why; they are asked for nothing more in it."""
    return dict(_failures(mesh, WORK))


def takes_away(mesh: Mesh, host: str) -> bool:
    """Tell whether this run takes something away that the record of a host's cell still allows, keeps or uses."""
    known = mesh.answered(host)
    links, devices = known.get("links", {}), known.get("peers", {})
    for item in mesh.chosen_links(host):
        link = links.get(str(item["name"]))
        if link is None:
            continue
        shares = _shares(link)
        share = item.get("share")
        if item.get("state") == "absent" or (share is not None and shares - set(share)) or (item.get("offer_exit") is False and link.get("exit_offered")):
            return True
    for route in mesh.routes(host):
        if route["via_cell"] == DIRECT and devices.get(route["peer"], {}).get("route_via"):
            return True
    if mesh.changes_links:
        return False
    gone = {service["name"] for service in mesh.var(host, "cell_services") or () if service.get("state") == "absent"}
    return any(peer["name"] in devices for peer in mesh.var(host, "cell_peers") or () if peer.get("state") == "absent") or any(
        gone & _shares(link) for link in links.values()
    )


def false_owner(mesh: Mesh, host: str, key: Any) -> str | None:
    """Return whose public key a host has answered with where that is another's: a host speaks for its own cell alone."""
    own = mesh.own
    if own is None or host == own or not key or key == _GENERATED:
        return None
    record = mesh.answered(own)
    if key == record.get("public_key"):
        return mesh.name(own)
    owners = [name for name, link in record.get("links", {}).items() if link.get("public_key") == key and name in mesh.host_of]
    if mesh.name(host) in owners:
        return None
    owners += [f"the device {name}" for name, device in record.get("peers", {}).items() if device.get("public_key") == key]
    owners += [mesh.name(other) for other in _heard(mesh) if other not in (own, host) and mesh.answered(other).get("public_key") == key]
    return next(iter(owners), None)


def messages(mesh: Mesh, host: str, payloads: Any) -> dict[str, dict[str, Any]]:
    """Return what a host's cell tells the others, by their names, as far as each is a message, and of that cell itself."""
    found = {}
    for name, payload in payloads.items() if isinstance(payloads, dict) else ():
        try:
            message = peer_sync.check_payload(payload)
        except BadInput:
            continue
        if message["from_cell"] == mesh.name(host):
            found[str(name)] = message
    return found


def _asked(mesh: Mesh) -> list[str]:
    """Return the hosts that this run changes: those of the play, and in a day-2 job the other cells of the change."""
    others = [str(result["item"]) for result in mesh.registered("__cell_others")] if mesh.changes_links else []
    return list(dict.fromkeys([*others, *mesh.batch]))


def _heard(mesh: Mesh) -> list[str]:
    """Return the hosts that have been read in this run."""
    found = dict.fromkeys(str(result["item"]) for register in READS for result in mesh.registered(register))
    return [host for host in found if mesh.answered(host)]


def _objections(mesh: Mesh) -> Iterator[tuple[str, str]]:
    """Yield what the hosts of this run refuse, and what is wrong with their answers: who has said it, and a sentence."""
    answered: dict[str, str] = {}
    asked = _asked(mesh)
    unanswered = dict(_failures(mesh, READS))
    for host in asked:
        key = mesh.answered(host).get("public_key")
        if key and answered.setdefault(key, host) != host:
            speaker = host if answered[key] == mesh.own else answered[key] if host == mesh.own else host
            sentence = (
                f"Hosts {answered[key]!r} and {host!r} answered with the same key {key}, so they are one machine. Give each its own ansible_host, as a "
                "plain value: where it is made from inventory_hostname, a delegated task goes to the wrong host."
            )
            yield speaker, sentence
            continue
        owner = false_owner(mesh, host, key)
        if owner and owner not in (mesh.name(other) for other in asked):
            yield host, f"{host}: it answered with the public key of {owner}. A key belongs to one cell or device; give it its own."
        by_hand = packages.refusal(mesh.answered(host), mesh.manages_packages(host))
        for sentence in (*mesh.answered(host).get("refusals", ()), *filter(None, [by_hand])):
            yield host, f"{host}: {sentence}"
        if mesh.changes_links and host in unanswered and not mesh.answered(host):
            yield host, f"{host}: {unanswered[host]}"
    # What follows from the answers of several is nobody's own.
    for sentence in endpoints.refusals(mesh):
        yield "", sentence
    for host in mesh.play_hosts:
        unfit = mesh.unfit(host) if mesh.changes_links else []
        for sentence in unfit:
            yield host, sentence
        for sentence in () if unfit else mesh.unfit_routes(host):
            yield host, sentence


def _failures(mesh: Mesh, registers: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield which hosts have failed, and what the module said."""
    for register in registers:
        for result in mesh.registered(register):
            if result.get("failed") or (result.get("unreachable") and register in WORK):
                item = result.get("item")
                yield str(item[0] if isinstance(item, list) else item), shown(result.get("msg") or "it was not reached", _LONGEST)


def _shares(link: dict[str, Any]) -> set[str]:
    return {name for name, allowed in (link.get("permissions") or {}).get("inbound", {}).items() if allowed}
