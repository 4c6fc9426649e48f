# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one cell's answers may decide for another: nothing that is not its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.plugins.plugin_utils import answers, standing
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked
from ansible_collections.pic.cells.tests.unit.world import ROLE, Answer, Refusal, World, device_key, registers, role_tasks

PROJECT = Path(__file__).parents[2]


def always(**said: Any) -> Answer:
    """Answer honestly but for some fields."""
    return lambda _module, honest: {**honest, **said}


def telling(**changed: Any) -> Answer:
    """Say something else in each message."""

    def answer(_module: str, honest: dict[str, Any]) -> dict[str, Any]:
        payloads = {name: {**message, **changed} for name, message in (honest.get("payloads") or {}).items()}
        return {**honest, **({"payloads": payloads} if payloads else {})}

    return answer


# What the root of cellb answers; each keeps, or would keep, cella from taking back what it has given.
HOSTILE: dict[str, Answer] = {
    "a refusal": always(refusals=["Not today."]),
    "a device's key": always(public_key=device_key("phone")),
    "nothing": lambda _module, _honest: {"failed": True, "msg": "Timed out after 300 second(s)."},
    "nothing of its fields": lambda _module, _honest: {"changed": False},
    "fields of other types": lambda _module, honest: {key: [[{}]] for key in honest},
    "a message without fields": always(payloads={"cella": {}}),
    "no message": always(payloads={"cella": 5, "cellc": ["x"]}),
    "an endless number": telling(generation=10**4300),
    "a message of another cell": telling(from_cell="cellc"),
    "links that are none": always(links=[1, 2]),
}


KEY = "another cell's key"


def answering(world: World, kind: str) -> Answer:
    """Return how the root of cellb answers."""
    return always(public_key=world.public_key("cella")) if kind == KEY else HOSTILE[kind]


def revoke(world: World) -> None:
    """State that cella takes back all that cellb has of it."""
    world.inventory["cella"]["cell_links"][0].update(share=[], offer_exit=False)
    world.inventory["cella"]["cell_peers"][0].update(route_via="direct")
    world.inventory["cellb"]["cell_peers"][0].update(route_via="direct")


def revoked(world: World) -> bool:
    """Tell whether nothing of that is left."""
    link = world.link("cella", "cellb")
    phone = next(peer for peer in world.record("cella", "peer_registry.json")["peers"] if peer["name"] == "phone")
    return not any(link["permissions"]["inbound"].values()) and not link["exit_offered"] and not phone["route_via"]


@pytest.mark.parametrize("hostile", [*HOSTILE, KEY])
@pytest.mark.parametrize("play", [("cella", "cellb", "cellc"), ("cella",)], ids=["site", "site of one cell"])
def test_what_is_taken_back_is_taken_back_whatever_the_other_cell_answers(linked: World, play: tuple[str, ...], hostile: str) -> None:
    revoke(linked)
    linked.hostile["cellb"] = answering(linked, hostile)
    run = linked.site(*play)
    assert revoked(linked)
    if (len(play), hostile) != (1, "a refusal"):  # who is not part of the run is not asked whether it agrees
        assert [line for line in run.said["cella"] if line.startswith("pending on cella: ") and "cellb" in line], run.said["cella"]
    assert linked.link("cellc", "cella")["name"] == "cella"


@pytest.mark.parametrize("hostile", [*HOSTILE, KEY])
@pytest.mark.parametrize(
    ("job", "given", "done"),
    [
        ("unlink", {}, lambda world: "cellb" not in {link["name"] for link in world.record("cella")["links"]}),
        ("share", {"services": "none"}, lambda world: not any(world.link("cella", "cellb")["permissions"]["inbound"].values())),
        ("offer_exit", {"offered": "false"}, lambda world: not world.link("cella", "cellb")["exit_offered"]),
    ],
)
def test_a_job_that_takes_back_needs_nobody_else(linked: World, job: str, given: dict[str, str], done: Callable[[World], bool], hostile: str) -> None:
    linked.hostile["cellb"] = answering(linked, hostile)
    run = linked.job(job, cell="cella", remote_cell="cellb", **given)
    assert done(linked)
    assert "cella" in run.said


def test_a_device_goes_direct_whatever_its_exit_answers(linked: World) -> None:
    for hostile in (*HOSTILE, KEY):
        world = linked.fork()
        world.hostile["cellb"] = answering(linked, hostile)
        world.job("route_peer", cell="cella", peer="phone", via_cell="direct")
        assert not next(peer for peer in world.record("cella", "peer_registry.json")["peers"] if peer["name"] == "phone")["route_via"]


def test_a_refusal_ends_a_run_that_only_gives_for_all(linked: World) -> None:
    linked.inventory["cella"]["cell_links"][1]["offer_exit"] = True
    linked.hostile["cellb"] = HOSTILE["a refusal"]
    linked.reset()
    with pytest.raises(Refusal, match="cellb: Not today"):
        linked.site()
    assert linked.steps() == {}


def test_a_message_of_another_cell_is_left_out_and_the_other_cell_named(linked: World) -> None:
    """H3: cellb has a word for itself alone, not for cellc."""
    before = linked.link("cella", "cellc")
    linked.hostile["cellb"] = telling(from_cell="cellc", from_public_key=linked.public_key("cellc"), generation=99, exit_offered=True)
    said = linked.site().said["cella"]
    assert linked.link("cella", "cellc")["remote_generation"] == before["remote_generation"]
    assert linked.link("cella", "cellc")["remote_exit_offered"] == before["remote_exit_offered"]
    assert "pending on cella: what cellb says is no message of it, and was left out" in said


ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("module", "fields"),
    [
        ("pic_cell_info", {"drift": [ESCAPE], "refusals": [ESCAPE], "advice": [ESCAPE], "networks": [ESCAPE], "rules": {ESCAPE: [ESCAPE]}}),
        ("pic_peer_sync", {"answers": {ESCAPE: {"status": 200, "generation": 1, "reason": ESCAPE}}}),
        ("pic_cell_restore", {"repairs": [ESCAPE]}),
        ("pic_link_invitation", {"invitation": {"name": ESCAPE}, "key_file": ESCAPE}),
    ],
)
def test_nothing_of_an_answer_is_printed_as_it_came(module: str, fields: dict[str, Any]) -> None:
    whole = {**fields, "msg": ESCAPE, "warnings": [ESCAPE], "diff": {"before": "", "after": f"link x: {ESCAPE}\nsecond line"}, "module_stderr": ESCAPE}
    for failed in (False, True):
        text = str([list(answers.judged(module, {**whole, "failed": failed}).items())])
        assert "\x1b" not in text.encode().decode("unicode_escape") or "\\\\x1b" in text
        assert "\x1b" not in json.dumps(answers.judged(module, {**whole, "failed": failed}), ensure_ascii=False)


@pytest.mark.parametrize("key", ["ansible_facts", "add_host", "add_group", "_ansible_notify", "ansible_stats", "_ansible_no_log", "invocation", "results"])
def test_what_ansible_would_act_on_is_dropped(key: str) -> None:
    assert key not in answers.judged("pic_cell_agent", {"program": "/usr/local/bin/pic-cell", key: {"a": "b"}})


def test_an_answer_that_is_none_has_failed_with_a_sentence() -> None:
    found = answers.judged("wg_cell", {"public_key": "x", "generated": False, "links": {}})
    assert found["failed"]
    assert "wg_cell" in found["msg"]


def test_every_answer_of_ours_is_judged() -> None:
    """The action plugin of each module that a task of the role or of a playbook executes, and nothing else, hands its answer on."""
    modules = {path.stem for path in (PROJECT / "plugins" / "modules").glob("*.py")} - {"pic_cells_check", "__init__"}
    assert set(answers.MODULES) == modules
    for module in modules:
        scope: dict[str, Any] = {}
        exec((PROJECT / "plugins" / "action" / f"{module}.py").read_text(), scope)
        assert issubclass(scope["ActionModule"], Asked)


def test_every_register_of_the_role_is_looked_at_for_failures() -> None:
    assert {*standing.READS, *standing.WORK} == registers() - {"__cell_invited", "__cell_restored"}
    assert {task.register for task in role_tasks() if task.register} <= registers()


def test_every_task_that_is_executed_for_another_host_is_bounded() -> None:
    for file in (ROLE / "tasks").glob("*.yml"):
        for task in yaml.safe_load(file.read_text()):
            if "delegate_to" in task:
                assert task.get("delegate_facts") is True, task["name"]
                assert "__cell_patience" in str(task.get("timeout")), task["name"]
                assert "ignore_errors" in task, task["name"]
                assert "ignore_unreachable" in task, task["name"]


def test_of_an_answer_counts_what_is_documented() -> None:
    for module in answers.MODULES:
        text = (PROJECT / "plugins" / "modules" / f"{module}.py").read_text()
        documented = set(yaml.safe_load(text.partition('RETURN = r"""')[2].partition('"""')[0]) or {})
        assert documented == set(answers.FIELDS[module]), module
