# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an exit counts as down, and when it counts as working again. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from ..parts.verdicts import Limits
from ..records.model import Down

SPAN = 600.0  # seconds in which it counts how often an exit has gone down
_REMEMBERED = 64  # times


class Health:
    """What is known of one exit. It goes down after some failures in a row, and comes up again when it has worked for long enough.

    One that goes down often has to work for longer each time, or its devices would lose their connections again and again, and root would be kept busy.
    """

    def __init__(self, down: Down | None = None, now: float = 0.0) -> None:
        """down: as an earlier process has left it. now: seconds on a clock that only goes on, here and below."""
        self.down = down
        self._failed_at = now
        self._failures = self._successes = 0
        self._has_worked = down is not None  # or it would have to prove itself after each boot, as the network comes up later than this program
        self._downs: deque[float] = deque(maxlen=_REMEMBERED)

    def hold(self, limits: Limits, now: float) -> float:
        """Return for how many seconds the exit has to work until it is used again."""
        return min(limits.hold * self._trust(limits, now), max(limits.hold, limits.hold_limit))

    def _trust(self, limits: Limits, now: float) -> float:
        """Return how many times longer than usual the exit has to work until it is believed."""
        recent = sum(1 for at in self._downs if now - at < SPAN)
        return 2.0 ** max(0, recent - limits.switches + 1)

    def judge(self, why: str | None, limits: Limits, now: float, time: str) -> bool:
        """Take in one answer, and tell whether that has changed the verdict. why: of names.DOWN, None where the exit works. time: now, as recorded."""
        before = self.down
        if why:
            self._failures, self._successes, self._failed_at = self._failures + 1, 0, now
            if self._failures >= limits.failures and (before is None or before.answers):
                self.down = Down(time, why, held=before is not None)
                self._downs.append(now)
            return self.down != before
        self._failures, self._successes = 0, self._successes + 1
        held = now - self._failed_at >= self.hold(limits, now) or (not self._has_worked and self._successes >= limits.failures)
        self._has_worked = self._has_worked or not before or held
        if before and held:
            self.down = None
        elif before and not before.answers and self._successes >= limits.failures * self._trust(limits, now):
            self.down = replace(before, answers=time)
        return self.down != before
