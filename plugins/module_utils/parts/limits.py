# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rates of offered exits: how much each linked cell that has one can send and receive through its tunnel.

Owns no record; the rate is part of the offer, which the part of the rules owns. Adds to the host two token buckets for each such link. They end
with the link's interface, so this comes after the rules, for an interface that is there, and again after the links, for one that was made.
"""

from __future__ import annotations

from dataclasses import replace

from ..base.errors import BadInput
from ..kernel import tc
from ..kernel.observed import Observed
from ..kernel.plan import Plan
from ..records.model import State
from .part import Context, Part, Planned


def plan_limits(context: Context) -> Planned:
    """Plan the rates of all links, and the end of what has none any more. A host that has neither is not asked for anything."""
    links, wanted = context.observed.links, _wanted(context.wanted)
    limited = [name for name in wanted if name in links]
    names = [name for name in sorted({*wanted, *tc.touched(links)}) if name in links or name not in wanted]  # others are still to come
    if not names:
        return Plan(), {}
    queues, changes, without = context.observed.queues, tc.Changes(), _without_device(limited, context.observed)
    for name in names:
        tc.change(changes, name, wanted.get(name), links, queues, name not in without)
    plan = tc.plan_changes(changes)
    if plan:  # afterwards it is advice
        plan.warnings += _one_way(without)
    return plan, {}


def advise(state: State, seen: Observed) -> list[str]:
    """Say which rates hold for one direction only."""
    return _one_way(_without_device([name for name in _wanted(state) if name in seen.links], seen))


def check(context: Context) -> None:
    """Refuse a rate for a link on the devices' interface, whose devices it would slow down too. Raises BadInput."""
    cell = context.wanted.cell
    for link in context.wanted.links.values():
        if link.rate and link.interface == cell.interface:
            raise BadInput(
                f"The offer of an exit to cell {link.name!r} has the rate {link.rate}, but its link is on interface {cell.interface!r}, where the rate would "
                "hold for the devices too. Leave the link's interface out, so that it gets its own, or offer the exit without a rate."
            )


def _wanted(state: State) -> dict[str, str]:
    """Return the rate of each interface that has one."""
    found = {str(link.interface): link.rate for link in state.links.values() if link.rate and link.interface != state.cell.interface}
    return {name: rate for name, rate in sorted(found.items()) if rate}


def _without_device(limited: list[str], seen: Observed) -> list[str]:
    """Return the interfaces that have no device for what they receive, and can have none. The kernel is asked only while one is missing."""
    missing = [name for name in limited if not tc.has_device(name, seen.links)]
    return missing if missing and not tc.has_ifb(seen.host) else []


def _one_way(without: list[str]) -> list[str]:
    said = (
        f"This host's kernel has no devices of the type ifb, so the rate of an offer holds only for what {', '.join(without)} sends, and not for what it "
        "receives. Install the kernel's module 'ifb', and run again."
    )
    return [said] if without else []


def _plan_unless_lost(context: Context) -> Planned:
    # Where the records of the links cannot be read the kernel alone still knows of their rates.
    return (Plan(), {}) if context.stored.links_lost else plan_limits(context)


LIMITS = Part("limits", plan_limits, check=check)
REPAIR = replace(LIMITS, plan=_plan_unless_lost, check=lambda _context: None)
