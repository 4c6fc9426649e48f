# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the role are one module to Ansible, which is given the engine, and does what the step's own module does."""

from __future__ import annotations

import ast
import base64
import errno
import importlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.program import uninstall
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
module = importlib.import_module("{COLLECTION}.plugins.modules." + sys.argv[1])
module.FOLDERS = sys.argv[2]
module.main()
"""
UNPACKED = f"""
import json, os, sys
from {COLLECTION}.plugins.modules import cell_step
cell_step.unpack(sys.stdin.read(), sys.argv[1], sys.argv[2])
from pic_cells import agent
print(json.dumps([agent.__file__, os.path.exists(agent.__cached__), {{name: text.decode() for name, text in agent.sources().items()}}]))
"""

BUILT = f"""
import builtins, io, json, marshal, sys, zipfile
from {COLLECTION}.plugins.modules import cell_step
cell_step.unpack(sys.stdin.read(), sys.argv[1], sys.argv[2])
from pic_cells import agent
real, compiled = compile, []
builtins.compile = lambda source, name, *more, **options: compiled.append(name) or real(source, name, *more, **options)
program = agent.build(agent.sources())
archive = zipfile.ZipFile(io.BytesIO(program))
names = {{entry: marshal.loads(archive.read(entry)[16:]).co_filename for entry in archive.namelist() if entry.endswith(".pyc")}}
print(json.dumps([compiled, names, agent.is_built_of(agent.sources(), program.decode("utf-8", "surrogateescape"))]))
"""
REMOVED = f"""
import shutil, sys
from {COLLECTION}.plugins.modules import cell_step
cell_step.unpack(sys.stdin.read(), sys.argv[1], sys.argv[2])
import pic_cells.base
shutil.rmtree(sys.path[0])
try:
    import pic_cells.cell
except ImportError:
    print("gone")
"""


@dataclass
class Unpacked:
    """What an execution has imported: a file, whether that lay there compiled, and the engine's sources."""

    file: Path
    compiled: bool
    sources: dict[str, str]


def unpacked(sent: str, folder: Path) -> Unpacked:
    """Unpack an engine in a process of its own, below a folder, as the module does."""
    (folder / "own").mkdir(exist_ok=True)
    words = [sys.executable, "-c", UNPACKED, folder / "kept", folder / "own"]
    file, compiled, sources = json.loads(subprocess.run(words, input=sent, capture_output=True, text=True, check=True).stdout)
    return Unpacked(Path(file), compiled, sources)


def executed(module: str, given: dict[str, Any], folder: Path) -> Any:
    """Execute a module in a process of its own; return what it printed."""
    own = {**given, "_ansible_remote_tmp": str(folder), "_ansible_keep_remote_files": False}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTED, module, folder / "kept"], input=json.dumps({"ANSIBLE_MODULE_ARGS": own}), capture_output=True, text=True, check=False
    )
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
    assert {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names} <= sys.stdlib_module_names


@pytest.mark.parametrize("given", [{}, {"prove": "x"}, {"cell": {"name": "cella", "sync_port": "x"}}], ids=["needs root", "no choice", "no port"])
def test_a_step_answers_as_its_module_does(tmp_path: Path, given: dict[str, Any]) -> None:
    step = executed("cell_step", {"step": "read", "host": "cella", "arguments": given, "engine": engine.packed()}, tmp_path)
    module = executed("pic_cell_info", given, tmp_path)
    assert step == module and step["failed"] and ("root" in step["msg"]) is not bool(given)


def test_what_a_step_is_given_is_the_whole_engine() -> None:
    with zipfile.ZipFile(io.BytesIO(zlib.decompress(base64.b64decode(engine.packed())))) as sent:
        assert {"pic_cells/__init__.py", *(f"pic_cells/{path.relative_to(engine.ROOT)}" for path in engine.ROOT.rglob("*.py"))} == set(sent.namelist())


def test_an_engine_is_the_same_as_long_as_its_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    first = engine.packed()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert engine.packed() == first


def test_an_engine_is_kept_and_compiled_for_the_next_execution(tmp_path: Path) -> None:
    first = unpacked(engine.packed(), tmp_path)
    folder = first.file.parents[1]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert unpacked(engine.packed(), tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "it is neither extracted nor compiled anew"
    assert first.compiled and folder.parent == tmp_path / "kept"
    assert {path.name.partition(".")[0] for path in folder.rglob("*.pyc")} == {path.stem for path in folder.rglob("*.py")}
    assert first.sources == {name: text.decode() for name, text in agent.sources().items()}
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


def test_what_is_compiled_is_used(tmp_path: Path) -> None:
    """A source that has been changed there by hand is not even looked at."""
    file = unpacked(engine.packed(), tmp_path).file
    file.write_text("raise SystemExit('compiled anew')")
    assert unpacked(engine.packed(), tmp_path).compiled


def built(folder: Path) -> tuple[list[str], dict[str, str], bool]:
    """Build the program with an engine below a folder. Return what was compiled for it, what each of its files takes for its source, and if it is whole."""
    (folder / "own").mkdir(exist_ok=True)
    words = [sys.executable, "-c", BUILT, folder / "kept", folder / "own"]
    compiled, names, whole = json.loads(subprocess.run(words, input=engine.packed(), capture_output=True, text=True, check=True).stdout)
    return compiled, names, whole


def test_the_program_is_built_of_what_is_compiled_already(tmp_path: Path) -> None:
    compiled, names, whole = built(tmp_path)
    assert whole and compiled == ["__main__.py"]
    assert names == {name: name.removesuffix("c") for name in names}, "a traceback leads nowhere"
    file = unpacked(engine.packed(), tmp_path).file
    file.with_name("cell.py").write_text("CHANGED = True")
    assert built(tmp_path)[0] == ["__main__.py", "pic_cells/cell.py"], "what is compiled of another source is none"


def test_another_python_has_an_engine_of_its_own(tmp_path: Path) -> None:
    folder = unpacked(engine.packed(), tmp_path).file.parents[1]
    assert folder.name.endswith(f"-{sys.implementation.cache_tag}")


def other(version: str) -> str:
    """Return another engine than ours, which imports as much as is asked of it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pic_cells/__init__.py"), "")
        archive.writestr(zipfile.ZipInfo("pic_cells/agent.py"), f"def sources():\n    return {{'version': b'{version}'}}\n")
    return base64.b64encode(zlib.compress(out.getvalue())).decode()


def test_another_engine_lies_beside_it_until_nobody_has_used_it_for_a_day(tmp_path: Path) -> None:
    assert [unpacked(other(version), tmp_path).sources["version"] for version in "1213"] == list("1213")
    one = unpacked(other("1"), tmp_path).file.parents[1]
    two = unpacked(other("2"), tmp_path).file.parents[1]
    os.utime(one, (0, 0))
    os.utime(two, (0, 0))
    unpacked(other("1"), tmp_path)  # which is a use of it
    unpacked(other("4"), tmp_path)
    assert (one.exists(), two.exists()) == (True, False)


def test_where_nothing_can_be_kept_the_engine_is_used_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("no folder")
    found = unpacked(engine.packed(), tmp_path)
    assert found.file.is_relative_to(tmp_path / "own") and not found.compiled


def test_what_others_can_write_is_no_place_for_an_engine(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    kept.chmod(0o777)
    assert unpacked(engine.packed(), tmp_path).file.is_relative_to(tmp_path / "own")
    assert list(kept.iterdir()) == []
    kept.chmod(0o700)
    assert unpacked(engine.packed(), tmp_path).file.is_relative_to(kept)
    kept.chmod(0o770)
    assert unpacked(engine.packed(), tmp_path).file.is_relative_to(tmp_path / "own"), "they may have put there what lies there"
    kept.rename(tmp_path / "theirs")
    kept.symlink_to(tmp_path / "theirs")
    assert unpacked(engine.packed(), tmp_path).file.is_relative_to(tmp_path / "own")


@pytest.mark.parametrize("room", [0, 1, 60, 170, 200])
def test_a_full_disk_never_keeps_half_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """room: files that can still be written below the folder that is kept. Python itself leaves half a file there, which no later execution could read."""
    (tmp_path / "own").mkdir()
    folders, sent, written = tmp_path / "kept", engine.packed(), 0
    opened = io.open

    def full(path: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        nonlocal written
        if "w" in mode and str(path).startswith(str(folders)):
            written += 1
            if written > room:
                raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, *given, **named)

    for keeper in ("builtins.open", "io.open"):
        monkeypatch.setattr(keeper, full)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    cell_step.unpack(sent, str(folders), str(tmp_path / "own"))
    assert sys.path[0] == str(tmp_path / "own") and sys.dont_write_bytecode
    assert list(folders.iterdir()) == []
    monkeypatch.undo()
    assert unpacked(sent, tmp_path).file.is_relative_to(folders)


def test_an_engine_that_is_removed_while_it_is_used_leaves_no_stump(tmp_path: Path) -> None:
    folder = unpacked(engine.packed(), tmp_path).file.parents[1]
    words = [sys.executable, "-c", REMOVED, tmp_path / "kept", tmp_path / "own"]
    assert subprocess.run(words, input=engine.packed(), capture_output=True, text=True, check=True).stdout == "gone\n"
    assert not folder.exists()
    assert unpacked(engine.packed(), tmp_path).file.is_relative_to(folder)


def test_the_end_of_a_cell_is_that_of_its_engines() -> None:
    assert cell_step.FOLDERS in uninstall.PROGRAMS


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
