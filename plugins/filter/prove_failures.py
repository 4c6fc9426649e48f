# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: prove_failures
short_description: Say what is wrong with the exits of a cell's devices
description:
  - Turns what M(pic.cells.pic_cell_prove) returned into a sentence for each thing that is wrong, with the devices that it is wrong for.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
positional: _input
options:
  _input:
    description: What M(pic.cells.pic_cell_prove) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Try out the exits
  pic.cells.pic_cell_prove:
  become: true
  register: proof

- name: Fail where one of them carries no traffic
  ansible.builtin.assert:
    that: proof | pic.cells.prove_failures == []
"""

RETURN = r"""
_value:
  description: A sentence for each thing that is wrong; empty where nothing is.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.program.prove import failures
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown_lines


def _failures(said: Any) -> list[str]:
    return shown_lines(f"{line}." for line in failures(plain(said, "What the cell says of its exits")["peers"]))


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters."""
        return {"prove_failures": _failures}
