# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused stays refused when somebody's rule stands before ours or filter is flushed, and whoever sends has to be who they say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import api_port
from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Link
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import Route
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.netfilter import Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.world import World, call, program

SHARED = {
    4: Packet("10.0.1.2", "172.17.0.2", "pic-cellb", "docker0", port=80, asked=("10.0.0.1", 443)),
    6: Packet("fd00:b::2", "fd00:d::2", "pic-cellb", "docker0", port=80, asked=("fd00:a::1", 443)),
}
UNSHARED = {family: replace(packet, asked=(packet.asked[0], 8447)) for family, packet in SHARED.items() if packet.asked}
TO_CELL = {4: Packet("10.0.1.2", "10.0.0.1", "pic-cellb", port=443), 6: Packet("fd00:b::2", "fd00:a::1", "pic-cellb", port=443)}
AT_THE_UPLINK = {4: Packet("10.0.0.2", "192.0.2.80", "wg0", "eth0", port=443), 6: Packet("fd00:a::2", "2001:db8::80", "wg0", "eth0", port=443)}
FAMILIES = (4, 6)


def overtake(host: FakeHost) -> None:
    for family in FAMILIES:
        host.iptables(family, "filter", *(f"-I {chain} 1 -j ACCEPT" for chain in ("FORWARD", "INPUT")))


def flush(host: FakeHost) -> None:
    for family in FAMILIES:
        for rules in host.tables[host.default, family]["filter"].rules.values():
            rules.clear()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", [overtake, flush])
def test_what_is_not_shared_stays_shut_without_the_filters_rules(linked: World, damage: Callable[[FakeHost], None], family: int) -> None:
    host = linked["cella"]
    damage(host)
    assert verdict(host, SHARED[family]) == "ACCEPT"
    assert verdict(host, UNSHARED[family]) == "DROP"
    assert verdict(host, TO_CELL[family]) == "ACCEPT"
    assert verdict(host, replace(TO_CELL[family], port=22)) == "DROP"
    assert verdict(host, replace(SHARED[family], came_by="pic-cellc")) == "DROP"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", [overtake, flush])
def test_a_routed_device_stays_off_the_uplink_without_the_filters_rules(linked: World, damage: Callable[[FakeHost], None], family: int) -> None:
    host = linked["cella"]
    damage(host)
    for state in ("NEW", "ESTABLISHED"):
        assert verdict(host, replace(AT_THE_UPLINK[family], state=state)) == "DROP"
        assert verdict(host, replace(AT_THE_UPLINK[family], state=state, leaves_by="pic-cellb")) == "ACCEPT"
    direct = {4: "10.0.0.4", 6: "fd00:a::4"}[family]
    assert verdict(host, replace(AT_THE_UPLINK[family], source=direct)) == "ACCEPT"


def test_an_exit_still_refuses_its_private_networks_without_the_filters_rules(linked: World) -> None:
    host = linked["cellb"]
    packet = Packet("10.0.0.2", "192.0.2.80", "pic-cella", "eth0", port=443)
    for damage in (lambda _host: None, overtake, flush):
        damage(host)
        assert verdict(host, packet) == "ACCEPT"
        assert verdict(host, replace(packet, to="192.168.78.10")) == "DROP"
        assert verdict(host, replace(packet, to="203.0.113.77")) == "DROP"
        assert verdict(host, replace(packet, leaves_by="eth1")) == "DROP"


def test_an_exit_refuses_its_own_lan_and_no_route_of_another_vpn_or_to_one_host(linked: World) -> None:
    host = linked["cellb"]
    host.add_link("eth1", "198.51.100.1/24")
    host.routes += [Route(4, "11.0.0.0/8", "eth0"), Route(4, "32.0.0.0/3", "eth0"), Route(4, "192.0.2.80/32", "eth0")]
    call("pic_cell_rules", host, {})
    for to, passes in (("11.0.0.7", True), ("33.0.0.7", True), ("192.0.2.80", True), ("203.0.113.77", False), ("198.51.100.7", False), ("10.99.0.7", False)):
        packet = Packet("10.0.0.2", to, "pic-cella", "eth0", port=443)
        assert [verdict(host, packet, table) for table in ("mangle", "filter")] == ["ACCEPT" if passes else "DROP"] * 2, to


def test_nobody_else_gets_into_a_link_without_the_filters_rules(linked: World) -> None:
    host = linked["cella"]
    overtake(host)
    own = Packet("10.0.0.4", "10.0.1.2", "wg0", "pic-cellb", port=443)
    assert verdict(host, own) == "ACCEPT"
    assert verdict(host, replace(own, to="10.0.1.1", port=8088)) == "DROP"
    for came_by, source in (("eth0", "203.0.113.77"), ("docker0", "172.17.0.2"), ("wg0", "10.99.0.2")):
        assert verdict(host, replace(own, came_by=came_by, source=source)) == "DROP"


def test_both_tables_refuse_the_same(linked: World) -> None:
    """But for TCP out to a link that is new without SYN, which filter answers with a reset."""
    host = linked["cella"]
    interfaces = ("wg0", "pic-cellb", "pic-cellc", "eth0", "docker0", "pic-unknown")
    addresses = ("10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.1.1", "10.0.1.2", "10.0.2.2", "172.17.0.2", "192.0.2.80", "203.0.113.77")
    ways = itertools.product(addresses, addresses, interfaces, ("", *interfaces), (443, 8088, 5060, 51820), ("NEW", "ESTABLISHED", "INVALID"), (False, True))
    judged = {"ACCEPT": 0, "DROP": 0}
    for source, to, came_by, leaves_by, port, state, reply in ways:
        packet = Packet(source, to, came_by, leaves_by, "udp" if port in (5060, 51820) else "tcp", port, state, reply)
        found = {table: verdict(host, packet, table) for table in ("mangle", "filter")}
        assert len(set(found.values())) == 1, (packet, found)
        judged[found["filter"]] += 1
    assert min(judged.values()) > 5000
    packet = Packet("172.17.0.2", "10.0.1.2", "docker0", "pic-cellb", syn=False)
    assert (verdict(host, packet, "mangle"), verdict(host, packet, "filter")) == ("ACCEPT", "REJECT")


def test_each_rule_of_the_second_deny_that_is_missing_is_put_back(linked: World) -> None:
    host = linked["cella"]
    wanted = host.text()
    for chain, rules in host.tables[host.default, 4]["mangle"].rules.items():
        for number in range(len(rules)):
            twin = host.fork()
            twin.tables[twin.default, 4]["mangle"].rules[chain].pop(number)
            assert program(twin, "check")[0] == 3
            assert program(twin, "restore")[0] == 0
            assert twin.text() == wanted


def test_a_foreign_accept_in_mangle_gets_behind_ours_and_a_mark_does_not(linked: World) -> None:
    host = linked["cella"]
    host.iptables(4, "mangle", "-I FORWARD 1 -i wg0 -j ACCEPT")
    assert verdict(host, AT_THE_UPLINK[4], "mangle") == "ACCEPT"
    assert program(host, "restore")[0] == 0
    assert host.chain(4, "FORWARD", "mangle") == ["-j PIC-FWD", "-i wg0 -j ACCEPT"]
    assert verdict(host, AT_THE_UPLINK[4], "mangle") == "DROP"


def test_a_cell_of_before_gets_the_second_deny_with_its_next_run(linked: World) -> None:
    """Its FORWARD of mangle jumped to the clamp."""
    host = linked["cella"]
    wanted = host.text()
    for family in FAMILIES:
        table = host.tables[host.default, family]["mangle"]
        clamp = table.rules["PIC-MSS"]
        table.rules = {chain: rules for chain, rules in table.rules.items() if not chain.startswith("PIC-")}
        table.policies = {chain: policy for chain, policy in table.policies.items() if not chain.startswith("PIC-")}
        table.rules.update({"PIC-MSS": clamp, "INPUT": [], "FORWARD": [("-m", "comment", "--comment", "pic-cells 0123456789", "-j", "PIC-MSS")]})
        table.policies["PIC-MSS"] = "-"
    assert linked.site().changed
    assert host.text() == wanted


# Who sends


def test_what_an_exit_sends_in_the_name_of_others_reaches_only_who_leaves_by_it(linked: World) -> None:
    host = linked["cella"]
    for table in ("filter", "mangle"):
        answer = Packet("192.0.2.53", "10.0.0.2", "pic-cellb", "wg0", "udp", state="ESTABLISHED", reply=True)
        assert verdict(host, answer, table) == "ACCEPT"
        assert verdict(host, replace(answer, reply=False), table) == "DROP", "it begins nothing"
        assert verdict(host, replace(answer, state="NEW", reply=False), table) == "DROP"
        assert verdict(host, replace(answer, to="10.0.0.3"), table) == "DROP", "that device leaves by cellc"
        assert verdict(host, replace(answer, to="10.0.0.3", came_by="pic-cellc"), table) == "ACCEPT"
        assert verdict(host, replace(answer, to="10.0.0.4"), table) == "DROP", "that device goes direct"
        assert verdict(host, replace(answer, to="172.17.0.2", leaves_by="docker0"), table) == "DROP"
        assert verdict(host, replace(answer, source="10.0.2.2", to="10.0.0.4"), table) == "DROP", "another link's network"
        assert verdict(host, replace(answer, source="10.0.1.2", to="10.0.0.4"), table) == "ACCEPT", "its own"
        for to in ("10.0.0.1", "203.0.113.11"):
            assert verdict(host, replace(answer, to=to, leaves_by=""), table) == "DROP", "the cell asks nobody by an exit"
        assert verdict(host, replace(answer, source="10.0.1.1", to="10.0.0.1", leaves_by=""), table) == "ACCEPT"
        assert verdict(host, replace(answer, source="2001:db8::53", to="fd00:a::2"), table) == "ACCEPT"
        assert verdict(host, replace(answer, source="2001:db8::53", to="fd00:a::4"), table) == "DROP"


@pytest.mark.parametrize(
    ("family", "protocol", "kind", "router", "flow"),
    [
        (4, "icmp", "fragmentation-needed", "192.168.78.1", ("10.0.1.2", "10.0.0.1")),
        (6, "ipv6-icmp", "packet-too-big", "fd78::1", ("fd00:b::2", "fd00:a::1")),
    ],
)
def test_a_router_of_the_other_cell_may_say_that_a_packet_is_too_big(
    linked: World, family: int, protocol: str, kind: str, router: str, flow: tuple[str, str]
) -> None:
    host = linked["cella"]
    error = Packet(router, flow[1], "pic-cellb", "", protocol, state="RELATED", reply=True, icmp=kind, begun=flow[0], asked=(flow[1], 443))
    for leaves_by in ("", "docker0"):
        assert verdict(host, replace(error, leaves_by=leaves_by)) == "ACCEPT"
        assert verdict(host, replace(error, leaves_by=leaves_by, icmp="time-exceeded")) == "DROP"
        stranger = {4: ("192.0.2.80", "10.0.0.4"), 6: ("2001:db8::80", "fd00:a::4")}[family]
        assert verdict(host, replace(error, leaves_by=leaves_by, begun=stranger[1], asked=(stranger[0], 443))) == "DROP", "of a flow that is none of its"


def test_on_the_devices_interface_too_an_exit_answers_only_who_leaves_by_it(world: World) -> None:
    host = world["cella"]
    world.inventory["cella"]["cell_links"][0].update(interface="wg0")
    world.site()
    answer = Packet("192.0.2.53", "10.0.0.2", "wg0", "wg0", "udp", state="ESTABLISHED", reply=True)
    for table in ("filter", "mangle"):
        assert verdict(host, answer, table) == "ACCEPT"
        assert verdict(host, replace(answer, to="10.0.0.4"), table) == "DROP"
        assert verdict(host, replace(answer, to="10.0.0.1", leaves_by=""), table) == "DROP"
        assert verdict(host, replace(answer, source="10.0.1.7", to="10.0.0.4"), table) == "ACCEPT"
        assert verdict(host, replace(answer, source="10.0.0.4", to="192.0.2.80", leaves_by="eth0", reply=False), table) == "ACCEPT"


def test_who_may_be_answered_follows_a_devices_way(linked: World) -> None:
    host = linked["cella"]
    answer = Packet("192.0.2.53", "10.0.0.2", "pic-cellb", "wg0", "udp", state="ESTABLISHED", reply=True)
    linked.job("route_peer", cell="cella", peer="phone", via_cell="cellc")
    assert [verdict(host, replace(answer, came_by=name)) for name in ("pic-cellb", "pic-cellc")] == ["DROP", "ACCEPT"]
    linked.job("route_peer", cell="cella", peer="phone", via_cell="direct")
    assert [verdict(host, replace(answer, came_by=name)) for name in ("pic-cellb", "pic-cellc")] == ["DROP", "DROP"]
    assert verdict(host, replace(answer, came_by="eth0")) == "ACCEPT"


def test_the_way_of_an_answer_is_open_before_a_device_is_sent_there(linked: World) -> None:
    host, seen = linked["cella"], []
    answer = Packet("192.0.2.53", "10.0.0.4", "pic-cellb", "wg0", "udp", state="ESTABLISHED", reply=True)
    host.watch = lambda step: seen.append(verdict(host, answer)) if "rule add from 10.0.0.4 lookup 4200" in step else None
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    assert seen == ["ACCEPT"]


@prepared
def many(world: World) -> FakeHost:
    """Return a cell with so many links that their rules are in branches of a tree."""
    for number in range(60):
        world.inventory["cella"]["cell_links"].append(
            {"name": f"far{number}", "public_key": made_key(f"far {number}"), "networks": [f"10.9.{number}.0/24"], "address": f"10.9.{number}.1", "share": []}
        )
    world.site()
    return world["cella"]


@pytest.mark.parametrize("tree", [("PIC-SOURCE", "PIC-N-"), ("PIC-LINK",), ("PIC-CELL",), ("PIC-API",)])
def test_a_packet_passes_a_bounded_number_of_rules_whatever_the_number_of_links(tree: tuple[str, ...], many: FakeHost) -> None:
    rules = many.tables[many.default, 4]["filter"].rules
    chains = [chain for chain in rules if chain.startswith(tree)]
    assert len(chains) > 1
    assert max(len(rules[chain]) for chain in chains) <= 20


def test_of_many_links_each_reaches_what_is_its_own_and_nothing_of_another(many: FakeHost) -> None:
    host = many
    answer = Packet("10.9.7.2", "10.0.0.4", "pic-far7", "wg0", state="ESTABLISHED", reply=True)
    for number in range(60):
        mine = replace(answer, source=f"10.9.{number}.2", came_by=f"pic-far{number}")
        assert (verdict(host, mine), verdict(host, replace(mine, came_by="pic-cellb"))) == ("ACCEPT", "DROP")
        push = Packet(f"10.9.{number}.1", "10.0.0.1", f"pic-far{number}", port=8088)
        assert [verdict(host, replace(push, **other)) for other in ({}, {"source": f"10.9.{number}.2"}, {"came_by": "pic-cellb"}, {"port": 443})] == [
            "ACCEPT",
            "DROP",
            "DROP",
            "DROP",
        ]
        asked = Packet("10.0.0.4", f"10.9.{number}.1", "wg0", f"pic-far{number}", port=8088)
        assert [verdict(host, asked), verdict(host, replace(asked, port=443)), verdict(host, replace(push, leaves_by="eth0", to="192.0.2.80"))] == [
            "DROP",
            "ACCEPT",
            "DROP",
        ]


# The uplink's neighbours


@pytest.mark.parametrize("family", FAMILIES)
def test_from_the_uplink_a_device_is_reached_by_answers_and_forwarded_ports_alone(linked: World, family: int) -> None:
    host = linked["cella"]
    source, to = {4: ("203.0.113.77", "10.0.0.4"), 6: ("2001:db8:113::77", "fd00:a::4")}[family]
    packet = Packet(source, to, "eth0", "wg0", port=80)
    for damage in (lambda _host: None, overtake):
        damage(host)
        assert verdict(host, packet) == "DROP"
        assert verdict(host, replace(packet, state="ESTABLISHED", reply=True)) == "ACCEPT"
        assert verdict(host, replace(packet, status=frozenset({"DNAT"}))) == "ACCEPT", "the owner has forwarded a port"
        for came_by in ("docker0", "tailscale0", "eth1"):
            assert verdict(host, replace(packet, came_by=came_by)) == "ACCEPT", "not ours to decide"


def test_where_no_uplink_is_known_nobody_is_taken_for_its_neighbour(linked: World) -> None:
    host = linked["cella"]
    host.routes = [route for route in host.routes if route.dst not in ("0.0.0.0/0", "::/0")]
    call("pic_cell_rules", host, {})
    assert verdict(host, Packet("203.0.113.77", "10.0.0.4", "eth0", "wg0", port=80)) == "ACCEPT"


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://10.0.1.1:9000", 9000),
        ("http://10.0.1.1:9000/a/b", 9000),
        ("http://10.0.1.1", 80),
        ("http://[fd00:b::1]", 80),
        ("http://[fd00:b::1]/x", 80),
        (None, 8088),
    ],
)
def test_the_port_that_devices_may_not_reach_is_the_one_that_pushes_go_to(url: str | None, port: int) -> None:
    assert api_port(Cell(name="cella"), Link("cellb", remote_api_url=url)) == port
