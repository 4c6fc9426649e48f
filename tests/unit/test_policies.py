# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random policies: what is said of each expectation is what becomes of packets on the fake host, by its own routing and another evaluator of rules."""

from __future__ import annotations

import copy
import ipaddress
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Draft
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.expectations import Expectation, Server
from ansible_collections.pic.cells.plugins.module_utils.cell import CONTRIBUTIONS
from ansible_collections.pic.cells.plugins.module_utils.parts.expectations import judge
from ansible_collections.pic.cells.plugins.module_utils.parts.ground import observed, planned
from ansible_collections.pic.cells.plugins.module_utils.parts.part import Context
from ansible_collections.pic.cells.plugins.module_utils.records.model import State
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store
from ansible_collections.pic.cells.tests.unit import netfilter
from ansible_collections.pic.cells.tests.unit.changes import Change
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import covers
from ansible_collections.pic.cells.tests.unit.fake.machine import Refused
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, furnish, three_cells

INTERNET = {4: "192.0.2.1", 6: "2001:db8::1"}
# These leave what one cell says of another as it is: until the next run that is no packet's business.
NOT_HERE = ("edit_link_gone", "edit_networks", "edit_silence", "edit_exits")


def some_policy(folder: Path, dice: random.Random) -> World:
    """Return cells after some random changes."""
    world = World(folder, three_cells())
    furnish(world["cella"])
    world.site()
    done = 0
    while done < 3:
        before = copy.deepcopy(world.inventory)
        Change(dice, world.inventory, NOT_HERE)
        try:
            world.site()
            done += 1
        except (BadInput, Refusal):
            world.inventory = before
    world.site()
    return world


def context_of(host: FakeHost) -> Context:
    draft = Draft(host)
    return Context(draft, Store(draft), predict=True, now=host.now)


def sources(state: State, name: str, family: int) -> Iterator[tuple[str, str]]:
    """Yield interface and address of whoever is meant: of a cell's network the first, the last, and some."""
    if name in state.peers:
        yield from ((state.cell.interface, a) for a in state.peers[name].addresses if (":" in a) == (family == 6))
    else:
        for text in state.links[name].networks:
            network = ipaddress.ip_network(text)
            if network.version == family:
                yield from ((str(state.links[name].interface), str(network[number])) for number in (1, 2, 77, -2))


def arrives(host: FakeHost, came_by: str, source: str, server: Server) -> str | None:
    """Return the interface by which a packet leaves, "" where the host itself gets it, None where nobody does."""
    family = 6 if ":" in source else 4
    local = any(server.address == address.partition("/")[0] for link in host.links.values() for address in link.addresses)
    try:
        leaves = "" if local else str(host._route_to(family, server.address, source)["dev"])
    except Refused:
        return None
    tunnel = host.wg.get(leaves)
    if tunnel and not any(covers(network, server.address) for peer in tunnel.peers.values() for network in peer.allowed):
        return None
    packet = netfilter.Packet(source, server.address, came_by, leaves, server.protocol, server.port)
    return leaves if netfilter.verdict(host, packet) == netfilter.PASSED else None


def expectations(dice: random.Random, state: State) -> Iterator[Expectation]:
    """Yield what may hold or not: whom the internet, services, devices and the host itself are open to."""
    cells = [link.name for link in state.links.values() if not link.pending]
    everybody = [*state.peers, *cells]
    exits = [None, None, "direct", *cells]
    services = [f"{name}@{state.cell.name}" for name in state.cell.services]
    addresses = [*state.cell.own_addresses(), *(address for peer in state.peers.values() for address in peer.addresses), "198.51.100.7", "2001:db8:5::7"]
    for name in everybody:
        yield Expectation(name, "internet", via=dice.choice(exits))
        yield Expectation(name, "internet", allowed=False)
        for service in services:
            yield Expectation(name, service, dice.random() < 0.5)
        for _number in range(4):
            server = Server(dice.choice(("tcp", "udp")), dice.choice((80, 443, 8088, 51820)), dice.choice(addresses))
            yield Expectation(name, server.render(), dice.random() < 0.5)


def holds(host: FakeHost, state: State, expected: Expectation) -> bool:
    """Tell whether an expectation holds, by packets."""
    name, cell = expected.service or ("", "")
    service = state.cell.services[name] if cell else None
    servers = [Server(service.protocol, service.port, a) for a in service.addresses] if service else [expected.server] if expected.server else []
    peer = state.peers.get(expected.source)
    if not servers:
        excepted = [str(ipaddress.ip_network(n).network_address) for n in peer.route_except] if peer and not expected.allowed else []
        servers = [Server("tcp", 443, address) for address in (*INTERNET.values(), *excepted)]
    ways = []
    for server in servers:
        assert server is not None
        family = 6 if ":" in server.address else 4
        ways += [(family, arrives(host, *source, server)) for source in sources(state, expected.source, family)]
    if expected.to == "internet":
        ours = {str(link.interface): link.name for link in state.links.values() if link.interface != state.cell.interface}
        ours.update({str(link.interface): link.name for link in state.links.values() if link.exit_relay_active})
        ways = [
            (family, None if way is None or way == "" or (way == state.cell.interface and way not in ours) else ours.get(way, "direct")) for family, way in ways
        ]
        if any(way for family, way in ways if family == 4):
            ways = [(family, way) for family, way in ways if family == 4 or way]
        if expected.via and any(way not in (None, expected.via) for _family, way in ways):
            return False
    passed = [way is not None for _family, way in ways]
    return (bool(passed) and all(passed)) if expected.allowed else not any(passed)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[] if seed < 5 else [pytest.mark.at_length]) for seed in range(25)])
def test_what_is_said_of_a_random_policy_is_what_becomes_of_its_packets(tmp_path: Path, seed: int) -> None:
    dice = random.Random(f"policy {seed}")
    world, seen = some_policy(tmp_path, dice), set()
    for name, host in world.hosts.items():
        context = context_of(host)
        state = context.stored
        expected = list(expectations(dice, state))
        state.cell.expect = [one.render() for one in expected]
        on_the_kernel = judge(observed(context, CONTRIBUTIONS))
        as_planned = judge(planned(context, CONTRIBUTIONS))
        # An exit that is offered and that nobody uses is open by what is said, and closed until it is asked for.
        idle = {link.name for link in state.links.values() if link.exit_offered and not link.relays}
        waits = any(not state.exit_is_effective(via) for via in state.named_exits)
        for one, told, plan in zip(expected, on_the_kernel, as_planned):
            if one.source not in idle:
                assert (not told.why) == holds(host, state, one), (seed, name, told)
            if not waits:
                assert (not told.why) == (not plan.why), (seed, name, told, plan)
            seen.add((one.allowed, not told.why))
    assert len(seen) == 4, "each answer is given"
