# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has to say of the devices that a plan moves, once it is carried out: reads, but asks nothing yet."""

from __future__ import annotations

from collections.abc import Mapping

from ..base.networks import FORWARDING, address_of, network_of, of_family
from ..kernel.answers import Meant
from ..kernel.lookups import SOMEWHERE
from ..kernel.routing import forwards, setting
from ..records.model import Peer
from . import exits, hostfacts
from .exits import Move
from .part import Context


def meant_ways(context: Context, moves: Mapping[int, Move]) -> list[Meant]:
    """Return how the addresses that moves are about are meant to leave, as far as the kernel can tell of them."""
    state = context.wanted
    moved = {family: move.moved for family, move in moves.items() if move.moved and _tells(context, family)}
    ways = [_way(context, peer, address, moved[family]) for family in moved for peer in state.peers.values() for address in of_family(family, peer.addresses)]
    return [way for way in ways if way]


def _tells(context: Context, family: int) -> bool:
    """Tell whether the kernel looks up a way as for a packet to the internet: it forwards, and the address that is asked for is in no network of a cell."""
    state, inward = context.wanted, context.wanted.cell.interface
    settings = [FORWARDING[family], *([forwards(inward)] if family == 4 else [])]
    return (
        "UP" in context.observed.links.get(inward, {}).get("flags", ())
        and not any(setting(context.host, name) == "0" for name in settings)
        and not any(address_of(SOMEWHERE[family]) in network_of(network) for network in state.networks)
    )


def _way(context: Context, peer: Peer, address: str, moved: Mapping[str, bool]) -> Meant | None:
    """Return how an address is meant to leave; None where it does not move, or goes direct and there is no internet."""
    state, seen, family = context.wanted, context.observed, 6 if ":" in address else 4
    if address not in moved:
        return None
    via = state.way_of(peer, SOMEWHERE[family])
    link = state.links.get(via or "")
    if via is None:
        # Which of its own ways the host takes is for itself to say.
        devices = frozenset(seen.links) - {state.cell.interface, *(str(other.interface) for other in state.links.values())}
        words = "out directly"
        if hostfacts.uplink(seen, state.cell, family) is None:
            return None
    else:
        routes = exits.default_routes(state.cell, link) if link and state.exit_is_effective(via) else []
        devices = frozenset(str(route.device) for route in routes if route.family == family)
        words = f"out through {', '.join(devices)} (cell {via})" if devices else f"to cell {via}, which cannot be its exit for IPv{family} now"
    return Meant(peer.name, address, state.cell.interface, devices, words, moved[address])
