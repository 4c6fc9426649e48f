# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: shown
short_description: Make what a cell says safe to print
description:
  - Makes one line of a text, or of each item of a list, without control characters and escape sequences, and of bounded length.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
positional: _input
options:
  _input:
    description: What a module returned.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Show its key
  ansible.builtin.debug:
    msg: "{{ cell.public_key | pic.cells.shown }}"
"""

RETURN = r"""
_value:
  description: The line, or the list of lines.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.pic.cells.plugins.plugin_utils.outside import shown, shown_lines


def _shown(value: Any) -> Any:
    return shown_lines(value) if isinstance(value, (list, tuple)) else shown(value)


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters."""
        return {"shown": _shown}
