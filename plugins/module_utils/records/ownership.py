# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of a cell owns which fields of the records: each field has one part that writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from .model import Link, Peer, State, twin

Record = TypeVar("Record", Link, Peer)


@dataclass(frozen=True)
class Fields:
    """Fields of the records that a part writes.

    cell: whether the cell's own record. links, peers: names of fields; one inside of a dictionary follows a dot.
    makes_links, removes_links, makes_peers, removes_peers: whether a record begins or ends with this part.
    """

    cell: bool = False
    links: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    makes_links: bool = False
    removes_links: bool = False
    makes_peers: bool = False
    removes_peers: bool = False


def replace_part(stored: State, wanted: State, owned: Fields) -> State:
    """Return the stored records with a part's own fields as wanted."""
    result = stored.copy()
    if owned.cell:
        result.cell = wanted.cell.copy()
    result.links = _replaced(result.links, wanted.links, Link, owned.links)
    result.peers = _replaced(result.peers, wanted.peers, Peer, owned.peers)
    if owned.removes_links:
        result.links = {name: link for name, link in result.links.items() if name in wanted.links}
    if owned.removes_peers:
        result.peers = {name: peer for name, peer in result.peers.items() if name in wanted.peers}
    return result


def with_part_as_stored(wanted: State, stored: State, owned: Fields) -> State:
    """Return the wanted records with a part's own fields as stored: what they would be if the part were left alone."""
    result = wanted.copy()
    if owned.cell:
        result.cell = stored.cell.copy()
    result.links = _restored(result.links, stored.links, Link, owned.links, owned.makes_links, owned.removes_links)
    result.peers = _restored(result.peers, stored.peers, Peer, owned.peers, owned.makes_peers, owned.removes_peers)
    return result


def _replaced(stored: dict[str, Record], wanted: Mapping[str, Record], kind: type[Record], owned: tuple[str, ...]) -> dict[str, Record]:
    result = dict(stored)
    for name, record in wanted.items():
        target = result.get(name, kind(name))
        for key in owned:
            _copy_field(record, target, key)
        if name in result or target != kind(name):
            result[name] = target
    return result


def _restored(
    wanted: Mapping[str, Record], stored: Mapping[str, Record], kind: type[Record], owned: tuple[str, ...], makes: bool, removes: bool
) -> dict[str, Record]:
    result = {name: record for name, record in wanted.items() if not makes or name in stored}
    for name, record in result.items():
        for key in owned:
            _copy_field(stored.get(name, kind(name)), record, key)
    if removes:
        result.update({name: twin(record) for name, record in stored.items() if name not in wanted})
    return result


def _copy_field(source: object, target: object, key: str) -> None:
    name, _dot, inner = key.partition(".")
    value = getattr(source, name)
    setattr(target, name, {**getattr(target, name), inner: value[inner]} if inner else value)
