# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file on the controller that has the report of pic.cells.status as a page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.outside import LARGEST, read_file, shown

# By it a file is known to be one that may be written anew.
MARK = '<meta name="generator" content="pic.cells.status">'


def target(report: str) -> Path:
    """Return the file that a page is to be written to. Raises BadInput where there is no folder for it, or the file is something else than such a page."""
    try:
        path = Path(report).expanduser().resolve()
        found, there = path.parent.is_dir(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # of a home that nobody has, a NUL, a folder that may not be looked into
        raise BadInput(f"report={shown(report)} is no path that a file can have here ({shown(error)}). Give another file.") from None
    if not found:
        raise BadInput(f"report={shown(report)}: the folder {shown(path.parent)} does not exist on the controller. Create it, or give another file.")
    if there and not _is_page(path):
        raise BadInput(f"report={shown(report)} is there and is no report of pic.cells.status, so it is not overwritten. Give another file, or remove it.")
    return path


def _is_page(path: Path) -> bool:
    try:
        return path.is_file() and MARK in read_file(path, LARGEST).decode("utf-8", "replace")
    except OSError:
        return False


def write(path: Path, text: str) -> None:
    """Write a page, which is never seen half written; a new one can be read by its owner alone, as it names networks and devices. Raises BadInput."""
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(new, mode)
            os.replace(new, path)
        except OSError:
            os.unlink(new)
            raise
    except OSError as error:
        raise BadInput(f"report={shown(path)} cannot be written ({error.strerror}). Give another file, or make room for this one.") from None
