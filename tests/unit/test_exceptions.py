# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exceptions of a device: destinations that it reaches another way than the rest of the internet, and in that way or not at all."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import destinations
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_gaps import entry
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import PHONE, run
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, device_key, program

PHONE_6, TABLET = "fd00:a::2", "10.0.0.3"
BANK, BANK_6 = "203.0.113.0/24", "2001:db8:5::/48"
EXCEPTIONS = [{"to": [BANK, BANK_6], "via": "direct"}, {"to": "203.0.113.128/25", "via": "cellc"}]


@prepared
def excepted(linked: World) -> World:
    """Return three cells in which cella's phone leaves by cellb but for some destinations, and its tablet directly but for one."""
    phone, tablet = linked.inventory["cella"]["cell_peers"][:2]
    phone.update(route_via="cellb", route_except=EXCEPTIONS)
    tablet.update(route_via="direct", route_except=[{"to": BANK, "via": "cellc"}])
    run(linked)
    return linked


def rules(host: FakeHost, source: str) -> list[str]:
    """Return the policy rules of an address in the kernel's order."""
    family = 6 if ":" in source else 4
    return [
        f"{rule.priority} {rule.dst or 'all'} {'unreachable' if rule.table is None else rule.table}"
        for rule in sorted(host.rules[family], key=lambda rule: rule.priority)
        if rule.src == source
    ]


def state_without(world: World, change: Any) -> list[str]:
    """Carry out a change of the inventory. Returns what cella is then, without what it remembers of flows."""
    change()
    run(world)
    return [line for line in world["cella"].text().splitlines() if "leaving.json" not in line]


def test_the_longest_prefix_comes_first_and_each_is_closed_behind_it(excepted: World) -> None:
    cellb, cellc = (excepted.link("cella", name)["exit_table"] for name in ("cellb", "cellc"))
    assert rules(excepted["cella"], PHONE) == [
        f"3938 203.0.113.128/25 {cellc}",
        "3939 203.0.113.128/25 unreachable",
        "3940 203.0.113.0/24 254",
        "3941 203.0.113.0/24 unreachable",
        f"4001 all {cellb}",
        "4002 all unreachable",
    ]
    assert rules(excepted["cella"], PHONE_6)[:2] == ["3892 2001:db8:5::/48 254", "3893 2001:db8:5::/48 unreachable"]
    assert rules(excepted["cella"], TABLET) == [f"3940 203.0.113.0/24 {cellc}", "3941 203.0.113.0/24 unreachable"]


@pytest.mark.parametrize("table", ["filter", "mangle"])
@pytest.mark.parametrize(
    ("source", "to", "leaves_by", "wanted"),
    [
        (PHONE, "203.0.113.9", "eth0", "open"),
        (PHONE, "203.0.113.9", "eth1", "DROP"),
        (PHONE, "203.0.113.200", "eth0", "DROP"),
        (PHONE, "203.0.112.9", "eth0", "DROP"),
        (PHONE, "203.0.113.200", "pic-cellc", "open"),
        (PHONE_6, "2001:db8:5::9", "eth0", "open"),
        (PHONE_6, "2001:db8:6::9", "eth0", "DROP"),
        (TABLET, "203.0.113.9", "eth0", "DROP"),
        (TABLET, "203.0.114.9", "eth0", "open"),
        (TABLET, "203.0.113.9", "pic-cellc", "open"),
    ],
)
def test_the_hole_is_as_wide_as_the_exception(excepted: World, table: str, source: str, to: str, leaves_by: str, wanted: str) -> None:
    found = verdict(excepted["cella"], Packet(source, to, "wg0", leaves_by), table)
    assert found == (wanted if wanted != "open" else "ACCEPT" if table == "filter" else PASSED)


def test_a_single_address_is_an_exception(linked: World) -> None:
    phone = linked.inventory["cella"]["cell_peers"][0]
    phone.update(route_via="cellb", route_except=[{"to": ["203.0.113.200", "2001:db8:ffff::200/128"], "via": "direct"}])
    run(linked)
    assert rules(linked["cella"], PHONE)[:2] == ["3924 203.0.113.200 254", "3925 203.0.113.200 unreachable"]
    assert program(linked["cella"], "check")[0] == 0
    phone["route_except"] = []
    run(linked)
    assert [rule.split()[1] for rule in rules(linked["cella"], PHONE)] == ["all", "all"]


def test_its_cell_is_an_exit_like_any_other(excepted: World) -> None:
    host = excepted["cella"]
    assert "0.0.0.0/0" in host.wg["pic-cellc"].peers[excepted.public_key("cellc")].allowed
    assert excepted.link("cellc", "cella")["remote_exit_relay_active"]
    for device, passes in ((PHONE, PASSED), (TABLET, PASSED), ("10.0.0.4", "DROP")):
        answer = Packet("203.0.113.200", device, "pic-cellc", "wg0", state="ESTABLISHED", reply=True)
        assert verdict(host, answer, "mangle") == passes


def test_only_the_flows_of_an_exception_end_when_it_comes_and_goes(linked: World) -> None:
    host, phone = linked["cella"], linked.inventory["cella"]["cell_peers"][0]
    other = entry(PHONE, "192.0.2.9", 443)
    phone["route_via"] = "cellb"
    before = state_without(linked, lambda: None)
    for stated in (EXCEPTIONS, [{"to": BANK, "via": "cellc"}], []):
        host.entries = [other, entry(PHONE, "203.0.113.9", 443)]
        host.reset()
        phone["route_except"] = stated
        after = state_without(linked, lambda: None)
        assert host.entries == [other], stated
    assert after == before


def test_it_is_closed_while_its_flows_end(linked: World) -> None:
    host, phone = linked["cella"], linked.inventory["cella"]["cell_peers"][0]
    phone["route_via"] = "cellb"
    run(linked)
    seen: list[tuple[str, list[str]]] = []
    end = host._end_flows

    def noted(words: list[str], given: dict[str, str]) -> None:
        seen.append((given["--orig-dst"], [rule for rule in rules(host, PHONE) if given["--orig-dst"] in rule]))
        end(words, given)

    host._end_flows = noted  # type: ignore[method-assign]
    for stated in ([{"to": BANK, "via": "direct"}], [{"to": BANK, "via": "cellc"}], []):
        phone["route_except"] = stated
        linked.site()
    assert seen == [(BANK, ["3941 203.0.113.0/24 unreachable"])] * 3


def test_an_exception_that_is_stated_no_more_is_gone_and_one_change_leaves_it(excepted: World) -> None:
    run(excepted, "route_peer", cell="cella", peer="phone", via_cell="cellc")
    assert "3940 203.0.113.0/24 254" in rules(excepted["cella"], PHONE)
    run(excepted, "route_peer", cell="cella", peer="phone", via_cell="direct")
    assert "3940 203.0.113.0/24 254" in rules(excepted["cella"], PHONE)
    excepted.inventory["cella"]["cell_peers"][0].pop("route_except")
    run(excepted)
    assert not [rule for rule in rules(excepted["cella"], PHONE) if "203.0.113" in rule]


def test_its_cell_withdraws_the_offer(excepted: World) -> None:
    done = run(excepted, "offer_exit", cell="cellc", remote_cell="cella", offered="no")
    host, table = excepted["cella"], excepted.link("cella", "cellc")["exit_table"]
    assert {route.dev for route in host.routes if route.table == table} == {None}
    assert verdict(host, Packet(TABLET, "203.0.113.9", "wg0", "eth0"), "filter") == "DROP"
    assert any("'tablet' has exceptions via 'cellc', which offers no exit now: their destinations are blocked" in line for line in done.warnings())
    assert "to 203.0.113.0/24 via cellc; cellc offers no exit now, so what goes via cellc is blocked" in program(host, "status")[1]
    assert restore(host, "/var/lib/pic").repairs == []


def test_a_new_device_is_closed_before_it_is_let_in(linked: World) -> None:
    tablet = linked.inventory["cella"]["cell_peers"][1]
    linked.inventory["cella"]["cell_peers"][1] = {**tablet, "name": "new", "addresses": ["10.0.0.9"], "route_via": "direct", "public_key": device_key("new")}
    linked.inventory["cella"]["cell_peers"][1]["route_except"] = [{"to": BANK, "via": "cellc"}]
    host = linked["cella"]
    closed: list[bool] = []
    wg = host._wg

    def noted(words: list[str], stdin: str) -> str:
        if "10.0.0.9/32" in stdin or "10.0.0.9/32" in " ".join(words):
            closed.append("3941 203.0.113.0/24 unreachable" in rules(host, "10.0.0.9"))
        return str(wg(words, stdin))

    host._wg = noted  # type: ignore[method-assign]
    linked.site()
    assert closed
    assert all(closed)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("taken", ["rules", "chains"])
def test_what_somebody_took_away_comes_back_with_the_flows_of_the_gap_ended(excepted: World, family: int, taken: str) -> None:
    host, uplink = excepted["cella"], "198.51.100.11"
    before = host.text()
    kept = [entry(TABLET, "192.0.2.9", 443, answered=uplink), entry(PHONE, "203.0.113.9", 443, answered=uplink)]
    gone = [entry(PHONE, "203.0.113.200", 443, answered=uplink), entry(TABLET, "203.0.113.9", 443, answered=uplink)]
    host.entries = [*kept, *gone]
    if taken == "rules":
        host.rules[family] = [rule for rule in host.rules[family] if rule.proto != 201]
    for table in ("filter", "mangle") if taken == "chains" else ():
        host.tables["-nft", family][table].rules["PIC-ROUTED"].clear()
    assert program(host, "restore")[0] == 0
    assert host.text() == before
    # A device whose own rules were missing begins anew whatever it has sent.
    assert host.entries == ([*kept, *gone] if family == 6 else kept[:1] if taken == "rules" else kept)
    assert program(host, "check")[0] == 0


def test_while_nobody_knows_the_devices_no_exception_lets_any_out(excepted: World) -> None:
    host = excepted["cella"]
    host.write("/var/lib/pic/peer_registry.json", "{")
    restore(host, "/var/lib/pic")
    assert verdict(host, Packet(PHONE, "203.0.113.9", "wg0", "eth0"), "filter") == "DROP"
    assert "3940 203.0.113.0/24 254" in rules(host, PHONE)
    run(excepted)
    assert verdict(host, Packet(PHONE, "203.0.113.9", "wg0", "eth0"), "filter") == "ACCEPT"


def test_it_is_shown_wherever_the_way_is(excepted: World) -> None:
    host = excepted["cella"]
    said = "via cellb; to 203.0.113.0/24, 2001:db8:5::/48 direct; to 203.0.113.128/25 via cellc"
    assert f"peer phone: the records say {said}" in program(host, "explain", "phone")[1]
    assert f"internet {said}" in program(host, "status")[1]
    changes = excepted.inventory["cella"]["cell_peers"][0]
    changes["route_except"] = []
    gone = run(excepted)
    changes["route_except"] = EXCEPTIONS[:1]
    come = run(excepted)
    assert "changed on cella: peer phone: internet via cellb" in gone.said["cella"]
    assert "changed on cella: peer phone: internet via cellb; to 203.0.113.0/24, 2001:db8:5::/48 direct" in come.said["cella"]


@pytest.mark.parametrize(
    ("device", "to", "said"),
    [
        ("phone", "203.0.113.9", "10.0.0.2: leaves through eth0, directly, as an exception"),
        ("phone", "203.0.113.200", "10.0.0.2: leaves through cell cellc, as an exception"),
        ("phone", "192.0.2.9", "10.0.0.2: leaves through cell cellb"),
        ("tablet", "203.0.113.9", "10.0.0.3: leaves through cell cellc, as an exception"),
        ("tablet", "192.0.2.9", "10.0.0.3: leaves through eth0, directly"),
    ],
)
def test_explain_follows_an_exception(excepted: World, device: str, to: str, said: str) -> None:
    host = excepted["cella"]
    for peer in (*host.wg["pic-cellb"].peers.values(), *host.wg["pic-cellc"].peers.values()):
        peer.handshake = int(host.now)
    assert said in program(host, "explain", device, "--to", to)[1].splitlines()


def test_explain_says_what_is_missing_of_an_exception(excepted: World) -> None:
    host = excepted["cella"]

    def explained(device: str) -> str:
        return program(host, "explain", device, "--to", "203.0.113.9")[1]

    chains = {name: host.tables["-nft", 4][name].rules for name in ("filter", "mangle")}
    whole = {name: list(rules["PIC-ROUTED"]) for name, rules in chains.items()}
    chains["mangle"]["PIC-ROUTED"][:] = [rule for rule in whole["mangle"] if "-d" not in rule]
    assert "10.0.0.2: dropped: the firewall lacks this exception; 'pic-cell restore' puts it back" in explained("phone")
    host.rules[4] = [rule for rule in host.rules[4] if rule.src != TABLET]
    assert "dropped: the routing would let it out through eth0, but the firewall blocks it" in explained("tablet")
    for rules_of in chains.values():
        rules_of["PIC-ROUTED"][:] = [rule for rule in rules_of["PIC-ROUTED"] if "-d" not in rule]
    assert "leaves through eth0, DIRECTLY, although it is routed via cellc: rules are missing" in explained("tablet")
    host.rules[4] = [rule for rule in host.rules[4] if rule.dst != BANK or rule.table is None]
    assert "10.0.0.2: dropped: the cell itself has no route to the internet" in explained("phone")


def test_what_is_behind_a_device_gets_none_of_its_holes(excepted: World) -> None:
    phone, tablet = excepted.inventory["cella"]["cell_peers"][:2]
    phone["networks"], tablet["networks"] = ["192.168.71.0/24"], ["192.168.72.0/24"]
    run(excepted)
    host = excepted["cella"]
    found = [verdict(host, Packet(source, to, "wg0", "eth0"), "filter") for source, to in (("192.168.71.9", "203.0.113.9"), ("192.168.72.9", "203.0.113.9"))]
    assert found == ["DROP", "DROP"]
    assert verdict(host, Packet("192.168.72.9", "192.0.2.9", "wg0", "eth0"), "mangle") == PASSED


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("203.0.113.0/24", "'203.0.113.0/24' is not an exception. Give a list of items like {to: [203.0.113.0/24], via: direct}."),
        ([{"to": BANK}], "is not an exception"),
        ([{"to": [], "via": "direct"}], "is not an exception"),
        ([{"to": 7, "via": "direct"}], "is not an exception"),
        ([{"to": BANK, "via": "direct", "metric": 3}], "is not an exception"),
        ([{"to": "bank.example", "via": "direct"}], "'bank.example' is not a network"),
        ([{"to": "0.0.0.0/0", "via": "direct"}], "'0.0.0.0/0' is the whole internet"),
        ([{"to": "203.0.113.1/24", "via": "direct"}], "has host bits set"),
        ([{"to": "203.0.113.0/24%eth0", "via": "direct"}], "is not a network"),
        ([{"to": "192.168.7.0/24", "via": "direct"}], "192.168.7.0/24 contains private addresses"),
        ([{"to": "0.0.0.0/1", "via": "direct"}], "0.0.0.0/1 contains private addresses"),
        ([{"to": "fd00:9::/64", "via": "cellc"}], "fd00:9::/64 contains private addresses"),
        ([{"to": [BANK, BANK], "via": "direct"}], f"{BANK} stands there twice. Name each network once."),
        ([{"to": BANK, "via": ["cellb"]}], "is not a valid name"),
        ([{"to": BANK, "via": "none"}], "is not a valid name"),
        ([{"to": BANK, "via": "cella"}], "'cella' is the peer's own cell"),
        ([{"to": BANK, "via": "celld"}], "has no link with"),
        ([{"to": [f"203.0.{number}.0/24" for number in range(65)], "via": "direct"}], "65 networks are too many. Give 64 at most, or wider ones."),
    ],
)
def test_one_that_cannot_be_is_refused(linked: World, stated: Any, said: str) -> None:
    linked.inventory["cella"]["cell_peers"][0]["route_except"] = stated
    before = linked.text()
    with pytest.raises((BadInput, Refusal), match=re.escape(said)) as refusal:
        linked.site()
    assert "phone" in str(refusal.value)
    assert linked.text() == before


def test_one_that_holds_a_resolver_is_refused(linked: World) -> None:
    linked.inventory["cella"]["cell_exit_dns"] = ["9.9.9.9"]
    linked.inventory["cella"]["cell_peers"][0]["route_except"] = [{"to": "9.9.9.0/24", "via": "direct"}]
    with pytest.raises((BadInput, Refusal), match=re.escape("9.9.9.0/24 contains 9.9.9.9, a resolver of cell 'cella'")):
        linked.site()
    linked.inventory["cella"]["cell_peers"][0]["route_except"] = [{"to": "9.9.9.0/24", "via": "cellc"}]
    run(linked)


def test_a_link_gets_no_network_of_an_exception(excepted: World) -> None:
    link = {
        "name": "cellx",
        "networks": ["203.0.64.0/24"],
        "allow_public_networks": True,
        "endpoint": "192.0.2.9:51820",
        "public_key": device_key("cellx"),
    }
    excepted.inventory["cella"]["cell_peers"][0]["route_except"] = [{"to": "203.0.64.0/20", "via": "direct"}]
    run(excepted)
    before = excepted["cella"].text()
    result = call("wg_cell_peer", excepted["cella"], {"peers": [link]})
    assert "203.0.64.0/24 of link 'cellx' overlaps 203.0.64.0/20, an exception of peer 'phone'" in result["msg"]
    assert excepted["cella"].text() == before


def test_a_forged_record_is_none() -> None:
    for forged in ({"203.0.113.0/24": "x y"}, {"10.0.0.0/8": "direct"}, {"203.0.113.0/24": 7}, {"-A FORWARD": "direct"}):
        with pytest.raises(BadInput):
            destinations.read(destinations.listed(forged), "route_except")  # type: ignore[arg-type]


def test_no_exception_costs_nothing(linked: World) -> None:
    assert not [rule for family in (4, 6) for rule in linked["cella"].rules[family] if rule.priority in range(3732, 3990)]
    assert not [rule for rule in linked["cella"].chain(4, "PIC-ROUTED") if " -d " in rule]
