# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one cell's answers may decide for another: nothing that is not its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.plugins.plugin_utils import answers, trust
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
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


def test_a_cell_that_is_slow_in_every_step_is_asked_for_nothing_more(linked: World) -> None:
    """The own cell takes as long as it takes."""
    linked.hostile.update(cella=always(elapsed=200), cellb=always(elapsed=200))
    run = linked.job("unlink", cell="cella", remote_cell="cellb")
    assert [module for host, module, _given in run.calls if host == "cellb"] == ["pic_cell_info", "pic_cell_apply"]
    assert "pending on cella: cellb failed in this run (its answers have taken 400 s)" in run.said["cella"]
    assert "cellb" not in {link["name"] for link in linked.record("cella")["links"]}


def test_a_device_goes_direct_whatever_its_exit_answers(linked: World) -> None:
    for hostile in (*HOSTILE, KEY):
        world = linked.fork()
        world.hostile["cellb"] = answering(linked, hostile)
        world.job("route_peer", cell="cella", peer="phone", via_cell="direct")
        assert not next(peer for peer in world.record("cella", "peer_registry.json")["peers"] if peer["name"] == "phone")["route_via"]


def without_offer(world: World) -> World:
    """Return cells of which cellc has never offered cella an exit, and cella's laptop is stated to leave by it."""
    world.inventory["cellc"]["cell_links"][0].pop("offer_exit")
    world.inventory["cella"]["cell_peers"][1].pop("route_via")
    world.site()
    world.inventory["cella"]["cell_peers"][2]["route_via"] = "cellc"
    return world


def ways(world: World) -> dict[str, str | None]:
    """Return by which cell each device of cella leaves, as the record has it."""
    return {peer["name"]: peer["route_via"] for peer in world.record("cella", "peer_registry.json")["peers"]}


def test_a_way_that_cannot_be_keeps_nothing_from_being_taken_back(world: World) -> None:
    world = without_offer(world)
    with pytest.raises(Refusal, match="'laptop' cannot be routed via 'cellc'"):
        world.site()
    revoke(world)
    world.inventory["cella"]["cell_peers"].append({"name": "new", "public_key": device_key("new"), "addresses": ["10.0.0.9"], "route_via": "cellc"})
    said = world.site().said["cella"]
    assert revoked(world)
    assert ways(world) == {"phone": None, "tablet": None, "laptop": None, "new": "cellc"}
    assert "pending on cella: Peer 'laptop' cannot be routed via 'cellc': that cell has not offered 'cella' an exit" in said
    assert [line for line in said if line.startswith("pending on cella: no internet for new, since cellc offers no exit")], said
    with pytest.raises(Refusal, match="'laptop' cannot be routed via 'cellc'"):
        world.site()
    world.inventory["cellc"]["cell_links"][0]["offer_exit"] = True
    world.site()
    assert (ways(world)["laptop"], ways(world)["new"]) == ("cellc", "cellc")
    assert world.site().changed == []


@pytest.mark.parametrize("module", ["wg_cell", "pic_peer_sync"])
def test_an_offer_that_is_taken_back_within_a_run_leaves_a_closed_way_and_ends_nothing(linked: World, module: str) -> None:
    def withdrawn(name: str, honest: dict[str, Any]) -> dict[str, Any]:
        if name != module:
            return honest
        fields = {key: {cell: {**item, "exit_offered": False} for cell, item in (honest.get(key) or {}).items()} for key in ("links", "payloads")}
        return {**honest, **{key: value for key, value in fields.items() if key in honest}}

    linked.every_step = True
    linked.inventory["cella"]["cell_peers"][2]["route_via"] = "cellb"
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cellb"]["cell_links"][0].pop("offer_exit")
    linked.hostile["cellb"] = withdrawn
    linked.site()
    assert (ways(linked)["laptop"], ways(linked)["tablet"]) == ("cellb", None)


OTHERS_KEYS = {"cellx": device_key("x"), "another interface": device_key("television"), "a new device": device_key("new")}


@pytest.mark.parametrize("late", [False, True], ids=["preflight", "later"])
@pytest.mark.parametrize("owner", OTHERS_KEYS)
def test_whosever_key_a_cell_answers_with_the_rest_goes_on(linked: World, owner: str, late: bool) -> None:
    """A link that is no host's, somebody else's WireGuard interface, and a device that is only stated: cella's own modules would refuse the key."""
    host, cella = linked["cella"], linked.inventory["cella"]
    cella["cell_links"].append({"name": "cellx", "public_key": OTHERS_KEYS["cellx"], "networks": ["10.9.0.0/24"]})
    linked.site()
    del cella["cell_links"][2]  # silent, and in the record
    peer = f"[Peer]\nPublicKey = {device_key('television')}\n"
    host.write("/etc/wireguard/other.conf", f"[Interface]\nPrivateKey = {made_key('other')}\nListenPort = 5\nAddress = 10.77.0.1/24\n\n{peer}")
    host.by_hand("systemctl restart wg-quick@other")
    cella["cell_peers"].append({"name": "new", "public_key": OTHERS_KEYS["a new device"], "addresses": ["10.0.0.9"]})
    revoke(linked)
    cella["cell_links"][1]["state"] = "absent"
    cella["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cellc"]["cell_links"] = []
    linked.every_step = True
    linked.hostile["cellb"] = lambda module, honest: {**honest, "public_key": OTHERS_KEYS[owner]} if module == "wg_cell" or not late else honest
    linked.site()
    assert revoked(linked)
    assert [link["name"] for link in linked.record("cella")["links"]] == ["cellb", "cellx"]
    assert linked.link("cella", "cellb")["public_key"] == linked.public_key("cellb")


@pytest.mark.parametrize(
    "taken",
    [
        lambda cella: cella["cell_peers"][2].update(public_key=device_key("found again")),
        lambda cella: cella["cell_peers"][2].update(addresses=["10.0.0.4"]),
        lambda cella: cella["cell_peers"][0].update(route_via="cellc"),
    ],
    ids=["a device's key", "a device's address", "a way by another exit"],
)
def test_what_is_replaced_is_taken_back_too(linked: World, taken: Callable[[dict[str, Any]], None]) -> None:
    taken(linked.inventory["cella"])
    linked.hostile["cellb"] = HOSTILE["a refusal"]
    linked.site()
    linked.hostile.clear()
    assert not [result for result in linked.site("cella").changed if result[0] == "cella"]


def test_a_device_leaves_a_hostile_exit_for_another(linked: World) -> None:
    for hostile in ("a refusal", "nothing"):
        world = linked.fork()
        world.hostile["cellb"] = HOSTILE[hostile]
        said = world.job("route_peer", cell="cella", peer="phone", via_cell="cellc").said["cella"]
        assert ways(world)["phone"] == "cellc"
        assert [line for line in said if line.startswith("pending on cella: cellb ")], said


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
    assert "pending on cella: the answer of cellb is not a valid message from it and was ignored" in said


def texts(value: Any) -> Iterator[str]:
    """Yield all texts within a value, keys too."""
    if isinstance(value, str):
        yield value
    for item in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(item)


ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.mark.parametrize(
    ("module", "fields"),
    [
        ("pic_cell_info", {"drift": [ESCAPE], "refusals": [ESCAPE], "advice": [ESCAPE], "networks": [ESCAPE], "rules": {ESCAPE: [ESCAPE]}}),
        ("pic_peer_sync", {"answers": {"cella": {"status": 200, "generation": 1, ESCAPE: ESCAPE}}}),
        ("pic_cell_restore", {"repairs": [ESCAPE]}),
        ("pic_link_invitation", {"invitation": {"name": ESCAPE}, "key_file": ESCAPE}),
    ],
)
def test_nothing_of_an_answer_is_printed_as_it_came(module: str, fields: dict[str, Any]) -> None:
    whole = {**fields, "msg": ESCAPE, "warnings": [ESCAPE], "diff": {"before": "", "after": f"link x: {ESCAPE}\nsecond line"}, "module_stderr": ESCAPE}
    found = list(texts(answers.judged(module, {**whole, "failed": True})))  # an answer that has failed may lack fields
    assert sum("owned" in text for text in found) >= len(fields) + 4, "it is not shown at all"
    assert [text for text in found if not text.replace("\n", "").isprintable()] == []


@pytest.mark.parametrize("key", ["ansible_facts", "add_host", "add_group", "_ansible_notify", "ansible_stats", "_ansible_no_log", "invocation", "results"])
def test_what_ansible_would_act_on_is_dropped(key: str) -> None:
    assert key not in answers.judged("pic_cell_agent", {"program": "/usr/local/bin/pic-cell", key: {"a": "b"}})


@pytest.mark.parametrize(
    "fields",
    [
        {"unforwarded": ["net.ipv4.ip_forward"] * 3},
        {"unforwarded": ["net.ipv4.conf.all.rp_filter"]},
        {"advertised": [f"eth{number}" for number in range(100)]},
        {"advice": ["See to it."] * 2000},
        {"refusals": ["No."] * 2000},
        {"payloads": {f"cell{number}": {} for number in range(50_000)}},
        {"links": {f"cell{number}": {} for number in range(50_000)}},
        {"drift": ["x"] * 50_000},
    ],
)
def test_an_answer_holds_up_nobody_by_its_length(linked: World, fields: dict[str, Any]) -> None:
    """For each setting something is executed, and each later task goes through all that was answered."""
    honest = linked.site().of("cella", "pic_cell_info")[0]
    assert not answers.judged("pic_cell_info", honest).get("failed")
    assert answers.judged("pic_cell_info", {**honest, **fields})["failed"]


def test_differences_are_some_or_left_out(linked: World) -> None:
    """The summary reads them, of all that have taken a step."""
    deep: list[Any] = []
    for _level in range(900):
        deep = [deep]
    linked.every_step = True
    linked.hostile["cellb"] = lambda _module, honest: {**honest, "changed": True, "diff": [[{}], [["after"]], 5, deep]}
    said = linked.site().said["cellb"]
    assert said == ["nothing changed on cellb", "next: nothing is left to do"]


def test_what_a_cell_claims_to_have_changed_holds_up_no_summary(linked: World) -> None:
    """Of each line that is gone it is looked for what was said before of the same thing."""
    made, gone = ("".join(f"link {name}{number}: x\n" for number in range(10_000)) for name in ("a", "b"))
    claimed = [{"before": "", "after": made, "after_header": "rules"}, {"before": gone, "after": "", "after_header": "links"}]
    linked.every_step = True
    linked.hostile["cellb"] = lambda module, honest: {**honest, "changed": True, "diff": claimed} if module == "pic_cell_apply" else honest
    assert "changed on cellb: link a0: x" in linked.site().said["cellb"]


def test_an_answer_that_is_none_has_failed_with_a_sentence() -> None:
    found = answers.judged("wg_cell", {"public_key": "x", "generated": False, "links": {}})
    assert found["failed"]
    assert "wg_cell" in found["msg"]


def test_every_answer_of_ours_is_judged() -> None:
    """The action plugin of each module that a task of the role or of a playbook executes, and nothing else, hands its answer on."""
    on_the_controller = {"pic_cells_check", "pic_cells_report", "pic_device", "cell_step", "cell_base"}
    modules = {path.stem for path in (PROJECT / "plugins" / "modules").glob("*.py")} - {*on_the_controller, "__init__"}
    assert set(answers.MODULES) == modules
    for module in (*modules, "cell_step", "cell_base"):
        scope: dict[str, Any] = {}
        exec((PROJECT / "plugins" / "action" / f"{module}.py").read_text(), scope)
        assert issubclass(scope["ActionModule"], Asked)


def test_every_register_of_the_role_is_looked_at_for_failures() -> None:
    assert {*trust.READS, *trust.WORK} == registers() - {"__cell_known", "__cell_judged", "__cell_invited", "__cell_restored"}
    assert {task.register for task in role_tasks() if task.register} <= registers()


def test_every_task_that_is_executed_for_another_host_is_bounded() -> None:
    for file in (ROLE / "tasks").glob("*.yml"):
        for task in yaml.safe_load(file.read_text()):
            if "delegate_to" in task:
                assert "pic.cells." in "".join(task), f"{task['name']}: what comes back is not judged"
                assert task.get("delegate_facts") is True, task["name"]
                assert "__cell_patience" in str(task.get("timeout")), task["name"]
                for key in ("ignore_errors", "ignore_unreachable"):
                    assert str(task.get(key)).lower().strip("{} ") in ("true", "item != inventory_hostname", "item.0 != inventory_hostname"), task["name"]


# by the action plugin, whatever the cell has answered
MADE_HERE = {"pic_cell_adopt": {"lines"}, "pic_cell_backup": {"path", "encrypted", "lines"}, "pic_cell_restore_backup": {"lines"}}


def test_of_an_answer_counts_what_is_documented() -> None:
    for module in answers.MODULES:
        text = (PROJECT / "plugins" / "modules" / f"{module}.py").read_text()
        documented = set(yaml.safe_load(text.partition('RETURN = r"""')[2].partition('"""')[0]) or {})
        assert documented - MADE_HERE.get(module, set()) == set(answers.FIELDS[module]), module
