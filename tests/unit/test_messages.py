# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a push may change, and who may send one."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import peer_sync
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Evidence
from ansible_collections.pic.cells.plugins.module_utils.records.model import LAST, Cell, Link, Peer, State

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
    state = State(Cell("cella"), {"cellb": link}, {"phone": Peer("phone", addresses=["10.0.0.2"], route_via=["cellb"])})
    message = peer_sync.payload(state, "cellb", "OWN", state.exits_in_use())
    assert (message["from_cell"], message["from_public_key"], message["generation"]) == ("cella", "OWN", 0)
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
        {"resolvers": "10.0.1.53"},
        {"resolvers": [53]},
        {"resolvers": ["10.0.1.53", None]},
        {"resolvers": {"10.0.1.53": True}},
        {"resolvers": ["10.0.1.0/24"]},
        {"resolvers": ["10.0.1.53 "]},
        {"resolvers": ["fd00:b::53%pic-cellb"]},
        {"resolvers": ["FD00:B::53"]},
        {"resolvers": ["10.0.1.53", "10.0.1.54"]},
        {"resolvers": ["10.0.1.53"], "more": True},
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


@pytest.mark.parametrize(
    ("resolvers", "expected"),
    [
        ([], {4: None, 6: None}),
        (["10.0.1.53"], {4: "10.0.1.53", 6: None}),
        (["fd00:b::53", "10.0.1.53"], {4: "10.0.1.53", 6: "fd00:b::53"}),
        (["10.0.0.1", "fd00:a::1"], {4: None, 6: None}),
        (["192.168.7.1", "2620:fe::fe"], {4: None, 6: None}),
    ],
    ids=["none", "IPv4", "both", "of the receiver itself", "of others"],
)
def test_a_resolver_counts_within_the_networks_of_its_cell_alone(resolvers: list[str], expected: dict[int, str | None]) -> None:
    link = known()
    link.networks = ["10.0.1.0/24", "fd00:b::/64"]
    found = pushed(link, resolvers=resolvers)[1]
    assert found is not None
    assert {family: found.resolver(family) for family in (4, 6)} == expected


def test_a_resolver_stays_known_while_nothing_is_offered_and_goes_with_an_offer_that_has_none() -> None:
    link = pushed(known(), resolvers=["10.0.1.53"])[1]
    assert link is not None
    pushed(link, generation=6, exit_offered=False)
    assert link.resolver(4) == "10.0.1.53"
    pushed(link, generation=7)
    assert link.resolver(4) is None


def test_a_resolver_is_told_with_an_offer_alone() -> None:
    link = Link("cellb", "KEY", ["10.0.1.0/24"])
    state = State(Cell("cella", resolver=["10.0.0.53"]), {"cellb": link})
    assert "resolvers" not in peer_sync.payload(state, "cellb", "OWN", state.exits_in_use())
    link.exit_offered = True
    assert peer_sync.payload(state, "cellb", "OWN", state.exits_in_use())["resolvers"] == ["10.0.0.53"]


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


# Each way that a push can end, from a push that waits unless it says otherwise: what the answer changes of the record

LINK: dict[str, Any] = {"generation": 7, "minted": "content", "pending_push": True, "remote_exit_offered": True}
FAR = 2**32


def told(status: int, generation: int, **more: Any) -> dict[str, Any]:
    """Return the answer of another cell."""
    return {"status": status, "generation": generation, "reason": "so it is", **more}


@pytest.mark.parametrize(
    ("before", "answer", "changed"),
    [
        pytest.param({}, told(200, 7), {"pending_push": False, "last_push_status": 200}, id="stored"),
        pytest.param({}, None, {"last_push_error": "not reached"}, id="not reached"),
        pytest.param({}, told(403, 0), {"last_push_status": 403, "last_push_error": "so it is"}, id="refused"),
        pytest.param({}, told(403, 7), {"last_push_status": 403, "last_push_error": "so it is"}, id="refused, though it knows the generation"),
        pytest.param({}, told(200, 6), {"last_push_status": 200}, id="an earlier one known"),
        pytest.param(
            {}, told(409, 7), {"last_push_status": 409, "last_push_error": "so it is", "remote_exit_offered": False}, id="the wish for an exit refused"
        ),
        pytest.param(
            {}, told(409, 7, overtaken=True), {"last_push_status": 409, "last_push_error": "so it is", "minted": None}, id="refused, while an offer was made"
        ),
        pytest.param(
            {},
            told(200, 7, ignored=True),
            {"last_push_status": 200, "last_push_error": "the other cell knows this generation already", "minted": None},
            id="the generation known as something else",
        ),
        pytest.param({"pending_push": False}, told(200, 7, ignored=True), {"last_push_status": 200}, id="said once more, and known"),
        pytest.param(
            {}, told(409, 7, ignored=True), {"last_push_status": 409, "last_push_error": "so it is", "remote_exit_offered": False}, id="refused, known"
        ),
        pytest.param(
            {},
            told(200, 8),
            {"generation": 8, "minted": None, "last_push_status": 200, "last_push_error": "the other cell knows a later generation"},
            id="a later one known",
        ),
        pytest.param({}, told(403, 8), {"last_push_status": 403, "last_push_error": "so it is"}, id="refused with a later one"),
        pytest.param(
            {},
            told(200, LAST - 1),
            {"generation": LAST - 1, "minted": None, "last_push_status": 200, "last_push_error": "the other cell knows a later generation"},
            id="the last but one known",
        ),
        pytest.param(
            {},
            told(200, LAST),
            {"last_push_status": 200, "last_push_error": "the other cell knows a generation that no cell reaches"},
            id="one known that no cell reaches",
        ),
        pytest.param({"generation": FAR + 7}, told(200, 7), {"last_push_status": 200}, id="as far behind as can be"),
        pytest.param(
            {"generation": FAR + 8},
            told(200, 7),
            {"generation": 7, "minted": None, "last_push_status": 200, "last_push_error": "the other cell knows only far earlier generations"},
            id="too far behind",
        ),
        pytest.param({"generation": FAR + 8}, told(403, 7), {"last_push_status": 403, "last_push_error": "so it is"}, id="refused, and too far behind"),
        pytest.param({"pending_push": False}, told(200, 6), {}, id="an answer that something later has overtaken"),
        pytest.param({"pending_push": False}, told(403, 6), {"pending_push": True, "last_push_status": 403, "last_push_error": "so it is"}, id="refused later"),
        pytest.param({"pending_push": False}, None, {"pending_push": True, "last_push_error": "not reached"}, id="not reached once more"),
    ],
)
def test_an_answer_changes_this_of_the_record_and_nothing_else(before: dict[str, Any], answer: dict[str, Any] | None, changed: dict[str, Any]) -> None:
    link = known(**{**LINK, **before})
    was = asdict(link)
    peer_sync.acknowledge(link, answer, "now")
    assert {key: value for key, value in asdict(link).items() if value != was[key]} == ({**changed, "last_push_at": "now"} if changed else {})


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        pytest.param({"last_push_error": "not reached"}, None, id="not reached again"),
        pytest.param({"last_push_status": 403, "last_push_error": "so it is"}, told(403, 0), id="refused again"),
        pytest.param({"pending_push": False, "last_push_status": 200}, told(200, 7), id="known again"),
    ],
)
def test_a_push_that_ends_in_the_same_way_again_changes_nothing(before: dict[str, Any], answer: dict[str, Any] | None) -> None:
    link = known(**{**LINK, **before})
    peer_sync.acknowledge(link, answer, "later")
    assert link == known(**{**LINK, **before})


@pytest.mark.parametrize(
    ("generation", "minted", "expected", "pending"),
    [
        pytest.param(0, None, 1, True, id="the first"),
        pytest.param(7, "another", 8, True, id="new content"),
        pytest.param(7, "this", 7, False, id="the same content"),
        pytest.param(LAST - 1, "another", LAST, True, id="the last one"),
        pytest.param(LAST, "this", 1 + 0x1234567, True, id="the last one is over, with the same content"),
        pytest.param(LAST, "another", 1 + 0x1234567, True, id="the last one is over"),
        pytest.param(LAST + 5, "this", 1 + 0x1234567, True, id="beyond the last one"),
    ],
)
def test_a_payload_gets_this_generation(monkeypatch: pytest.MonkeyPatch, generation: int, minted: str | None, expected: int, pending: bool) -> None:
    content = "1234567" + "0" * 9
    monkeypatch.setattr(peer_sync, "digest", lambda message: content)
    link, message = known(generation=generation, minted=content if minted == "this" else minted), copy.deepcopy(MESSAGE)
    peer_sync.mint(link, message)
    assert (message["generation"], link.generation, link.minted, link.pending_push) == (expected, expected, content, pending)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"generation": 9}, True),
        ({"from_cell": "cellc"}, False),
        ({"from_public_key": "OTHER"}, False),
        ({"permissions": {"outbound": {}}}, False),
        ({"exit_offered": False}, False),
        ({"use_as_exit_relay": True}, False),
        ({"resolvers": ["10.0.1.53"]}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_a_payload_says_has_a_fingerprint_and_its_generation_does_not_count(changes: dict[str, Any], same: bool) -> None:
    assert (peer_sync.digest({**MESSAGE, **changes}) == peer_sync.digest(MESSAGE)) == same


def test_the_fingerprint_is_the_same_in_each_version_since_records_hold_it() -> None:
    assert peer_sync.digest(MESSAGE) == "816c137ee406a304"


@pytest.mark.parametrize(
    ("remote", "generation", "reason", "accepted"),
    [
        pytest.param(4, 4, "not newer than the known generation", False, id="known"),
        pytest.param(4, 5, "taken over", True, id="the next"),
        pytest.param(4, 4 + FAR, "taken over", True, id="as far ahead as can be"),
        pytest.param(4, 5 + FAR, "too far ahead of the known generation", False, id="too far ahead"),
        pytest.param(LAST - 1, LAST, "taken over", True, id="the last"),
        pytest.param(LAST, 1, "taken over", True, id="anew after the last"),
        pytest.param(LAST, FAR, "taken over", True, id="anew after the last, far"),
        pytest.param(LAST, FAR + 1, "too far ahead of the known generation", False, id="anew after the last, too far"),
    ],
)
def test_a_push_is_judged_by_its_generation(remote: int, generation: int, reason: str, accepted: bool) -> None:
    link = known()
    link.remote_generation = remote
    verdict, _link = pushed(link, generation=generation)
    assert (verdict.status, verdict.reason, verdict.accepted, verdict.relay) == (200, reason, accepted, False)


@pytest.mark.parametrize(
    ("offered", "wish", "verdict"),
    [
        (True, True, peer_sync.Verdict(200, "taken over", True, True)),
        (True, False, peer_sync.Verdict(200, "taken over", True, False)),
        (False, False, peer_sync.Verdict(200, "taken over", True, False)),
        (False, True, peer_sync.Verdict(409, "no exit is offered to this cell; everything else was accepted", True, False)),
    ],
)
def test_a_wish_for_an_exit_is_judged_by_what_is_offered(offered: bool, wish: bool, verdict: peer_sync.Verdict) -> None:
    found, link = pushed(known(exit_offered=offered), use_as_exit_relay=wish)
    assert found == verdict
    assert link is not None
    assert (link.remote_exit_relay_active, link.remote_exit_offered, link.last_remote_update_at) == (verdict.relay, True, "now")


def test_the_refused_are_told_no_more_than_that() -> None:
    reasons = {pushed(known(), Evidence("tunnel"))[0].reason, pushed(None)[0].reason, pushed(known(), from_public_key="OTHER")[0].reason}
    assert reasons == {"the sender is not the linked cell that it claims to be"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("text", None, id="no object"),
        pytest.param({}, None, id="no status"),
        pytest.param({"status": "200"}, None, id="a status in letters"),
        pytest.param({"status": True}, None, id="a status that is true"),
        pytest.param({"status": 99}, None, id="a status too low"),
        pytest.param({"status": 600}, None, id="a status too high"),
        pytest.param({"status": 100}, {"status": 100, "generation": 0, "reason": "status 100"}, id="the lowest status"),
        pytest.param({"status": 599}, {"status": 599, "generation": 0, "reason": "status 599"}, id="the highest status"),
        pytest.param({"status": 200, "generation": 5, "reason": "well"}, {"status": 200, "generation": 5, "reason": "well"}, id="all of it"),
        pytest.param({"status": 200, "generation": 1}, {"status": 200, "generation": 1, "reason": "status 200"}, id="the first generation"),
        pytest.param({"status": 200, "generation": -1}, {"status": 200, "generation": 0, "reason": "status 200"}, id="a generation below none"),
        pytest.param({"status": 200, "generation": True}, {"status": 200, "generation": 0, "reason": "status 200"}, id="a generation that is true"),
        pytest.param({"status": 200, "generation": "5"}, {"status": 200, "generation": 0, "reason": "status 200"}, id="a generation in letters"),
        pytest.param({"status": 200, "generation": 2**53}, {"status": 200, "generation": 2**53, "reason": "status 200"}, id="the last generation"),
        pytest.param({"status": 200, "generation": 2**53 + 1}, {"status": 200, "generation": 0, "reason": "status 200"}, id="a generation beyond the last"),
        pytest.param({"status": 200, "reason": "x" * 300}, {"status": 200, "generation": 0, "reason": "x" * 200}, id="a long reason"),
        pytest.param({"status": 200, "reason": 5}, {"status": 200, "generation": 0, "reason": "status 200"}, id="a reason that is no text"),
        pytest.param(
            {"status": 200, "ignored": True, "overtaken": True, "more": True},
            {"status": 200, "generation": 0, "reason": "status 200", "ignored": True, "overtaken": True},
            id="ignored and overtaken",
        ),
        pytest.param({"status": 200, "ignored": 1, "overtaken": "yes"}, {"status": 200, "generation": 0, "reason": "status 200"}, id="not true enough"),
    ],
)
def test_of_an_answer_only_this_is_heard(answer: object, expected: dict[str, Any] | None) -> None:
    assert peer_sync.check_answer(answer) == expected


@pytest.mark.parametrize("generation", [1, LAST])
def test_the_first_and_the_last_generation_are_ones(generation: int) -> None:
    assert peer_sync.check_payload({**MESSAGE, "generation": generation})["generation"] == generation


def test_as_many_services_as_may_be_shared_can_be_told() -> None:
    outbound = {f"s{number}": True for number in range(peer_sync.MOST_SERVICES)}
    assert peer_sync.check_payload({**MESSAGE, "permissions": {"outbound": outbound}})["permissions"] == {"outbound": outbound}


def test_the_body_of_a_push_is_the_same_in_each_version_since_it_is_signed() -> None:
    assert peer_sync.render_push({"b": 1, "a": {"d": 2, "c": True}}) == b'{"a": {"c": true, "d": 2}, "b": 1}'
