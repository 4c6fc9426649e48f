#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cell_base
short_description: Execute a module of another collection for one cell
description:
  - For the role C(pic.cells.cell), which installs packages and sets kernel parameters with modules that are not of this collection.
  - What a cell answers is data, as with the modules of this collection; of the result only what is safe to print and to act on is handed on.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  module:
    description: The module.
    type: str
    required: true
    choices: [ansible.builtin.package, ansible.posix.sysctl]
  arguments:
    description: What the module is given.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: As the module.
  diff_mode:
    support: full
    description: As the module.
  action:
    support: full
    description: Judges the answer on the controller.
  platform:
    support: full
    platforms: linux
    description: Where the module runs.
extends_documentation_fragment: []
"""

EXAMPLES = r"""
- name: Forward packets
  pic.cells.cell_base:
    module: ansible.posix.sysctl
    arguments:
      name: net.ipv4.ip_forward
      value: "1"
"""

RETURN = r"""
elapsed:
  description: The seconds that the answer has taken, as the controller has measured them.
  returned: success
  type: int
  sample: 1
"""
