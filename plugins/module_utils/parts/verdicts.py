# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unprivileged watcher of exits is let see of a cell, and what it has found. Pure, but for the reading of its file.

Root believes of the watcher no more than which exits of the records do not work: all that it can do is to choose among the
exits that the owner has given a device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..base import times
from ..base.command import Host
from ..base.errors import BadInput
from ..base.names import DOWN
from ..base.networks import FAMILIES, address_of, of_family
from ..base.targets import known
from ..records.model import Cell, Down, Link, State
from .peer_sync import api_port

RUNTIME = "pic-cell-probe"  # the folder of the watcher's unit below /run
VERDICT, CHANGED = "verdict.json", "changed"
FOUND = f"/run/private/{RUNTIME}/{VERDICT}"  # where the folders of dynamic users really are (systemd.exec, DynamicUser=)
_LIMIT = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Limits:
    """How many failures in a row count, and how long an exit has to work until it is used again, in seconds."""

    failures: int = 3
    hold: int = 60
    switches: int = 3  # within SPAN of which the last doubles the hold, and each further one
    hold_limit: int = 600


@dataclass(frozen=True)
class Watched:
    """An exit: where it is asked, by which family it is judged, and which targets on the internet are asked through it."""

    name: str
    interface: str
    addresses: list[str] = field(default_factory=list)
    port: int = 0
    family: int = 4
    targets: list[str] = field(default_factory=list)

    @property
    def judged(self) -> set[int]:
        """Return the families in which it has to work: those of the targets, where there are any."""
        return {target.family for target in map(known, self.targets)} or {self.family}


def limits_of(cell: Cell) -> Limits:
    """Return what a cell's record says of the watching."""
    return Limits(cell.exit_failures, cell.exit_hold, cell.exit_switches, cell.exit_hold_limit)


def watched(state: State) -> list[Watched]:
    """Return the exits that are to be watched."""
    return [watched_link(state.cell, state.links[name]) for name in state.watched_exits]


def watched_link(cell: Cell, link: Link) -> Watched:
    """Return where and how a link's cell is asked."""
    families = [family for family in FAMILIES if cell.has_family(family) and link.has_family(family)]
    addresses = [next(iter(of_family(family, link.address)), None) for family in families]
    carries = (link.exit_relay_active or link.provided) and link.interface != cell.interface
    asked = [text for text in cell.exit_probes if cell.has_family(known(text).family)] if carries else []
    family = families[0] if families else 4
    return Watched(link.name, str(link.interface), [address for address in addresses if address], api_port(cell, link), family, asked)


def render_watched(state: State) -> str:
    """Return what the watcher is let see."""
    return json.dumps({**asdict(limits_of(state.cell)), "exits": [asdict(item) for item in watched(state)]}, indent=1, sort_keys=True) + "\n"


def parse_watched(text: str) -> tuple[Limits, list[Watched]]:
    """Read what the watcher is let see (inverse of render_watched); raise ValueError for what is none."""
    try:
        data = json.loads(text)
        exits = [Watched(**item) for item in data.pop("exits")]
        for item in exits:
            for address in item.addresses:
                address_of(address)
            for target in item.targets:
                known(target)
        return Limits(**data), exits
    except (TypeError, KeyError, AttributeError, RecursionError, BadInput) as error:
        raise ValueError(f"no list of exits: {error}") from None


def render_verdict(down: Mapping[str, Down]) -> str:
    """Return what the watcher has found."""
    return json.dumps({"down": [{"exit": name, **asdict(found)} for name, found in sorted(down.items())]}, indent=1, sort_keys=True) + "\n"


def parse_verdict(text: str) -> dict[str, Down]:
    """Read what the watcher has found (inverse of render_verdict), with any name of an exit; raise ValueError for what is none."""
    try:
        return {str(item["exit"]): _parse_down(item) for item in json.loads(text)["down"]}
    except (TypeError, KeyError, AttributeError, RecursionError, BadInput) as error:
        raise ValueError(f"no verdict on exits: {error}") from None


def _parse_down(item: Mapping[str, Any]) -> Down:
    if item["why"] not in DOWN:
        raise ValueError("no reason")
    for moment in (item["since"], item["answers"] or item["since"]):
        times.check_moment(moment)
    return Down(item["since"], item["why"], item["answers"] or None, item["held"] is True)


def read(host: Host, path: str = FOUND) -> dict[str, Down]:
    """Return which exits were found not to work, with any name; none where nothing that can be read was found."""
    try:
        return parse_verdict(host.read_foreign(path, _LIMIT) or "")
    except ValueError:
        return {}
