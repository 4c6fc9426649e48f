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
  - pic.cells.cell.state_dir
  - pic.cells.cell.devices
  - pic.cells.cell.ports
  - pic.cells.cell.attributes
options:
  peers:
    description: The cell's devices. One that is not named stays as the record has it.
    type: list
    elements: dict
    default: []
  links:
    description: The links that the cell is going to have. Each gets a UDP port and an interface name, kept in its record.
    type: list
    elements: dict
    default: []
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
  description: What this cell's record says of the links, each under the other cell's name.
  returned: success
  type: dict
  contains:
    other_cell:
      description: A link; the key is the other cell's name.
      type: dict
      contains:
        interface:
          description: The link's interface.
          type: str
        listen_port:
          description: The link's own UDP port, which the other cell dials.
          type: int
        exit_offered:
          description: Whether this cell offers the other one an exit.
          type: bool
        share:
          description: The services that the other cell's devices may reach.
          type: list
          elements: str
  sample: {"bergen": {"interface": "pic-bergen", "listen_port": 51821, "exit_offered": false, "share": ["files"]}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.compiled import take

take()

from ..module_utils.steps.identity import ARGUMENTS, run


def main() -> None:
    run(AnsibleModule(**ARGUMENTS))


if __name__ == "__main__":
    main()
