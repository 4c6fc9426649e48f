# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a cell looks at itself after it has heard of a change: at once, but not too often. Pure; the clock is the caller's."""

from __future__ import annotations

from collections.abc import Collection

from .events import Heard

GAP = 1.0  # seconds between two looks at least
SETTLE = 1.0  # seconds for whoever takes an interface of ours down and up again
SHARE = 0.01  # of a core, for looks that find nothing
BURST = 1.0  # seconds of processor time that may be spent at once on them
PATIENCE = 5  # times that the same is put back at once
LONGEST = 60.0  # seconds between two looks at most, whoever takes away what is put back
_MEMORY = 180.0  # seconds after which it is no rival any more
_KNOWN = 4096  # lines that are remembered


class Pace:
    """Whether a look is wanted, and from when on."""

    def __init__(self, now: float) -> None:
        """now: seconds of a clock that only goes forward, as in all that follows."""
        self.wanted: float | None = now  # since when
        self._certain = True
        self._free = now
        self._left, self._since = BURST, now
        self._found: dict[str, tuple[int, float]] = {}

    def heard(self, what: Heard, now: float) -> None:
        """Take note of an event."""
        if what < Heard.DOUBTFUL:
            return
        wanted = now + SETTLE if what == Heard.INTERFACE else now
        self.wanted = wanted if self.wanted is None else min(self.wanted, wanted)
        self._certain = self._certain or what >= Heard.INTERFACE

    def due(self) -> float | None:
        """Return when the next look begins; None for not at all."""
        if self.wanted is None:
            return None
        # What is certainly lost is put back, whatever it costs; how often is bounded by who takes it away.
        paid = self._since if self._certain or self._left > 0 else self._since - self._left / SHARE
        return max(self.wanted, self._free, paid)

    def wait(self, until: float) -> None:
        """Begin the next look no earlier."""
        self._free = max(self._free, until)

    def begin(self) -> None:
        """Begin a look: what was heard before is seen by it."""
        self.wanted, self._certain = None, False

    def end(self, now: float, cost: float, found: Collection[str]) -> str | None:
        """End a look. cost: its processor time. found: what was missing. Returns a line of it when it is the first time that patience has ended with it."""
        self._left = min(BURST, self._left + (now - self._since) * SHARE) - (0 if found else cost)
        self._since = now
        known = {line: (times, last) for line, (times, last) in self._found.items() if now - last < _MEMORY}
        for line in list(found)[:_KNOWN]:
            known[line] = known.get(line, (0, now))[0] + 1, now
        self._found = known
        line, times = max(((line, known[line][0]) for line in found if line in known), key=lambda item: item[1], default=("", 0))
        self._free = now + (GAP if times <= PATIENCE else min(LONGEST, GAP * 2.0 ** min(times - PATIENCE, 10)))
        return line if times == PATIENCE + 1 else None
