# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: status_report
short_description: Say in lines how a cell is doing
description:
  - Turns what M(pic.cells.pic_cell_info) returned into lines for a person; links, devices, and what differs from the records.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
positional: _input
options:
  _input:
    description: What M(pic.cells.pic_cell_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Show how it is doing
  ansible.builtin.debug:
    msg: "{{ cell | pic.cells.status_report }}"
"""

RETURN = r"""
_value:
  description: The report, a line for each link, device and difference.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.program.status import report
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown_lines


def _report(said: Any) -> list[str]:
    return shown_lines(report(plain(said, "What the cell says of itself")))


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters."""
        return {"status_report": _report}
