# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destinations that a phone reaches another way than the rest of the internet: exactly those, and in that way or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from test_exit_relay import CELL, TO_INTERNET, await_all

from cells import sh, within
from dead_exits import cut
from lab import INTERNET, inside
from packets import Sniffer, Stream, seen_address
from playbooks import play

FAMILIES = (4, 6)
# Another address in the same network, which nobody has: what leaves for it is seen all the same.
NEXT = ("203.0.113.201", "2001:db8:ffff::201")
TO_NEXT = f"dst host {NEXT[0]} or dst host {NEXT[1]}"
SERVER = [f"{INTERNET[0]}/32", f"{INTERNET[1]}/128"]
DIRECT = [{"to": SERVER, "via": "direct"}]
BY_CELLC = [{"to": SERVER, "via": "cellc"}]


def state_of(peer: str, exceptions: list[dict[str, Any]]) -> None:
    """Runs site with the exceptions of a phone."""
    overlay = {"cella": {"cell_peers": [{"name": peer, "route_except": exceptions}]}}
    predicted = play("site", "--check", overlay=overlay)
    done = play("site", overlay=overlay)
    assert done.rc == 0, done.message
    assert predicted.changed == done.changed
    assert play("site", overlay=overlay).changed == dict.fromkeys(done.changed, 0)


def try_next(phone: str) -> None:
    """Sends something to the address beside that of the exceptions."""
    for address in NEXT:
        inside(phone, "ping", "-c", "3", "-i", "0.2", "-W", "1", address, check=False)


def seen(phone: str) -> list[str | None]:
    """Returns whom the internet sees, in each family."""
    return [seen_address(phone, family) for family in FAMILIES]


def by(cell: str) -> list[str]:
    return [CELL[cell][family] for family in FAMILIES]


def test_exactly_the_exception_leaves_directly_and_is_closed_again() -> None:
    with Stream("phone-a1", INTERNET[0], 9000, "udp") as flow, Stream("phone-a1", INTERNET[1], 9000, "udp") as flow_6:
        state_of("phone-a1", DIRECT)
        assert await_all([flow, flow_6], 5)
        assert seen("phone-a1") == by("cella")
        with Sniffer("cella", "eth0", TO_NEXT) as uplink, Sniffer("cella", "pic-cellb", TO_NEXT) as link:
            try_next("phone-a1")
        assert uplink.lines == []
        assert {address for address in NEXT if any(address in line for line in link.lines)} == set(NEXT)
        state_of("phone-a1", [])
        with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
            assert await_all([flow, flow_6], 5)
            assert seen("phone-a1") == by("cellb")
        assert uplink.lines == []


@pytest.mark.at_length
def test_one_destination_goes_through_a_cell_or_not_at_all() -> None:
    """phone-a3 goes direct but for that."""
    state_of("phone-a3", BY_CELLC)
    try:
        assert seen("phone-a3") == by("cellc")
        with Sniffer("cella", "eth0", TO_NEXT) as uplink:
            try_next("phone-a3")
        assert uplink.lines != [], "the rest goes direct"
        sh("cella", "systemctl stop pic-cell-watch 'pic-cell-restore.*'")
        table = inside("cella", "sh", "-c", "ip rule show from 10.0.0.4 to 203.0.113.200").stdout.split("lookup ")[1].split()[0]
        for broken in (
            f"ip route flush table {table}; ip -6 route flush table {table}",
            "ip link set pic-cellc down",
            "ip rule flush protocol 201; ip -6 rule flush protocol 201",
        ):
            with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
                sh("cella", broken)
                assert seen("phone-a3") == [None, None]
            assert uplink.lines == [], broken
            sh("cella", "pic-cell restore")
        with Sniffer("cella", "eth0", TO_INTERNET) as uplink, cut("cellc"):
            assert seen("phone-a3") == [None, None]
        assert uplink.lines == []
        assert within(30, lambda: seen("phone-a3") == by("cellc"))
    finally:
        sh("cella", "systemctl start pic-cell-watch pic-cell-restore.timer")
        state_of("phone-a3", [])
    assert seen("phone-a3") == by("cella")


@pytest.mark.parametrize("broken", ["ip rule flush protocol 201; ip -6 rule flush protocol 201", "iptables -F PIC-ROUTED; ip6tables -F PIC-ROUTED"])
def test_the_hole_is_no_wider_without_one_of_the_two_layers(broken: str) -> None:
    state_of("phone-a1", DIRECT)
    sh("cella", "systemctl stop pic-cell-watch 'pic-cell-restore.*'")
    try:
        with Sniffer("cella", "eth0", TO_NEXT) as uplink:
            sh("cella", broken)
            try_next("phone-a1")
        assert uplink.lines == []
    finally:
        sh("cella", "pic-cell restore; systemctl start pic-cell-watch pic-cell-restore.timer")
        state_of("phone-a1", [])
