# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell's Python, as real Ansible meets it: it runs a module on a fake host, or says what a hostile root would have it say."""

from __future__ import annotations

import ast
import fcntl
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.tests.unit.fake_host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import call

ARGUMENTS = "ANSIBLE_MODULE_ARGS"


def main(folder: str, name: str) -> None:
    """Answer Ansible as the cell called name does. folder: that of the controller; <name>.py there defines what a hostile one answers."""
    program = Path(sys.argv[-1])
    module, arguments = program.stem.removeprefix("AnsiballZ_"), _arguments(program)
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


def _arguments(program: Path) -> dict[str, Any]:
    """Find the arguments in what Ansible sends; each of its versions wraps them otherwise, but all of them as one text."""
    for node in ast.walk(ast.parse(program.read_bytes())):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and ARGUMENTS in str(node.value)[:40]:
            found: dict[str, Any] = json.loads(node.value)[ARGUMENTS]
            return found
    raise AssertionError(f"{program} holds no arguments")


def _honest(state: Path, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if not module.startswith(("pic_", "wg_")):
        return {"changed": False}
    host: FakeHost = pickle.loads(state.read_bytes())
    own = {key: value for key, value in arguments.items() if not key.startswith("_ansible_")}
    answer = call(module, host, own, check=arguments["_ansible_check_mode"])
    state.write_bytes(pickle.dumps(host))
    return answer
