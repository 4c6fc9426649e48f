# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory may look like around the cells, with real ansible-core: no such group, another one, hosts that are no cells, values from a vault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.pic.cells.tests.unit.controller import Controller, Outcome
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World

REFUSED = {"ERROR!": 1, "[ERROR]:": 4}  # exit codes for what Ansible finds wrong with a play, by how it says so: before 2.19, and since
PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
NAMES = (
    "site",
    "link",
    "unlink",
    "share",
    "offer_exit",
    "route_peer",
    "replay",
    "restore",
    "status",
    "prove",
    "adopt",
    "add_device",
    "remove_device",
    "show_device",
    "rotate_key",
    "backup",
    "restore_backup",
    "uninstall",
)


@pytest.mark.parametrize("name", NAMES)
def test_every_playbook_is_for_the_hosts_of_the_group(name: str) -> None:
    first, *rest = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text())
    assert first["hosts"] == "{{ lookup('pic.cells.group') }}"
    assert {play["hosts"] for play in rest if "hosts" in play} <= {first["hosts"], "pic_cells_job"}


def test_what_comes_before_the_cells_are_read_is_no_process_for_each_host(controller: Controller) -> None:
    done = controller.play("share", cell="cella", remote_cell="cellb", services="files")
    assert done.rc == 0, done.message
    assert [host for host, task, _result in done.results if task == "Choose the host of that cell"] == ["cella"]
    assert not any("Validating arguments" in task for _host, task, _result in done.results)


def is_refused(outcome: Outcome) -> bool:
    """Tell whether Ansible has found a play wrong, with the exit code of its version."""
    return outcome.rc in (code for sign, code in REFUSED.items() if sign in outcome.text)


def regroup(controller: Controller, **groups: list[str]) -> None:
    """Put the hosts of the inventory into these groups."""
    cells = controller.inventory["all"]["children"]["cells"]["hosts"]
    controller.inventory["all"]["children"] = {name: {"hosts": {host: cells.get(host, {}) for host in hosts}} for name, hosts in groups.items()}


def test_a_group_that_is_not_there_fails_by_name(controller: Controller) -> None:
    """Ansible says that no host matched, and ends as if all were well."""
    regroup(controller, servers=["cella", "cellb", "cellc"])
    done = controller.play("share")
    assert is_refused(done) and "The inventory has no group cells" in done.text and "cell_group" in done.text, done.text
    assert controller.asked("cella") == []


def test_an_inventory_without_a_host_fails_by_name_too(controller: Controller) -> None:
    controller.inventory = {"all": {"children": {"cells": {"hosts": {}}}}}
    done = controller.play("site")
    assert is_refused(done) and "no group cells, or no host is in it" in done.text


def test_a_limit_without_a_cell_fails_by_name(controller: Controller) -> None:
    regroup(controller, cells=["cella", "cellb", "cellc"], others=["web"])
    done = controller.play("site", "--limit", "web")
    assert is_refused(done) and "No host of the group cells is within --limit. Its hosts: cella, cellb, cellc" in done.text, done.text


def test_a_template_in_the_name_of_the_group_is_no_group(controller: Controller) -> None:
    trace = controller.folder / "trace"
    done = controller.play("site", cell_group=f"{{{{ lookup('pipe', 'touch {trace}; echo cells') }}}}")
    assert is_refused(done) and "The inventory has no group {{ lookup(" in done.text, done.text
    assert not trace.exists()
    assert controller.asked("cella") == []


@pytest.mark.parametrize(
    ("name", "said"), [(["cells"], "no group ['cells']"), ("\x1b[31mcells", "no group \\x1b[31mcells"), ("cella:cellb", "no group cella:cellb")]
)
def test_what_is_no_name_of_a_group_is_none(controller: Controller, name: object, said: str) -> None:
    done = controller.play("site", "-e", json.dumps({"cell_group": name}))
    assert is_refused(done) and f"The inventory has {said}, or no host is in it." in done.text and "\x1b" not in done.text, done.text
    assert controller.asked("cella") == []


@pytest.mark.parametrize("option", ["--syntax-check", "--list-tasks", "--list-tags"])
def test_what_only_reads_a_playbook_needs_no_cells(controller: Controller, option: str) -> None:
    controller.inventory = {"all": {"children": {"servers": {"hosts": {"web": {}}}}}}
    done = controller.play("link", option)
    assert done.rc == 0, done.text


def test_what_a_playbook_of_the_same_call_was_asked_for_is_none_of_sites(controller: Controller) -> None:
    """Registers outlive a play. Site has its own to do, on another cell than the share is about."""
    controller.of("cellc")["cell_networks"] = ["10.0.2.1/24", "fd00:c::1/64"]
    file = controller.folder / "both.yml"
    file.write_text(json.dumps([{"import_playbook": "pic.cells.share"}, {"import_playbook": "pic.cells.site"}]))
    done = controller.play(str(file), cell="cella", remote_cell="cellb", services="files,voice")
    assert done.rc == 0, done.message
    assert done.said["cellc"][0].startswith("changed on cellc"), done.said
    assert controller["cellc"].links["wg0"].addresses == ["10.0.2.1/24", "fd00:c::1/64"]


def test_a_task_of_a_play_for_other_hosts_may_ask_for_the_group(controller: Controller) -> None:
    regroup(controller, cells=["cella"], others=["web"])
    file = controller.folder / "other.yml"
    task = {"ansible.builtin.debug": {"msg": "the group is {{ lookup('pic.cells.group') }}"}}
    file.write_text(json.dumps([{"hosts": "others", "gather_facts": False, "tasks": [task]}]))
    done = controller.play(str(file))
    assert done.rc == 0 and "the group is cells" in done.text, done.text


def test_cells_can_be_in_a_group_of_another_name(controller: Controller) -> None:
    regroup(controller, pic=["cella", "cellb", "cellc"], others=["web"])
    done = controller.play("status", cell_group="pic", cell="cella")
    assert done.rc == 0, done.text
    assert [module for module, _arguments in controller.asked("cella")] == ["pic_cell_info"]
    assert controller.asked("cellb") == []
    again = controller.play("site", cell_group="pic")
    assert again.rc == 0 and {line for lines in again.said.values() for line in lines if line.startswith("nothing")} == {
        f"nothing changed on {cell}" for cell in ("cella", "cellb", "cellc")
    }, again.text


class Vaulted(str):
    """A text that the inventory holds encrypted."""


yaml.SafeDumper.add_representer(Vaulted, lambda dumper, text: dumper.represent_scalar("!vault", str(text), style="|"))


def test_a_preshared_key_from_a_vault_reaches_the_cell(controller: Controller, linked: World) -> None:
    key = made_key("from the vault")
    (controller.folder / "password").write_text("secret")
    controller.settings["vault_password_file"] = str(controller.folder / "password")
    encrypted = VaultLib([("default", VaultSecret(b"secret"))]).encrypt(key, vault_id="default").decode()
    controller.of("cella")["cell_peers"][0]["preshared_key"] = Vaulted(encrypted)
    done = controller.play("site")
    assert done.rc == 0, done.text
    assert key not in done.text
    assert key in (controller["cella"].read("/etc/wireguard/wg0.conf") or "")


def test_an_empty_text_and_a_text_for_a_list_pass_ansibles_own_check(controller: Controller) -> None:
    empty = dict.fromkeys(("cell_listen_port", "cell_services", "cell_manage_packages", "cell_sync_transport"), "")
    controller.of("cellc").update({**empty, "cell_networks": "10.0.2.1/24"})
    done = controller.play("site", "--limit", "cellc")
    assert done.rc == 0 and done.said["cellc"][0] == "nothing changed on cellc", done.text


def test_one_wrong_key_ends_the_run_for_all(controller: Controller) -> None:
    controller.of("cella")["cell_links"][0]["ofer_exit"] = True
    controller.of("cellc")["cell_peers"] = [{"name": "new", "addresses": ["10.0.2.9"]}]
    done = controller.play("site")
    assert done.rc == 2 and "Did you mean 'offer_exit'?" in done.text
    assert controller.asked("cellc") == []
