# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments as texts, in UTC and to the second, like 2026-12-31T00:00:00Z: the earlier one is the lesser text. Pure."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

from .errors import BadInput

_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?: ?([Zz]|[+-][0-9]{2}:[0-9]{2}))?")
_UTC = ("Z", "z")
_EXAMPLE = "2026-12-31T00:00:00Z"


def render_moment(seconds: float) -> str:
    """Return a moment as text. seconds: since the epoch."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def parse_moment(value: object, what: str) -> str:
    """Read a moment in any time zone, and return it in UTC. value: a text, or what YAML has made of one. what: names it. Raises BadInput."""
    if isinstance(value, datetime):
        moment = value
    else:
        found = _MOMENT.fullmatch(value) if isinstance(value, str) else None
        try:
            if found is None:
                raise ValueError(value)
            day, clock, zone = found.groups()
            moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in _UTC else zone or ''}")
        except ValueError:
            raise BadInput(f"{what}: {str(value)!r} is not a time. Give one in UTC, like {_EXAMPLE}.") from None
    if moment.tzinfo is None:
        raise BadInput(f"{what}: {str(value)!r} has no time zone. Give the time in UTC, like {_EXAMPLE}.")
    try:
        return f"{moment.astimezone(timezone.utc).replace(tzinfo=None, microsecond=0).isoformat()}Z"
    except OverflowError:
        raise BadInput(f"{what}: {str(value)!r} is out of range. Give a time like {_EXAMPLE}.") from None


def check_moment(text: str) -> None:
    """Refuse a text that is no moment as we write them. Raises BadInput."""
    if parse_moment(text, "time") != text:
        raise BadInput(f"{text!r} is not a time in UTC.")
