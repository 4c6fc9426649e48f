# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell's root makes its Python answer, and what Ansible makes of it: on real ansible-core."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.plugin_utils import asked
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import render_invitation
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

NOTHING = {cell: [f"nothing changed on {cell}", "next: nothing is left to do"] for cell in ("cella", "cellb", "cellc")}
EVIL = '/var/lib/pic"\n[Service]\nExecStartPre=+/bin/false'
FACTS: dict[str, Any] = {
    "__cell_every_step": True,
    "__cell_job": {"job": "unlink", "host": "cella", "cell": "cella", "remote_cell": "cellc", "change": {}},
    "__cell_checked": {"job": {"job": "unlink", "host": "cella", "cell": "cella", "remote_cell": "cellc", "change": {}}},
    "__cell_batch": ["cellb"],
    "__cell_judged": {"due": {"cella": ["rules"]}, "refusals": {}, "silenced": {}, "away": ["cellc"], "told": {}},
    "__cell_stated": {"stated": {"cella": {"cell_networks": ["8.8.8.1/24"]}}},
    "__cell_known": {"cells": {"names": {"cellb": "cella"}, "networks": {"cella": ["8.8.8.0/24"]}, "addresses": {}, "linking": {}}},
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


def link(controller: Controller, host: str, name: str) -> dict[str, Any]:
    """Return what a cell remembers of another."""
    record = json.loads(controller[host].read("/var/lib/pic/cell_links.json") or "")
    return dict(next(item for item in record["links"] if item["name"] == name))


def test_honest_cells_are_run_as_by_the_stand_in(controller: Controller) -> None:
    done = controller.play("site")
    assert done.rc == 0, done.message
    assert done.said == NOTHING
    assert [module for module, _arguments in controller.asked("cella")] == ["pic_cell_info"], "a run that changes nothing takes one execution"


def test_a_verbose_run_shows_no_preshared_key(controller: Controller) -> None:
    secret = made_key("a preshared key that the inventory states")
    controller.of("cella")["cell_peers"][0]["preshared_key"] = secret
    done = controller.play("site", "-vvv", "--diff")
    assert done.rc == 0, done.text
    assert secret in given(controller, "cella"), "the module was not given it"
    assert secret not in done.text


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
    controller.remember(FACTS)
    seen = controller.folder / "seen.yml"
    seen.write_text(json.dumps([{"hosts": "cella", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": "{{ cell_networks }}"}}]}]))
    assert "8.8.8.1/24" in controller.play(str(seen)).text, "Ansible itself does not read the cache"
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
    assert "'twin' is given twice" in done.message
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
    assert done.said["cellc"] == ["this run does not concern cellc"]
    assert controller.asked("cellc") == []


def test_a_folder_that_would_be_a_line_of_a_unit_is_refused_before_a_cell_is_asked(controller: Controller) -> None:
    controller.of("cella")["cell_state_dir"] = EVIL
    done = controller.play("site")
    assert done.rc != 0
    assert "cell_state_dir" in done.message
    assert "Choose another folder" in done.message
    assert controller.asked("cella") == []


LINES = "fd00:9::1%1 -j ACCEPT\n-I FORWARD -j ACCEPT"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"address": [LINES], "networks": ["fd00:9::/64"]}, "address of the invitation of 'far'"),
        ({"networks": ["8.8.8.0/24"]}, "allow_public_networks"),
        ({"networks": ["2600::/8"]}, "wider than /32"),
    ],
    ids=["lines for iptables", "public networks", "wide networks"],
)
def test_an_invitation_that_claims_too_much_is_refused_before_a_cell_is_asked(controller: Controller, claims: dict[str, Any], words: str) -> None:
    """K3, H1."""
    invitation = {"name": "far", "public_key": made_key("far"), "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], **claims}
    done = controller.play("link", cell="cella", remote_cell="far", invitation=render_invitation(invitation))
    assert done.rc != 0
    assert words in done.message
    assert controller.asked("cella") == []


# Says something else in each message of cellb.
SAYS = """
def answer(module, arguments, honest):
    for message in (honest.get("payloads") or {{}}).values():
        message.update({!r})
    return honest
"""


def test_a_cell_has_no_word_for_another_one(controller: Controller) -> None:
    """H3: what cellb says in the name of cellc is left out, and cellb named."""
    before = link(controller, "cella", "cellc")
    message = {"from_cell": "cellc", "from_public_key": before["public_key"], "generation": before["remote_generation"] + 9, "exit_offered": False}
    assert before["remote_exit_offered"]
    controller.hostile("cellb", SAYS.format(message))
    done = controller.play("site")
    assert done.rc == 0, done.message
    assert link(controller, "cella", "cellc") == before
    assert "pending on cella: the answer of cellb is not a valid message from it and was ignored" in done.said["cella"]


def test_a_count_that_is_absurd_locks_nobody_out(controller: Controller) -> None:
    """H5, as Ansible carries it: the others are heard in the same run, and the cell itself as soon as it counts as it should."""
    controller.of("cellc")["cell_links"][0]["offer_exit"] = False
    controller.of("cella")["cell_peers"][1]["route_via"] = "direct"
    controller.hostile("cellb", SAYS.format({"generation": 2**53 - 1, "permissions": {"outbound": {"mail": True}}}))
    done = controller.play("site")
    assert done.rc == 0, done.message
    assert not link(controller, "cella", "cellc")["remote_exit_offered"]
    assert link(controller, "cella", "cellb")["remote_generation"] < 100
    (controller.folder / "cellb.py").unlink()
    controller.of("cellb")["cell_links"][0]["offer_exit"] = False
    controller.of("cella")["cell_peers"][0]["route_via"] = "direct"
    done = controller.play("site")
    assert done.rc == 0, done.message
    assert not link(controller, "cella", "cellb")["remote_exit_offered"]
    assert link(controller, "cella", "cellb")["remote_generation"] == link(controller, "cellb", "cella")["generation"]


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
    assert "changed on cella: link cellb: removed" in done.said["cella"]
    assert [line for line in done.said["cella"] if line.startswith("pending on cella: cellb ")], done.said
    assert len(controller.asked("cellb")) <= 2, "it was asked again"


# What the module for kernel parameters, which is not ours, says on cellb.
OF_OTHERS = """
def answer(module, arguments, honest):
    return {{**honest, **{!r}}} if module == "sysctl" else honest
"""
ESCAPE = "\x1b]0;owned\x07\x9b31m"


@pytest.mark.parametrize(
    "said",
    [
        {"elapsed": "x"},
        {"changed": True, "diff": [5]},
        {"changed": True, "repairs": 5},
        {"changed": True, "repairs": [ESCAPE], "diff": {"before": "", "after": f"link x: {ESCAPE}"}, "warnings": [ESCAPE], "deprecations": [{"msg": ESCAPE}]},
        {"failed": True, "msg": ESCAPE, "exception": ESCAPE, "warnings": [ESCAPE]},
    ],
    ids=["time", "differences", "repairs", "printed", "printed of a failure"],
)
def test_what_a_module_that_is_not_ours_says_of_a_cell_is_judged_too(controller: Controller, said: dict[str, Any]) -> None:
    """Every host of the run reads it; cella takes back what it has shared."""
    other = controller["cellb"]
    other.files["/proc/sys/net/ipv4/ip_forward"] = (0o644, "0\n")
    controller["cellb"] = other
    controller.hostile("cellb", OF_OTHERS.format(said))
    controller.of("cella")["cell_links"][0]["share"] = []
    done = controller.play("site")
    assert "changed on cella: link cellb: shares nothing, offers an exit" in done.said["cella"]
    assert [done.said["cellc"], "sysctl" in [module for module, _arguments in controller.asked("cellb")]] == [NOTHING["cellc"], True]
    assert done.rc == (2 if {"failed", "elapsed"} & set(said) else 0), done.message
    text = json.dumps([result for _host, _task, result in done.results], ensure_ascii=False) + done.text
    assert not [sign for sign in ("\x1b", "\x9b", "\\u001b", "\\u009b") if sign in text]


OF_ITS_PACKAGES = """
def answer(module, arguments, honest):
    if module == "setup":
        return {!r}
    return {{"failed": True, "msg": {!r}}} if module == "apt" else honest
"""


@pytest.mark.parametrize("facts", [{"ansible_facts": {"ansible_pkg_mgr": "apt"}}, {"failed": True, "msg": ESCAPE}], ids=["apt", "none"])
def test_packages_are_installed_by_what_the_system_has_and_what_it_says_is_judged(controller: Controller, facts: dict[str, Any]) -> None:
    other = controller["cellb"]
    other.missing.add("conntrack")
    controller["cellb"] = other
    controller.hostile("cellb", OF_ITS_PACKAGES.format(facts, ESCAPE))
    done = controller.play("site")
    installed = [arguments for module, arguments in controller.asked("cellb") if module == "apt"]
    assert [(given["name"], given["state"], given["update_cache"]) for given in installed] == ([] if "failed" in facts else [(["conntrack"], "present", True)])
    assert [line for line in done.said["cella"] if line.startswith("pending on cella: cellb failed in this run (")], done.said
    text = json.dumps([result for _host, _task, result in done.results], ensure_ascii=False) + done.text
    assert not [sign for sign in ("\x1b", "\x9b", "\\u001b", "\\u009b") if sign in text]


FAILING = """
def answer(module, arguments, honest):
    return honest if module == "pic_cell_info" else {"failed": True, "msg": "No."}
"""


@pytest.mark.parametrize(
    ("playbook", "given", "changed"),
    [
        ("share", {"services": "files,voice"}, "link cellc: shares files, voice"),
        ("offer_exit", {"offered": True}, "link cellc: shares files, offers an exit"),
        ("route_peer", {"peer": "laptop"}, "peer laptop: internet via cellc"),
    ],
)
def test_a_cell_that_fails_in_a_step_ends_no_job_that_gives(controller: Controller, playbook: str, given: dict[str, Any], changed: str) -> None:
    if playbook == "route_peer":  # a cell whose exit is in use already has nothing to do
        assert controller.play("route_peer", cell="cella", peer="tablet", via_cell="direct").rc == 0
    controller.hostile("cellc", FAILING)
    done = controller.play(playbook, cell="cella", **{"via_cell" if playbook == "route_peer" else "remote_cell": "cellc"}, **given)
    assert done.rc == 0, done.message
    assert f"changed on cella: {changed}" in done.said["cella"]
    assert [line for line in done.said["cella"] if line.startswith("pending on cella: cellc failed in this run (No.)")], done.said


def test_a_refusal_of_one_cell_keeps_no_other_of_the_site_from_taking_back(controller: Controller) -> None:
    controller.hostile("cellb", 'def answer(module, arguments, honest):\n    return {**honest, "refusals": ["\\x1b[2JNot today."]}\n')
    controller.of("cella")["cell_links"][0].update(share=[])
    done = controller.play("site")
    assert done.rc != 0, "the refusal was not said"
    assert "Not today." in done.message
    assert "\\x1b" not in json.dumps(done.text).replace("\\\\x1b", "")
    assert "changed on cella: link cellb: shares nothing, offers an exit" in done.said["cella"]
    assert "cellc" not in done.said, "a run that gives does not go on"


OLD_PYTHON = """\
#!{python}
import collections, sys
sys.version_info = collections.namedtuple("version_info", "major minor micro releaselevel serial")(3, 8, 18, "final", 0)
exec(compile(sys.stdin.read(), "module", "exec"), {{"__name__": "__main__"}})
"""


def test_a_python_that_is_too_old_is_named(controller: Controller) -> None:
    """Ansible runs modules with Python 3.8 too. What one ends with, ansible-core keeps since 2.19 in an object of its own."""
    python = controller.folder / "old-python"
    python.write_text(OLD_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    controller.of("cellb")["ansible_python_interpreter"] = str(python)
    done = controller.play("status", cell="cellb")
    assert done.rc == 2 and "A cell needs Python 3.9 or later, and this is " in done.text, done.text
    assert "set ansible_python_interpreter to it" in done.text
    assert "Traceback" in done.text, "nobody could report a mistake of ours"
    assert "Unknown error" not in done.text


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


@pytest.mark.parametrize(("transport", "bounded"), [("ssh", True), ("local", False)])
def test_what_a_cell_on_the_controller_itself_starts_is_not_bounded(transport: str, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(asked, "_bound_memory", lambda: calls.append("bounded"))
    action = asked.Asked(
        SimpleNamespace(action="pic.cells.pic_cell_info", args={}, async_val=0, environment=None, check_mode=False, diff=False),
        SimpleNamespace(transport=transport, has_native_async=False, _shell=SimpleNamespace(tmpdir=None)),
        SimpleNamespace(check_mode=False, become=None),
        None,
        None,
        None,
    )
    monkeypatch.setattr(action, "answer", lambda *_given: {"failed": True, "msg": "over"})
    assert action.run(None, {})["msg"] == "over"
    assert bool(calls) is bounded
