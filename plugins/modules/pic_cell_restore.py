#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_restore
short_description: Put back what is missing on a cell
description:
  - Brings the kernel to what the cell's records say; tunnels, rules, policy rules and routes that something else has removed. It decides nothing,
    and asks no inventory.
  - Does what C(pic-cell restore) does on the cell at boot and every 60 seconds, and needs no such program there.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.attributes
seealso:
  - module: pic.cells.pic_cell_info
  - module: pic.cells.pic_cell_agent
"""

EXAMPLES = r"""
- name: Put back what is missing
  pic.cells.pic_cell_restore:
  become: true
"""

RETURN = r"""
repairs:
  description: What was put back, a line each; in check mode what would be. Also returned where something else could not be put back.
  returned: always
  type: list
  elements: str
  sample: ["missing: 10.0.0.2: [4001] table 4200, [4002] unreachable", "surplus: 10.0.0.2: direct"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.base.texts import shown
from ..module_utils.module import report, root_host
from ..module_utils.options import STATE_DIR
from ..module_utils.program.restore import restore


def main() -> None:
    module = AnsibleModule(argument_spec=STATE_DIR, supports_check_mode=True)
    with root_host(module) as host:
        done = restore(host, module.params["state_dir"], predict=module.check_mode)
        if done.errors:
            module.fail_json(**shown({"msg": " ".join(done.errors), "changed": bool(done.plan), "diff": done.plan.diff(), "repairs": done.repairs}))
        report(module, done.plan, {"repairs": done.repairs})


if __name__ == "__main__":
    main()
