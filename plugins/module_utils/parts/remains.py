# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records still have of something that has got another name, or whose place something else takes: the refusal has a remedy of its own.

What nobody names stays. So a device or cell that is renamed meets itself, under the name of before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base.errors import BadInput
from ..base.networks import Overlaps, interface_of
from ..base.wgkeys import GENERATED
from ..records.model import State


def check_devices(stored: State, wanted: State) -> None:
    """Refuse a device that has an address or the key of one that only the record knows. Raises BadInput naming both and the remedy."""
    changed, kept = _parted(stored.peers, wanted.peers)
    holders = {address: peer for peer in kept for address in peer.addresses}
    for new in changed:
        for address in new.addresses:
            if address in holders:
                raise _refusal("peer", new, holders[address], f"Address {address} of", "already belongs to", "address")
    _check_keys("peer", changed, kept)


def check_links(stored: State, wanted: State) -> None:
    """Refuse a link that has the key or a network of one that only the record knows. Raises BadInput naming both and the remedy."""
    changed, kept = _parted(stored.links, wanted.links)
    taken = Overlaps()
    for old in kept:
        for two in old.networks:
            taken.add(interface_of(two).network, old)
    _check_keys("link", changed, kept)
    for new in changed:
        for one in new.networks:
            for two, old in taken.of(interface_of(one).network):
                raise _refusal("link", new, old, f"The network {one} of", f"overlaps {two} of", "network")


def _check_keys(kind: str, changed: Iterable[Any], kept: Iterable[Any]) -> None:
    holders = {old.public_key: old for old in kept if old.public_key not in (None, GENERATED)}
    for new in changed:
        if new.public_key in holders:
            raise _refusal(kind, new, holders[new.public_key], "public_key of", f"{new.public_key!r} already belongs to", "key")


def _refusal(kind: str, new: Any, old: Any, what: str, meets: str, other: str) -> BadInput:
    colon = ":" if other == "key" else ""
    return BadInput(
        f"{what} {kind} {new.name!r}{colon} {meets} {kind} {old.name!r}, which this cell still has. If {old.name!r} is gone, or is called {new.name!r} now, "
        f"add this item too: {{name: {old.name}, state: absent}}. Otherwise give {new.name!r} another {other}."
    )


def _parted(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return what is new or changed, and what is as the record has it."""
    kept = {name for name, item in wanted.items() if stored.get(name) == item}
    return [item for name, item in wanted.items() if name not in kept], [item for name, item in wanted.items() if name in kept]
