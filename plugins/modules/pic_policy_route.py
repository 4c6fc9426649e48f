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
  - Gives each routed device three policy rules per address and each exit cell a routing table of its own, in priorities 4000 to 4999 and tables 4200 to 5199,
    clear of what other software uses.
  - It fails closed. While the exit is gone (link down, interface deleted, table flushed, offer withdrawn, cell removed) no packet of the device leaves
    by the cell's own uplink, IPv4 and IPv6.
  - A device's live flows are ended while it has no way out, so that none of them goes on un-NATed or hangs.
  - A way through a cell that has not offered an exit is refused before anything changes.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.run
  - pic.cells.cell.attributes
options:
  routes:
    description: The devices' ways, where one call is to serve several. A device that is not named keeps its way.
    type: list
    elements: dict
    suboptions:
      peer: &peer
        description: The device's name.
        type: str
        required: true
      addresses: &addresses
        description: The device's addresses. Left out, the record's.
        type: list
        elements: str
      via_cell: &via
        description: The exit cell, or V(direct). Left out, the way stays as it is.
        type: str
  peer:
    description: The device's name, where one call is to serve one device.
    type: str
  addresses: *addresses
  via_cell: *via
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

from ..module_utils.module import CELL_OPTIONS, RUN_OPTIONS, finish, items, one_item, opened, report

ROUTE = {"addresses": {"type": "list", "elements": "str"}, "via_cell": {"type": "str"}}
CELL = {
    "name": {"type": "str", "required": True},
    "offered": {"type": "bool"},
    "expected": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL_OPTIONS,
            **RUN_OPTIONS,
            "routes": {"type": "list", "elements": "dict", "options": {"peer": {"type": "str", "required": True}, **ROUTE}},
            "peer": {"type": "str"},
            **one_item(ROUTE),
            "cells": {"type": "list", "elements": "dict", "options": CELL, "default": []},
        },
        mutually_exclusive=[("routes", "peer")],
        supports_check_mode=True,
    )
    with opened(module, "routes") as cell:
        given, ways = module.params, items(module, "routes", ROUTE, "peer")
        plan, facts = cell.plan_routes(given["cell"], given["cells"], ways, remember=given["run"] is None)
        finish(module, cell, plan)
        report(module, plan, **facts)


if __name__ == "__main__":
    main()
