# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook is asked for comes from its extra vars alone, and is data: on real ansible-core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.controller import Controller, Outcome

KEY = "3vJmM1cWZbyVWEjLbY5F3tYFjqXoNqT4xgYvWJ0gNn8="
INVITATION = {
    "name": "cellx",
    "public_key": "kvGdZidkzfioUWswzPIvWFW8COOZCxB4OOAGbJWgFgU=",
    "networks": ["10.0.9.0/24"],
    "address": ["10.0.9.1"],
    "api_url": "http://10.0.9.1:8088",
}
# What each playbook takes; the values are such as it carries out.
ASKED: dict[str, dict[str, str]] = {
    "link": {"cell": "cella", "remote_cell": "cellx", "services": "files", "offered": "true", "invitation": json.dumps(INVITATION), "preshared_key": KEY},
    "unlink": {"cell": "cella", "remote_cell": "cellb"},
    "share": {"cell": "cella", "remote_cell": "cellb", "services": "files"},
    "offer_exit": {"cell": "cella", "remote_cell": "cellb", "offered": "true", "until": "2999-12-31T00:00:00Z", "rate": "20mbit"},
    "route_peer": {"cell": "cella", "peer": "phone", "via_cell": "direct", "force": "true"},
    "add_device": {"cell": "cella", "device": "watch", "public_key": KEY, "addresses": "10.0.0.9", "via_cell": "cellb", "dns": "none", "split": "false"},
    "remove_device": {"cell": "cella", "device": "phone"},
    "show_device": {"cell": "cella", "device": "phone", "dns": "none", "split": "true", "config_dest": "phone.conf", "show_qr": "true"},
    "replay": {"cell": "cella"},
    "restore": {"cell": "cella"},
    "status": {"cell": "cella"},
    "prove": {"cell": "cella", "peer": "phone"},
    "adopt": {"cell": "cella", "source": "/var/lib/pic", "dest": "adopted.yml"},
}


def traps(folder: Path) -> list[str]:
    """Return which templates were carried out."""
    return sorted(path.name for path in folder.glob("carried-out-*"))


def template(folder: Path, name: str) -> str:
    """Return a template that leaves a file on the controller when it is carried out."""
    return f"{{{{ lookup('pipe', 'touch {folder}/carried-out-{name}; echo cella') }}}}"


def play(controller: Controller, playbook: str, given: dict[str, Any], *options: str) -> Outcome:
    """Run a playbook with extra vars as one text of JSON."""
    return controller.play(playbook, "-e", json.dumps(given), *options)


def refused(done: Outcome, sentence: str) -> bool:
    """Tell whether a run ended with a sentence before a cell was worked on, and printed nothing that moves a cursor."""
    return done.rc != 0 and sentence in done.message and not any(word in done.text for word in ("\x1b", "Traceback"))


@pytest.mark.parametrize("playbook", ASKED)
def test_a_template_in_an_extra_var_is_never_carried_out(controller: Controller, tmp_path: Path, playbook: str) -> None:
    done = play(controller, playbook, {name: template(tmp_path, name) for name in ASKED[playbook]})
    assert traps(tmp_path) == []
    assert refused(done, "preshared_key" if playbook == "link" else "{{ lookup('pipe', 'touch"), done.text
    assert controller.asked("cella") == []


@pytest.mark.parametrize("form", ["dictionary", "text", "file", "key=value"])
def test_a_template_in_an_invitation_is_never_carried_out(controller: Controller, tmp_path: Path, form: str) -> None:
    said = {**INVITATION, **{key: f"x{template(tmp_path, key)}" for key in ("api_url", "public_key", "networks", "endpoint", "note")}}
    file = tmp_path / "x.json"
    file.write_text(json.dumps(said))
    given = {**ASKED["link"], "invitation": {"dictionary": said, "file": str(file)}.get(form, json.dumps(said))}
    if form == "key=value":
        done = controller.play("link", "--check", *[word for name, value in given.items() for word in ("-e", f"{name}={json.dumps(value)}")])
    else:
        done = play(controller, "link", given, "--check")
    assert traps(tmp_path) == []
    assert refused(done, "invitation"), done.text


def test_what_is_taken_from_an_invitation_is_no_template_later(controller: Controller, tmp_path: Path) -> None:
    given = {**ASKED["link"], "unused": template(tmp_path, "unused"), "invitation": {**INVITATION, "note": template(tmp_path, "note")}}
    done = play(controller, "link", given)
    assert done.rc == 0, done.text
    assert traps(tmp_path) == []


def test_a_template_in_a_preshared_key_is_never_carried_out(controller: Controller, tmp_path: Path) -> None:
    done = play(controller, "link", {**ASKED["link"], "preshared_key": template(tmp_path, "preshared_key")})
    assert traps(tmp_path) == []
    assert refused(done, "preshared_key"), done.text
    assert "carried-out" not in done.text, "a secret with a slip in it is not shown"


def test_only_extra_vars_count_for_what_is_asked(controller: Controller) -> None:
    """Inventories have variables of such names for purposes of their own, and facts can have any name."""
    everywhere = {"cell": "cellb", "remote_cell": "cellc", "services": ["files"], "offered": True, "peer": "phone", "via_cell": "direct", "preshared_key": "x"}
    controller.inventory["all"]["vars"] = everywhere
    for host in ("cella", "cellb", "cellc"):
        controller.of(host).update(everywhere)
    controller.remember({**everywhere, "ansible_facts": everywhere})
    assert refused(controller.play("share"), "needs the variable 'cell'")
    assert refused(controller.play("share", cell="cella", remote_cell="cellb"), "needs the variable 'services'")
    controller.play("status")
    assert {cell: len(controller.asked(cell)) for cell in ("cella", "cellb", "cellc")} == {"cella": 1, "cellb": 1, "cellc": 1}


def test_what_import_playbook_gives_counts_and_is_data(controller: Controller, tmp_path: Path) -> None:
    def imported(playbook: str, **variables: str) -> Outcome:
        file = tmp_path / "mine.yml"
        file.write_text(json.dumps([{"import_playbook": f"pic.cells.{playbook}", "vars": variables}]))
        return controller.play(str(file))

    assert imported("status", cell="cellb").rc == 0
    assert [len(controller.asked(cell)) for cell in ("cella", "cellb")] == [0, 1]
    assert refused(imported("status", cell=template(tmp_path, "cell")), "{{ lookup('pipe', 'touch")
    assert refused(imported("link", cell="cella", remote_cell="cellx", preshared_key=KEY), "Give preshared_key as an extra var")
    assert traps(tmp_path) == []


# What AWX writes for an answer of a survey, or a person into a file.
ANSWERS = ["!unsafe '007'", "!unsafe 'null'", "null", "2024-01-01"]


def test_what_yaml_reads_as_something_else_is_no_other_name(controller: Controller, tmp_path: Path) -> None:
    file = tmp_path / "extravars"
    for answer in ANSWERS:
        file.write_text(f"cell: {answer}\n")
        done = controller.play("status", "-e", f"@{file}")
        said = answer.rsplit(" ", maxsplit=1)[-1].strip("'")
        assert refused(done, f"cell={said}"), f"{answer}: {done.text}"
    file.write_text("cell: !unsafe ''\n")
    assert controller.play("status", "-e", f"@{file}").rc == 0, "a question without an answer is for all cells"
    assert [len(controller.asked(cell)) for cell in ("cella", "cellb", "cellc")] == [1, 1, 1]


@pytest.mark.parametrize("task", ["Steps", "Summary | Say what has changed, what is pending, and what to do next"])
def test_a_run_that_was_cut_gives_no_all_clear(controller: Controller, task: str) -> None:
    done = controller.play("site", "--start-at-task", f"pic.cells.cell : {task}")
    assert done.rc != 0 and "nothing is left to do" not in done.text
    assert done.text.count("parts of this run were left out (--start-at-task") >= 3


def test_tags_of_ones_own_playbook_hold_for_the_whole_run(controller: Controller, tmp_path: Path) -> None:
    """The playbooks have none of their own: a run is whole, or is not taken."""
    file = tmp_path / "mine.yml"
    file.write_text(json.dumps([{"import_playbook": "pic.cells.site", "tags": ["cells"]}]))
    controller.of("cella")["cell_links"] = [{"name": "cellb", "share": [], "offer_exit": True}, {"name": "cellc", "share": ["files"]}]
    done = controller.play(str(file), "--tags", "cells", "--check")
    assert done.rc == 0 and "would change on cella: link cellb: shares nothing, offers an exit" in done.said["cella"]
    done = controller.play(str(file), "--tags", "others")
    assert done.rc == 0 and not done.said


def test_another_strategy_of_the_configuration_does_not_cut_a_run(controller: Controller) -> None:
    controller.settings["strategy"] = "free"
    controller.of("cella")["cell_links"] = [{"name": "cellb", "share": [], "offer_exit": True}, {"name": "cellc", "share": ["files"]}]
    done = controller.play("site")
    assert done.rc == 0 and "changed on cella: link cellb: shares nothing, offers an exit" in done.said["cella"], done.text
    assert any(line.startswith("changed on cellb") for line in done.said["cellb"])
