#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cells_report
short_description: Put together what all cells of a play have said of themselves
description:
  - Makes one overview of what M(pic.cells.pic_cell_info) has returned for each host of the play; a row for each end of a link and for each device, and what is
    not as it should be, with the remedy.
  - Writes it as an HTML page where O(report) is given. The page loads nothing and runs nothing.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  register:
    description:
      - The name under which each host has registered the result of M(pic.cells.pic_cell_info). Hosts whose task was skipped are left out.
      - A host of the play that has failed, or could not be reached, is a finding.
    type: str
    required: true
  report:
    description:
      - The file on the controller that gets the page; relative paths are relative to where ansible-playbook was started. Left out, none is written.
      - Its folder has to exist. A file that is there is written anew if it is such a page, and else refused. A new one has the mode 0600.
    type: str
attributes:
  check_mode:
    support: full
    description: Writes no page, and says that it would.
  diff_mode:
    support: none
    description: The page is made anew each time.
  action:
    support: full
    description: Runs on the controller, without a connection.
  platform:
    support: full
    platforms: all
    description: Where it runs.
extends_documentation_fragment: []
"""

EXAMPLES = r"""
- name: Read the cell
  pic.cells.pic_cell_info:
  become: true
  register: cell

- name: Put all of them together
  pic.cells.pic_cells_report:
    register: cell
    report: cells.html
  run_once: true
"""

RETURN = r"""
table:
  description: The overview in lines with columns.
  returned: success
  type: list
  elements: str
  sample: ["cell   device  tunnel  last handshake  exit in use  internet  way", "oslo   phone   up      5 s ago         bergen       yes       via bergen"]
report:
  description: The file with the page.
  returned: where O(report) is given
  type: str
  sample: /home/anna/cells.html
overview:
  description: The overview as data.
  returned: success
  type: dict
  contains:
    cells:
      description: The names of the cells that were read.
      type: list
      elements: str
    links:
      description: Each end of a link that was read, and each tunnel to an exit of a provider.
      type: list
      elements: dict
      contains:
        cell:
          description: The cell whose end it is.
          type: str
        other:
          description: The other cell, or the exit of a provider.
          type: str
        kind:
          description: V(cell) or V(provider).
          type: str
        state:
          description:
            - V(up), a handshake within 3 minutes; V(idle), none, and no keepalives that would make one; V(silent), none in spite of them.
            - V(pending), a key or networks are missing, or the other cell has not been told the latest.
          type: str
        handshake:
          description: Seconds since the last handshake, V(none) where there was none yet.
          type: int
        shares:
          description: The services that this cell shares with the other.
          type: list
          elements: str
        may_use:
          description: The services that the other cell says it shares with this one.
          type: list
          elements: str
        offers_exit:
          description: Whether this cell offers the other an exit.
          type: bool
        exit_offered:
          description: Whether the other cell offers this one an exit.
          type: bool
        relays:
          description: Whether devices of the other cell leave through this one.
          type: bool
        received:
          description: Bytes received since the interface was started.
          type: int
        sent:
          description: Bytes sent since then.
          type: int
        pending:
          description: Why the other cell does not know the latest; empty where it does.
          type: str
    devices:
      description: The devices.
      type: list
      elements: dict
      contains:
        cell:
          description: Its cell.
          type: str
        device:
          description: Its name.
          type: str
        state:
          description: V(up), a handshake within 3 minutes, or V(idle).
          type: str
        handshake:
          description: Seconds since the last handshake, V(none) where there was none yet.
          type: int
        exits:
          description: Its exits as stated, best first; V(direct) is the own uplink.
          type: list
          elements: str
        exit:
          description: The one in use.
          type: str
        has_internet:
          description: Whether that exit is offered, and carries traffic as far as that is known.
          type: bool
        way:
          description: All of it in words, with exceptions and what answers its DNS.
          type: str
        received:
          description: Bytes received since the interface was started.
          type: int
        sent:
          description: Bytes sent since then.
          type: int
    expectations:
      description: What C(cell_expect) states of the cells.
      type: list
      elements: dict
      contains:
        cell:
          description: The cell that it is expected of.
          type: str
        line:
          description: What is expected.
          type: str
        holds:
          description: Whether it is so on the cell.
          type: bool
        why:
          description: Why it is not; empty where it is.
          type: str
    findings:
      description: What is not as it should be.
      type: list
      elements: dict
      contains:
        cell:
          description: The cell, or the host that gave no answer.
          type: str
        kind:
          description: V(drift), V(silent), V(pending), V(expectation), V(warning) or V(unread).
          type: str
        what:
          description: What it is.
          type: str
        remedy:
          description: What to do.
          type: str
"""
