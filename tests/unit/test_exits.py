# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which tables and rules a device leaves by its exit, and in which order it is moved."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import errors
from ansible_collections.pic.cells.plugins.module_utils.kernel import model as kernel
from ansible_collections.pic.cells.plugins.module_utils.parts import exits, placement
from ansible_collections.pic.cells.plugins.module_utils.records import model as records

NOTHING = {4: kernel.Routing(), 6: kernel.Routing()}
CELLB = {"public_key": "B", "networks": ["10.0.1.0/24", "fd00:b::/64"], "interface": "pic-cellb", "remote_exit_offered": True, "exit_table": 4200}
CELLC = {"public_key": "C", "networks": ["10.0.2.0/24"], "interface": "pic-cellc", "remote_exit_offered": True, "exit_table": 4201}


def state(via: str | None = "cellb", *, cellb: dict[str, Any] | None = None, **more: Any) -> records.State:
    """Return a cell with a phone that leaves by another cell, and a tv that leaves directly."""
    links = {"cellb": records.Link("cellb", **{**CELLB, **(cellb or {})}), "cellc": records.Link("cellc", **CELLC)}
    devices = {
        "phone": records.Peer("phone", "P", ["10.0.0.2", "fd00:a::2"], [via] if via else [], more.pop("behind", [])),
        "tv": records.Peer("tv", "T", ["10.0.0.9"], [more.pop("tv")] if more.get("tv") else []),
    }
    return records.State(records.Cell("cella", more.pop("networks", ["10.0.0.1/24", "fd00:a::1/64"])), links, devices, **more)


def present(of: records.State, family: int) -> kernel.Routing:
    """Return the routing of a host that has what a state calls for."""
    rules = [rule for found in exits.wanted_rules(of, family, collections.defaultdict(lambda: 4000)).values() for rule in found]
    return kernel.Routing((*rules, *exits.shared_rules(of, family, [])), tuple(exits.exit_routes(of, family)))


def shown(changes: list[kernel.RoutingChange]) -> list[str]:
    """Return changes of a device's own rules and of routes as ip takes them, without what all of ours end with; shared rules are left out."""
    return [f"{verb} {item.render()}".removesuffix(" protocol 201") for verb, item in changes if isinstance(item, kernel.Route) or item.destination is None]


# Tables and priorities


@pytest.mark.parametrize(
    ("tables", "foreign", "expected"),
    [
        pytest.param((None, None), (), (4200, 4201), id="the first ones, by name"),
        pytest.param((None, 4200), (), (4201, 4200), id="not one of another link"),
        pytest.param((4205, None), (), (4205, 4200), id="one that a link has stays"),
        pytest.param((None, None), (4200, 4202), (4201, 4203), id="not one of somebody else"),
        pytest.param((4200, 4201), (4200,), (4202, 4201), id="another where somebody else has come"),
        pytest.param((254, 255), (), (4200, 4201), id="none of the kernel's"),
    ],
)
def test_each_exit_has_a_table_of_its_own(tables: tuple[int | None, int | None], foreign: tuple[int, ...], expected: tuple[int, int]) -> None:
    found = state(cellb={"exit_table": tables[0]}, tv="cellc")
    found.links["cellc"].exit_table = tables[1]
    exits.allocate_tables(found, [kernel.Routing(foreign_tables=frozenset(foreign)), kernel.Routing()])
    assert (found.links["cellb"].exit_table, found.links["cellc"].exit_table) == expected


def test_a_link_that_is_no_exit_and_an_exit_that_is_not_linked_get_no_table() -> None:
    found = state("celld", cellb={"exit_table": None})
    exits.allocate_tables(found, NOTHING.values())
    assert found == state("celld", cellb={"exit_table": None})


def test_the_last_table_is_taken_and_then_none_is_left() -> None:
    all_but_one = kernel.Routing(foreign_tables=frozenset(range(4200, 5199)))
    found = state(cellb={"exit_table": None})
    exits.allocate_tables(found, [all_but_one])
    assert found.links["cellb"].exit_table == 5199
    found.peers["tv"].route_via, found.links["cellc"].exit_table = ["cellc"], None
    with pytest.raises(errors.BadInput, match="No routing table from 4200 to 5199 is free for the exit cell 'cellc'"):
        exits.allocate_tables(found, [all_but_one])


def own(priority: int) -> kernel.Routing:
    """Return the routing of a host with one rule of a device."""
    return kernel.Routing(rules=(kernel.PolicyRule(4, priority, "10.0.0.2"),))


def foreign(*priorities: int) -> kernel.Routing:
    """Return the routing of a host with rules of others."""
    return kernel.Routing(foreign_priorities=frozenset(priorities))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([], 4000, id="the lowest"),
        pytest.param([own(4012)], 4010, id="the one that our rules have"),
        pytest.param([own(4031), own(4012)], 4030, id="whatever those of the other family have"),
        pytest.param([foreign(4000)], 4010, id="not the one of somebody else"),
        pytest.param([foreign(4002)], 4010, id="not one whose third is somebody else's"),
        pytest.param([foreign(4003)], 4000, id="one whose fourth is somebody else's"),
        pytest.param([foreign(), foreign(4001)], 4010, id="not one that is taken in the other family"),
        pytest.param([own(4012), foreign(4011)], 4000, id="another where somebody else has come"),
        pytest.param([kernel.Routing(rules=(kernel.PolicyRule(4, 3999, "10.0.0.0/24", 254, 7, "10.0.0.0/8"),))], 4000, id="whatever shared rules have"),
        pytest.param([foreign(*range(4000, 4990))], 4990, id="the last"),
    ],
)
def test_devices_rules_have_this_priority(seen: list[kernel.Routing], expected: int) -> None:
    assert placement.base_priority(4, dict(zip((4, 6), seen))) == expected


def shared(*priorities: int) -> kernel.Routing:
    """Return the routing of a host with shared rules."""
    return kernel.Routing(rules=tuple(kernel.PolicyRule(4, priority, "10.0.0.0/24", 254, 7, "10.0.0.0/8") for priority in priorities))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([], 3999, id="the highest"),
        pytest.param([shared(3995)], 3995, id="the one that our rules have"),
        pytest.param([shared(3997, 3995)], 3995, id="of several the lowest that our rules have"),
        pytest.param([foreign(3999), foreign(3998)], 3997, id="not those of somebody else, in any family"),
        pytest.param([shared(3995), foreign(3995)], 3999, id="another where somebody else has come"),
        pytest.param([own(4002)], 3999, id="whatever devices' rules have"),
        pytest.param([foreign(*range(3991, 4000))], 3990, id="the last"),
    ],
)
def test_shared_rules_have_this_priority(seen: list[kernel.Routing], expected: int) -> None:
    assert exits.shared_priority(iter(seen)) == expected


def test_where_others_have_all_priorities_nothing_is_routed() -> None:
    with pytest.raises(errors.BadInput, match="No three priorities from 4000 to 4998"):
        placement.base_priority(4, {4: foreign(*range(4000, 5000))})
    with pytest.raises(errors.BadInput, match="No priority from 3990 to 3999"):
        exits.shared_priority([foreign(*range(3990, 4000))])


# What records call for


@pytest.mark.parametrize(
    ("of", "family", "expected"),
    [
        pytest.param({}, 4, {"10.0.0.2": ["unreachable pref 4012", "lookup 4200 pref 4011"]}, id="routed, IPv4"),
        pytest.param({}, 6, {"fd00:a::2": ["unreachable pref 4012", "lookup 4200 pref 4011"]}, id="routed, IPv6"),
        pytest.param({"via": None}, 4, {}, id="none routed"),
        pytest.param({"via": "celld"}, 4, {"10.0.0.2": ["unreachable pref 4012"]}, id="by a cell that is not linked"),
        pytest.param({"cellb": {"exit_table": None}}, 4, {"10.0.0.2": ["unreachable pref 4012"]}, id="by a cell without a table"),
        pytest.param({"cellb": {"remote_exit_offered": False}}, 4, {"10.0.0.2": ["unreachable pref 4012", "lookup 4200 pref 4011"]}, id="not offered"),
    ],
)
def test_each_address_of_a_routed_device_has_these_rules(of: dict[str, Any], family: int, expected: dict[str, list[str]]) -> None:
    found = exits.wanted_rules(state(**of), family, collections.defaultdict(lambda: 4010))
    assert {address: [rule.render() for rule in rules] for (address, _network), rules in found.items()} == {
        address: [f"from {address} {text} protocol 201" for text in texts] for address, texts in expected.items()
    }


HOME = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"]


@pytest.mark.parametrize(
    ("of", "family", "sources", "networks"),
    [
        pytest.param({}, 4, ["10.0.0.0/24"], HOME, id="near networks"),
        pytest.param({}, 6, ["fd00:a::/64"], ["fc00::/7", "fe80::/10"], id="near networks of IPv6"),
        pytest.param({"via": None}, 4, [], [], id="none where no device is routed"),
        pytest.param({"cellb": {"networks": ["198.51.100.0/24"]}}, 4, ["10.0.0.0/24"], [*HOME, "198.51.100.0/24"], id="a public network of a linked cell"),
        pytest.param({"cellb": {"networks": ["198.51.100.0/24"], "public_key": None}}, 4, ["10.0.0.0/24"], HOME, id="one of a link that waits"),
        pytest.param({"networks": ["203.0.113.1/24"]}, 4, ["203.0.113.0/24", "10.0.0.2"], [*HOME, "203.0.113.0/24"], id="a public network of the cell"),
        pytest.param({"behind": ["203.0.113.0/28"]}, 4, ["10.0.0.0/24"], [*HOME, "203.0.113.0/28"], id="a public network behind a device"),
        pytest.param({"behind": ["2001:db8::/64"]}, 4, ["10.0.0.0/24"], HOME, id="one of the other family"),
    ],
)
def test_these_rules_are_shared(of: dict[str, Any], family: int, sources: list[str], networks: list[str]) -> None:
    width = {4: 7, 6: 6}[family]
    assert exits.shared_rules(state(**of), family, [shared(3995)]) == [
        kernel.PolicyRule(family, 3995, source, 254, width, network) for source in sources for network in networks
    ]


CLOSED = "default unreachable in table 4200"


@pytest.mark.parametrize(
    ("of", "family", "expected"),
    [
        pytest.param({}, 4, [CLOSED, "default through pic-cellb in table 4200"], id="offered"),
        pytest.param({}, 6, [CLOSED, "default through pic-cellb in table 4200"], id="offered, IPv6"),
        pytest.param({"cellb": {"remote_exit_offered": False}}, 4, [CLOSED], id="not offered"),
        pytest.param({"cellb": {"public_key": None}}, 4, [CLOSED], id="not known"),
        pytest.param({"cellb": {"interface": None}}, 4, [CLOSED], id="without an interface"),
        pytest.param({"cellb": {"networks": ["10.0.1.0/24"]}}, 6, [CLOSED], id="an exit without the family"),
        pytest.param({"networks": ["10.0.0.1/24"]}, 6, [CLOSED], id="a cell without the family"),
        pytest.param({"cellb": {"exit_table": None}}, 4, [], id="without a table"),
        pytest.param({"via": "celld"}, 4, [], id="not linked"),
        pytest.param({"via": None}, 4, [], id="not used"),
        pytest.param(
            {"tv": "cellc"},
            4,
            [CLOSED, "default through pic-cellb in table 4200", "default unreachable in table 4201", "default through pic-cellc in table 4201"],
            id="two exits",
        ),
    ],
)
def test_the_tables_of_exits_hold_these_routes(of: dict[str, Any], family: int, expected: list[str]) -> None:
    routes = exits.exit_routes(state(**of), family)
    assert [route.words() for route in routes] == expected
    assert {(route.family, route.metric) for route in routes if route.device is None} <= {(family, 4278198272)}
    assert {(route.family, route.metric) for route in routes if route.device} <= {(family, None)}


@pytest.mark.parametrize(("more", "count"), [({}, 2), ({"exit_table": None}, 0), ({"interface": None}, 0), ({"networks": ["fd00:b::/64"]}, 1)])
def test_an_exits_default_routes_are_those_of_both_families_that_both_cells_have(more: dict[str, Any], count: int) -> None:
    found = state(cellb=more)
    assert len(exits.default_routes(found.cell, found.links["cellb"])) == count


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        pytest.param(
            ["10.0.0.1/24", "fd00:a::1/64"],
            ["10.0.1.0/24 through pic-cellb", "10.0.1.0/24 unreachable", "fd00:b::/64 through pic-cellb", "fd00:b::/64 unreachable"],
            id="both families",
        ),
        pytest.param(["10.0.0.1/24"], ["10.0.1.0/24 through pic-cellb", "10.0.1.0/24 unreachable", "fd00:b::/64 unreachable"], id="a cell without IPv6"),
    ],
)
def test_behind_each_route_into_a_link_an_unreachable_one_stands(networks: list[str], expected: list[str]) -> None:
    found = state(networks=networks)
    routes = exits.link_routes(found.cell, found.links["cellb"])
    assert [route.words() for route in routes] == expected
    assert {route.metric for route in routes if route.device is None} == {4294967295}
    assert {route.family for route in routes if "." in route.destination} == {4}


def test_the_networks_behind_devices_have_routes_once_the_device_has_a_key() -> None:
    found = state(behind=["10.6.0.0/24", "10.5.0.0/24", "2001:db8::/64"])
    found.peers["tv"].networks = ["10.6.0.0/24", "10.7.0.0/24"]
    assert [(route.family, route.words()) for route in exits.device_routes(found)] == [
        *((4, f"10.{number}.0.0/24 through wg0") for number in (5, 6, 7)),
        (6, "2001:db8::/64 through wg0"),
    ]
    found.peers["tv"].public_key = None
    found.cell.networks = ["10.0.0.1/24"]
    assert [route.destination for route in exits.device_routes(found)] == ["10.5.0.0/24", "10.6.0.0/24"]


def test_the_kernel_makes_a_route_for_each_own_network_but_a_single_address() -> None:
    found = state(networks=["fd00:a::1/64", "10.0.0.1/24", "10.9.9.9/32"])
    assert exits.own_routes(found.cell) == [kernel.Route(4, "10.0.0.0/24", "wg0"), kernel.Route(6, "fd00:a::/64", "wg0")]


# The order of a move

CLOSE, ENTER, ENTER_C = "from 10.0.0.2 unreachable pref 4002", "from 10.0.0.2 lookup 4200 pref 4001", "from 10.0.0.2 lookup 4201 pref 4001"
END, OUT = "unreachable default table 4200 metric 4278198272", "default dev pic-cellb table 4200"
END_C, OUT_C = END.replace("4200", "4201"), "default dev pic-cellc table 4201"


@pytest.mark.parametrize(
    ("before", "after", "prepare", "enter", "leave", "flows"),
    [
        pytest.param({"via": None}, {}, [f"replace {END}", f"add {CLOSE}"], [f"replace {OUT}", f"add {ENTER}"], [], ["10.0.0.2"], id="to an exit"),
        pytest.param({}, {}, [], [], [], [], id="nowhere"),
        pytest.param({}, {"via": None}, [f"del {ENTER}", f"del {OUT}"], [], [f"del {CLOSE}", f"del {END}"], ["10.0.0.2"], id="back to direct"),
        pytest.param(
            {},
            {"via": "cellc"},
            [f"replace {END_C}", f"del {ENTER}", f"del {OUT}"],
            [f"replace {OUT_C}", f"add {ENTER_C}"],
            [f"del {END}"],
            ["10.0.0.2"],
            id="to another exit",
        ),
        pytest.param({}, {"cellb": {"remote_exit_offered": False}}, [f"del {OUT}"], [], [], [], id="an exit that is no longer offered"),
        pytest.param({"cellb": {"remote_exit_offered": False}}, {}, [], [f"replace {OUT}"], [], [], id="an exit that is offered again"),
        pytest.param({}, {"via": "celld"}, [f"del {ENTER}", f"del {OUT}"], [], [f"del {END}"], [], id="to a cell that is not linked"),
        pytest.param({"via": "celld"}, {}, [f"replace {END}"], [f"replace {OUT}", f"add {ENTER}"], [], ["10.0.0.2"], id="from closed to an exit"),
        pytest.param({"via": "celld"}, {"via": None}, [], [], [f"del {CLOSE}"], ["10.0.0.2"], id="from closed to direct"),
    ],
)
def test_a_device_is_moved_in_this_order(
    before: dict[str, Any], after: dict[str, Any], prepare: list[str], enter: list[str], leave: list[str], flows: list[str]
) -> None:
    seen = {family: present(state(**before), family) for family in (4, 6)}
    move = exits.plan_move(state(**after), seen, 4)
    assert (shown(move.prepare), shown(move.enter), shown(move.leave), move.flows) == (prepare, enter, leave, flows)
    assert bool(move) == bool(prepare or enter or leave)


def test_shared_rules_come_before_all_else_and_go_after_all_else() -> None:
    there = [f"add {rule.render()}" for rule in exits.shared_rules(state(), 4, [])]
    move = exits.plan_move(state(), NOTHING, 4)
    assert [f"{verb} {item.render()}" for verb, item in move.prepare][1:5] == there
    move = exits.plan_move(state(None), {4: present(state(), 4), 6: kernel.Routing()}, 4)
    assert [f"{verb} {item.render()}" for verb, item in move.leave] == [
        "del from 10.0.0.2 unreachable pref 4002 protocol 201",
        *(text.replace("add", "del") for text in there),
        "del unreachable default table 4200 metric 4278198272 protocol 201",
    ]


def test_a_move_is_described_by_device_and_by_route() -> None:
    near = "10.0.0.0/24 to 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16: [3999] main without defaults"
    move = exits.plan_move(state(), NOTHING, 4)
    assert (move.before, move.after) == (
        ["10.0.0.2: direct"],
        [near, "10.0.0.2: [4001] table 4200, [4002] unreachable", CLOSED, "default through pic-cellb in table 4200"],
    )
    move = exits.plan_move(state(None), {4: present(state(), 4), 6: kernel.Routing()}, 4)
    assert (move.before, move.after) == (
        [near, "10.0.0.2: [4001] table 4200, [4002] unreachable", CLOSED, "default through pic-cellb in table 4200"],
        ["10.0.0.2: direct"],
    )


def test_a_rule_of_an_older_version_goes_after_the_closing_one_has_come() -> None:
    older = kernel.PolicyRule(4, 4000, "10.0.0.2", kernel.MAIN, 0)
    seen = {4: kernel.Routing(rules=(older, kernel.PolicyRule(4, 4001, "10.0.0.2", 4200))), 6: kernel.Routing()}
    move = exits.plan_move(state(), seen, 4)
    assert (shown(move.prepare)[1:], shown(move.enter)[1:]) == ([f"add {CLOSE}"], [])
    assert shown(move.leave) == ["del from 10.0.0.2 lookup 254 suppress_prefixlength 0 pref 4000"]
    assert "10.0.0.2: [4000] main without defaults, [4001] table 4200" in move.before
    assert move.flows == []
    move = exits.plan_move(state(None), {4: kernel.Routing(rules=(older, kernel.PolicyRule(4, 4002, "10.0.0.2"))), 6: kernel.Routing()}, 4)
    assert shown(move.leave) == [f"del {CLOSE}", "del from 10.0.0.2 lookup 254 suppress_prefixlength 0 pref 4000"], "in between a packet finds main"


def test_of_two_rules_that_are_the_same_one_goes() -> None:
    there = present(state(), 4)
    closing = exits.closing_rule(4, 4000, "10.0.0.2")
    move = exits.plan_move(state(), {4: kernel.Routing((*there.rules, closing), there.routes), 6: kernel.Routing()}, 4)
    assert (shown(move.prepare), shown(move.enter), shown(move.leave), move.flows) == ([], [], [f"del {CLOSE}"], [])


def test_while_an_exits_interface_is_not_there_its_table_stays_closed() -> None:
    move = exits.plan_move(state(tv="cellc"), NOTHING, 4, ["pic-cellc"])
    assert [text for text in shown([*move.prepare, *move.enter]) if "default" in text] == [f"replace {END}", f"replace {END_C}", f"replace {OUT_C}"]
    assert f"add {ENTER}" in shown(move.enter)


def test_while_nobody_knows_who_is_routed_what_the_kernel_knows_stays() -> None:
    seen = {family: present(state(), family) for family in (4, 6)}
    lost = state()
    lost.peers, lost.peers_lost = {}, True
    move = exits.plan_move(lost, seen, 4)
    assert (move.prepare, move.enter, move.flows) == ([("del", route) for route in seen[4].routes if route.device], [], [])
    assert [item for _verb, item in move.leave] == [route for route in seen[4].routes if not route.device]


def test_the_priorities_of_both_families_are_the_same() -> None:
    move = exits.plan_move(state(), {4: kernel.Routing(), 6: foreign(4001, 3999)}, 4)
    assert shown(move.enter)[-1] == "add from 10.0.0.2 lookup 4200 pref 4011"
    assert {item.priority for _verb, item in move.prepare if isinstance(item, kernel.PolicyRule) and item.destination} == {3998}


def test_routes_of_the_table_main_are_no_exits() -> None:
    into_a_link = kernel.Route(4, "10.0.1.0/24", "pic-cellb")
    there = present(state(), 4)
    assert not exits.plan_move(state(), {4: kernel.Routing(there.rules, (*there.routes, into_a_link)), 6: kernel.Routing()}, 4)


# Plans of a part


def written(plan: Any) -> dict[str, list[str]]:
    """Return what ip is given, by its arguments."""
    return {" ".join(step.argv): step.stdin.splitlines() for step in plan.steps}


def test_shared_rules_alone_are_brought_up_to_date_the_missing_ones_first() -> None:
    there = present(state(), 4)
    gone, *kept = [rule for rule in there.rules if rule.destination]
    seen = {4: kernel.Routing((*kept, kernel.PolicyRule(4, 3999, "10.0.0.0/24", 254, 7, "203.0.113.0/24"))), 6: present(state(), 6)}
    plan = exits.plan_shared(state(), seen)
    assert written(plan) == {
        "ip -4 -batch -": [f"rule add {gone.render()}", "rule del from 10.0.0.0/24 to 203.0.113.0/24 lookup 254 suppress_prefixlength 7 pref 3999 protocol 201"]
    }
    assert (plan.before, plan.after) == (
        ["10.0.0.0/24 to 203.0.113.0/24: [3999] main without defaults"],
        ["10.0.0.0/24 to 10.0.0.0/8: [3999] main without defaults"],
    )
    assert not exits.plan_shared(state(), {family: present(state(), family) for family in (4, 6)})
    lost = state()
    lost.peers_lost = True
    assert written(exits.plan_shared(lost, seen)) == {"ip -4 -batch -": [f"rule add {gone.render()}"]}


@pytest.mark.parametrize(
    ("let_in", "there", "expected"),
    [
        pytest.param(set(), [], {"10.0.0.2": "from 10.0.0.2 unreachable pref 4002"}, id="not let in yet"),
        pytest.param({"10.0.0.2/32"}, [], {}, id="let in"),
        pytest.param({"10.0.0.9/32"}, [], {"10.0.0.2": "from 10.0.0.2 unreachable pref 4002"}, id="another let in"),
        pytest.param(set(), [kernel.PolicyRule(4, 4002, "10.0.0.2")], {}, id="closed already"),
        pytest.param(set(), [kernel.PolicyRule(4, 4002, "10.0.0.9")], {"10.0.0.2": "from 10.0.0.2 unreachable pref 4002"}, id="another one closed"),
    ],
)
def test_a_routed_device_is_closed_in_before_it_is_let_in(let_in: set[str], there: list[kernel.PolicyRule], expected: dict[str, str]) -> None:
    plan = exits.plan_closing(state(), let_in, {4: kernel.Routing(rules=tuple(there))})
    assert written(plan) == ({"ip -4 -batch -": [f"rule add {text} protocol 201" for text in expected.values()]} if expected else {})
    assert (plan.before, plan.after) == ([], [f"{address}: [4002] unreachable" for address in expected])


def test_closing_in_is_described_with_the_rules_that_are_there() -> None:
    plan = exits.plan_closing(state(), set(), {4: kernel.Routing(rules=(kernel.PolicyRule(4, 4001, "10.0.0.2", 4200),))})
    assert (plan.before, plan.after) == (["10.0.0.2: [4001] table 4200"], ["10.0.0.2: [4001] table 4200, [4002] unreachable"])


def test_closing_in_goes_through_all_devices_of_both_families() -> None:
    plan = exits.plan_closing(state(tv="cellc"), set(), NOTHING)
    assert {argv: len(lines) for argv, lines in written(plan).items()} == {"ip -4 -batch -": 2, "ip -6 -batch -": 1}
