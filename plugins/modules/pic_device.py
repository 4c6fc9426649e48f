#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_device
short_description: Decide on a device's key and addresses, and make its file on the controller
description:
  - A part of the playbooks C(pic.cells.add_device), C(pic.cells.rotate_key) and C(pic.cells.show_device). It goes by what M(pic.cells.pic_cells_check) and
    M(pic.cells.pic_cell_device) have registered there (as C(__cell_checked) and C(__cell_entry)).
  - The private key is made on the controller and written to the device's file (mode 0600) and to the QR codes beside it, and to nothing else. No result,
    difference, log, fact or record holds it, and it never travels to the cell. A file that is there is never overwritten.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  step:
    description:
      - With V(plan), decides on key and addresses, and refuses what cannot be. Changes nothing. V((generated\)) stands for a key that is still to be made.
      - With V(make), makes the key, the file and its QR codes where they are not there yet.
      - With V(show), returns what a person has to know, and draws the QR code on the terminal where the extra var C(show_qr) asks for it.
    type: str
    required: true
    choices: [plan, make, show]
attributes:
  check_mode:
    support: full
    description: Makes no key and no file, and says whether it would.
  diff_mode:
    support: none
    description: What it makes holds a private key.
  action:
    support: full
    description: Runs on the controller, without a connection.
  platform:
    support: full
    platforms: all
    description: Where it runs.
extends_documentation_fragment: []
requirements:
  - the Python library C(netaddr) on the controller
  - the Python libraries C(cryptography) and C(segno) on the controller, where a key is made
"""

EXAMPLES = r"""
- name: Decide on the device's key and addresses
  pic.cells.pic_device:
    step: plan
  register: __cell_checked
"""

RETURN = r"""
job:
  description: The job as M(pic.cells.pic_cells_check) returned it, with the device as an item of C(cell_peers) (C(item)) that the role carries out.
  returned: success
  type: dict
  sample: {"job": "add_device", "host": "oslo", "cell": "oslo", "peer": "phone", "item": {"name": "phone", "addresses": ["10.0.0.2"]}}
lines:
  description: What a person has to know, with O(step=show). The lines for C(cell_peers), where the file is, and what it says but for the private key.
  returned: with O(step=show)
  type: list
  elements: str
  sample: ["add these lines to cell_peers of host oslo:", "- name: phone"]
"""
