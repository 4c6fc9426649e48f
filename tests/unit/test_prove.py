# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pic-cell prove: what it makes of the answers of exits, and of the kernel's rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts.verdicts import Watched
from ansible_collections.pic.cells.plugins.module_utils.program import prove
from ansible_collections.pic.cells.plugins.module_utils.program.probe import LARGE, SMALL, Answer
from ansible_collections.pic.cells.plugins.module_utils.program.probe import ask as asked
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import HEAD_LIMIT
from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.exits import BOTH
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import offered, ordered
from ansible_collections.pic.cells.tests.unit.test_probe import Bench, bench
from ansible_collections.pic.cells.tests.unit.test_statement import mesh
from ansible_collections.pic.cells.tests.unit.world import World, ask, program

__all__ = ["bench", "ordered"]  # fixtures


def proof(world: World, answers: Mapping[str, Answer], large: Mapping[str, Answer] | None = None) -> prove.Device:
    """Return what is found of cella's phone where its exits answer so. large: what they answer to packets of full size; the same where it is left out."""

    def asking(items: Iterable[Watched], _patience: float, request: bytes) -> Mapping[str, Answer]:
        said = large if request == LARGE and large is not None else answers
        return {item.name: said[item.name] for item in items if item.name in said}

    with mock.patch.object(prove, "ask", asking):
        return prove.prove(world["cella"], "/var/lib/pic", "phone")[0]


def test_a_device_whose_exits_work_is_proven(ordered: World) -> None:
    device = proof(ordered, {"cellb": BOTH, "cellc": {"ipv4": True, "ipv6": False}})
    assert device.is_proven()
    assert prove.words(device) == [
        "peer phone: leaves through cellb",
        "    cell cellb answers through its tunnel",
        "    cell cellb says that it has a route to the internet for IPv4 and IPv6",
        "    cell cellb gets packets of 1420 bytes",
        "    cell cellc answers through its tunnel",
        "    cell cellc says that it has a route to the internet for IPv4",
        "    cell cellc says that it has no route to the internet for IPv6",
        "    cell cellc gets packets of 1420 bytes",
        "    the own uplink is closed for 10.0.0.2 by a policy rule, filter and mangle",
        "    DNS of 10.0.0.2: what it asks a resolver of this cell leaves by this cell's own connection",
        "    the own uplink is closed for fd00:a::2 by a policy rule, filter and mangle",
        "    DNS of fd00:a::2: what it asks a resolver of this cell leaves by this cell's own connection",
    ]


@pytest.mark.parametrize(
    ("answers", "large", "wrong"),
    [
        ({"cellb": None}, None, ["cell cellb does not answer through its tunnel"]),
        ({}, None, ["cell cellb could not be asked: this host is too busy, or has no connection left"]),
        ({"cellb": {"ipv4": False, "ipv6": True}}, None, ["cell cellb says that it has no route to the internet for IPv4"]),
        ({"cellb": BOTH}, {"cellb": None}, ["cell cellb gets small packets, but none of 1420 bytes (set a smaller mtu for the link on both cells)"]),
        ({"cellb": BOTH}, {"cellb": {}}, ["cell cellb gets small packets, but none of 1420 bytes (set a smaller mtu for the link on both cells)"]),
        ({"cellb": BOTH}, {}, []),
        ({"cellb": {}}, None, []),
    ],
)
def test_what_is_wrong_with_an_exit_is_said(ordered: World, answers: dict[str, Answer], large: dict[str, Answer] | None, wrong: list[str]) -> None:
    others: dict[str, Answer] = {"cellc": BOTH}
    device = proof(ordered, {**answers, **others}, None if large is None else {**large, **others})
    assert (device.exits[0].wrong, device.exits[1].wrong) == (wrong, [])
    assert [found.asked for found in device.exits] == ["cellb" in answers, True]
    assert device.is_proven() is not bool(wrong)


def lose_policy(host: FakeHost) -> None:
    host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")


def lose_filter(host: FakeHost) -> None:
    host.tables[host.default, 4]["filter"].rules["PIC-ROUTED"].clear()


def lose_firewall(host: FakeHost) -> None:
    lose_filter(host)
    host.tables[host.default, 4]["mangle"].rules["FORWARD"].clear()


def lose_everything(host: FakeHost) -> None:
    lose_policy(host)
    lose_firewall(host)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose_policy, "by policy rule; what is left keeps it closed"),
        (lose_filter, "by chains of filter; what is left keeps it closed"),
        (lose_firewall, "by chains of filter and chains of mangle; what is left keeps it closed"),
        (lose_everything, "by policy rule and chains of filter and chains of mangle; it could go out directly"),
    ],
)
def test_a_layer_that_is_missing_is_named(ordered: World, damage: Callable[[FakeHost], None], said: str) -> None:
    damage(ordered["cella"])
    device = proof(ordered, {"cellb": BOTH, "cellc": BOTH})
    assert device.wrong == [f"the own uplink is not closed for 10.0.0.2 {said}. Put it back: pic-cell restore"]


def test_an_exit_that_cannot_be_one_is_not_asked(ordered: World) -> None:
    offered(ordered, "cellb", "no")
    ordered["cella"].by_hand("ip link del dev pic-cellc")
    device = proof(ordered, {})
    assert [item.wrong for item in device.exits] == [
        ["cell cellb offers no exit now"],
        ["the link's interface pic-cellc is missing; 'pic-cell restore' brings it back"],
    ]


def test_the_command(ordered: World) -> None:
    host = ordered["cella"]
    host.reset()
    host.exits["cellb"] = None
    rc, out, _err = program(host, "prove", "phone")
    assert (rc, [line for line in out.splitlines() if "wrong:" in line]) == (3, ["    wrong: cell cellb does not answer through its tunnel"])
    rc, text, _err = program(host, "prove", "--json")
    found: dict[str, Any] = json.loads(text)
    assert (rc, found["proven"], [peer["name"] for peer in found["peers"]]) == (3, False, ["phone"])
    assert [(item["asked"], item["tunnel"]) for item in found["peers"][0]["exits"]] == [(True, False), (True, True)]
    assert program(host, "prove", "tablet") == (0, "peer tablet: goes direct\n", "")
    rc, _out, err = program(host, "prove", "nobody")
    assert (rc, "has no device 'nobody'. Its devices:" in err) == (1, True)
    assert host.steps == []


def test_where_the_records_do_not_say_what_there_is_nothing_is_proven(ordered: World, host: FakeHost) -> None:
    rc, _out, err = program(host, "prove")
    assert (rc, "This host is not a cell" in err) == (1, True)
    ordered["cella"].write("/var/lib/pic/peer_registry.json", "{")
    rc, _out, err = program(ordered["cella"], "prove")
    assert (rc, "peer_registry.json" in err) == (1, True)


def module(host: FakeHost, **given: str) -> dict[str, Any]:
    """Return what the module says to Ansible, the same in check mode, and see that it has changed nothing."""
    host.reset()
    said, predicted = ask("pic_cell_prove", host, given), ask("pic_cell_prove", host, given, check=True)
    assert (said, host.steps) == (predicted, [])
    return said


def test_the_module_says_what_the_command_does(ordered: World) -> None:
    host = ordered["cella"]
    said = module(host)
    assert (said["changed"], said["proven"], said["lines"][0]) == (False, True, "peer phone: leaves through cellb")
    host.exits["cellb"] = {"ipv4": False}
    said, (rc, text, _err) = module(host, peer="phone"), program(host, "prove", "phone", "--json")
    assert (rc, {key: said[key] for key in ("proven", "peers")}) == (3, json.loads(text))
    assert said["lines"] == program(host, "prove", "phone")[1].splitlines()
    assert module(host, peer="tablet")["lines"] == ["peer tablet: goes direct"]
    assert "has no device 'nobody'. Its devices:" in module(host, peer="nobody")["msg"]


def test_what_is_wrong_is_said_once_for_all_devices_of_an_exit(ordered: World) -> None:
    ordered.inventory["cella"]["cell_peers"][1]["route_via"] = ["cellb", "direct"]
    ordered.site()
    host = ordered["cella"]
    host.exits["cellb"] = None
    lose_policy(host)
    assert prove.failures(module(host)["peers"]) == [
        "peers phone, tablet: cell cellb does not answer through its tunnel",
        "peer phone: the own uplink is not closed for 10.0.0.2 by policy rule; what is left keeps it closed. Put it back: pic-cell restore",
    ]


EXIT = {
    "name": "cellb",
    "asked": True,
    "tunnel": True,
    "internet": {"ipv4": True},
    "addresses": {"ipv4": "198.51.100.12"},
    "full_size": None,
    "mtu": 1420,
    "found": [],
    "wrong": [],
}
PEER = {"name": "phone", "exit": "cellb", "exits": [EXIT], "found": [], "wrong": []}
ESCAPE = "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    "fields",
    [
        {"peers": [{**PEER, "name": "{{ x }}"}]},
        {"peers": [{**PEER, "exits": [{**EXIT, "full_size": "yes"}]}]},
        {"peers": [{**PEER, "exits": [{**EXIT, "internet": ["ipv4"]}]}]},
        {"peers": [{**PEER, "wrong": "all"}]},
        {"peers": [{"name": "phone"}]},
        {"lines": ["x"] * 50_000},
        {"proven": "yes"},
    ],
)
def test_another_answer_of_a_cell_is_none(fields: dict[str, Any]) -> None:
    answer = {"changed": False, "proven": True, "peers": [PEER], "lines": ["peer phone: leaves through cellb"]}
    assert not judged("pic_cell_prove", answer).get("failed")
    assert judged("pic_cell_prove", {**answer, **fields})["failed"]


def test_lines_of_a_cell_are_printed_as_text() -> None:
    said = {"proven": False, "lines": [ESCAPE], "peers": [{**PEER, "found": [ESCAPE], "wrong": [ESCAPE], "exits": [{**EXIT, "wrong": [ESCAPE]}]}]}
    assert "\x1b" not in repr(judged("pic_cell_prove", said)).replace("\\x1b", "")


@pytest.mark.parametrize(
    ("given", "job"),
    [
        ({}, {}),
        ({"cell": "", "peer": ""}, {}),
        ({"cell": "cella"}, {"host": "cella"}),
        ({"cell": "cella", "peer": "phone"}, {"host": "cella", "peer": "phone"}),
    ],
)
def test_the_playbook_is_for_all_cells_one_or_one_of_its_devices(given: dict[str, str], job: dict[str, str]) -> None:
    assert read_job(mesh({}), {"job": "prove", **given}) == (job, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"peer": "phone"}, "peer=phone needs the variable 'cell', since devices of several cells can have one name. Give it with -e cell="),
        ({"cell": "cella", "peer": "my phone"}, "peer: 'my phone' is not a valid name"),
        ({"cell": "mars"}, "cell=mars is not a cell of this inventory"),
    ],
)
def test_what_the_playbook_cannot_be_for_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        read_job(mesh({}), {"job": "prove", **given})


def test_the_playbook_shows_what_was_found_and_then_fails(controller: Controller, linked: World) -> None:
    done = controller.play("prove")
    assert done.rc == 0 and {stats["changed"] for stats in done.stats.values()} == {0}, done.text
    shown = {host: result["msg"][0] for host, task, result in done.results if task == "Show what was found"}
    assert shown == {"cella": "peer phone: leaves through cellb", "cellb": "peer pad: leaves through cella", "cellc": prove.NOBODY}
    host = linked["cella"]
    host.exits["cellb"] = None
    controller["cella"] = host
    for options in ([], ["--check"]):
        done = controller.play("prove", *options)
        assert done.rc == 2 and done.message == "peer phone: cell cellb does not answer through its tunnel.", done.text
        assert "wrong: cell cellb does not answer through its tunnel" in done.text and "peer pad: leaves through" in done.text
    assert controller.play("prove", cell="cella", peer="tablet").rc == controller.play("prove", cell="cellb").rc == 0
    assert "has no device 'nobody'" in controller.play("prove", cell="cella", peer="nobody").message


def test_where_all_devices_go_direct(linked: World) -> None:
    assert program(linked["cellc"], "prove") == (0, "no device leaves through another cell\n", "")


def test_a_large_question_is_answered_and_is_larger_than_any_packet(bench: Bench) -> None:
    assert len(SMALL) < 100 < 2 * 1420 < len(LARGE) < HEAD_LIMIT
    assert asked([bench.exit], request=LARGE) == {"cellb": BOTH}
