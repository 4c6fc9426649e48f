# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder by which the unprivileged receiver hands over to root what linked cells say.

The receiver names its files <cell>.<generation>.json, or <cell>.claim.json for what a cell claims of itself and <cell>.networks.json where it announces
networks, and keeps one of each for each cell. It is not trusted: whatever else is there is removed unread, and what root does for it is bounded by the
number of links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from ..base.command import Host
from ..parts.peer_sync import BODY_LIMIT
from ..parts.visible import Delivery, parse_delivery

FOLDER = "/var/lib/pic-cell-serve"
DELIVERY_LIMIT = 2 * BODY_LIMIT  # bytes: a body in base64, and what it came with
_SPARE = 64  # entries beyond those that the receiver needs: three for each link, and another one while a newer push takes its place
_CLAIMS = ("claim", "networks")
_NAME = re.compile(rf"([a-z0-9-]{{1,32}})\.({'|'.join(_CLAIMS)}|[0-9]{{1,19}})\.json")


def path(spool: str, cell: str, generation: int) -> str:
    """Return the file of one push."""
    return f"{spool}/{cell}.{generation}.json"


def claim_path(spool: str, cell: str, networks: bool = False) -> str:
    """Return the file of what a cell claims of itself; the last one counts. networks: whether it announces networks, which is judged apart."""
    return f"{spool}/{cell}.{_CLAIMS[networks]}.json"


@dataclass
class Taken:
    """What was in the folder. names: all entries. too_many: whether these are more than a receiver would leave; then nothing is read."""

    names: list[str]
    too_many: bool
    pushes: list[Delivery] = field(default_factory=list)
    claims: list[Delivery] = field(default_factory=list)


def take(host: Host, spool: str, cells: Collection[str], log: Callable[[str], None]) -> Taken:
    """Read the newest push of each linked cell, and its claims.

    cells: the names of the linked cells. log: is told of what is neither.
    """
    most = 4 * len(cells) + _SPARE
    found = host.list_foreign(spool, most + 1)
    taken = Taken(found, len(found) > most)
    if taken.too_many:
        return taken
    strange = 0
    claims = sorted({f"{cell}.{claim}.json" for cell in cells for claim in _CLAIMS} & set(found))
    for deliveries, names in ((taken.pushes, _newest(found, cells)), (taken.claims, claims)):
        for name in names:
            try:
                deliveries.append(parse_delivery(host.read_foreign(f"{spool}/{name}", DELIVERY_LIMIT) or ""))
            except ValueError:
                strange += 1
    strange += sum(1 for name in found if not _NAME.fullmatch(name) and not name.startswith("."))
    if strange:
        log(f"{strange} entries of {spool} are not pushes of a linked cell; they are removed.")
    return taken


def _newest(found: Iterable[str], cells: Collection[str]) -> list[str]:
    newest: dict[str, tuple[int, str]] = {}
    for name in found:
        match = _NAME.fullmatch(name)
        if match and match[1] in cells and match[2] not in _CLAIMS:
            newest[match[1]] = max(newest.get(match[1], (-1, "")), (int(match[2]), name))
    return sorted(name for _generation, name in newest.values())
