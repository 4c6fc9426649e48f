# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: group
short_description: The group whose hosts are the cells
description:
  - Returns the extra var C(cell_group) as it was written, or V(cells). A template in it is not filled in.
  - In C(hosts) of a play it fails if the play would have no host, because there is no such group, or an empty one, or none of its hosts is within C(--limit).
    Ansible would skip such a play and report success. A check of the syntax, and a list of tasks or tags, need no hosts.
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

from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import outside
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import GROUP
from ansible_collections.pic.cells.plugins.plugin_utils.schema import GROUP_VARIABLE

NEED_NO_HOST = ("syntax", "listtasks", "listtags")  # options of ansible-playbook


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the name."""
        variables = variables or {}
        try:
            name = outside.asked(self._loader, variables, [GROUP_VARIABLE]).get(GROUP_VARIABLE, GROUP)
            # Ansible fills in the hosts of a play without a host, so inventory_hostname is missing then, and only then.
            if "inventory_hostname" not in variables and not any(map(context.CLIARGS.get, NEED_NO_HOST)):
                _refuse_nobody(name, variables)
        except BadInput as error:
            raise AnsibleLookupError(outside.sentence(error)) from None
        return [name]


def _refuse_nobody(name: object, variables: Mapping[str, Any]) -> None:
    """Raise BadInput if a play for a group would have no host. variables: a play's, with all hosts that --limit leaves."""
    hosts = variables["groups"].get(name, []) if isinstance(name, str) else []
    if not hosts:
        raise BadInput(f"The inventory has no group {name}, or no host is in it. Put the hosts of the cells there, or name their group with -e cell_group=…")
    if not set(hosts) & set(variables["ansible_play_hosts_all"]):
        raise BadInput(f"No host of the group {name} is within --limit. Its hosts: {', '.join(hosts)}.")
