# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which interface devices' packets go to the internet on hosts whose default route is another VPN's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel.lookups import way_out
from ansible_collections.pic.cells.plugins.module_utils.kernel.routing import parse_routing
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import Route, Rule
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.world import World, program

ALWAYS = [{"priority": 0, "src": "all", "table": "255"}, {"priority": 32766, "src": "all", "table": "254"}, {"priority": 32767, "src": "all", "table": "253"}]
VPN = {"dst": "default", "dev": "wg1", "table": "51820", "scope": "253", "flags": []}
PLAIN = {"dst": "default", "gateway": "203.0.113.254", "dev": "eth0", "flags": []}


def rule(priority: int, **more: Any) -> dict[str, Any]:
    return {"priority": priority, "src": "all", **more}


@pytest.mark.parametrize(
    ("rules", "routes", "found"),
    [
        ([], [PLAIN], "eth0"),
        ([], [], None),
        ([], [{"dst": "default", "dev": "wwan0", "metric": "700", "flags": []}, PLAIN], "eth0"),
        ([rule(32764, table="254", suppress_prefixlen=0), rule(32765, **{"not": None}, fwmark="0xca6c", table="51820")], [PLAIN, VPN], "wg1"),
        ([rule(32765, fwmark="0xca6c", table="51820")], [PLAIN, VPN], "eth0"),
        ([rule(32765, fwmark="0x0", fwmask="0xff", table="51820")], [PLAIN, VPN], "wg1"),
        ([], [PLAIN, {"dst": "0.0.0.0/1", "dev": "tun0", "flags": []}, {"dst": "128.0.0.0/1", "dev": "tun0", "flags": []}], "tun0"),
        ([], [PLAIN, {"dst": "128.0.0.0/1", "dev": "tun0", "flags": ["dead", "linkdown"]}], "eth0"),
        ([], [PLAIN, {"type": "6", "dst": "192.0.2.0/24", "flags": []}], "eth0"),
        ([rule(100, iif="eth9", table="51820"), rule(101, oif="eth0", table="51820"), rule(102, dst="8.8.8.8", table="51820")], [PLAIN, VPN], "eth0"),
        ([rule(103, ipproto="ipproto-6", table="51820"), rule(104, uid_start=0, uid_end=9, table="51820"), rule(9, l3mdev=None)], [PLAIN, VPN], "eth0"),
        ([rule(100, iif="wg0", table="51820")], [PLAIN, VPN], "wg1"),
        ([{"priority": 100, "src": "10.0.0.0", "srclen": 16, "table": "51820"}], [PLAIN, VPN], "wg1"),
        ([{"priority": 100, "src": "10.0.0.7", "table": "51820"}], [PLAIN, VPN], "eth0"),
        ([{"priority": 100, "src": "10.7.0.0", "srclen": 24, "not": None, "table": "51820"}], [PLAIN, VPN], "wg1"),
        ([rule(99, nop=None), rule(100, goto=32766), rule(200, table="51820")], [PLAIN, VPN], "eth0"),
        ([rule(100, action="8")], [PLAIN], None),
        ([rule(100, table="51820")], [PLAIN, {"type": "7", "dst": "default", "table": "51820", "flags": []}], None),
        ([{"priority": 4002, "src": "10.0.0.2", "action": "7", "protocol": "201"}], [PLAIN], "eth0"),
        ([], [{"dst": "default", "nexthops": [{"dev": "eth1", "weight": 1, "flags": []}], "flags": []}], "eth1"),
        ([rule(100, table="99")], [PLAIN, {"type": "9", "dst": "default", "table": "99", "flags": []}], "eth0"),  # throw
        ([rule(100, table="99")], [PLAIN, {"type": "9", "dst": "default", "dev": "lo", "table": "99", "metric": 1024, "flags": []}], "eth0"),
        ([rule(100, table="99")], [PLAIN, {**VPN, "table": "99"}, {"type": "9", "dst": "0.0.0.0/1", "table": "99", "flags": []}], "wg1"),
    ],
)
def test_rules_and_routes_of_others_are_followed_as_the_kernel_does(rules: list[dict[str, Any]], routes: list[dict[str, Any]], found: str | None) -> None:
    seen = parse_routing(4, [*rules, *ALWAYS], routes)
    assert way_out(4, seen.lookups, seen.wide, "10.0.0.0/24", "wg0") == found


def test_a_default_route_with_several_ways_is_said(linked: World) -> None:
    host = linked["cella"]
    host.add_link("eth1", "198.18.7.2/24")
    host.routes[:] = [route for route in host.routes if (route.dst, route.table) != ("0.0.0.0/0", 254)]
    both = [{"dev": "eth0", "via": "203.0.113.254", "weight": 1, "flags": []}, {"dev": "eth1", "via": "198.18.7.1", "weight": 1, "flags": []}]
    host.shown_routes.append({"dst": "default", "protocol": "3", "nexthops": both, "flags": []})
    linked.site()
    linked.reset()
    (sentence,) = told(host)
    assert "IPv4 default route of this host has several ways (eth0, eth1)" in sentence and "'eth0'" in sentence
    assert said_in_a_run(linked, "cella") == [sentence]
    # By one interface they are one.
    both[1]["dev"] = "eth0"
    assert told(host) == []


def led_away(host: FakeHost) -> None:
    """Let wg-quick send all IPv4 of the host through another VPN."""
    host.add_link("wg1", "10.9.0.2/24", kind="wireguard")
    host.routes.append(Route(4, "0.0.0.0/0", "wg1", table=51820))
    host.rules[4][1:1] = [Rule(32764, table=254, suppress=0), Rule(32765, table=51820, unmarked=True)]


def halved(host: FakeHost) -> None:
    """Let OpenVPN send all IPv4 of the host through another VPN."""
    host.add_link("tun0", "10.9.0.2/24")
    host.routes += [Route(4, "0.0.0.0/1", "tun0"), Route(4, "128.0.0.0/1", "tun0")]


@pytest.mark.parametrize(("vpn", "name"), [(led_away, "wg1"), (halved, "tun0")])
def test_the_uplink_is_where_the_kernel_sends_what_is_forwarded(linked: World, vpn: Any, name: str) -> None:
    host = linked["cellb"]
    vpn(host)
    linked.site()
    linked.reset()
    assert f"-i wg0 -o {name} -s 10.0.1.0/24 -j ACCEPT" in host.chain(4, "PIC-PATH")
    assert f"-o {name} -j PIC-MASQ" in host.chain(4, "PIC-POST", "nat") and "-s 10.0.1.0/24 -j MASQUERADE" in host.chain(4, "PIC-MASQ", "nat")
    assert "-o eth0 -j PIC-MASQ" in host.chain(6, "PIC-POST", "nat") and "-s fd00:b::/64 -j MASQUERADE" in host.chain(6, "PIC-MASQ", "nat")
    (sentence,) = told(host)
    assert sentence.startswith(f"IPv4 packets of devices leave through '{name}', although the default route in main is through 'eth0'")
    assert said_in_a_run(linked, "cellb") == [sentence]
    ways = json.loads(program(linked["cellb"], "explain", "pad", "--json")[1])["ways"]
    assert ways[0]["verdict"].startswith("dropped")  # it is routed via cella, which has no handshake yet
    # Said once and for all, either way.
    linked.inventory["cellb"]["cell_uplink"] = name
    linked.site()
    linked.reset()
    assert (told(host), said_in_a_run(linked, "cellb")) == ([], [])
    linked.inventory["cellb"]["cell_uplink"] = "eth0"
    linked.site()
    linked.reset()
    (sentence,) = told(host)
    assert f"out through '{name}', but the uplink of cell 'cellb' is 'eth0'" in sentence and "cell_uplink" in sentence


def test_a_first_run_and_its_prediction_find_the_same_uplink(world: World) -> None:
    led_away(world["cellb"])
    predicted = world.site(check=True).diffs()
    assert "-o wg1" in json.dumps([diff for key, diff in predicted.items() if key[0] == "cellb"])
    world.site()
    world.reset()
    assert world.site().changed == []
