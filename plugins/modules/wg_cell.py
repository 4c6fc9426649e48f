#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: wg_cell
short_description: Make a host a cell
description:
  - Gives a host its WireGuard identity, its devices' interface with the devices on it, its record, and a port for each link.
  - The private key is made on the cell and never leaves it. A devices' interface that is already there keeps its key, its port where none is given,
    its other peers and its other settings; of its file only the lines change that say otherwise.
  - An interface that other software keeps (systemd-networkd, netplan, NetworkManager, ifupdown), one without a file, and the way into somebody else's
    VPN are refused.
  - Networks that overlap each other or a network of the host, keys that are malformed, of low order or in use, and addresses outside the
    cell's networks are refused before anything changes, naming both sides.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.attributes
options:
  peers:
    description: The cell's devices. One that is not named stays as the record has it.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The device's name; the rule for cell names applies.
        type: str
        required: true
      public_key:
        description: The device's WireGuard public key.
        type: str
      preshared_key:
        description: The preshared key with this device. Left out, the one in the interface's file stays.
        type: str
      addresses:
        description: The device's own addresses, in the cell's networks.
        type: list
        elements: str
      networks:
        description:
          - Networks behind the device, as of a router at another place. They are let in and routed to the device; shares, links and exits are not for them.
          - What is behind a device that is routed through an exit reaches the internet in the device's name (masqueraded there), or not at all.
          - Left out, the record's, or those that the devices' interface has for a device that is new to the record. An empty list takes them away.
        type: list
        elements: str
      route_via:
        description:
          - The exit cell that M(pic.cells.pic_policy_route) is going to send the device through, or V(direct).
          - That module makes and records the way.
          - A device that WireGuard does not let in yet is closed in (it reaches no internet) before it does, so that it never goes direct in between.
        type: str
      state:
        description: V(absent) removes the device from the interface and the record.
        type: str
        choices: [present, absent]
        default: present
  links:
    description: The links that the cell is going to have. Each gets a UDP port and an interface name, kept in its record.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The other cell's name.
        type: str
        required: true
      interface:
        description: The link's interface. Left out, the record's, or C(pic-<name>), hashed past 15 characters.
        type: str
      listen_port:
        description: The link's UDP port. Left out, the record's, or the next free one from O(cell.link_port_base).
        type: int
      state:
        description: V(absent) gives this link no port.
        type: str
        choices: [present, absent]
        default: present
seealso:
  - module: pic.cells.wg_cell_peer
"""

EXAMPLES = r"""
- name: Make this host the cell oslo with one phone
  pic.cells.wg_cell:
    cell:
      name: oslo
      networks: [10.0.0.1/24, "fd00:a::1/64"]
      services:
        - {name: files, address: [10.0.0.1], port: 443, protocol: tcp}
    peers:
      - name: phone
        public_key: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
        addresses: [10.0.0.2, "fd00:a::2"]
    links:
      - name: bergen
  become: true
"""

RETURN = r"""
public_key:
  description: The cell's public key, or V((generated\)) in check mode where there is none yet.
  returned: success
  type: str
  sample: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
generated:
  description: Whether the key was made by this run.
  returned: success
  type: bool
  sample: false
links:
  description: What this cell's record says of each link, by the other cell's name.
  returned: success
  type: dict
  sample: {"bergen": {"interface": "pic-bergen", "listen_port": 51821, "exit_offered": false, "share": ["files"]}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.module import CELL_OPTIONS, STATE, opened, report
from ..module_utils.plan import apply

PEER = {
    "name": {"type": "str", "required": True},
    "public_key": {"type": "str", "no_log": False},
    "preshared_key": {"type": "str", "no_log": True},
    "addresses": {"type": "list", "elements": "str"},
    "networks": {"type": "list", "elements": "str"},
    "route_via": {"type": "str"},
    "state": STATE,
}
LINK = {
    "name": {"type": "str", "required": True},
    "interface": {"type": "str"},
    "listen_port": {"type": "int"},
    "state": STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL_OPTIONS,
            "peers": {"type": "list", "elements": "dict", "options": PEER, "default": []},
            "links": {"type": "list", "elements": "dict", "options": LINK, "default": []},
        },
        supports_check_mode=True,
    )
    with opened(module, "identity") as cell:
        plan, facts = cell.plan_cell(module.params["cell"], module.params["peers"], module.params["links"])
        cell.add_view(plan)
        if plan and not module.check_mode:
            apply(cell.host, plan)
        report(module, plan, **facts)


if __name__ == "__main__":
    main()
