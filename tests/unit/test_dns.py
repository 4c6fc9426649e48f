# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS of routed devices: answered by a resolver that they reach through their exit, or by nobody."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.test_bad_input import refused
from ansible_collections.pic.cells.tests.unit.test_gaps import entry
from ansible_collections.pic.cells.tests.unit.test_ordered_exits import PHONE, run
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key, program

RESOLVERS = ["9.9.9.9", "2620:fe::fe"]
PHONE_6 = "fd00:a::2"


@prepared
def resolved(linked: World) -> World:
    """Return three cells in which cella's phone leaves by cellb, nobody else by another cell, and a resolver on the internet answers who does."""
    linked.inventory["cella"]["cell_peers"][1]["route_via"] = "direct"
    linked.inventory["cella"]["cell_exit_dns"] = RESOLVERS
    run(linked)
    return linked


def question(source: str, answering: str, port: int = 53) -> str:
    """Return what conntrack has of a question to the cell."""
    return entry(source, "10.0.0.1", port, "udp", answering)


def answering(host: FakeHost, family: int) -> dict[str, list[str]]:
    """Return the redirect as it stands: the jump to it, whose questions it takes, whom they may ask, and who answers the rest."""
    chains = host.tables["-nft", family]["nat"].rules
    return {
        "jump": [rule for rule in host.chain(family, "PREROUTING", "nat") if "PIC-" in rule],
        **{chain: host.chain(family, chain, "nat") for chain in ("PIC-PRE", "PIC-RESOLVE", "PIC-ASK") if chain in chains},
    }


def test_what_a_routed_device_asks_near_it_goes_to_the_resolver(resolved: World) -> None:
    assert answering(resolved["cella"], 4) == {
        "jump": ["-j PIC-PRE"],
        "PIC-PRE": [f"-i wg0 -p {protocol} -m {protocol} --dport 53 -g PIC-RESOLVE" for protocol in ("tcp", "udp")],
        "PIC-RESOLVE": [f"-s {PHONE}/32 -g PIC-ASK"],
        "PIC-ASK": [
            "-d 10.0.1.0/24 -j RETURN",
            "-d 10.0.2.0/24 -j RETURN",
            *(f"-d {home} -j DNAT --to-destination 9.9.9.9" for home in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")),
        ],
    }
    assert answering(resolved["cella"], 6)["PIC-RESOLVE"] == [f"-s {PHONE_6}/128 -g PIC-ASK"]
    asked = [rule for rule in answering(resolved["cella"], 6)["PIC-ASK"] if "DNAT" in rule]
    assert asked == [f"-d {home} -j DNAT --to-destination 2620:fe::fe" for home in ("fc00::/7", "fe80::/10")]


@pytest.mark.parametrize("table", ["filter", "mangle"])
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("source", "to", "leaves_by", "port", "wanted"),
    [
        (PHONE, "10.0.0.1", "", 53, "DROP"),
        (PHONE, "198.51.100.11", "", 53, "DROP"),
        (PHONE, "192.168.7.1", "eth0", 53, "DROP"),
        (PHONE, "10.0.0.3", "wg0", 53, "DROP"),
        (PHONE, "192.168.7.1", "eth0", 80, PASSED),
        (PHONE, "10.0.0.1", "", 80, PASSED),
        ("10.0.0.3", "10.0.0.1", "", 53, PASSED),
        ("10.0.0.3", "192.168.7.1", "eth0", 53, PASSED),
        (PHONE_6, "fd00:a::1", "", 53, "DROP"),
    ],
)
def test_a_question_past_the_redirect_is_dropped_by_each_table(
    resolved: World, table: str, protocol: str, source: str, to: str, leaves_by: str, port: int, wanted: str
) -> None:
    for state in ("NEW", "ESTABLISHED"):
        packet = Packet(source, to, "wg0", leaves_by, protocol, port, state, asked=(to, port), begun=source)
        assert verdict(resolved["cella"], packet, table) == wanted


def test_a_device_that_goes_direct_asks_whom_it_likes_and_its_questions_begin_anew(resolved: World) -> None:
    host = resolved["cella"]
    host.entries = [question(PHONE, "9.9.9.9"), question("10.0.0.3", "10.0.0.1")]
    host.reset()
    run(resolved, "route_peer", cell="cella", peer="phone", via_cell="direct")
    assert answering(host, 4)["PIC-RESOLVE"] == []
    assert verdict(host, Packet(PHONE, "10.0.0.1", "wg0", "", "udp", 53)) == PASSED
    assert host.entries == [question("10.0.0.3", "10.0.0.1")]
    # What it asks while the redirect is still there is answered by that until it ends.
    emptied = max(number for number, step in enumerate(host.steps) if step.startswith("iptables-restore nat"))
    assert max(number for number, step in enumerate(host.steps) if step.startswith("conntrack") and "--orig-port-dst 53" in step) > emptied


@pytest.mark.parametrize("stated", ["own", ["own"], []])
def test_without_a_resolver_all_is_as_it_was(linked: World, stated: Any) -> None:
    def without_tombstones() -> list[str]:
        return [line for line in linked["cella"].text().splitlines() if "leaving.json" not in line]

    before = without_tombstones()
    linked.inventory["cella"]["cell_exit_dns"] = RESOLVERS
    run(linked)
    assert without_tombstones() != before
    linked.inventory["cella"]["cell_exit_dns"] = stated
    run(linked)
    assert without_tombstones() == before


def test_another_resolver_ends_the_questions_to_the_one_before(resolved: World) -> None:
    host = resolved["cella"]
    host.entries = [question(PHONE, "9.9.9.9"), question("10.0.0.3", "10.0.0.1"), question(PHONE, "9.9.9.9", port=443)]
    resolved.inventory["cella"]["cell_exit_dns"] = ["149.112.112.112", RESOLVERS[1]]
    done = run(resolved)
    assert ["PIC-ASK" in line for line in answering(host, 4)["PIC-RESOLVE"]] == [True]
    assert {rule.rsplit(" ", 1)[1] for rule in answering(host, 4)["PIC-ASK"] if "DNAT" in rule} == {"149.112.112.112"}
    assert host.entries == [question("10.0.0.3", "10.0.0.1"), question(PHONE, "9.9.9.9", port=443)]
    assert any("answered by 149.112.112.112, 2620:fe::fe" in line for line in done.said["cella"])


def test_a_family_without_a_resolver_is_closed(linked: World) -> None:
    linked.inventory["cella"]["cell_exit_dns"] = RESOLVERS[:1]
    run(linked)
    assert answering(linked["cella"], 6) == {"jump": []}
    assert verdict(linked["cella"], Packet(PHONE_6, "fd00:a::1", "wg0", "", "udp", 53)) == "DROP"


def test_a_device_that_becomes_routed_is_redirected_before_it_moves(resolved: World) -> None:
    resolved["cella"].reset()
    run(resolved, "route_peer", cell="cella", peer="tablet", via_cell="cellb")
    assert "-s 10.0.0.3/32 -g PIC-ASK" in answering(resolved["cella"], 4)["PIC-RESOLVE"]
    steps = resolved["cella"].steps
    assert steps.index("iptables-restore nat") < next(number for number, step in enumerate(steps) if step.startswith("conntrack"))


def test_while_nobody_knows_the_devices_all_are_redirected(resolved: World) -> None:
    resolved["cella"].write("/var/lib/pic/peer_registry.json", "{")
    restore(resolved["cella"], "/var/lib/pic")
    assert answering(resolved["cella"], 4)["PIC-RESOLVE"] == ["-s 10.0.0.0/24 -g PIC-ASK"]
    assert verdict(resolved["cella"], Packet("10.0.0.3", "10.0.0.1", "wg0", "", "udp", 53)) == "DROP"


@pytest.mark.parametrize("chain", ["PREROUTING", "PIC-PRE", "PIC-RESOLVE", "PIC-ASK"])
def test_a_redirect_that_somebody_took_away_comes_back_and_its_questions_begin_anew(resolved: World, chain: str) -> None:
    host = resolved["cella"]
    before = host.text()
    host.tables["-nft", 4]["nat"].rules[chain].clear()
    others = [question("10.0.0.3", "10.0.0.1"), entry(PHONE, "203.0.113.9", 443), entry(PHONE, "10.0.0.1", 80)]
    host.entries = [question(PHONE, "10.0.0.1"), *others]
    assert program(host, "restore")[0] == 0
    assert host.text() == before
    assert host.entries == others


def test_many_devices_cost_a_packet_no_list(resolved: World) -> None:
    devices = [
        {"name": f"d{number}", "public_key": device_key(f"d{number}"), "addresses": [f"10.0.0.{number}"], "route_via": "cellb"} for number in range(20, 60)
    ]
    resolved.inventory["cella"]["cell_peers"] += devices
    run(resolved)
    assert len(answering(resolved["cella"], 4)["PIC-RESOLVE"]) <= 16
    for device in devices:
        device["route_via"] = "direct"
    run(resolved)
    assert not [chain for chain in resolved["cella"].tables["-nft", 4]["nat"].rules if chain.startswith("PIC-V")]


def test_explain_says_who_answers(resolved: World) -> None:
    assert "DNS: what it asks private addresses is answered by 9.9.9.9, through its exit" in program(resolved["cella"], "explain", "phone")[1]
    assert "DNS:" not in program(resolved["cella"], "explain", "tablet")[1]
    resolved.inventory["cella"]["cell_exit_dns"] = "own"
    run(resolved)
    assert "DNS: what it asks a resolver of this cell leaves by this cell's own connection" in program(resolved["cella"], "explain", "phone")[1]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            ["10.0.0.1"],
            "10.0.0.1 is not an address of the internet, so no exit leads to it. Give the address of a public resolver, 'exit' for that of the exit, or 'own'.",
        ),
        (["127.0.0.1"], "127.0.0.1 is not an address of the internet"),
        (["fd00:a::1"], "fd00:a::1 is not an address of the internet"),
        (["9.9.9.9", "1.1.1.1"], "9.9.9.9, 1.1.1.1 are too many. Give one IPv4 and one IPv6 address at most."),
        (["own", "9.9.9.9"], "'own' is not an IP address"),
        ("dns.example.net", "'dns.example.net' is not an IP address"),
        ("9.9.9.9:53", "'9.9.9.9:53' is not an IP address"),
        ("9.9.9.9 -j ACCEPT", "is not an IP address"),
        ("::ffff:9.9.9.9", "::ffff:909:909 is not an address of the internet"),
    ],
)
def test_a_resolver_that_no_exit_leads_to_is_refused(linked: World, stated: Any, said: str) -> None:
    linked.inventory["cella"]["cell_exit_dns"] = stated
    before = linked.text()
    with pytest.raises(Exception, match=f"exit_dns of cell 'cella': .*{re.escape(said)}"):
        linked.site()
    assert linked.text() == before


def test_no_link_draws_the_questions_to_its_cell(resolved: World) -> None:
    far = {"name": "far", "public_key": made_key("far"), "networks": ["9.9.9.0/24"], "allow_public_networks": True}
    resolved.reset()
    refused(resolved, "wg_cell_peer", far, "9.9.9.0/24", "9.9.9.9, a resolver of this cell's devices")
    resolved.inventory["cella"]["cell_exit_dns"] = "own"
    resolved.site()
    call("wg_cell_peer", resolved["cella"], far)
    resolved.inventory["cella"]["cell_exit_dns"] = RESOLVERS
    with pytest.raises(Exception, match=r"9\.9\.9\.9 is not an address of the internet"):
        resolved.site()


def test_questions_do_not_go_on_to_a_resolver_that_is_stated_no_more(resolved: World) -> None:
    host = resolved["cella"]
    host.entries = [question(PHONE, "9.9.9.9"), question("10.0.0.3", "10.0.0.1")]
    resolved.inventory["cella"]["cell_exit_dns"] = "own"
    run(resolved)
    assert host.entries == [question("10.0.0.3", "10.0.0.1")]
