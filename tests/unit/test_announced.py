# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a linked cell, or a receiver that was taken over, can make of announcements: nothing but what the owner has set aside, and never what was before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import claims, signing
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import FILE, FOLDER, Delivery, parse_view, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import exchange, spool
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import receive_claim
from ansible_collections.pic.cells.plugins.module_utils.records.model import LAST
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key
from ansible_collections.pic.cells.tests.unit.netfilter import Packet, verdict
from ansible_collections.pic.cells.tests.unit.test_moves import PSK, STATE
from ansible_collections.pic.cells.tests.unit.test_renumbered import NEW, OLD, _owners, accept, minute, owners, renumber, replay, settled
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, program

__all__ = ["_owners", "owners"]
PLACE = {"networks": NEW, "address": ["10.1.9.1"], "api_url": "http://10.1.9.1:8088"}


def delivery(near: World, far: World, said: Any, source: str) -> Delivery:
    """Return what the near cell's root has signed, as the far cell's receiver hands it over."""
    raw = said if isinstance(said, bytes) else json.dumps(said, sort_keys=True).encode()
    key = signing.claim_key(PSK, near.public_key("near"), far.public_key("far")) or ""
    return Delivery("pic-near", source, signing.sign_push(key, raw), raw)


def announce(near: World, far: World, source: str = "10.1.0.1", **said: Any) -> None:
    """Have the far cell's receiver hand over an announcement, whatever it thinks of it itself."""
    brought = delivery(near, far, {"name": "near", "count": 1, **said}, source)
    for networks in (False, True):
        far["far"].files[spool.claim_path(exchange.SPOOL, "near", networks)] = (0o600, render_delivery(brought))
        exchange.take_in(far["far"], STATE)


def recorded(near: World) -> list[bytes]:
    """Keep all that the near cell announces from now on."""
    bodies: list[bytes] = []
    carried = near.carry

    def carry(sender: str, pushes: Mapping[str, Push]) -> dict[str, Any]:
        bodies.extend(push.body for push in pushes.values() if push.path == claims.PATH)
        return carried(sender, pushes)

    near.carry = carry  # type: ignore[method-assign]
    return bodies


def judged(far: World) -> dict[str, Any]:
    """Return the far cell's record of the near one without what is noted of announcements."""
    noted = ("judged_claim", "refused_claim", "judged_place", "heard", "asked_networks", "asked_address")
    return {key: value for key, value in far.link("far", "near").items() if key not in noted}


@pytest.mark.parametrize(
    "said",
    [
        {"networks": ["10.2.0.0/24"], "address": ["10.2.0.9"]},  # the far cell's own
        {"networks": ["10.0.0.0/15"], "address": ["10.1.9.1"]},
        {"networks": ["8.8.8.0/24"], "address": ["8.8.8.8"]},
        {"networks": ["0.0.0.0/0"], "address": ["10.1.9.1"]},
        {"networks": NEW, "address": ["10.1.0.1"]},
        {"networks": NEW, "address": []},
        {"networks": [], "address": ["10.1.9.1"]},
        {"networks": NEW},
        {"address": ["10.1.9.1"]},
        {"networks": NEW, "address": ["10.1.9.1"], "api_url": None},
        {"networks": [f"10.1.{number}.0/24" for number in range(9)], "address": ["10.1.1.1"]},
        {"networks": ["10.1.9.0/24\nPostUp = id"], "address": ["10.1.9.1"]},
        {"networks": ["198.18.0.0/24"], "address": ["198.18.0.1"]},
        {"networks": "10.1.9.0/24", "address": ["10.1.9.1"]},
        {"networks": NEW, "address": ["10.1.9.1"], "public_key": PSK},
        {"networks": NEW, "address": ["10.1.9.1"], "endpoint": "192.0.2.9:51821"},
        {"networks": NEW, "address": ["10.1.9.1"], "api_url": "http://192.0.2.1:80"},
        {"networks": NEW, "address": ["10.1.9.1"], "api_url": "http://10.1.0.1:8088"},
        {"networks": NEW, "address": ["10.1.9.1"], "allow_public_networks": True},
        {"networks": NEW, "address": ["10.1.9.1"], "mtu": 1280},
        {"networks": [7], "address": [None]},
        {"name": "far", "networks": NEW, "address": ["10.1.9.1"]},
    ],
)
def test_what_no_cell_may_claim_is_refused_however_much_is_set_aside(owners: tuple[World, World], said: dict[str, Any]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16", "10.3.0.0/16")
    before = judged(far)
    announce(near, far, **{"api_url": f"http://{(said.get('address') or ['10.1.9.1'])[0]}:8088", **said})
    assert judged(far) == before
    assert program(far["far"], "check")[0] == 0


@pytest.mark.parametrize("count", [True, False, 0, -1, LAST + 1, 10**40, 1.0, 1e300, "1", None, [1], {}, float("nan")])
@pytest.mark.parametrize("about", [PLACE, {"endpoint": "192.0.2.9:51821"}])
def test_a_count_that_is_none_is_refused(owners: tuple[World, World], count: Any, about: dict[str, Any]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    before = judged(far)
    announce(near, far, **about, count=count)
    assert judged(far) == before
    assert "heard" not in far.link("far", "near")


def test_an_announcement_without_a_count_is_refused(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    before = judged(far)
    for said in ({**PLACE, "name": "near"}, {"name": "near", "endpoint": "192.0.2.9:51821"}, b"{", b"[" * 60000, b'{"count": ' + b"9" * 60000 + b"}", b"\xff"):
        far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(delivery(near, far, said, "10.1.0.1")))
        exchange.take_in(far["far"], STATE)
    assert judged(far) == before


def test_older_networks_that_a_taken_over_receiver_brings_again_are_not_looked_at(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    bodies = recorded(near)
    renumber(near)
    old = bodies[0]
    renumber(near, "10.1.8.1/24")
    assert far.link("far", "near")["networks"] == ["10.1.8.0/24"]
    before = far["far"].text()
    far["far"].files[spool.claim_path(exchange.SPOOL, "near", True)] = (0o600, render_delivery(delivery(near, far, old, "10.1.8.1")))
    exchange.take_in(far["far"], STATE)
    assert far["far"].text() == before
    settled(near, far, ["10.1.8.0/24"])


def test_an_older_endpoint_that_a_taken_over_receiver_brings_again_is_not_looked_at(owners: tuple[World, World]) -> None:
    near, far = owners
    bodies = recorded(near)
    for endpoint in ("192.0.2.8", "192.0.2.9"):
        near.inventory["near"]["cell_endpoint"] = endpoint
        near.site()
    before = far["far"].text()
    for body in (bodies[0], json.dumps({**json.loads(bodies[-1]), "endpoint": "192.0.2.7:51821"}).encode()):  # older, and another one with that count
        far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(delivery(near, far, body, "10.1.0.1")))
        exchange.take_in(far["far"], STATE)
        assert far["far"].text() == before
    # Nor after its owner has stated something: what was heard stays known.
    far.inventory["far"]["cell_links"] = [{"name": "near", "endpoint": "192.0.2.9:51821"}]
    far.site()
    far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(delivery(near, far, bodies[0], "10.1.0.1")))
    exchange.take_in(far["far"], STATE)
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51821"


def test_what_was_refused_or_waits_cannot_be_brought_again_either(owners: tuple[World, World]) -> None:
    near, far = owners
    bodies = recorded(near)
    renumber(near)
    renumber(near, "10.1.8.1/24")
    renumber(near, "10.1.0.1/24")
    accept(far, "10.1.0.0/16")
    for body in bodies[:-1]:
        far["far"].files[spool.claim_path(exchange.SPOOL, "near", True)] = (0o600, render_delivery(delivery(near, far, body, "10.1.0.1")))
        exchange.take_in(far["far"], STATE)
    assert far.link("far", "near")["networks"] == OLD


def test_the_receiver_says_what_is_known_and_the_sender_goes_on_from_there(owners: tuple[World, World]) -> None:
    """A cell whose records were brought back from a backup has an older count than the other one has heard."""
    near, far = owners
    accept(far, "10.1.0.0/16")
    far["far"].write(
        f"{STATE}/cell_links.json",
        json.dumps({"links": [{**far.link("far", "near"), "heard": dict.fromkeys(("endpoint", "networks"), "77 0123456789abcdef")}]}),
    )
    program(far["far"], "restore")
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    renumber(near)
    minute(near, far)
    replay(near)
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51821"
    settled(near, far)


@pytest.mark.parametrize("generation", [LAST, 2**40, 0])
def test_an_answer_with_an_absurd_count_raises_nothing(owners: tuple[World, World], generation: int) -> None:
    near, far = owners
    carried = near.carry
    near.carry = lambda _sender, pushes: {key: {"status": 409, "generation": generation, "reason": "x"} for key in pushes}  # type: ignore[method-assign]
    renumber(near)
    replay(near)
    assert near.link("near", "far")["told"] == 1
    near.carry = carried  # type: ignore[method-assign]
    accept(far, "10.1.0.0/16")
    replay(near)
    settled(near, far)


def test_a_count_that_is_used_up_ends_announcements_and_nothing_else(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    announce(near, far, count=LAST, **PLACE)
    assert far.link("far", "near")["networks"] == NEW
    announce(near, far, source="10.1.9.1", **{**PLACE, "networks": ["10.1.8.0/24"], "address": ["10.1.8.1"], "api_url": "http://10.1.8.1:8088"}, count=LAST)
    assert far.link("far", "near")["networks"] == NEW
    assert program(far["far"], "check")[0] == 0


def test_the_receiver_answers_what_is_older_without_handing_it_over(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    bodies = recorded(near)
    renumber(near)
    renumber(near, "10.1.8.1/24")
    view = parse_view(far["far"].read(f"{STATE}/{FOLDER}/{FILE}") or "")
    count = json.loads(bodies[-1])["count"]
    for body in (bodies[0], json.dumps({**json.loads(bodies[-1]), "api_url": "http://10.1.8.1:9"}).encode()):
        answer = receive_claim(view, delivery(near, far, body, "10.1.8.1"), "2026-01-01T00:00:00Z")
        assert answer == ("near", 409, {"applied": False, "generation": count, "reason": claims.OUTDATED})


def test_networks_that_were_set_aside_and_are_somebody_elses_by_now_are_not_taken_over(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    far["far"].add_link("docker9", "10.1.9.77/24")
    run = renumber(near)
    assert far.link("far", "near")["networks"] == OLD
    assert any("the owner of that cell finds the reason in its journal" in warning for warning in run.warnings())
    assert "docker9" not in "".join(run.warnings()), "what else the far cell has is its owner's alone"
    assert program(far["far"], "check")[0] == 0, "what nobody has taken is no damage"
    far["far"].drop_link("docker9")
    for _time in range(2):
        minute(near, far)
    settled(near, far)


def test_what_the_cell_is_managed_from_is_never_taken(owners: tuple[World, World]) -> None:
    near, far = owners
    far.inventory["far"]["cell_admin_networks"] = ["10.1.9.128/25"]
    for networks in (NEW, ["10.1.0.0/16"]):
        far.reset()
        with pytest.raises(Refusal, match=r"accept_networks of link 'near'.*overlaps 10.1.9.128/25, from where this cell is managed"):
            accept(far, *networks)
        assert far.steps() == {}
    far.inventory["far"]["cell_links"] = [{"name": "near"}]
    far.site()
    renumber(near)
    with pytest.raises(Refusal, match="from where this cell is managed"):
        accept(far, *NEW)
    # Whatever the record says, root judges it again.
    record = far.record("far")
    record["links"][0]["accept_networks"] = NEW
    far["far"].write(f"{STATE}/cell_links.json", json.dumps(record))
    replay(near)
    assert far.link("far", "near")["networks"] == OLD
    far.inventory["far"]["cell_admin_networks"] = ["10.77.0.0/24"]
    accept(far, *NEW)
    far.inventory["far"]["cell_admin_networks"] = ["10.1.9.0/24"]
    with pytest.raises(Refusal, match="from where this cell is managed"):
        far.site()


LATER = [
    ({"cell_networks": ["10.2.0.1/24", "10.1.7.1/24"]}, "10.1.7.0/24"),
    ({"cell_peers": [{"name": "router", "public_key": made_key("r"), "addresses": ["10.2.0.7"], "networks": ["10.1.7.0/24"]}]}, "10.1.7.0/24"),
    ({"cell_links": [{"name": "near"}, {"name": "x", "public_key": made_key("x"), "networks": ["10.1.7.0/24"]}]}, "10.1.7.0/24"),
    ({"cell_links": [{"name": "near", "endpoint": "10.1.7.9:51821"}]}, "10.1.7.9"),
    ({"cell_links": [{"name": "near", "mtu": 1279}]}, "mtu of link 'near'"),
    ({"cell_links": [{"name": "near", "accept_networks": ["10.1.0.0/16", "10.2.0.0/24"]}]}, "10.2.0.0/24"),
    ({"cell_admin_networks": ["10.1.7.0/24"]}, "10.1.7.0/24"),
]


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize(("variables", "value"), LATER)
def test_what_its_owner_states_later_is_refused_for_what_was_set_aside_whatever_the_other_cell_has_taken(
    owners: tuple[World, World], variables: dict[str, Any], value: str, taken: bool
) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16", "fd00:9::/64")
    if taken:
        renumber(near)
        assert far.link("far", "near")["networks"] == NEW
    far.reset()
    before = dict(far.inventory["far"])
    far.inventory["far"] = {**before, **variables}
    with pytest.raises(Refusal, match=r"accept_networks|mtu|10.2.0.0/24") as refused:
        far.site()
    assert value in str(refused.value)
    assert far.steps() == {}
    far.inventory["far"] = before
    assert far.site().changed == []


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        (["10.1.0.1/16"], "accept_networks of link 'near'.*host bits"),
        (["0.0.0.0/0"], "accept_networks of link 'near'.*whole internet"),
        (["8.8.8.0/24"], "accept_networks of link 'near'.*neither private"),
        (["10.0.0.0/8"], "accept_networks of link 'near'.*wider than /16"),
        (["fd00::/40"], "accept_networks of link 'near'.*wider than /48"),
        (["198.18.4.0/24"], "accept_networks of link 'near'"),
        (["x"], "accept_networks of link 'near'.*not a network"),
    ],
)
def test_what_cannot_be_set_aside_is_refused_before_anything_changes(owners: tuple[World, World], stated: list[str], sentence: str) -> None:
    _near, far = owners
    far.reset()
    with pytest.raises(Exception, match=sentence):
        accept(far, *stated)
    assert far.steps() == {}


def test_what_was_set_aside_is_taken_back(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    assert far.link("far", "near")["accept_networks"] == ["10.1.0.0/16"]
    accept(far)
    assert "accept_networks" not in far.link("far", "near")
    renumber(near)
    assert far.link("far", "near")["networks"] == OLD
    far["far"].add_link("docker9", "10.1.9.77/24")
    far.site()


def test_an_endpoint_within_what_was_set_aside_leads_nowhere(owners: tuple[World, World]) -> None:
    """Its own run would be refused for it otherwise, for what another owner has announced."""
    near, far = owners
    accept(far, "10.1.0.0/16")
    announce(near, far, endpoint="10.1.200.1:51821")
    assert far.link("far", "near")["endpoint"] == "near.example.net:51821"
    assert far.site().changed == []


def test_an_mtu_that_the_owner_has_stated_does_not_become_too_small(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16", mtu=1200)
    renumber(near, "10.1.9.1/24", "fd00:9::1/64")
    assert far.link("far", "near")["networks"] == OLD
    assert far.site().changed == []
    with pytest.raises(Refusal, match="mtu of link 'near'"):
        accept(far, "10.1.0.0/16", "fd00:9::/64", mtu=1200)


def test_an_address_that_its_owner_still_states_ends_no_run(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    far.inventory["far"]["cell_links"] = [{"name": "near", "address": ["10.1.0.1"]}]  # what was set aside is in the record
    renumber(near)
    assert far.site().changed == []
    settled(near, far)


@pytest.mark.parametrize(("key", "value"), [("networks", OLD), ("address", ["10.1.0.1"]), ("api_url", "http://10.1.0.1:8088")])
def test_what_the_next_run_would_put_back_is_not_stated_beside_what_is_set_aside(owners: tuple[World, World], key: str, value: Any) -> None:
    _near, far = owners
    with pytest.raises(BadInput, match=f"states {key} beside accept_networks"):
        accept(far, "10.1.0.0/16", **{key: value})


def test_a_link_that_is_made_anew_begins_with_no_count(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    renumber(near)
    assert far.link("far", "near")["heard"]
    far.inventory["far"]["cell_links"] = [{"name": "near", "public_key": made_key("another"), "accept_networks": ["10.1.0.0/16"]}]
    far.site()
    assert "heard" not in far.link("far", "near")


@pytest.mark.parametrize("value", [{"networks": "1"}, {"networks": "x 0123456789abcdef"}, {"networks": 7}, {"networks": "1 0123456789abcdeg"}])
def test_a_record_with_a_count_that_is_none_is_damaged(owners: tuple[World, World], value: Any) -> None:
    _near, far = owners
    record = far.record("far")
    record["links"][0]["heard"] = value
    far["far"].write(f"{STATE}/cell_links.json", json.dumps(record))
    assert program(far["far"], "check")[0] != 0


# What a reading as a hostile cell has found


def test_a_network_of_the_host_may_have_an_address_that_another_cell_still_knows(owners: tuple[World, World]) -> None:
    near, _far = owners
    renumber(near)
    host = near["near"]
    host.add_link("lan0", "10.1.0.1/24")
    assert near.site().warnings() == []
    assert [verdict(host, Packet("10.1.0.50", "10.1.0.1", way, port=22)) for way in ("lan0", "wg0", "pic-far")] == ["ACCEPT", "DROP", "DROP"]
    assert verdict(host, Packet("10.1.0.50", "10.1.0.1", "lan0", port=8088)) == "DROP"


def test_another_address_waits_for_the_owner_where_nothing_is_set_aside(owners: tuple[World, World]) -> None:
    near, far = owners
    far.inventory["far"]["cell_links"] = [{"name": "near", "networks": OLD, "address": ["10.1.0.1"]}]
    far.site()
    renumber(near, "10.1.0.7/24")
    assert (far.link("far", "near")["address"], near.link("near", "far")["known_as"]) == (["10.1.0.1"], ["10.1.0.1"])
    assert "asks to have the networks 10.1.0.0/24 with 10.1.0.7 instead of 10.1.0.0/24 with 10.1.0.1" in " ".join(far.site().warnings())
    far.inventory["far"]["cell_links"][0]["address"] = ["10.1.0.7"]
    far.site()
    for _time in range(3):
        minute(near, far)
    assert (far.link("far", "near")["address"], near.link("near", "far").get("known_as")) == (["10.1.0.7"], None)
    assert "asks" not in program(far["far"], "status")[1]


def test_networks_that_an_owner_puts_back_are_asked_for_again(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    far.inventory["far"]["cell_links"] = [{"name": "near", "networks": OLD}]
    far.site()
    renumber(near)
    assert far.link("far", "near")["networks"] == ["10.1.9.0/24"]
    assert "asks to have the networks 10.1.9.0/24" in " ".join(far.site().warnings())
    assert far.link("far", "near")["networks"] == OLD
    assert not far.site().changed
    far.inventory["far"]["cell_links"] = [{"name": "near", "networks": ["10.1.9.0/24"], "address": ["10.1.9.1"]}]
    far.site()
    assert "asks" not in program(far["far"], "status")[1]


def test_what_no_cell_could_take_is_known_once_its_owner_has_stated_it(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near, "10.16.0.1/12")
    assert near.link("near", "far")["known_as"] == ["10.1.0.1"]
    far.inventory["far"]["cell_links"] = [{"name": "near", "networks": ["10.16.0.0/12"], "address": ["10.16.0.1"]}]
    far.site()
    for _time in range(3):
        minute(near, far)
    assert near.link("near", "far").get("known_as") is None


def test_pushes_go_by_the_address_that_was_answered(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.9.0/24")
    carry = near.carry
    near.carry = lambda sender, pushes: dict.fromkeys(carry(sender, pushes))  # the answers are lost
    renumber(near)
    near.carry = carry
    renumber(near, "10.1.8.1/24")
    near.inventory["near"]["cell_links"] = [{"name": "far", "offer_exit": True}]
    near.site()
    minute(near, far)
    assert far.link("far", "near")["remote_exit_offered"]
    assert not near.link("near", "far")["pending_push"]


def test_what_its_owner_has_replaced_is_not_brought_again(owners: tuple[World, World]) -> None:
    near, far = owners
    bodies = recorded(near)
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    near.site()
    far.inventory["far"]["cell_links"] = [{"name": "near", "endpoint": "near.example.net:51821"}]
    far.site()
    far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(delivery(near, far, bodies[-1], "10.1.0.1")))
    exchange.take_in(far["far"], STATE)
    assert far.link("far", "near")["endpoint"] == "near.example.net:51821"


def test_under_the_lock_no_cell_is_waited_for_as_long_as_it_likes(owners: tuple[World, World], monkeypatch: pytest.MonkeyPatch) -> None:
    near, _far = owners
    for number in (9, 8, 7):
        renumber(near, f"10.1.{number}.1/24")
    clock, asked = [0.0], []

    def slow(pushes: dict[str, Push]) -> dict[str, Any]:
        clock[0] += 4
        asked.append(pushes)
        return {name: {"status": 403, "generation": 0, "reason": "no"} for name in pushes}

    monkeypatch.setattr(exchange.time, "monotonic", lambda: clock[0])
    exchange.announce(near["near"], STATE, send=slow)
    assert clock[0] <= 12
    asked.clear()
    exchange.announce(near["near"], STATE, send=slow, lock=nullcontext)
    assert len(asked) == len(near.link("near", "far")["known_as"]) + 1


def test_with_another_key_nothing_counts_that_the_cell_before_has_said(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    assert far.link("far", "near")["asked_networks"]
    far.inventory["far"]["cell_links"] = [{"name": "near", "public_key": public_key(made_key("another"))}]
    far.site()
    assert not {"asked_networks", "asked_address", "heard", "judged_place"} & {key for key, value in far.link("far", "near").items() if value}
