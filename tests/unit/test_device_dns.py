# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS of a routed device for which it is stated who answers, whatever its cell states for the others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_bad_input import refused
from ansible_collections.pic.cells.tests.unit.test_dns import RESOLVERS, question
from ansible_collections.pic.cells.tests.unit.test_exit_resolver import RESOLVERS as OF_EXIT
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import PHONE, run
from ansible_collections.pic.cells.tests.unit.world import World, call, program

TABLET, PHONE_6 = "10.0.0.3", "fd00:a::2"
OTHERS = ["149.112.112.112", "2620:fe::9"]


@prepared
def two(linked: World) -> World:
    """Return three cells in which cella's phone and tablet leave by cellb, which has a resolver; nothing is stated of their DNS."""
    for peer in linked.inventory["cella"]["cell_peers"][:2]:
        peer["route_via"] = "cellb"
    linked.inventory["cellb"]["cell_resolver"] = OF_EXIT
    run(linked)
    return linked


def state(world: World, cells: Any, phones: Any) -> Any:
    """State who answers devices of cella, and who its phone; None for nobody."""
    cell = world.inventory["cella"]
    for item, key, value in ((cell, "cell_exit_dns", cells), (cell["cell_peers"][0], "exit_dns", phones)):
        item.pop(key, None)
        if value is not None:
            item[key] = value
    return run(world)


def answering(host: FakeHost, source: str) -> str:
    """Return what becomes of a device's question to its own cell: the resolver that gets it, "closed", or "own" for the cell itself."""
    family = 6 if ":" in source else 4
    chains = host.tables["-nft", family]["nat"].rules
    questions = host.chain(family, "PIC-RESOLVE", "nat") if "PIC-RESOLVE" in chains else []
    led = [rule.rpartition(" ")[2] for rule in questions if f"-s {source}/" in rule]
    if led:
        return next(rule.rpartition(" ")[2] for rule in host.chain(family, led[0], "nat") if "DNAT" in rule)
    passed = verdict(host, Packet(source, "fd00:a::1" if family == 6 else "10.0.0.1", "wg0", "", "udp", 53))
    return "own" if passed == PASSED else "closed"


def without_tombstones(world: World) -> list[str]:
    """Return what cella is, but for what it remembers of flows."""
    return [line for line in world["cella"].text().splitlines() if "leaving.json" not in line]


@pytest.mark.parametrize(
    ("cells", "phones", "phone", "phone_6", "tablet"),
    [
        (None, "exit", OF_EXIT[0], OF_EXIT[1], "own"),
        (None, OTHERS, OTHERS[0], OTHERS[1], "own"),
        (RESOLVERS, "own", "own", "own", RESOLVERS[0]),
        (RESOLVERS, OTHERS[:1], OTHERS[0], "closed", RESOLVERS[0]),
        (RESOLVERS, "exit", OF_EXIT[0], OF_EXIT[1], RESOLVERS[0]),
        ("exit", RESOLVERS, RESOLVERS[0], RESOLVERS[1], OF_EXIT[0]),
        ("exit", "own", "own", "own", OF_EXIT[0]),
    ],
)
def test_a_device_is_answered_as_it_is_stated_for_it(two: World, cells: Any, phones: Any, phone: str, phone_6: str, tablet: str) -> None:
    before = without_tombstones(two)
    state(two, cells, phones)
    host = two["cella"]
    assert (answering(host, PHONE), answering(host, PHONE_6), answering(host, TABLET)) == (phone, phone_6, tablet)
    lan = Packet(PHONE, "192.168.7.1", "wg0", "eth0", "udp", 53)
    assert [verdict(host, lan, table) == PASSED for table in ("filter", "mangle")] == [phone == "own"] * 2
    assert two.site().changed == []
    assert restore(host, "/var/lib/pic").repairs == []
    state(two, "own", None)
    assert without_tombstones(two) == before


def test_an_item_that_states_it_no_more_is_as_the_cell_says(two: World) -> None:
    host = two["cella"]
    state(two, RESOLVERS, OTHERS)
    host.entries = [question(PHONE, OTHERS[0]), question(TABLET, RESOLVERS[0])]
    two.inventory["cella"]["cell_peers"][0].pop("exit_dns")
    run(two)
    assert answering(host, PHONE) == RESOLVERS[0]
    assert host.entries == [question(TABLET, RESOLVERS[0])]
    assert not [line for line in host.text().splitlines() if OTHERS[0] in line and "leaving.json" not in line]


def test_what_is_stated_for_it_ends_its_questions_alone_and_outlives_a_change_of_its_way(two: World) -> None:
    host = two["cella"]
    state(two, RESOLVERS, None)
    others = [question(TABLET, RESOLVERS[0])]
    host.entries = [question(PHONE, RESOLVERS[0]), *others]
    done = state(two, RESOLVERS, OTHERS)
    assert host.entries == others
    assert any("peer phone: its DNS is answered by 149.112.112.112, 2620:fe::9" in line for line in done.said["cella"])
    run(two, "route_peer", cell="cella", peer="phone", via_cell="direct")
    assert answering(host, PHONE) == "own"
    run(two, "route_peer", cell="cella", peer="phone", via_cell="cellc")
    assert answering(host, PHONE) == OTHERS[0]


def test_while_nobody_knows_the_devices_no_question_leaves_by_the_own_uplink(two: World) -> None:
    state(two, None, "exit")
    two["cella"].write("/var/lib/pic/peer_registry.json", "{")
    restore(two["cella"], "/var/lib/pic")
    assert (answering(two["cella"], PHONE), answering(two["cella"], TABLET)) == ("closed", "closed")
    restore(two["cella"], "/var/lib/pic")
    assert answering(two["cella"], PHONE) == "closed"
    two.site()
    assert (answering(two["cella"], PHONE), answering(two["cella"], TABLET)) == (OF_EXIT[0], "own")


def test_it_is_shown(two: World) -> None:
    host = two["cella"]
    state(two, RESOLVERS, "exit")
    assert f"DNS: what it asks private addresses is answered by {OF_EXIT[0]}, the resolver of cellb" in program(host, "explain", "phone")[1]
    assert f"DNS of {PHONE}: what it asks private addresses is answered by {OF_EXIT[0]}, the resolver of cellb" in program(host, "prove", "phone")[1]
    assert "internet via cellb; its DNS is answered by the resolver of its exit" in program(host, "status")[1]
    peers = call("pic_cell_info", host, {})["peers"]
    assert [peers[name]["exit_dns"] for name in ("phone", "tablet")] == [["exit"], []]
    two.inventory["cellb"]["cell_resolver"] = []
    done = run(two)
    assert any("'cellb' has named no resolver for IPv4 and IPv6, so what 'phone' asks" in warning for warning in done.warnings())
    assert call("pic_cell_info", host, {})["peers"]["phone"]["dns_by_uplink"] == ["IPv4", "IPv6"]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (["10.0.0.1"], "10.0.0.1 is not an address of the internet, so no exit leads to it."),
        (["9.9.9.9", "1.1.1.1"], "9.9.9.9, 1.1.1.1 are too many."),
        (["own", "9.9.9.9"], "'own' is not an IP address"),
        ("9.9.9.9 -j ACCEPT", "is not an IP address"),
    ],
)
def test_who_cannot_answer_is_refused(linked: World, stated: Any, said: str) -> None:
    linked.inventory["cella"]["cell_peers"][0]["exit_dns"] = stated
    before = linked.text()
    with pytest.raises(Exception, match=f"exit_dns of peer 'phone': .*{re.escape(said)}"):
        linked.site()
    assert linked.text() == before


def test_neither_a_link_nor_an_exception_draws_the_questions_away(two: World) -> None:
    state(two, None, OTHERS)
    far = {"name": "far", "public_key": made_key("far"), "networks": ["149.112.112.0/24"], "allow_public_networks": True}
    two.reset()
    refused(two, "wg_cell_peer", far, "149.112.112.0/24", "149.112.112.112, a resolver of this cell's devices")
    phone, tablet = two.inventory["cella"]["cell_peers"][:2]
    tablet["route_except"] = [{"to": ["149.112.112.0/24"], "via": "direct"}]
    run(two)
    phone["route_except"] = [{"to": ["149.112.112.0/24"], "via": "direct"}]
    with pytest.raises(Exception, match=r"route_except of peer 'phone': 149\.112\.112\.0/24 contains 149\.112\.112\.112, a resolver of peer 'phone'"):
        two.site()
