#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cell_step
short_description: Take one step of the role for one cell
description:
  - For the role C(pic.cells.cell). Puts together on the controller, once, what the step's module is given for a cell, and executes that module there.
  - What the module is given is no argument of the task, so that neither a verbose run nor a callback prints it.
  - What a cell answers is data, as with the module itself; see there for what is returned.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  step:
    description:
      - The step. V(read) is M(pic.cells.pic_cell_info), V(identity) is M(pic.cells.wg_cell), V(keys) is M(pic.cells.pic_link_keys).
      - V(tell), V(hand) and V(push) are M(pic.cells.pic_peer_sync), V(apply) is M(pic.cells.pic_cell_apply).
    type: str
    required: true
    choices: [read, identity, keys, tell, hand, apply, push]
  host:
    description: The host of the cell, which the task is delegated to where it is another one.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: As the module of the step.
  diff_mode:
    support: full
    description: As the module of the step.
  action:
    support: full
    description: Puts the arguments together on the controller.
  platform:
    support: full
    platforms: linux
    description: Where the module of the step runs.
extends_documentation_fragment: []
requirements:
  - the Python library C(netaddr) on the controller
"""

EXAMPLES = r"""
- name: Read this host's cell
  pic.cells.cell_step:
    step: read
    host: "{{ inventory_hostname }}"
"""

RETURN = r"""
elapsed:
  description: The seconds that the answer has taken, as the controller has measured them; beside what the module of the step returns.
  returned: success
  type: int
  sample: 1
"""
