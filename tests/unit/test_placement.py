# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the policy rules of many routed devices stand: what a packet passes, and that no rule and no change of them opens a way."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Mapping
from typing import Union

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import model as kernel
from ansible_collections.pic.cells.plugins.module_utils.kernel.routing import TREE_PRIORITIES
from ansible_collections.pic.cells.plugins.module_utils.parts import exits, placement
from ansible_collections.pic.cells.plugins.module_utils.records import model as records
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call

Rule = Union[kernel.PolicyRule, kernel.Skip]
NETWORKS = {4: "10.0.0.0/24", 6: "fd00:a::/64"}
SPREAD = {4: "10.0.0.0/8", 6: "fd00::/16"}


def some(count: int, within: str, seed: int = 0) -> list[str]:
    """Return random addresses of a network."""
    network, found = ipaddress.ip_network(within), random.Random(seed)
    return [str(network[number]) for number in found.sample(range(1, min(network.num_addresses - 1, 1 << 30)), count)]


def state(addresses: Iterable[str], via: str = "cellb") -> records.State:
    """Return a cell whose devices with these addresses leave by another cell."""
    links = {name: records.Link(name, name, [f"10.{table - 4100}.0.0/24"], exit_table=table) for name, table in (("cellb", 4200), ("cellc", 4201))}
    devices = {address: records.Peer(address, address, [address], [via]) for address in addresses}
    return records.State(records.Cell("cella", list(NETWORKS.values())), links, devices)


def walk(rules: Iterable[Rule], address: str) -> tuple[str, int]:
    """Follow the rules as the kernel does for a packet from an address to the internet; return where they lead, and how many were looked at."""
    ordered, looked, at = sorted(rules, key=lambda rule: rule.priority), 0, 0
    there = {rule.priority for rule in ordered}
    for rule in ordered:
        if rule.priority < at:
            continue
        looked += 1
        if isinstance(rule, kernel.Skip):
            if rule.to in there and ipaddress.ip_address(address) not in ipaddress.ip_network(rule.network):
                at = rule.to
        elif rule.source == address:
            return exits.table_in_words(rule), looked
    return "main", looked


def wanted(of: records.State, family: int, seen: Mapping[int, kernel.Routing] | None = None) -> list[Rule]:
    placed = exits.placed(of, family, seen or {})
    return [*(rule for found in exits.wanted_rules(of, family, placed.priorities).values() for rule in found), *placed.skips]


def carried_out(rules: list[Rule], changes: Iterable[kernel.RoutingChange]) -> Iterable[list[Rule]]:
    """Return the rules after each change; without those to near networks, which decide about none of these packets."""
    rules = list(rules)
    for verb, item in changes:
        if not isinstance(item, kernel.Route) and not (isinstance(item, kernel.PolicyRule) and item.destination):
            (rules.append if verb == "add" else rules.remove)(item)
            yield list(rules)


def as_routing(rules: Iterable[Rule]) -> kernel.Routing:
    rules = list(rules)
    return kernel.Routing(
        tuple(rule for rule in rules if isinstance(rule, kernel.PolicyRule)), skips=tuple(rule for rule in rules if isinstance(rule, kernel.Skip))
    )


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("within", [NETWORKS, SPREAD], ids=["dense", "spread"])
@pytest.mark.parametrize("count", [1, placement.FEW, placement.FEW + 1, 50, 200])
def test_each_device_finds_its_own_rules_and_all_others_pass(count: int, within: dict[int, str], family: int) -> None:
    addresses = some(count, within[family])
    rules = wanted(state(addresses), family)
    assert {walk(rules, address)[0] for address in addresses} == {"table 4200"}
    closed = [rule for rule in rules if not (isinstance(rule, kernel.PolicyRule) and rule.table)]
    assert {walk(closed, address)[0] for address in addresses} == {"unreachable"}
    direct = [address for address in some(254, within[family], 1) if address not in addresses]
    assert {walk(rules, address)[0] for address in direct} <= {"main"}


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_packet_passes_hardly_grows(family: int) -> None:
    looked = {}
    for count in (50, 250, 1000):
        rules = wanted(state(some(count, {4: "10.0.0.0/22", 6: NETWORKS[6]}[family])), family)
        looked[count] = max(walk(rules, address)[1] for address in some(100, {4: "10.0.0.0/22", 6: NETWORKS[6]}[family], 1))
        assert len(rules) < 3.5 * count
    assert looked[50] <= 24 and looked[250] <= 28 and looked[1000] <= 60, looked
    assert walk(rules, {4: "192.0.2.1", 6: "2001:db8::1"}[family])[1] <= 2


def test_few_are_a_list() -> None:
    addresses = some(placement.FEW, NETWORKS[4])
    assert not exits.placed(state(addresses), 4, {}).skips
    assert {rule.priority for rule in wanted(state(addresses), 4)} == {4001, 4002}


def test_unknown_devices_are_skipped_by_nothing() -> None:
    found = state(some(50, NETWORKS[4]))
    assert exits.placed(found, 4, {}).skips
    found.peers_lost = True
    assert not exits.placed(found, 4, {}).skips


@pytest.mark.parametrize(
    ("foreign", "first"),
    [
        pytest.param((), 4000, id="the first"),
        pytest.param((3000, 4005, 5210), 4006, id="after somebody else's"),
        pytest.param((4000, 4001, 4985), 4002, id="between theirs"),
    ],
)
def test_the_tree_takes_priorities_that_nobody_else_has(foreign: tuple[int, ...], first: int) -> None:
    rules = wanted(state(some(50, NETWORKS[4])), 4, {4: kernel.Routing(foreign_priorities=frozenset(foreign)), 6: kernel.Routing()})
    taken = range(min(rule.priority for rule in rules), max(rule.priority for rule in rules) + 1)
    assert taken[0] == first and taken[-1] in TREE_PRIORITIES and not set(foreign).intersection(taken)


def test_blocks_are_larger_where_others_leave_less_room_and_there_is_a_list_where_they_leave_none() -> None:
    addresses = some(200, NETWORKS[4])
    sizes = []
    for foreign in ((), range(4000, 5000, 150), range(4000, 5000, 40), range(4000, 5000, 12)):
        seen = {4: kernel.Routing(foreign_priorities=frozenset(foreign))}
        placed = exits.placed(state(addresses), 4, seen)
        assert {walk(wanted(state(addresses), 4, seen), address)[0] for address in addresses} == {"table 4200"}
        sizes.append(len(placed.skips))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4 and sizes[-1] == 0, sizes


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("within", [NETWORKS, SPREAD], ids=["dense", "spread"])
@pytest.mark.parametrize("seed", range(8))
def test_no_device_that_stays_finds_another_way_while_others_come_and_go(seed: int, within: dict[int, str], family: int) -> None:
    """Each single change is looked at: lists and trees, devices that come, go, stay and change their exit."""
    chance = random.Random(seed)
    before, after = some(chance.choice([3, 12, 60]), within[family], seed), some(chance.choice([5, 9, 70]), within[family], seed + 100)
    stay = before[: len(before) // 2]
    old, new = state(before), state([*stay, *(address for address in after if address not in before)])
    moving = stay[::3]
    for address in moving:
        new.peers[address].route_via = ["cellc"]
    rules = wanted(old, family)
    move = exits.plan_move(new, {family: as_routing(rules), 10 - family: kernel.Routing()}, family)
    for stands in carried_out(rules, [*move.prepare, *move.enter, *move.leave]):
        for address in stay:
            found = walk(stands, address)[0]
            assert found in (("table 4200", "table 4201", "unreachable") if address in moving else ("table 4200",)), address
        rules = stands
    assert sorted(rules, key=str) == sorted(wanted(new, family), key=str)
    assert set(move.flows) == {*moving, *(set(before) - set(stay)), *(set(new.peers) - set(stay))}
    again = exits.plan_move(new, {family: as_routing(rules), 10 - family: kernel.Routing()}, family)
    assert not list(carried_out(rules, [*again.prepare, *again.enter, *again.leave]))


@pytest.mark.parametrize("seed", range(12))
def test_rules_that_are_lost_in_a_tree_open_nothing_and_come_back_without_opening(seed: int) -> None:
    chance, addresses = random.Random(seed), some(60, NETWORKS[4], seed)
    whole = wanted(state(addresses), 4)
    lost = [rule for rule in whole if isinstance(rule, kernel.Skip) and chance.random() < 0.5]
    lost += [rule for rule in whole if isinstance(rule, kernel.PolicyRule) and rule.table and chance.random() < 0.2]
    rules = [rule for rule in whole if rule not in lost]
    hit = {rule.source for rule in lost if isinstance(rule, kernel.PolicyRule)}
    assert {walk(rules, address)[0] for address in addresses if address in hit} == {"unreachable"}
    assert {walk(rules, address)[0] for address in addresses if address not in hit} == {"table 4200"}
    move = exits.plan_move(state(addresses), {4: as_routing(rules), 6: kernel.Routing()}, 4)
    for stands in carried_out(rules, [*move.prepare, *move.enter, *move.leave]):
        assert {walk(stands, address)[0] for address in addresses} <= {"table 4200", "unreachable"}
        rules = stands
    assert sorted(rules, key=str) == sorted(whole, key=str)
    assert set(move.flows) == hit


@pytest.mark.parametrize("done", [1, 7, 40, 90])
def test_a_change_that_was_broken_off_is_completed_without_an_end_of_flows(done: int) -> None:
    addresses = [address for address in some(60, NETWORKS[4]) if int(address.rpartition(".")[2]) > 15]
    old, new = state(addresses), state([*addresses[:-1], "10.0.0.2"])  # so that all other blocks move
    rules = wanted(old, 4)
    move = exits.plan_move(new, {4: as_routing(rules), 6: kernel.Routing()}, 4)
    rules = list(carried_out(rules, [*move.prepare, *move.enter, *move.leave]))[done]
    again = exits.plan_move(new, {4: as_routing(rules), 6: kernel.Routing()}, 4)
    for stands in carried_out(rules, [*again.prepare, *again.enter, *again.leave]):
        assert {walk(stands, address)[0] for address in addresses[:-1]} == {"table 4200"}
        rules = stands
    assert sorted(rules, key=str) == sorted(wanted(new, 4), key=str)
    assert not set(again.flows).intersection(addresses[:-1])


def test_a_device_that_comes_is_closed_in_before_it_is_let_in_whatever_the_tree_of_before_skips() -> None:
    addresses = some(60, NETWORKS[4])
    rules = wanted(state(addresses), 4)
    fresh = [address for address in some(254, NETWORKS[4], 3) if address not in addresses][:20]
    plan = exits.plan_closing(state([*addresses, *fresh]), set(addresses), {4: as_routing(rules), 6: kernel.Routing()})
    for stands in carried_out(rules, [change for effect in plan.effects for change in effect.items]):
        assert {walk(stands, address)[0] for address in addresses} == {"table 4200"}
        rules = stands
    assert {walk(rules, address)[0] for address in fresh} == {"unreachable"}


def test_a_list_stays_where_it_is_whatever_the_other_family_has() -> None:
    """A list of before that began at 4010 is right there, also beside a tree of the other family."""
    few, many = some(2, NETWORKS[6]), some(20, NETWORKS[4])
    six = kernel.Routing(tuple(rule for found in exits.wanted_rules(state(few), 6, dict.fromkeys(few, 4010)).values() for rule in found))
    for seen in ({4: kernel.Routing(), 6: six}, {4: as_routing(wanted(state(many), 4)), 6: six}):
        assert set(exits.placed(state([*few, *many]), 6, seen).priorities.values()) == {4010}


@pytest.mark.parametrize("exit_stays", [True, False])
def test_a_device_that_has_lost_what_closes_it_is_closed_before_its_way_goes(exit_stays: bool) -> None:
    addresses = some(20, NETWORKS[4])
    rules = [rule for rule in wanted(state(addresses), 4) if not (isinstance(rule, kernel.PolicyRule) and rule.table is None and rule.source == addresses[0])]
    new = state([*addresses[:15], "10.0.0.255"])
    if not exit_stays:
        new.peers[addresses[0]].route_via = ["cellc"]
    move = exits.plan_move(new, {4: as_routing(rules), 6: kernel.Routing()}, 4)
    for stands in carried_out(rules, [*move.prepare, *move.enter, *move.leave]):
        assert walk(stands, addresses[0])[0] != "main"


def test_an_upgrade_from_rules_that_each_device_had_for_near_networks_ends_no_flow() -> None:
    addresses = some(20, NETWORKS[4])
    listed = [rule for found in exits.wanted_rules(state(addresses), 4, dict.fromkeys(addresses, 4000)).values() for rule in found]
    older: list[Rule] = [*listed, *(kernel.PolicyRule(4, 4000, address, kernel.MAIN, 0) for address in addresses)]
    move = exits.plan_move(state(addresses), {4: as_routing(older), 6: kernel.Routing()}, 4)
    assert move.flows == []
    *_before, rules = carried_out(older, [*move.prepare, *move.enter, *move.leave])
    assert sorted(rules, key=str) == sorted(wanted(state(addresses), 4), key=str)


def test_an_address_in_two_spellings_is_one_place() -> None:
    placed = exits.placed(state([*some(20, NETWORKS[6]), "fd00:a::2", "FD00:A::2"]), 6, {})
    assert placed.priorities["fd00:a::2"] == placed.priorities["FD00:A::2"]


def test_addresses_without_a_common_prefix_are_blocks_that_no_rule_of_all_skips() -> None:
    """Iproute2 takes "not from 0.0.0.0/0" for a rule of all, which would be read as somebody else's."""
    addresses = [*some(10, NETWORKS[4]), *some(10, "192.168.7.0/24")]
    placed = exits.placed(state(addresses), 4, {})
    assert len(placed.skips) > 2 and not [skip for skip in placed.skips if skip.network.endswith("/0")]


def test_the_rules_that_skip_others_are_shown_and_go_with_the_cell(linked: World) -> None:
    host = linked["cella"]
    devices = [{"name": f"d{n}", "public_key": made_key(f"d{n}"), "addresses": [f"10.0.0.{n}", f"fd00:a::{n}"], "route_via": "cellb"} for n in range(20, 40)]
    linked.inventory["cella"]["cell_peers"] += devices
    linked.site()
    for family in (4, 6):
        assert sum(" goto " in text for text in call("pic_cell_info", host, {})["policy_rules"][f"ipv{family}"]) > 5
    gone = call("pic_cell_uninstall", host, {"name": "cella"})
    assert gone["changed"] and " goto " in str(gone["diff"])
    assert not [rule for family in (4, 6) for rule in host.rules[family] if rule.proto == 201]
