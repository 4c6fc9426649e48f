# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell that gets other networks: cells of other owners hear it through the tunnel, and take it over as far as their owners have allowed."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts import claims, signing
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import Delivery, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import exchange, spool
from ansible_collections.pic.cells.tests.unit.test_moves import PSK, STATE, owners
from ansible_collections.pic.cells.tests.unit.world import World, program, three_cells

__all__ = ["owners"]
NEW = ["10.1.9.0/24"]
ASKED = (
    "Cell 'near' asks to have the networks 10.1.9.0/24 instead of 10.1.0.0/24 here, and is not reached there until you agree. "
    "To agree, state accept_networks: [10.1.9.0/24] for the link 'near' in cell_links, and run pic.cells.site."
)


def accept(far: World, *networks: str) -> Any:
    """Let the far cell's owner state within which networks the near cell may move its own."""
    far.inventory["far"]["cell_links"] = [{"name": "near", "accept_networks": list(networks)}]
    return far.site()


def renumber(near: World, *networks: str, **options: Any) -> Any:
    """Give the near cell other networks, in a run of its owner."""
    near.inventory["near"].setdefault("cell_links", [{"name": "far"}])
    near.inventory["near"]["cell_networks"] = list(networks or ("10.1.9.1/24",))
    return near.site(**options)


def replay(near: World) -> str:
    """Let the near cell tell what is not known yet, as its timer does; return what it says."""
    return program(near["near"], "replay", send=functools.partial(near.carry, "near"))[1]


def peer(world: World, own: str, other: str) -> Any:
    (found,) = world[own].wg[f"pic-{other}"].peers.values()
    return found


def settled(near: World, far: World) -> None:
    """Assert that both cells are as their records say, and that another run of each changes nothing."""
    for world, name in ((near, "near"), (far, "far")):
        assert program(world[name], "check")[0] == 0, program(world[name], "check")[1]
        world.reset()
        assert (world.site().changed, world.steps()) == ([], {})


def test_networks_within_what_was_allowed_are_taken_over_in_one_run(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    run = renumber(near)
    assert (far.link("far", "near")["networks"], far.link("far", "near")["address"]) == (NEW, ["10.1.9.1"])
    assert far.link("far", "near")["remote_api_url"] == "http://10.1.9.1:8088"
    assert peer(far, "far", "near").allowed == NEW
    assert run.warnings() == []
    assert "far knows the networks of near by now: 10.1.9.0/24" in run.said["near"]
    assert "known_as" not in near.link("near", "far")
    assert near["near"].links["pic-far"].addresses == ["10.1.9.1/32"]
    settled(near, far)


def test_networks_that_nobody_has_allowed_are_pending_and_change_nothing(owners: tuple[World, World]) -> None:
    near, far = owners
    before = far.link("far", "near")
    run = renumber(near)
    after = far.link("far", "near")
    assert {key: after[key] for key in before} == before
    assert peer(far, "far", "near").allowed == ["10.1.0.0/24"]
    assert not [route for route in far["far"].routes if "10.1.9" in route.dst]
    assert after["asked_networks"] == NEW
    for command in ("check", "status"):
        assert f"warning: {ASKED}\n" in program(far["far"], command)[1]
    assert any("'far' does not know the networks of this cell yet, 10.1.9.0/24 (its owner has to agree" in warning for warning in run.warnings())
    assert "10.1.0.1/32" in near["near"].links["pic-far"].addresses, "the address that is known there is kept, to tell by"
    settled(near, far)


def test_the_owner_agrees_and_it_is_taken_over_with_the_next_replay(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    accept(far, *NEW)
    assert "asked" not in program(far["far"], "check")[1].replace(ASKED, "")
    replay(near)
    assert far.link("far", "near")["networks"] == NEW
    assert "asked_networks" not in far.link("far", "near")
    replay(near)  # by the new address it is heard that it is known
    assert "known_as" not in near.link("near", "far")
    assert near["near"].links["pic-far"].addresses == ["10.1.9.1/32"]
    assert ASKED not in program(far["far"], "check")[1]
    settled(near, far)


def test_what_is_told_meanwhile_comes_from_the_address_that_is_known(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    near.inventory["near"]["cell_links"] = [{"name": "far", "offer_exit": True}]
    near.site()
    assert far.link("far", "near")["remote_exit_offered"] is True
    far.inventory["far"]["cell_links"] = [{"name": "near", "offer_exit": True}]
    far.site()
    assert near.link("near", "far")["remote_exit_offered"] is True


def test_whatever_is_lost_on_the_way_it_comes_to_the_same(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.elsewhere = {}
    renumber(near)
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24"]
    near.elsewhere = dict(far.hosts)
    carried = near.carry
    near.carry = lambda sender, pushes: dict.fromkeys(carried(sender, pushes))  # type: ignore[method-assign]  # it arrives, and no answer does
    replay(near)
    near.carry = carried  # type: ignore[method-assign]
    assert far.link("far", "near")["networks"] == NEW
    replay(near)
    settled(near, far)


def test_networks_that_change_twice_before_they_are_known(owners: tuple[World, World]) -> None:
    near, far = owners
    renumber(near)
    renumber(near, "10.1.8.1/24")
    assert near.link("near", "far")["known_as"] == ["10.1.0.1", "10.1.9.1"]
    assert far.link("far", "near")["asked_networks"] == ["10.1.8.0/24"]
    renumber(near, "10.1.0.1/24")
    assert "asked_networks" not in far.link("far", "near"), "it has gone back to what is known"
    assert "known_as" not in near.link("near", "far")
    settled(near, far)


def test_a_network_more_leaves_the_others_alone(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, *NEW)
    renumber(near, "10.1.0.1/24", "10.1.9.1/24")
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24", "10.1.9.0/24"]
    settled(near, far)
    renumber(near, "10.1.0.1/24")
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24"]
    settled(near, far)


def test_check_mode_foresees_it_and_tells_nobody(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    predicted = renumber(near, check=True)
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24"]
    assert near.steps() == {}
    assert any("is to hear that the networks of this cell are 10.1.9.0/24" in line for line in predicted.said["near"])
    assert renumber(near).diffs() == predicted.diffs()


def test_an_endpoint_that_changes_as_well_is_told_along(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.inventory["near"]["cell_endpoint"] = "moved.example.net"
    renumber(near)
    assert (far.link("far", "near")["networks"], far.link("far", "near")["endpoint"]) == (NEW, "moved.example.net:51821")
    assert "moved" not in near.link("near", "far")


def test_a_cell_that_nobody_dials_tells_its_networks(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    record = near.record("near", "cell.json")
    near["near"].write(f"{STATE}/cell.json", json.dumps({**record, "endpoint": None}))
    del near.inventory["near"]["cell_endpoint"]
    renumber(near)
    assert far.link("far", "near")["networks"] == NEW


def announce(far: World, near: World, source: str = "10.1.0.1", **said: Any) -> None:
    """Have the far cell's receiver hand over what the near cell's root has signed."""
    raw = json.dumps({"name": "near", **said}).encode()
    key = signing.claim_key(PSK, near.public_key("near"), far.public_key("far")) or ""
    delivery = Delivery("pic-near", source, signing.sign_push(key, raw), raw)
    far["far"].files[spool.claim_path(exchange.SPOOL, "near")] = (0o600, render_delivery(delivery))
    exchange.take_in(far["far"], STATE)


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
        {"networks": NEW, "address": ["10.1.9.1"], "api_url": "http://192.0.2.1:80"},
        {"networks": NEW, "address": ["10.1.9.1"], "allow_public_networks": True},
    ],
)
def test_what_no_cell_may_claim_is_refused_however_much_is_allowed(owners: tuple[World, World], said: dict[str, Any]) -> None:
    near, far = owners
    accept(far, "10.0.0.0/8")
    before = far.link("far", "near")
    announce(far, near, **{"api_url": f"http://{(said.get('address') or ['10.1.9.1'])[0]}:8088", **said})
    assert {key: value for key, value in far.link("far", "near").items() if key != "judged_claim"} == before
    assert program(far["far"], "check")[0] == 0


def test_networks_that_were_allowed_and_are_somebody_elses_by_now_are_not_taken_over(owners: tuple[World, World]) -> None:
    near, far = owners
    far["far"].add_link("docker9", "10.1.9.77/24")
    accept(far, "10.1.0.0/16")
    run = renumber(near)
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24"]
    assert any("the owner of that cell finds the reason in its journal" in warning for warning in run.warnings())
    assert "docker9" not in "".join(run.warnings()), "what else the far cell has is its owner's alone"
    far["far"].drop_link("docker9")
    replay(near)
    assert far.link("far", "near")["networks"] == NEW


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        (["10.1.0.1/16"], "accept_networks of link 'near'.*host bits"),
        (["0.0.0.0/0"], "accept_networks of link 'near'.*whole internet"),
        (["8.8.8.0/24"], "accept_networks of link 'near'.*neither private"),
        (["x"], "accept_networks of link 'near'.*not a network"),
    ],
)
def test_what_cannot_be_allowed_is_refused_before_anything_changes(owners: tuple[World, World], stated: list[str], sentence: str) -> None:
    _near, far = owners
    far.reset()
    with pytest.raises(Exception, match=sentence) as refused:
        accept(far, *stated)
    assert "accept_networks" in str(refused.value)
    assert far.steps() == {}


def test_what_was_allowed_is_taken_back(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    assert far.link("far", "near")["accept_networks"] == ["10.1.0.0/16"]
    accept(far)
    assert "accept_networks" not in far.link("far", "near")
    renumber(near)
    assert far.link("far", "near")["networks"] == ["10.1.0.0/24"]


def test_an_older_cell_is_told_in_the_words_that_it_knows_as_long_as_no_network_changes(owners: tuple[World, World]) -> None:
    near, _far = owners
    bodies: list[bytes] = []
    carried = near.carry

    def carry(sender: str, pushes: Mapping[str, Push]) -> dict[str, Any]:
        bodies.extend(push.body for push in pushes.values() if push.path == claims.PATH)
        return carried(sender, pushes)

    near.carry = carry  # type: ignore[method-assign]
    near.inventory["near"]["cell_endpoint"] = "moved.example.net"
    near.site()
    assert set(map(bytes, bodies)) == {claims.render_announcement({"name": "near", "endpoint": "moved.example.net:51821"})}


def test_the_address_that_is_known_stays_open_for_what_the_other_cell_tells(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.elsewhere = {}
    renumber(near)
    opened = "-s 10.2.0.1 -d 10.1.0.1 -p tcp -m tcp --dport 8088"
    assert opened in near["near"].text()
    near.elsewhere = dict(far.hosts)
    for _time in range(2):
        replay(near)
    assert opened not in near["near"].text()


def test_a_link_that_its_owner_does_not_list_comes_to_the_same(owners: tuple[World, World]) -> None:
    near, far = owners
    accept(far, "10.1.0.0/16")
    near.inventory["near"]["cell_links"] = []
    renumber(near)
    for _time in range(2):
        program(near["near"], "restore")
        replay(near)
    assert far.link("far", "near")["networks"] == NEW
    settled(near, far)


def test_cells_of_one_inventory_are_told_by_it(tmp_path: Path) -> None:
    world = World(tmp_path, three_cells())
    world.site()
    world.inventory["cellb"].update(
        cell_networks=["10.0.9.1/24", "fd00:b::1/64"], cell_peers=[{**world.inventory["cellb"]["cell_peers"][0], "addresses": ["10.0.9.2"]}]
    )
    world.site("cellb")
    assert world.link("cella", "cellb")["asked_networks"] == ["10.0.9.0/24", "fd00:b::/64"]
    assert world.link("cella", "cellb")["networks"] == ["10.0.1.0/24", "fd00:b::/64"]
    run = world.site()
    assert world.link("cella", "cellb")["networks"] == ["10.0.9.0/24", "fd00:b::/64"]
    assert "asked_networks" not in world.link("cella", "cellb")
    assert run.warnings() == []
    for _time in range(2):  # it is heard, and then known
        program(world["cellb"], "replay", send=functools.partial(world.carry, "cellb"))
    assert "known_as" not in world.link("cellb", "cella")
    world.reset()
    assert (world.site().changed, world.steps()) == ([], {})
