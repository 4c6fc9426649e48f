# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from the answers of all cells to the preflight, for each host of the play: worked out once, as each host would look at all others for it."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh

_Views = dict[frozenset[tuple[str, str]], dict[tuple[str, ...], Any]]


def judge(mesh: Mesh) -> dict[str, Any]:
    """Return what Participants.judged is for all hosts of the play."""
    told: dict[str, list[str]] = {}
    for host in mesh.hosts:
        for name in mesh.answered(host).get("payloads", ()):
            told.setdefault(name, []).append(host)
    common = {"away": mesh.away(), "keys": mesh.keys(), "told": {name: told[name] for name in mesh.host_of if name in told}}
    mesh.judged, views = common, _Views()
    seen = {host: _seen_by(mesh, host, views) for host in mesh.play_hosts}
    return {
        **common,
        "refusals": {host: own.refusals() for host, own in seen.items()},
        "due": {host: own.due(host) for host, own in seen.items()},
        "silenced": {host: dict(own.silenced) for host, own in seen.items()},
    }


def _seen_by(mesh: Mesh, own: str, views: _Views) -> Mesh:
    """Return the same cells as another host sees them. Hosts for which the same answers count share what follows from these."""
    twin = copy.copy(mesh)
    for name in ("owners", "silenced", "worked_on"):
        vars(twin).pop(name, None)
    twin.own = own
    twin.view = views.setdefault(frozenset(twin.silenced.items()), {})
    return twin
