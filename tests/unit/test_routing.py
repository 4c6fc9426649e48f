# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy rules and routes: what ip shows, what it is given, and what that makes of them."""

from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import model as kernel
from ansible_collections.pic.cells.plugins.module_utils.kernel import routing
from ansible_collections.pic.cells.tests.unit.fake.machine import Machine

LAST_METRIC = 4294967295


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        pytest.param(kernel.PolicyRule(4, 4002, "10.0.0.2"), "from 10.0.0.2 unreachable pref 4002 protocol 201", id="closing"),
        pytest.param(kernel.PolicyRule(6, 4001, "fd00::2", 4200), "from fd00::2 lookup 4200 pref 4001 protocol 201", id="into an exit"),
        pytest.param(
            kernel.PolicyRule(4, 3999, "10.0.0.0/24", 254, 7, "172.16.0.0/12"),
            "from 10.0.0.0/24 to 172.16.0.0/12 lookup 254 suppress_prefixlength 7 pref 3999 protocol 201",
            id="shared",
        ),
        pytest.param(
            kernel.PolicyRule(4, 3999, "10.0.0.0/24", 254, 0), "from 10.0.0.0/24 lookup 254 suppress_prefixlength 0 pref 3999 protocol 201", id="suppressing 0"
        ),
    ],
)
def test_a_rule_is_rendered(rule: kernel.PolicyRule, text: str) -> None:
    assert rule.render() == text


@pytest.mark.parametrize(
    ("route", "text", "words"),
    [
        pytest.param(
            kernel.Route(4, "10.0.1.0/24", "pic-cellb"), "10.0.1.0/24 dev pic-cellb table 254 protocol 201", "10.0.1.0/24 through pic-cellb", id="into a link"
        ),
        pytest.param(
            kernel.Route(4, "10.0.1.0/24", None, 254, LAST_METRIC),
            "unreachable 10.0.1.0/24 table 254 metric 4294967295 protocol 201",
            "10.0.1.0/24 unreachable",
            id="behind a link",
        ),
        pytest.param(
            kernel.Route(6, "default", "pic-cellb", 4200),
            "default dev pic-cellb table 4200 protocol 201",
            "default through pic-cellb in table 4200",
            id="out by an exit",
        ),
        pytest.param(
            kernel.Route(6, "default", None, 4200, 0),
            "unreachable default table 4200 metric 0 protocol 201",
            "default unreachable in table 4200",
            id="metric 0",
        ),
    ],
)
def test_a_route_is_rendered_and_described(route: kernel.Route, text: str, words: str) -> None:
    assert (route.render(), route.words()) == (text, words)


# Rules that ip shows: ours, or what is read of them as somebody else's

OURS = {"priority": 4001, "src": "10.0.0.2", "table": "4200", "protocol": "201"}
SHARED = {"priority": 3999, "src": "10.0.0.0", "srclen": 24, "dst": "172.16.0.0", "dstlen": 12, "table": "254", "suppress_prefixlen": "7", "protocol": "201"}
PROBING = {"priority": 3731, "src": "all", "oif": "pic-cellb", "table": "4200", "protocol": "201"}


def without(item: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return what ip shows without some of it."""
    return {key: value for key, value in item.items() if key not in keys}


@pytest.mark.parametrize(
    ("family", "item", "rule"),
    [
        pytest.param(4, OURS, kernel.PolicyRule(4, 4001, "10.0.0.2", 4200), id="into an exit"),
        pytest.param(4, {**without(OURS, "table"), "action": "unreachable"}, kernel.PolicyRule(4, 4001, "10.0.0.2"), id="closing"),
        pytest.param(4, {**OURS, "srclen": 32}, kernel.PolicyRule(4, 4001, "10.0.0.2", 4200), id="with the length of an IPv4 address"),
        pytest.param(6, {**OURS, "src": "fd00::2", "srclen": 128}, kernel.PolicyRule(6, 4001, "fd00::2", 4200), id="with the length of an IPv6 address"),
        pytest.param(6, {**OURS, "src": "fd00::", "srclen": 32}, kernel.PolicyRule(6, 4001, "fd00::/32", 4200), id="with a prefix of 32 in IPv6"),
        pytest.param(4, {**OURS, "src": "all"}, kernel.PolicyRule(4, 4001, "all", 4200), id="from all"),
        pytest.param(4, without(OURS, "src"), kernel.PolicyRule(4, 4001, "all", 4200), id="from nowhere"),
        pytest.param(4, {**OURS, "protocol": 201}, kernel.PolicyRule(4, 4001, "10.0.0.2", 4200), id="with the protocol as a number"),
        pytest.param(4, {**OURS, "dst": "all"}, kernel.PolicyRule(4, 4001, "10.0.0.2", 4200), id="to all"),
        pytest.param(4, {**OURS, "priority": 4000}, kernel.PolicyRule(4, 4000, "10.0.0.2", 4200), id="of the lowest priority"),
        pytest.param(4, {**OURS, "priority": 5007}, kernel.PolicyRule(4, 5007, "10.0.0.2", 4200), id="of the highest priority"),
        pytest.param(4, SHARED, kernel.PolicyRule(4, 3999, "10.0.0.0/24", 254, 7, "172.16.0.0/12"), id="shared"),
        pytest.param(4, {**SHARED, "priority": 3990}, kernel.PolicyRule(4, 3990, "10.0.0.0/24", 254, 7, "172.16.0.0/12"), id="shared, of the lowest priority"),
    ],
)
def test_a_rule_of_ours_is_read(family: int, item: dict[str, Any], rule: kernel.PolicyRule) -> None:
    found = routing.parse_routing(family, [item], [])
    assert found == kernel.Routing(rules=(rule,))


SKIPPING = {"priority": 4010, "not": None, "src": "10.0.0.0", "srclen": 28, "goto": 4040, "protocol": "201"}
PASSING = {"priority": 4989, "not": None, "src": "10.0.0.7", "nop": None, "protocol": "201"}


@pytest.mark.parametrize(
    ("item", "skip", "text"),
    [
        pytest.param(SKIPPING, kernel.Skip(4, 4010, "10.0.0.0/28", 4040), "not from 10.0.0.0/28 goto 4040 pref 4010 protocol 201", id="a block"),
        pytest.param(
            {**SKIPPING, "unresolved": None},
            kernel.Skip(4, 4010, "10.0.0.0/28", 4040),
            "not from 10.0.0.0/28 goto 4040 pref 4010 protocol 201",
            id="to nowhere",
        ),
        pytest.param(PASSING, kernel.Skip(4, 4989, "10.0.0.7"), "not from 10.0.0.7 nop pref 4989 protocol 201", id="the end"),
    ],
)
def test_a_rule_that_skips_others_is_read_and_rendered(item: dict[str, Any], skip: kernel.Skip, text: str) -> None:
    assert routing.parse_routing(4, [item], []) == kernel.Routing(skips=(skip,))
    assert skip.render() == text


@pytest.mark.parametrize(
    "item",
    [
        pytest.param({**SKIPPING, "protocol": "3"}, id="of another protocol"),
        pytest.param({**SKIPPING, "priority": 3999}, id="below the tree"),
        pytest.param({**SKIPPING, "priority": 4990}, id="above the tree"),
        pytest.param(without(SKIPPING, "not"), id="the other way round"),
        pytest.param({**SKIPPING, "src": "all"}, id="of all"),
        pytest.param({**SKIPPING, "dst": "192.0.2.0", "dstlen": 24}, id="to a network"),
        pytest.param({**SKIPPING, "fwmark": "0x1"}, id="with a mark"),
        pytest.param({**PASSING, "iif": "eth0"}, id="that does nothing, by an interface"),
    ],
)
def test_a_rule_that_skips_in_another_form_is_somebody_elses(item: dict[str, Any]) -> None:
    found = routing.parse_routing(4, [item], [])
    assert (found.skips, found.rules, found.foreign_priorities) == ((), (), {item["priority"]})


@pytest.mark.parametrize(
    ("item", "priority", "tables"),
    [
        pytest.param({**OURS, "protocol": "3"}, 4001, {4200}, id="of another protocol"),
        pytest.param(without(OURS, "protocol"), 4001, {4200}, id="of no protocol"),
        pytest.param({**OURS, "priority": 3999}, 3999, {4200}, id="below our priorities"),
        pytest.param({**OURS, "priority": 5008}, 5008, {4200}, id="above our priorities"),
        pytest.param({**SHARED, "priority": 3731}, 3731, {254}, id="shared, below our priorities"),
        pytest.param({**PROBING, "priority": 3732}, 3732, {4200}, id="of an interface, above our priority"),
        pytest.param({**PROBING, "protocol": "3"}, 3731, {4200}, id="of an interface, of another protocol"),
        pytest.param({**PROBING, "fwmark": "0x1"}, 3731, {4200}, id="of an interface and a mark"),
        pytest.param({**PROBING, "dst": "192.0.2.0", "dstlen": 24}, 3731, {4200}, id="of an interface and a network"),
        pytest.param({**SHARED, "priority": 4000}, 4000, {254}, id="shared, above our priorities"),
        pytest.param({"priority": 0, "table": "255"}, 0, {255}, id="the kernel's first"),
        pytest.param({"table": "255"}, 0, {255}, id="without a priority"),
        pytest.param({**without(OURS, "table", "protocol")}, 4001, set(), id="without a table"),
        *(
            pytest.param({**OURS, selector: "1"}, 4001, {4200}, id=f"with {selector}")
            for selector in sorted(["not", "fwmark", "iif", "oif", "tos", "dsfield", "ipproto", "sport", "dport", "uid_start", "goto"])
        ),
    ],
)
def test_a_rule_of_another_form_is_somebody_elses(item: dict[str, Any], priority: int, tables: set[int]) -> None:
    found = routing.parse_routing(4, [item], [])
    assert (found.rules, found.foreign_priorities, found.foreign_tables) == ((), {priority}, tables)
    assert len(found.lookups) == 1


def test_a_rule_of_what_this_host_sends_by_an_exit_is_ours() -> None:
    for detached in ({}, {"oif_detached": None}):  # as ip shows it without the interface
        found = routing.parse_routing(4, [{**PROBING, **detached}], [])
        assert [rule.render() for rule in found.rules] == ["from all oif pic-cellb lookup 4200 pref 3731 protocol 201"]


# Routes that ip shows

LINK = {"dst": "10.0.1.0/24", "dev": "pic-cellb", "protocol": "201"}
BEHIND = {"type": "7", "dst": "10.0.1.0/24", "dev": "lo", "protocol": "201", "metric": LAST_METRIC}


@pytest.mark.parametrize(
    ("family", "item", "route"),
    [
        pytest.param(4, LINK, kernel.Route(4, "10.0.1.0/24", "pic-cellb"), id="into a link"),
        pytest.param(4, {**LINK, "dst": "10.0.1.1"}, kernel.Route(4, "10.0.1.1/32", "pic-cellb"), id="to one address"),
        pytest.param(4, {**LINK, "table": "main"}, kernel.Route(4, "10.0.1.0/24", "pic-cellb"), id="in a table by its name"),
        pytest.param(4, BEHIND, kernel.Route(4, "10.0.1.0/24", None, 254, LAST_METRIC), id="unreachable"),
        pytest.param(4, {**LINK, "dst": "default", "table": "4200"}, kernel.Route(4, "default", "pic-cellb", 4200), id="out by an exit"),
        pytest.param(6, {**LINK, "dst": "fd00:b::/64", "metric": 1024}, kernel.Route(6, "fd00:b::/64", "pic-cellb"), id="IPv6 without a metric"),
        pytest.param(6, {**LINK, "dst": "fd00:b::/64", "metric": 1025}, kernel.Route(6, "fd00:b::/64", "pic-cellb", 254, 1025), id="IPv6 with a metric"),
        pytest.param(4, {**LINK, "metric": 1024}, kernel.Route(4, "10.0.1.0/24", "pic-cellb", 254, 1024), id="IPv4 with the metric of IPv6"),
    ],
)
def test_a_route_of_ours_is_read(family: int, item: dict[str, Any], route: kernel.Route) -> None:
    assert routing.parse_routing(family, [], [item]) == kernel.Routing(routes=(route,))


ETH0 = {"dst": "192.168.1.0/24", "dev": "eth0", "protocol": "2", "scope": "253"}
DEFAULT = {"dst": "default", "gateway": "192.168.1.1", "dev": "eth0", "protocol": "4"}


@pytest.mark.parametrize(
    ("family", "item", "found"),
    [
        pytest.param(4, ETH0, {"host_networks": (("eth0", "192.168.1.0/24"),), "connected": (("eth0", "192.168.1.0/24"),)}, id="a network that the host is in"),
        pytest.param(4, {**ETH0, "gateway": "192.168.2.1"}, {"host_networks": (("eth0", "192.168.1.0/24"),)}, id="a network behind a router"),
        pytest.param(4, {**ETH0, "via": {"host": "fe80::1"}}, {"host_networks": (("eth0", "192.168.1.0/24"),)}, id="a network behind a router of IPv6"),
        pytest.param(
            4, {**ETH0, "dst": "192.168.1.7"}, {"host_networks": (("eth0", "192.168.1.7/32"),), "connected": (("eth0", "192.168.1.7/32"),)}, id="a host"
        ),
        pytest.param(4, {**ETH0, "table": "100"}, {"host_networks": (("eth0", "192.168.1.0/24"),), "foreign_tables": frozenset({100})}, id="in another table"),
        pytest.param(4, {**ETH0, "table": "255"}, {"foreign_tables": frozenset({255})}, id="in the table local"),
        pytest.param(4, {**ETH0, "type": "2"}, {}, id="of another type"),
        pytest.param(4, {**ETH0, "type": "1"}, {"host_networks": (("eth0", "192.168.1.0/24"),), "connected": (("eth0", "192.168.1.0/24"),)}, id="unicast"),
        pytest.param(4, without(ETH0, "dev"), {}, id="without a device"),
        pytest.param(4, {**ETH0, "dst": "2.0.0.0/7"}, {}, id="as wide as a default route"),
        pytest.param(
            4, {**ETH0, "dst": "2.0.0.0/8"}, {"host_networks": (("eth0", "2.0.0.0/8"),), "connected": (("eth0", "2.0.0.0/8"),)}, id="not quite as wide"
        ),
        pytest.param(6, {**ETH0, "dst": "fe80::/64"}, {}, id="link-local"),
        pytest.param(6, {**ETH0, "dst": "fd00::/64"}, {"host_networks": (("eth0", "fd00::/64"),), "connected": (("eth0", "fd00::/64"),)}, id="IPv6"),
        pytest.param(4, DEFAULT, {"uplink": "eth0"}, id="the default route"),
        pytest.param(4, {**DEFAULT, "table": "100"}, {"foreign_tables": frozenset({100})}, id="a default route in another table"),
        pytest.param(4, {**without(DEFAULT, "dev"), "nexthops": [{"dev": "eth1"}, {"dev": "eth2"}]}, {"uplink": "eth1"}, id="a default route of several"),
        pytest.param(6, {**DEFAULT, "protocol": "9"}, {"uplink": "eth0", "advertised": ("eth0",)}, id="a router that has made itself known"),
        pytest.param(6, {**DEFAULT, "protocol": "9", "table": "100"}, {"advertised": ("eth0",), "foreign_tables": frozenset({100})}, id="made known elsewhere"),
    ],
)
def test_of_a_route_of_others_this_is_read(family: int, item: dict[str, Any], found: dict[str, Any]) -> None:
    read = routing.parse_routing(family, [], [item])
    expected = {"host_networks": (), "connected": (), "uplink": None, "advertised": (), "foreign_tables": frozenset({254}), **found}
    assert {key: getattr(read, key) for key in expected} == expected
    assert (read.rules, read.routes) == ((), ())
    assert len(read.wide) == (item["dst"] in ("default", "2.0.0.0/7"))


def test_the_default_route_of_the_lowest_metric_is_the_uplink() -> None:
    routes = [{**DEFAULT, "dev": dev, **({"metric": metric} if metric else {})} for dev, metric in (("wlan0", 600), ("eth1", None), ("eth0", 100))]
    assert routing.parse_routing(4, [], routes).uplink == "eth1"
    assert routing.parse_routing(4, [], [routes[0], routes[2]]).uplink == "eth0"


@pytest.mark.parametrize("family", [4, 6])
def test_both_tables_of_one_family_are_asked_for(tmp_path: Path, family: int) -> None:
    class Ip(Machine):
        def _execute(self, words: list[str], stdin: str) -> Any:
            return types.SimpleNamespace(rc=0, out={"rule": "", "route": "[]"}[words[4]], err="")

        def _tool(self, name: str) -> Any:
            return name

    host = Ip(str(tmp_path))
    assert routing.read_routing(host, family) == kernel.Routing()
    assert host.log == [["ip", f"-{family}", "-N", "-json", "rule", "show"], ["ip", f"-{family}", "-N", "-json", "route", "show", "table", "all"]]
    host.missing, host.log = {"ip"}, []
    assert (routing.read_routing(host, family), host.log) == (kernel.Routing(), [])


# What changes

RULE, OTHER = kernel.PolicyRule(4, 4002, "10.0.0.2"), kernel.PolicyRule(4, 4002, "10.0.0.3")
ROUTE, BEHIND_IT = kernel.Route(4, "10.0.1.0/24", "pic-cellb"), kernel.Route(4, "10.0.1.0/24", None, 254, LAST_METRIC)
ELSEWHERE = kernel.Route(4, "10.0.1.0/24", "wg0")


@pytest.mark.parametrize(
    ("changes", "rules", "routes"),
    [
        pytest.param([], [RULE], [ROUTE, BEHIND_IT], id="nothing"),
        pytest.param([("add", OTHER)], [RULE, OTHER], [ROUTE, BEHIND_IT], id="a rule added"),
        pytest.param([("add", RULE)], [RULE, RULE], [ROUTE, BEHIND_IT], id="a rule doubled"),
        pytest.param([("del", RULE)], [], [ROUTE, BEHIND_IT], id="a rule deleted"),
        pytest.param([("add", RULE), ("del", RULE)], [RULE], [ROUTE, BEHIND_IT], id="of two the first deleted"),
        pytest.param([("replace", ELSEWHERE)], [RULE], [BEHIND_IT, ELSEWHERE], id="a route through another device"),
        pytest.param([("replace", ROUTE)], [RULE], [BEHIND_IT, ROUTE], id="a route replaced by itself"),
        pytest.param([("del", ROUTE)], [RULE], [BEHIND_IT], id="a route deleted, not the one of another metric"),
        pytest.param([("del", kernel.Route(4, "10.0.1.0/24", "pic-cellb", 4200))], [RULE], [ROUTE, BEHIND_IT], id="a route of another table"),
        pytest.param([("del", kernel.Route(4, "10.0.2.0/24", "pic-cellb"))], [RULE], [ROUTE, BEHIND_IT], id="a route that is not there"),
    ],
)
def test_changes_make_this_of_rules_and_routes(changes: list[kernel.RoutingChange], rules: list[kernel.PolicyRule], routes: list[kernel.Route]) -> None:
    before = kernel.Routing(rules=(RULE,), routes=(ROUTE, BEHIND_IT), uplink="eth0")
    after = kernel.changed({4: before}, changes)[4]
    assert (after.rules, after.routes, after.uplink) == (tuple(rules), tuple(routes), "eth0")
    assert before == kernel.Routing(rules=(RULE,), routes=(ROUTE, BEHIND_IT), uplink="eth0")


def test_two_routes_that_differ_by_their_device_alone_both_stay() -> None:
    before = kernel.Routing(routes=(ROUTE, ELSEWHERE))
    assert kernel.changed({4: before}, []) == {4: before}


def test_a_rule_that_is_not_there_cannot_be_deleted() -> None:
    with pytest.raises(ValueError):
        kernel.changed({4: kernel.Routing()}, [("del", RULE)])


def test_all_changes_are_one_call_of_ip() -> None:
    plan = routing.batch(6, iter([("add", RULE), ("replace", ROUTE), ("del", BEHIND_IT)]))
    (step,) = plan.steps
    assert (step.argv, step.ok) == (("ip", "-6", "-batch", "-"), (0,))
    assert step.stdin == (
        "rule add from 10.0.0.2 unreachable pref 4002 protocol 201\n"
        "route replace 10.0.1.0/24 dev pic-cellb table 254 protocol 201\n"
        "route del unreachable 10.0.1.0/24 table 254 metric 4294967295 protocol 201\n"
    )


def test_a_plan_of_changes_says_what_they_make_of_this_family() -> None:
    rule = replace(RULE, family=6)
    (effect,) = routing.batch(6, [("add", rule)]).effects
    before = {4: kernel.Routing(), 6: kernel.Routing()}
    assert effect.slice == "routing"
    assert effect.change(before, effect.items) == {4: kernel.Routing(), 6: kernel.Routing(rules=(rule,))}


def test_without_a_change_ip_is_not_called() -> None:
    assert not routing.batch(4, [])
