# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as AWX runs them: by ansible-runner from the project, with survey answers as extra vars, and with an inventory that is cut into slices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import yaml

from cells import link_record, may_use
from lab import CELLS, inside
from packets import reaches, seen_address, snapshot
from playbooks import INVENTORY, PLAIN, PROJECT

DATA = yaml.safe_load((PROJECT / "playbooks" / "vars" / "awx.yml").read_text())
QUESTIONS = {template["playbook"]: template.get("survey", {"spec": []})["spec"] for template in DATA["__pic_cells_awx_templates"]}
FOREIGN = {"name": "cellx", "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], "endpoint": "203.0.113.99:51820", "api_url": "http://10.9.0.1:8088"}
ASKED: dict[str, list[dict[str, str]]] = {}


@pytest.fixture(scope="module")
def inventory() -> dict[str, Any]:
    """The inventory as AWX has it after an update from the project's file."""
    environment = {**os.environ, **PLAIN, "MOLECULE_PROJECT_DIRECTORY": str(PROJECT)}
    return json.loads(subprocess.run(["ansible-inventory", "-i", str(INVENTORY), "--list"], env=environment, capture_output=True, check=True).stdout)


@pytest.fixture
def launch(inventory, tmp_path):
    """Runs a playbook of the project with what a person has answered; what was not answered comes as an empty text."""

    def launch(playbook: str, *options: str, hosts: set[str] | None = None, **answers: str) -> ansible_runner.Runner:
        ASKED.setdefault(playbook, []).append(answers)
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        shutil.copytree(PROJECT / "playbooks" / "files" / "awx_project", folder / "project")
        (folder / "inventory").mkdir()
        script = folder / "inventory" / "hosts"
        script.write_text(f"#!/usr/bin/env python3\nprint({json.dumps(json.dumps(cut(inventory, hosts)))})\n")
        script.chmod(0o700)
        (folder / "env").mkdir()
        # AWX's API refuses an empty text for a choice
        given = {question["variable"]: "" for question in QUESTIONS[playbook] if question["type"] != "multiplechoice"} | answers
        # as AWX writes them, so that no answer is a template: Ansible reads null, booleans and numbers out of these texts
        (folder / "env" / "extravars").write_text("".join(f"{name}: !unsafe {json.dumps(value)}\n" for name, value in given.items()) or "{}\n")
        (folder / "env" / "cmdline").write_text(" ".join(options))
        envvars = {**PLAIN, "MOLECULE_PROJECT_DIRECTORY": str(PROJECT)}
        return ansible_runner.run(private_data_dir=str(folder), playbook=playbook, envvars=envvars, quiet=True, timeout=120)

    return launch


def cut(inventory: dict[str, Any], hosts: set[str] | None) -> dict[str, Any]:
    """Returns the inventory of a slice: of the other slices' hosts nothing is left."""
    if hosts is None:
        return inventory
    groups = {name: {**group, "hosts": [host for host in group.get("hosts", ()) if host in hosts]} for name, group in inventory.items() if name != "_meta"}
    return {**groups, "_meta": {"hostvars": {host: given for host, given in inventory["_meta"]["hostvars"].items() if host in hosts}}}


def output(job: ansible_runner.Runner) -> str:
    return job.stdout.read()


def changed(job: ansible_runner.Runner) -> dict[str, int]:
    """Returns the hosts that a job has changed; it was successful."""
    assert job.rc == 0, output(job)
    return job.stats["changed"]


def worked_on(job: ansible_runner.Runner, module: str) -> set[str]:
    """Returns the hosts on which a job has executed a module."""
    done = [event["event_data"] for event in job.events if event["event"] == "runner_on_ok"]
    return {data["host"] for data in done if data["task_action"] == f"pic.cells.{module}"}


def state() -> dict[str, dict[str, str]]:
    return {cell.name: snapshot(cell.name) for cell in CELLS}


@pytest.mark.parametrize(
    ("playbook", "module", "more"),
    [
        ("status", "pic_cell_info", {"fail_on": ["drift", "silent"], "output": "json", "report": "cells.html"}),
        ("replay", "pic_peer_sync", {}),
        ("restore", "pic_cell_restore", {}),
        ("prove", "pic_cell_prove", {"peer": "phone-b1"}),
        ("adopt", "pic_cell_adopt", {"source": "/etc/wireguard"}),
    ],
)
def test_what_works_on_all_cells_or_on_one_has_nothing_to_do(launch, tmp_path, playbook, module, more):
    if "report" in more:
        more = {**more, "report": str(tmp_path / more["report"])}
    # a multiple choice arrives as a list
    for answers, cells in (({}, {"cella", "cellb", "cellc"}), ({"cell": "cellb", **more}, {"cellb"})):
        job = launch(f"{playbook}.yml", **answers)
        assert changed(job) == ({"cella": 1} if "report" in answers else {})  # the page is made anew, once for all hosts
        assert worked_on(job, module) == cells


def test_share_takes_the_text_of_a_text_area_and_check_mode_changes_nothing(launch):
    before = state()
    answers = {"cell": "cella", "remote_cell": "cellb", "services": "voice\r\ncamera\n"}
    assert "cella" in changed(launch("share.yml", "--check", **answers))
    assert state() == before
    assert "cella" in changed(launch("share.yml", **answers))
    assert may_use("cellb", "cella") == {"voice", "camera"}
    assert not reaches("phone-b1", "10.0.0.1", 8443)


@pytest.mark.parametrize("offered", ["false", "true"])
def test_offer_exit_takes_the_words_of_a_choice(launch, offered):
    terms = {"until": "2099-12-31T00:00:00Z", "rate": "50mbit"} if offered == "true" else {}
    assert "cellb" in changed(launch("offer_exit.yml", cell="cellb", remote_cell="cella", offered=offered, **terms))
    assert seen_address("phone-a1", 4) == {"false": None, "true": "198.51.100.12"}[offered]


def test_route_peer(launch):
    assert "cella" in changed(launch("route_peer.yml", cell="cella", peer="phone-a1", via_cell="cellc"))
    assert seen_address("phone-a1", 4) == "198.51.100.13"
    assert changed(launch("route_peer.yml", cell="cella", peer="phone-a1", via_cell="cellc", force="true")) == {}


def test_a_device_is_added_with_a_key_of_its_own_and_removed(launch):
    watch = {"cell": "cella", "device": "watch"}
    refused = launch("add_device.yml", **watch)
    assert refused.rc != 0 and "give its public half as public_key" in output(refused)
    key = inside("cella", "sh", "-c", "wg genkey | wg pubkey").stdout.strip()
    added = {**watch, "public_key": key, "addresses": "10.0.0.40, fd00:a::40", "via_cell": "cellb", "dns": "none", "split": "false"}
    assert "cella" in changed(launch("add_device.yml", **added))
    assert changed(launch("add_device.yml", **added)) == {}
    assert key in inside("cella", "wg", "show", "wg0", "peers").stdout
    for more in ({}, {"dns": "10.0.0.1", "split": "true"}):
        shown = launch("show_device.yml", **watch, **more)
        assert changed(shown) == {} and "Address = 10.0.0.40/32, fd00:a::40/128" in output(shown)
    assert "cella" in changed(launch("remove_device.yml", **watch))
    assert changed(launch("remove_device.yml", **watch)) == {}
    assert key not in inside("cella", "wg", "show", "wg0", "peers").stdout


def test_link_with_no_optional_answer(launch):
    assert set(changed(launch("link.yml", cell="cellb", remote_cell="cellc"))) == {"cellb"}
    assert link_record("cellb", "cellc")["public_key"] == link_record("cella", "cellc")["public_key"]
    assert may_use("cellc", "cellb") == set()


def test_link_with_all_answers_leaves_no_secret_in_what_awx_keeps_and_unlink_removes_it(launch, tmp_path):
    secret = inside("cella", "wg", "genpsk").stdout.strip()
    key = inside("cella", "sh", "-c", "wg genkey | wg pubkey").stdout.strip()
    invitation = json.dumps({**FOREIGN, "public_key": key}, indent=1)
    answers = {
        "services": "files, voice",
        "offered": "true",
        "until": "2099-12-31T00:00:00Z",
        "rate": "20mbit",
        "invitation": invitation,
        "preshared_key": secret,
    }
    assert set(changed(launch("link.yml", "-vvv", cell="cella", remote_cell="cellx", **answers))) == {"cella"}
    record = link_record("cella", "cellx")
    assert (record["public_key"], record["endpoint"], record["exit_offered"]) == (key, FOREIGN["endpoint"], True)
    assert {name for name, allowed in record["permissions"]["inbound"].items() if allowed} == {"files", "voice"}
    assert secret in inside("cella", "wg", "show", "pic-cellx", "preshared-keys").stdout
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and "artifacts" in path.parts]
    assert len(kept) > 10
    assert [path for path in kept if secret in path.read_text()] == []
    assert set(changed(launch("unlink.yml", cell="cella", remote_cell="cellx"))) == {"cella"}
    assert "pic-cellx" not in inside("cella", "wg", "show", "interfaces").stdout


def test_site_in_slices_completes_what_the_inventory_states_and_then_changes_nothing(launch):
    # as AWX deals hosts out to two jobs, which run at once
    slices = [{"cella", "cellc"}, {"cellb"}]
    for attempt in range(4):
        before = state()
        with ThreadPoolExecutor() as pool:
            jobs = list(pool.map(lambda hosts: launch("site.yml", hosts=hosts), slices))
        assert [set(job.stats["ok"]) for job in jobs] == slices
        # What a slice tells the cells of the other through the tunnel is no change of its own; they carry it out by themselves, a moment later.
        if [changed(job) for job in jobs] == [{}, {}] and state() == before:
            break
        assert attempt < 3, "it never ends"
    assert may_use("cellb", "cella") == {"files", "voice"}, "site puts back what the inventory states"
    assert seen_address("phone-a1", 4) == "198.51.100.12"


def test_a_backup_outlives_its_job_and_is_put_back(launch, tmp_path):
    assert "Give backup_dest" in output(launch("backup.yml", cell="cella"))
    made = launch("backup.yml", cell="cella", backup_dest=f"{tmp_path}/cella.backup")
    assert changed(made) == {"cella": 1}
    assert inside("cella", "cat", "/var/lib/pic/identity.key").stdout.strip() not in output(made)
    assert "has all of it already" in output(launch("restore_backup.yml", cell="cella", backup=f"{tmp_path}/cella.backup"))


def test_a_device_and_a_cell_get_another_key(launch):
    key = inside("cella", "sh", "-c", "wg genkey | wg pubkey").stdout.strip()
    what = {"device": "phone-a3", "public_key": key, "dns": "none", "split": "false"}
    both = launch("rotate_key.yml", cell="cella", remote_cell="cellb", preshared_key=key, **what)
    assert both.rc != 0 and "and not both" in output(both)
    assert "cella" in changed(launch("rotate_key.yml", cell="cella", **what))
    assert key in inside("cella", "wg", "show", "wg0", "peers").stdout
    before = link_record("cella", "cellc")["public_key"]
    assert {"cella", "cellc"} <= set(changed(launch("rotate_key.yml", cell="cellc")))
    assert link_record("cella", "cellc")["public_key"] != before


def test_a_cell_gets_another_key_and_is_removed(launch):
    before = link_record("cella", "cellc")["public_key"]
    assert {"cella", "cellc"} <= set(changed(launch("rekey.yml", cell="cellc")))
    assert link_record("cella", "cellc")["public_key"] != before
    assert set(changed(launch("uninstall.yml", cell="cellc"))) == {"cellc"}
    assert inside("cellc", "test", "-e", "/var/lib/pic", check=False).returncode
    assert "PIC-" not in inside("cellc", "iptables-save").stdout


def test_every_template_was_run_with_all_answers_and_without_the_optional_ones():
    for playbook, questions in QUESTIONS.items():
        for wanted in ({question["variable"] for question in questions}, {question["variable"] for question in questions if question["required"]}):
            assert wanted in [set(answers) for answers in ASKED[playbook]], (playbook, wanted)
