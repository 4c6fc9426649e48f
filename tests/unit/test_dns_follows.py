# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS of routed devices that follows their exit: answered by the resolver of the exit in use, where that has one."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.plugins.module_utils.records.model import Down
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_dns import question
from ansible_collections.pic.cells.tests.unit.test_exit_resolver import PHONE_6, RESOLVERS
from ansible_collections.pic.cells.tests.unit.test_gaps import entry
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import PHONE, exit_of, found, run
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key, program

OF_C = "10.0.2.53"
OWN_LINE = "leaves by this cell's own connection, since cellb has named no resolver"
HOMES = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")


@prepared
def following(linked: World) -> World:
    """Return three cells in which cella's phone leaves by cellb, else by cellc, both with a resolver, and nobody else by another cell."""
    linked.inventory["cella"]["cell_peers"][0]["route_via"] = ["cellb", "cellc"]
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cella"]["cell_exit_dns"] = "exit"
    linked.inventory["cellb"]["cell_resolver"] = RESOLVERS
    linked.inventory["cellc"]["cell_resolver"] = OF_C
    run(linked)
    return linked


def redirect(host: FakeHost, family: int = 4) -> dict[str, list[str]]:
    """Return whose questions are redirected, and where to by which chain."""
    rules = host.tables["-nft", family]["nat"].rules
    return {name: host.chain(family, name, "nat") for name in rules if name == "PIC-RESOLVE" or name.startswith("PIC-A-")}


def answering(host: FakeHost, source: str = PHONE) -> str:
    """Return what becomes of a device's question to its own cell: the resolver that gets it, "closed", or "own" for the cell itself."""
    family = 6 if ":" in source else 4
    chains = redirect(host, family)
    led = [rule.rpartition(" ")[2] for rule in chains["PIC-RESOLVE"] if f"-s {source}/" in rule]
    if led:
        return next(rule.rpartition(" ")[2] for rule in chains[led[0]] if "DNAT" in rule)
    passed = verdict(host, Packet(source, "fd00:a::1" if family == 6 else "10.0.0.1", "wg0", "", "udp", 53))
    return "own" if passed == PASSED else "closed"


def test_questions_go_to_the_resolver_of_the_exit_in_use(following: World) -> None:
    host = following["cella"]
    assert redirect(host) == {
        "PIC-RESOLVE": [f"-s {PHONE}/32 -g PIC-A-cellb"],
        "PIC-A-cellb": [
            "-d 10.0.1.0/24 -j RETURN",
            "-d 10.0.2.0/24 -j RETURN",
            *(f"-d {home} -j DNAT --to-destination {RESOLVERS[0]}" for home in HOMES),
        ],
    }
    assert (answering(host, PHONE_6), answering(host, "10.0.0.3")) == (RESOLVERS[1], "own")


@pytest.mark.parametrize(("source", "resolver"), [(PHONE, RESOLVERS[0]), (PHONE_6, RESOLVERS[1])])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_redirected_question_passes_to_the_link_and_no_other_does(following: World, source: str, resolver: str, protocol: str) -> None:
    host, cell = following["cella"], "fd00:a::1" if ":" in source else "10.0.0.1"
    for table in ("filter", "mangle"):
        led = Packet(source, resolver, "wg0", "pic-cellb", protocol, 53, asked=(cell, 53), begun=source)
        assert verdict(host, led, table) == PASSED
        back = Packet(resolver, source, "pic-cellb", "wg0", protocol, 40000, "ESTABLISHED", True, asked=(cell, 53), begun=source, from_port=53)
        assert verdict(host, back, table) == PASSED
        assert verdict(host, Packet(source, cell, "wg0", "", protocol, 53), table) == "DROP"
        near = "fd00:7::1" if ":" in source else "192.168.7.1"
        for state in ("NEW", "ESTABLISHED"):
            assert verdict(host, Packet(source, near, "wg0", "eth0", protocol, 53, state, asked=(near, 53), begun=source), table) == "DROP"
    assert verdict(host, Packet("10.0.0.3", "192.168.7.1", "wg0", "eth0", protocol, 53)) == PASSED


def test_when_the_exit_changes_the_rules_come_first_and_then_the_questions_end(following: World) -> None:
    host = following["cella"]
    host.entries = [question(PHONE, RESOLVERS[0]), question("10.0.0.3", "10.0.0.1")]
    host.reset()
    found(following, cellb=Down("2027-01-15T08:00:01Z", "silent", None))
    assert (exit_of(following), answering(host)) == ("cellc", OF_C)
    assert list(redirect(host)) == ["PIC-RESOLVE", "PIC-A-cellc"]
    assert host.entries == [question("10.0.0.3", "10.0.0.1")]
    steps = host.steps
    last = max(number for number, step in enumerate(steps) if step.startswith("iptables-restore nat"))
    assert last < next(number for number, step in enumerate(steps) if step.startswith("conntrack"))
    found(following)
    assert (exit_of(following), answering(host)) == ("cellb", RESOLVERS[0])
    assert following.site().changed == []


def test_with_all_exits_down_the_redirect_stays(following: World) -> None:
    down = Down("2027-01-15T08:00:01Z", "silent", None)
    found(following, cellb=down, cellc=down)
    assert answering(following["cella"]) in (RESOLVERS[0], OF_C)
    assert verdict(following["cella"], Packet(PHONE, "10.0.0.1", "wg0", "", "udp", 53)) == "DROP"


@pytest.mark.parametrize("resolver", [RESOLVERS, []])
def test_with_the_offer_nobody_answers_any_more(linked: World, resolver: list[str]) -> None:
    linked.inventory["cella"]["cell_exit_dns"] = "exit"
    linked.inventory["cellb"]["cell_resolver"] = resolver
    run(linked)
    run(linked, "offer_exit", cell="cellb", remote_cell="cella", offered="no")
    host = linked["cella"]
    assert answering(host) == (RESOLVERS[0] if resolver else "closed")
    assert verdict(host, Packet(PHONE, "10.0.0.1", "wg0", "", "udp", 53)) == "DROP"
    assert restore(host, "/var/lib/pic").repairs == []


def test_without_a_resolver_of_the_exit_nothing_is_redirected_and_it_is_said(following: World) -> None:
    host = following["cella"]
    host.entries = [question(PHONE, RESOLVERS[0]), question("10.0.0.3", "10.0.0.1")]
    following.inventory["cellb"]["cell_resolver"] = []
    done = run(following)
    assert answering(host) == "own"
    assert verdict(host, Packet(PHONE, "192.168.7.1", "wg0", "eth0", "udp", 53)) == PASSED
    assert host.entries == [question("10.0.0.3", "10.0.0.1")]
    said = "Cell 'cellb' has named no resolver for IPv4 and IPv6, so what 'phone' asks private addresses by DNS leaves by this cell's own connection."
    assert any(said in warning for warning in done.warnings())
    assert any(said in warning for warning in following.site().warnings())
    assert OWN_LINE in program(host, "explain", "phone")[1]
    assert OWN_LINE in program(host, "prove", "phone")[1]
    assert "internet via cellb; its DNS leaves by this cell's own connection (IPv4 and IPv6)" in program(host, "status")[1]
    assert call("pic_cell_info", host, {})["peers"]["phone"]["dns_by_uplink"] == ["IPv4", "IPv6"]


def test_a_resolver_of_one_family_answers_that_alone(following: World) -> None:
    following.inventory["cellb"]["cell_resolver"] = RESOLVERS[:1]
    done = run(following)
    host = following["cella"]
    assert (answering(host), answering(host, PHONE_6)) == (RESOLVERS[0], "own")
    assert any("named no resolver for IPv6, so" in warning for warning in done.warnings())
    assert call("pic_cell_info", host, {})["peers"]["phone"]["dns_by_uplink"] == ["IPv6"]


def test_another_resolver_of_the_exit_ends_the_questions_to_the_one_before(following: World) -> None:
    host = following["cella"]
    others = [question("10.0.0.3", "10.0.0.1"), entry(PHONE, "203.0.113.9", 443)]
    host.entries = [question(PHONE, RESOLVERS[0]), *others]
    following.inventory["cellb"]["cell_resolver"] = ["10.0.1.99", RESOLVERS[1]]
    run(following)
    assert answering(host) == "10.0.1.99"
    assert host.entries == others


@pytest.mark.parametrize("chain", ["PREROUTING", "PIC-PRE", "PIC-RESOLVE", "PIC-A-cellb"])
def test_what_somebody_took_away_comes_back_and_its_questions_begin_anew(following: World, chain: str) -> None:
    host = following["cella"]
    before = host.text()
    host.tables["-nft", 4]["nat"].rules[chain].clear()
    allowed = [question("10.0.0.3", "10.0.0.1"), entry(PHONE, "192.168.7.1", 53, "udp", RESOLVERS[0]), entry(PHONE, "10.0.0.1", 80)]
    host.entries = [question(PHONE, "10.0.0.1"), *allowed]
    assert program(host, "restore")[0] == 0
    assert host.text() == before
    assert host.entries == allowed


def test_direct_and_back(following: World) -> None:
    host = following["cella"]
    host.entries = [question(PHONE, RESOLVERS[0])]
    run(following, "route_peer", cell="cella", peer="phone", via_cell="direct")
    assert (answering(host), redirect(host), host.entries) == ("own", {"PIC-RESOLVE": []}, [])
    host.entries = [question(PHONE, "10.0.0.1")]
    run(following, "route_peer", cell="cella", peer="phone", via_cell="cellc")
    assert (answering(host), answering(host, PHONE_6), host.entries) == (OF_C, "own", [])


def test_a_device_that_becomes_routed_is_never_answered_by_its_own_cell(following: World) -> None:
    guest = {"name": "guest", "public_key": device_key("guest"), "addresses": ["10.0.0.9"], "route_via": "cellb"}
    following.inventory["cella"]["cell_peers"].append(guest)
    call("wg_cell", following["cella"], {"peers": [guest]})
    assert answering(following["cella"], "10.0.0.9") == "closed"
    run(following)
    assert answering(following["cella"], "10.0.0.9") == RESOLVERS[0]


def test_while_nobody_knows_the_devices_all_questions_are_closed(following: World) -> None:
    following["cella"].write("/var/lib/pic/peer_registry.json", "{")
    restore(following["cella"], "/var/lib/pic")
    assert (answering(following["cella"]), answering(following["cella"], "10.0.0.3")) == ("closed", "closed")


@pytest.mark.parametrize("stated", ["own", [], ["9.9.9.9", "2620:fe::fe"]])
def test_from_the_exits_resolver_to_another_and_back(following: World, stated: Any) -> None:
    host = following["cella"]

    def rules() -> list[str]:
        return [line for line in host.text().splitlines() if "leaving.json" not in line and "/cell_links.json" not in line]

    before = rules()
    host.entries = [question(PHONE, RESOLVERS[0])]
    following.inventory["cella"]["cell_exit_dns"] = stated
    run(following)
    assert not [name for name in host.tables["-nft", 4]["nat"].rules if name.startswith("PIC-A-")]
    assert host.entries == []
    following.inventory["cella"]["cell_exit_dns"] = "exit"
    run(following)
    assert rules() == before


def test_a_missing_chain_is_made_by_the_switch_of_exits_alone(following: World) -> None:
    host = following["cella"]
    following.inventory["cellb"]["cell_resolver"] = []
    run(following)
    for family in (4, 6):
        for table in ("filter", "mangle"):
            rules = host.tables["-nft", family][table].rules
            for name in ("PIC-DNS", "PIC-HOME"):
                for held in rules.values():
                    held[:] = [rule for rule in held if name not in rule]
                del rules[name], host.tables["-nft", family][table].policies[name]
    assert program(host, "restore", "--exits")[0] == 0
