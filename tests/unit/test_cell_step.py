# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the role are one module to Ansible, which packs each module once in a run; what it does is what the step's own module does."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from ansible_collections.pic.cells.plugins.modules import cell_step
from ansible_collections.pic.cells.plugins.plugin_utils import arguments
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call

COLLECTION = "ansible_collections.pic.cells"
SECRET = made_key("secret")


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


def test_a_step_answers_as_its_module_does(linked: World) -> None:
    step = call("cell_step", linked["cella"], {"step": "read", "host": "cella", "arguments": {}})
    assert step == call("pic_cell_info", linked["cella"], {})


def test_what_a_step_is_given_is_not_shown_where_the_step_is_none(linked: World) -> None:
    answer = call("cell_step", linked["cella"], {"step": "nothing", "host": "cella", "arguments": {"preshared_key": SECRET}})
    assert answer["failed"] and "nothing" in answer["msg"]
    assert SECRET not in json.dumps(answer)


def test_a_task_gives_a_step_no_arguments(controller: Controller, tmp_path: Path) -> None:
    """They hold what the controller has judged."""
    task = {"pic.cells.cell_step": {"step": "apply", "host": "cella", "arguments": {"state_dir": "/tmp"}}}
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "cella", "gather_facts": False, "tasks": [task]}]))
    done = controller.play(str(tmp_path / "play.yml"))
    assert done.rc != 0 and "arguments. Supported parameters include" in done.message
    assert controller.asked("cella") == []
