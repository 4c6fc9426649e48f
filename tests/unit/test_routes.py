# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exits of devices: where each leaves, in which order it is moved, and that none leaves directly meanwhile."""

from __future__ import annotations

import copy
from collections import Counter

import pytest

from ansible_collections.pic.cells.tests.unit.fake.ip import MAIN
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key, foreign, furnish


def test_two_devices_leave_by_two_exits_and_a_third_directly(linked: World) -> None:
    host = linked["cella"]
    tables = {link: linked.link("cella", link)["exit_table"] for link in ("cellb", "cellc")}
    assert {(rule.priority, rule.src, rule.table) for rule in host.rules[4] if rule.proto == 201} == {
        (3999, "10.0.0.0/24", MAIN),
        *((4001, "10.0.0.2", tables["cellb"]), (4002, "10.0.0.2", None)),
        *((4001, "10.0.0.3", tables["cellc"]), (4002, "10.0.0.3", None)),
    }
    assert {r.dev for r in host.routes if r.table == tables["cellb"]} == {"pic-cellb", None}
    assert [r.dev for r in host.routes if r.table == tables["cellc"] and r.family == 6] == [None], "an exit without IPv6 makes IPv6 fail at once"
    for link in tables:
        assert "0.0.0.0/0" in host.wg[f"pic-{link}"].peers[linked.public_key(link)].allowed


def test_the_exit_relays_only_for_the_cell_that_asked_and_was_offered(linked: World) -> None:
    assert "-o eth0 -j ACCEPT" in linked["cellb"].chain(4, "PIC-L-cella")
    assert "-s 10.0.0.0/24 -j MASQUERADE" in linked["cellb"].chain(4, "PIC-MASQ", "nat")
    assert "-o eth0 -j ACCEPT" not in linked["cella"].chain(4, "PIC-L-cellc")


def test_a_device_moves_between_two_exits_on_the_devices_interface(world: World) -> None:
    host, cell = world["cella"], world.inventory["cella"]
    for peer in cell["cell_peers"]:
        peer.pop("route_via", None)
    for link in cell["cell_links"]:
        link["interface"] = "wg0"
    world.inventory["cellc"]["cell_links"][0]["offer_exit"] = True
    world.site()
    for via in ("cellb", "cellc", "cellb", "direct"):
        world.job("route_peer", cell="cella", peer="laptop", via_cell=via)
        sections = str(host.read("/etc/wireguard/wg0.conf")).split("[Peer]")
        for name in ("cellb", "cellc"):
            key = world.public_key(name)
            assert ("0.0.0.0/0" in host.wg["wg0"].peers[key].allowed, "0.0.0.0/0" in next(s for s in sections if key in s)) == (name == via, name == via)
        world.reset()
        assert (world.site().changed, world.steps()) == ([], {})


@pytest.mark.parametrize("family", [4, 6])
def test_a_table_and_priorities_of_somebody_else_are_left_to_them(world: World, family: int) -> None:
    network = "192.0.2.0/25" if family == 4 else "2001:db8::/64"
    host = world["cella"]
    host.by_hand(f"ip -{family} route add {network} dev eth0 table 4200")
    host.by_hand(f"ip -{family} rule add from {network} lookup 4200 pref 4001")
    before = foreign(host)
    world.site()
    assert world.link("cella", "cellb")["exit_table"] not in (None, 4200)
    assert {rule.priority for rule in host.rules[family] if rule.proto == 201} == {3999, 4011, 4012}
    assert foreign(host) == before


def test_an_exit_on_an_existing_devices_interface_does_not_take_the_host_along_at_the_next_boot(world: World) -> None:
    host = world["cella"]
    furnish(host)
    world.inventory["cella"]["cell_links"][0].update(interface="wg0")
    world.site()
    assert "0.0.0.0/0" in host.wg["wg0"].peers[world.public_key("cellb")].allowed
    assert (host.read("/etc/wireguard/wg0.conf") or "").count("Table = off") == 1
    host.boot()  # the fake refuses a default route without Table = off


def test_a_device_that_moves_is_never_without_its_last_rule(linked: World) -> None:
    host, seen = linked["cella"], Counter[str]()

    def watch(step: str) -> None:
        sources = {rule.src for rule in host.rules[4] if rule.priority == 4002}
        ways = {rule.src: rule.table for rule in host.rules[4] if rule.priority == 4001}
        seen[step.split(maxsplit=1)[0]] += 1
        if "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED") and "10.0.0.4" in ways:
            assert "10.0.0.4" in sources, step
        if step.startswith("conntrack") and "10.0.0.4" in step:
            assert "10.0.0.4" not in ways, "flows end while there is no way out"
            assert "10.0.0.4" in sources

    host.watch = watch
    for via in ("cellb", "cellc", "direct"):
        linked.job("route_peer", cell="cella", peer="laptop", via_cell=via)
    assert seen["conntrack"] >= 6


def test_the_exit_relays_before_the_device_is_sent_there(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="tablet", via_cell="direct")
    assert "-o eth0 -j ACCEPT" not in linked["cellc"].chain(4, "PIC-L-cella")
    relays: list[bool] = []
    linked["cella"].watch = lambda step: relays.append("-o eth0 -j ACCEPT" in linked["cellc"].chain(4, "PIC-L-cella")) if "rule add" in step else None
    linked.job("route_peer", cell="cella", peer="tablet", via_cell="cellc")
    assert relays
    assert all(relays)


def test_a_device_is_closed_in_even_if_its_exits_interface_is_not_there(linked: World) -> None:
    host = linked["cella"]
    for exit_cell in ("cellb", "cellc"):
        host.drop_link(f"pic-{exit_cell}")
    host.rules = {family: [rule for rule in host.rules[family] if rule.proto != 201] for family in (4, 6)}
    assert 'Cannot find device "pic-cellb"' in call("pic_policy_route", host, {"routes": []})["msg"]
    for family, sources in ((4, {"10.0.0.2", "10.0.0.3"}), (6, {"fd00:a::2", "fd00:a::3"})):
        assert {rule.src for rule in host.rules[family] if rule.priority == 4002} == sources


def test_a_routed_devices_new_address_does_not_work_before_it_is_closed_in(linked: World) -> None:
    host, seen = linked["cella"], []

    def watch(_step: str) -> None:
        if any("10.0.0.9/32" in peer.allowed for peer in host.wg["wg0"].peers.values()):
            seen.append("-s 10.0.0.9/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED") and "-s fd00:a::9/128 -j PIC-HOME" in host.chain(6, "PIC-ROUTED"))

    host.watch = watch
    linked.inventory["cella"]["cell_peers"][0].update(addresses=["10.0.0.9", "fd00:a::9"])
    linked.site()
    assert seen
    assert all(seen)


@pytest.mark.parametrize("first_day", [False, True])
def test_a_new_device_that_is_to_be_routed_is_closed_in_before_it_is_let_in(world: World, first_day: bool) -> None:
    host, seen = world["cella"], []
    laptop = world.inventory["cella"]["cell_peers"].pop()
    if not first_day:
        world.site()
    world.inventory["cella"]["cell_peers"].append({**laptop, "route_via": "cellc"})

    def watch(_step: str) -> None:
        if "wg0" in host.wg and device_key("laptop") in host.wg["wg0"].peers:
            found = {address: {rule.priority for family in (4, 6) for rule in host.rules[family] if rule.src == address} for address in laptop["addresses"]}
            seen.append(all({4002} <= rules for rules in found.values()) and "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED"))

    host.watch = watch
    world.site()
    assert seen
    assert all(seen)
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.4"} == {4001, 4002}


def test_a_new_device_stays_closed_in_when_the_run_ends_before_its_way_is_there(world: World) -> None:
    host = world["cella"]
    laptop = {**world.inventory["cella"]["cell_peers"].pop(), "route_via": "cellc"}
    world.site()
    for _attempt in range(2):
        result = call("wg_cell", host, {"peers": [laptop]})
        assert "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED"), result
        assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.4"} == {4002}
    assert not result["changed"]
    call("pic_policy_route", host, {"peer": "laptop", "via_cell": "direct"})
    assert [rule for rule in host.rules[4] if rule.src == "10.0.0.4"] == []


def test_a_device_that_goes_direct_now_is_not_closed_in_before_its_way_is_there(linked: World) -> None:
    host = linked["cella"]
    assert not call("wg_cell", host, {"peers": [{"name": "laptop", "route_via": "cellc"}]})["changed"]
    assert [rule for rule in host.rules[4] if rule.src == "10.0.0.4"] == []


def test_a_withdrawn_offer_leaves_only_unreachable(linked: World) -> None:
    run = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    host = linked["cella"]
    table = linked.link("cella", "cellb")["exit_table"]
    assert {route.dev for route in host.routes if route.table == table} == {None}
    assert "0.0.0.0/0" not in host.wg["pic-cellb"].peers[linked.public_key("cellb")].allowed
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.2"} == {4001, 4002}
    assert "-o eth0 -j ACCEPT" not in linked["cellb"].chain(4, "PIC-L-cella")
    assert ["-D", "-f", "ipv4", "-s", "10.0.0.0/24", "-n"] in linked["cellb"].ended
    assert any("'phone' is routed via 'cellb', which offers no exit now" in text for text in run.warnings())


def test_an_exit_ends_the_flows_of_a_cell_that_has_stopped_using_it(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="phone", via_cell="direct")
    assert ["-D", "-f", "ipv4", "-s", "10.0.0.0/24", "-n"] in linked["cellb"].ended


def test_unlinking_an_exit_in_use_fails_closed(linked: World) -> None:
    linked.job("unlink", cell="cella", remote_cell="cellb")
    host = linked["cella"]
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.2"} == {4002}
    assert "-s 10.0.0.2/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED")
    assert not [route for route in host.routes if route.table == 4200]


@pytest.mark.parametrize("boot", [False, True])
def test_a_registry_of_devices_that_cannot_be_read_lets_none_leave_directly(linked: World, boot: bool) -> None:
    host = linked["cella"]
    host.write("/var/lib/pic/peer_registry.json", "{garbage")
    if boot:
        host.boot()
    rules = copy.deepcopy(host.rules)
    assert not call("pic_cell_rules", host, {"cells": []}).get("failed")
    assert not call("pic_policy_route", host, {"routes": []}).get("failed")
    assert host.rules == rules
    assert host.chain(4, "PIC-ROUTED") == ["-s 10.0.0.0/24 -j PIC-HOME"]
    assert "cannot be read" in call("pic_policy_route", host, {"peer": "phone", "addresses": ["10.0.0.2"], "via_cell": "direct"})["msg"]


def test_a_registry_that_cannot_be_read_is_made_anew_with_the_ways_that_the_kernel_has(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    wanted = linked.record("cella", "peer_registry.json"), linked["cella"].text(files=False)
    linked["cella"].write("/var/lib/pic/peer_registry.json", "{garbage")
    linked.site()
    assert (linked.record("cella", "peer_registry.json"), linked["cella"].text(files=False)) == wanted
