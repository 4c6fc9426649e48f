# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell's Python, as real Ansible meets it: it runs a module on a fake host, or says what a hostile root would have it say.

What Ansible starts hands its arguments and its standard streams to a server (forking.py).
"""

from __future__ import annotations

import ast
import fcntl
import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.plugin_utils.arguments import STEPS
from ansible_collections.pic.cells.tests.unit import forking
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import call

ARGUMENTS = "ANSIBLE_MODULE_ARGS"


def serve(address: str) -> None:
    """Serve those who ask for a module at an address."""
    files = agent.sources()
    agent.is_built_of(files, agent.build(files).decode("utf-8", "surrogateescape"))  # once for all of them
    forking.serve(address, main)


def main(folder: str, name: str) -> None:
    """Answer Ansible as the cell called name does. folder: that of the controller; <name>.py there defines what a hostile one answers."""
    module, arguments = _read(sys.stdin.read())
    script = Path(folder, f"{name}.py")
    log = Path(folder, f"{name}.log")
    with log.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps([module, arguments]) + "\n")
        file.flush()
        answer: Any = _honest(Path(folder, f"{name}.pickle"), module, arguments)
    if script.exists():
        scope: dict[str, Callable[..., Any]] = {}
        exec(compile(script.read_text(), str(script), "exec"), scope)
        answer = scope["answer"](module, arguments, answer)
    print(answer if isinstance(answer, str) else json.dumps(answer))


def _read(program: str) -> tuple[str, dict[str, Any]]:
    """Find a module's name and arguments in what Ansible sends; each of its versions wraps them otherwise, but all of these as one text."""
    (module,) = set(re.findall(r"(?:module_fqn|mod_name)='[\w.]*?(\w+)'", program))
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and ARGUMENTS in str(node.value)[:40]:
            given = json.loads(node.value)[ARGUMENTS]
            return _step(given) if module == "cell_step" else (module, given)
    raise AssertionError(f"{module} was sent without arguments")


def _step(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return which module a step of the role stands for, and what that is given."""
    of_ansible = {key: value for key, value in given.items() if key.startswith("_ansible_")}
    return STEPS[given["step"]][0], {**of_ansible, **given["arguments"]}


def _honest(state: Path, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if not module.startswith(("pic_", "wg_")):
        return {"changed": False}
    host: FakeHost = pickle.loads(state.read_bytes())
    own = {key: value for key, value in arguments.items() if not key.startswith("_ansible_")}
    answer = call(module, host, own, check=arguments["_ansible_check_mode"])
    state.write_bytes(pickle.dumps(host))
    return answer
