# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records still have of something that has got another name, or whose place something else takes: the refusal has a remedy of its own.

What nobody names stays. So a device or cell that is renamed meets itself, under the name of before.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ..base.errors import BadInput
from ..base.networks import interface_of
from ..base.wgkeys import GENERATED
from ..records.model import State


def check_devices(stored: State, wanted: State) -> None:
    """Refuse a device that has an address or the key of one that only the record knows. Raises BadInput naming both and the remedy."""
    for new, old in _met(stored.peers, wanted.peers):
        for address in new.addresses:
            if address in old.addresses:
                raise _refusal("peer", new, old, f"Address {address} of", "already belongs to", "address")
        _check_key("peer", new, old)


def check_links(stored: State, wanted: State) -> None:
    """Refuse a link that has the key or a network of one that only the record knows. Raises BadInput naming both and the remedy."""
    for new, old in _met(stored.links, wanted.links):
        _check_key("link", new, old)
        for one, two in itertools.product(new.networks, old.networks):
            if _overlap(one, two):
                raise _refusal("link", new, old, f"The network {one} of", f"overlaps {two} of", "network")


def _check_key(kind: str, new: Any, old: Any) -> None:
    if new.public_key not in (None, GENERATED) and new.public_key == old.public_key:
        raise _refusal(kind, new, old, "public_key of", f"{new.public_key!r} already belongs to", "key")


def _refusal(kind: str, new: Any, old: Any, what: str, meets: str, other: str) -> BadInput:
    colon = ":" if other == "key" else ""
    return BadInput(
        f"{what} {kind} {new.name!r}{colon} {meets} {kind} {old.name!r}, which this cell still has. If {old.name!r} is gone, or is called {new.name!r} now, "
        f"add this item too: {{name: {old.name}, state: absent}}. Otherwise give {new.name!r} another {other}."
    )


def _met(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield pairs of which one is new or changed and the other is as the record has it."""
    kept: Collection[str] = [name for name, item in wanted.items() if stored.get(name) == item]
    return itertools.product((item for name, item in wanted.items() if name not in kept), [wanted[name] for name in kept])


def _overlap(one: str, two: str) -> bool:
    first, second = interface_of(one).network, interface_of(two).network
    return first.version == second.version and first.overlaps(second)
