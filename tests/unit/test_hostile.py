# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell's root makes its Python answer, and what Ansible makes of it: on real ansible-core."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.controller import Controller

NOTHING = {cell: [f"nothing changed on {cell}", "next: nothing is left to do"] for cell in ("cella", "cellb", "cellc")}
EVIL = '/var/lib/pic"\n[Service]\nExecStartPre=+/bin/false'
FACTS: dict[str, Any] = {
    "__cell_every_step": True,
    "__cell_job": {"job": "unlink", "host": "cella", "cell": "cella", "remote_cell": "cellc", "change": {}},
    "__cell_checked": {"job": {"job": "unlink", "host": "cella", "cell": "cella", "remote_cell": "cellc", "change": {}}},
    "__cell_batch": ["cellb"],
    "__cell_due": ["rules"],
    "__cell_stated": {"stated": {"cell_networks": ["8.8.8.1/24"]}},
    "cell_state_dir": EVIL,
    "cell_networks": ["8.8.8.1/24"],
    "cell_links": [{"name": "cellb", "share": ["files", "voice"], "offer_exit": True}],
    "cell_admin_networks": ["10.0.1.0/24"],
    "cell_manage_packages": False,
    "their_networks": ["8.8.8.1/24"],
}
WITH_FACTS = f"""
def answer(module, arguments, honest):
    return {{**honest, "ansible_facts": {FACTS!r}, "_ansible_facts_cacheable": True, "add_group": "pic_cells_job"}}
"""


def given(controller: Controller, host: str) -> str:
    """Return all that modules were given on a host, as text."""
    return json.dumps([arguments for _module, arguments in controller.asked(host)])


def test_honest_cells_are_run_as_by_the_stand_in(controller: Controller) -> None:
    done = controller.play("site")
    assert done.rc == 0, done.message
    assert done.said == NOTHING
    assert [module for module, _arguments in controller.asked("cella")] == ["pic_cell_info"], "a run that changes nothing takes one execution"


@pytest.mark.parametrize("playbook", ["restore", "replay", "status"])
def test_one_cell_alone_is_looked_after(controller: Controller, playbook: str) -> None:
    done = controller.play(playbook, cell="cella")
    assert done.rc == 0, done.text
    assert not [module for module, _arguments in controller.asked("cellb")]


def test_no_fact_of_another_cell_reaches_a_decision(controller: Controller) -> None:
    """It is asked by delegation, so what it says is heard on behalf of cella; a module that is not ours has its part in the run."""
    other = controller["cellb"]
    other.files["/proc/sys/net/ipv4/ip_forward"] = (0o644, "0\n")
    controller["cellb"] = other
    controller.hostile("cellb", WITH_FACTS)
    controller.of("cella")["cell_links"][0].pop("share")
    done = controller.play("share", cell="cella", remote_cell="cellb", services="files")
    assert done.rc == 0, done.message
    assert "changed on cella: link cellb: shares files, offers an exit" in done.said["cella"]
    assert "sysctl" in [module for module, _arguments in controller.asked("cellb")], "the other module was not executed"
    for host in ("cella", "cellb"):
        folders = {arguments["state_dir"] for _module, arguments in controller.asked(host) if "state_dir" in arguments}
        assert folders == {"/var/lib/pic"}
        assert "8.8.8" not in given(controller, host)
        assert "10.0.1.0/24" not in str([(arguments.get("cell") or {}).get("admin_networks") for _module, arguments in controller.asked(host)])
    assert "pic_cell_agent" not in [module for module, _arguments in controller.asked("cella")], "steps without anything to do were taken"


def test_facts_of_an_earlier_run_and_of_the_cells_themselves_reach_no_decision(controller: Controller) -> None:
    cache = controller.folder / "facts"
    cache.mkdir()
    for host in ("cella", "cellb", "cellc"):
        (cache / host).write_text(json.dumps(FACTS))
    controller.settings.update(fact_caching="jsonfile", fact_caching_connection=str(cache), fact_caching_timeout="0")
    controller.of("cellb")["cell_networks"] = "{{ their_networks }}"
    controller.of("cellb")["their_networks"] = ["10.0.1.1/24", "fd00:b::1/64"]
    controller.hostile("cellb", WITH_FACTS)
    done = controller.play("site")
    assert done.rc == 0, done.message
    assert done.said == NOTHING
    assert [[module for module, _arguments in controller.asked(host)] for host in ("cella", "cellb")] == [["pic_cell_info"]] * 2
    assert "8.8.8" not in given(controller, "cella") + given(controller, "cellb")


def test_variables_of_a_play_and_of_the_role_count_and_are_checked(controller: Controller) -> None:
    """Somebody's own playbook, which no play of ours has gone before."""
    playbook = controller.folder / "own.yml"
    nets = {host: controller.of(host).pop("cell_networks") for host in ("cella", "cellb", "cellc")}
    controller.of("cellc")["cell_peers"] = [{"name": "twin", "addresses": ["10.0.2.2"]}] * 2
    role = {"name": "pic.cells.cell"}
    play = {"hosts": "cells", "gather_facts": False, "vars": {"nets": nets, "cell_networks": "{{ nets[inventory_hostname] }}"}}
    playbook.write_text(json.dumps([{**play, "tasks": [{"name": "Link the cells", "ansible.builtin.import_role": role}]}]))
    done = controller.play(str(playbook))
    assert done.rc != 0
    assert "'twin' is there twice" in done.message
    assert controller.asked("cella") == [], "a cell was asked before the inventory was judged"
    del controller.of("cellc")["cell_peers"]
    done = controller.play(str(playbook))
    assert done.rc == 0, done.message
    assert done.said == NOTHING


def test_a_group_of_the_name_that_jobs_use_brings_no_host_in(controller: Controller) -> None:
    controller.inventory["all"]["children"]["pic_cells_job"] = {"hosts": {"cellc": {}}}
    controller.of("cella")["cell_links"][0].pop("share")
    done = controller.play("share", cell="cella", remote_cell="cellb", services="files")
    assert done.rc == 0, done.message
    assert "changed on cella: link cellb: shares files, offers an exit" in done.said["cella"]
    assert done.said["cellc"] == ["this run is not about cellc"]
    assert controller.asked("cellc") == []


def test_a_folder_that_would_be_a_line_of_a_unit_is_refused_before_a_cell_is_asked(controller: Controller) -> None:
    controller.of("cella")["cell_state_dir"] = EVIL
    done = controller.play("site")
    assert done.rc != 0
    assert "cell_state_dir" in done.message
    assert "Choose another folder" in done.message
    assert controller.asked("cella") == []


SILENT = """
import time
def answer(module, arguments, honest):
    time.sleep(120)
"""
SILENT_AFTERWARDS = """
import time
def answer(module, arguments, honest):
    if module != "pic_cell_info":
        time.sleep(120)
    return honest
"""


@pytest.mark.parametrize("source", [SILENT, SILENT_AFTERWARDS], ids=["from the beginning", "in the middle"])
def test_a_cell_that_answers_nothing_keeps_no_other_from_unlinking(controller: Controller, source: str) -> None:
    controller.hostile("cellb", source)
    controller.of("cella")["cell_links"][0]["state"] = "absent"
    controller.of("cella")["cell_peers"][0]["route_via"] = "direct"
    controller.of("cellb")["cell_peers"][0]["route_via"] = "direct"
    controller.of("cellb")["cell_links"] = []
    done = controller.play("unlink", __cell_patience=15, cell="cella", remote_cell="cellb")
    assert done.rc == 0, done.message
    assert "changed on cella: link cellb: no longer there" in done.said["cella"]
    assert [line for line in done.said["cella"] if line.startswith("pending on cella: cellb ")], done.said
    assert len(controller.asked("cellb")) <= 2, "it was asked again"


def test_a_refusal_of_one_cell_keeps_no_other_of_the_site_from_taking_back(controller: Controller) -> None:
    controller.hostile("cellb", 'def answer(module, arguments, honest):\n    return {**honest, "refusals": ["\\x1b[2JNot today."]}\n')
    controller.of("cella")["cell_links"][0].update(share=[])
    done = controller.play("site")
    assert done.rc != 0, "the refusal was not said"
    assert "Not today." in done.message
    assert "\\x1b" not in json.dumps(done.text).replace("\\\\x1b", "")
    assert "changed on cella: link cellb: shares nothing, offers an exit" in done.said["cella"]
    assert "cellc" not in done.said, "a run that gives does not go on"


# A process of its own for each task is bounded, that of the playbook is not.
GIGABYTES = """
import multiprocessing
from ansible_collections.pic.cells.plugins.plugin_utils.asked import _bound_memory

def task(said):
    _bound_memory()
    try:
        bytearray(4 << 30)
    except MemoryError:
        said.put("refused")
    else:
        said.put("taken")

context = multiprocessing.get_context("fork")
said = context.SimpleQueue()
child = context.Process(target=task, args=(said,))
child.start()
print(said.get())
child.join()
_bound_memory()
bytearray(4 << 30)
"""


def test_an_answer_of_gigabytes_ends_its_own_task_alone() -> None:
    done = subprocess.run([sys.executable, "-c", GIGABYTES], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("refused", 0), done.stderr
