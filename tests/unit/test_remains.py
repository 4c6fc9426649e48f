# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was renamed meets itself in the record, and what the inventory is silent on stays: the refusal names the remedy, once, and the remedy works."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.test_bad_input import FAR
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, device_key


def refusal(world: World) -> str:
    """Run site, which is refused; return the sentence."""
    world.reset()
    with pytest.raises(Refusal) as error:
        world.site()
    assert world.steps() == {}
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, "Address 10.0.0.2"),
        ({"addresses": ["10.0.0.9"]}, "public_key"),
        ({"public_key": device_key("handy")}, "Address 10.0.0.2"),
        ({"addresses": ["10.0.0.9", "fd00:a::2"], "public_key": device_key("handy")}, "Address fd00:a::2"),
    ],
)
def test_a_device_that_is_renamed_is_told_how(linked: World, changes: dict[str, Any], what: str) -> None:
    devices = linked.inventory["cella"]["cell_peers"]
    devices[0].update(name="handy", **changes)
    said = refusal(linked)
    assert all(word in said for word in ("of peer 'handy'", what, "belongs to peer 'phone'")), said
    assert said.count("{name: phone, state: absent}") == 1
    devices.append({"name": "phone", "state": "absent"})
    linked.site()
    assert "phone" not in [peer["name"] for peer in linked.record("cella", "peer_registry.json")["peers"]]
    assert linked.site().changed == []


def test_an_address_of_a_device_that_the_inventory_has_forgotten_is_told_how(linked: World) -> None:
    devices = linked.inventory["cella"]["cell_peers"]
    del devices[1]  # tablet
    devices[1]["addresses"] = ["10.0.0.3"]  # laptop, which the record knows too
    said = refusal(linked)
    assert "Address 10.0.0.3 of peer 'laptop' already belongs to peer 'tablet'" in said and said.count("{name: tablet, state: absent}") == 1, said
    devices.insert(0, {"name": "tablet", "state": "absent"})
    linked.site()
    assert linked.site().changed == []


def test_a_cell_that_is_renamed_is_told_how(linked: World) -> None:
    linked.inventory["cellb"]["cell_name"] = "oslo"
    linked.inventory["cella"]["cell_links"][0]["name"] = "oslo"
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = "oslo"
    said = refusal(linked)
    assert "The network 10.0.1.0/24 of link 'oslo' overlaps 10.0.1.0/24 of link 'cellb'" in said and said.count("{name: cellb, state: absent}") == 1, said
    linked.inventory["cella"]["cell_links"].append({"name": "cellb", "state": "absent"})
    linked.site()
    assert [link["name"] for link in linked.record("cella")["links"]] == ["cellc", "oslo"]
    assert linked.site().changed == []


def test_a_renamed_cell_of_another_owner_is_told_of_by_the_module_too(linked: World) -> None:
    host = linked["cella"]
    call("wg_cell_peer", host, FAR)
    host.reset()
    result = call("wg_cell_peer", host, {**FAR, "name": "farther", "networks": ["10.10.0.0/24"], "address": ["10.10.0.1"]})
    assert result["failed"] and "public_key of link 'farther'" in result["msg"] and "{name: far, state: absent}" in result["msg"]
    assert host.steps == []


def test_what_is_stated_twice_in_one_inventory_has_another_remedy(linked: World) -> None:
    result = call("wg_cell", linked["cella"], {"peers": [{"name": "one", "addresses": ["10.0.0.9"]}, {"name": "two", "addresses": ["10.0.0.9"]}]})
    assert result["failed"] and "Every device needs an address of its own" in result["msg"] and "absent" not in result["msg"]


def test_a_way_through_an_unknown_cell_is_refused_once_with_the_links_that_there_are(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = "nowhere"
    said = refusal(linked)
    assert said.count("'nowhere'") == 1 and "Its links: cellb, cellc." in said, said
    with pytest.raises(Refusal) as error:
        linked.job("route_peer", cell="cella", peer="laptop", via_cell="nowhere")
    assert str(error.value).count("'nowhere'") == 1, error.value
