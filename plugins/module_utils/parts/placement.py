# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""At which priorities the policy rules of routed devices stand, and the rules that skip those of other devices. Pure.

Policy rules are a list that the kernel reads from its beginning for each packet, so the packets of a device that goes direct would pay for each device that
is routed. The rules of few devices have the same two priorities. Those of many devices are a tree: blocks of addresses within blocks, each behind a rule

    B    not from <block> goto <the priority after the block>
    B+1  from <device of the block> lookup <table of the exit>
    B+2  from <device of the block> unreachable

A rule like that skips only rules that do not match. So one that is missing, or that leads nowhere, costs time, and opens nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..base.errors import BadInput
from ..base.networks import address_from, address_of
from ..kernel.model import Routing, Skip, foreign_priorities
from ..kernel.routing import PRIORITIES, TREE_PRIORITIES

FEW = 8  # routed addresses that a packet passes as fast in a list (tests/benchmarks/path.py)
_LEAF = 4  # addresses of a block that is not divided any more
_BITS = 2  # of the addresses, by which a block is divided
_BITS_OF = {4: 32, 6: 128}


@dataclass(frozen=True)
class Placement:
    """The priority before the rules of each address, and the rules that skip others."""

    priorities: dict[str, int]
    skips: list[Skip] = field(default_factory=list)


@dataclass
class _Block:
    """Addresses with a common prefix, as numbers; its parts are further blocks, and one without parts holds the devices' rules.

    size: how many priorities it takes.
    """

    first: int
    length: int
    values: list[int]
    parts: list[_Block]
    size: int


def base_priority(family: int, seen: Mapping[int, Routing]) -> int:
    """Return P: the one that our rules of the family have, unless somebody else has come to stand there, or else the lowest free one."""
    foreign = foreign_priorities(seen.values())
    rules = seen[family].rules if family in seen else ()
    current = {rule.priority - rule.priority % 10 for rule in rules if rule.destination is None and not rule.device}
    candidates: list[int] = [*sorted(current), *PRIORITIES]
    for priority in candidates:
        if not foreign.intersection(range(priority, priority + 3)):
            return priority
    raise BadInput(f"No three priorities from {PRIORITIES.start} to {PRIORITIES.stop} are free of other software's policy rules. Free some (ip rule show).")


def place(family: int, addresses: Collection[str], seen: Mapping[int, Routing], tree: bool = True) -> Placement:
    """Return where the rules of addresses stand, by the priorities that others leave free in any family. tree: whether they may be one. Raises BadInput."""
    if tree and len(addresses) > FEW:
        foreign = foreign_priorities(seen.values())
        names: dict[int, list[str]] = {}
        for address in addresses:  # a record may have one in two spellings
            names.setdefault(int(address_of(address)), []).append(address)
        values, bits, leaf = sorted(names), _BITS_OF[family], _LEAF
        while leaf < len(values):
            root = _block(values, bits, leaf)
            start = _gap(root.size + 1, foreign)
            if start is not None:
                return _placed(family, root, start, names)
            leaf *= 2
    return Placement(dict.fromkeys(addresses, base_priority(family, seen)))


def _block(values: list[int], bits: int, leaf: int) -> _Block:
    """Return the smallest block of numbers in order, in parts until each has no more than leaf of them."""
    differing = (values[0] ^ values[-1]).bit_length()
    parts = []
    if len(values) > leaf:
        groups: dict[int, list[int]] = {}
        for value in values:
            groups.setdefault(value >> max(differing - _BITS, 0), []).append(value)
        parts = [_block(group, bits, leaf) for group in groups.values()]
    return _Block(values[0] >> differing << differing, bits - differing, values, parts, 1 + sum(part.size for part in parts) if parts else 3)


def _gap(size: int, foreign: Collection[int]) -> int | None:
    """Return the lowest priority from which on as many are nobody else's; None where there is none."""
    start = TREE_PRIORITIES.start
    for taken in [*sorted(priority for priority in foreign if priority in TREE_PRIORITIES), TREE_PRIORITIES.stop]:
        if taken - start >= size:
            return start
        start = taken + 1
    return None


def _network(family: int, block: _Block) -> str:
    """Return a block as ip shows it: a single address without its length."""
    length = "" if block.length == _BITS_OF[family] else f"/{block.length}"
    return f"{address_from(block.first.to_bytes(_BITS_OF[family] // 8, 'big'))}{length}"


def _placed(family: int, root: _Block, start: int, names: Mapping[int, list[str]]) -> Placement:
    """Number the blocks in order; each is followed by the next one of its parent, or by what follows that, at last by a rule that does nothing."""
    found = Placement({})
    blocks = [(root, start)]
    while blocks:
        block, priority = blocks.pop()
        if block.length:  # a block of all addresses is skipped by none
            found.skips.append(Skip(family, priority, _network(family, block), priority + block.size))
        if not block.parts:
            found.priorities.update({address: priority for value in block.values for address in names[value]})
        at = priority + 1
        for part in block.parts:
            blocks.append((part, at))
            at += part.size
    # An engine from before trees takes a rule with "not" for somebody else's.
    found.skips.append(Skip(family, start + root.size, found.skips[0].network))
    return found
