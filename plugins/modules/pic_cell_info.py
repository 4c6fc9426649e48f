#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cell_info
short_description: Read back a cell
description:
  - Returns what a cell is and does; its identity, links with handshakes and counters, devices, rules, policy routing and records, and where the kernel
    differs from the records (drift). Returns no private and no preshared key.
  - With O(run), says instead what the modules of that run would refuse, so that it can be ended before any of them changes anything, and which of them
    would have something to do, so that the others need not be executed.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
extends_documentation_fragment:
  - pic.cells.cell
  - pic.cells.cell.run
  - pic.cells.cell.info_attributes
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Show what differs from the records
  ansible.builtin.debug:
    var: cell.drift
"""

RETURN = r"""
name:
  description: The cell's name in its record, empty where it has none.
  returned: success
  type: str
public_key:
  description: The cell's public key, V(none) where it has none.
  returned: success
  type: str
networks:
  description: Own address and prefix of each of the cell's networks.
  returned: success
  type: list
  elements: str
links:
  description:
    - Each link by the other cell's name; its record's fields, C(last_handshake) (seconds since the epoch, 0 for never), C(received) and C(sent) (bytes).
  returned: success
  type: dict
peers:
  description: Each device by its name; its record's fields, C(exit_effective), C(last_handshake), C(received) and C(sent).
  returned: success
  type: dict
rules:
  description: Our rules as iptables prints them, by family (C(ipv4), C(ipv6)) and table.
  returned: success
  type: dict
policy_rules:
  description: Our policy rules as ip takes them, by family.
  returned: success
  type: dict
routes:
  description: Our routes as ip takes them, by family.
  returned: success
  type: dict
drift:
  description:
    - What the next run would change because the kernel differs from the records, a line each.
    - Empty where all is right, or where O(run) is given.
  returned: success
  type: list
  elements: str
refusals:
  description: What the modules of O(run) would refuse, in sentences; empty where nothing.
  returned: success
  type: list
  elements: str
advice:
  description:
    - What on this host may keep the cell from working though all that is its own is as it should be, in sentences that name the thing and what to do.
    - Each of them is also a warning. Empty where nothing is known, and where the host is no cell.
  returned: success
  type: list
  elements: str
due:
  description:
    - The steps of O(run) that would change something, or warn; C(identity) (M(pic.cells.wg_cell)), C(tell), C(hear) and C(note)
      (M(pic.cells.pic_peer_sync)), C(rules), C(links), C(routes), C(agent). Empty where O(run) is not given or refused.
    - What another cell says only in the run itself is not known yet, and taken for what the record has.
  returned: success
  type: list
  elements: str
payloads:
  description: What each linked cell is to be told in O(run), by its name. Empty where O(run) is not given or refused.
  returned: success
  type: dict
advertised:
  description: The devices whose IPv6 default route comes from router advertisements that the kernel ignores once it forwards (C(accept_ra) is 1).
  returned: success
  type: list
  elements: str
unforwarded:
  description: The kernel settings for forwarding (C(sysctl)) that are not 1, or that C(/etc/sysctl.d/90-pic-cells.conf) does not keep.
  returned: success
  type: list
  elements: str
missing:
  description: The packages of the programs that are not installed, by the names of the host's system.
  returned: success
  type: list
  elements: str
missing_programs:
  description: The programs that are not installed.
  returned: success
  type: list
  elements: str
unpackaged:
  description: Those of them whose package is not known for the host's system.
  returned: success
  type: list
  elements: str
unlisted:
  description: Whether a program is missing and the package manager has no list of packages yet, and fetches none by itself (apt, pacman, apk).
  returned: success
  type: bool
system:
  description: What the host's system calls itself.
  returned: success
  type: str
"""

import sys

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.agent import build, plan_agent, sources
from ..module_utils.module import CELL_OPTIONS, RUN_OPTIONS, opened
from ..module_utils.texts import printable, shown


def main() -> None:
    module = AnsibleModule(argument_spec={**CELL_OPTIONS, **RUN_OPTIONS}, supports_check_mode=True)
    with opened(module) as cell:
        facts = cell.info(module.params["cell"], module.params["run"])
        if module.params["run"] and not facts["refusals"]:
            agent = plan_agent(cell, sys.executable, build(sources()))
            facts["due"] += ["agent"] if agent or agent.warnings else []
        for sentence in facts["advice"]:
            module.warn(printable(sentence))
        module.exit_json(**shown({"changed": False, **facts}))


if __name__ == "__main__":
    main()
