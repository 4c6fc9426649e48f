# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says at its end: what changed, what is pending, what to do next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.cell import RUN
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR, Store
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, device_key

DONE = "next: nothing is left to do"


def test_a_first_run_says_what_each_cell_has_become(world: World) -> None:
    said = world.site().said
    assert list(said) == ["cella", "cellb", "cellc"]
    for line in (
        "changed on cella: cell cella: 10.0.0.1/24, fd00:a::1/64 on wg0, port 51820, links from port 51821",
        "changed on cella: peer phone: internet via cellb",
        "changed on cella: link cellb: shares files, voice, offers an exit",
    ):
        assert line in said["cella"], said["cella"]
    assert "changed on cellb: peer pad: internet via cella" in said["cellb"]
    assert {lines[-1] for lines in said.values()} == {DONE}
    assert all("is to be told" not in line for lines in said.values() for line in lines), "what is to be told is told at the end of the run"


def test_all_that_a_part_says_of_its_records_is_said_and_not_counted(world: World) -> None:
    said = world.site().said
    for name, host in world.hosts.items():
        state = Store(host, STATE_DIR).load()
        for line in (line for parts in RUN.values() for part in parts for line in part.words(state)):
            assert any(told.startswith(f"changed on {name}: {line.partition(': ')[0]}: ") for told in said[name]), line


def test_what_cells_and_devices_get_for_it_is_counted(world: World) -> None:
    counts = [line for line in world.site().said["cella"] if "--diff shows them" in line]
    assert len(counts) == 1
    assert all(word in counts[0] for word in ("rules", "tunnels", "routes", "pic-cell", "the devices' interface"))


def test_a_run_that_changes_nothing_says_so_in_two_lines(linked: World) -> None:
    assert linked.site().said == {cell: [f"nothing changed on {cell}", DONE] for cell in linked.hosts}
    assert linked.site(check=True).said["cella"] == ["nothing would change on cella", DONE]


def test_check_mode_says_the_same_and_that_it_was_check_mode(linked: World) -> None:
    del linked.inventory["cella"]["cell_links"][0]["share"]
    predicted = linked.job("share", check=True, cell="cella", remote_cell="cellb", services="files").said["cella"]
    done = linked.job("share", cell="cella", remote_cell="cellb", services="files").said["cella"]
    assert [line.replace("would change", "changed") for line in predicted[:-1]] == done[:-1]
    assert (predicted[-1], done[-1]) == ("next: run it without --check to make these changes", DONE)


def test_a_days_change_is_told_of_both_cells(linked: World) -> None:
    del linked.inventory["cella"]["cell_links"][0]["share"]
    assert linked.job("share", cell="cella", remote_cell="cellb", services="files").said["cella"] == [
        "changed on cella: cell cellb: told",
        "changed on cella: link cellb: shares files, offers an exit",
        "changed on cella: details (--diff shows them): rules 2",
        "changed on cellb: cell cella: shares files with this cell, offers an exit, uses this cell as an exit",
        DONE,
    ]


def test_what_is_gone_is_said_too(linked: World) -> None:
    said = linked.job("unlink", cell="cellb", remote_cell="cella").said["cellb"]
    assert "changed on cellb: link cella: removed" in said
    assert "changed on cella: link cellb: removed" in said
    assert "next: link cella again (pic.cells.link), or send pad elsewhere (pic.cells.route_peer)" in said


def test_an_exit_that_nobody_uses_any_more_is_named(linked: World) -> None:
    said = linked.job("route_peer", cell="cella", peer="phone", via_cell="direct").said["cella"]
    assert {"changed on cella: link cellb: no longer used as an exit", "changed on cella: peer phone: internet direct"} <= {*said}


def test_a_change_that_the_inventory_contradicts_is_said_last(linked: World) -> None:
    said = linked.job("share", cell="cella", remote_cell="cellb", services="none").said["cella"]
    assert said[-1].startswith(
        "next: The inventory states share: ['files', 'voice'] for the link of 'cella' with 'cellb'; the next run of site puts that back."
    )


def test_a_cell_that_is_away_is_pending_for_those_that_are_linked_with_it(linked: World) -> None:
    linked.dead.add("cellb")
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    said = linked.site().said
    assert "pending on cella: cellb was not reached" in said["cella"]
    assert "pending on cella: cellb has not been told the latest state (not reached); cella tries again by itself" in said["cella"]
    assert said["cella"][-1] == "next: run this again when cellb is back"
    assert said["cellc"][-1] == DONE


def test_a_job_whose_other_cell_is_away_says_what_waits(linked: World) -> None:
    linked.dead.add("cellb")
    said = linked.job("offer_exit", cell="cella", remote_cell="cellb", offered="false").said["cella"]
    assert "pending on cella: cellb was not reached" in said
    assert "next: run this again when cellb is back" in said


def test_a_cell_that_pic_cell_tells_is_named(linked: World) -> None:
    linked.inventory["cella"].update(cell_sync_transport="tunnel")
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    assert "cella told cellb the latest state through the tunnel" in linked.site("cella").said["cella"]


def test_a_link_whose_other_side_is_unknown_waits_for_it(linked: World) -> None:
    linked.inventory["cella"]["cell_links"].append({"name": "far"})
    said = linked.site("cella").said["cella"]
    assert "pending on cella: the link with far waits for its public key and its networks" in said
    assert said[-1] == "next: run pic.cells.site when far is reachable, or take its owner's invitation (pic.cells.link)"


def test_a_link_that_the_other_cell_has_not_made_yet_waits_for_that_cell(world: World) -> None:
    said = world.site("cella").said["cella"]
    assert [line for line in said if line.startswith("pending")] == [f"pending on cella: {other} has not made this link yet" for other in ("cellb", "cellc")]
    assert said[-2:] == [f"next: run pic.cells.site with {other} included" for other in ("cellb", "cellc")]


def test_a_link_that_the_other_cell_has_lost_is_named_and_changes_nothing(linked: World, tmp_path: Path) -> None:
    linked.job("link", cell="cellb", remote_cell="cellc")
    again = World(tmp_path / "again", {"cellc": linked.inventory["cellc"]})
    linked.hosts["cellc"] = again["cellc"]
    linked.site()
    run = linked.site()
    assert run.changed == []
    assert "pending on cellb: cellc has no link with cellb" in run.said["cellb"]
    assert run.said["cellb"][-1] == "next: link cellb and cellc again (pic.cells.link), or unlink them (pic.cells.unlink)"
    assert run.said["cellc"] == ["nothing changed on cellc", DONE]
    linked.job("unlink", cell="cellb", remote_cell="cellc")
    assert linked.site().said["cellb"] == ["nothing changed on cellb", DONE]


def test_a_device_whose_exit_offers_none_is_named_with_what_can_be_done(linked: World) -> None:
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    said = linked.site("cella").said["cella"]
    assert "pending on cella: no internet for phone, since cellb offers no exit" in said
    assert "next: let cellb offer an exit (pic.cells.offer_exit), or send phone elsewhere (pic.cells.route_peer)" in said


def test_many_changes_are_cut_short(world: World) -> None:
    world.inventory["cellc"]["cell_peers"] = [{"name": f"d{n}", "public_key": device_key(f"d{n}"), "addresses": [f"10.0.2.{n}"]} for n in range(2, 60)]
    said = world.site().said["cellc"]
    assert len(said) < 40
    assert any(line.startswith("changed on cellc: details") and "cells and devices" in line for line in said), said


def test_who_links_with_another_owner_is_told_to_exchange_invitations(world: World, tmp_path: Path) -> None:
    world.elsewhere["far"] = FakeHost(tmp_path / "far", "far")
    said = world.job("link", cell="cella", remote_cell="far", invitation="new").said["cella"]
    assert said[-1] == "next: give the invitation above to the owner of far: their run of pic.cells.link completes the link"
    his = json.dumps({"name": "far", "public_key": made_key("far"), "networks": ["10.9.0.0/24"]})
    said = world.job("link", cell="cella", remote_cell="far", invitation=his).said["cella"]
    assert "next: give the invitation above to the owner of far, unless they have linked this cell already" in said
    assert said[-1].startswith("next: compare this code with the owner of far")


@pytest.mark.parametrize("check", [False, True])
def test_no_secret_is_in_it(world: World, check: bool) -> None:
    world.inventory["cella"]["cell_peers"][0]["preshared_key"] = made_key("a secret")
    text = str(world.site(check=check).said)
    secrets = {made_key("a secret"), *(secret for host in world.hosts.values() for secret in host.secrets)}
    assert not [secret for secret in secrets if secret in text]
