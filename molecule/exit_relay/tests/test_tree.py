# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy rules of many routed devices, which are a tree: the way there and back under traffic, and what is lost of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import yaml
from test_exit_relay import CELL, FLOWS, TO_INTERNET, UNMASKED, await_all

from cells import sh
from lab import INTERNET, inside
from packets import Sniffer, Stream, seen_address
from playbooks import INVENTORY, play

# devices of which no more is known than what an inventory says
MANY = [
    {
        "name": f"many-{number}",
        "public_key": base64.b64encode(hashlib.sha256(f"many-{number}".encode()).digest()).decode(),
        "addresses": [f"10.0.0.{number}", f"fd00:a::{number:x}"],
        "route_via": "cellb" if number % 2 else "cellc",
    }
    for number in range(20, 80)
]
FLOWING = [(address, *flow) for address in INTERNET for flow in FLOWS]
# what is taken away, and whether phone-a1 goes on as before
LOSSES = {
    "each rule that skips others": ("ip{0} rule | sed -n 's/^\\(4[0-9]*\\):.*goto.*/\\1/p' | while read at; do ip{0} rule del pref $at; done", True),
    "the rule at the end": ("ip{0} rule | sed -n 's/^\\(4[0-9]*\\):.* nop .*/\\1/p' | while read at; do ip{0} rule del pref $at; done", True),
    "the rule into the exit": ("ip{0} rule del from {1} lookup {2}", False),
    "all rules": ("ip{0} rule flush protocol 201", False),
    "the exit's table": ("ip{0} route flush table {2}", False),
    "the link's interface": ("ip link del pic-cellb 2>/dev/null || true", False),
}
OFTEN = ("each rule that skips others", "all rules")


def site(*more: dict[str, object]) -> None:
    """The cell has the lab's devices and these."""
    devices = yaml.safe_load(INVENTORY.read_text())["cells"]["hosts"]["cella"]["cell_peers"]
    gone = [{"name": device["name"], "state": "absent"} for device in MANY if device not in more]
    outcome = play("site", overlay={"cella": {"cell_peers": [*devices, *more, *gone]}})
    assert outcome.rc == 0, outcome.message


def skips() -> int:
    return sh("cella", "ip rule; ip -6 rule").count(" goto ")


@pytest.fixture(scope="module")
def tree() -> Iterator[None]:
    """The cell has so many routed devices that their rules are a tree."""
    site(*MANY)
    yield
    site()


def test_devices_come_and_go_by_the_dozen_and_nothing_leaks_or_is_disturbed():
    assert skips() == 0
    with ExitStack() as stack:
        plain = stack.enter_context(Sniffer("cella", "eth0", UNMASKED, seconds=300))
        uplink = stack.enter_context(Sniffer("cella", "eth0", TO_INTERNET, limit=100_000, seconds=300))
        routed = [stack.enter_context(Stream(phone, *flow)) for phone in ("phone-a1", "phone-a2") for flow in FLOWING]
        for devices in (MANY, MANY[7:50], MANY[3:], []):
            site(*devices)
            assert (skips() > 40) == bool(devices)
            assert all(flow.undisturbed() for flow in routed)
        longest = max(flow.longest for flow in routed)
    assert plain.lines == [] and uplink.lines == []
    assert longest < 1, "a flow stood still"


@pytest.mark.usefixtures("tree")
def test_a_direct_phone_comes_and_goes_in_the_tree():
    with ExitStack() as stack:
        direct = [stack.enter_context(Stream("phone-a3", *flow)) for flow in FLOWING]
        others = [stack.enter_context(Stream("phone-a1", *flow)) for flow in FLOWING]
        for family in (4, 6):
            assert seen_address("phone-a3", family) == CELL["cella"][family]
        assert play("route_peer", cell="cella", peer="phone-a3", via_cell="cellb").rc == 0
        with Sniffer("cella", "eth0", TO_INTERNET) as uplink:
            assert await_all(direct, 5)
            assert {seen_address("phone-a3", family) for family in (4, 6)} == set(CELL["cellb"].values())
        assert uplink.lines == []
        assert play("route_peer", cell="cella", peer="phone-a3", via_cell="direct").rc == 0
        assert await_all(direct, 5)
        assert all(flow.undisturbed() for flow in others)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("loss", [pytest.param(loss, marks=[] if loss in OFTEN else [pytest.mark.at_length]) for loss in LOSSES])
def test_what_is_lost_of_the_tree_opens_nothing_and_comes_back(loss: str):
    command, goes_on = LOSSES[loss]
    there = skips()
    with ExitStack() as stack:
        own = [stack.enter_context(Stream("phone-a1", *flow)) for flow in FLOWING]
        uplink = stack.enter_context(Sniffer("cella", "eth0", TO_INTERNET))
        for version, address in (("", "10.0.0.2"), (" -6", "fd00:a::2")):
            table = sh("cella", f"ip{version} rule show from {address}").split("lookup ")[1].split()[0]
            sh("cella", command.format(version, address, table))
        assert await_all(own, 2) == goes_on
        assert all(flow.undisturbed() for flow in own) == goes_on
        inside("cella", "pic-cell", "restore")
        assert await_all(own, 5)
        assert skips() == there
        assert goes_on <= all(flow.undisturbed() for flow in own)
    assert uplink.lines == []
    assert inside("cella", "pic-cell", "check").returncode == 0
