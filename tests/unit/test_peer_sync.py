# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a push may change, and who may send one."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import peer_sync
from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.peer_sync import Evidence
from ansible_collections.pic.cells.plugins.module_utils.records import Cell, Link, Peer, State

DELEGATE = Evidence("delegate")
MESSAGE = {
    "from_cell": "cellb",
    "from_public_key": "KEY",
    "generation": 5,
    "permissions": {"outbound": {"mail": True}},
    "exit_offered": True,
    "use_as_exit_relay": False,
}


def known(**more: Any) -> Link:
    """Return what cella remembers of cellb."""
    return Link("cellb", "KEY", ["10.0.1.0/24"], ["10.0.1.1"], interface="pic-cellb", remote_generation=4, **more)


def pushed(link: Link | None, evidence: Evidence = DELEGATE, **changes: Any) -> tuple[peer_sync.Verdict, Link | None]:
    """Judge a push and take it over; return the verdict and the record afterwards."""
    message = peer_sync.check_payload({**copy.deepcopy(MESSAGE), **changes})
    verdict = peer_sync.judge(link, message, evidence)
    if link is not None:
        peer_sync.take_over(link, message, verdict, "now")
    return verdict, link


def test_what_one_shares_is_what_the_other_may_use() -> None:
    link = Link("cellb", "KEY", ["10.0.1.0/24"], permissions={"inbound": {"files": True, "voice": False}, "outbound": {"mail": True}}, remote_exit_offered=True)
    state = State(Cell("cella"), {"cellb": link}, {"phone": Peer("phone", addresses=["10.0.0.2"], route_via="cellb")})
    message = peer_sync.payload(state, "cellb", "OWN")
    assert (message["from_cell"], message["from_public_key"]) == ("cella", "OWN")
    assert message["permissions"] == {"outbound": {"files": True}}
    assert (message["exit_offered"], message["use_as_exit_relay"]) == (False, True)


def test_a_push_changes_the_receivers_view_of_the_sender_and_nothing_else() -> None:
    before = asdict(known(permissions={"inbound": {"files": True}, "outbound": {}}, exit_offered=False))
    after = asdict(pushed(known(permissions={"inbound": {"files": True}, "outbound": {}}, exit_offered=False))[1])
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"permissions", "remote_exit_offered", "last_remote_update_at", "remote_generation"}
    assert after["permissions"] == {"inbound": {"files": True}, "outbound": {"mail": True}}


@pytest.mark.parametrize("changes", [{"from_public_key": "OTHER"}, {"from_public_key": ""}])
def test_whoever_is_not_the_linked_cell_is_refused(changes: dict[str, Any]) -> None:
    verdict, link = pushed(known(), **changes)
    assert (verdict.status, verdict.accepted, link) == (403, False, known())


def test_a_cell_that_is_not_linked_or_not_known_yet_is_refused() -> None:
    assert pushed(None)[0].status == 403
    assert pushed(Link("cellb"), from_public_key="")[0].status == 403


@pytest.mark.parametrize(
    ("evidence", "status"),
    [
        (Evidence("tunnel", "pic-cellb", "10.0.1.1", True), 200),
        (Evidence("tunnel", "pic-cellb", "10.0.1.2", True), 403),
        (Evidence("tunnel", "wg0", "10.0.1.1", True), 403),
        (Evidence("tunnel", "eth0", "10.0.1.1", True), 403),
        (Evidence("tunnel", "pic-cellb", "10.0.1.1", False), 403),
        (Evidence("tunnel"), 403),
    ],
    ids=["the cell itself", "a phone of it", "another interface", "the uplink", "no signature", "nothing"],
)
def test_through_the_tunnel_interface_source_and_signature_have_to_be_right(evidence: Evidence, status: int) -> None:
    verdict, link = pushed(known(), evidence)
    assert verdict.status == status
    assert (link == known()) == (status != 200)


@pytest.mark.parametrize("generation", [1, 4])
def test_what_is_not_newer_is_answered_and_ignored(generation: int) -> None:
    verdict, link = pushed(known(), generation=generation)
    assert (verdict.status, verdict.accepted, link) == (200, False, known())


@pytest.mark.parametrize("offered", [True, False])
def test_an_exit_wish_without_an_offer_is_refused_and_the_rest_applies(offered: bool) -> None:
    verdict, link = pushed(known(exit_offered=offered, remote_exit_relay_active=True), use_as_exit_relay=True, permissions={"outbound": {}})
    assert verdict.status == (200 if offered else 409)
    assert link is not None
    assert link.remote_exit_relay_active == offered
    assert (link.remote_generation, link.permissions["outbound"]) == (5, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"shares": ["files"]},
        {"exit_offered": "yes"},
        {"exit_offered": 1},
        {"generation": True},
        {"generation": "6"},
        {"generation": 0},
        {"generation": -1},
        {"generation": 2**63},
        {"from_cell": "Cell B"},
        {"permissions": {}},
        {"permissions": {"outbound": {}, "inbound": {"files": True}}},
        {"permissions": {"outbound": {f"s{number}": True for number in range(peer_sync.MOST_SERVICES + 1)}}},
        {"permissions": {"outbound": ["files"]}},
        {"permissions": {"outbound": {"files": "yes"}}},
        {"permissions": {"outbound": {"the files": True}}},
    ],
)
def test_a_payload_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        peer_sync.check_payload({**MESSAGE, **changes})


@pytest.mark.parametrize("missing", MESSAGE)
def test_a_payload_with_a_field_missing_is_refused(missing: str) -> None:
    with pytest.raises(BadInput, match="exactly the fields"):
        peer_sync.check_payload({key: value for key, value in MESSAGE.items() if key != missing})


@pytest.mark.parametrize("message", [None, [], "text", 5])
def test_a_payload_that_is_no_object_is_refused(message: object) -> None:
    with pytest.raises(BadInput, match="an object"):
        peer_sync.check_payload(message)


def test_a_new_content_gets_a_new_generation_and_the_same_one_keeps_it() -> None:
    link = known()
    generations = []
    for content in (True, True, False, True):
        message = {**MESSAGE, "exit_offered": content}
        peer_sync.mint(link, message)
        generations.append(message["generation"])
    assert generations == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("answer", "pending", "status"),
    [
        ({"status": 200, "generation": 3, "reason": ""}, False, 200),
        ({"status": 200, "generation": 2, "reason": ""}, True, 200),
        ({"status": 403, "generation": 0, "reason": "no"}, True, 403),
        ({"status": 409, "generation": 3, "reason": "no offer"}, True, 409),
        (None, True, None),
    ],
)
def test_a_push_is_pending_until_the_other_side_has_stored_it(answer: dict[str, Any] | None, pending: bool, status: int | None) -> None:
    link = known(generation=3, pending_push=True, remote_exit_offered=True)
    peer_sync.acknowledge(link, answer, "now")
    assert (link.pending_push, link.last_push_status) == (pending, status)
    assert link.remote_exit_offered == (status != 409)


def test_an_answer_that_something_later_has_overtaken_is_not_taken_for_a_failure() -> None:
    """The cell's own timer has told generation 6 while a run waited for the answer to 5."""
    link = known(generation=6, last_push_status=200)
    before = copy.deepcopy(link)
    peer_sync.acknowledge(link, {"status": 200, "generation": 5, "reason": ""}, "now")
    assert link == before
    link.pending_push = True
    peer_sync.acknowledge(link, {"status": 200, "generation": 5, "reason": ""}, "now")
    assert link.pending_push, "of what is not told yet an answer to something earlier says nothing"


def test_a_reinstalled_sender_continues_from_the_generation_that_the_other_side_knows() -> None:
    link = known(generation=1, minted="something", pending_push=True)
    peer_sync.acknowledge(link, {"status": 200, "generation": 40, "reason": ""}, "now")
    message = copy.deepcopy(MESSAGE)
    peer_sync.mint(link, message)
    assert (message["generation"], link.pending_push) == (41, True)


@pytest.mark.parametrize(("auth", "mac_ok", "status"), [("hmac", None, 403), ("address", None, 200), ("address", False, 403), ("address", True, 200)])
def test_only_a_link_without_a_key_can_do_without_a_signature_and_only_if_told_so(auth: str, mac_ok: bool | None, status: int) -> None:
    assert pushed(known(sync_auth=auth), Evidence("tunnel", "pic-cellb", "10.0.1.1", mac_ok))[0].status == status


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 60000, b"\xff\xfe", b"[]", b"null", b"1" * 60000, b'{"from_cell": "cellb"}'])
def test_a_body_that_is_no_payload_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        peer_sync.parse_push(body)


def test_a_push_is_read_as_it_was_written() -> None:
    assert peer_sync.parse_push(peer_sync.render_push(MESSAGE)) == MESSAGE
