#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_restore_backup
short_description: Put back what a host lacks of the cell in a backup
description:
  - Writes the key, the records and the preshared keys that a file of M(pic.cells.pic_cell_backup) has and the host has not, or that cannot be read there.
    After that C(pic.cells.site) brings the cell up; the playbook C(pic.cells.restore_backup) does both.
  - What is there is never overwritten. A host that is another cell, has another key, or whose records say otherwise, is refused.
  - The file is judged as a whole before anything is written. Commands in the file of the devices' interface (C(PostUp)) do not come back; a warning names
    them.
  - What linked cells know meanwhile counts. The cell tells them everything anew, and goes on from the generation that they know.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
  - pic.cells.cell.attributes
options:
  name:
    description: The cell's name, so that no other one is meant by mistake.
    type: str
    required: true
  backup:
    description:
      - The path of the backup on the controller. One that is encrypted is opened with the vault passwords of the run.
      - The action plugin hands the contents to the cell, in base64.
    type: str
    required: true
seealso:
  - module: pic.cells.pic_cell_backup
"""

EXAMPLES = r"""
- name: Put back the cell oslo
  pic.cells.pic_cell_restore_backup:
    name: oslo
    backup: /srv/backups/oslo-2026-11-30.backup
  become: true
"""

RETURN = r"""
files:
  description: The files on the cell that were written, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/pic/identity.key, /etc/wireguard/wg0.conf, /var/lib/pic/cell.json]
lines:
  description: What a person has to know.
  returned: success, through Ansible
  type: list
  elements: str
  sample: ["written on oslo: /var/lib/pic/identity.key"]
"""

import base64
import binascii
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import plan_restore
from ..module_utils.base.errors import BadInput
from ..module_utils.kernel.plan import apply
from ..module_utils.module import opened, report
from ..module_utils.options import STATE_DIR


def main() -> None:
    own: dict[str, Any] = {"name": {"type": "str", "required": True}, "backup": {"type": "str", "required": True, "no_log": True}}
    module = AnsibleModule(argument_spec={**STATE_DIR, **own}, supports_check_mode=True)
    with opened(module, "restore_backup", create=False) as context:
        try:
            text = base64.b64decode(module.params["backup"], validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            raise BadInput("backup is not base64. Call this module through Ansible, whose action plugin reads the file.") from None
        plan, written = plan_restore(context, text, module.params["name"])
        if not module.check_mode:
            apply(context.host, plan)
        report(module, plan, {"files": written})


if __name__ == "__main__":
    main()
