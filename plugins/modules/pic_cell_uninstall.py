#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_uninstall
short_description: Remove a cell from its host
description:
  - Removes what is the cell's and nothing else; its units and program, links, rules, policy rules and routes, settings, key and records.
  - A devices' interface that the cell has made goes. One that was there before stays with its key, its port and its peers; what the cell has put there goes.
  - What lets devices in goes before what closes their ways. A device that stays and was routed is named in a warning, since it may go direct then.
  - Forwarding stays on until the next boot, as other software may rely on it.
  - Other cells keep their links with this one until they are removed there, best before (the playbook C(pic.cells.unlink)).
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.attributes
options:
  name:
    description: The cell's name, so that no other one is meant by mistake.
    type: str
    required: true
  purge:
    description:
      - Whether to keep no copy. Otherwise key and records, and the devices' file, are kept for root alone beside O(state_dir), in a folder whose
        name ends with C(.removed).
    type: bool
    default: false
seealso:
  - module: pic.cells.wg_cell
"""

EXAMPLES = r"""
- name: Remove the cell oslo from this host
  pic.cells.pic_cell_uninstall:
    name: oslo
  become: true
"""

RETURN = r"""
removed:
  description: What was removed, a line each; in check mode what would be.
  returned: success
  type: list
  elements: str
  sample: ["surplus: pic-bergen: there"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kernel.plan import apply
from ..module_utils.module import opened, report
from ..module_utils.options import STATE_DIR
from ..module_utils.program.uninstall import plan_uninstall


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **STATE_DIR,
            "name": {"type": "str", "required": True},
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    with opened(module, "uninstall", create=False) as context:
        plan = plan_uninstall(context, module.params["name"], module.params["purge"])
        if plan and not module.check_mode:
            apply(context.host, plan)
        report(module, plan, {"removed": plan.differences()})


if __name__ == "__main__":
    main()
