# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pic-cell prove finds what keeps a phone's exit from carrying its traffic, and what of its closure is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from test_exit_relay import CELL, TO_INTERNET, await_all, route

import lab
from cells import sh, within
from dead_exits import DEATHS, offline, on
from lab import INTERNET, inside
from packets import Sniffer, Stream, seen_address
from playbooks import play

_SIZE = "add table inet hole; add chain inet hole in { type filter hook prerouting priority -400; }; "
_SIZE += "add rule inet hole in iifname eth0 meta l4proto udp meta length > 1300 drop"
HOLE = (on("cellb", "nft", _SIZE), on("cellb", "nft", "delete table inet hole"))


def prove() -> subprocess.CompletedProcess[str]:
    return inside("cella", "pic-cell", "prove", "phone-a1", check=False)


@contextmanager
def unwatched() -> Iterator[None]:
    """Lets what is taken away from cella stay away while the block runs."""
    sh("cella", "systemctl stop pic-cell-watch 'pic-cell-restore.*'")
    try:
        yield
    finally:
        sh("cella", "pic-cell restore; systemctl start pic-cell-watch pic-cell-restore.timer")


def test_an_exit_that_works() -> None:
    done = prove()
    assert (done.returncode, "wrong:" in done.stdout) == (0, False), done.stdout
    assert "    cell cellb says that it has a route to the internet for IPv4 and IPv6\n    cell cellb gets packets of 1420 bytes\n" in done.stdout


@pytest.mark.parametrize(
    ("breaking", "mending", "said"),
    [
        pytest.param(*DEATHS["cut off"], "cell cellb does not answer through its tunnel", id="cut off"),
        pytest.param(*DEATHS["no route to the internet"], "cell cellb says that it has no route to the internet for IPv4 and IPv6", id="no route"),
        pytest.param(*HOLE, "cell cellb gets small packets, but none of 1420 bytes (set a smaller mtu for the link on both cells)", id="large packets"),
    ],
)
def test_an_exit_that_does_not(breaking: tuple[str, ...], mending: tuple[str, ...], said: str) -> None:
    lab.run(breaking)
    try:
        done = prove()
    finally:
        lab.run(mending)
    assert (done.returncode, [line for line in done.stdout.splitlines() if "wrong:" in line]) == (3, [f"    wrong: {said}"])


def test_the_playbook_proves_a_device_and_fails_for_a_dead_tunnel() -> None:
    done = play("prove", cell="cella", peer="phone-a1")
    assert (done.rc, any(done.changed.values())) == (0, False), done.text
    assert "    cell cellb answers through its tunnel" in done.text
    breaking, mending = DEATHS["cut off"]
    lab.run(breaking)
    try:
        done = play("prove", cell="cella", peer="phone-a1")
    finally:
        lab.run(mending)
    assert done.rc == 2, done.text
    assert "peer phone-a1: cell cellb does not answer through its tunnel." in " ".join(done.text.split())


def ways() -> tuple[str, ...]:
    """Returns the records and the policy rules of cella, by which devices are routed."""
    records = (sh("cella", f"cat /var/lib/pic/{name}.json") for name in ("cell", "cell_links", "peer_registry"))
    return (*records, sh("cella", "ip rule; ip -6 rule"))


def test_a_phone_does_not_move_to_an_exit_without_internet_unless_it_is_forced() -> None:
    given = {"cell": "cella", "peer": "phone-a1", "via_cell": "cellc"}
    before = ways()
    with offline("cellc"):
        for options in (("--check",), ()):
            done = play("route_peer", *options, **given)
            assert done.rc == 2, done.text
            assert "Peer 'phone-a1' would have no internet: cell cellc says that it has no route to the internet for IPv4 and IPv6." in done.message
            assert not any(done.changed.values())
            assert ways() == before
        assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL["cellb"][family] for family in (4, 6)]
        done = play("route_peer", **given, force="true")
        assert done.rc == 0, done.text
        assert "cell cellc says that it has no route to the internet for IPv4 and IPv6" in " ".join(done.text.split())
        assert seen_address("phone-a1", 4) is None
    sh("cellc", "pic-cell restore")  # a cell looks for its uplink by itself, but not in this scenario
    assert within(10, lambda: seen_address("phone-a1", 4) == CELL["cellc"][4])
    route("phone-a1", "cellb")
    assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL["cellb"][family] for family in (4, 6)]


def test_a_phone_that_a_foreign_rule_leads_elsewhere_keeps_its_way() -> None:
    """A rule that comes before ours leads the phone through the exit that it has."""
    before, rule = ways(), "from 10.0.0.2 lookup 77 pref 100"
    sh("cella", f"ip route add default dev pic-cellb table 77; ip rule add {rule}")
    try:
        with Stream("phone-a1", INTERNET[0], 9000, "udp") as flow, Stream("phone-a1", INTERNET[1], 9000, "udp") as flow_6:
            with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
                done = play("route_peer", cell="cella", peer="phone-a1", via_cell="cellc")
                assert done.rc == 2, done.text
                assert "the kernel sends what comes from 10.0.0.2 through pic-cellb. Its old way (via cellb) is put back." in done.message
                sh("cella", "pic-cell replay")  # the run starts the unit that tells cellb again, which does nothing in this scenario
                assert await_all([flow, flow_6], 5)
                assert [seen_address("phone-a1", family) for family in (4, 6)] == [CELL["cellb"][family] for family in (4, 6)]
            assert uplink.lines == []
    finally:
        sh("cella", f"ip rule del {rule}; ip route del default dev pic-cellb table 77")
    assert (ways()[2], sorted(ways()[3].splitlines())) == (before[2], sorted(before[3].splitlines()))


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("ip rule flush protocol 201; ip -6 rule flush protocol 201", "policy rule; what is left keeps it closed"),
        ("for tool in iptables ip6tables; do $tool -F PIC-ROUTED; done", "chains of filter; what is left keeps it closed"),
    ],
)
def test_a_closure_that_is_not_whole(damage: str, missing: str) -> None:
    with unwatched():
        sh("cella", damage)
        done = prove()
    wrong = [line for line in done.stdout.splitlines() if "wrong:" in line]
    assert (done.returncode, wrong) == (
        3,
        [f"    wrong: the own uplink is not closed for {address} by {missing}. Put it back: pic-cell restore" for address in ("10.0.0.2", "fd00:a::2")],
    )
    assert prove().returncode == 0
