# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a cell as parts: who owns which field, what a step plans before anything happens, what a file says of itself."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils import agent, cell
from ansible_collections.pic.cells.plugins.module_utils.agent import WHOLE_RUN
from ansible_collections.pic.cells.plugins.module_utils.kernel.ruleset import Rule
from ansible_collections.pic.cells.plugins.module_utils.parts import stages, sync
from ansible_collections.pic.cells.plugins.module_utils.parts.part import Part
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Link, Peer, State
from ansible_collections.pic.cells.plugins.module_utils.records.ownership import Fields, replace_part, with_part_as_stored
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import APPLIED, STEPS
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import World, call, program

PARTS = [part for parts in cell.RUN.values() for part in parts]
# Written by two parts, each for a reason: a port is given out before its link is made, a route may be all that is said of a device,
# an answer ends what was told, and a rule can be stated by hand where no linked cell tells it.
SHARED = {
    "links": {"interface", "listen_port", "remote_exit_relay_active", "remote_exit_offered", "generation", "minted", "pending_push"},
    "peers": {"addresses", "route_via", "route_except"},
}


@pytest.mark.parametrize(("kind", "record"), [("links", Link), ("peers", Peer)])
def test_each_field_of_a_record_has_an_owner(kind: str, record: type) -> None:
    owners = Counter(field.partition(".")[0] if field != "permissions.outbound" else "outbound" for part in PARTS for field in getattr(part.owns, kind))
    named = {field.name for field in dataclasses.fields(record)} - {"name"}
    assert set(owners) - {"outbound"} == named
    assert {field for field, count in owners.items() if count > 1} == SHARED[kind]
    assert sum(part.owns.cell for part in PARTS) == 1


def test_a_step_has_the_name_that_the_role_knows_it_by() -> None:
    several = {"apply": ("hear", *APPLIED), "push": ("note",)}
    assert [part for step in STEPS for part in several.get(step, (step,)) if part in WHOLE_RUN] == list(WHOLE_RUN)
    assert several["apply"] == tuple(agent.APPLIED)
    names = [part.name for part in (*PARTS, *cell.REPAIRS, sync.DELIVER)]
    assert all(names)
    assert len({part.name for part in cell.REPAIRS}) == len(cell.REPAIRS)


@pytest.mark.parametrize(
    "part", {part.plan.__module__: part for part in (*PARTS, *cell.REPAIRS)}.values(), ids=lambda part: part.plan.__module__.rpartition(".")[2]
)
def test_the_file_of_a_part_says_what_it_owns(part: Part) -> None:
    path = Path(cell.__file__).parent / "parts" / f"{part.plan.__module__.rpartition('.')[2]}.py"
    doc = path.read_text().split('"""')[1]
    assert "Owns " in doc, f"{path.name} does not say in its first lines what it owns of the records"


def stored() -> State:
    return State(Cell("a"), {"b": Link("b", public_key="old", endpoint="b:1"), "gone": Link("gone", public_key="k")}, {"p": Peer("p", route_via=["b"])})


KEYS = Fields(links=("public_key",))


def test_a_part_writes_its_own_fields_and_no_others() -> None:
    wanted = stored()
    wanted.links["b"].public_key, wanted.links["b"].endpoint = "new", "b:2"
    written = replace_part(stored(), wanted, KEYS)
    assert (written.links["b"].public_key, written.links["b"].endpoint) == ("new", "b:1")


def test_a_record_that_a_part_says_nothing_of_is_not_made() -> None:
    wanted = stored()
    wanted.links["new"] = Link("new", endpoint="n:1")
    assert "new" not in replace_part(stored(), wanted, KEYS).links
    assert "new" in replace_part(stored(), wanted, Fields(links=("endpoint",))).links


def test_a_field_inside_of_a_dictionary_has_an_owner_of_its_own() -> None:
    wanted = stored()
    wanted.links["b"].permissions = {"inbound": {"web": True}, "outbound": {"mail": True}}
    written = replace_part(stored(), wanted, Fields(links=("permissions.inbound",)))
    assert written.links["b"].permissions == {"inbound": {"web": True}, "outbound": {}}


@pytest.mark.parametrize("removes", [True, False])
def test_a_record_ends_with_the_part_that_may_end_it(removes: bool) -> None:
    wanted = stored()
    del wanted.links["gone"]
    assert ("gone" in replace_part(stored(), wanted, dataclasses.replace(KEYS, removes_links=removes)).links) is not removes


def test_what_would_be_without_a_part_has_all_that_others_change() -> None:
    wanted = stored()
    wanted.links["b"].public_key, wanted.links["b"].endpoint = "new", "b:2"
    wanted.links["new"] = Link("new", public_key="n", endpoint="n:1")
    before = with_part_as_stored(wanted, stored(), KEYS)
    assert (before.links["b"].public_key, before.links["b"].endpoint) == ("old", "b:2")
    assert before.links["new"] == Link("new", endpoint="n:1")


def test_without_the_part_that_makes_and_ends_links_they_are_as_stored() -> None:
    wanted = stored()
    del wanted.links["gone"]
    wanted.links["new"] = Link("new", public_key="n")
    before = with_part_as_stored(wanted, stored(), dataclasses.replace(KEYS, makes_links=True, removes_links=True))
    assert before.links == stored().links


def test_what_the_second_part_of_a_step_refuses_has_changed_nothing(linked: World) -> None:
    """Without the role, what is said of offers is one part of the step and the exits are another."""
    host: FakeHost = linked["cella"]
    before = host.text()
    cells = [{"name": "cellb", "offered": False}]
    refused = call("pic_policy_route", host, {"cells": cells, "routes": [{"peer": "nobody", "via_cell": "cellb"}]})
    assert refused["failed"], json.dumps(refused)
    assert host.text() == before
    assert not host.steps
    taken = call("pic_policy_route", host, {"cells": cells, "routes": [{"peer": "laptop", "via_cell": "direct"}]})
    assert taken["changed"]
    assert linked.link("cella", "cellb")["remote_exit_offered"] is False


def test_what_a_part_adds_to_the_firewall_is_made_missed_and_put_back(linked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host: FakeHost = linked["cella"]
    rule = "-i wg0 -s 10.0.0.2 -p udp -m udp --dport 53 -j DROP"
    added = stages.Contribution(stages.killswitch, lambda _state, _facts, family: [Rule("-i wg0 -s 10.0.0.2 -p udp --dport 53 -j DROP")] if family == 4 else [])
    monkeypatch.setattr(cell, "CONTRIBUTIONS", (added,))
    assert program(host, "check")[0] == 3
    assert program(host, "restore")[0] == 0
    assert host.chain(4, "PIC-PATH")[1] == rule
    assert not call("pic_cell_rules", host, {"cells": []})["changed"]
