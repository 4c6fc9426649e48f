# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: group
short_description: The group whose hosts are the cells
description:
  - Returns the extra var C(cell_group) as it was written, or V(cells). A template in it is not filled in.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  _terms:
    description: Nothing is asked for.
"""

EXAMPLES = r"""
- name: Look at all cells
  hosts: "{{ lookup('pic.cells.group') }}"
  gather_facts: false
  tasks:
    - name: Read the cell
      pic.cells.pic_cell_info:
      become: true
"""

RETURN = r"""
_raw:
  description: The name of the group.
  type: list
  elements: str
"""

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import outside
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import GROUP
from ansible_collections.pic.cells.plugins.plugin_utils.schema import GROUP_VARIABLE


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the name."""
        try:
            return [outside.asked(self._loader, variables or {}, [GROUP_VARIABLE]).get(GROUP_VARIABLE, GROUP)]
        except BadInput as error:
            raise AnsibleError(str(error)) from None
