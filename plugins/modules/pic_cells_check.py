#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pic_cells_check
short_description: Check what the inventory states and what a day-2 playbook is asked for
description:
  - Judges on the controller, before any cell is connected to, the whole visible inventory; names, keys, overlapping networks, services, endpoints and exits.
    Not for V(replay), V(restore), V(status), V(prove) and V(adopt), which ask what is on the cells.
  - Reads what a day-2 playbook is asked for (texts, as a survey gives them; an empty text means "not given") and finds the host that it is for.
  - What is read from extra vars is data. A template in it is not filled in, and what YAML takes for a number, a date, a boolean or null is no name.
  - Fails with one sentence that names the item, the value and the remedy.
  - Facts of hosts, gathered or from a cache, are not looked at; they are what a host says of itself.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  job:
    description:
      - The playbook that asks.
      - V(begin) and V(judge) are what the role C(pic.cells.cell) asks for, once for all hosts of a play. With V(begin) nothing is judged, and what is stated
        is fixed before any cell is connected to. With V(judge) what the cells have answered to the preflight is judged.
    type: str
    required: true
    choices:
      - site
      - link
      - unlink
      - share
      - offer_exit
      - route_peer
      - add_device
      - remove_device
      - show_device
      - rotate_key
      - rekey
      - backup
      - restore_backup
      - uninstall
      - replay
      - restore
      - status
      - prove
      - adopt
      - begin
      - judge
  extra_vars:
    description:
      - Read the options below from the extra vars of the run, of the same names; answers of a survey in AWX are extra vars. Where an extra var is absent, a
        variable given to C(import_playbook) counts, and no other one; not that of a group, of a host, or a fact.
      - Do not pass an extra var on as an argument of the task, as in V({{ cell }}). Ansible would carry out a template in it.
    type: bool
    default: false
  cell:
    description: The cell that the job is for. Where it is left out, V(replay), V(restore), V(status), V(prove) and V(adopt) are for all cells.
    type: raw
  remote_cell:
    description: The other cell; for V(rotate_key), the one at the other end of the link that gets another preshared key.
    type: raw
  services:
    description: The complete set of services to share; a list, or text with commas or newlines; V(none) for nothing.
    type: raw
  offered:
    description: Whether an exit is offered.
    type: raw
  until:
    description: The time at which the offer ends by itself, with its time zone, like V(2026-12-31T00:00:00Z). Where it is left out, the offer has no end.
    type: raw
  rate:
    description: The most that the link sends, and receives, with the offer, like V(20mbit), V(256kbit) to V(10gbit). Where it is left out, there is no limit.
    type: raw
  peer:
    description: The device to route, or for V(prove) the one whose exits are asked; where it is left out, the exits of all devices are.
    type: raw
  via_cell:
    description: The device's exit cell, or several with commas, best first, or V(direct), which can also stand last.
    type: raw
  force:
    description: Whether V(route_peer) is to route the device also where none of its exits carries traffic; it then has no internet until one of them does.
    type: raw
  invitation:
    description:
      - For a link with a cell of another owner; the word beginning with C(pic0-) that C(pic.cells.link) printed there, the dictionary that
        M(pic.cells.pic_link_invitation) returned there (or its JSON), or the path of a regular file with either on the controller.
      - V(new) where there is none yet. The link is pending then, and its own invitation is what the other owner needs.
    type: raw
  fail_on:
    description:
      - What V(status) is to fail for, so that a schedule can notify somebody; a list, or text with commas or newlines. Nothing where it is left out.
      - V(drift) is what differs from the records, V(silent) a link without a handshake for 3 minutes (except one without keepalives), V(pending) what waits for
        another cell; a link, a message, an exit. V(expectation) is what C(cell_expect) states and the cell does not do.
    type: raw
  output:
    description: The form of what V(status) shows; V(table), the report of each cell and a table of all cells, or V(json), the table's rows as data.
    type: raw
  report:
    description:
      - The file on the controller that V(status) writes the report to as one HTML page, which loads nothing. Its folder has to exist.
      - A file that is there is written anew if it is such a report, and else refused.
    type: raw
  source:
    description:
      - For V(adopt), the absolute path of a file or folder on the cell that is read as well, such as the folder with C(wg0.json) of wg-easy, or with the
        records of a cell of an older version.
    type: raw
  dest:
    description:
      - For V(adopt), the path on the controller of a new file for the inventory that describes the cell. It needs O(cell). Where it is left out, the
        inventory is only printed.
    type: raw
  backup_dest:
    description:
      - Where on the controller V(backup) writes the file; a path, or a folder for a file named after cell and day. Left out, beside the inventory.
      - A file that is there is never overwritten.
    type: raw
  backup:
    description: The path on the controller of the file that V(restore_backup) puts back.
    type: raw
  device:
    description:
      - The device to add, to remove or to show, or for V(rotate_key) the one that gets another key.
      - With neither O(device) nor O(remote_cell), V(rotate_key) is for the key of the cell itself, as V(rekey) is.
    type: raw
  public_key:
    description:
      - The public key of the device to add, or its next one. Where it is left out, a key pair is made on the controller; to add a device, unless its file is
        there already.
    type: raw
  addresses:
    description: The addresses of the device to add; a list, or text with commas. Where it is left out, the next free ones.
    type: raw
  dns:
    description:
      - The resolvers in the device's file; addresses, a list or text with commas, or V(none).
      - Where it is left out, the cell's resolver, or for a full tunnel a public one.
    type: raw
  split:
    description: Whether only what is for the cell and linked cells goes into the device's tunnel, and not the internet.
    type: raw
  config_dest:
    description:
      - Where on the controller the device's file is; a path, or a folder for a file named after the device. Where it is left out, beside the inventory.
    type: raw
  show_qr:
    description: Whether to draw the device's file as a QR code on the terminal. It holds the private key, so it is drawn nowhere else.
    type: raw
attributes:
  check_mode:
    support: full
    description: Only judges, in check mode as well.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  action:
    support: full
    description: Runs on the controller, without a connection.
  platform:
    support: full
    platforms: all
    description: Where it runs.
extends_documentation_fragment: []
requirements:
  - the Python library C(netaddr) on the controller
"""

EXAMPLES = r"""
- name: Check what is asked for
  pic.cells.pic_cells_check:
    job: share
    cell: oslo
    remote_cell: bergen
    services: files, voice
  run_once: true
  register: checked

- name: Check what a run is asked for with -e or by a survey
  pic.cells.pic_cells_check:
    job: share
    extra_vars: true
  run_once: true
  register: checked
"""

RETURN = r"""
job:
  description: The change that the role is to carry out, or the one host that the playbook is for; empty where it is for all cells.
  returned: success
  type: dict
  contains:
    job:
      description: The playbook that asks, where the role is to carry out a change.
      type: str
    host:
      description: The host that it is for.
      type: str
    cell:
      description: The name of that host's cell.
      type: str
    rekeys:
      description: The host whose cell gets another key, which all cells have to be told.
      type: str
    remote_cell:
      description: The other cell.
      type: str
    peer:
      description: The device that it is about.
      type: str
    via_cell:
      description: Its exits, best first, or V(direct).
      type: list
      elements: str
    force:
      description: Whether the device is to be routed also where none of its exits carries traffic.
      type: bool
    device:
      description: What was asked for of the device to add or to show, or that gets another key.
      type: dict
    item:
      description: The device to add, to remove or to give another key, as an item of C(cell_peers).
      type: dict
    invitation:
      description: Whether an invitation was given.
      type: bool
    change:
      description: What is to be laid over the inventory for this run.
      type: dict
    fail_on:
      description: What V(status) is to fail for.
      type: list
      elements: str
    output:
      description: The form of what V(status) shows.
      type: str
    report:
      description: The file that V(status) writes the page to.
      type: str
    source:
      description: What V(adopt) is to read as well.
      type: str
    dest:
      description: Where V(adopt) is to write the inventory.
      type: str
    backup_dest:
      description: Where V(backup) is to write its file.
      type: str
    backup:
      description: The file that V(restore_backup) is to put back.
      type: str
  sample: {"job": "share", "host": "oslo", "cell": "oslo", "remote_cell": "bergen", "change": {"share": ["files", "voice"]}}
stated:
  description:
    - For each host of the play its variables that begin with C(cell_), filled in, with those of play and role; not shown, since preshared keys are among them.
  returned: with O(job=begin)
  type: dict
  sample: {"oslo": {"cell_networks": ["10.0.0.1/24"], "cell_links": [{"name": "bergen"}]}}
cells:
  description: What the role needs of all visible cells for each of its hosts; empty in a playbook.
  returned: success
  type: dict
  contains:
    names:
      description: The name of the cell on each host.
      type: dict
    networks:
      description: The networks of the cell on each host.
      type: dict
    addresses:
      description: The own addresses of the cell on each host.
      type: dict
    linking:
      description: By the name of a cell the hosts that state a link with it, each with the place of that link in C(cell_links).
      type: dict
  sample: {"names": {"oslo": "oslo"}, "networks": {"oslo": ["10.0.0.0/24"]}, "addresses": {"oslo": ["10.0.0.1"]}, "linking": {"bergen": {"oslo": 0}}}
refusals:
  description: For each host of the play what ends its run, in sentences.
  returned: with O(job=judge)
  type: dict
  sample: {"oslo": [], "bergen.example.net": []}
due:
  description: For each host of the play what it has to do.
  returned: with O(job=judge)
  type: dict
  sample: {"oslo": ["tell", "apply"], "bergen.example.net": []}
silenced:
  description: For each host of the play the hosts whose answers count for nothing in its run, and why.
  returned: with O(job=judge)
  type: dict
  sample: {"oslo": {}, "bergen.example.net": {}}
away:
  description: The hosts that were not reached.
  returned: with O(job=judge)
  type: list
  elements: str
  sample: []
keys:
  description: By public key which hosts have answered with it.
  returned: with O(job=judge)
  type: dict
  sample: {"5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=": ["oslo"]}
told:
  description: For each cell the hosts whose cells have had something to tell it when they were read.
  returned: with O(job=judge)
  type: dict
  sample: {"bergen": ["oslo"]}
"""
