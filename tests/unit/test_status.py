# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report fails for, so that a schedule can notify somebody."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.program.status import CONDITIONS, failures, report
from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.test_statement import mesh
from ansible_collections.pic.cells.tests.unit.world import World, call


def info(world: World, host: str = "cella") -> dict[str, Any]:
    """Read a cell back, with handshakes of half a minute ago."""
    found = call("pic_cell_info", world[host], {})
    for link in found["links"].values():
        link["last_handshake"] = NOW - 30
    return found


NOW = 1_000_000


def test_a_cell_that_is_well_fails_for_nothing(linked: World) -> None:
    assert failures(info(linked), CONDITIONS, NOW) == []


def test_each_condition_is_a_sentence_and_only_what_was_asked_for(linked: World) -> None:
    linked["cella"].by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    found = info(linked)
    found["links"]["cellb"]["last_handshake"] = NOW - 200
    found["links"]["cellc"].update(pending_push=True, last_push_error="no answer")
    drift, silent, pending = failures(found, CONDITIONS, NOW)
    assert drift.startswith("drift: ") and "4002" in drift
    assert silent.startswith("silent: link cellb: last handshake 200 s ago")
    assert pending == "pending: cellc has not been told the latest state (no answer)."
    assert failures(found, ["silent"], NOW) == [silent]
    assert failures(found, [], NOW) == []


def test_a_cells_own_clock_counts_whatever_that_of_the_controller_says(linked: World) -> None:
    """It may have none that survives a boot; and of many cells the first is read minutes before the report."""
    host = linked["cella"]
    host.now = 4_000.0
    for device in host.wg.values():
        for peer in device.peers.values():
            peer.handshake = 3_970
    found = call("pic_cell_info", host, {})
    assert judged("pic_cell_info", found)["read_at"] == 4_000
    assert failures(found, ["silent"]) == []
    assert all("last handshake 30 s ago" in line for line in report(found) if line.startswith("link "))
    host.now += 600
    assert len(failures(call("pic_cell_info", host, {}), ["silent"])) == 1


def test_a_handshake_of_a_time_to_come_is_no_sign_of_life(linked: World) -> None:
    found = info(linked)
    found["links"]["cellb"]["last_handshake"] = NOW + 3600
    (silent,) = failures(found, ["silent"], NOW)
    assert silent.startswith("silent: link cellb: last handshake in the future (the clock has been set back)")
    # A second of difference is none.
    found["links"]["cellb"]["last_handshake"] = NOW + 1
    assert failures(found, ["silent"], NOW) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"last_handshake": NOW - 180}, None),
        ({"last_handshake": NOW - 181}, "silent: link cellb"),
        ({"last_handshake": 0}, "silent: link cellb: no handshake yet"),
        ({"last_handshake": 0, "keepalive": 0}, None),
        ({"public_key": None}, "pending: the link with cellb waits"),
        ({"networks": [], "last_handshake": 0}, "pending: the link with cellb waits"),
    ],
)
def test_what_a_link_is_held_to(linked: World, changes: dict[str, Any], words: str | None) -> None:
    found = info(linked)
    found["links"]["cellb"].update(changes)
    said = failures(found, CONDITIONS, NOW)
    assert len(said) == bool(words) and all(line.startswith(str(words)) for line in said)


def test_it_is_said_which_bytes_hold_the_traffic_that_is_relayed(linked: World) -> None:
    found = info(linked, "cellb")
    found["links"]["cella"].update(received=2**33, sent=7)
    (line,) = [line for line in report(found, NOW) if line.startswith("link cella:")]
    assert f"last handshake 30 s ago, {2**33} bytes in, 7 bytes out; " in line
    assert line.endswith("; relays its devices, whose traffic is among these bytes")


def test_a_device_without_its_exit_and_a_host_that_is_no_cell_are_pending(linked: World) -> None:
    found = info(linked)
    found["peers"]["phone"]["exit_effective"] = False
    assert failures(found, ["pending"], NOW) == ["pending: no internet for phone, since cellb offers no exit."]
    assert failures({"name": "", "drift": [], "links": {}, "peers": {}}, ["pending"], NOW) == ["pending: this host is not a cell yet."]


@pytest.mark.parametrize("given", ["drift,pending", "drift\npending", ["drift", "pending"], " drift , pending "])
def test_it_is_given_as_a_list_or_as_a_survey_gives_it(given: Any) -> None:
    assert read_job(mesh({}), {"job": "status", "cell": "", "fail_on": given}) == ({"fail_on": ["drift", "pending"]}, [])


@pytest.mark.parametrize("given", ["", None])
def test_not_given_it_fails_for_nothing(given: Any) -> None:
    assert read_job(mesh({}), {"job": "status", "fail_on": given}) == ({}, [])


@pytest.mark.parametrize("given", ["drift,everything", True, ["drift", 7], "DRIFT"])
def test_an_unknown_word_is_refused(given: Any) -> None:
    with pytest.raises(BadInput, match="Give one or more of drift, silent, pending"):
        read_job(mesh({}), {"job": "status", "fail_on": given})


def test_the_playbook_reports_and_then_fails(controller: Controller, linked: World) -> None:
    host = linked["cella"]
    host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    controller["cella"] = host
    assert controller.play("status", cell="cella").rc == 0
    done = controller.play("status", cell="cella", fail_on="drift, pending")
    assert done.rc == 2 and "drift: " in done.message and "differs from the records" in done.text
    assert controller.play("status", cell="cellb", fail_on="drift").rc == 0
