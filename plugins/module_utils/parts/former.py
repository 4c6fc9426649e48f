# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses that were this cell's, and by which some linked cell may still know it. They are there for peer-sync by that link alone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..base.errors import BadInput
from ..base.networks import conflicts, is_inside, sorted_networks
from ..records.model import Cell, Link, State


def addresses(state: State) -> list[str]:
    """Return all such addresses, sorted."""
    return sorted_networks(address for link in state.links.values() for address in of_link(state.cell, link))


def of_link(cell: Cell, link: Link) -> list[str]:
    """Return those by which one linked cell may know this one.

    None where the link is about to go, and has no rules any more, or is on the devices' interface, where all devices would have them before them.
    """
    if not link.known_as or not link.ruled or link.interface == cell.interface:
        return []
    own = cell.own_addresses()
    return [address for address in link.known_as if address not in own]


def check(state: State, before: State, leaving: Collection[str] = ()) -> None:
    """Refuse a device, a service or a resolver with such an address, and a link or a device with a network that holds one. Raises BadInput.

    before: the records as they are; what stands there ends no repair. leaving: links that go in this run, and take theirs along.
    """
    known = set(_conflicts(before, ()))
    found = [sentence for sentence in _conflicts(state, leaving) if sentence not in known]
    if found:
        raise BadInput(f"{'; '.join(found)}. Nothing was changed. Give another one, wait until that cell has taken over this cell's networks, or unlink it.")


def _conflicts(state: State, leaving: Collection[str]) -> Iterator[str]:
    knowing = {address: name for name, link in sorted(state.links.items()) if name not in leaving for address in of_link(state.cell, link)}
    if not knowing:
        return
    holders = [(f"peer {peer.name!r}", peer.addresses) for peer in state.peers.values()]
    holders += [(f"service {service.name!r}", service.addresses) for service in state.cell.services.values()]
    for who, held in (*holders, (f"resolver of cell {state.cell.name!r}", state.cell.resolver)):
        for address in held:
            if address in knowing:
                yield f"Address {address} of {who} is the one by which cell {knowing[address]!r} still knows this cell"
    # One within the cell's own networks is nobody else's anyway; a network of the host's own is its owner's to choose.
    taken: dict[str, list[str]] = {}
    for address, name in knowing.items():
        if not is_inside(address, state.cell.own_networks()):
            taken.setdefault(f"this cell as {name!r} still knows it", []).append(address)
    wanted = {f"link {name!r}": link.networks for name, link in sorted(state.links.items())}
    wanted.update({f"peer {name!r}": peer.networks for name, peer in sorted(state.peers.items())})
    for who, networks in wanted.items():
        yield from (f"The {sentence}" for sentence in conflicts({who: networks}, taken))
