# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the exits that devices are about to get carry traffic: asked before a run changes anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .base.names import DIRECT
from .parts.inputs import Args
from .parts.part import Context
from .parts.verdicts import Watched

if TYPE_CHECKING:
    from .program.prove import Exit


@dataclass
class Way:
    """The exits that a device is about to get, best first. may_go_direct: whether it goes direct while none of them works."""

    peer: str
    exits: list[Exit]
    may_go_direct: bool


@dataclass
class Ways:
    """The ways that a run is about to make, and how their exits are to be asked."""

    ways: list[Way] = field(default_factory=list)
    items: list[Watched] = field(default_factory=list)

    def ask(self, refuse: bool) -> tuple[list[str], list[str]]:
        """Ask the exits, which takes seconds where one is silent. Returns what forbids the run, and warnings.

        refuse: whether a device without a single exit that works forbids it. An exit that nobody can judge counts as one that works.
        """
        from .program.prove import question  # noqa: PLC0415

        question([found for way in self.ways for found in way.exits], self.items)
        refusals: list[str] = []
        warnings: list[str] = []
        for way in self.ways:
            reasons = [line for found in way.exits if found.fails for line in found.wrong]
            if refuse and not way.may_go_direct and all(found.fails for found in way.exits):
                refusals.append(
                    f"Peer {way.peer!r} would have no internet: {'; '.join(reasons)}. Mend that, name another exit, or give -e force=true to route the peer "
                    "all the same; it then has no internet until one of its exits works."
                )
            else:
                warnings += [f"Peer {way.peer!r} gets an exit that carries no traffic now: {line}." for line in reasons]
        return refusals, warnings


def look(context: Context, routes: Iterable[Args]) -> Ways:
    """Look at the ways that are new to their devices, as the cell is before the run.

    routes: peer and via_cell. What keeps a cell from being an exit by records and interface is for the run itself to refuse, or to put right.
    """
    new = [route for route in routes if _cells(route) and _is_new(context, route)]
    if not new:  # as in most runs: what asks is not even read then
        return Ways()
    from .program.prove import look_at  # noqa: PLC0415

    exits, items = look_at(context, dict.fromkeys(name for route in new for name in _cells(route)))
    return Ways([Way(route["peer"], [exits[name] for name in _cells(route)], DIRECT in route["via_cell"]) for route in new], items)


def _cells(route: Args) -> list[str]:
    """Return the cells of a route, best first; none where the device goes direct, or nothing is said."""
    return [name for name in route["via_cell"] or () if name != DIRECT]


def _is_new(context: Context, route: Args) -> bool:
    """Tell whether a device does not have these exits already."""
    peer = context.stored.peers.get(route["peer"])
    return peer is None or list(peer.route_via) != list(route["via_cell"])
