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
  - The code is kept below C(/run/pic-cells), 3 MB for each version until the next boot, so that it is compiled once. Where it cannot be kept, it is unpacked
    in the task's temporary folder.
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
import glob
import hashlib
import importlib
import importlib.util
import io
import marshal
import os
import shutil
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule, _load_params

# What the package with the engine is called in the zip file that the controller sends.
PACKAGE = "pic_cells"
# Where it is kept, compiled, until the next boot. To compile it is half of the time of an execution.
FOLDERS = "/run/pic-cells"
KEPT = 86400  # seconds that a version stays there unused: another controller may have another one
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
    """Let Python import the engine that the controller has sent, compiled by the first execution that got it.

    folders: where engines are kept, each in a folder that is named by what was sent and by this Python. own: a folder of this execution, for where nothing
    can be kept.
    """
    folder = os.path.join(folders, f"{hashlib.sha256(engine.encode()).hexdigest()}-{sys.implementation.cache_tag}")
    try:
        _make_private(folders)
        if not os.path.isdir(folder):
            _keep(engine, folder)
        os.utime(folder)
    except OSError:  # for example where the task does not run as root, or the disk is full
        folder = own
        _extract(engine, own)
    # Python itself would make a folder anew that was removed meanwhile, and keep half a file on a full disk.
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)


def _extract(engine: str, folder: str) -> None:
    with zipfile.ZipFile(io.BytesIO(zlib.decompress(base64.b64decode(engine)))) as archive:
        archive.extractall(folder)


def _make_private(folder: str) -> None:
    """Make a folder that nobody else can write to. Raises OSError, also where it is there and others can."""
    os.makedirs(folder, 0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"others can write to {folder}")


def _keep(engine: str, folder: str) -> None:
    """Extract an engine into a folder of its own and compile it, all of it or nothing, and remove those that nobody has used for long. Raises OSError."""
    folders = os.path.dirname(folder)
    made = tempfile.mkdtemp(dir=folders)
    try:
        for other in os.scandir(folders):
            if other.stat().st_mtime < time.time() - KEPT:
                os.rename(other, os.path.join(made, "unused"))
                shutil.rmtree(os.path.join(made, "unused"))
        _extract(engine, made)
        for path in glob.glob(f"{made}/**/*.py", recursive=True):
            _compile(path, path[len(made) + 1 :])
        os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _compile(path: str, name: str) -> None:
    """Compile a file for this Python, so that its source is not looked at any more (PEP 552). name: that the program on the cell gives it.

    compiled.head in the engine makes the same beginning, but nothing can be imported of it yet.
    """
    with open(path, "rb") as file:
        source = file.read()
    compiled = importlib.util.cache_from_source(path)
    os.makedirs(os.path.dirname(compiled), exist_ok=True)
    with open(compiled, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source))
        file.write(marshal.dumps(compile(source, name, "exec", dont_inherit=True)))


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
