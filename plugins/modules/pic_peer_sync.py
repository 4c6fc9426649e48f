#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_peer_sync
short_description: Tell linked cells what this one shares, offers and asks for
description:
  - Without O(received) and O(answers), builds the payload for each link. A payload is given a new generation only when its content is new.
  - With O(received), judges payloads of other cells and takes over what they may change, which is nothing but this cell's view of the sender.
  - With O(transport), sends over the tunnel what did not reach its cell yet.
  - With O(answers), writes down how this cell's own pushes ended; what did not arrive stays pending.
  - A wish to use this cell as exit is refused (V(409)) while no exit is offered to the sender; the rest of that payload applies.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.run
  - pic.cells.cell.attributes
options:
  cells:
    description: What is wanted of the links in this run, laid over the records for building and judging; the modules that own it write it.
    type: list
    elements: dict
    default: []
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
      share:
        description: The complete set of services shared with that cell. Left out, the record's.
        type: list
        elements: str
      offer_exit:
        description: Whether this cell offers that one an exit. Left out, the record's.
        type: bool
      offered:
        description: Whether that cell offers this one an exit. Left out, the record's.
        type: bool
      state:
        description: V(absent) tells that cell nothing.
        type: str
        choices: [present, absent]
        default: present
  routes:
    description: The devices' ways that are wanted in this run, as in M(pic.cells.pic_policy_route).
    type: list
    elements: dict
    default: []
    suboptions:
      peer:
        description: The device's name.
        type: str
        required: true
      via_cell:
        description: The exit cell, or V(direct).
        type: str
  received:
    description: Payloads that other cells built for this one, carried by Ansible.
    type: list
    elements: dict
  answers:
    description:
      - The answer to each push, by the name of the cell that was told, as RV(answers) of that cell has it under this cell's name.
      - An empty answer means that the cell was not reached.
    type: dict
  transport:
    description:
      - Given, the cells that are not told yet are told now through the tunnel, signed with the key that comes from the link's preshared key. One that
        is not reached stays pending and is told by C(pic-cell replay), which a timer runs; that is never an error, and no change of the cell.
      - V(tunnel) and V(auto) send. V(delegate) sends nothing; Ansible alone carries what is to be told then.
    type: str
    choices: [tunnel, delegate, auto]
"""

EXAMPLES = r"""
- name: Build what the linked cells are to be told
  pic.cells.pic_peer_sync:
  become: true
  register: built

- name: Tell all linked cells what they do not know yet
  pic.cells.pic_peer_sync:
    transport: tunnel
  become: true

- name: Take over what bergen says
  pic.cells.pic_peer_sync:
    received:
      - "{{ hostvars['bergen'].built.payloads['oslo'] }}"
  become: true
"""

RETURN = r"""
payloads:
  description: The payload for each link, by the other cell's name.
  returned: success
  type: dict
  sample:
    bergen:
      from_cell: oslo
      from_public_key: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
      generation: 3
      permissions: {"outbound": {"files": true}}
      exit_offered: false
      use_as_exit_relay: true
answers:
  description:
    - The answer to each received payload, by its sender.
    - With O(transport), the answer to each push, by the cell that was told; empty for one that was not reached.
  returned: success
  type: dict
  sample: {"bergen": {"status": 200, "applied": true, "generation": 3, "reason": "taken over"}}
due:
  description:
    - With O(received), the steps of O(run) that would change something, or warn, after what was received, as
      RV(pic.cells.pic_cell_info#module:due). Otherwise empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.exchange import push
from ..module_utils.module import CELL_OPTIONS, LINK_OPTIONS, ROUTE, RUN_OPTIONS, STATE, opened, report
from ..module_utils.peer_sync import OK
from ..module_utils.plan import Plan, apply

CELL = {
    "name": {"type": "str", "required": True},
    **LINK_OPTIONS,
    "share": {"type": "list", "elements": "str"},
    "offer_exit": {"type": "bool"},
    "offered": {"type": "bool"},
    "state": STATE,
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CELL_OPTIONS,
            **RUN_OPTIONS,
            "cells": {"type": "list", "elements": "dict", "options": CELL, "default": []},
            "routes": {"type": "list", "elements": "dict", "options": ROUTE, "default": []},
            "received": {"type": "list", "elements": "dict"},
            "answers": {"type": "dict"},
            "transport": {"type": "str", "choices": ["tunnel", "delegate", "auto"]},
        },
        mutually_exclusive=[("received", "answers", "transport")],
        supports_check_mode=True,
    )
    given = module.params
    if given["transport"]:
        _send(module)
    with opened(module, "hear" if given["received"] is not None else "note" if given["answers"] is not None else "tell") as cell:
        if given["received"] is not None:
            plan, facts = cell.plan_receipt(given["cell"], given["cells"], given["received"])
        elif given["answers"] is not None:
            plan, facts = cell.plan_answers(given["cell"], given["answers"])
        else:
            plan, facts = cell.plan_messages(given["cell"], given["cells"], given["routes"])
        cell.add_view(plan)
        if plan and not module.check_mode:
            apply(cell.host, plan)
    if given["received"] is not None and given["run"]:
        with opened(module) as cell:
            facts["due"] = cell.due(given["cell"], given["run"])
    report(module, plan, **{"payloads": {}, "answers": {}, "due": [], **facts})


def _send(module: AnsibleModule) -> None:
    """Tell the cells that are not told yet; how that ends is nobody's change, so check mode has nothing to predict."""
    answers = {}
    with opened(module, "send") as cell:
        if not module.check_mode and module.params["transport"] != "delegate":
            answers = push(cell.host, cell)
        late = {name: "not reached" if answer is None else answer["reason"] for name, answer in answers.items() if answer is None or answer["status"] != OK}
        plan = Plan(warnings=[f"Cell {name!r} is not told yet ({why}). It is told again by itself, or by pic.cells.replay." for name, why in late.items()])
        report(module, plan, payloads={}, answers={name: answer or {} for name, answer in answers.items()})


if __name__ == "__main__":
    main()
