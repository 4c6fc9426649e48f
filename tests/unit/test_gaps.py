# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flows that were opened while our rules were away end with the repair, and no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ansible_collections.pic.cells.plugins.module_utils.parts.gaps import parse
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import World, call, program


def entry(source: str, to: str, port: int = 0, protocol: str = "tcp", answering: str | None = None, answered: str | None = None) -> str:
    """Return a line as conntrack -L prints it. answering, answered: where the answers come from and go to, if it is translated."""
    ports = f" sport=40000 dport={port}" if port else " type=8 code=0 id=7"
    state = " 431999 ESTABLISHED" if protocol == "tcp" else " 29"
    return f"{protocol:8} 6{state} src={source} dst={to}{ports} src={answering or to} dst={answered or source}{ports} [ASSURED] mark=0 use=1"


# On cella, which shares files (10.0.0.1:443) and voice (10.0.0.3:5060/udp) with cellb, files with cellc, and is cellb's exit.
ALLOWED = [
    entry("10.0.1.2", "10.0.0.1", 443),
    entry("10.0.1.2", "10.0.0.1", 443, answering="172.17.0.2"),
    entry("10.0.1.3", "10.0.0.3", 5060, "udp"),
    entry("fd00:b::2", "fd00:a::1", 443),
    entry("10.0.1.1", "10.0.0.1", 8088),
    entry("10.0.0.1", "10.0.1.1", 8088),
    entry("203.0.113.11", "10.0.1.2", 80),
    entry("10.0.0.4", "10.0.1.2", 80),
    entry("10.0.1.3", "192.0.2.80", 443, answered="203.0.113.11"),
    entry("10.0.0.2", "192.0.2.80", 443),
    entry("10.0.0.2", "192.168.77.10", 80, answered="203.0.113.11"),
    entry("10.0.0.4", "192.0.2.80", 443, answered="203.0.113.11"),
    entry("203.0.113.77", "203.0.113.11", 22),
    entry("172.17.0.2", "192.0.2.80", 443, answered="203.0.113.11"),
    "unknown  2 500 src=203.0.113.11 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=203.0.113.11 use=1",
]
REFUSED = [
    entry("10.0.1.2", "10.0.0.1", 8447, answering="172.17.0.2"),
    entry("10.0.1.2", "10.0.0.1", 22),
    entry("10.0.1.2", "10.0.0.4", 80),
    entry("10.0.1.2", "10.0.0.1", 0, "icmp"),
    entry("10.0.1.9", "10.0.0.1", 8088),
    entry("10.0.1.9", "10.0.0.1", 443, "udp"),
    entry("10.0.1.3", "192.168.77.10", 80),
    entry("10.0.2.9", "192.0.2.80", 443, answered="203.0.113.11"),
    entry("10.0.2.9", "10.0.0.3", 5060, "udp"),
    entry("fd00:b::9", "fd00:a::1", 22),
    entry("203.0.113.77", "10.0.1.2", 80),
    entry("172.17.0.2", "10.0.1.2", 80),
    entry("10.0.0.4", "10.0.1.1", 8088),
    entry("10.0.0.2", "192.0.2.80", 53, "udp", answered="203.0.113.11"),
    "unknown  47 500 src=10.0.2.9 dst=10.0.0.1 [UNREPLIED] src=10.0.0.1 dst=10.0.2.9 use=1",
]


def lose_jumps(host: FakeHost) -> None:
    for family in (4, 6):
        host.tables[host.default, family]["filter"].rules["FORWARD"].clear()


def overtake(host: FakeHost) -> None:
    for family in (4, 6):
        host.iptables(family, "filter", "-I FORWARD 1 -i pic-+ -j ACCEPT")


def lose_all(host: FakeHost) -> None:
    for family in (4, 6):
        host.tables[host.default, family] = {}


def lose_a_chain_of_the_second_deny(host: FakeHost) -> None:
    for family in (4, 6):
        host.tables[host.default, family]["mangle"].rules["PIC-S-cellb"].clear()


@pytest.fixture
def cell(linked: World) -> FakeHost:
    """Return a cell with flows of both kinds."""
    assert len(parse("\n".join([*ALLOWED, *REFUSED]))) == len([*ALLOWED, *REFUSED])
    linked["cella"].entries = [*ALLOWED, *REFUSED]
    return linked["cella"]


@pytest.mark.parametrize("damage", [lose_jumps, overtake, lose_all, lose_a_chain_of_the_second_deny])
def test_what_a_gap_has_opened_ends_with_the_repair_and_nothing_else_does(cell: FakeHost, damage: Callable[[FakeHost], None]) -> None:
    damage(cell)
    cell.reset()
    assert program(cell, "restore")[0] == 0
    assert cell.entries == ALLOWED
    assert [argv[1:4] for argv in cell.log if argv[:2] == ["conntrack", "-L"]] == [["-L", "-f", "ipv4"], ["-L", "-f", "ipv6"]]
    repaired = cell.steps.index(f"iptables-restore {'mangle' if damage == lose_a_chain_of_the_second_deny else 'filter'}")
    assert repaired < min(number for number, step in enumerate(cell.steps) if step.startswith("conntrack"))


def test_a_scan_of_all_ports_ends_with_one_command(cell: FakeHost) -> None:
    """Also where a flow is among them that may stay: it begins anew."""
    cell.entries = [entry("10.0.2.9", "10.0.0.1", port) for port in range(400, 500)]
    lose_jumps(cell)
    cell.reset()
    program(cell, "restore")
    assert cell.entries == []
    assert cell.ended == [["-D", "-f", "ipv4", "--orig-src", "10.0.2.9", "--orig-dst", "10.0.0.1"]]


def test_a_run_ends_them_too_and_check_mode_ends_none(cell: FakeHost) -> None:
    lose_jumps(cell)
    predicted = call("pic_cell_rules", cell, {}, check=True)
    assert cell.entries == [*ALLOWED, *REFUSED]
    done = call("pic_cell_rules", cell, {})
    assert (predicted["changed"], predicted["diff"]) == (done["changed"], done["diff"])
    assert cell.entries == ALLOWED


def test_where_nothing_was_wrong_nobody_looks_for_flows(linked: World) -> None:
    linked.reset()
    linked.job("share", cell="cella", remote_cell="cellb", services="files")
    linked.job("share", cell="cella", remote_cell="cellb", services="files,voice")
    linked.job("offer_exit", cell="cella", remote_cell="cellc", offered="true")
    program(linked["cella"], "restore")
    assert not [argv for host in linked.hosts.values() for argv in host.log if argv[:2] == ["conntrack", "-L"]]


def test_a_first_run_ends_no_flow_that_may_be(world: World) -> None:
    """But those of devices that get another way."""
    world["cella"].entries = begun = [line for line in ALLOWED if "src=10.0.0.2 " not in line]
    world.site()
    assert world["cella"].entries == begun


def test_without_conntrack_the_rules_come_back_all_the_same(cell: FakeHost) -> None:
    wanted = cell.text()
    lose_jumps(cell)
    cell.missing = {"conntrack"}
    rc, _out, err = program(cell, "restore")
    assert (rc, err) == (1, "pic-cell: The program 'conntrack' is not installed on this host. Install the package 'conntrack'.\n")
    assert cell.text() == wanted
