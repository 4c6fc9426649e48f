# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that one address, port and protocol reach, as virtual hosts that are told apart by name: whoever may reach one of them reaches all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ..records.model import Cell, State


def along(cell: Cell, shared: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield which shared services open others that are not shared, and which these are."""
    doors = {name: {(address, service.port, service.protocol) for address in service.addresses} for name, service in sorted(cell.services.items())}
    for name in sorted(set(shared) & set(doors)):
        others = [other for other, places in doors.items() if other not in shared and places & doors[name]]
        if others:
            yield name, others


def opened_along(state: State) -> Iterable[str]:
    """Say which services are opened along with others that are shared."""
    for link in state.links.values():
        for name, others in along(state.cell, link.shares):
            yield (
                f"Sharing {name} with {link.name} opens {', '.join(others)} too, because they have the same address, port and protocol. "
                "Share them as well, or give them an address or port of their own."
            )
