# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H5: no count of pushes, whoever says it, locks a link out for ever or keeps other cells from being heard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts import peer_sync
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import AHEAD
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import parse_view
from ansible_collections.pic.cells.plugins.module_utils.records.model import LAST, Link
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store
from ansible_collections.pic.cells.tests.unit.test_exchange import _linked_by_tunnel, replay, tunnel
from ansible_collections.pic.cells.tests.unit.test_messages import MESSAGE, known, pushed
from ansible_collections.pic.cells.tests.unit.world import World, call

__all__ = ["_linked_by_tunnel", "tunnel"]  # fixtures

ABSURD = [LAST, 2**63 - 1, 2**63, 10**40]


def edit(world: World, host: str, name: str, **values: Any) -> None:
    """Change a link's record, as an earlier version or a forger has left it."""
    record = world.record(host)
    for link in record["links"]:
        if link["name"] == name:
            link.update(values)
    world[host].files["/var/lib/pic/cell_links.json"] = (0o600, json.dumps(record))


def settled(world: World, sender: str, receiver: str) -> bool:
    """Tell whether a cell has told another all, and both have the same count of it."""
    said, heard = world.link(sender, receiver), world.link(receiver, sender)
    return not said["pending_push"] and said["generation"] == heard["remote_generation"] < LAST


@pytest.mark.parametrize("ahead", [AHEAD + 1, LAST - 4])
def test_a_push_that_is_too_far_ahead_is_not_taken_over(ahead: int) -> None:
    verdict, link = pushed(known(), generation=4 + ahead)
    assert (verdict.status, verdict.accepted, link.remote_generation if link else 0) == (200, False, 4)
    assert pushed(known(), generation=4 + AHEAD)[0].accepted


@pytest.mark.parametrize("generation", [0, -1, LAST + 1, 2**63 - 1, 10**40, True, 1.0])
def test_a_generation_that_none_can_be_makes_no_payload(generation: Any) -> None:
    with pytest.raises(peer_sync.BadInput):
        peer_sync.check_payload({**MESSAGE, "generation": generation})


@pytest.mark.parametrize("absurd", ABSURD)
def test_counts_that_are_absurd_begin_anew(absurd: int) -> None:
    link = Link("cellb", remote_generation=absurd, generation=absurd, minted="x")
    assert peer_sync.known(link) == 0
    message = dict(MESSAGE)
    peer_sync.mint(link, message)
    assert 0 < message["generation"] == link.generation < AHEAD
    assert peer_sync.check_payload(message)


@pytest.mark.parametrize("generation", ABSURD)
def test_an_answer_draws_nobody_beyond_the_last_generation(generation: int) -> None:
    link = Link("cellb", generation=5, minted="x", pending_push=True)
    for _time in range(3):
        peer_sync.acknowledge(link, peer_sync.check_answer({"status": 200, "generation": generation, "reason": "x"}), "now")
        message = dict(MESSAGE)
        peer_sync.mint(link, message)
        assert peer_sync.check_payload(message) and link.generation < 10


@pytest.mark.parametrize("answer", [{}, 5, {"status": "200"}, {"status": True}, {"status": 10**30}, {"status": 200, "generation": "9" * 4300, "reason": ["x"]}])
def test_an_answer_that_is_none_is_as_none(answer: Any) -> None:
    found = peer_sync.check_answer(answer)
    assert found is None or (found["generation"], found["reason"]) == (0, "status 200")


def test_a_reason_is_shown_without_what_moves_a_cursor() -> None:
    found = peer_sync.check_answer({"status": 403, "generation": 1, "reason": "\x1b[2J" + "x" * 1000})
    assert found and found["reason"].isprintable() and len(found["reason"]) <= 200


# Both carriers, and both directions


@pytest.mark.parametrize("absurd", [10**6, AHEAD * 2, LAST - 1, *ABSURD])
def test_a_sender_that_counts_too_far_is_heard_again_through_the_tunnel(tunnel: World, absurd: int) -> None:
    edit(tunnel, "cella", "cellb", generation=absurd, minted=None)
    for _time in range(3):
        replay(tunnel, "cella")
    assert settled(tunnel, "cella", "cellb")


@pytest.mark.parametrize("absurd", [10**6, AHEAD * 2, LAST - 1, *ABSURD])
def test_a_receiver_that_knows_too_much_hears_again_through_the_tunnel(tunnel: World, absurd: int) -> None:
    edit(tunnel, "cellb", "cella", remote_generation=absurd)
    call("pic_cell_restore", tunnel["cellb"], {})
    edit(tunnel, "cella", "cellb", minted=None)
    for _time in range(3):
        replay(tunnel, "cella")
    assert settled(tunnel, "cella", "cellb")


@pytest.mark.parametrize("absurd", [10**6, AHEAD * 2, LAST - 1, *ABSURD])
@pytest.mark.parametrize(("host", "name", "field"), [("cella", "cellb", "generation"), ("cellb", "cella", "remote_generation")])
def test_a_run_heals_a_count_on_either_side(linked: World, absurd: int, host: str, name: str, field: str) -> None:
    edit(linked, host, name, **{field: absurd})
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    linked.site()
    linked.site()
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {}
    assert settled(linked, "cella", "cellb") and settled(linked, "cellb", "cella")
    assert not linked.site().changed


def test_unlink_and_link_begin_all_counts_anew(linked: World) -> None:
    for host, name in (("cella", "cellb"), ("cellb", "cella")):
        edit(linked, host, name, generation=2**50, remote_generation=2**50, minted=None)
    linked.job("unlink", cell="cella", remote_cell="cellb")
    linked.site()
    assert settled(linked, "cella", "cellb") and linked.link("cella", "cellb")["generation"] < 2**50


def test_a_message_that_is_none_keeps_no_other_cell_from_being_heard(linked: World) -> None:
    host = linked["cella"]
    built = call("pic_peer_sync", linked["cellc"], {})["payloads"]["cella"]
    good = {**built, "generation": built["generation"] + 1, "permissions": {"outbound": {"mail": True}}}
    for bad in (
        {**good, "from_cell": "cellb", "generation": 2**63},
        {"from_cell": "cellb"},
        {**good, "from_cell": "cellb", "generation": -1},
        {"from_cell": ["x"]},
    ):
        fork = linked.fork()
        result = call("pic_peer_sync", fork["cella"], {"received": [bad, good]})
        assert not result.get("failed") and result["answers"]["cellc"]["applied"] and set(result["answers"]) == {"cellc"}
        assert any(("was rejected" in warning and "cellb" in warning) or "['x']" in warning for warning in result["warnings"])
        assert Store(fork["cella"]).load().links["cellc"].permissions["outbound"] == {"mail": True}
    assert host.steps == []


def test_a_record_with_an_absurd_count_costs_nobody_the_links(linked: World) -> None:
    edit(linked, "cella", "cellb", generation=2**63, remote_generation=10**30)
    store = Store(linked["cella"])
    assert store.load().links["cellb"].generation == LAST and store.warnings == []
    assert parse_view(linked["cella"].read("/var/lib/pic/view/links.json") or "").links["cellb"].remote_generation < LAST
