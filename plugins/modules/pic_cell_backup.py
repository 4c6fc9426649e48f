#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_backup
short_description: Write all of a cell that is in no inventory to a file on the controller
description:
  - Fetches the cell's private key and records, preshared keys, what is kept of an older interface, and the WireGuard files of its interfaces, and writes
    them to one new file with mode 0600. Nothing changes on the cell.
  - Where the run has a vault password, the file is encrypted with it, as C(ansible-vault) does.
  - A task that calls this module needs C(no_log=true), since a verbose run prints what a host sends. Called before in check mode, without that, it says
    what would be refused.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell.state_dir
attributes:
  check_mode:
    support: full
    description: Fetches and writes nothing, and says what a run would.
  diff_mode:
    support: none
    description: What it writes is secret.
  platform:
    support: full
    platforms: linux
    description: The systems that it works on.
options:
  name:
    description: The cell's name, so that no other one is meant by mistake.
    type: str
    required: true
  dest:
    description:
      - The path of the file on the controller, or a folder for a file named after cell and day. Left out, it is beside the inventory.
      - A file that is there is never overwritten.
    type: str
seealso:
  - module: pic.cells.pic_cell_restore_backup
"""

EXAMPLES = r"""
- name: Back up the cell oslo
  pic.cells.pic_cell_backup:
    name: oslo
    dest: /srv/backups/
  become: true
  no_log: true
"""

RETURN = r"""
files:
  description: The names of the files in the backup.
  returned: success
  type: list
  elements: str
  sample: [cell.json, cell_links.json, identity.key, peer_registry.json, wireguard/wg0.conf]
backup:
  description: The backup in base64, empty in check mode. The action plugin writes it to the file, and returns it to nobody.
  returned: success, but not through Ansible
  type: str
  sample: ""
path:
  description: The file on the controller.
  returned: success, through Ansible
  type: str
  sample: /home/me/cells/oslo-2026-11-30.backup
encrypted:
  description: Whether it is encrypted with the vault password of the run.
  returned: success, through Ansible
  type: bool
  sample: true
lines:
  description: What a person has to know.
  returned: success, through Ansible
  type: list
  elements: str
  sample: ["the backup of oslo is /home/me/cells/oslo-2026-11-30.backup, encrypted with the vault password of this run"]
"""

import base64
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import collect, render
from ..module_utils.module import opened
from ..module_utils.options import STATE_DIR, TEXT


def main() -> None:
    own: dict[str, Any] = {"name": {"type": "str", "required": True}, "dest": TEXT}
    module = AnsibleModule(argument_spec={**STATE_DIR, **own}, supports_check_mode=True)
    with opened(module) as context:
        files = collect(context, module.params["name"])
        text = "" if module.check_mode else render(module.params["name"], files, context.now)
        module.exit_json(changed=True, files=sorted(files), backup=base64.b64encode(text.encode()).decode())


if __name__ == "__main__":
    main()
