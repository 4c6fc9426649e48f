#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_prove
short_description: Try out the exits of a cell's devices
description:
  - Asks the exits of devices, through their tunnels, whether they carry traffic; and the kernel whether the own uplink is closed for these devices.
  - Does what C(pic-cell prove) does on the cell, and needs no such program there. It moves no device, and takes up to 6 seconds, or 9 with C(cell_whoami).
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.info_attributes
options:
  peer:
    description: The device. Left out, all devices that leave through another cell.
    type: str
seealso:
  - module: pic.cells.pic_cell_info
"""

EXAMPLES = r"""
- name: Try out the exits of the phone
  pic.cells.pic_cell_prove:
    peer: phone
  become: true
  register: proof

- name: Show what was found
  ansible.builtin.debug:
    msg: "{{ proof.lines | pic.cells.shown }}"
"""

RETURN = r"""
proven:
  description: Whether nothing is wrong.
  returned: success
  type: bool
  sample: true
peers:
  description: What was found of each device, as C(pic-cell prove --json) prints it.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The device's name.
      type: str
    exit:
      description: The cell by which it leaves now, V(none) for directly.
      type: str
    exits:
      description: Its exits, best first.
      type: list
      elements: dict
      contains:
        name:
          description: The exit's name.
          type: str
        asked:
          description: Whether it could be asked.
          type: bool
        tunnel:
          description: Whether something answers through its tunnel.
          type: bool
        internet:
          description: Whether it has a route to the internet, as it says itself; C(ipv4) and C(ipv6), each V(true) or V(false). Empty where it does not say.
          type: dict
        addresses:
          description:
            - As which addresses the internet sees it; C(ipv4) and C(ipv6). Empty where C(cell_whoami) names nobody, or nobody has answered.
          type: dict
        full_size:
          description: Whether packets of RV(peers[].exits[].mtu) bytes arrive there, V(none) where nobody can tell.
          type: bool
        mtu:
          description: The size of packets that the tunnel lets through, in bytes.
          type: int
        found:
          description: What is as it should be, a line each.
          type: list
          elements: str
        wrong:
          description: What is not, a line each.
          type: list
          elements: str
    found:
      description: What of the device itself is as it should be, a line each.
      type: list
      elements: str
    wrong:
      description: What is not, a line each.
      type: list
      elements: str
lines:
  description: The same for a person to read.
  returned: success
  type: list
  elements: str
  sample: ["peer phone: leaves through bergen", "    cell bergen answers through its tunnel"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.base.texts import shown
from ..module_utils.module import root_host
from ..module_utils.options import STATE_DIR, TEXT
from ..module_utils.program import prove


def main() -> None:
    module = AnsibleModule(argument_spec={**STATE_DIR, "peer": TEXT}, supports_check_mode=True)
    with root_host(module) as host:
        found = prove.prove(host, module.params["state_dir"], module.params["peer"])
        module.exit_json(**shown({"changed": False, **prove.facts(found), "lines": prove.report(found)}))


if __name__ == "__main__":
    main()
