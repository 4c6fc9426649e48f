# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder by which the unprivileged receiver hands pushes over to root.

The receiver names its files <cell>.<generation>.json and keeps one for each cell. It is not trusted: whatever else is
there is removed unread, and what root does for it is bounded by the number of links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from ..base.command import Host
from ..parts.peer_sync import BODY_LIMIT
from ..parts.visible import Delivery, parse_delivery

FOLDER = "/var/lib/pic-cell-serve"
DELIVERY_LIMIT = 2 * BODY_LIMIT  # bytes: a body in base64, and what it came with
_SPARE = 64  # entries beyond those that the receiver needs: one for each link, and another one while a newer push takes its place
_NAME = re.compile(r"([a-z0-9-]{1,32})\.([0-9]{1,19})\.json")


def path(spool: str, cell: str, generation: int) -> str:
    """Return the file of one push."""
    return f"{spool}/{cell}.{generation}.json"


def take(host: Host, spool: str, cells: Collection[str], log: Callable[[str], None]) -> tuple[list[Delivery], list[str], bool]:
    """Read the newest push of each linked cell. Returns the pushes, all entries of the folder, and whether these are more than a receiver would leave.

    cells: the names of the linked cells. log: is told of what is no push.
    """
    most = 2 * len(cells) + _SPARE
    found = host.list_foreign(spool, most + 1)
    if len(found) > most:
        return [], found, True
    deliveries, strange = [], 0
    newest = _newest(found, cells)
    for name in newest:
        try:
            deliveries.append(parse_delivery(host.read_foreign(f"{spool}/{name}", DELIVERY_LIMIT) or ""))
        except ValueError:
            strange += 1
    strange += sum(1 for name in found if not _NAME.fullmatch(name) and not name.startswith("."))
    if strange:
        log(f"{strange} entries of {spool} are not pushes of a linked cell; they are removed.")
    return deliveries, found, False


def _newest(found: Iterable[str], cells: Collection[str]) -> list[str]:
    newest: dict[str, tuple[int, str]] = {}
    for name in found:
        match = _NAME.fullmatch(name)
        if match and match[1] in cells:
            newest[match[1]] = max(newest.get(match[1], (-1, "")), (int(match[2]), name))
    return sorted(name for _generation, name in newest.values())
