# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception family of the engine; only a module's main() or the on-cell program turns it into output."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .discreet import said

# Ansible itself takes an older one, whose complaint about our source would say nothing.
if sys.version_info < (3, 9):
    raise ImportError(
        f"A cell needs Python 3.9 or later, and this is {sys.version.split()[0]} ({sys.executable}). "
        "Install a newer one, and set ansible_python_interpreter to it in the inventory."
    )


class CellError(Exception):
    """Anything that keeps a cell from reaching the state that was asked for."""


class BadInput(CellError):
    """What was asked for cannot be; nothing has changed. The text names the item, the value and the remedy."""


class StoreError(CellError):
    """The records cannot be read, locked or written."""


class WriteFailed(CellError):
    """A file cannot be written; it is as before."""


class UnsafeText(CellError):
    """A text for another program holds what that would take for syntax: a mistake of ours, found before anything was written."""

    def __init__(self, said: str) -> None:
        super().__init__(f"{said} Nothing was written. This is a bug in pic.cells; please report it.")


class ToolMissing(CellError):
    """A program that the engine needs is not installed."""


class CommandFailed(CellError):
    """A command ended otherwise than expected; carries its argv, exit code, output and input."""

    def __init__(self, argv: Sequence[str], rc: int, output: str, stdin: str | None = None) -> None:
        output = said(argv[0], output)
        self.argv, self.rc, self.output, self.stdin = list(argv), rc, output, stdin
        super().__init__(f"Command {' '.join(argv)!r} ended with exit code {rc}: {output.strip() or 'no output'}")
