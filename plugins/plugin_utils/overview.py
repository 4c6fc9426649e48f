# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All cells of an inventory together: one row for each end of a link and for each device, and what is not as it should be with the remedy.

The table, the JSON and the page of pic.cells.status show these rows and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT
from ansible_collections.pic.cells.plugins.module_utils.kernel.handshakes import SILENT, is_recent
from ansible_collections.pic.cells.plugins.module_utils.program import status
from ansible_collections.pic.cells.plugins.module_utils.records.codec import as_list

UP, IDLE, QUIET, WAITING = "up", "idle", "silent", "pending"
STATES = (UP, IDLE, QUIET, WAITING)  # the worst is last
UNREAD, WARNING = "unread", "warning"
CELL, PROVIDER = "cell", "provider"

_REMEDIES = {
    status.DRIFT: "The cell puts it back within a minute. At once: ansible-playbook pic.cells.restore -e cell={cell}",
    status.QUIET: "See whether the other end is on and its UDP port is open. On the cell: pic-cell prove",
    status.EXPECTATION: "Put right what lets it through or refuses it, or correct cell_expect, and run: ansible-playbook pic.cells.site",
    status.PENDING: "See what it waits for. To tell again what was not told: ansible-playbook pic.cells.replay -e cell={cell}",
    WARNING: "On the cell: pic-cell check",
    UNREAD: "See whether the host is on and Ansible reaches it: ansible {cell} -m ping",
}


@dataclass(frozen=True)
class Link:
    """A cell's end of a link, or its tunnel to an exit of a provider.

    state: of STATES. handshake: seconds since the last; None: none yet. shares, may_use: services of this cell and of the other.
    offers_exit: this cell to the other. exit_offered: the other to this one. relays: devices of the other cell leave through this one.
    received, sent: bytes. pending: why the other cell does not know the latest, or empty.
    """

    cell: str
    other: str
    kind: str
    state: str
    handshake: int | None
    shares: list[str]
    may_use: list[str]
    offers_exit: bool
    exit_offered: bool
    relays: bool
    received: int
    sent: int
    pending: str


@dataclass(frozen=True)
class Device:
    """A device of a cell.

    state: UP or IDLE. handshake: as of a link. exits: as stated, best first. exit: the one in use, or direct.
    has_internet: that exit is offered, and carries traffic as far as that is known. way: all that is to be said of it, in words.
    """

    cell: str
    device: str
    state: str
    handshake: int | None
    exits: list[str]
    exit: str
    has_internet: bool
    way: str
    received: int
    sent: int


@dataclass(frozen=True)
class Expectation:
    """What is expected of a cell (cell_expect), whether it holds there, and why not, or empty."""

    cell: str
    line: str
    holds: bool
    why: str


@dataclass(frozen=True)
class Finding:
    """What is not as it should be on a cell, or on a host that could not be read: its kind, what it is in words, and what to do."""

    cell: str
    kind: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Overview:
    """cells: names of those that were read. Rows are in the order of the cells' names, and then of links and devices."""

    cells: list[str]
    links: list[Link]
    devices: list[Device]
    expectations: list[Expectation]
    findings: list[Finding]

    def facts(self) -> dict[str, Any]:
        """Return it as plain dictionaries and lists."""
        return asdict(self)


def overview(infos: Iterable[Mapping[str, Any]], unread: Collection[str] = ()) -> Overview:
    """Put cells together. infos: what Cell.info returned of each, in any order. unread: the hosts that gave no answer."""
    ordered = sorted(infos, key=lambda info: str(info["name"]))
    return Overview(
        [info["name"] for info in ordered if info["name"]],
        [_link(info, name) for info in ordered for name in sorted(info["links"])],
        [_device(info, name) for info in ordered for name in sorted(info["peers"])],
        [Expectation(info["name"], one["line"], not one["why"], one["why"]) for info in ordered for one in info.get("expectations", ())],
        [
            *(Finding(host, UNREAD, "the host has given no answer", _REMEDIES[UNREAD].format(cell=host)) for host in sorted(unread)),
            *(finding for info in ordered for finding in _findings(info)),
        ],
    )


def _link(info: Mapping[str, Any], name: str) -> Link:
    link = info["links"][name]
    shares, may_use = (sorted(name for name, allowed in link["permissions"].get(way, {}).items() if allowed) for way in ("inbound", "outbound"))
    return Link(
        info["name"],
        name,
        PROVIDER if link.get("given_addresses") else CELL,
        _state(info, name),
        _age(link, info),
        shares,
        may_use,
        link["exit_offered"],
        link["remote_exit_offered"],
        status.relays(link),
        link["received"],
        link["sent"],
        (link["last_push_error"] or "not told yet") if link["pending_push"] else "",
    )


def _age(peer: Mapping[str, Any], info: Mapping[str, Any]) -> int | None:
    return max(0, info["read_at"] - peer["last_handshake"]) if peer["last_handshake"] else None


def _state(info: Mapping[str, Any], name: str) -> str:
    link, now = info["links"][name], info["read_at"]
    held = {condition for condition, _what in status.of_link(name, link, now)}
    return WAITING if status.PENDING in held else QUIET if status.QUIET in held else _recent(link, now)


def _recent(peer: Mapping[str, Any], now: float) -> str:
    return UP if is_recent(peer["last_handshake"], now, SILENT) else IDLE


def _device(info: Mapping[str, Any], name: str) -> Device:
    peer = info["peers"][name]
    return Device(
        info["name"],
        name,
        _recent(peer, info["read_at"]),
        _age(peer, info),
        as_list(peer["route_via"]) or [DIRECT],
        peer["exit"] or DIRECT,
        status.has_internet(peer, info),
        status.internet(peer, info),
        peer["received"],
        peer["sent"],
    )


def _findings(info: Mapping[str, Any]) -> Iterator[Finding]:
    lines = [*status.holding(info), *((WARNING, line) for line in (*info["advice"], *info.get("warnings", ())))]
    for kind, what in lines:
        yield Finding(info["name"], kind, what, _REMEDIES[kind].format(cell=info["name"]))


# In text: headings and fields of the rows, in the order of the columns. Whoever shows them leaves out what there is no room for.
COLUMNS = {
    "links": {
        "cell": "cell",
        "link": "other",
        "tunnel": "state",
        "last handshake": "handshake",
        "shares": "shares",
        "may use": "may_use",
        "offers exit": "offers_exit",
        "may use exit": "exit_offered",
        "relays": "relays",
        "received": "received",
        "sent": "sent",
        "not told": "pending",
    },
    "devices": {
        "cell": "cell",
        "device": "device",
        "tunnel": "state",
        "last handshake": "handshake",
        "exits": "exits",
        "exit in use": "exit",
        "internet": "has_internet",
        "way": "way",
        "received": "received",
        "sent": "sent",
    },
    "expectations": {"cell": "cell", "expected": "line", "holds": "holds", "why not": "why"},
    "findings": {"cell": "cell", "kind": "kind", "what": "what", "remedy": "remedy"},
}
_NOT_IN_A_TABLE = {"received", "sent", "exits"}


def table(found: Overview) -> list[str]:
    """Return the overview as lines with columns; what is not as it should be comes last."""
    lines = []
    for name, columns in COLUMNS.items():
        shown = {heading: field for heading, field in columns.items() if field not in _NOT_IN_A_TABLE}
        rows = [[words(field, getattr(row, field)) for field in shown.values()] for row in getattr(found, name)]
        lines += _aligned([list(shown), *rows]) if rows else []
    return [*lines, counted(found)]


def words(field: str, value: Any) -> str:
    """Return what is shown of a field."""
    if field == "handshake":
        return "none" if value is None else f"{value} s ago"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "nothing"
    return str(value)


def counted(found: Overview) -> str:
    """Say how much of everything there is."""
    amounts = {"cell": found.cells, "link": {frozenset((link.cell, link.other)) for link in found.links}, "device": found.devices, "finding": found.findings}
    return ", ".join(f"{len(rows)} {name}{'' if len(rows) == 1 else 's'}" for name, rows in amounts.items())


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
