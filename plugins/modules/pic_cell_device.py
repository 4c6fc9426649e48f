#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_device
short_description: Say what a device needs to know of its cell
description:
  - Returns what the WireGuard file of a device has to say of its cell, which addresses of the cell's networks somebody has, and what the cell knows of the
    device already. Returns no private and no preshared key.
  - The playbooks C(pic.cells.add_device), C(pic.cells.rotate_key) and C(pic.cells.show_device) make the file of it, on the controller.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.info_attributes
options:
  peer:
    description: The device's name. The cell need not have it yet.
    type: str
    required: true
seealso:
  - module: pic.cells.pic_cell_info
"""

EXAMPLES = r"""
- name: Ask the cell what the phone needs to know
  pic.cells.pic_cell_device:
    peer: phone
  become: true
  register: entry
"""

RETURN = r"""
cell:
  description: The cell's name in its record, empty where it has none.
  returned: success
  type: str
  sample: oslo
public_key:
  description: The cell's public key, V(none) where it has none.
  returned: success
  type: str
  sample: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
endpoint:
  description: The name or address that devices dial, without a port; V(none) where none is stated.
  returned: success
  type: str
  sample: a.example.net
listen_port:
  description: The UDP port of the devices' interface.
  returned: success
  type: int
  sample: 51820
networks:
  description: Own address and prefix of each of the cell's networks.
  returned: success
  type: list
  elements: str
  sample: [10.0.0.1/24, "fd00:a::1/64"]
reachable:
  description: The networks that a device reaches through its tunnel, but for the internet; of the cell, behind its devices, and of linked cells.
  returned: success
  type: list
  elements: str
  sample: [10.0.0.0/24, 10.0.1.0/24, "fd00:a::/64", "fd00:b::/64"]
resolvers:
  description: The resolvers that answer at the cell. They are those of C(cell_resolver), or else the cell's own addresses with a service at port 53, UDP.
  returned: success
  type: list
  elements: str
  sample: [10.0.0.1]
exit_dns:
  description: The public resolvers that are stated for devices that leave by another cell (C(cell_exit_dns)).
  returned: success
  type: list
  elements: str
  sample: []
taken:
  description: What of the cell's own networks somebody has; the cell, its devices, services, and other peers of the devices' interface.
  returned: success
  type: list
  elements: str
  sample: [10.0.0.1/32, 10.0.0.2/32]
device:
  description: What the cell knows of the device, V(none) where it has none of this name.
  returned: success
  type: dict
  contains:
    public_key:
      description: Its public key.
      type: str
    addresses:
      description: Its own addresses.
      type: list
      elements: str
    route_via:
      description: Its exits, best first; empty for direct.
      type: list
      elements: str
    preshared:
      description: Whether it has to know a preshared key, which is not returned.
      type: bool
  sample: {"public_key": "MOPR4gU9VOdsFgbIMAjmn4+4sjOwgg9uOS5OYAOSbF4=", "addresses": ["10.0.0.2"], "route_via": [], "preshared": false}
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.base.texts import shown
from ..module_utils.module import opened
from ..module_utils.options import STATE_DIR
from ..module_utils.parts import devices


def main() -> None:
    module = AnsibleModule(argument_spec={**STATE_DIR, "peer": {"type": "str", "required": True}}, supports_check_mode=True)
    with opened(module) as context:
        peer = context.current.peers.get(module.params["peer"])
        facts = {**asdict(devices.entry(context)), "device": None}
        if peer:
            preshared = devices.has_preshared_key(context, peer)
            facts["device"] = {"public_key": peer.public_key, "addresses": peer.addresses, "route_via": peer.route_via, "preshared": preshared}
    module.exit_json(**shown({"changed": False, **facts}))


if __name__ == "__main__":
    main()
