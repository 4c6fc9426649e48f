# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read back of a cell, in words; for the playbook and for the on-cell program alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def report(info: Mapping[str, Any], now: float | None = None) -> list[str]:
    """Return the lines of the report.

    info: what Cell.info returned. now: seconds since the epoch.
    """
    now = time.time() if now is None else now
    if not info["name"]:
        return ["This host is no cell yet."]
    lines = [f"cell {info['name']}: {', '.join(info['networks'])}"]
    for name, link in sorted(info["links"].items()):
        shares = ", ".join(sorted(service for service, allowed in link["permissions"].get("inbound", {}).items() if allowed)) or "nothing"
        notes = [
            tunnel(link, now),
            f"shares {shares}",
            "offers it an exit" if link["exit_offered"] else "",
            "is offered an exit" if link["remote_exit_offered"] else "",
            "relays its devices" if link["exit_offered"] and link["remote_exit_relay_active"] else "",
            f"has not told it the latest ({link['last_push_error']})" if link["pending_push"] else "",
        ]
        lines.append(f"link {name}: {'; '.join(note for note in notes if note)}")
    for name, peer in sorted(info["peers"].items()):
        via = peer["route_via"]
        way = "direct" if via is None else f"via {via}" if peer["exit_effective"] else f"refused, since {via} offers no exit now"
        lines.append(f"peer {name}: {tunnel(peer, now)}; internet {way}")
    lines += [f"differs from the records: {line}" for line in info["drift"]]
    return [*lines, *(f"warning: {line}" for line in info.get("advice", ()))]


def tunnel(peer: Mapping[str, Any], now: float) -> str:
    """Say how the tunnel of a link or a device is doing."""
    if not peer["last_handshake"]:
        return "no handshake yet"
    return f"last handshake {max(0, int(now - peer['last_handshake']))} s ago, {peer['received']} bytes in, {peer['sent']} bytes out"
