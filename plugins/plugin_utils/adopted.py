# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that pic.cells.adopt prints and writes: what a host has answered, as YAML."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import LARGEST, read_file, shown, shown_lines, write_new

_DECIDED_HERE = ("name", "interface", "share", "offer_exit")  # of a link, where the other cell's own host states the rest
_WIDEST = 10**6  # of a line: each value stays on its own


def lines(mesh: Mesh, found: Mapping[str, Any]) -> list[str]:
    """Return the lines of an inventory with the mesh's own host. found: a judged answer, so that no text of it can be a template where it stands."""
    stated, host = json.loads(json.dumps(found["inventory"])), str(mesh.own)
    if stated.get("cell_name") == mesh.name(host):
        del stated["cell_name"]
    if "cell_links" in stated:
        stated["cell_links"] = [
            {key: value for key, value in link.items() if key in _DECIDED_HERE or link["name"] not in mesh.host_of} for link in stated["cell_links"]
        ]
    text = yaml.safe_dump({mesh.group: {"hosts": {host: stated}}}, default_flow_style=None, sort_keys=False, width=_WIDEST)
    notes = shown_lines(found["notes"])
    head = [f"# What pic.cells.adopt has found on host {shown(host)}. Read it before you run site with it."]
    told = ["# Not in it, or otherwise than it was:"] if notes else []
    return [*head, *text.splitlines(), *told, *(f"# {note}" for note in notes)]


def place(dest: str, text: str, write: bool) -> bool:
    """Write a new file; tell whether that changes anything. Raises BadInput where there is one that holds something else, and for what is no path.

    write: whether to write it at all.
    """
    path = Path(os.path.expanduser(dest))
    try:
        if _is_there(path):
            if path.is_symlink() or read_file(path, LARGEST) != text.encode():
                raise BadInput(f"dest {dest!r} is there already, and holds something else. Give the path of a new file, or remove that one.")
            return False
        if not write:
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise OSError("its folder is not there, or not to be written to")
            return True
        write_new(path, text.encode())
    except (OSError, ValueError) as error:
        raise BadInput(f"dest {dest!r} cannot be written ({error}). Give the path of a new file in a folder that is there.") from None
    return True


def _is_there(path: Path) -> bool:
    """Tell whether a path exists; a dangling link does. Raises OSError and ValueError for one that none can be."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True
