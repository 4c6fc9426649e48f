#!/usr/bin/python
# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cell_step
short_description: Take one step of the role for one cell
description:
  - For the role C(pic.cells.cell). Puts together on the controller, once, what the step's module is given for a cell, and does there what that module does.
  - Ansible packs a module with all that it imports once in a run, and that takes longer than to execute it. So all steps are one module to Ansible, which
    imports nothing of the collection, and is given the code as an argument.
  - The code lies below C(/run/pic-cells) until the next boot, so that Python compiles it once. Who is not root gets it in a folder of the execution.
  - What the step's module is given is no argument of the task, so that neither a verbose run nor a callback prints it.
  - What a cell answers is data, as with the module itself; see there for what is returned.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  step:
    description:
      - The step. V(read) is M(pic.cells.pic_cell_info), V(identity) is M(pic.cells.wg_cell), V(keys) is M(pic.cells.pic_link_keys).
      - V(pair) is M(pic.cells.pic_link_pair). V(tell), V(hand) and V(push) are M(pic.cells.pic_peer_sync), V(apply) is M(pic.cells.pic_cell_apply).
    type: str
    required: true
    choices: [read, identity, keys, pair, tell, hand, apply, push]
  host:
    description: The host of the cell, which the task is delegated to where it is another one.
    type: str
    required: true
  arguments:
    description: What the module of the step is given. The controller puts this in; a task cannot.
    type: dict
  engine:
    description: The Python code that does it. The controller puts this in; a task cannot.
    type: str
attributes:
  check_mode:
    support: full
    description: As the module of the step.
  diff_mode:
    support: full
    description: As the module of the step.
  action:
    support: full
    description: Puts the arguments together on the controller.
  platform:
    support: full
    platforms: linux
    description: Where the module of the step runs.
extends_documentation_fragment: []
requirements:
  - the Python library C(netaddr) on the controller
"""

EXAMPLES = r"""
- name: Read this host's cell
  pic.cells.cell_step:
    step: read
    host: "{{ inventory_hostname }}"
"""

RETURN = r"""
elapsed:
  description: The seconds that the answer has taken, as the controller has measured them; beside what the module of the step returns.
  returned: success
  type: int
  sample: 1
"""

import base64
import hashlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule, _load_params

# What the package with the engine is called in the zip file that the controller sends.
PACKAGE = "pic_cells"
# Where it lies until the next boot: what Python compiles of it saves the next execution half of its time.
FOLDERS = "/run/pic-cells"
KEPT = 86400  # seconds that one lies there unused, as another controller may have another version
# By step of the role: what does it.
STEPS = {
    "read": "read",
    "identity": "identity",
    "keys": "keys",
    "pair": "pair",
    "tell": "sync",
    "hand": "sync",
    "apply": "apply",
    "push": "sync",
}


class Step(AnsibleModule):
    """A module that another one was given the arguments of."""

    def __init__(self, given: dict[str, Any], **arguments: Any) -> None:
        self.given = given
        super().__init__(**arguments)

    def _load_params(self) -> None:
        self.params = self.given


def unpack(engine: str, folders: str, own: str) -> None:
    """Let Python import the engine that the controller has sent, as compiled in an earlier execution.

    folders: where engines lie, each in a folder that is named by what was sent. own: a folder of this execution, for where nothing can be kept.
    """
    folder = os.path.join(folders, hashlib.sha256(engine.encode()).hexdigest())
    try:
        if not os.path.isdir(folder):
            _keep(engine, folder)
        os.utime(folder)
    except OSError:  # for one, whoever is not root
        folder = own
        _extract(engine, own)
    sys.path.insert(0, folder)


def _extract(engine: str, folder: str) -> None:
    with zipfile.ZipFile(io.BytesIO(zlib.decompress(base64.b64decode(engine)))) as archive:
        archive.extractall(folder)


def _keep(engine: str, folder: str) -> None:
    """Extract an engine into a folder of its own, whole or not at all, and remove those that nobody has used for long. Raises OSError."""
    folders = os.path.dirname(folder)
    os.makedirs(folders, 0o700, exist_ok=True)
    for other in os.scandir(folders):
        if other.stat().st_mtime < time.time() - KEPT:
            shutil.rmtree(other, ignore_errors=True)
    made = tempfile.mkdtemp(dir=folders)
    try:
        _extract(engine, made)
        os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def main() -> None:
    own: dict[str, Any] = {"step": {"type": "str", "required": True, "choices": list(STEPS)}, "host": {"type": "str", "required": True}}
    # The step names what of its arguments is secret; to this module all of them are. No log is to hold the engine.
    sent: dict[str, Any] = {"arguments": {"type": "dict", "no_log": True}, "engine": {"type": "str", "no_log": True}}
    module = AnsibleModule(argument_spec={**own, **sent}, supports_check_mode=True)
    given = _load_params()
    of_ansible = {key: value for key, value in given.items() if key.startswith("_ansible_")}
    unpack(given["engine"], FOLDERS, module.tmpdir)
    step = importlib.import_module(f"{PACKAGE}.steps.{STEPS[module.params['step']]}")
    step.run(Step({**of_ansible, **given["arguments"]}, **step.ARGUMENTS))


if __name__ == "__main__":
    main()
