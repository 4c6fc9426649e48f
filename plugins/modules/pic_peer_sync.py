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
  - With O(answers), writes down how this cell's own pushes ended; what did not arrive stays pending.
  - With O(transport), sends over the tunnel what did not reach its cell yet, after O(answers) where both are given.
  - A wish to use this cell as exit is refused (V(409)) while no exit is offered to the sender; the rest of that payload applies.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.state_dir
  - pic.cells.cell.run
  - pic.cells.cell.messages
  - pic.cells.cell.attributes
options:
  cells:
    description: What is wanted of the links in this run, laid over the records for building and judging; the modules that own it write it.
    type: list
    elements: dict
    default: []
  routes:
    description: The devices' ways that are wanted in this run, as in M(pic.cells.pic_policy_route).
    type: list
    elements: dict
    default: []
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
  description: What the linked cells are to be told, each under its name.
  returned: success
  type: dict
  contains:
    other_cell:
      description: The payload for one cell; the key is that cell's name.
      type: dict
      contains:
        from_cell:
          description: The name of this cell.
          type: str
        from_public_key:
          description: Its public key.
          type: str
        generation:
          description: The number of this message. The other cell ignores one that is not newer than what it knows.
          type: int
        permissions:
          description: Under C(outbound) the services that this cell shares with the other one, each V(true).
          type: dict
        exit_offered:
          description: Whether this cell offers the other one an exit.
          type: bool
        use_as_exit_relay:
          description: Whether this cell wants to use the other one as exit.
          type: bool
        resolvers:
          description: The resolver that this cell opens to the other one as its exit.
          returned: where it has one, and offers an exit
          type: list
          elements: str
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
  contains:
    other_cell:
      description: One answer; the key is that cell's name.
      type: dict
      contains:
        status:
          description: As in HTTP; 200 where it was taken over, or was known already.
          type: int
        applied:
          description: Whether it was taken over.
          type: bool
        generation:
          description: The number of the last message that the other cell knows.
          type: int
        reason:
          description: The status in words.
          type: str
  sample: {"bergen": {"status": 200, "applied": true, "generation": 3, "reason": "taken over"}}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.compiled import take

take()

from ..module_utils.steps.sync import ARGUMENTS, run


def main() -> None:
    run(AnsibleModule(**ARGUMENTS))


if __name__ == "__main__":
    main()
