# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each step of the role gives its module for the cell on a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.plugin_utils.endpoints import port_of
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import ROUTE_PEER, as_list, exits, exits_of, only
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.offers import RIGHTS

Arguments = dict[str, Any]

_DEVICE = ("name", "public_key", "preshared_key", "addresses", "networks", "exit_dns", "state")
_ADDRESSED = ("name", "public_key", "networks", "allow_public_networks", "address", "interface", "listen_port")
_TUNNEL = ("endpoint", "keepalive", "mtu", "preshared_key", "api_url", "accept_networks", "sync_auth", "state")
_RIGHTS = ("share", *RIGHTS)
# What the modules take of a link, by what they do with it.
_PORTS = ("name", "interface", "listen_port", "state")
_LINK = ("generated", *_ADDRESSED, *_TUNNEL)
_RULED = ("api_url", "state", *_ADDRESSED, *_RIGHTS)
_SYNCED = ("offered", "state", *_ADDRESSED, *_RIGHTS)
_EXITS = ("exit_failures", "exit_hold", "exit_switches", "exit_hold_limit", "exit_dns", "exit_probes", "whoami", "expect")
_CELL = ("networks", "endpoint", "interface", "listen_port", "link_port_base", "uplink", "admin_networks", "sync_port", "resolver", *_EXITS)


def of_step(mesh: Mesh, step: str, host: str, predict: bool = False) -> tuple[str, Arguments]:
    """Return the module that a step of the role executes on a host, and what it is given. predict: whether the run is in check mode."""
    module, arguments = STEPS[step]
    found = {**arguments(mesh, host), "state_dir": mesh.state_dir(host)}
    if step in _KNOW_THE_RUN:
        # What other cells say is needed where they are heard: all messages are looked at for each cell. Check mode rehearses what comes before a step.
        found["run"] = whole_run(mesh, host, heard=step in ("read", "apply") or (predict and step == "push"))
    return module, found


def side(mesh: Mesh, host: str) -> Arguments:
    """Return the arguments of all modules for the cell on a host, under the names that the lookup pic.cells.side has for them."""
    return {
        "state_dir": mesh.state_dir(host),
        "transport": mesh.transport(host),
        "keyless": mesh.keyless(host),
        "cell": cell(mesh, host),
        "devices": devices(mesh, host),
        "reserve": _links(mesh, host, *_PORTS),
        "links": _links(mesh, host, *_LINK),
        "rules": _links(mesh, host, *_RULED),
        "sync": _links(mesh, host, *_SYNCED),
        "offers": offers(mesh, host),
        "routes": mesh.routes(host),
        "received": mesh.received(host),
        "answers": mesh.answers(host),
        "run": whole_run(mesh, host),
    }


def whole_run(mesh: Mesh, host: str, heard: bool = True) -> Arguments:
    """Return what all modules together are given: the preflight looks for what they would refuse, and check mode takes for done what comes before a module.

    heard: with what other cells say.
    """
    return {
        "peers": devices(mesh, host),
        "links": _links(mesh, host, "generated", "offered", *_ADDRESSED, *_TUNNEL, *_RIGHTS),
        "exits": exits(mesh, host),
        "routes": mesh.routes(host),
        "received": mesh.received(host) if heard else [],
        "answers": mesh.answers(host) if heard else {},
    }


def cell(mesh: Mesh, host: str) -> Arguments:
    """Return what is stated of a host's cell itself."""
    services = [{**service, "address": as_list(service.get("address"))} for service in mesh.var(host, "cell_services") or ()]
    ports = {name: port for name in mesh.stated_links(host) if (port := port_of(mesh, host, name))}
    told = sorted(name for name, side in mesh.host_of.items() if side in mesh.worked_on and side != host)
    return {"name": mesh.name(host), "endpoint_ports": ports, "in_run": told, **{key: mesh.var(host, f"cell_{key}") for key in _CELL}, "services": services}


def devices(mesh: Mesh, host: str) -> list[Arguments]:
    """Return what is stated of a host's devices; a day-2 change says nothing of them but of the one that it adds or removes."""
    peers = mesh.asked_device(host) if mesh.changes_links else mesh.var(host, "cell_peers") or []
    # No playbook for a single change states who answers one, so what the inventory states no more is gone.
    silent: Arguments = {} if mesh.changes_links else {"exit_dns": []}
    return [{**silent, **only(peer, *_DEVICE, *(() if peer["name"] in mesh.held(host) else ("route_via", "route_except")))} for peer in peers]


def offers(mesh: Mesh, host: str) -> list[Arguments]:
    """Return which of the linked cells offer a host's cell an exit, and of which it can be expected."""
    # The preflight has judged these: an offer that is taken back since then leaves a way closed, and ends nobody's run.
    judged = {via for route in mesh.routes(host) for via in exits_of(route)} if mesh.results("__cell_read", host) else set()
    links = [link for link in mesh.links(host).values() if link.get("state") != "absent"]
    return [{**only(link, "name", "offered"), "expected": bool(link.get("expected")) or link["name"] in judged} for link in links]


def _links(mesh: Mesh, host: str, *keys: str) -> list[Arguments]:
    return [only(link, *keys) for link in mesh.links(host).values()]


def _cell(mesh: Mesh, host: str) -> Arguments:
    return {"cell": cell(mesh, host)}


def _read(mesh: Mesh, host: str) -> Arguments:
    """Only where a person moves a device is its cell to ask the exits first: a whole site has to work while some of them do not."""
    asks = mesh.job.get("job") == ROUTE_PEER and host == mesh.job["host"]
    return {**_cell(mesh, host), **({"prove": "warn" if mesh.job.get("force") else "refuse"} if asks else {})}


def _identity(mesh: Mesh, host: str) -> Arguments:
    return {"cell": cell(mesh, host), "peers": devices(mesh, host), "links": _links(mesh, host, *_PORTS)}


def _keys(mesh: Mesh, host: str) -> Arguments:
    return {"links": mesh.keyless(host), **({"new": True} if mesh.rotates_link else {})}


def _pair(mesh: Mesh, host: str) -> Arguments:
    change, name = mesh.job["change"], mesh.job["remote_cell"]
    return {
        "name": name,
        **only(change, "public_key", "endpoint", "api_url"),
        "source": mesh.job["pairing"]["source"],
        "preshared_key": mesh.preshared_key(),
        "endpoint_port": port_of(mesh, host, name),
    }


def _tell(mesh: Mesh, host: str) -> Arguments:
    return {"cell": cell(mesh, host), "cells": _links(mesh, host, *_SYNCED), "routes": mesh.routes(host)}


def _hand(mesh: Mesh, host: str) -> Arguments:
    return {"cell": cell(mesh, host), "received": mesh.received(host)}


def _push(mesh: Mesh, host: str) -> Arguments:
    return {"cell": cell(mesh, host), "answers": mesh.answers(host), "transport": mesh.transport(host)}


# By step: the module, and what of its arguments is its own. "read" is the preflight.
STEPS: Mapping[str, tuple[str, Callable[[Mesh, str], Arguments]]] = {
    "read": ("pic_cell_info", _read),
    "identity": ("wg_cell", _identity),
    "keys": ("pic_link_keys", _keys),
    "pair": ("pic_link_pair", _pair),
    "tell": ("pic_peer_sync", _tell),
    "hand": ("pic_peer_sync", _hand),
    "apply": ("pic_cell_apply", _cell),
    "push": ("pic_peer_sync", _push),
}
_KNOW_THE_RUN = ("read", "tell", "apply", "push")
