#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_link_pair
short_description: Redeem the invitation of another owner's cell
description:
  - Tells the other cell through a tunnel who this one is, with the key that the invitation's secret leads to, until the other cell knows this cell's own key.
  - That tunnel is in a network namespace of its own, so that nothing that comes by it reaches this host, and is gone afterwards.
  - The preshared key that both get is made here and kept in a file on the cell that only root can read; M(pic.cells.wg_cell_peer) takes it from there. Each
    attempt brings the same one, so it does not matter what of an earlier attempt was lost.
  - In check mode the other cell is not asked.
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
  public_key:
    description: The other cell's public key.
    type: str
    required: true
  endpoint:
    description: C(host:port) at which it is dialled.
    type: str
    required: true
  api_url:
    description: Where its peer-sync listens inside the tunnel.
    type: str
    required: true
  source:
    description: The address of this cell in the tunnel, as the invitation says.
    type: str
    required: true
  preshared_key:
    description: The invitation's secret, 32 bytes in base64.
    type: str
    required: true
seealso:
  - module: pic.cells.pic_link_invitation
  - module: pic.cells.wg_cell_peer
"""

EXAMPLES = r"""
- name: Redeem the invitation of oslo
  pic.cells.pic_link_pair:
    name: oslo
    public_key: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
    endpoint: 192.0.2.11:51822
    api_url: http://10.0.0.1:8088
    source: 198.18.202.110
    preshared_key: "{{ vault_secret_from_oslo }}"
  become: true
"""

RETURN = r"""
redeemed:
  description: Whether the invitation was redeemed now; V(false) where the link has its key already. In check mode whether it would be.
  returned: success
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.steps.pair import ARGUMENTS, run


def main() -> None:
    run(AnsibleModule(**ARGUMENTS))


if __name__ == "__main__":
    main()
