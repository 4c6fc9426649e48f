#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_rekey
short_description: Make another key for a cell
description:
  - Makes a new private key on the cell. Preshared keys, devices, peers of others and everything else stay.
  - The interfaces get the key by M(pic.cells.wg_cell) and M(pic.cells.wg_cell_peer), and the linked cells learn it by theirs; that is a run of
    C(pic.cells.site), which the playbook C(pic.cells.rotate_key) makes. Devices and cells of other owners have to be given the new public key.
  - Each call makes another key.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.attributes
attributes:
  idempotent:
    support: none
    description: Each call makes another key.
seealso:
  - module: pic.cells.wg_cell
"""

EXAMPLES = r"""
- name: Make another key
  pic.cells.pic_cell_rekey:
  become: true
"""

RETURN = r"""
public_key:
  description: The cell's new public key, or V((generated\)) in check mode.
  returned: success
  type: str
  sample: 5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.kernel.plan import apply
from ..module_utils.module import opened, report
from ..module_utils.options import STATE_DIR
from ..module_utils.rekey import plan_rekey


def main() -> None:
    module = AnsibleModule(argument_spec=STATE_DIR, supports_check_mode=True)
    with opened(module, "rekey") as context:
        plan, public = plan_rekey(context)
        if not module.check_mode:
            apply(context.host, plan)
        report(module, plan, {"public_key": public})


if __name__ == "__main__":
    main()
