# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A link that gets no answer is dialled anew where its record says.

Its name may lead elsewhere now, which WireGuard looks up only once. Or the other cell has announced another port, and sent something from the old one since,
which WireGuard follows.

A handshake may be two minutes old on a link that works, so its age shows too late that one does not. What a link is given and receives shows it at once:
WireGuard answers whatever it receives within 10 s, if only by a keepalive. A link that has been announced elsewhere is asked all the time instead: behind NAT
this cell alone can find the other one there, and only when it has gone there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Optional

from ..base.command import Host
from ..base.names import check_interface
from ..base.networks import Address, address_of, host_of, interface_of, is_inside, is_of_a_host
from ..kernel import wireguard
from ..kernel.model import Interface
from ..kernel.plan import Plan, apply
from ..parts import units
from ..parts.part import Context
from ..parts.tunnels import peer_key
from ..parts.verdicts import watched_link
from ..records.model import Link, State
from ..records.store import Store
from .probe import ask
from .restore import drafted

SAMPLE = 5.0  # seconds from one count of bytes to the next: WireGuard's REKEY_TIMEOUT
STRIKES, AGAIN = 3, 6  # counts in a row that make a link silent; counts until its name is looked up again
PERIOD = 0.5  # seconds from one question to the next, and for an answer: TCP is quiet for as long again as the tunnel was, so each counts twice
FOLLOWED, GIVEN_UP = 240, 30  # questions in an hour until a link is left alone; how many more without an answer than with one: nobody is there
HOUR = 3600.0
NOTES = "/run/pic-cell-redial"  # how often links were asked, a file for each interface

Tunnel = tuple[str, str]  # interface and peer's key


class Silence:
    """Notices which links have something to send, and receive nothing."""

    def __init__(self) -> None:
        self._before: Mapping[Tunnel, tuple[int, int]] = {}
        self._strikes: dict[Tunnel, int] = {}

    def heard(self, transfers: Mapping[Tunnel, tuple[int, int]]) -> list[str]:
        """Return the interfaces with links that are to be dialled anew. transfers: what has come and was to go, as wireguard.read_transfers says."""
        strikes = {}
        for tunnel, (received, sent) in transfers.items():
            before = self._before.get(tunnel)
            strikes[tunnel] = self._strikes.get(tunnel, 0) + 1 if before and received == before[0] and sent > before[1] else 0
        self._before, self._strikes = transfers, strikes
        return sorted({tunnel[0] for tunnel, count in strikes.items() if count >= STRIKES and (count - STRIKES) % AGAIN == 0})


def begin(host: Host, interface: str) -> None:
    """Have the links on an interface dialled anew by a unit of its own: names, and a link that is about to move, may take their time."""
    host.run(["systemctl", "start", "--no-block", units.REDIAL.replace("@", f"@{interface}")])


def follow(host: Host, path: str, interface: str) -> Iterator[str]:
    """Do as redial does, but dial a link that has been announced elsewhere only when it does not answer: by turns there and where it was, until it is there.

    Yields a line for each change. path: the folder with the records. Raises BadInput, StoreError and CommandFailed.
    """
    check_interface(interface)
    store, before, there, silent, asked = Store(host, path), dict[str, str](), set[tuple[str, str]](), 0, _asked(host, interface)

    def left(state: State) -> dict[str, Link]:
        links = {name: link for name, link in dialled(state) if link.interface == interface and link.announced and link.address}
        return {name: link for name, link in links.items() if (name, str(link.endpoint)) not in there and asked.get(name, (0.0, 0))[1] < FOLLOWED}

    # A link that was asked too often is dialled where it is announced, and nobody is asked.
    yield from redial(host, path, interface, left(store.load()))
    while silent < GIVEN_UP:
        began, state = time.monotonic(), store.load()
        links = left(state)
        if not links:
            break
        asked.update({name: (asked[name][0], asked[name][1] + 1) if name in asked else (time.time(), 1) for name in links})
        host.write(f"{NOTES}/{interface}.json", json.dumps(asked))
        answers = ask([replace(watched_link(state.cell, link), targets=[]) for link in links.values()], PERIOD)
        peers, places = wireguard.read_interfaces(host).get(interface, Interface(interface)).peers, dict[str, Optional[str]]()
        for name, answer in answers.items():
            link = links[name]
            new, now = wireguard.resolve(host, str(link.endpoint)), peers[peer_key(link)].endpoint if peer_key(link) in peers else None
            if now and now != new:
                before.setdefault(name, now)
            if answer is None:
                places[name] = before.get(name, new) if now == new else new
            elif now == new:
                there.add((name, str(link.endpoint)))
            elif now:
                before[name] = now
        if answers:  # or this host could not ask
            silent = silent + 1 if places else max(0, silent - 1)
        yield from _dial(host, path, interface, {name: (links[name].endpoint, place) for name, place in places.items()}, before)
        time.sleep(max(0.0, began + PERIOD - time.monotonic()))
    back = {name: link.endpoint for name, link in dialled(store.load()) if name in before and (name, str(link.endpoint)) not in there}
    yield from _dial(host, path, interface, {name: (endpoint, before[name]) for name, endpoint in back.items()}, before)


def _asked(host: Host, interface: str) -> dict[str, tuple[float, int]]:
    """Read since when and how often links were asked in the last hour, by link; another announcement refills nothing."""
    try:
        noted = {name: (float(since), int(count)) for name, (since, count) in json.loads(host.read(f"{NOTES}/{interface}.json") or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
    return {name: (since, count) for name, (since, count) in noted.items() if 0 <= time.time() - since < HOUR}


def redial(host: Host, path: str, interface: str, but: Collection[str] = ()) -> list[str]:
    """Dial the links on an interface where their names lead now, and return a line for each change.

    path: the folder with the records. but: names of links that are left out. Raises BadInput, StoreError and CommandFailed.
    """
    check_interface(interface)
    links = {name: link for name, link in dialled(Store(host, path).load()) if link.interface == interface and name not in but}
    # Before the lock, since a resolver can take seconds, in which nobody could repair anything.
    return _dial(host, path, interface, {name: (link.endpoint, wireguard.resolve(host, str(link.endpoint))) for name, link in links.items()})


def _dial(
    host: Host, path: str, interface: str, places: Mapping[str, tuple[str | None, str | None]], before: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Dial links at some places. places: the endpoint that the record of each had, and where that is dialled now, None where it leads nowhere.

    before: where each was dialled before its other cell said where it is now.
    """
    if not any(place for _endpoint, place in places.values()):
        return []
    lines, plan = [], Plan()
    with Store(host, path).lock(create=False):
        context = drafted(host, path)
        observed = context.observed.wireguard.get(interface, Interface(interface))
        for name, (endpoint, place) in sorted(places.items()):
            link = context.stored.links.get(name)
            peer = observed.peers.get(peer_key(link)) if link and link.interface == interface and link.endpoint == endpoint else None
            if link and peer and place and place != peer.endpoint and (not link.announced or may_lead(context, link, place, before.get(name))):
                plan.extend(wireguard.plan_endpoint(interface, peer.public_key, place))
                lines.append(f"{interface}: {link.kind} {name} is dialled at {place}; its endpoint is {endpoint}")
        apply(host, plan)
    return lines


def may_lead(context: Context, link: Link, place: str, before: str | None = None) -> bool:
    """Tell whether the other cell of a link may have it dialled at a place: never at this host or in a network of cells, and near it only where it was before.

    place: an address and a port. before: where the link was dialled, if not where the kernel or the record has it.
    """
    state, seen, address = context.stored, context.observed, _address(place)
    networks = [*state.networks, *(network for one in state.links.values() for network in one.accept_networks)]
    if not is_of_a_host(address) or str(address) in seen.addresses() or is_inside(str(address), networks):
        return False
    peer = seen.wireguard.get(str(link.interface), Interface("")).peers.get(peer_key(link))
    named = link.endpoint is None or wireguard.is_named(link.endpoint)
    were = [_address(one) for one in (before, peer and peer.endpoint, None if named else link.endpoint) if one]
    around = {interface_of(text).network for texts in seen.host_networks(state.cell.interface).values() for text in texts}
    near = [network for network in around if address in network]
    return all(any(one in network for one in were) and (network.version == 6 or address != network.broadcast_address) for network in near)


def _address(place: str) -> Address:
    return address_of(host_of(place))


def dialled(state: State) -> list[tuple[str, Link]]:
    """Return the links that may be dialled elsewhere than their records say: by a name, or at an address that the other cell has announced."""
    return [(name, link) for name, link in state.links.items() if link.endpoint and (wireguard.is_named(link.endpoint) or link.announced)]
