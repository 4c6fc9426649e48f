# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When devices have moved the kernel is asked for their ways, and where it says otherwise the old way is put back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import answers
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import MAIN
from ansible_collections.pic.cells.tests.unit.test_quoted import quoted
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key

AHEAD = "rule add from 10.0.0.0/24 lookup 254 pref 100"
REMEDY = "See what comes first with 'pic-cell explain {0}' and 'ip -4 rule show', take it away, and run again."


def refused(host: FakeHost, peer: str, via: str, **given: Any) -> str:
    """Return the sentence with which a move fails."""
    result = call("pic_policy_route", host, {"peer": peer, "via_cell": via, **given})
    assert result.get("failed"), result
    return str(result["msg"])


def asked(host: FakeHost) -> int:
    """Return how often the kernel was asked for the ways of devices."""
    return sum("-force" in argv for argv in host.log)


def test_a_device_that_the_kernel_sends_otherwise_gets_its_old_way_back(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    before, said = host.text(), refused(host, "laptop", "cellb")
    assert said == (
        "Peer 'laptop' was sent out through pic-cellb (cell cellb), but the kernel sends what comes from 10.0.0.4 through eth0. Its old way (direct) is put "
        f"back. {REMEDY.format('laptop')}"
    )
    assert host.text() == before
    assert said.replace("laptop", "phone-a3") in quoted("route-peer.md")


def test_nothing_goes_past_the_exit_while_the_old_way_is_put_back(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    host.by_hand("ip -4 rule del from 10.0.0.0/24 lookup 254 pref 100")
    call("pic_policy_route", host, {"peer": "laptop", "via_cell": "cellc"})
    host.by_hand(f"ip -4 {AHEAD}")
    host.reset()
    ways = []

    def watch(step: str) -> None:
        rules = {rule.priority: rule.table for rule in host.rules[4] if rule.src == "10.0.0.4"}
        assert 4002 in rules, step
        assert "-s 10.0.0.4/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED"), step
        if step.startswith("conntrack"):
            assert 4001 not in rules, "flows end while there is no way out"
            ways.append(step)

    host.watch = watch
    said = refused(host, "laptop", "cellb")
    assert "Its old way (via cellc) is put back, and the kernel does not follow that either." in said
    assert len(ways) >= 4, "once there and once back"


def test_where_the_way_was_the_same_before_there_is_none_to_put_back(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    host.rules[4] = [rule for rule in host.rules[4] if rule.src != "10.0.0.2"]
    said = refused(host, "phone", "cellb")
    assert "Its way was the same before, so there is no better one to put back." in said
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.2"} == {4001, 4002}


def test_a_device_that_had_no_way_is_not_let_out_directly(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    added = {"name": "radio", "public_key": device_key("radio"), "addresses": ["10.0.0.9"], "route_via": "cellb"}
    assert not call("wg_cell", host, {"peers": [added]}).get("failed")
    assert "Its old way (direct) is not put back, since the own uplink was closed for it before." in refused(host, "radio", "cellb")
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.9"} == {4001, 4002}
    assert "-s 10.0.0.9/32 -j PIC-HOME" in host.chain(4, "PIC-ROUTED")


def test_an_old_way_by_a_cell_that_is_not_linked_any_more_is_not_put_back(linked: World) -> None:
    host = linked["cella"]
    linked.job("unlink", cell="cella", remote_cell="cellc")
    host.by_hand(f"ip -4 {AHEAD}")
    assert "Its old way (via cellc) is not put back, since cellc is not linked any more." in refused(host, "tablet", "cellb")
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.3"} == {4001, 4002}


def test_a_device_that_is_to_go_direct_and_is_led_into_a_link_stays_where_it_was(linked: World) -> None:
    host = linked["cella"]
    host.by_hand("ip -4 route add default dev pic-cellb table 77")
    host.by_hand("ip -4 rule add from 10.0.0.2 lookup 77 pref 100")
    said = refused(host, "phone", "direct")
    assert "Peer 'phone' was sent out directly, but the kernel sends what comes from 10.0.0.2 through pic-cellb. Its old way (via cellb) is put back. " in said
    assert "systemctl start --no-block pic-cell-replay.service" in host.steps  # cellb was told that nobody uses it any more
    assert {rule.priority for rule in host.rules[4] if rule.src == "10.0.0.2" and rule.proto == 201} == {4001, 4002}


def test_a_way_of_the_hosts_own_is_direct_too(linked: World) -> None:
    host = linked["cella"]
    host.add_link("tun0", "10.77.0.1/24")
    host.by_hand("ip -4 route add default dev tun0 table 77")
    host.by_hand("ip -4 rule add from 10.0.0.2 lookup 77 pref 30000")
    assert not call("pic_policy_route", host, {"peer": "phone", "via_cell": "direct"}).get("failed")


def test_exceptions_and_addresses_come_back_too(linked: World) -> None:
    host = linked["cella"]
    excepted = [{"to": ["203.0.113.0/25"], "via": "direct"}]
    call("pic_policy_route", host, {"peer": "phone", "via_cell": "cellb", "route_except": excepted})
    host.by_hand(f"ip -4 {AHEAD}")
    before = linked.record("cella", "peer_registry.json")
    refused(host, "phone", "cellc", route_except=[], addresses=["10.0.0.22"])
    assert linked.record("cella", "peer_registry.json") == before


def test_an_exit_that_is_closed_is_meant_to_be(linked: World) -> None:
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellc")  # which has no IPv6
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    host = linked["cella"]
    host.rules = {family: [rule for rule in host.rules[family] if rule.src not in ("10.0.0.2", "fd00:a::2")] for family in (4, 6)}
    host.reset()
    result = call("pic_policy_route", host, {"peer": "phone", "via_cell": "cellb"})
    assert (result.get("failed"), result["pending"], asked(host)) == (None, ["phone"], 2)


def test_an_exit_that_is_closed_is_told_of_where_the_kernel_does_not_refuse(linked: World) -> None:
    linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    host.rules[4] = [rule for rule in host.rules[4] if rule.src != "10.0.0.2"]
    said = refused(host, "phone", "cellb")
    assert "Peer 'phone' was sent to cell cellb, which cannot be its exit for IPv4 now, but the kernel sends what comes from 10.0.0.2 through eth0." in said


def test_several_devices_are_named(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    result = call("pic_policy_route", host, {"routes": [{"peer": name, "via_cell": "cellb"} for name in ("laptop", "tablet")]})
    assert result["msg"].startswith("Peer 'laptop' was sent out through pic-cellb")
    assert result["msg"].endswith("The same was found of tablet, whose old way is put back where there was one.")
    assert {rule.table for rule in host.rules[4] if rule.src == "10.0.0.3"} == {linked.link("cella", "cellc")["exit_table"], None}
    assert [rule for rule in host.rules[4] if rule.src == "10.0.0.4"] == []


def test_the_kernel_is_asked_once_for_each_family_and_only_where_devices_move(linked: World) -> None:
    host = linked["cella"]
    for moves in (True, False):
        host.reset()
        for check in (True, False):
            result = call("pic_policy_route", host, {"routes": [{"peer": name, "via_cell": "cellb"} for name in ("laptop", "tablet")]}, check=check)
            assert (result.get("failed"), result["changed"]) == (None, moves)
        assert asked(host) == (2 if moves else 0)
    linked.site()
    host.reset()
    assert not linked.site().changed
    assert asked(host) == 0


def test_the_step_that_does_it_all_asks_too(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    linked.ill = {"cella"}
    before = linked.record("cella", "peer_registry.json")
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    assert linked.dead == {"cella"}
    assert [rule for rule in host.rules[4] if rule.src == "10.0.0.4"] == []
    assert linked.record("cella", "peer_registry.json") == before


@pytest.mark.parametrize("lacks", ["interface", "forwarding"])
def test_nobody_is_asked_where_nothing_is_forwarded(linked: World, lacks: str) -> None:
    host = linked["cella"]
    if lacks == "interface":
        host.links["wg0"].up = False
    else:
        host.files["/proc/sys/net/ipv4/ip_forward"] = (0o644, "0\n")
        host.files["/proc/sys/net/ipv6/conf/all/forwarding"] = (0o644, "0\n")
    result = call("pic_policy_route", host, {"peer": "laptop", "via_cell": "cellb"})
    assert (result.get("failed"), asked(host)) == (None, 0)


def test_an_old_way_that_cannot_be_put_back_is_said(linked: World) -> None:
    host = linked["cella"]
    host.by_hand(f"ip -4 {AHEAD}")
    twin = host.fork()
    refused(twin, "laptop", "cellb")
    host.fail_at = max(number for number, step in enumerate(twin.steps, 1) if step.startswith("ip -4 rule del"))
    said = refused(host, "laptop", "cellb")
    assert "Its old way (direct) cannot be put back: Command" in said
    assert "injected failure" in said


@pytest.mark.parametrize(
    ("answer", "devices"),
    [
        ({"dst": "192.0.2.1", "dev": "pic-cellb"}, {"pic-cellb"}),
        ({"dst": "192.0.2.1", "nexthops": [{"dev": "eth0", "weight": 1}, {"dev": "eth1", "weight": 1}]}, {"eth0", "eth1"}),
        ({"type": "7", "dst": "2001:db8::1", "dev": "lo"}, set()),
        ({"type": "unreachable", "dst": "2001:db8::1", "dev": "lo"}, set()),
        ({"type": "8", "dst": "2001:db8::1", "dev": "lo"}, set()),
        ({}, set()),
    ],
)
def test_an_answer_is_read(answer: dict[str, Any], devices: set[str]) -> None:
    assert set(answers.devices_of(answer)) == devices


def test_one_of_several_ways_is_as_meant(host: FakeHost) -> None:
    meant = answers.Meant("phone", "10.0.0.2", "wg0", frozenset({"eth1"}), "out directly", False)
    hops = {"dst": "192.0.2.1", "from": "10.0.0.2", "nexthops": [{"dev": "eth0"}, {"dev": "eth1"}]}
    for item, found in (({**hops}, {}), ({**hops, "nexthops": hops["nexthops"][:1]}, {meant: frozenset({"eth0"})})):
        host._ip = lambda _words, _stdin, item=item: f"{json.dumps([item])}\n"  # type: ignore[method-assign,misc]
        assert answers.differing(host, [meant]) == found


def test_a_fake_kernel_answers_several_questions(linked: World) -> None:
    ways = {"192.0.2.1": "10.0.0.2", "198.51.100.1": "10.0.0.9", "10.0.1.1": "10.0.0.9"}
    text = "".join(f"route get {to} from {source} iif wg0\n" for to, source in ways.items())
    linked["cella"].rules[4] = [rule for rule in linked["cella"].rules[4] if rule.table != MAIN or rule.proto == 201]
    result = linked["cella"].run(["ip", "-4", "-N", "-json", "-force", "-batch", "-"], text, ok=(1,))
    found = [json.loads(line)[0] for line in result.out.splitlines()]
    assert [(item["from"], item["dev"]) for item in found] == [("10.0.0.2", "pic-cellb"), ("10.0.0.9", "pic-cellb")]
    assert "Command failed -:2" in result.err
