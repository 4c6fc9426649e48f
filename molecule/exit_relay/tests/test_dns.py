# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a routed phone's DNS questions reach: a resolver on the internet through the exit, or nobody.

The servers on port 53 answer with the address that they see, so an answer says which of them was asked, and by whom.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_exit_relay import CELL, route

import lab
from cells import sh, within
from dead_exits import DEATHS
from lab import HOSTS, INTERNET, NETWORKS, inside
from packets import Sniffer
from playbooks import play

RESOLVERS = ("internet", "cella", "lan-a")
# What an owner needs whose resolver is on the cell, or in a network of it.
LET_IN = ("INPUT -i wg0 -p udp --dport 53", "INPUT -i wg0 -p tcp --dport 53", "FORWARD -i wg0 -o eth1", "FORWARD -i eth1 -o wg0")
SERVE = "systemd-run -q --unit pic-lab-dns python3 /usr/local/lib/pic-lab/echo_server.py serve udp:53 tcp:53"
# From one port always: what conntrack knows of a question before would decide about the next.
ASK_UDP = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as asking:
    asking.bind(("", 40053))
    asking.settimeout(2)
    asking.connect((sys.argv[1], 53))
    try:
        asking.send(b"who")
        print(asking.recv(2048).decode())
    except OSError:
        pass
"""
PROTOCOLS = ("udp", "tcp")
FAMILIES = (4, 6)
PHONE = {4: "10.0.0.2", 6: "fd00:a::2"}
LAN = dict(zip(FAMILIES, NETWORKS["lan-a"].addresses(HOSTS["lan-a"].at["lan-a"])))
CELL_ITSELF = {4: "10.0.0.1", 6: "fd00:a::1"}
OF_CELLB = {4: "10.0.1.1", 6: "fd00:b::1"}
ON_THE_INTERNET = dict(zip(FAMILIES, INTERNET))


def answer(phone: str, address: str, protocol: str) -> str:
    """Returns what a server on port 53 answers a phone, empty where there is no answer."""
    if protocol == "udp":
        return inside(phone, "python3", "-c", ASK_UDP, address).stdout.strip()
    url = f"http://{f'[{address}]' if ':' in address else address}:53/"
    return inside(phone, "curl", "-s", "-g", "--noproxy", "*", "--max-time", "2", url, check=False).stdout.strip()


def answers(family: int, phone: str = "phone-a1") -> set[str]:
    """Returns the answers to all that a phone can ask in a family."""
    return {answer(phone, asked[family], protocol) for asked in (CELL_ITSELF, LAN, ON_THE_INTERNET) for protocol in PROTOCOLS}


def open_to_devices(how: str) -> None:
    """Adds (-A) or deletes (-D) the owner's rules."""
    sh("cella", "; ".join(f"{tool} {how} {rule} -j ACCEPT" for tool in ("iptables", "ip6tables") for rule in LET_IN))


@pytest.fixture(scope="module", autouse=True)
def resolvers() -> Iterator[None]:
    for host in RESOLVERS:
        sh(host, SERVE)
    open_to_devices("-A")
    assert play("site", overlay={"cella": {"cell_exit_dns": list(INTERNET)}}).rc == 0
    yield
    outcome = play("site", overlay={"cella": {"cell_exit_dns": "own"}})
    open_to_devices("-D")
    for host in RESOLVERS:
        sh(host, "systemctl stop pic-lab-dns")
    assert outcome.rc == 0
    assert "--dport 53 " not in sh("cella", "iptables-save; ip6tables-save")


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_a_routed_phone_asks_is_answered_through_its_exit(family: int) -> None:
    with Sniffer("cella", "eth0", "port 53") as uplink, Sniffer("cella", "eth1", "port 53") as network:
        assert answers(family) == {CELL["cellb"][family]}
    assert uplink.lines == network.lines == []
    # One that goes direct is answered by whom it asks.
    phone = {4: "10.0.0.4", 6: "fd00:a::4"}[family]
    assert {answer("phone-a3", asked[family], protocol) for asked in (CELL_ITSELF, LAN) for protocol in PROTOCOLS} == {phone}


def test_the_answers_follow_the_exit() -> None:
    try:
        for via, family in ((via, family) for via in ("cellc", "cellb") for family in FAMILIES):
            route("phone-a1", via)
            assert answers(family) == {CELL[via][family]}
        route("phone-a1", "direct")
        for family in FAMILIES:
            assert {answer("phone-a1", CELL_ITSELF[family], protocol) for protocol in PROTOCOLS} == {PHONE[family]}
    finally:
        route("phone-a1", "cellb")
    for family in FAMILIES:
        assert answers(family) == {CELL["cellb"][family]}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_exit_nobody_is_asked(family: int) -> None:
    away, back = DEATHS["cut off"]
    with Sniffer("cella", "eth0", "port 53") as uplink, Sniffer("cella", "eth1", "port 53") as network:
        lab.run(away)
        try:
            assert answers(family) == {""}
        finally:
            lab.run(back)
    assert uplink.lines == network.lines == []
    assert within(30, lambda: answers(family) == {CELL["cellb"][family]})


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_redirect_nobody_is_asked(family: int) -> None:
    tool = "iptables" if family == 4 else "ip6tables"
    inside("cella", "systemctl", "stop", "pic-cell-watch", "pic-cell-restore.*")
    try:
        sh("cella", f"{tool} -t nat -F PIC-PRE; conntrack -D -f ipv{family} -p udp --orig-port-dst 53 || true")
        with Sniffer("cella", "eth0", "port 53") as uplink, Sniffer("cella", "eth1", "port 53") as network:
            near = {answer("phone-a1", asked[family], protocol) for asked in (CELL_ITSELF, LAN) for protocol in PROTOCOLS}
        assert near == {""}
        assert uplink.lines == network.lines == []
    finally:
        sh("cella", "pic-cell restore; systemctl start pic-cell-watch pic-cell-restore.timer")
    assert within(5, lambda: answers(family) == {CELL["cellb"][family]})


def test_one_phone_is_answered_otherwise_than_the_rest() -> None:
    overlay = {"cella": {"cell_exit_dns": "own", "cell_peers": [{"name": "phone-a1", "exit_dns": list(INTERNET)}]}}
    try:
        for _time in range(2):
            outcome = play("site", overlay=overlay)
            assert outcome.rc == 0, outcome.message
        assert set(outcome.changed.values()) == {0}
        for family, other in zip(FAMILIES, ("10.0.0.3", "fd00:a::3")):
            with Sniffer("cella", "eth0", "port 53") as uplink, Sniffer("cella", "eth1", "port 53") as network:
                assert answers(family) == {CELL["cellb"][family]}
            assert uplink.lines == network.lines == []
            assert {answer("phone-a2", CELL_ITSELF[family], protocol) for protocol in PROTOCOLS} == {other}
    finally:
        assert play("site", overlay={"cella": {"cell_exit_dns": list(INTERNET)}}).rc == 0
    for family in FAMILIES:
        assert answers(family) == {CELL["cellb"][family]}


@pytest.fixture
def following() -> Iterator[None]:
    """Lets the phones' questions follow their exits; of the resolvers near them that of cellb alone is left."""
    sh("cellb", SERVE)
    for host in ("cella", "lan-a"):
        sh(host, "systemctl stop pic-lab-dns")
    assert play("site", overlay={"cella": {"cell_exit_dns": "exit"}, "cellb": {"cell_resolver": list(OF_CELLB.values())}}).rc == 0
    yield
    outcome = play("site", overlay={"cella": {"cell_exit_dns": list(INTERNET)}, "cellb": {"cell_resolver": []}})
    sh("cellb", "systemctl stop pic-lab-dns")
    for host in ("cella", "lan-a"):
        sh(host, SERVE)
    assert outcome.rc == 0
    assert "--ctorigdstport 53 " not in sh("cellb", "iptables-save; ip6tables-save")


def near(family: int, phone: str = "phone-a1") -> set[str]:
    """Returns the answers to all that a phone can ask near it in a family."""
    return {answer(phone, asked[family], protocol) for asked in (CELL_ITSELF, LAN) for protocol in PROTOCOLS}


@pytest.mark.usefixtures("following")
def test_the_resolver_of_the_exit_answers_and_nobody_else() -> None:
    outcome = play("site", overlay={"cella": {"cell_exit_dns": "exit"}, "cellb": {"cell_resolver": list(OF_CELLB.values())}})
    assert (outcome.rc, set(outcome.changed.values())) == (0, {0}), outcome.message
    for family in FAMILIES:
        questions = f"dst host {OF_CELLB[family]} and dst port 53"
        with Sniffer("cella", "eth0", "port 53") as uplink, Sniffer("cella", "eth1", "port 53") as network, Sniffer("cellb", "pic-cella", questions) as asked:
            # It has seen the phone's own address: the question has come through the link, and was masqueraded nowhere.
            assert near(family) == {PHONE[family]}
        assert uplink.lines == network.lines == []
        assert asked.lines and all(f" {PHONE[family]}." in line for line in asked.lines)
        assert answer("phone-a1", ON_THE_INTERNET[family], "udp") == CELL["cellb"][family]
        # The exit of this one has named no resolver.
        assert near(family, "phone-a2") == {""}
    assert "leaves by this cell's own connection, since cellc has named no resolver" in sh("cella", "pic-cell explain phone-a2")


@pytest.mark.usefixtures("following")
def test_with_the_offer_the_answers_end_and_come_back() -> None:
    assert play("offer_exit", cell="cellb", remote_cell="cella", offered="false").rc == 0
    with Sniffer("cella", "eth0", "port 53") as uplink, Sniffer("cella", "eth1", "port 53") as network:
        assert [near(family) for family in FAMILIES] == [{""}, {""}]
    assert uplink.lines == network.lines == []
    assert play("offer_exit", cell="cellb", remote_cell="cella", offered="true").rc == 0
    assert [near(family) for family in FAMILIES] == [{PHONE[family]} for family in FAMILIES]


@pytest.mark.usefixtures("following")
def test_the_questions_follow_a_switch_of_exits() -> None:
    try:
        route("phone-a1", "cellc")
        assert [near(family) for family in FAMILIES] == [{""}, {""}]  # its own cell was asked, which has no resolver now
    finally:
        route("phone-a1", "cellb")
    assert [near(family) for family in FAMILIES] == [{PHONE[family]} for family in FAMILIES]
