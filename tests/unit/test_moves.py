# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell that is dialled elsewhere from now on: cells of other owners hear it through the tunnel, from that cell alone, and before the tunnel changes."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts import claims, signing
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.verdicts import Watched
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import Delivery, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import exchange, redial, spool
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import Device, Peer, made_key
from ansible_collections.pic.cells.tests.unit.world import World, program

STATE = "/var/lib/pic"
PSK = made_key("of both")


def owners_cell(name: str, number: int) -> dict[str, Any]:
    return {"cell_endpoint": f"{name}.example.net", "cell_networks": [f"10.{number}.0.1/24"]}


@pytest.fixture
def owners(tmp_path: Path) -> tuple[World, World]:
    """Return the worlds of two owners whose cells, near and far, are linked; each carries to the other what goes through the tunnel."""
    near, far = (World(tmp_path / name, {name: owners_cell(name, number)}) for name, number in (("near", 1), ("far", 2)))
    for world, name, number, other in ((near, "far", 2, far), (far, "near", 1, near)):
        world.site()
        (host,) = world.hosts.values()
        host.dns.update({"near.example.net": ["192.0.2.1"], "far.example.net": ["192.0.2.2"], "other.example.net": ["192.0.2.9"]})
        world.elsewhere = dict(other.hosts)
        other.site()
        said = {"name": name, "public_key": other.public_key(name), "networks": [f"10.{number}.0.0/24"], "address": [f"10.{number}.0.1"]}
        invitation = json.dumps({**said, "endpoint": f"{name}.example.net:51821", "api_url": f"http://10.{number}.0.1:8088"})
        (own,) = world.hosts
        world.job("link", cell=own, remote_cell=name, invitation=invitation, preshared_key=PSK)
    for world in (near, far):
        world.site()
        world.reset()
    return near, far


def test_a_new_endpoint_is_told_before_the_tunnel_changes(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    run = near.site()
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51821"
    assert far["far"].wg["pic-near"].peers[near.public_key("near")].endpoint == "192.0.2.9:51821"
    assert run.warnings() == []
    program(near["near"], "replay", send=functools.partial(near.carry, "near"))  # it is known there
    assert "moved" not in near.link("near", "far")
    near.reset()
    assert (near.site().changed, near.steps()) == ([], {})


def test_a_new_port_is_told_while_the_old_one_still_answers(owners: tuple[World, World]) -> None:
    near, far = owners
    ports: list[int] = []

    def carry(pushes: Mapping[str, Push]) -> dict[str, Any]:
        ports.append(near["near"].wg["pic-far"].port)
        return World.carry(near, "near", pushes)

    near.carry = lambda _sender, pushes: carry(pushes)  # type: ignore[method-assign]
    near.inventory["near"]["cell_links"] = [{"name": "far", "listen_port": 51999}]
    near.site()
    assert ports[0] == 51821
    assert near["near"].wg["pic-far"].port == 51999
    assert far.link("far", "near")["endpoint"] == "near.example.net:51999"


def test_the_port_that_a_router_forwards_is_told(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"].update(cell_endpoint="192.0.2.9", cell_links=[{"name": "far", "endpoint_port": 40000}])
    near.site()
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:40000"


def test_who_is_away_is_told_later(owners: tuple[World, World]) -> None:
    near, far = owners
    near.elsewhere = {}
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    run = near.site()
    assert any("'far' does not know yet that this one is dialled at 192.0.2.9:51821 (not reached)" in warning for warning in run.warnings())
    assert near.link("near", "far")["moved"] == "192.0.2.9:51821"
    near.elsewhere = dict(far.hosts)
    for _time in range(2):  # it is heard, and then known
        program(near["near"], "replay", send=functools.partial(near.carry, "near"))
    assert "moved" not in near.link("near", "far")
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51821"


def test_check_mode_says_it_and_tells_nobody(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    run = near.site(check=True)
    assert any("is to hear that this cell is dialled at 192.0.2.9:51821" in json.dumps(result.get("diff")) for result in run.results.values())
    assert far.link("far", "near")["endpoint"] == "near.example.net:51821"


def test_an_upgrade_and_a_run_that_moves_nothing_tell_nothing(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"]["cell_services"] = [{"name": "files", "address": "10.1.0.1", "port": 443, "protocol": "tcp"}]
    near.site()
    assert "moved" not in near.record("near")["links"][0]
    assert far.steps() == {}


@pytest.mark.parametrize(
    "body",
    [
        {"name": "near", "count": 1, "endpoint": "10.1.0.1:51821"},  # in the tunnel itself
        {"name": "near", "count": 1, "endpoint": "192.0.2.9:51821\nPostUp = id"},
        {"name": "near", "count": 1, "endpoint": "x" * 5000},
        {"name": "other", "count": 1, "endpoint": "192.0.2.9:51821"},
        {"name": "near", "count": 1, "endpoint": "192.0.2.9:51821", "networks": ["0.0.0.0/0"]},
        {"name": "near", "count": 1, "endpoint": None},
        ["near"],
        *({"name": "near", "count": 1, "endpoint": f"{place}:51821"} for place in ("203.0.113.11", "172.17.0.1", "172.17.0.5", "192.168.1.1", "192.168.1.255")),
        {"name": "near", "count": 1, "endpoint": "[2001:db8:113::11]:51821"},
    ],
)
def test_nothing_but_where_it_is_dialled_follows_from_an_announcement(owners: tuple[World, World], body: Any) -> None:
    near, far = owners
    far["far"].add_link("docker0", "172.17.0.1/16")
    far["far"].add_link("lan0", "192.168.1.7/24")
    raw = json.dumps(body).encode()
    key = signing.claim_key(PSK, near.public_key("near"), far.public_key("far")) or ""
    before = far.link("far", "near")
    delivery = Delivery("pic-near", "10.1.0.1", signing.sign_push(key, raw), raw)
    far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(delivery))
    exchange.take_in(far["far"], STATE)
    assert {key: value for key, value in far.link("far", "near").items() if key not in ("judged_claim", "heard")} == before


def test_a_name_counts_only_from_this_cells_owner(owners: tuple[World, World]) -> None:
    """Whoever answers for it could keep the cell waiting, and change it once it was judged."""
    near, far = owners
    near.inventory["near"]["cell_endpoint"] = "other.example.net"
    remedy = "set endpoint: other.example.net:51821 for link 'near' in cell_links"
    for check in (True, False):
        assert [warning for warning in near.site(check=check).warnings() if remedy in warning], "the owner hears whom to ask"
    assert ["getent", "ahosts", "other.example.net"] not in far["far"].log, "it is not even looked up"
    assert far.link("far", "near")["endpoint"] == "near.example.net:51821"
    out = program(near["near"], "replay", send=functools.partial(near.carry, "near"))[1]
    assert remedy in out and near.link("near", "far")["moved"] == "other.example.net:51821"
    far.inventory["far"]["cell_links"] = [{"name": "near", "endpoint": "other.example.net:51821"}]
    far.site()
    for _time in range(3):  # what was announced with that count counts no more
        program(near["near"], "replay", send=functools.partial(near.carry, "near"))
    assert "moved" not in near.link("near", "far")


@pytest.mark.parametrize(("interface", "source", "signed"), [("eth0", "10.1.0.1", True), ("pic-near", "10.1.0.7", True), ("pic-near", "10.1.0.1", False)])
def test_nobody_else_moves_a_link(owners: tuple[World, World], interface: str, source: str, signed: bool) -> None:
    near, far = owners
    raw = claims.render_announcement({"name": "near", "count": 1, "endpoint": "192.0.2.66:51821"})
    key = signing.claim_key(PSK, near.public_key("near"), far.public_key("far")) or ""
    signature = signing.sign_push(key, raw) if signed else "00" * 32
    far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(Delivery(interface, source, signature, raw)))
    exchange.take_in(far["far"], STATE)
    assert far.link("far", "near")["endpoint"] == "near.example.net:51821"


def test_a_push_and_an_announcement_that_wait_together_both_count(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"].update(cell_endpoint="192.0.2.9", cell_links=[{"name": "far", "offer_exit": True}])
    taken = exchange.take_in
    waits: list[Any] = []
    exchange.take_in = lambda *given, **_options: waits.append(given) or taken.__globals__["Restored"]()  # type: ignore[assignment]
    try:
        near.site()
    finally:
        exchange.take_in = taken
    assert len(far["far"].list(exchange.SPOOL)) == 2
    exchange.take_in(far["far"], STATE)
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51821"
    assert far.link("far", "near")["remote_exit_offered"] is True


def test_an_announcement_that_the_other_root_refuses_is_not_taken_for_told(owners: tuple[World, World]) -> None:
    near, far = owners
    far["far"].add_link("docker9", "10.1.0.77/24")  # collides with the link, whoever was first
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    near.site()
    assert near.link("near", "far")["moved"] == "192.0.2.9:51821"
    far["far"].drop_link("docker9")
    for _time in range(2):
        program(near["near"], "replay", send=functools.partial(near.carry, "near"))
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51821"
    assert "moved" not in near.link("near", "far")


def test_the_port_that_a_router_forwards_is_told_by_whatever_run_comes_first(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"].update(cell_endpoint="192.0.2.9", cell_links=[{"name": "far", "endpoint_port": 40000}])
    third = json.dumps({"name": "third", "public_key": made_key("third"), "networks": ["10.3.0.0/24"], "address": ["10.3.0.1"], "endpoint": "192.0.2.3:51821"})
    near.job("link", cell="near", remote_cell="third", invitation=third, preshared_key=made_key("of the third"))
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:40000"
    near.inventory["near"]["cell_links"][0]["endpoint_port"] = 40001
    near.site()
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:40001"


def test_a_link_that_was_led_back_to_the_old_port_is_dialled_where_it_was_announced(owners: tuple[World, World]) -> None:
    """What the other cell still sends from the old port leads WireGuard back there."""
    near, far = owners
    near.inventory["near"]["cell_endpoint"] = "192.0.2.77"
    near.site()
    key = near.public_key("near")
    assert far["far"].wg["pic-near"].peers[key].endpoint == "192.0.2.77:51821"
    far["far"].wg["pic-near"].peers[key].endpoint = "192.0.2.1:51821"
    assert follow(far["far"], [False]) == ["192.0.2.1:51821", "192.0.2.77:51821"]


SWITCHED = "systemctl start --no-block pic-cell-redial@pic-near.service"


def tell_a_port(near: World, far: World, port: int = 51999) -> FakeHost:
    """Let the near cell tell that its link has another port, while the session is used; return the far cell's host."""
    host = far["far"]
    host.wg["pic-near"].peers[near.public_key("near")].handshake = int(host.now)
    near.inventory["near"]["cell_links"] = [{"name": "far", "listen_port": port}]
    near.site()
    return host


def follow(host: FakeHost, answers: list[bool | None], lead: Mapping[int, str] | None = None, meanwhile: Callable[[], object] = lambda: None) -> list[str]:
    """Have the far cell look where the near one answers; return where it was dialled at each question.

    answers: None where nothing could be asked. lead: where the near cell sends from, by question. meanwhile: is called at each.
    """
    peer, dialled = next(iter(host.wg["pic-near"].peers.values())), list[str]()

    def ask(items: Iterable[Watched], _patience: float) -> Mapping[str, Any]:
        dialled.append(str(peer.endpoint))
        meanwhile()
        answer = answers[len(dialled) - 1] if len(dialled) <= len(answers) else True
        peer.endpoint = (lead or {}).get(len(dialled), peer.endpoint)
        return {} if answer is None else {item.name: {} if answer else None for item in items}

    with mock.patch.object(host, "ask_exits", ask):
        assert program(host, "redial", "pic-near")[0] == 0
    return dialled


def test_a_new_port_is_dialled_as_soon_as_the_old_one_does_not_answer(owners: tuple[World, World]) -> None:
    """Behind NAT the far cell alone can find the new port, and it hears of it before it is there."""
    near, far = owners
    host = tell_a_port(near, far)
    peer = host.wg["pic-near"].peers[near.public_key("near")]
    assert peer.endpoint == "192.0.2.1:51821", "the old port answers still"
    assert SWITCHED in host.steps
    host.reset()
    old, new = "192.0.2.1:51821", "192.0.2.1:51999"
    assert follow(host, [True, True, None, False]) == [*[old] * 4, new]
    assert [step for step in host.steps if redial.NOTES not in step] == [f"wg set pic-near peer {near.public_key('near')} endpoint {new}"]
    assert follow(host, []) == [new], "it is there: nothing is left to look at"
    assert program(host, "check")[0] == 0


def test_a_link_is_dialled_by_turns_until_it_answers_at_the_new_port(owners: tuple[World, World]) -> None:
    near, far = owners
    host, old, new = tell_a_port(near, far), "192.0.2.1:51821", "192.0.2.1:51999"
    assert follow(host, [True, False, False, True, False, True, False], {6: old}) == [old, old, new, old, old, new, old, new]


def test_what_else_the_far_cell_hears_meanwhile_ends_no_look(owners: tuple[World, World]) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    path = f"{STATE}/cell_links.json"

    def hear() -> None:
        host.write(path, re.sub(r'"remote_generation": (\d+)', lambda found: f'"remote_generation": {int(found[1]) + 1}', host.read(path) or ""))

    assert len(follow(host, [True, True, False], meanwhile=hear)) == 4


def test_another_announcement_is_followed_instead(owners: tuple[World, World]) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    asked: list[int] = []

    def announce() -> None:
        asked.append(1)
        if len(asked) == 2:
            near.inventory["near"]["cell_links"][0]["listen_port"] = 52000
            near.site()

    assert follow(host, [True, False, False, True, False], meanwhile=announce)[-1] == "192.0.2.1:52000"


def test_a_port_that_never_comes_is_not_looked_for_for_ever(owners: tuple[World, World]) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    assert len(follow(host, [False] * 500)) == redial.GIVEN_UP
    host.now += redial.HOUR
    assert len(follow(host, [True] * 500)) == redial.FOLLOWED


def test_one_answer_does_not_begin_the_look_anew(owners: tuple[World, World]) -> None:
    near, far = owners
    assert len(follow(tell_a_port(near, far), [*[False] * 20, True, *[False] * 500])) == 20 + 1 + 1 + redial.GIVEN_UP - 20


def test_another_announcement_refills_nothing(owners: tuple[World, World]) -> None:
    """Whoever answers all questions, is never where it says, and says something else each time would keep this cell asking for ever."""
    near, far = owners
    host = tell_a_port(near, far)
    assert len(follow(host, [True] * 500)) == redial.FOLLOWED
    tell_a_port(near, far, 52000)
    assert follow(host, [True] * 500) == []
    assert host.wg["pic-near"].peers[near.public_key("near")].endpoint == "192.0.2.1:52000", "it is dialled there, and nobody is asked"
    for each in (near["near"], host):
        each.now += redial.HOUR
    tell_a_port(near, far, 52001)
    assert len(follow(host, [True] * 500)) == redial.FOLLOWED


@pytest.mark.parametrize("text", ["", "[]", '{"near": 7}', '{"near": ["x", 1]}', '{"near": [9e99, 240]}', "\x00" * 64])
def test_what_is_no_note_of_questions_is_none(owners: tuple[World, World], text: str) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    host.write(f"{redial.NOTES}/pic-near.json", text)
    assert len(follow(host, [True] * 500)) == redial.FOLLOWED


def test_after_the_look_a_link_is_where_it_was(owners: tuple[World, World]) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    follow(host, [False] * 500)
    assert host.wg["pic-near"].peers[near.public_key("near")].endpoint == "192.0.2.1:51821"


@pytest.mark.parametrize("led", ["127.0.0.1", "10.2.0.9", "192.168.1.1", "192.168.1.7", "203.0.113.11"])
def test_a_name_of_the_other_owner_leads_into_no_network_of_this_host(owners: tuple[World, World], led: str) -> None:
    """Whoever has the name can change it after it was judged."""
    near, far = owners
    host, old = tell_a_port(near, far), "192.0.2.1:51821"
    host.add_link("lan0", "192.168.1.7/24")
    host.dns["near.example.net"] = [led]
    assert set(follow(host, [False] * 500)) == {old}
    assert redial.redial(host, STATE, "pic-near") == []
    host.dns["near.example.net"] = ["192.0.2.7"]
    assert redial.redial(host, STATE, "pic-near"), "elsewhere it may"


@pytest.mark.parametrize(("place", "taken"), [("192.168.1.6", True), ("192.168.1.7", False), ("192.168.1.255", False), ("192.168.2.6", False)])
def test_a_cell_on_the_same_lan_may_move_within_it(owners: tuple[World, World], place: str, taken: bool) -> None:
    near, far = owners
    for network in (1, 2):
        far["far"].add_link(f"lan{network}", f"192.168.{network}.7/24")
    far.job("link", cell="far", remote_cell="near", invitation=json.dumps(given_anew(near, far, "192.168.1.5:51821")))
    near.inventory["near"]["cell_endpoint"] = place
    near.site()
    assert far["far"].wg["pic-near"].peers[near.public_key("near")].endpoint == f"{place if taken else '192.168.1.5'}:51821"


def given_anew(near: World, far: World, endpoint: str) -> dict[str, Any]:
    """Return an invitation of the near cell with another endpoint."""
    link = far.link("far", "near")
    return {"name": "near", "public_key": near.public_key("near"), "networks": link["networks"], "address": link["address"], "endpoint": endpoint}


def test_what_is_refused_leaves_what_was_taken_over(owners: tuple[World, World]) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    near.inventory["near"]["cell_endpoint"] = "203.0.113.11"  # of the far cell itself
    near.site()
    assert far.link("far", "near")["endpoint"] == "near.example.net:51999"
    assert follow(host, [True, False]) == ["192.0.2.1:51821"] * 2 + ["192.0.2.1:51999"], "the first one is still looked for"
    said = program(near["near"], "replay", send=functools.partial(near.carry, "near"))[1]
    assert "cannot be those of a link there" in said, "why is told as well"
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    near.site()
    assert far.link("far", "near")["endpoint"] == "192.0.2.9:51999" and "refused_claim" not in far.link("far", "near")


def test_a_link_that_goes_meanwhile_ends_the_look(owners: tuple[World, World]) -> None:
    near, far = owners
    host = tell_a_port(near, far)
    far.job("unlink", cell="far", remote_cell="near")
    host.wg["pic-near"] = Device(peers={"gone": Peer()})
    assert follow(host, []) == []


def test_a_session_that_is_not_used_is_dialled_at_the_new_port_at_once(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"]["cell_links"] = [{"name": "far", "listen_port": 51999}]
    near.site()
    assert far["far"].wg["pic-near"].peers[near.public_key("near")].endpoint == "192.0.2.1:51999"
