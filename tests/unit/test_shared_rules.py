# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy rules that all routed devices share: near networks by main, everything else by the exit."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel.routing import parse_routing
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import MAIN, Route, Rule
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, device_key, foreign, program

PHONE = {4: "10.0.0.2", 6: "fd00:a::2"}
WIDEST = {4: 7, 6: 6}


def way(host: FakeHost, to: str, source: str | None = None) -> str | None:
    """Return the interface by which the kernel sends a device's packet; None where it has no way."""
    family = 6 if ":" in to else 4
    argv = ["ip", f"-{family}", "-N", "-json", "route", "get", to, "from", source or PHONE[family], "iif", "wg0"]
    result = host.begun().run(argv, ok=(0, 2))
    return str(json.loads(result.out)[0]["dev"]) if result.rc == 0 else None


def shared(host: FakeHost, family: int) -> list[Rule]:
    return [rule for rule in host.rules[family] if rule.dst]


def own(host: FakeHost, family: int) -> list[Rule]:
    return [rule for rule in host.rules[family] if rule.proto == 201]


def as_before(host: FakeHost) -> None:
    """Make of the shared rules what there was before them: one rule for each device, without a destination."""
    for family in (4, 6):
        sources = dict.fromkeys(rule.src for rule in own(host, family) if not rule.dst)
        kept = [rule for rule in host.rules[family] if not rule.dst]
        host.rules[family] = sorted([*kept, *(Rule(4000, source, MAIN, WIDEST[family], 201) for source in sources)], key=lambda rule: rule.priority)


@pytest.mark.parametrize(
    ("network", "to"),
    [
        ("11.0.0.0/8", "11.0.0.7"),
        ("172.128.0.0/9", "172.130.0.7"),
        ("192.0.2.0/24", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("2001:db8:77::/48", "2001:db8:77::7"),
        ("2600::/8", "2600::7"),
    ],
)
def test_a_routed_devices_packets_to_a_public_route_of_the_host_leave_by_its_exit(linked: World, network: str, to: str) -> None:
    host = linked["cella"]
    host.routes.append(Route(6 if ":" in network else 4, network, "eth0"))
    assert way(host, to) == "pic-cellb"
    assert way(host, to, "fd00:a::4" if ":" in to else "10.0.0.4") == "eth0", "a direct device goes where the host goes"
    assert program(host, "check")[0] == 0


def test_a_routed_device_reaches_what_is_near_without_its_exit(linked: World) -> None:
    host = linked["cella"]
    host.routes += [Route(4, "192.168.7.0/24", "eth1"), Route(4, "172.17.0.0/16", "docker0"), Route(6, "fd77::/64", "eth1")]
    ways = {"10.0.0.3": "wg0", "10.0.1.2": "pic-cellb", "10.0.2.1": "pic-cellc", "192.168.7.7": "eth1", "172.17.0.2": "docker0", "fd77::7": "eth1"}
    assert {to: way(host, to) for to in ways} == ways


def test_the_rules_do_not_grow_with_the_devices(linked: World) -> None:
    host = linked["cella"]
    before = {family: shared(host, family) for family in (4, 6)}
    peers = [{"name": f"d{n}", "public_key": device_key(f"d{n}"), "addresses": [f"10.0.0.{n}", f"fd00:a::{n}"], "route_via": "cellb"} for n in range(20, 40)]
    linked.inventory["cella"]["cell_peers"] += peers
    linked.site()
    assert {family: shared(host, family) for family in (4, 6)} == before
    assert len([rule for rule in own(host, 4) if not rule.inverted]) == len(before[4]) + 2 * 22, "beside those that skip others"


def test_without_a_routed_device_there_is_none(linked: World) -> None:
    host = linked["cella"]
    for peer in ("phone", "tablet"):
        assert shared(host, 4)
        linked.job("route_peer", cell="cella", peer=peer, via_cell="direct")
    assert own(host, 4) == own(host, 6) == []


def test_public_networks_of_the_cells_are_near_as_well(world: World) -> None:
    world.inventory["cella"]["cell_networks"].append("2001:db8:a::1/64")
    world.inventory["cellb"]["cell_networks"] = ["10.0.1.1/24", "2001:db8:b::1/64"]
    for cell in world.inventory.values():
        cell["cell_links"] = [{**link, "allow_public_networks": True} for link in cell["cell_links"]]
    world.site()
    host = world["cella"]
    near = {rule.dst for rule in shared(host, 6)}
    assert near == {"fc00::/7", "fe80::/10", "2001:db8:a::/64", "2001:db8:b::/64"}
    assert {rule.src for rule in shared(host, 6)} == {"fd00:a::/64", "2001:db8:a::/64"}
    assert way(host, "2001:db8:b::2") == "pic-cellb"
    world.job("unlink", cell="cella", remote_cell="cellb")
    assert "2001:db8:b::/64" not in {rule.dst for rule in shared(host, 6)}
    assert program(host, "check") == (0, "", "")


def test_a_link_by_a_module_alone_brings_its_public_network(linked: World) -> None:
    host = linked["cella"]
    link = {"name": "celld", "public_key": device_key("celld"), "networks": ["198.51.100.0/24"], "address": "198.51.100.1", "allow_public_networks": True}
    assert "msg" not in call("wg_cell_peer", host, link)
    assert way(host, "198.51.100.9") == "pic-celld"
    assert "main without defaults" not in program(host, "check")[1]
    call("wg_cell_peer", host, {"name": "celld", "state": "absent"})
    assert "198.51.100.0/24" not in {rule.dst for rule in shared(host, 4)}


def test_a_lost_rule_closes_and_comes_back(linked: World) -> None:
    host = linked["cella"]
    host.routes.append(Route(4, "192.168.7.0/24", "eth1"))
    before = host.rules[4][:]
    host.rules[4] = [rule for rule in host.rules[4] if not rule.dst]
    assert way(host, "192.168.7.7") == "pic-cellb", "the exit refuses it"
    rc, out, _err = program(host, "check")
    assert (rc, out) == (3, "missing: 10.0.0.0/24 to 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16: [3999] main without defaults\n")
    program(host, "restore")
    assert sorted(host.rules[4], key=str) == sorted(before, key=str)


def test_a_cell_of_before_is_moved_without_a_gap_and_no_flow_ends(linked: World) -> None:
    host = linked["cella"]
    host.routes += [Route(4, "192.168.7.0/24", "eth1"), Route(6, "fd77::/64", "eth1")]
    wanted = {family: sorted(host.rules[family], key=str) for family in (4, 6)}
    as_before(host)
    seen = []
    host.watch = lambda _step: seen.append((way(host, "192.168.7.7"), way(host, "fd77::7"), way(host, "192.0.2.80"), way(host, "2001:db8::80")))
    host.reset()
    rc, out, _err = program(host, "restore")
    assert (rc, host.ended) == (0, [])
    assert out.startswith("missing: 10.0.0.0/24 to ")
    assert set(seen) == {("eth1", "eth1", "pic-cellb", "pic-cellb")}
    assert {family: sorted(host.rules[family], key=str) for family in (4, 6)} == wanted


def test_a_priority_that_others_have_is_left_to_them(world: World) -> None:
    host = world["cella"]
    host.by_hand("ip -4 rule add from 192.0.2.1 lookup 77 pref 3999")
    before = foreign(host)
    world.site()
    assert {rule.priority for family in (4, 6) for rule in shared(host, family)} == {3998}
    assert foreign(host) == before
    assert world.site().changed == []


def test_without_a_free_priority_nothing_begins(world: World) -> None:
    host = world["cella"]
    for priority in range(3990, 4000):
        host.by_hand(f"ip -4 rule add from 192.0.2.1 lookup 77 pref {priority}")
    said = call("pic_policy_route", host, {"routes": []})
    assert not said.get("failed"), "no device is routed yet"
    with pytest.raises(Refusal, match="No priority from 3990 to 3999 is free of other software's policy rules"):
        world.site()
    assert not host.exists("/var/lib/pic")


@pytest.mark.parametrize("selector", ["iif", "oif", "fwmark", "ipproto"])
def test_a_rule_with_our_protocol_and_a_selector_that_we_do_not_use_is_not_taken_for_ours(selector: str) -> None:
    for extra in ({}, {"dst": "10.0.0.0", "dstlen": 8}):
        item = {"priority": 4001, "src": "all", "table": "4200", "protocol": "201", selector: "0x1", **extra}
        assert parse_routing(4, [item], []).rules == ()
