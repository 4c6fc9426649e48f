# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cells tell each other in a run: offers, keys, generations, and what stays pending."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.runs import PSK, executed
from ansible_collections.pic.cells.tests.unit.world import Run, Task, World, call, program, three_cells


def test_an_offer_stands_until_a_run_reaches_the_cell_that_makes_it(linked: World) -> None:
    """Else each run would close what the cell itself opens again, because its records say so."""
    linked.inventory["cellb"]["cell_links"][0]["offer_exit"] = False
    linked.inventory["cella"]["cell_peers"][0].pop("route_via")
    assert linked.site("cella").changed == []
    assert restore(linked["cella"], "/var/lib/pic").repairs == []
    linked.dead = {"cellb"}
    linked.site("cella", "cellb", "cellc")  # notes that cellb is not reached
    assert linked.link("cella", "cellb")["exit_relay_active"]
    assert linked.site("cella", "cellb", "cellc").changed == []
    linked.dead = set()
    linked.site()
    assert not linked.link("cella", "cellb")["exit_relay_active"]
    assert restore(linked["cella"], "/var/lib/pic").repairs == []


def test_what_another_cell_says_in_the_run_reaches_the_cells_that_had_nothing_to_do(linked: World) -> None:
    linked.inventory["cellc"]["cell_endpoint"] = "192.0.2.99"
    run = linked.site()
    assert (executed(run)["cellb"], executed(run)["cella"][-1:]) == ([], ["pic_cell_apply"])
    assert next(iter(linked["cella"].wg["pic-cellc"].peers.values())).endpoint.startswith("192.0.2.99:")


def test_an_exit_that_refuses_is_closed_in_the_same_execution(linked: World) -> None:
    host = linked["cella"]
    answers = {"cellb": {"status": 409, "generation": linked.link("cella", "cellb")["generation"], "reason": "no exit is offered to this cell"}}
    predicted, done = (call("pic_peer_sync", host, {"answers": answers, "run": {}}, check=check) for check in (True, False))
    assert "link cellb: used as an exit\n" in done["diff"]["before"]
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"])
    assert not linked.link("cella", "cellb")["exit_relay_active"]
    assert not call("pic_cell_apply", host, {})["changed"], "something of it was left to do"


def test_a_new_key_reaches_a_cell_that_hears_nothing_in_the_run(linked: World, tmp_path: Path) -> None:
    linked.inventory["cella"]["cell_links"][0]["preshared_key"] = PSK
    linked.inventory["cellb"]["cell_sync_transport"] = "tunnel"
    linked.site()
    linked.hosts["cellb"] = FakeHost(tmp_path / "new", "cellb reinstalled")
    linked["cellb"].dns = linked["cella"].dns
    linked.site()
    assert list(linked["cella"].wg["pic-cellb"].peers) == [linked.public_key("cellb")]


def test_an_offer_that_nobody_states_is_taken_from_the_cell_that_makes_it(linked: World) -> None:
    del linked.inventory["cellc"]["cell_links"][0]["offer_exit"]
    older = linked.fork()["cella"]
    linked.job("offer_exit", cell="cellc", remote_cell="cella", offered="no")
    linked.hosts["cella"], there = older, linked.link("cellc", "cella")
    links = linked.record("cella")
    link = next(link for link in links["links"] if link["name"] == "cellc")
    link["remote_generation"], link["generation"] = there["generation"], there["remote_generation"]
    older.write("/var/lib/pic/cell_links.json", json.dumps(links))
    assert link["exit_relay_active"]
    linked.site()
    assert not linked.link("cella", "cellc")["exit_relay_active"]


def test_an_offer_that_is_stated_by_a_cell_that_is_away_counts_as_the_record_has_it(linked: World) -> None:
    links = linked.record("cella")
    next(link for link in links["links"] if link["name"] == "cellb")["remote_exit_offered"] = False
    linked["cella"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    linked.dead = {"cellb"}
    run = linked.site()
    assert any("Peer 'phone' is routed via 'cellb', which offers no exit now" in warning for warning in run.warnings())
    assert not linked.link("cella", "cellb")["exit_relay_active"]


class Impatient(World):
    """Cells whose timer is due as soon as there is something to tell, before that is so."""

    def _task(self, run: Run, mesh: Mesh, task: Task, item: str, check: bool) -> dict[str, Any]:
        result = super()._task(run, mesh, task, item, check)
        if task.step == "tell":
            for name, host in self.hosts.items():
                program(host, "replay", send=functools.partial(self.carry, name))
        return result


def test_what_the_cells_own_timer_tells_in_the_middle_of_a_run_is_told_anew_at_its_end(tmp_path: Path) -> None:
    world = Impatient(tmp_path, three_cells())
    world.site()
    for offered in ("no", "yes"):
        world.job("offer_exit", cell="cellb", remote_cell="cella", offered=offered)
        assert world.link("cella", "cellb")["remote_exit_offered"] == (offered == "yes")


class Mortal(World):
    """Cells of which one dies when it has said who it is."""

    def _task(self, run: Run, mesh: Mesh, task: Task, item: str, check: bool) -> dict[str, Any]:
        result = super()._task(run, mesh, task, item, check)
        if (task.step, item) == ("tell", "cella"):
            self.dead.add(item)
        return result


def test_what_a_cell_has_said_before_it_died_counts_in_the_rest_of_the_run(tmp_path: Path) -> None:
    world = Mortal(tmp_path, three_cells())
    world.site()
    assert world.link("cellb", "cella")["public_key"] == world.public_key("cella")


def test_what_is_refused_for_its_key_is_not_taken_for_told(linked: World) -> None:
    linked.job("link", cell="cellc", remote_cell="cellb")
    links = linked.record("cellb")
    next(link for link in links["links"] if link["name"] == "cellc")["public_key"] = None
    linked["cellb"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    assert any("A push of cell 'cellc' was answered 403" in warning for warning in linked.site().warnings())
    assert linked.link("cellc", "cellb")["pending_push"]


@pytest.mark.parametrize("between", ["nothing", "the timer"])
def test_a_cell_that_goes_on_refusing_changes_nothing_whoever_asks_it(linked: World, between: str) -> None:
    """It is not part of the run and has not made the link, which Ansible hears from it in other words than the tunnel."""
    linked.inventory["cellb"]["cell_links"].append({"name": "cellc", "offer_exit": True})
    linked.site("cellb")
    for _run in range(2):
        if between == "the timer":
            program(linked["cellb"], "replay")
        run = linked.site("cellb")
        assert run.changed == []
        assert "pending on cellb: cellc has not made this link yet" in run.said["cellb"]
    linked.site()
    assert not linked.link("cellb", "cellc")["pending_push"]
    assert linked.site().changed == []


def test_what_is_pending_or_warned_of_is_said_in_each_run(linked: World) -> None:
    linked.inventory["cella"]["cell_links"].append({"name": "far"})
    del linked.inventory["cellc"]["cell_links"][0]["offer_exit"]
    linked.job("offer_exit", cell="cellc", remote_cell="cella", offered="no")
    linked["cella"].active.remove("pic-cell-serve.service")
    linked["cella"].failing.add("pic-cell-serve.service")
    linked.site()
    again = linked.site()
    assert again.changed == []
    assert any("pic-cell-serve.service does not start" in warning for warning in again.warnings())
    assert any("offers no exit now" in warning for warning in again.warnings())
    assert any("the link with far waits for its public key" in line for line in again.said["cella"])
    assert any("since cellc offers no exit" in line for line in again.said["cella"])


@pytest.mark.parametrize("lost", [{"remote_generation": 0}, {"pending_push": True}, {"generation": 0, "minted": None}])
def test_what_one_of_two_cells_has_forgotten_is_told_again(linked: World, lost: dict[str, Any]) -> None:
    links = linked.record("cellb")
    next(link for link in links["links"] if link["name"] == "cella").update(lost)
    linked["cellb"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    linked.site()
    one, other = linked.link("cella", "cellb"), linked.link("cellb", "cella")
    assert (one["generation"], other["generation"]) == (other["remote_generation"], one["remote_generation"])
    assert (one["pending_push"], other["pending_push"]) == (False, False)
    assert linked.site().changed == []


def test_a_push_that_did_not_arrive_stays_pending_and_goes_out_later(linked: World) -> None:
    linked.dead = {"cellb"}
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    linked.site("cella")
    assert (linked.link("cella", "cellb")["pending_push"], linked.link("cella", "cellb")["last_push_error"]) == (True, "not reached")
    linked.dead = set()
    linked.site("cella")
    assert (linked.link("cella", "cellb")["pending_push"], linked.link("cella", "cellb")["last_push_status"]) == (False, 200)
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {}
