# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answer of one host may decide for another: only what depends on it.

What a cell takes back by itself (a share, an offer, a link, a device, a way through another cell) depends on no other cell, so no other
cell's refusal, silence or false answer ends that. Whoever gives something, or asks for it, waits until all are ready; once it has begun nobody ends it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base import packages
from ansible_collections.pic.cells.plugins.module_utils.base.networks import Network, network_of
from ansible_collections.pic.cells.plugins.plugin_utils import endpoints, trust
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import REMOVE_DEVICE, as_list, exits
from ansible_collections.pic.cells.plugins.plugin_utils.pairs import Pairs

_STRICTER = ("hmac", "address")  # sync_auth as it is stated, and as it was


def refusals(mesh: Pairs, objections: Iterable[tuple[str, str]]) -> list[str]:
    """Return what ends the run of a host of the play: what its own cell refuses, and where it takes nothing away, what any other does."""
    if mesh.own is not None and takes_away(mesh, mesh.own):
        return [sentence for host, sentence in objections if host == mesh.own]
    return [sentence for _host, sentence in objections]


def takes_away(mesh: Pairs, host: str) -> bool:
    """Tell whether this run takes something away that the record of a host's cell still allows, keeps or uses."""
    if mesh.job.get("job") == REMOVE_DEVICE:
        return True
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
        if _replaces(item, link):
            return True
    unfit = mesh.unfit_routes(host)
    for route in mesh.stated_routes(host):
        before = as_list(devices.get(route["peer"], {}).get("route_via"))
        exceptions = {network: item["via"] for item in route.get("route_except", ()) for network in item["to"]}
        if route["peer"] not in unfit and devices.get(route["peer"], {}).get("route_except", {}).items() - exceptions.items():
            return True
        if route["via_cell"] and route["via_cell"][: len(before)] != before and route["peer"] not in unfit:  # another one behind takes nothing away
            return True
    if mesh.changes_links:
        return False
    stated = {item["name"]: item.get("public_key") for item in exits(mesh, host) or ()}
    provided = {name: link.get("public_key") for name, link in links.items() if link.get("given_addresses")}
    if any(name not in stated or stated[name] not in (None, key) for name, key in provided.items()):
        return True
    gone = {service["name"] for service in mesh.var(host, "cell_services") or () if service.get("state") == "absent"}
    if any(gone & _shares(link) for link in links.values()):
        return True
    peers = [peer for peer in mesh.var(host, "cell_peers") or () if peer["name"] in devices]
    return any(peer.get("state") == "absent" or _replaces(peer, devices[peer["name"]]) for peer in peers)


def objections(mesh: Pairs) -> Iterator[tuple[str, str]]:
    """Yield what the hosts of this run refuse, and what is wrong with their answers: who has said it, empty where it is nobody's own, and a sentence."""
    answered: dict[str, str] = {}
    hosts = trust.asked(mesh)
    unanswered = dict(trust.failures(mesh, trust.READS))
    for host in hosts:
        key = mesh.answered(host).get("public_key")
        if key and answered.setdefault(key, host) != host:
            yield (
                "",
                (
                    f"Hosts {answered[key]!r} and {host!r} answered with the same key {key}, so they are the same machine. Give each its own ansible_host "
                    "as a plain value: if it is made from inventory_hostname, a delegated task goes to the wrong host."
                ),
            )
            continue
        owner = trust.false_owner(mesh, lambda: mesh.owners, host, key)
        if owner and owner not in (mesh.name(other) for other in hosts):
            yield (
                host,
                (
                    f"{host}: it answered with the public key of {owner}. A key belongs to one cell or device; give it its own, "
                    "or where it is that one under another name, state that the old one is absent."
                ),
            )
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
        # Whether a way can be hangs on what its exit says, so it is no reason to keep what is taken back.
        for why, remedy in () if unfit or takes_away(mesh, host) else mesh.unfit_routes(host).values():
            yield host, f"{why}. {remedy}"


def _replaces(stated: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Tell whether a link or device is stated otherwise than the record has it, so that a key, an address or a right goes."""
    if stated.get("public_key") and record.get("public_key") not in (None, stated["public_key"]):
        return True
    if (record.get("allow_public_networks") and stated.get("allow_public_networks") is False) or (
        stated.get("sync_auth"),
        record.get("sync_auth"),
    ) == _STRICTER:
        return True
    lists = [key for key in ("addresses", "networks", "accept_networks") if isinstance(stated.get(key), list)]
    return any(_networks(record.get(key)) - _networks(stated[key]) for key in lists)


def _networks(values: Any) -> set[Network]:
    """Read networks as far as they are some: what a cell has answered can be anything."""
    found = set()
    for value in values if isinstance(values, list) else [values]:
        with contextlib.suppress(ValueError):
            found.add(network_of(str(value)))
    return found


def _shares(link: dict[str, Any]) -> set[str]:
    return {name for name, allowed in (link.get("permissions") or {}).get("inbound", {}).items() if allowed}
