#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_rules
short_description: Keep the firewall rules of a cell
description:
  - Puts all rules of a cell into chains of its own, in one atomic restore per family, IPv4 and IPv6 alike; shares, default deny per link, the
    guard against revoked flows, the exit relay, and the second layer that stops routed devices from leaving by the cell's own uplink.
  - Every rule carries the comment C(pic-cell-<name>), or C(pic-cells) where it belongs to no single link. No rule, chain or policy of anybody else is
    changed, flushed or reordered.
  - What is no longer allowed ends at once; exactly the flows concerned are deleted from connection tracking.
  - An exit refuses private ranges and every network that it is itself in; the rest leaves by the uplink, masqueraded.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.rules
  - pic.cells.cell.attributes
options:
  cells:
    description:
      - Several links in one call. Give either this list or O(name) with the options of one link, not both; or neither, for the rules that the records call for.
      - A link that is not named keeps what its record says.
    type: list
    elements: dict
  name:
    description: The other cell's name. Give either this, for one link, or the list O(cells).
    type: str
seealso:
  - module: pic.cells.wg_cell_peer
"""

EXAMPLES = r"""
- name: Share one service with bergen and offer it an exit
  pic.cells.pic_cell_rules:
    name: bergen
    share: [files]
    offer_exit: true
  become: true

- name: Offer bergen an exit until the end of the year, with 20 Mbit/s in each direction
  pic.cells.pic_cell_rules:
    name: bergen
    offer_exit: true
    offer_until: "2026-12-31T23:00:00Z"
    offer_rate: 20mbit
  become: true

- name: Put back whatever rules are missing, from the records
  pic.cells.pic_cell_rules:
    cells: []
  become: true
"""

RETURN = r"""
shares:
  description: What each linked cell may reach here now; a list of services under each cell's name.
  returned: success
  type: dict
  contains:
    other_cell:
      description: The services that its devices may reach; the key is the other cell's name.
      type: list
      elements: str
  sample: {"bergen": ["files"]}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.module import items, run_alone
from ..module_utils.options import API_URL, CELL, LINK, NAME, RIGHTS, RUN, STATE, one_item, several
from ..module_utils.parts.inputs import Inputs

RULES = {
    **LINK,
    **API_URL,
    **RIGHTS,
    "exit_relay": {"type": "bool"},
    **STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL,
            **RUN,
            "cells": several({**NAME, **RULES}),
            "name": {"type": "str"},
            **one_item(RULES),
        },
        mutually_exclusive=[("cells", "name")],
        supports_check_mode=True,
    )
    cells = items(module, "cells", RULES)
    run_alone(module, "rules", Inputs(module.params["cell"], links=cells, rights=cells))


if __name__ == "__main__":
    main()
