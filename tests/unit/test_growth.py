# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell does grows with its links and devices as they do, and no faster: calls and commands are counted, never seconds."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.cell import RUN, rehearse
from ansible_collections.pic.cells.plugins.module_utils.parts import routes
from ansible_collections.pic.cells.plugins.module_utils.parts.inputs import Inputs
from ansible_collections.pic.cells.plugins.module_utils.program.restore import drafted, restore
from ansible_collections.pic.cells.plugins.module_utils.records.model import State
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.tests.benchmarks.restore import CASES, Timed, damaged, large, made
from ansible_collections.pic.cells.tests.unit import netfilter
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.netfilter import PASSED, Packet, verdict

ENGINE = "/plugins/module_utils/"
SIZES = [(size, size, 2) for size in (20, 40, 80)]  # links, devices, shares of each link


def calls(function: Callable[[], Any]) -> int:
    """Return how many calls a function makes the engine make: of its own functions, of what it is built on, and comparisons of its objects."""
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper) and ".module_utils." in str(found.__module__):
            found.cache_clear()
    return calls_in(ENGINE, function)


def calls_in(code: str, function: Callable[[], Any]) -> int:
    """Return how many calls a function makes files make. code: the part of their paths that tells them."""
    count = 0

    def look(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            made_by = frame.f_back if frame.f_code.co_filename == "<string>" else frame  # methods of data classes
            count += made_by is not None and code in made_by.f_code.co_filename

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> list[Timed]:
    """Return cells of which each has twice as many links and devices as the one before."""
    return [made(tmp_path_factory.mktemp("cell"), *size) for size in SIZES]


def assert_linear(counted: list[int]) -> None:
    small, middle, large = counted
    assert large - middle < 2.05 * (middle - small), counted


@pytest.mark.parametrize("case", CASES[::3])
def test_a_restore_of_twice_as_many_links_and_devices_is_twice_as_much_work(case: str, hosts: list[Timed]) -> None:
    twins = [damaged(host, case) for host in hosts]
    assert_linear([calls(lambda twin=twin: restore(twin, STATE_DIR)) for twin in twins])


def stated(state: State) -> Inputs:
    """Return what a run says of a cell with these records."""
    cell = {key: getattr(state.cell, key) for key in ("name", "networks")}
    cell["services"] = [{**vars(service), "address": service.addresses} for service in state.cell.services.values()]
    devices = [{"name": peer.name, "public_key": peer.public_key, "addresses": peer.addresses, "route_via": peer.route_via} for peer in state.peers.values()]
    links = [
        {**{key: getattr(link, key) for key in ("name", "public_key", "networks", "address", "endpoint")}, "state": "present", "generated": True}
        for link in state.links.values()
    ]
    rights = [{"name": link.name, "share": link.shares, "offer_exit": True} for link in state.links.values()]
    offers = [{"name": link.name, "offered": True} for link in state.links.values()]
    routes = [{"peer": peer.name, "via_cell": peer.route_via} for peer in state.peers.values()]
    return Inputs(cell=cell, devices=devices, links=links, rights=rights, offers=offers, routes=routes)


@pytest.mark.parametrize("first", [True, False], ids=["first", "again"])
def test_a_run_with_twice_as_many_links_and_devices_is_twice_as_much_work(first: bool, hosts: list[Timed], tmp_path: Path) -> None:
    counted = []
    for size, host in zip(SIZES, hosts):
        inputs, context = stated(large(*size)), drafted(FakeHost(tmp_path / str(size[0])) if first else host, STATE_DIR)
        steps = {**RUN, "routes": (routes.OFFERS, routes.ROUTES)}
        planned = {}
        counted.append(calls(lambda: planned.update(rehearse(context, inputs, steps))))  # noqa: B023
        assert bool(planned["links"][0]) is first
    assert_linear(counted)


UPLINK = "eth0"
SERVICE = ("10.0.0.1", 1001)
PACKETS = {
    "a device's, to the internet": Packet("10.0.200.9", "192.0.2.80", "wg0", UPLINK, state="ESTABLISHED", syn=False),
    "an answer to it": Packet("192.0.2.80", "10.0.200.9", UPLINK, "wg0", state="ESTABLISHED", reply=True, syn=False),
    "a routed device's": Packet("10.0.1.2", "192.0.2.80", "wg0", "pic-x0", state="ESTABLISHED", syn=False),
    "an answer to that": Packet("192.0.2.80", "10.0.1.2", "pic-x0", "wg0", state="ESTABLISHED", reply=True, syn=False, begun="10.0.1.2"),
    "a device's, to a linked cell": Packet("10.0.200.9", "10.1.0.1", "wg0", "pic-x0", state="ESTABLISHED", syn=False),
    "a linked cell's, to a share": Packet("10.1.0.2", SERVICE[0], "pic-x0", port=SERVICE[1], state="ESTABLISHED", syn=False),
    "the first of a device's, to the internet": Packet("10.0.200.9", "192.0.2.80", "wg0", UPLINK),
    "the first of a routed device's": Packet("10.0.1.2", "192.0.2.80", "wg0", "pic-x0"),
    "the first of a device's, to a linked cell": Packet("10.0.200.9", "10.1.0.1", "wg0", "pic-x0", port=443),
    "the first of a linked cell's, to a share": Packet("10.1.0.2", SERVICE[0], "pic-x0", port=SERVICE[1], asked=SERVICE),
}


@pytest.mark.parametrize("whose", PACKETS)
def test_a_packet_is_compared_with_hardly_more_rules_where_there_are_more(whose: str, hosts: list[Timed], monkeypatch: pytest.MonkeyPatch) -> None:
    count, matches = [0], netfilter._matches

    def counting(rule: tuple[str, ...], packet: Packet) -> bool:
        count[-1] += 1
        return matches(rule, packet)

    monkeypatch.setattr(netfilter, "_matches", counting)
    for host in hosts:
        assert verdict(host, PACKETS[whose]) == PASSED
        count.append(0)
    small, _middle, large, _end = count
    assert 0 < small <= 60, count
    assert large - small <= 16, count  # a level of a tree in each table, or a branch that is fuller
