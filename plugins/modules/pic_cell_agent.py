#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_agent
short_description: Install the program that looks after a cell
description:
  - Installs C(pic-cell), one file made of the collection's own engine, which brings a cell back from its records without Ansible.
  - Where systemd runs, installs its units. C(pic-cell-guard.service) closes all ways of routed devices before the WireGuard interfaces of the cell start,
    and keeps them from starting where it fails. C(pic-cell-restore.service) puts back what is missing; at boot, every 60 seconds, and whenever docker,
    firewalld, nftables, systemd-networkd or ufw starts or is reloaded. C(pic-cell-watch.service) hears what is taken away from the cell, and starts it at once.
  - Elsewhere, as in a container without systemd, C(pic-cell restore) is the one command for the start; it closes the ways, then starts the interfaces.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.attributes
seealso:
  - module: pic.cells.pic_cell_info
"""

EXAMPLES = r"""
- name: Let the cell look after itself
  pic.cells.pic_cell_agent:
  become: true
"""

RETURN = r"""
program:
  description: The command.
  returned: success
  type: str
  sample: /usr/local/bin/pic-cell
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.agent import WHOLE_RUN
from ..module_utils.module import run_step
from ..module_utils.options import CELL, RUN
from ..module_utils.parts.inputs import Inputs


def main() -> None:
    module = AnsibleModule(argument_spec={**CELL, **RUN}, supports_check_mode=True)
    run_step(module, "agent", Inputs(), WHOLE_RUN)


if __name__ == "__main__":
    main()
