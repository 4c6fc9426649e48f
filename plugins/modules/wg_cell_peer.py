#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: wg_cell_peer
short_description: Link a cell with other cells over WireGuard
description:
  - Gives each linked cell an interface of its own (C(pic-<name>)) with one peer, the cell's own addresses as C(/32) and C(/128), routes to
    the other cell's networks, and an unreachable route behind each of them for when the link is down.
  - A link survives a reboot through the ordinary C(wg-quick@) unit. A change does not restart the interface nor drop its sessions, and no
    other peer or interface is touched.
  - A link whose other side is not known yet (no public key or no networks) is pending, which is no error.
  - Networks that overlap the cell's own, another link's or one of the host's, C(/0), host bits, and keys that are malformed, of low order,
    the cell's own or in use are refused before anything changes, naming both sides.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.tunnels
  - pic.cells.cell.attributes
options:
  peers:
    description:
      - Several links in one call. Give either this list or O(name) with the options of one link, not both.
      - A link that is not named stays as it is.
    type: list
    elements: dict
  name:
    description: The other cell's name. Give either this, for one link, or the list O(peers).
    type: str
seealso:
  - module: pic.cells.pic_cell_rules
  - module: pic.cells.pic_policy_route
"""

EXAMPLES = r"""
- name: Link this cell with bergen
  pic.cells.wg_cell_peer:
    name: bergen
    public_key: MOPR4gU9VOdsFgbIMAjmn4+4sjOwgg9uOS5OYAOSbF4=
    networks: [10.0.1.0/24, "fd00:b::/64"]
    address: [10.0.1.1, "fd00:b::1"]
    endpoint: 192.0.2.12:51821
  become: true

- name: Remove two links in one call
  pic.cells.wg_cell_peer:
    peers:
      - {name: bergen, state: absent}
      - {name: tromso, state: absent}
  become: true
"""

RETURN = r"""
pending:
  description: The links that wait for their other side to be known.
  returned: success
  type: list
  elements: str
  sample: [tromso]
public_key:
  description: This cell's own public key, for the other side; V((generated\)) in check mode where there is none yet.
  returned: success
  type: str
  sample: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
links:
  description: The links of the call, each under the other cell's name.
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
  sample: {"bergen": {"interface": "pic-bergen", "listen_port": 51821}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.module import items, run_alone
from ..module_utils.options import CELL, GENERATED, NAME, RUN, STATE, TUNNEL, one_item, several
from ..module_utils.parts.inputs import Inputs

LINK = {
    **TUNNEL,
    **GENERATED,
    "exit": {"type": "bool"},
    **STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL,
            **RUN,
            "peers": several({**NAME, **LINK}),
            "name": {"type": "str"},
            **one_item(LINK),
        },
        mutually_exclusive=[("peers", "name")],
        required_one_of=[("peers", "name")],
        supports_check_mode=True,
    )
    run_alone(module, "links", Inputs(module.params["cell"], links=items(module, "peers", LINK)))


if __name__ == "__main__":
    main()
