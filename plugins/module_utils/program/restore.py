# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole cell brought back from its records alone: at boot, on a timer, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .. import cell
from ..base.command import Draft, Host
from ..base.errors import CellError
from ..kernel.plan import Plan, apply
from ..parts import links
from ..parts.inputs import Inputs
from ..parts.part import Context, Part
from ..records.store import Store


@dataclass
class Restored:
    """What was put back, and what could not be, a line each; the plans that were carried out, as one; and the cell as it is afterwards."""

    repairs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    context: Context | None = None


def restore(
    host: Host, path: str, guard: bool = False, log: Callable[[str], None] = lambda _line: None, predict: bool = False, exits: bool = False
) -> Restored:
    """Put back what is missing, and nothing else; a cell that is as it should be is only read.

    Where what closes the exits cannot be made, nothing is done that lets devices in; where one link cannot be, the others are.
    path: the folder with the records. guard, exits: as for cell.repairs. log: is told each repair once it is done.
    predict: do nothing, and say what would be done. Raises StoreError.
    """
    with Store(host, path).lock(create=False):
        return restore_locked(host, path, guard, log, predict, exits)


def restore_locked(
    host: Host,
    path: str,
    guard: bool = False,
    log: Callable[[str], None] = lambda _line: None,
    predict: bool = False,
    exits: bool = False,
    now: float | None = None,
) -> Restored:
    """Do as restore does under the caller's lock. now: seconds since the epoch."""
    done = Restored()

    def carry_out(context: Context, part: Part, inputs: Inputs | None = None) -> Context:
        """Plan one repair and carry it out. Returns the cell as it is then: the same context, or after an error one that is read anew."""
        try:
            plan = cell.plan_repair(context, part, inputs)
            if not predict:
                apply(host, plan)
        except CellError as error:
            if str(error) not in done.errors:
                done.errors.append(str(error))
            return drafted(host, path)
        done.plan.extend(plan)
        for line in plan.summed_up():
            done.repairs.append(line)
            log(line)
        context.simulate(plan)
        return context

    context = drafted(host, path, now)
    done.errors += context.store.warnings
    open_to_devices = True
    for part in cell.repairs(context, guard, exits):
        if part not in cell.GUARD and not open_to_devices:
            break
        after = carry_out(context, part)
        if after is not context and part in cell.GUARD:
            open_to_devices = False
        if after is not context and part is links.REPAIR:
            for name in sorted(after.stored.links):
                after = carry_out(after, part, Inputs(links=[{"name": name}]))
        context = after
    done.context = context
    return done


def drafted(host: Host, path: str, now: float | None = None) -> Context:
    """Read a cell without changing it: its plans are drafted, and make no key. path: the folder with the records. now: seconds since the epoch."""
    draft = Draft(host)
    return Context(draft, Store(draft, path), predict=True, now=now)
