#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_apply
short_description: Bring a cell in line with what is stated of it and what linked cells say, in one execution
description:
  - Does what M(pic.cells.pic_peer_sync) with O(pic.cells.pic_peer_sync#module:received), M(pic.cells.pic_cell_rules), M(pic.cells.wg_cell_peer),
    M(pic.cells.pic_policy_route) and M(pic.cells.pic_cell_agent) do one after the other. Each execution of a module is a connection, a process and the
    engine imported anew; here it is one.
  - All of them are planned before the first change, so what a later one refuses has changed nothing. That the kernel sends a device elsewhere than meant is
    seen only afterwards, as by M(pic.cells.pic_policy_route). Then the old way of that device is put back, and the module fails.
  - Without O(run), sets what the records call for.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.attributes
seealso:
  - module: pic.cells.wg_cell
  - module: pic.cells.pic_cell_restore
"""

EXAMPLES = r"""
- name: Set rules, tunnels, routes and the program pic-cell as the records call for
  pic.cells.pic_cell_apply:
  become: true
"""

RETURN = r"""
steps:
  description: What each step has done, in their order.
  returned: success
  type: dict
  contains:
    hear:
      description: Whether it has C(changed) anything, and what M(pic.cells.pic_peer_sync) returns, C(answers).
      type: dict
    rules:
      description: Whether it has C(changed) anything, and what M(pic.cells.pic_cell_rules) returns.
      type: dict
    links:
      description: Whether it has C(changed) anything, and what M(pic.cells.wg_cell_peer) returns.
      type: dict
    routes:
      description: Whether it has C(changed) anything, and what M(pic.cells.pic_policy_route) returns.
      type: dict
    agent:
      description: Whether it has C(changed) anything, and what M(pic.cells.pic_cell_agent) returns.
      type: dict
  sample:
    hear: {"changed": false, "answers": {}}
    rules: {"changed": true, "shares": {"bergen": ["files"]}}
    links: {"changed": false, "pending": [], "public_key": "5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=", "links": {}}
    routes: {"changed": false, "pending": []}
    agent: {"changed": false, "program": "/usr/local/bin/pic-cell"}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.compiled import take

take()

from ..module_utils.steps.apply import ARGUMENTS, run


def main() -> None:
    run(AnsibleModule(**ARGUMENTS))


if __name__ == "__main__":
    main()
