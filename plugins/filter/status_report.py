# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: status_report
short_description: Say in lines how a cell is doing
description:
  - Turns what M(pic.cells.pic_cell_info) returned into lines for a person; links, devices, and what differs from the records.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
positional: _input
options:
  _input:
    description: What M(pic.cells.pic_cell_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Show how it is doing
  ansible.builtin.debug:
    msg: "{{ cell | pic.cells.status_report }}"
"""

RETURN = r"""
_value:
  description: The report, a line for each link, device and difference.
  type: list
  elements: str
"""

import time
from collections.abc import Callable, Mapping
from typing import Any


def status_report(info: Mapping[str, Any], now: float | None = None) -> list[str]:
    """Return the lines of the report; now is in seconds since the epoch."""
    now = time.time() if now is None else now
    if not info["name"]:
        return ["This host is no cell yet."]
    lines = [f"cell {info['name']}: {', '.join(info['networks'])}"]
    for name, link in sorted(info["links"].items()):
        shares = ", ".join(sorted(service for service, allowed in link["permissions"].get("inbound", {}).items() if allowed)) or "nothing"
        notes = [
            _tunnel(link, now),
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
        lines.append(f"peer {name}: {_tunnel(peer, now)}; internet {way}")
    return [*lines, *(f"differs from the records: {line}" for line in info["drift"])]


def _tunnel(peer: Mapping[str, Any], now: float) -> str:
    if not peer["last_handshake"]:
        return "no handshake yet"
    return f"last handshake {max(0, int(now - peer['last_handshake']))} s ago, {peer['received']} bytes in, {peer['sent']} bytes out"


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters."""
        return {"status_report": status_report}
