# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read back of a cell, in words; for the playbook and for the on-cell program alike."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .wireguard import SILENT

DRIFT, QUIET, PENDING = "drift", "silent", "pending"
CONDITIONS = (DRIFT, QUIET, PENDING)


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


def failures(info: Mapping[str, Any], conditions: Collection[str], now: float | None = None) -> list[str]:
    """Return a sentence for each of these conditions that holds on the cell.

    info: what Cell.info returned. conditions: of CONDITIONS. now: seconds since the epoch.
    """
    found = dict.fromkeys(conditions, "")
    for condition, what in _holding(info, time.time() if now is None else now):
        if condition in found:
            found[condition] += f"{'; ' if found[condition] else f'{condition}: '}{what}"
    return [f"{sentence}." for sentence in found.values() if sentence]


def _holding(info: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    if not info["name"]:
        yield PENDING, "this host is no cell yet"
    for line in info["drift"]:
        yield DRIFT, line
    for name, link in sorted(info["links"].items()):
        if not (link["public_key"] and link["networks"]):
            yield PENDING, f"the link with {name} waits for its public key and its networks"
        elif link["keepalive"] != 0 and now - link["last_handshake"] > SILENT:  # without keepalive a tunnel that nobody uses is silent
            yield QUIET, f"link {name}: {tunnel(link, now)}"
        if link["pending_push"]:
            yield PENDING, f"{name} is not told the latest ({link['last_push_error']})"
    for name, peer in sorted(info["peers"].items()):
        if peer["route_via"] is not None and not peer["exit_effective"]:
            yield PENDING, f"no internet for {name}, since {peer['route_via']} offers no exit"


def tunnel(peer: Mapping[str, Any], now: float) -> str:
    """Say how the tunnel of a link or a device is doing."""
    if not peer["last_handshake"]:
        return "no handshake yet"
    return f"last handshake {max(0, int(now - peer['last_handshake']))} s ago, {peer['received']} bytes in, {peer['sent']} bytes out"
