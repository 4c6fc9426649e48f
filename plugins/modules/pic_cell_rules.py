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
  - pic.cells.cell.run
  - pic.cells.cell.attributes
options:
  cells:
    description: The links, where one call is to serve several. One that is not named keeps what its record says.
    type: list
    elements: dict
    suboptions:
      name:
        description: The other cell's name.
        type: str
        required: true
      public_key:
        description: The other cell's WireGuard public key. Left out, the record's.
        type: str
      networks:
        description: The other cell's networks. Left out, the record's.
        type: list
        elements: str
      allow_public_networks:
        description:
          - Whether the other cell's networks may be others than private (RFC 1918, 100.64.0.0/10) and unique local ones (fc00::/7).
          - All traffic to them goes into the tunnel, so none may be wider than /8 (IPv6 /32) in any case. Left out, the record's, or V(false).
        type: bool
      address:
        description: The other cell's own addresses inside the tunnel. Left out, the record's.
        type: list
        elements: str
      interface:
        description:
          - The link's interface, beginning with C(pic-). Left out, the record's, or C(pic-<name>), hashed past 15 characters.
          - The devices' interface (O(cell.interface)) is possible for a remote that needs it; there only one link can be an exit.
        type: str
      listen_port:
        description: The link's own UDP port. Left out, the record's, or the next free one from O(cell.link_port_base).
        type: int
      api_url:
        description: URL of the other cell's peer-sync API, whose port devices do not reach. Left out, the record's, or built from its address.
        type: str
      share:
        description:
          - The complete set of services that the other cell's devices may reach. An empty list revokes all; left out, all stays as it is.
          - A service that the cell does not have is refused.
        type: list
        elements: str
      offer_exit:
        description: Whether the other cell may use this one as its exit. Left out, the record's.
        type: bool
      exit_relay:
        description:
          - Whether the other cell's devices leave by this cell's uplink now, which implies the offer.
          - Left out, they do while the exit is offered and the other cell has asked for it.
        type: bool
      state:
        description: V(absent) removes all rules of this link, its shares and its offer; every other rule stays as it is, to the byte.
        type: str
        choices: [present, absent]
        default: present
  name:
    description: The other cell's name, where one call is to serve one link.
    type: str
  public_key:
    description: The other cell's WireGuard public key. Left out, the record's.
    type: str
  networks:
    description: The other cell's networks. Left out, the record's.
    type: list
    elements: str
  allow_public_networks:
    description:
      - Whether the other cell's networks may be others than private (RFC 1918, 100.64.0.0/10) and unique local ones (fc00::/7).
      - All traffic to them goes into the tunnel, so none may be wider than /8 (IPv6 /32) in any case. Left out, the record's, or V(false).
    type: bool
  address:
    description: The other cell's own addresses inside the tunnel. Left out, the record's.
    type: list
    elements: str
  interface:
    description:
      - The link's interface, beginning with C(pic-). Left out, the record's, or C(pic-<name>), hashed past 15 characters.
      - The devices' interface (O(cell.interface)) is possible for a remote that needs it; there only one link can be an exit.
    type: str
  listen_port:
    description: The link's own UDP port. Left out, the record's, or the next free one from O(cell.link_port_base).
    type: int
  api_url:
    description: URL of the other cell's peer-sync API, whose port devices do not reach. Left out, the record's, or built from its address.
    type: str
  share:
    description:
      - The complete set of services that the other cell's devices may reach. An empty list revokes all; left out, all stays as it is.
      - A service that the cell does not have is refused.
    type: list
    elements: str
  offer_exit:
    description: Whether the other cell may use this one as its exit. Left out, the record's.
    type: bool
  exit_relay:
    description:
      - Whether the other cell's devices leave by this cell's uplink now, which implies the offer.
      - Left out, they do while the exit is offered and the other cell has asked for it.
    type: bool
  state:
    description: V(absent) removes all rules of this link, its shares and its offer; every other rule stays as it is, to the byte. Left out, V(present).
    type: str
    choices: [present, absent]

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

- name: Put back whatever rules are missing, from the records
  pic.cells.pic_cell_rules:
    cells: []
  become: true
"""

RETURN = r"""
shares:
  description: What each linked cell may reach here now, by its name.
  returned: success
  type: dict
  sample: {"bergen": ["files"]}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.module import CELL_OPTIONS, LINK_OPTIONS, RUN_OPTIONS, STATE, finish, items, one_item, opened, report

RULES = {
    **LINK_OPTIONS,
    "api_url": {"type": "str"},
    "share": {"type": "list", "elements": "str"},
    "offer_exit": {"type": "bool"},
    "exit_relay": {"type": "bool"},
    "state": STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL_OPTIONS,
            **RUN_OPTIONS,
            "cells": {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}, **RULES}},
            "name": {"type": "str"},
            **one_item(RULES),
        },
        mutually_exclusive=[("cells", "name")],
        supports_check_mode=True,
    )
    with opened(module, "rules") as cell:
        plan, facts = cell.plan_rules(module.params["cell"], items(module, "cells", RULES))
        finish(module, cell, plan)
        report(module, plan, **facts)


if __name__ == "__main__":
    main()
