# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pic-cell prints, and its exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from ..base.texts import printable, shown

OK, FAILED, DIFFERS = 0, 1, 3  # argparse ends with 2


def complain(message: str) -> int:
    """Say what is wrong, on standard error; return the exit code."""
    _write(sys.stderr, f"pic-cell: {message}")
    return FAILED


def say(line: str) -> None:
    """Say a line at once, also where standard output is a journal."""
    _write(sys.stdout, line)
    sys.stdout.flush()


def _write(stream: TextIO, line: str) -> None:
    """Write a line, whatever is in it, to a terminal or journal of any encoding."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def say_only_to_a_person(given: argparse.Namespace) -> Callable[[str], None]:
    """Return what says lines, unless one JSON object is asked for."""
    return (lambda _line: None) if given.json else say


def report(given: argparse.Namespace, facts: Any, lines: Sequence[str]) -> None:
    """Say facts as JSON where that was asked for, or else lines for a person."""
    for line in [json.dumps(shown(facts), sort_keys=True)] if given.json else lines:
        say(line)
