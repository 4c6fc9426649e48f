# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a cell does what its owner expects of it, by what packets meet there. Judged is the cell itself: what another one lets through is for that one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..base.expectations import INTERNET, LAN, Expectation, Server, parse
from ..base.names import DIRECT
from ..base.networks import HOME, address_of, host_networks, network_of, of_family
from ..kernel.lookups import SOMEWHERE
from ..kernel.packets import Packet
from ..records.model import Link, State
from .ground import Ground, Trace

_ANY = 9  # a port that no rule of ours is about
_SOME = ("tcp", 443)  # what is asked of the internet, and of a LAN


@dataclass(frozen=True)
class Judged:
    """An expectation, and why it does not hold; an empty text where it does."""

    line: str
    why: str = ""


class _Unfit(Exception):
    """What is expected cannot be judged; the text says why."""


def judge(ground: Ground) -> list[Judged]:
    """Judge all that is expected of a cell."""
    return [Judged(line, _judge(ground, parse(line))) for line in ground.state.cell.expect]


def refusals(ground: Ground) -> list[str]:
    """Return a sentence for each expectation that a run would leave broken."""
    return [
        f"cell_expect: '{judged.line}' would not hold after this run: {judged.why}. Change what the run states, or correct this line, or take it out."
        for judged in judge(ground)
        if judged.why
    ]


def _judge(ground: Ground, expected: Expectation) -> str:
    """Return why an expectation does not hold; an empty text where it does, and where a run waits for what a linked cell has yet to say."""
    try:
        if any(link.pending or link.invited for link in _links(ground.state, expected)):
            return ""
        traces = [ground.follow(packet) for packet in _packets(ground, expected)]
    except _Unfit as error:
        return str(error)
    arriving = [trace for trace in traces if _arrives(ground.state, expected, trace)]
    if not expected.allowed:
        return _passed(arriving[0]) if arriving else ""
    astray = next((trace for trace in arriving if expected.via not in (None, trace.exit)), None)
    if astray:
        return f"{astray.packet.source} leaves by {_in_words(astray.exit)} instead ({astray.why})"
    missing = [trace for trace in traces if trace not in arriving]
    if expected.to == LAN and arriving:  # one of its networks is enough, as none may be where it is refused
        missing = []
    if expected.to == INTERNET and any(trace.packet.family == 4 for trace in arriving):  # without IPv6 alone nothing works less, as an exit may be
        missing = [trace for trace in missing if trace.packet.family == 4]
    if missing:
        packet = missing[0].packet
        elsewhere = f" there, but is sent through {packet.leaves_by or 'no interface, as it is for this host'}" if missing[0].passes else ""
        return f"{packet.source} does not reach {packet.to}{elsewhere}: {missing[0].why}"
    return _untold(ground, expected) if traces else f"{expected.source} has no address from which {expected.to} could be reached"


def _passed(trace: Trace) -> str:
    packet = trace.packet
    return f"{packet.source} reaches {packet.to}{f' through {packet.leaves_by}' if packet.leaves_by else ''}: {trace.why}"


def _in_words(way: str | None) -> str:
    return "this cell's own uplink" if way == DIRECT else str(way)


def _untold(ground: Ground, expected: Expectation) -> str:
    """Say that a linked cell has not said that it shares a service; empty where it has, or what it says does not count."""
    name, cell = expected.service or ("", "")
    link = ground.state.links.get(cell)
    if not ground.heard or link is None or link.permissions["outbound"].get(name):
        return ""
    return f"cell {cell} has not said that it shares {name} with this cell"


def _links(state: State, expected: Expectation) -> list[Link]:
    """Return the links that an expectation hangs on."""
    _name, cell = expected.service or ("", expected.to)
    exits = state.peers[expected.source].exits if expected.source in state.peers and expected.to == INTERNET else ()
    return [state.links[name] for name in (expected.source, cell, *exits) if name in state.links]


def _packets(ground: Ground, expected: Expectation) -> Iterator[Packet]:
    """Yield a packet for each source and destination that rules can tell apart."""
    targets = list(_targets(ground, expected))
    for came_by, source in _sources(ground.state, expected.source):
        for server in targets:
            packet = Packet(source, server.address, server.port, server.protocol, came_by)
            if packet.family == _family(server.address) and packet.family in ground.rules:
                yield packet


def _sources(state: State, name: str) -> Iterator[tuple[str, str]]:
    """Yield by which interface the packets of a device or a cell come, and from which addresses."""
    peer, link = state.peers.get(name), state.links.get(name)
    if peer and link:
        raise _Unfit(f"a device and a linked cell have the name {name!r}, so nobody can tell whose packets are meant")
    if peer:
        yield from ((state.cell.interface, address) for address in peer.addresses)
        return
    if link is None or link.provided:
        devices, links = (", ".join(sorted(found)) or "none" for found in (state.peers, [one.name for one in state.links.values() if not one.provided]))
        raise _Unfit(f"cell {state.cell.name!r} has no device and no linked cell {name!r}. Its devices: {devices}. Its linked cells: {links}")
    apart = [network_of(text) for text in (*host_networks(link.address), *state.cell.admin_networks)]  # of all in a link, rules know these
    edges = [edge for network in apart for edge in (network.network_address, network.broadcast_address + 1)]
    for network in map(network_of, link.networks):
        found = {network.network_address + (network.num_addresses > 2), *(edge for edge in edges if edge in network)}
        yield from ((str(link.interface), str(address)) for address in sorted(found, key=int))


def _targets(ground: Ground, expected: Expectation) -> Iterable[Server]:
    """Return where the packets of an expectation go to."""
    state = ground.state
    if expected.server:
        return [expected.server]
    if expected.to == INTERNET:
        peer = state.peers.get(expected.source)
        excepted = [str(network_of(network).network_address) for network in peer.route_except] if peer and not expected.allowed else []
        return [Server(*_SOME, address) for address in (*SOMEWHERE.values(), *excepted)]
    if expected.to == LAN:
        return [Server(*_SOME, address) for address in _of_lan(ground, unknown=not expected.allowed)]
    name, cell = expected.service or ("", expected.to)
    if name and cell == state.cell.name:
        service = state.cell.services.get(name)
        if service is None:
            raise _Unfit(f"cell {cell!r} has no service {name!r}. Its services: {', '.join(sorted(state.cell.services)) or 'none'}")
        return [Server(service.protocol, service.port, address) for address in service.addresses]
    link = state.links.get(cell)
    if link is None or link.provided:
        raise _Unfit(f"{expected.to!r} is not {INTERNET}, {LAN}, a linked cell, or a service of one or of this cell, like files@{state.cell.name}")
    without = [network for network in link.networks if not of_family(_family(network), link.address)]
    return [Server("tcp", _ANY, address) for address in (*link.address, *(_within(network) for network in without))]


def _of_lan(ground: Ground, unknown: bool) -> Iterator[str]:
    """Yield an address of each network that the host is in. unknown: and one of the private networks that nobody here knows."""
    state = ground.state
    for family in ground.rules:
        yield from (_within(network, ground.here) for network in ground.connected[family])
        known = [network_of(network) for network in (*ground.connected[family], *of_family(family, state.networks))]
        for home in HOME[family] if unknown else ():
            edges = (home.network_address + 1, *(other.broadcast_address + 1 for other in known if other.overlaps(home)))
            free = (edge for edge in edges if edge in home and not edge.is_link_local and not any(edge in other for other in known))
            yield from (str(edge) for edge in list(free)[:1])


def _within(text: str, taken: Iterable[str] = ()) -> str:
    """Return an address in a network that nobody has taken, or its last one."""
    network, others = network_of(text), {address_of(address) for address in taken}
    first = int(network.num_addresses > 2)
    found = (network[number] for number in range(first, min(network.num_addresses, first + len(others) + 1)))
    return str(next((address for address in found if address not in others), network[-1]))


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _arrives(state: State, expected: Expectation, trace: Trace) -> bool:
    """Tell whether a packet gets to where it is meant to go, as far as this cell can tell."""
    _name, cell = expected.service or ("", expected.to)
    if not trace.passes or expected.to == INTERNET:
        return trace.passes and trace.exit is not None
    return trace.exit == DIRECT if expected.to == LAN else cell not in state.links or trace.packet.leaves_by == state.links[cell].interface
