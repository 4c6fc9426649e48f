# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole cell brought back from its records alone: at boot, on a timer, by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .command import Draft, Host
from .errors import CellError
from .plan import Plan, apply
from .reconcile import Cell
from .store import Store

_CHAIN = re.compile(r"\w+: IPv[46] \w+: PIC-\S+")
_FEW = 3


@dataclass
class Restored:
    """What was put back, and what could not be, a line each; the plans that were carried out, as one; and the cell as it is afterwards."""

    repairs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    cell: Cell | None = None


def restore(host: Host, path: str, guard: bool = False, log: Callable[[str], None] = lambda _line: None, predict: bool = False) -> Restored:
    """Put back what is missing, and nothing else; a cell that is as it should be is only read.

    Where the closed ways cannot be made, nothing is done that lets devices in; where one link cannot be, the others are.
    path: the folder with the records. guard: as for Cell.repairs. log: is told each repair once it is done. predict: do nothing, and say what would be done.
    Raises StoreError.
    """
    done = Restored()

    def carry_out(cell: Cell, make: Callable[[Cell], Plan]) -> Cell:
        """Make one plan and carry it out. Returns the cell as it is then: the same one, or after an error one that is read anew."""
        try:
            plan = make(cell)
            if not predict:
                apply(host, plan)
        except CellError as error:
            if str(error) not in done.errors:
                done.errors.append(str(error))
            return drafted(host, path)
        done.plan.extend(plan)
        for line in summed_up(plan.differences()):
            done.repairs.append(line)
            log(line)
        cell.take_for_done(plan)
        return cell

    with Store(host, path).lock(create=False):
        cell = drafted(host, path)
        done.errors += cell.store.warnings
        closed = cell.repairs(guard=True)
        open_to_devices = True
        for part in cell.repairs(guard):
            if part not in closed and not open_to_devices:
                break
            after = carry_out(cell, _part(part))
            if after is not cell and part in closed:
                open_to_devices = False
            if after is not cell and part == "links":
                for name in sorted(after.stored.links):
                    after = carry_out(after, _link(name))
            cell = after
        done.cell = cell
    return done


def drafted(host: Host, path: str) -> Cell:
    """Read a cell without changing it: its plans are drafted, and make no key. path: the folder with the records."""
    draft = Draft(host)
    return Cell(draft, Store(draft, path), predict=True)


def summed_up(lines: Iterable[str]) -> list[str]:
    """Return lines with one for each chain of which many rules differ: after a reboot that is all of them."""
    chains: dict[str, list[str]] = {}
    for line in lines:
        match = _CHAIN.match(line)
        chains.setdefault(match[0] if match else line, []).append(line)
    return [line for chain, of_chain in chains.items() for line in ([f"{chain} ({len(of_chain)} rules)"] if len(of_chain) > _FEW else of_chain)]


def _part(name: str) -> Callable[[Cell], Plan]:
    return lambda cell: cell.repairs()[name]()


def _link(name: str) -> Callable[[Cell], Plan]:
    return lambda cell: cell.repair_links(name)
