#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_link_keys
short_description: Give out preshared keys of links
description:
  - Returns the preshared key of each link that is named, a new one where the link has none. Nothing is written; M(pic.cells.wg_cell_peer) installs it on
    both sides.
  - The result B(is the secret). Every task that calls this module needs C(no_log=true), and what it registers goes into masked options only.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.attributes
options:
  links:
    description: The names of the linked cells.
    type: list
    elements: str
    required: true
  new:
    description: Whether to make new keys also for links that have one (the playbook C(pic.cells.rotate_key)).
    type: bool
    default: false
seealso:
  - module: pic.cells.wg_cell_peer
"""

EXAMPLES = r"""
- name: Make the preshared key of the link with bergen
  pic.cells.pic_link_keys:
    links: [bergen]
  become: true
  no_log: true
  register: made
"""

RETURN = r"""
preshared_keys:
  description: The preshared key of each link, by the other cell's name; in check mode a text in place of one that a run would make.
  returned: success
  type: dict
  contains:
    other_cell:
      description: The key is the other cell's name, the value is secret.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.compiled import take

take()

from ..module_utils.steps.keys import ARGUMENTS, run


def main() -> None:
    run(AnsibleModule(**ARGUMENTS))


if __name__ == "__main__":
    main()
