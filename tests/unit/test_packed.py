# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible packs of a module is kept for the next run, as long as nothing of it has changed, where nobody else can write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible import constants

from ansible_collections.pic.cells.plugins.plugin_utils import packed

PROJECT = Path(__file__).parents[2]
MODULE = "pic_link_keys"
NAME = f"ansible_collections.pic.cells.plugins.modules.{MODULE}-ZIP_DEFLATED"
Run = Callable[[], list[bytes]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a run of Ansible, which returns what it has found packed, and packs what it has not."""
    monkeypatch.setattr(packed, "_home", lambda: tmp_path / "home")
    monkeypatch.setattr(packed, "_overlaid", lambda: False)

    def play() -> list[bytes]:
        local = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        (local / "ansiballz_cache").mkdir(parents=True)
        monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(local))
        with packed.kept(MODULE):
            found = [path.read_bytes() for path in (local / "ansiballz_cache").iterdir()]
            (local / "ansiballz_cache" / NAME).write_bytes(b"packed")
            (local / "ansiballz_cache" / f"{NAME}.lock").write_bytes(b"")
        return found

    return play


def folder(tmp_path: Path) -> Path:
    """Return where it is kept."""
    (found,) = (tmp_path / "home" / "pic.cells" / "packed").iterdir()
    return found


def test_the_next_run_finds_what_was_packed(run: Run, tmp_path: Path) -> None:
    assert [run(), run(), run()] == [[], [b"packed"], [b"packed"]]
    assert [path.name for path in folder(tmp_path).iterdir()] == [NAME]
    assert folder(tmp_path).stat().st_mode & 0o777 == 0o700


def test_what_was_packed_of_something_else_is_neither_found_nor_left(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(packed, "_version", lambda: "another")
    assert run() == []
    assert folder(tmp_path).name == "another"


@pytest.mark.parametrize("file", ["plugins/modules/pic_link_keys.py", "plugins/module_utils/base/names.py", "meta/runtime.yml"])
def test_every_file_that_is_packed_counts(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = packed._version.__wrapped__(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b" " * str(path).endswith(file))
    assert packed._version.__wrapped__() != before


@pytest.mark.parametrize("parent", [False, True])
def test_a_folder_that_others_can_write_to_is_not_used(run: Run, tmp_path: Path, parent: bool) -> None:
    run()
    (folder(tmp_path).parent if parent else folder(tmp_path)).chmod(0o777)
    assert run() == []


def test_files_that_take_the_place_of_ansibles_are_packed_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(packed, "_overlaid", lambda: True)
    assert run() == []


def test_without_a_place_to_keep_it_a_run_goes_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert [run(), run()] == [[], []]


SCRIPT = """
import sys
from pathlib import Path
from ansible.plugins.loader import init_plugin_loader, module_loader
init_plugin_loader()
from ansible import constants
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.pic.cells.plugins.plugin_utils import packed
folder, module = Path(sys.argv[1]), sys.argv[2]
packed._home, packed._overlaid = lambda: folder / "home", lambda: False
for name in ("first", "second"):
    (folder / name).mkdir()
    constants.DEFAULT_LOCAL_TMP = str(folder / name)
    python = {"ansible_python_interpreter": "/usr/bin/python3"}
    path = module_loader.find_plugin_with_context(f"pic.cells.{module}").plugin_resolved_path
    asked = {"module_name": f"pic.cells.{module}", "module_path": path, "module_args": {}, "module_compression": "ZIP_DEFLATED"}
    with packed.kept(module):
        module_common.modify_module(**asked, templar=Templar(loader=DataLoader(), variables=python), task_vars=python)
    module_common.recursive_finder = None  # which packs
"""


def test_ansible_takes_what_is_found(ansible: Path, tmp_path: Path) -> None:
    around = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".build" / "collections")}
    done = subprocess.run([ansible.parent / "python", "-c", SCRIPT, tmp_path, MODULE], env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
