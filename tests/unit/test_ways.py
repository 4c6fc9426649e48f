# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""route_peer asks the exits that a device is about to get whether they carry traffic, before anything changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import compiled
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.fake.exits import BOTH
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_statement import mesh
from ansible_collections.pic.cells.tests.unit.world import Refusal, Run, World, call

SILENT = "cell cellc does not answer through its tunnel"
REMEDY = "Mend that, name another exit, or give -e force=true to route the peer all the same; it then has no internet until one of its exits works."


def route(world: World, via: str = "cellc", peer: str = "phone", check: bool = False, **given: str) -> Run:
    return world.job("route_peer", cell="cella", peer=peer, via_cell=via, check=check, **given)


def refused(world: World, via: str, peer: str = "phone") -> str:
    """Return the sentence with which a job is refused, the same in check mode, and see that nothing has changed on any host."""
    before, said = world.text(), set()
    for check in (True, False):
        world.reset()
        with pytest.raises(Refusal) as error:
            route(world, via, peer, check)
        said.add(str(error.value))
        assert (world.steps(), world.text()) == ({}, before)
    assert len(said) == 1
    return said.pop()


def goes_on(world: World, via: str, **given: str) -> list[str]:
    """Return the warnings of a job that does its work, as check mode predicts them."""
    predicted, done = route(world, via, check=True, **given), route(world, via, **given)
    assert (predicted.changed, predicted.diffs(), predicted.warnings()) == (done.changed, done.diffs(), done.warnings())
    assert done.changed and route(world, via, **given).changed == []
    return done.warnings()


def recorded(world: World, peer: str = "phone") -> Any:
    """Return the exits of a device of cella by its record."""
    return next(item for item in world.record("cella", "peer_registry.json")["peers"] if item["name"] == peer)["route_via"]


@pytest.mark.parametrize("peer", ["phone", "laptop"], ids=["from another exit", "from direct"])
def test_a_device_is_not_moved_to_an_exit_that_carries_no_traffic(linked: World, peer: str) -> None:
    linked["cella"].exits["cellc"] = None
    assert refused(linked, "cellc", peer) == f"cella: Peer '{peer}' would have no internet: {SILENT}. {REMEDY}"


@pytest.mark.parametrize(
    ("answer", "narrow", "wrong"),
    [
        ({"ipv4": False}, set(), "cell cellc says that it has no route to the internet for IPv4"),
        (BOTH, {"cellc"}, "cell cellc gets small packets, but none of 1420 bytes (set a smaller mtu for the link on both cells)"),
    ],
)
def test_the_reason_is_said(linked: World, answer: dict[str, bool], narrow: set[str], wrong: str) -> None:
    linked["cella"].exits["cellc"], linked["cella"].narrow = answer, narrow
    assert f"would have no internet: {wrong}. Mend that" in refused(linked, "cellc")


def test_each_exit_is_named_where_none_works(linked: World) -> None:
    linked["cella"].exits.update(cellb={"ipv4": False}, cellc=None)
    said = refused(linked, "cellc,cellb")
    assert f"Peer 'phone' would have no internet: {SILENT}; cell cellb says that it has no route to the internet for IPv4. Mend that" in said


def test_where_one_works_the_others_are_warned_of(linked: World) -> None:
    linked["cella"].exits["cellc"] = None
    assert goes_on(linked, "cellc,cellb") == [f"Peer 'phone' gets an exit that carries no traffic now: {SILENT}."]
    assert recorded(linked) == ["cellc", "cellb"]


def test_nothing_is_refused_where_direct_is_the_last(linked: World) -> None:
    linked["cella"].exits.update(cellb=None, cellc=None)
    assert len(goes_on(linked, "cellc,cellb,direct")) == 2
    linked["cella"].questions.clear()
    assert goes_on(linked, "direct") == []
    assert linked["cella"].questions == []


def test_force_moves_it_all_the_same_and_warns(linked: World) -> None:
    linked["cella"].exits["cellc"] = None
    assert "would have no internet" in refused(linked, "cellc")
    with pytest.raises(Refusal):
        route(linked, "cellc", force="false")
    assert goes_on(linked, "cellc", force="true") == [f"Peer 'phone' gets an exit that carries no traffic now: {SILENT}."]
    assert recorded(linked) == "cellc"


def test_an_exit_that_cannot_be_judged_is_no_reason(linked: World) -> None:
    linked["cella"].exits["cellc"] = {}
    assert goes_on(linked, "cellc") == []
    linked["cella"].exits["cellb"] = None
    linked["cella"].unasked.add("cellc")
    assert goes_on(linked, "cellb,cellc") == ["Peer 'phone' gets an exit that carries no traffic now: cell cellb does not answer through its tunnel."]


def test_a_device_that_has_its_exits_already_is_not_asked_for(linked: World) -> None:
    linked["cella"].exits["cellb"] = None
    assert route(linked, "cellb").changed == []
    assert linked["cella"].questions == []


def test_an_exit_that_is_not_offered_is_refused_as_ever_and_not_asked(linked: World) -> None:
    linked["cellb"].exits["cellc"] = None
    with pytest.raises(Refusal, match="has not offered 'cella' an exit"):
        linked.job("offer_exit", cell="cellc", remote_cell="cella", offered="no")
        route(linked, "cellc", "laptop")
    assert linked["cella"].questions == []


def test_what_is_refused_for_another_reason_waits_for_no_exit(linked: World) -> None:
    with pytest.raises(Refusal, match="has no peer 'nobody'"):
        route(linked, "cellc", "nobody")
    assert linked["cella"].questions == []


def test_a_link_that_the_run_brings_back_is_not_judged(linked: World) -> None:
    linked["cella"].by_hand("ip link del dev pic-cellc")
    linked["cella"].exits["cellc"] = None
    assert goes_on(linked, "cellc") == []
    assert "pic-cellc" in linked["cella"].links


def test_a_host_without_the_program_asks_nobody(linked: World) -> None:
    linked["cella"].exits["cellc"] = None
    linked["cella"].remove(compiled.PROGRAM)
    assert goes_on(linked, "cellc") == []


def test_site_and_other_jobs_ask_nobody(linked: World) -> None:
    for host in linked.hosts.values():
        host.exits = dict.fromkeys(linked.hosts)
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = "cellc"
    linked.site()
    assert recorded(linked) == "cellc"
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert [host.questions for host in linked.hosts.values()] == [[], [], []]


def test_only_the_devices_own_cell_asks_and_only_its_exits(linked: World) -> None:
    run = route(linked, "cellc")
    assert {name: host.questions for name, host in linked.hosts.items()} == {"cella": [["cellc"], ["cellc"]], "cellb": [], "cellc": []}
    assert [args.get("prove") for host, module, args in run.calls if module == "pic_cell_info"] == ["refuse", None, None]


@pytest.mark.parametrize(("given", "force"), [("", False), ("false", False), ("no", False), (False, False), ("true", True), ("yes", True), (True, True)])
def test_force_is_read_as_ansible_reads_a_boolean(given: Any, force: bool) -> None:
    job, _warnings = read_job(mesh({}), {"job": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "cellc", "force": given})
    assert job.get("force", False) is force


@pytest.mark.parametrize("given", ["perhaps", "2", 1, ["true"]])
def test_another_word_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match=r"force=.* (is neither true nor false. Give force=true or force=false|is not text)"):
        read_job(mesh({}), {"job": "route_peer", "cell": "cella", "peer": "phone", "via_cell": "cellc", "force": given})


def test_with_real_ansible(controller: Controller, linked: World) -> None:
    host = linked["cella"]
    host.exits["cellc"] = None
    controller["cella"] = host
    for options in (["--check"], []):
        done = controller.play("route_peer", *options, cell="cella", peer="phone", via_cell="cellc")
        assert done.rc == 2 and done.message == f"cella: Peer 'phone' would have no internet: {SILENT}. {REMEDY} Nothing was changed.", done.text
    assert controller["cella"].text() == host.text()
    done = controller.play("route_peer", cell="cella", peer="phone", via_cell="cellc", force=True)
    assert done.rc == 0 and "changed on cella: peer phone: internet via cellc" in done.said["cella"], done.text
    assert f"Peer 'phone' gets an exit that carries no traffic now: {SILENT}." in " ".join(done.text.split())


def test_the_module_by_itself(linked: World, host: FakeHost) -> None:
    """Without a run there is nothing to ask for, and on a host that is no cell nobody to ask."""
    linked["cella"].exits["cellc"] = None
    assert call("pic_cell_info", linked["cella"], {"prove": "refuse"})["refusals"] == []
    run = {"routes": [{"peer": "phone", "via_cell": ["cellc"]}]}
    assert "Peer 'phone' would have no internet" in json.dumps(
        call("pic_cell_info", linked["cella"], {"cell": {"name": "cella"}, "run": run, "prove": "refuse"})
    )
    assert host.questions == [] and "would have no internet" not in json.dumps(call("pic_cell_info", host, {"run": run, "prove": "refuse"}))
