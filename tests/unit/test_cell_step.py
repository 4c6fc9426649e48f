# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the role are one module to Ansible, which is given the engine, and does what the step's own module does."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.modules import cell_step
from ansible_collections.pic.cells.plugins.plugin_utils import arguments, engine
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import call

COLLECTION = "ansible_collections.pic.cells"
SECRET = made_key("secret")
# What Ansible does on a cell, for a user who is not root: no step gets as far as this machine.
EXECUTED = f"""
import importlib, json, os, sys
from ansible.module_utils import basic
os.geteuid = lambda: 1000
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
importlib.import_module("{COLLECTION}.plugins.modules." + sys.argv[1]).main()
"""
UNPACKED = f"""
import json, sys, zipfile
from {COLLECTION}.plugins.modules import cell_step
opened, ZipFile = [], zipfile.ZipFile
zipfile.ZipFile = lambda path, *given: opened.append(str(path)) or ZipFile(path, *given)
cell_step.unpack(sys.stdin.read(), sys.argv[1])
from pic_cells import agent, compiled
print(json.dumps([agent.__file__, opened == [compiled.PROGRAM], {{name: text.decode() for name, text in agent.sources().items()}}]))
"""


def executed(module: str, given: dict[str, Any], folder: Path) -> Any:
    """Execute a module in a process of its own; return what it printed."""
    own = {**given, "_ansible_remote_tmp": str(folder), "_ansible_keep_remote_files": False}
    done = subprocess.run([sys.executable, "-c", EXECUTED, module], input=json.dumps({"ANSIBLE_MODULE_ARGS": own}), capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def test_each_step_is_done_as_its_module_does_it() -> None:
    assert sorted(cell_step.STEPS) == sorted(arguments.STEPS)
    for step, (module, _arguments) in arguments.STEPS.items():
        own = importlib.import_module(f"{COLLECTION}.plugins.modules.{module}")
        done = importlib.import_module(f"{COLLECTION}.plugins.module_utils.steps.{cell_step.STEPS[step]}")
        assert (own.ARGUMENTS, own.run) == (done.ARGUMENTS, done.run), step


def packed(folder: Path) -> list[str]:
    """Return our modules that Ansible has packed."""
    return sorted({path.name.partition("-")[0].rpartition(".")[2] for path in folder.iterdir() if COLLECTION in path.name and ".lock" not in path.name})


def test_a_run_packs_one_module_whatever_its_steps_are(controller: Controller, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    controller.shared = {**controller.shared, "PIC_CELLS_BUILT": str(built)}  # no server for it: a run as a person starts it
    done = controller.play("link", cell="cellb", remote_cell="cellc")
    assert done.rc == 0, done.message
    assert {module for module, _arguments in controller.asked("cellb")} >= {"pic_cell_info", "wg_cell", "pic_link_keys", "pic_peer_sync", "pic_cell_apply"}
    assert packed(built) == ["cell_step"]


def test_ansible_finds_nothing_of_the_collection_to_pack_with_it() -> None:
    """It reads and compiles whatever a module's imports lead to."""
    nodes = list(ast.walk(ast.parse(Path(cell_step.__file__).read_text())))
    assert {node.module for node in nodes if isinstance(node, ast.ImportFrom)} == {"__future__", "typing", "ansible.module_utils.basic"}
    assert {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names} == {"base64", "importlib", "os", "sys", "zlib"}


@pytest.mark.parametrize("given", [{}, {"prove": "x"}, {"cell": {"name": "cella", "sync_port": "x"}}], ids=["needs root", "no choice", "no port"])
def test_a_step_answers_as_its_module_does(tmp_path: Path, given: dict[str, Any]) -> None:
    step = executed("cell_step", {"step": "read", "host": "cella", "arguments": given, "engine": engine.packed()}, tmp_path)
    module = executed("pic_cell_info", given, tmp_path)
    assert step == module and step["failed"] and ("root" in step["msg"]) is not bool(given)


def test_what_a_step_is_given_is_the_whole_engine_and_is_taken_as_it_lies_compiled_on_the_cell(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", UNPACKED, tmp_path], input=engine.packed(), capture_output=True, text=True, check=True)
    file, asked, sources = json.loads(done.stdout)
    assert file.startswith(f"{tmp_path}/engine.zip/") and asked
    assert sources == {name: text.decode() for name, text in agent.sources().items()}
    with zipfile.ZipFile(tmp_path / "engine.zip") as sent:
        assert {"pic_cells/__init__.py", *(f"pic_cells/{path.relative_to(engine.ROOT)}" for path in engine.ROOT.rglob("*.py"))} == set(sent.namelist())


def test_what_a_step_is_given_is_not_shown_where_the_step_is_none(tmp_path: Path) -> None:
    answer = call("cell_step", FakeHost(tmp_path, "cella"), {"step": "nothing", "host": "cella", "arguments": {"preshared_key": SECRET}})
    assert answer["failed"] and "nothing" in answer["msg"]
    assert SECRET not in json.dumps(answer)


@pytest.mark.parametrize("given", [{"arguments": {"state_dir": "/tmp"}}, {"engine": "x"}], ids=["arguments", "engine"])
def test_a_task_gives_a_step_neither_arguments_nor_an_engine(controller: Controller, tmp_path: Path, given: dict[str, Any]) -> None:
    """They hold what the controller has judged, and are executed."""
    task = {"pic.cells.cell_step": {"step": "apply", "host": "cella", **given}}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "cella", "gather_facts": False, "tasks": [task]}]))
    done = controller.play(str(tmp_path / "play.yml"))
    assert done.rc != 0 and f"{next(iter(given))}. Supported parameters include" in done.message
    assert controller.asked("cella") == []
