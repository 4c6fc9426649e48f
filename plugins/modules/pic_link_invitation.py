#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_link_invitation
short_description: Make an invitation for the owner of another cell
description:
  - Returns what the other owner's C(pic.cells.link) needs to know of this cell. Nothing of it is secret.
  - The preshared key of the link is not part of it. Where the link has none yet, one is made and kept in a file on the cell that only root can read; the
    link takes it from there, and the other owner needs it by a way that nobody else reads.
  - Where this cell can be dialled, whoever has both can complete the link through a tunnel for a day, once (M(pic.cells.pic_link_pair)). By that tunnel they
    reach the port of peer-sync, and nothing else.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.endpoint_port
  - pic.cells.cell.attributes
options:
  name:
    description: The other cell's name.
    type: str
    required: true
seealso:
  - module: pic.cells.wg_cell_peer
"""

EXAMPLES = r"""
- name: Invite the owner of tromso
  pic.cells.pic_link_invitation:
    name: tromso
  become: true
  register: invited
"""

RETURN = r"""
invitation:
  description: What the other owner gives as the extra var C(invitation).
  returned: success
  type: dict
  contains:
    name:
      description: The name of this cell.
      type: str
    public_key:
      description: Its public key.
      type: str
    networks:
      description: Its networks.
      type: list
      elements: str
    address:
      description: Its own addresses inside the tunnel.
      type: list
      elements: str
    endpoint:
      description: C(host:port) that the other cell dials, V(none) where this cell has none.
      type: str
    api_url:
      description: Where it is told what the other cell shares, inside the tunnel.
      type: str
  sample:
    name: oslo
    public_key: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
    networks: [10.0.0.0/24]
    address: [10.0.0.1]
    endpoint: 192.0.2.11:51822
    api_url: http://10.0.0.1:8088
key_file:
  description: The file on the cell with the preshared key, the other owner's extra var C(preshared_key); empty where the link has got its key otherwise.
  returned: success
  type: str
  sample: /var/lib/pic/invitations/tromso.psk
token:
  description:
    - The invitation as one word that C(pic.cells.link) redeems through the tunnel, once, together with the preshared key; empty where this cell has no
      endpoint to dial, where the link has its key already, and in check mode.
  returned: success
  type: str
  sample: pic1-1WJ1HnsiYWRkcmVzcyI6WyIxMC4wLjAuMSJdfQ
token_file:
  description: The file on the cell with the same word that has the preshared key in it, so that nothing else is needed; empty where there is no such word.
  returned: success
  type: str
  sample: /var/lib/pic/invitations/tromso.token
code:
  description: A short text that both owners compare where the invitation came by a way on which it could have been replaced.
  returned: success
  type: str
  sample: q3xw-7hfa-m2kp
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.base.command import Draft
from ..module_utils.cell import WAY, plan_step
from ..module_utils.kernel.plan import apply
from ..module_utils.module import opened, report
from ..module_utils.options import STATE_DIR
from ..module_utils.parts.invitation import plan_invitation


def main() -> None:
    own: dict[str, Any] = {"name": {"type": "str", "required": True}, "endpoint_port": {"type": "int"}}
    module = AnsibleModule(argument_spec={**STATE_DIR, **own}, supports_check_mode=True)
    with opened(module, "invite") as context:
        plan, facts, inputs = plan_invitation(context, module.params["name"], module.params["endpoint_port"])
        if inputs:
            # The way by which it is redeemed comes last to the host, and is planned first: what cannot be is refused before anything has changed.
            way, _facts = plan_step(context.on(Draft(context.host)), WAY, inputs)
            plan.extend(way)
        if plan and not module.check_mode:
            apply(context.host, plan)
        report(module, plan, facts)


if __name__ == "__main__":
    main()
