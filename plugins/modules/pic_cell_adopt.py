#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_adopt
short_description: Read the inventory that describes an older WireGuard interface or cell
description:
  - Reads what is on a host, and returns the variables with which the role C(pic.cells.cell) takes it over and changes no device; and what is in none of them.
  - Knows the files of wg-quick that people, angristan's and Nyr's scripts, PiVPN, Algo, wg-easy and wireguard-ui write, C(wg0.json) of wg-easy up to its
    version 14, and the records of a cell of any version. Names of devices come from the comments that each tool writes.
  - Returns no private and no preshared key. They stay where they are, and a run keeps them.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
attributes:
  check_mode:
    support: full
    description: Writes no O(dest), and says whether it would.
  diff_mode:
    support: full
    description: Shows what is written to O(dest). Nothing changes on the cell.
  platform:
    support: full
    platforms: linux
    description: The systems that it works on.
options:
  interface:
    description: The WireGuard interface for devices. Left out, the record's, or V(wg0).
    type: str
  source:
    description:
      - The absolute path of a file or folder on the host that is read as well; C(wg0.json) or C(wg0.conf), as in the volume of wg-easy's container, or
        C(cell.json), C(cell_links.json), C(peer_registry.json) or C(peers.json) of a cell that has its records elsewhere.
      - Where the interface has a file in C(/etc/wireguard), that says who its peers are, and a C(wg0.json) what they are called.
    type: str
  dest:
    description:
      - The path on the controller of a new file for the inventory, with mode 0600. Left out, none is written.
      - A file that is there is never written over; one that holds the same already is no change, and anything else is refused.
    type: str
requirements:
  - the Python library C(netaddr) on the controller
seealso:
  - module: pic.cells.pic_cell_info
"""

EXAMPLES = r"""
- name: Read what is there
  pic.cells.pic_cell_adopt:
  become: true
  register: found

- name: Show the inventory that describes it
  ansible.builtin.debug:
    msg: "{{ found.lines | pic.cells.shown }}"

- name: Write it to a file, with the names that wg-easy has for its clients
  pic.cells.pic_cell_adopt:
    source: /var/lib/docker/volumes/etc_wireguard/_data
    dest: adopted.yml
  become: true
"""

RETURN = r"""
inventory:
  description: The variables of the role that describe what was found; those alone that have a value.
  returned: success
  type: dict
  contains:
    cell_name:
      description: The cell's name, where it has a record.
      returned: where it has a value
      type: str
    cell_endpoint:
      description: What others dial, where a record or a comment of Nyr's script says so.
      returned: where it has a value
      type: str
    cell_interface:
      description: The interface for devices, where it is not C(wg0).
      returned: where it has a value
      type: str
    cell_networks:
      description: The cell's own addresses.
      returned: where it has a value
      type: list
      elements: str
    cell_services:
      description: The services that a record has, or that an older version shares by its rules.
      returned: where it has a value
      type: list
      elements: dict
    cell_peers:
      description: The devices.
      returned: where it has a value
      type: list
      elements: dict
    cell_links:
      description: The links that a record has.
      returned: where it has a value
      type: list
      elements: dict
  sample:
    cell_networks: ["10.0.0.1/24"]
    cell_peers: [{"name": "phone", "public_key": "yenSO7mVsQqnpM7cKt+Tj0AYSYPga66NMGvgCzLQ+l4=", "addresses": ["10.0.0.2"]}]
lines:
  description:
    - The lines of an inventory in YAML with the host, and RV(notes) as comments. It is made on the controller; of a link with a cell that the inventory has
      already, it states only what this cell decides itself.
  returned: success, through Ansible
  type: list
  elements: str
  sample: ["cells:", "  hosts:", "    oslo:", "      cell_networks: [10.0.0.1/24, 'fd00:a::1/64']"]
notes:
  description: What is in no variable, and why, with its file and line; who was given another name.
  returned: success
  type: list
  elements: str
  sample: ["/etc/wireguard/wg0.conf line 7: PostUp is a command, which stays as it is; what it does is not looked at."]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.adopt import adopt
from ..module_utils.base.texts import shown
from ..module_utils.module import opened
from ..module_utils.options import STATE_DIR, TEXT


def main() -> None:
    module = AnsibleModule(argument_spec={**STATE_DIR, "interface": TEXT, "source": TEXT, "dest": TEXT}, supports_check_mode=True)
    with opened(module) as context:
        module.exit_json(**shown({"changed": False, **adopt(context, module.params["interface"], module.params["source"])}))


if __name__ == "__main__":
    main()
