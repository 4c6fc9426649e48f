# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell that gets other networks: cells of other owners hear it through the tunnel, and take over what their owners have set aside for it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.networks import interface_of
from ansible_collections.pic.cells.plugins.module_utils.parts import claims
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import FILE, FOLDER, parse_view
from ansible_collections.pic.cells.tests.unit import test_moves
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.netfilter import Packet, verdict
from ansible_collections.pic.cells.tests.unit.test_backup import backup, restore
from ansible_collections.pic.cells.tests.unit.test_gaps import entry
from ansible_collections.pic.cells.tests.unit.world import FORWARDING, FakeHost, Refusal, World, call, program, three_cells

STATE = test_moves.STATE
OLD, NEW = ["10.1.0.0/24"], ["10.1.9.0/24"]
ASKED = (
    "Cell 'near' asks to have the networks 10.1.9.0/24 with 10.1.9.1 instead of 10.1.0.0/24 with 10.1.0.1, and may not be reached until you agree. "
    "To agree, state accept_networks: [10.1.9.0/24] for the link 'near' in cell_links, and run pic.cells.site. Where networks or address of that link are "
    "stated there, state networks: [10.1.9.0/24] and address: [10.1.9.1] instead."
)
UNTOLD = "Cell 'far' knows this cell as 10.1.0.1, and may not know yet that its networks are 10.1.9.0/24. It is told again every minute."


@pytest.fixture(scope="module")
def _owners(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    linked: tuple[World, World] = test_moves.owners.__wrapped__(tmp_path_factory.mktemp("owners"))  # type: ignore[attr-defined]
    return linked


@pytest.fixture
def owners(_owners: tuple[World, World]) -> tuple[World, World]:
    """Return the worlds of two owners whose cells, near and far, are linked; each carries to the other what goes through the tunnel."""
    return fork(*_owners)


def fork(near: World, far: World) -> tuple[World, World]:
    """Return copies of two worlds that go their own way."""
    near, far = near.fork(), far.fork()
    near.elsewhere, far.elsewhere = dict(far.hosts), dict(near.hosts)
    return near, far


def accept(far: World, *networks: str, **more: Any) -> Any:
    """Let the far cell's owner set networks aside that the near cell may take by itself."""
    far.inventory["far"]["cell_links"] = [{"name": "near", "accept_networks": list(networks), **more}]
    return far.site()


def renumber(near: World, *networks: str, **options: Any) -> Any:
    """Give the near cell other networks, in a run of its owner."""
    near.inventory["near"].setdefault("cell_links", [{"name": "far"}])
    near.inventory["near"]["cell_networks"] = list(networks or ("10.1.9.1/24",))
    return near.site(**options)


def replay(near: World) -> str:
    """Let the near cell tell what is not known yet, as its timer does; return what it says."""
    return program(near["near"], "replay", send=functools.partial(near.carry, "near"))[1]


def minute(near: World, far: World) -> None:
    """Let the timers of both cells have their turn."""
    for host in (near["near"], far["far"]):
        program(host, "restore")
    replay(near)


def peer(world: World, own: str, other: str) -> Any:
    (found,) = world[own].wg[f"pic-{other}"].peers.values()
    return found


def settled(near: World, far: World, networks: list[str] | None = None) -> None:
    """Assert that both cells know the same, are as their records say, and that another run of each changes nothing."""
    assert far.link("far", "near")["networks"] == (networks or NEW)
    assert set(peer(far, "far", "near").allowed) == set(networks or NEW)
    assert "known_as" not in near.link("near", "far")
    for world, name in ((near, "near"), (far, "far")):
        assert program(world[name], "check")[0] == 0, program(world[name], "check")[1]
        world.reset()
        run = world.site()
        assert (run.changed, world.steps(), run.warnings()) == ([], {}, [])
    near.inventory["near"]["cell_links"] = [{"name": "far", "offer_exit": True}]
    near.site()
    assert far.link("far", "near")["remote_exit_offered"] is True, "what it tells arrives"
    far.inventory["far"].setdefault("cell_links", [{"name": "near"}])[0]["offer_exit"] = True
    far.site()
    assert near.link("near", "far")["remote_exit_offered"] is True


def test_networks_that_were_set_aside_are_taken_over_in_one_run(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    assert renumber(near).warnings() == []
    assert (far.link("far", "near")["networks"], far.link("far", "near")["address"]) == (NEW, ["10.1.9.1"])
    assert far.link("far", "near")["remote_api_url"] == "http://10.1.9.1:8088"
    assert near["near"].links["pic-far"].addresses == ["10.1.9.1/32"]
    settled(near, far)


def test_networks_that_nobody_has_set_aside_wait_and_change_nothing(owners: tuple[World, World]) -> None:
    near, far = owners
    before = far.link("far", "near")
    run = renumber(near)
    after = far.link("far", "near")
    assert {key: after[key] for key in before} == before
    assert peer(far, "far", "near").allowed == OLD
    assert not [route for route in far["far"].routes if "10.1.9" in route.dst]
    for command in ("check", "status"):
        assert f"warning: {ASKED}\n" in program(far["far"], command)[1]
        assert f"warning: {UNTOLD}" in program(near["near"], command)[1]
    assert "asks to have the networks 10.1.9.0/24, and you have not agreed" in program(far["far"], "status")[1]
    assert "knows this cell as 10.1.0.1, and may not know its networks yet" in program(near["near"], "status")[1]
    assert any("'far' does not know yet that this one has the networks 10.1.9.0/24 (its owner has to agree" in warning for warning in run.warnings())
    assert near["near"].links["pic-far"].addresses == ["10.1.0.1/32", "10.1.9.1/32"], "the address that is known there is kept, to tell by"
    waits = "pending on near: far knows this cell as 10.1.0.1, and may not know its networks yet"
    for world, name, words in ((near, "near", waits), (far, "far", ASKED)):
        assert program(world[name], "check")[0] == 0
        world.reset()
        run = world.site()
        assert (run.changed, world.steps()) == ([], {})
        assert any(words in line for line in run.said[name]), "every run says it"


@pytest.mark.parametrize(
    "stated",
    [{"accept_networks": NEW}, {"networks": NEW, "address": ["10.1.9.1"]}, {"networks": NEW}, {"accept_networks": ["10.0.0.0/16", "10.1.0.0/16"]}],
)
def test_the_owner_agrees_and_it_is_taken_over_with_the_next_replay(owners: tuple[World, World], stated: dict[str, Any]) -> None:
    near, far = owners
    renumber(near)
    far.inventory["far"]["cell_links"] = [{"name": "near", **stated}]
    far.site()
    assert ASKED not in program(far["far"], "check")[1]
    for _time in range(2):
        minute(near, far)
    assert "asked_networks" not in far.link("far", "near")
    assert near["near"].links["pic-far"].addresses == ["10.1.9.1/32"]
    settled(near, far)


def test_what_is_told_meanwhile_goes_by_the_address_that_is_known(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    near.inventory["near"]["cell_links"] = [{"name": "far", "offer_exit": True}]
    near.site()
    assert far.link("far", "near")["remote_exit_offered"] is True
    far.inventory["far"]["cell_links"] = [{"name": "near", "offer_exit": True}]
    far.site()
    assert near.link("near", "far")["remote_exit_offered"] is True


@pytest.mark.parametrize("what", ["question", "answer"])
@pytest.mark.parametrize("number", range(4))
def test_whatever_is_lost_on_the_way_it_comes_to_the_same(owners: tuple[World, World], what: str, number: int) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    carried, sent = near.carry, list[int]()

    def carry(sender: str, pushes: Mapping[str, Push]) -> dict[str, Any]:
        sent.append(1)
        if len(sent) <= number:
            return carried(sender, pushes)
        return dict.fromkeys(pushes) if what == "question" else dict.fromkeys(carried(sender, pushes))  # it arrives, and no answer does

    near.carry = carry  # type: ignore[method-assign]
    renumber(near)
    near.carry = carried  # type: ignore[method-assign]
    minute(near, far)
    settled(near, far)


def test_a_run_that_dies_at_any_step_comes_to_the_same(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    whole = fork(near, far)
    renumber(whole[0])
    steps = len(whole[0]["near"].steps)
    for number in range(1, steps + 1):
        died, other = fork(near, far)
        host = died["near"]
        host.fail_at, host.kill, host.late = number, True, number % 2 == 0
        with pytest.raises(Killed):
            renumber(died)
        host.fail_at, host.kill = None, False
        for _time in range(2):
            minute(died, other)
        if "10.1.9.1" not in (host.read(f"{STATE}/cell.json") or ""):
            renumber(died)  # it had not begun
        assert other.link("far", "near")["networks"] == NEW, host.steps[-1]
        assert "known_as" not in died.link("near", "far"), host.steps[-1]
        assert program(other["far"], "check")[0] == 0


def test_a_far_cell_that_dies_at_any_step_comes_to_the_same(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.elsewhere = {}
    renumber(near)
    near.elsewhere = dict(far.hosts)
    whole = fork(near, far)
    whole[1].reset()
    replay(whole[0])
    for number in range(1, len(whole[1]["far"].steps) + 1, 3):
        mine, died = fork(near, far)
        host = died["far"]
        host.reset()
        host.fail_at, host.kill, host.late = number, True, number % 2 == 0
        with pytest.raises(Killed):
            replay(mine)
        host.fail_at, host.kill = None, False
        for _time in range(2):
            minute(mine, died)
        assert died.link("far", "near")["networks"] == NEW
        assert peer(died, "far", "near").allowed == NEW
        assert "known_as" not in mine.link("near", "far")
        assert program(host, "check")[0] == 0


def test_networks_that_change_twice_before_they_are_known(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    renumber(near, "10.1.8.1/24")
    assert near.link("near", "far")["known_as"] == ["10.1.0.1", "10.1.9.1"]
    assert far.link("far", "near")["asked_networks"] == ["10.1.8.0/24"]
    renumber(near, "10.1.0.1/24")
    assert "asked_networks" not in far.link("far", "near"), "it has gone back to what is known"
    settled(near, far, OLD)


@pytest.mark.parametrize("more", ["10.1.9.1/24", "10.0.9.1/24", "fd00:9::1/64"])
def test_a_network_more_leaves_the_others_alone(owners: tuple[World, World], more: str) -> None:
    near, far = owners
    accept(far, "10.1.9.0/24", "10.0.9.0/24", "fd00:9::/64")
    for networks in ((more, "10.1.0.1/24"), ("10.1.0.1/24", more) if ":" in more else ("10.1.0.1/24",), ("10.1.0.1/24", more)):
        renumber(near, *networks)
        assert "known_as" not in near.link("near", "far"), networks
        assert len(far.link("far", "near")["networks"]) == len(networks)
    settled(near, far, ["10.1.0.0/24", str(interface_of(more).network)])


def test_a_family_that_is_given_up_waits_for_the_owner_too(owners: tuple[World, World]) -> None:
    """What the other owner expects, or a device's exit, may hang on it."""
    near, far = owners
    accept(far, "10.1.0.0/16", "fd00:9::/64")
    renumber(near, "10.1.0.1/24", "fd00:9::1/64")
    settled(near, far, ["10.1.0.0/24", "fd00:9::/64"])
    near.inventory["near"]["cell_links"] = [{"name": "far"}]
    renumber(near)
    for _time in range(2):
        minute(near, far)
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24", "fd00:9::/64"]
    for command in ("check", "status"):
        assert "To agree, state networks: [10.1.9.0/24] and address: [10.1.9.1] for the link 'near'" in program(far["far"], command)[1]
    far.inventory["far"]["cell_links"] = [{"name": "near", "networks": NEW, "address": ["10.1.9.1"]}]
    far.site()
    for _time in range(2):
        minute(near, far)
    settled(near, far)


def test_a_receiver_alone_cannot_say_that_networks_are_known(owners: tuple[World, World]) -> None:
    near, _far = owners
    near.carry = lambda _sender, pushes: {  # type: ignore[method-assign]
        name: {"status": 200, "generation": 0, "reason": claims.TAKEN_OVER, "ignored": True} if "10.1.0.1" in push.sources else None
        for name, push in pushes.items()
    }
    renumber(near)
    replay(near)
    assert near.link("near", "far")["known_as"] == ["10.1.0.1"]


def test_flows_to_the_old_address_that_began_in_a_gap_end(owners: tuple[World, World]) -> None:
    near, _far = owners
    renumber(near)
    host, kept = near["near"], entry("10.2.0.1", "10.1.0.1", 8088)
    near.inventory["near"]["cell_admin_networks"] = ["10.2.0.0/24"]
    near.site()
    host.entries = [kept, entry("10.2.0.1", "10.1.0.1", 22), entry("10.2.0.9", "10.1.0.1", 8088)]
    host.tables[host.default, 4]["filter"].rules["PIC-IN"].clear()
    program(host, "restore")
    assert host.entries == [kept]


@pytest.mark.parametrize("less", ["10.1.0.1/25", "10.1.0.0/24"])
def test_nothing_changes_by_itself_where_nothing_is_set_aside(owners: tuple[World, World], less: str) -> None:
    near, far = owners
    renumber(near, *(["10.1.0.1/25"] if less.endswith("25") else ["10.1.0.1/24", "10.1.9.1/24"]))
    assert far.link("far", "near")["networks"] == OLD
    assert "To agree, state accept_networks: [10.1.0.0/2" in program(far["far"], "status")[1]


def test_another_address_in_the_networks_that_it_has_is_taken_where_something_is_set_aside(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, *OLD)
    renumber(near, "10.1.0.7/24")
    assert far.link("far", "near")["address"] == ["10.1.0.7"]
    minute(near, far)
    settled(near, far, OLD)


def test_a_cell_that_is_managed_from_a_linked_one_can_still_agree(owners: tuple[World, World]) -> None:
    near, far = owners
    far.inventory["far"].update(cell_admin_networks=OLD)
    accept(far, *NEW)
    renumber(near, "10.1.0.1/24", "10.1.9.1/24")
    settled(near, far, [*OLD, *NEW])


def test_another_prefix_is_told_too(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    renumber(near, "10.1.0.1/23")
    settled(near, far, ["10.1.0.0/23"])


def test_check_mode_foresees_it_and_tells_nobody(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.reset()
    predicted = renumber(near, check=True)
    assert far.link("far", "near")["networks"] == OLD
    assert near.steps() == {}
    assert any("is to hear that the networks of this cell are 10.1.9.0/24" in line for line in predicted.said["near"])
    assert renumber(near).diffs() == predicted.diffs()


def test_an_endpoint_that_is_refused_holds_up_no_networks(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.inventory["near"]["cell_endpoint"] = "other.example.net"
    renumber(near)
    replay(near)
    assert "known_as" not in near.link("near", "far")
    assert (far.link("far", "near")["networks"], far.link("far", "near")["endpoint"]) == (NEW, "near.example.net:51821")
    assert near.link("near", "far")["moved"] == "other.example.net:51821"


def test_networks_that_wait_hold_up_no_endpoint_and_undo_none(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    renumber(near)
    replay(near)
    assert (far.link("far", "near")["networks"], far.link("far", "near")["endpoint"]) == (OLD, "192.0.2.9:51821")
    assert "moved" not in near.link("near", "far")
    assert far.link("far", "near")["asked_networks"] == NEW
    near.inventory["near"]["cell_endpoint"] = "192.0.2.8"
    near.site()
    replay(near)
    assert (far.link("far", "near")["endpoint"], far.link("far", "near")["asked_networks"]) == ("192.0.2.8:51821", NEW)


def test_both_wait_for_root_side_by_side(owners: tuple[World, World], monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.inventory["near"]["cell_endpoint"] = "192.0.2.9"
    taken = test_moves.exchange.take_in
    monkeypatch.setattr(test_moves.exchange, "take_in", lambda *_given, **_options: test_moves.exchange.Restored())
    renumber(near)
    assert len(far["far"].list(test_moves.exchange.SPOOL)) == 2
    monkeypatch.undo()
    taken(far["far"], STATE)
    assert (far.link("far", "near")["networks"], far.link("far", "near")["endpoint"]) == (NEW, "192.0.2.9:51821")


def test_a_cell_that_nobody_dials_tells_its_networks(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near["near"].write(f"{STATE}/cell.json", json.dumps({**near.record("near", "cell.json"), "endpoint": None}))
    del near.inventory["near"]["cell_endpoint"]
    renumber(near)
    settled(near, far)


@pytest.mark.parametrize("status", [404, 409, 400, 403])
def test_an_older_program_at_the_other_end_is_left_alone(owners: tuple[World, World], status: int) -> None:
    near, far = owners
    carried = near.carry

    def carry(sender: str, pushes: Mapping[str, Push]) -> dict[str, Any]:
        refused = {"status": status, "generation": 0, "reason": f"HTTP status {status}"}
        others = carried(sender, {name: push for name, push in pushes.items() if push.path != claims.PATH})
        return {**others, **{name: dict(refused) for name, push in pushes.items() if push.path == claims.PATH}}

    near.carry = carry  # type: ignore[method-assign]
    before = far["far"].text()
    run = renumber(near)
    assert far["far"].text() == before
    assert any("older" in warning or f"HTTP status {status}" in warning for warning in run.warnings())
    for _time in range(2):
        minute(near, far)
    assert near.link("near", "far")["known_as"] == ["10.1.0.1"]
    near.carry = carried  # type: ignore[method-assign]
    accept(far, "10.1.0.0/16")
    for _time in range(2):
        minute(near, far)
    settled(near, far)


def drops(host: FakeHost, came_by: str, source: str, port: int = 8088, to: str = "10.1.0.1") -> bool:
    return verdict(host, Packet(source, to, came_by, port=port)) != "ACCEPT"


def test_the_old_address_is_there_for_what_that_cell_tells_and_for_nothing_else(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"].update(
        cell_services=[{"name": "files", "address": "10.1.9.1", "port": 443, "protocol": "tcp"}],
        cell_links=[{"name": "far", "share": ["files"]}],
    )
    near.elsewhere = {}
    renumber(near)
    third = {"name": "third", "public_key": made_key("third"), "networks": ["10.3.0.0/24"], "address": ["10.3.0.1"], "endpoint": "192.0.2.3:51821"}
    near.job("link", cell="near", remote_cell="third", invitation=json.dumps(third), preshared_key=made_key("of the third"))
    near.inventory["near"].update(cell_admin_networks=["10.2.0.0/24", "10.3.0.0/24"])
    near.site()
    host = near["near"]
    assert not drops(host, "pic-far", "10.2.0.1")
    assert drops(host, "pic-far", "10.2.0.9"), "no other address of that cell"
    assert drops(host, "pic-far", "10.2.0.1", 22) and not drops(host, "pic-far", "10.2.0.1", 22, "10.1.9.1"), "where it is managed from there is the new one"
    assert drops(host, "pic-far", "10.2.0.1", 443) and not drops(host, "pic-far", "10.2.0.1", 443, "10.1.9.1")
    view = parse_view(host.read(f"{STATE}/{FOLDER}/{FILE}") or "")
    assert (view.addresses, view.links["far"].known_as, view.links["third"].known_as) == (["10.1.9.1"], ["10.1.0.1"], [])
    for port in (22, 443, 8088):
        assert drops(host, "pic-third", "10.3.0.1", port)
        assert drops(host, "wg0", "10.1.9.2", port)
    assert drops(host, "eth0", "203.0.113.5", 8088)
    near.elsewhere = dict(far.hosts)
    accept(far, *NEW)
    for _time in range(2):
        minute(near, far)
    assert "10.1.0.1" not in host.text()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"cell_peers": [{"name": "phone", "public_key": made_key("phone"), "addresses": ["10.1.0.1"]}]}, "Address 10.1.0.1 of peer 'phone'"),
        ({"cell_services": [{"name": "files", "address": "10.1.0.1", "port": 443, "protocol": "tcp"}]}, "Address 10.1.0.1 of service 'files'"),
        (
            {"cell_links": [{"name": "far"}, {"name": "x", "public_key": made_key("x"), "networks": ["10.1.0.0/24"]}]},
            "10.1.0.0/24 of link 'x' overlaps 10.1.0.1",
        ),
        (
            {"cell_peers": [{"name": "router", "public_key": made_key("r"), "addresses": ["10.1.9.7"], "networks": ["10.1.0.0/25"]}]},
            "10.1.0.0/25 of peer 'router' overlaps 10.1.0.1",
        ),
    ],
)
def test_nobody_gets_an_address_by_which_a_cell_still_knows_this_one(owners: tuple[World, World], variables: dict[str, Any], sentence: str) -> None:
    near, _far = owners
    near.elsewhere = {}
    networks = ["10.1.0.2/24"] if "phone" in str(variables) else ["10.1.9.1/24"]
    before = dict(near.inventory["near"])
    for first in (False, True):
        near.inventory["near"] = {**before, "cell_links": [{"name": "far"}], **({} if first else variables)}
        if not first:
            near.reset()
            with pytest.raises(Refusal, match=sentence):
                renumber(near, *networks)
            assert near.steps() == {}
        else:
            renumber(near, *networks)
            near.inventory["near"].update(variables)
            with pytest.raises(Refusal, match=sentence):
                near.site()
    near.job("unlink", cell="near", remote_cell="far")  # it goes with the link
    near.inventory["near"]["cell_links"] = [link for link in near.inventory["near"]["cell_links"] if link["name"] != "far"]
    near.site()
    assert program(near["near"], "check")[0] == 0


def test_the_old_address_is_put_back_as_all_else_is(owners: tuple[World, World]) -> None:
    near, _far = owners
    renumber(near)
    host = near["near"]
    before = host.text()
    host.by_hand("ip -batch -", "addr del 10.1.0.1/32 dev pic-far\n")
    assert "10.1.0.1" in program(host, "check")[1]
    program(host, "restore")
    assert host.text() == before
    assert program(host, "check")[0] == 0


def test_a_lan_may_have_the_network_that_was_given_up(owners: tuple[World, World]) -> None:
    near, _far = owners
    renumber(near)
    near["near"].add_link("lan0", "10.1.0.99/24")
    assert near.site().changed == []
    assert program(near["near"], "check")[0] == 0


def test_an_unlink_while_it_waits_takes_all_of_it_along(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    far.job("unlink", cell="far", remote_cell="near")
    assert "10.1.9" not in far["far"].text()
    near.job("unlink", cell="near", remote_cell="far")
    assert "10.1.0.1" not in near["near"].text()
    for world, name in ((near, "near"), (far, "far")):
        assert program(world[name], "check")[0] == 0


def test_an_uninstall_while_it_waits_leaves_nothing(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    for world, name in ((near, "near"), (far, "far")):
        assert not call("pic_cell_uninstall", world[name], {"name": name}).get("failed")
        assert not [line for line in world[name].text().splitlines() if "pic-" in line and "/var/lib/pic.removed" not in line and "sysctl.d" not in line]


def test_a_restored_cell_goes_on_where_it_was(owners: tuple[World, World], tmp_path: Path) -> None:
    near, far = owners
    renumber(near)
    document = backup(near, "near")
    renumber(near, "10.1.8.1/24")  # what it announces has a later count than the backup knows
    dns = dict(near["near"].dns)
    host = near.hosts["near"] = FakeHost(tmp_path / "new", "new near")
    host.dns.update(dns)
    host.files.update({path: (0o644, text) for path, text in FORWARDING.items()})
    far.elsewhere = dict(near.hosts)
    assert not restore(host, document, "near").get("failed")
    accept(far, *NEW)
    renumber(near)
    for _time in range(4):
        minute(near, far)
    settled(near, far)


def test_a_link_that_its_owner_does_not_list_comes_to_the_same(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.inventory["near"]["cell_links"] = []
    renumber(near)
    assert far.link("far", "near")["networks"] == NEW
    settled(near, far)


def test_a_link_on_the_devices_interface_has_no_address_to_tell_it_by(owners: tuple[World, World]) -> None:
    near, far = owners
    near.inventory["near"]["cell_links"] = [{"name": "far", "interface": "wg0"}]
    near.site()
    assert any("its link is on the devices' interface 'wg0'" in warning and "link them anew" in warning for warning in renumber(near).warnings())
    assert "known_as" not in near.link("near", "far")
    assert far.link("far", "near")["networks"] == OLD
    near.reset()
    assert (near.site().changed, near.steps()) == ([], {})


def test_what_keeps_a_tunnel_from_being_made_anew_keeps_nothing_from_being_told(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    near.inventory["near"]["cell_links"] = [{"name": "far", "offer_exit": True}]
    near.elsewhere = {}
    near.site()
    near.elsewhere = dict(far.hosts)
    accept(far, *NEW)
    near["near"].add_link("docker9", "10.2.0.77/24")  # collides with the link, whoever was first
    for _time in range(2):
        assert program(near["near"], "replay", send=functools.partial(near.carry, "near"))[::2] == (0, "")
    assert "known_as" not in near.link("near", "far")
    assert far.link("far", "near")["remote_exit_offered"] is True
    near["near"].drop_link("docker9")
    program(near["near"], "restore")
    settled(near, far)


def test_an_answer_about_what_was_before_counts_for_nothing(owners: tuple[World, World]) -> None:
    """While a replay waits for it, another run can change what is to be told."""
    near, far = owners
    accept(far, "10.1.0.0/16")
    carried = near.carry
    near.carry = lambda sender, pushes: dict.fromkeys(carried(sender, pushes))  # type: ignore[method-assign]  # it arrives, and no answer does
    renumber(near)
    near.carry = carried  # type: ignore[method-assign]
    waiting = [True]

    def meanwhile(pushes: Mapping[str, Push]) -> dict[str, Any]:
        answers = carried("near", pushes)
        if waiting.pop() if waiting else False:
            near.elsewhere = {}
            renumber(near, "10.1.8.1/24")
            near.elsewhere = dict(far.hosts)
        return answers

    program(near["near"], "replay", send=meanwhile)
    for _time in range(2):
        minute(near, far)
    settled(near, far, ["10.1.8.0/24"])


def test_cells_of_one_inventory_are_told_by_it(tmp_path: Path) -> None:
    world = World(tmp_path, three_cells())
    world.site()
    world.inventory["cellb"].update(
        cell_networks=["10.0.9.1/24", "fd00:b::1/64"], cell_peers=[{**world.inventory["cellb"]["cell_peers"][0], "addresses": ["10.0.9.2"]}]
    )
    renumbered: Callable[[], Any] = lambda: world.link("cella", "cellb")["networks"]  # noqa: E731
    world.site("cellb")
    assert world.link("cella", "cellb")["asked_networks"] == ["10.0.9.0/24", "fd00:b::/64"]
    assert renumbered() == ["10.0.1.0/24", "fd00:b::/64"]
    assert world.site().warnings() == []
    assert renumbered() == ["10.0.9.0/24", "fd00:b::/64"]
    assert "asked_networks" not in world.link("cella", "cellb")
    for _time in range(2):  # it is heard, and then known
        program(world["cellb"], "replay", send=functools.partial(world.carry, "cellb"))
    assert "known_as" not in world.link("cellb", "cella")
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})


def test_cells_that_the_run_tells_itself_are_announced_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, three_cells())
    world.site()
    world.inventory["cellc"]["cell_networks"] = ["10.0.9.1/24"]
    run = world.site()
    assert world.link("cella", "cellc")["networks"] == ["10.0.9.0/24"]
    assert not any("known_as" in link or "asked_networks" in link for host in world.hosts for link in world.record(host)["links"])
    assert run.warnings() == []
