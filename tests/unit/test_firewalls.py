# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewalls of nftables' own, beside the rules of iptables: what of them is said, and what is not. The JSON is that of nft 1.0.6 and 1.1.3."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Result
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.world import World

ACCEPT, DROP = {"accept": None}, {"drop": None}
INPUT = {"hook": "input", "type": "filter", "prio": 0}
FORWARD = {"hook": "forward", "type": "filter", "prio": 0}


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def port(protocol: str, field: str = "dport") -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


STATE = {"ct": {"key": "state"}}
KNOWN = [match(STATE, {"set": ["established", "related"]}), ACCEPT]
SSH = [match(port("tcp"), 22), ACCEPT]
LOOPBACK = [match(meta("iif"), "lo"), ACCEPT]
DEBIANS = (KNOWN, LOOPBACK, SSH, [match({"payload": {"protocol": "ip", "field": "protocol"}}, {"set": ["icmp", "igmp"]}), ACCEPT])


def chain(name: str, *rules: list[dict[str, Any]], family: str = "inet", table: str = "filter", **base: object) -> list[dict[str, Any]]:
    where = {"family": family, "table": table}
    rules_shown = [{"rule": {**where, "chain": name, "handle": 2, "expr": list(rule)}} for rule in rules]
    return [{"chain": {**where, "name": name, "handle": 1, **base}}, *rules_shown]


def closed(*rules: list[dict[str, Any]], hook: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    """Return a chain that drops what no rule of it accepts."""
    hook = hook or INPUT
    return chain(str(hook["hook"]), *rules, **{**hook, "policy": "drop", **more})


UDP = [match(port("udp"), {"set": [{"range": [51820, 51830]}]}), ACCEPT]
TOLD = [match(meta("iifname"), "pic-*"), ACCEPT]
WAYS = tuple([match(meta(side), name), ACCEPT] for side in ("iifname", "oifname") for name in ("wg0", "pic-*"))


def test_debians_own_firewall_is_named_with_the_lines_to_add(linked: World) -> None:
    host = linked["cella"]
    host.native = [{"table": {"family": "inet", "name": "filter", "handle": 1}}, *closed(*DEBIANS), *closed(hook=FORWARD)]
    inward, through = told(host)
    assert inward.startswith(
        "Chain 'input' of table 'inet filter' (nftables) drops UDP to port 51820, UDP to port 51821, UDP to port 51822, what cellb tells this cell (TCP"
    )
    for line in ("insert rule inet filter input udp dport { 51820, 51821, 51822 } accept", 'insert rule inet filter input iifname "pic-*" accept'):
        assert line in inward
    assert through.startswith("Chain 'forward' of table 'inet filter' (nftables) drops packets between devices and cellb, packets between devices and cellc")
    assert "packets between cellb's devices and the internet" in through and "may drop" not in inward + through
    for name in ("wg0", "pic-*"):
        for side in ("iifname", "oifname"):
            assert f'insert rule inet filter forward {side} "{name}" accept' in through
    assert said_in_a_run(linked, "cella") == [inward, through]
    # What it says is enough.
    host.native = [*closed(UDP, TOLD, *DEBIANS), *closed(*WAYS, hook=FORWARD)]
    assert (told(host), said_in_a_run(linked, "cella")) == ([], [])


@pytest.mark.parametrize(
    "native",
    [
        pytest.param(chain("input", **INPUT, policy="accept"), id="open"),
        pytest.param(closed([ACCEPT]), id="lets everything in"),
        pytest.param(closed(UDP, TOLD), id="ports as a range"),
        pytest.param(
            [
                {"set": {"family": "inet", "table": "filter", "name": "own", "elem": [{"elem": {"val": 51820}}, {"range": [51821, 51822]}]}},
                *closed([match(port("udp"), "@own"), ACCEPT], TOLD),
            ],
            id="a named set",
        ),
        pytest.param(closed([match(meta("l4proto"), {"set": ["tcp", "udp"]}), match(port("th"), {"set": [{"range": [1024, 65535]}]}), ACCEPT]), id="th"),
        pytest.param(
            closed([{"vmap": {"key": meta("l4proto"), "data": {"set": [["tcp", {"jump": {"target": "sub"}}], ["udp", ACCEPT]]}}}])
            + chain("sub", [match(port("tcp"), 8088), {"counter": {"packets": 0, "bytes": 0}}, ACCEPT]),
            id="a map and a jump",
        ),
        pytest.param(closed([match(meta("iifname"), {"set": ["eth0", "pic-cellb", "pic-cellc"]}), ACCEPT]), id="by interface"),
        pytest.param(closed([match(meta("iifname"), "docker0", "!="), ACCEPT]), id="all interfaces but one"),
        pytest.param(closed(hook={**FORWARD, "hook": "input"}, family="bridge"), id="not for packets of IP"),
        pytest.param([{"table": {"family": "inet", "name": "filter", "flags": "d"}}, *closed()], id="dormant"),
        pytest.param(chain("INPUT", family="ip", **INPUT, policy="drop"), id="of iptables"),
        pytest.param(
            chain(
                "prerouting",
                [match({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, False), DROP],
                hook="prerouting",
                type="filter",
                prio=-300,
                policy="accept",
            ),
            id="strict reverse path",
        ),
        pytest.param(chain("input", [{"limit": {"rate": 1, "per": "second"}}, DROP], **INPUT, policy="accept"), id="a limit"),
        pytest.param(
            chain(
                "postrouting",
                [match(meta("oifname"), "eth0"), {"masquerade": None}],
                family="ip",
                table="mynat",
                hook="postrouting",
                type="nat",
                prio=100,
                policy="accept",
            ),
            id="NAT to the uplink",
        ),
    ],
)
def test_what_lets_packets_pass_is_no_warning(linked: World, native: list[dict[str, Any]]) -> None:
    linked["cella"].native = native
    assert told(linked["cella"]) == []


@pytest.mark.parametrize(
    ("native", "said"),
    [
        pytest.param(chain("in", KNOWN, [{"jump": {"target": "sub"}}], [{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}], **INPUT, policy="accept")
                     + chain("sub", [{"return": None}], [ACCEPT]), "Chain 'in' of table 'inet filter' (nftables) drops UDP", id="reject at the end"),
        pytest.param(closed([match({"payload": {"protocol": "ip", "field": "saddr"}}, {"prefix": {"addr": "198.51.100.0", "len": 24}}), ACCEPT], TOLD),
                     "may drop UDP to port 51820", id="some may, nobody knows who"),
        pytest.param(closed([match(port("udp"), 51820), ACCEPT], TOLD), " drops UDP to port 51821, UDP to port 51822. ", id="the devices' port"),
        pytest.param(closed([match(meta("nfproto"), "ipv6"), ACCEPT], TOLD), "drops UDP to port 51820", id="IPv6 alone"),
        pytest.param(closed(*WAYS[:2], hook=FORWARD), "drops packets between devices and the internet", id="one direction"),
        pytest.param(closed(UDP, TOLD, family="ip", table="filter"), "'nft list table ip filter'", id="in a table of iptables"),
        pytest.param(closed(hook={**INPUT, "hook": "output"}), "drops UDP from port 51820", id="out"),
        pytest.param(closed(KNOWN, table="firewalld"), "firewall-cmd", id="firewalld"),
    ],
)  # fmt: skip
def test_what_does_not_let_packets_pass_is_said(linked: World, native: list[dict[str, Any]], said: str) -> None:
    linked["cella"].native = native
    assert [said in line for line in told(linked["cella"])].count(True) == 1


def masquerade(*matches: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a chain of nftables' own that translates what these matches find."""
    base = {"hook": "postrouting", "type": "nat", "prio": 100, "policy": "accept"}
    return chain("post", [*matches, {"masquerade": None}], family="ip", table="mynat", **base)


FROM_DEVICES = match({"payload": {"protocol": "ip", "field": "saddr"}}, {"prefix": {"addr": "10.0.0.0", "len": 24}})


@pytest.mark.parametrize("matches", [[], [FROM_DEVICES], [match(meta("oifname"), "docker0", "!=")], [match(meta("oifname"), "pic-*")]])
def test_what_translates_packets_towards_links_is_said(linked: World, matches: list[dict[str, Any]]) -> None:
    host = linked["cella"]
    host.native = masquerade(*matches)
    (sentence,) = told(host)
    assert sentence.startswith(
        "Chain 'post' of table 'ip mynat' (nftables) gives another source address to packets between devices and cellb, packets between devices and cellc"
    )
    assert """nft 'insert rule ip mynat post oifname "pic-*" accept'""" in sentence
    assert said_in_a_run(linked, "cella") == [sentence]
    # What it says is enough.
    host.native[1:1] = chain("post", [match(meta("oifname"), "pic-*"), ACCEPT], family="ip", table="mynat")[1:]
    assert told(host) == []


@pytest.mark.parametrize(
    "matches",
    [
        [match(meta("oifname"), {"set": ["eth0", "wg0"]})],
        [match({"payload": {"protocol": "ip", "field": "saddr"}}, {"prefix": {"addr": "172.17.0.0", "len": 16}})],
        [FROM_DEVICES, match(meta("oifname"), "pic-*", "!=")],
    ],
)
def test_what_translates_other_packets_is_no_warning(linked: World, matches: list[dict[str, Any]]) -> None:
    linked["cella"].native = masquerade(*matches)
    assert told(linked["cella"]) == []


def test_a_host_without_nft_or_without_its_json_is_not_asked(linked: World) -> None:
    host = linked["cella"]
    host.answers["nft", "-j", "list", "chains"] = Result(1, "", "Error: JSON support not compiled-in\n")
    assert told(host) == []
    host.missing.add("nft")
    host.log.clear()
    assert told(host) == []
    assert [argv for argv in host.log if argv[0] == "nft"] == []


def test_rules_are_read_only_where_there_are_chains_of_nftables_own(linked: World) -> None:
    def asked(host: FakeHost) -> list[list[str]]:
        host.log.clear()
        linked.site()
        return [argv for argv in host.log if argv[0] == "nft"]

    assert asked(linked["cella"]) == [["nft", "-j", "list", "chains"]]
    linked["cella"].native = closed(UDP)
    assert asked(linked["cella"]) == [["nft", "-j", "list", "chains"], ["nft", "-j", "list", "ruleset"]]


def test_what_nft_says_is_text_of_others(linked: World) -> None:
    host = linked["cella"]
    host.native = closed(table="\x1b[2J{{ 1 }}")
    (sentence,) = told(host)
    assert "\\x1b[2J{{ 1 }}" in sentence
    host.native = [{"rule": {"family": "inet"}}, *closed()]
    (sentence,) = told(host)
    assert "could not be checked" in sentence
