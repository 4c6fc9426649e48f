# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: status_failures
short_description: Say what of a cell is to be looked at
description:
  - Turns what M(pic.cells.pic_cell_info) returned into a sentence for each condition that holds, and that was asked for.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
positional: _input, conditions
options:
  _input:
    description: What M(pic.cells.pic_cell_info) returned.
    type: dict
    required: true
  conditions:
    description:
      - V(drift) is what differs from the records, V(silent) a link without a handshake for 3 minutes (except one without keepalives), V(pending) what waits for
        another cell; a link, a message, an exit. V(expectation) is what C(cell_expect) states and the cell does not do.
    type: list
    elements: str
    choices: [drift, silent, pending, expectation]
    required: true
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Fail where the kernel differs from the records
  ansible.builtin.assert:
    that: cell | pic.cells.status_failures(['drift']) == []
"""

RETURN = r"""
_value:
  description: A sentence for each condition that holds; empty where none does.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.program.status import failures
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown_lines


def _failures(said: Any, conditions: Any) -> list[str]:
    return shown_lines(failures(plain(said, "What the cell says of itself"), conditions))


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters."""
        return {"status_failures": _failures}
