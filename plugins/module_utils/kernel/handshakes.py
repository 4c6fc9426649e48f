# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the age of a handshake of WireGuard tells. Pure."""

from __future__ import annotations

from collections.abc import Collection

FRESH_HANDSHAKE = 135  # seconds; a session is renewed after 120 s, so an older one is no sign of life (WireGuard paper, 6.1)
SILENT = 180  # seconds; a tunnel without a handshake for longer carries nothing (WireGuard paper, 6.1: Reject-After-Time)
_CLOCK_STEP = 5  # seconds by which a clock may be slewed


def is_recent(handshake: int, now: float, within: int) -> bool:
    """Tell whether a handshake is a sign of life; one of a time to come is of before the clock was set back, and may be of any age."""
    return handshake > 0 and -_CLOCK_STEP <= now - handshake <= within


def age(handshake: int, now: float) -> str:
    """Say how long ago the last handshake was."""
    if not handshake:
        return "no handshake yet"
    if now - handshake < -_CLOCK_STEP:
        return "last handshake in the future (the clock has been set back)"
    return f"last handshake {max(0, int(now - handshake))} s ago"


def without_counts(dump: str, now: float, roaming: Collection[str] = ()) -> str:
    """Return what 'wg show all dump' printed without what changes all the time: of handshakes it says which are fresh, of bytes nothing.

    now: seconds. roaming: keys of devices, which dial in from anywhere at any time; of them it says neither where from nor when.
    """
    return "\n".join("\t".join(_steady(line.split("\t"), now, roaming)) for line in dump.split("\n"))


def _steady(cells: list[str], now: float, roaming: Collection[str]) -> list[str]:
    if len(cells) != 9:
        return cells
    if cells[1] in roaming:
        return [*cells[:3], cells[4], cells[8]]
    return [*cells[:5], str(is_recent(int(cells[5]), now, FRESH_HANDSHAKE)), cells[8]]
