# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates as texts, as tc(8) takes them, like 20mbit: a whole number with the largest unit that leaves it whole. Pure."""

from __future__ import annotations

import re

from .errors import BadInput

_UNITS = {"gbit": 10**9, "mbit": 10**6, "kbit": 10**3}  # bits per second
_RATE = re.compile(r"([1-9][0-9]{0,8})(kbit|mbit|gbit)")
# With less a page does not load any more, and what cells tell each other comes too late. No tunnel of WireGuard carries more.
LEAST, MOST = "256kbit", "10gbit"


def parse_rate(value: object, what: str) -> str:
    """Read a rate, and return it with its largest unit. what: names it. Raises BadInput."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not bits(LEAST) <= bits(found[0]) <= bits(MOST):
        raise BadInput(f"{what}: {str(value)!r} is not a rate. Give a whole number of kbit, mbit or gbit from {LEAST} to {MOST}, like 20mbit.")
    return render_rate(bits(found[0]))


def bits(rate: str) -> int:
    """Return a rate in bits per second (inverse of render_rate)."""
    number, unit = rate[:-4], rate[-4:]
    return int(number) * _UNITS[unit]


def render_rate(number: int) -> str:
    """Return a rate as text. number: bits per second; what is not a whole number of kbit is rounded."""
    for unit, size in _UNITS.items():
        if number and number % size == 0:
            return f"{number // size}{unit}"
    return f"{round(number / _UNITS['kbit'])}kbit"


def check_rate(text: str) -> None:
    """Refuse a text that is no rate as we write them. Raises BadInput."""
    if parse_rate(text, "rate") != text:
        raise BadInput(f"{text!r} is not a rate with its largest unit.")
