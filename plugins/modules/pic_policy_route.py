#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_policy_route
short_description: Send devices of a cell to the internet through other cells
description:
  - Gives each routed device two policy rules per address and each exit cell a routing table of its own, in priorities 4000 to 4999 and tables 4200 to 5199,
    clear of what other software uses. A few rules in priorities 3990 to 3999 are shared by all routed devices; they let them reach private networks
    and linked cells without the exit. Each exception is two rules in priorities 3732 to 3989.
  - The rules of more than 8 routed addresses are a tree in priorities 4000 to 4989, with further rules by which packets skip those of other devices.
    A cell moves between list and tree without a gap.
  - It fails closed. While the exit is gone (link down, interface deleted, table flushed, offer withdrawn, cell removed) no packet of the device leaves
    by the cell's own uplink, IPv4 and IPv6.
  - A device's live flows are ended while it has no way out, so that none of them goes on un-NATed or hangs.
  - A way through a cell that has not offered an exit is refused before anything changes.
  - When devices have moved, the kernel is asked where their packets go now. If that is not as meant, because a policy rule of other software comes first, their
    old way is put back, and the module fails. Check mode cannot know the answer.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.routes
  - pic.cells.cell.attributes
options:
  routes:
    description:
      - The ways of several devices in one call. Give either this list or O(peer) with the options of one device, not both; or neither, for the
        ways that the records call for.
      - A device that is not named keeps its way.
    type: list
    elements: dict
  peer:
    description: The device's name. Give either this, for one device, or the list O(routes).
    type: str
  cells:
    description: What is known of linked cells beyond their records.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The other cell's name.
        type: str
        required: true
      offered:
        description:
          - Whether that cell offers this one an exit. Left out, the record's.
          - Without O(run) it is kept in the record, for cells that do not tell each other (M(pic.cells.pic_peer_sync)).
        type: bool
      expected:
        description: Whether the offer is agreed upon though not known yet; a route then waits, fail closed, instead of being refused.
        type: bool
        default: false
seealso:
  - module: pic.cells.pic_cell_rules
"""

EXAMPLES = r"""
- name: Send the phone to the internet through bergen, whose owner offers an exit
  pic.cells.pic_policy_route:
    peer: phone
    via_cell: bergen
    cells:
      - {name: bergen, offered: true} # not needed where the cells tell each other
  become: true

- name: Send it directly again
  pic.cells.pic_policy_route:
    peer: phone
    via_cell: direct
  become: true
"""

RETURN = r"""
pending:
  description: The devices whose exit does not offer itself now; their internet traffic is refused until it does.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.module import items, run_alone
from ..module_utils.options import CELL, DEVICE_NAME, NAME, OFFERED, ROUTE, RUN, one_item, several
from ..module_utils.parts.inputs import Inputs

DEVICE = {"addresses": {"type": "list", "elements": "str"}, **ROUTE}
OFFER = {**NAME, **OFFERED, "expected": {"type": "bool", "default": False}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL,
            **RUN,
            "routes": several({**DEVICE_NAME, **DEVICE}),
            "peer": {"type": "str"},
            **one_item(DEVICE),
            "cells": several(OFFER, default=[]),
        },
        mutually_exclusive=[("routes", "peer")],
        supports_check_mode=True,
    )
    given = module.params
    run_alone(module, "routes", Inputs(given["cell"], offers=given["cells"], routes=items(module, "routes", DEVICE, "peer")))


if __name__ == "__main__":
    main()
