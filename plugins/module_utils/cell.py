# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a cell in their order: in a run, in a rehearsal of it, and in a repair from the records alone.

A new part has a file of its own in the folder parts, and a place in a step of RUN, and in REPAIRS where a repair has something to do for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from .base.errors import BadInput, StoreError, ToolMissing
from .kernel.plan import Plan
from .parts import identity, limits, links, pairing, routes, rules, sync, upkeep, view
from .parts.inputs import Inputs
from .parts.part import Context, Part, Planned

# By step, in the order of a run: ports and key first, default deny and relay before a tunnel carries a packet, then the exit of a device; how its own
# messages have ended is known when the linked cells have taken their steps.
Steps = Mapping[str, tuple[Part, ...]]
RUN: Steps = {
    "identity": (identity.IDENTITY,),
    "tell": (sync.TELL,),
    "hear": (sync.HEAR,),
    "rules": (rules.RULES, limits.LIMITS),
    "links": (links.LINKS, limits.LIMITS),
    "routes": (routes.ROUTES,),
    "note": (sync.NOTE,),
}
# What makes the way to another cell, or changes it, outside of a run.
WAY = (*RUN["rules"], links.TAKEN, limits.LIMITS)
# What follows where the answer to a message takes an exit away.
WITHDRAWN = (rules.RULES, routes.ROUTES)
CONTRIBUTIONS = tuple(contribution for parts in RUN.values() for part in parts for contribution in part.rules)  # to the firewall
# What a module does that is called without a run: nobody else records what linked cells offer.
ALONE: Steps = {**RUN, "routes": (routes.OFFERS, *RUN["routes"])}
# What the kernel takes while no WireGuard interface is there; with it no routed device goes direct. As far as tables can be read; then
# the exits, which do not need them; only then what is missing for it is an error.
GUARD = (rules.REPAIR, routes.CLOSED, links.UNREACHABLE, rules.CHECK_DENIES)
# A device that has lost its exit waits for no name that nobody knows, and for no interface that does not start.
EXITS = (routes.CLOSED,)
REPAIRS = (
    *GUARD,
    *(pairing.EXPIRY, identity.REPAIR, links.REPAIR, routes.REPAIR, limits.REPAIR),
    *(view.VIEW, pairing.LEFT, upkeep.INVITATIONS, upkeep.SETTINGS, rules.CHECK_ALL, upkeep.CHECK_FLOWS),
)


def plan_step(context: Context, parts: Sequence[Part], inputs: Inputs, stale_view: bool = True, goes_on: bool = False) -> Planned:
    """Plan parts one after the other, each on the host as those before it will leave it, which is simulated. The host is a draft.

    stale_view: whether what the receiver sees may be of before although nothing changes. goes_on: whether the host is looked at again afterwards,
    which would be read for nothing otherwise. Raises BadInput and StoreError, before anything has changed.
    """
    whole, facts = Plan(), {}
    for part in parts:
        plan, found = context.plan(part, inputs, CONTRIBUTIONS)
        if plan or stale_view:
            view.add_view(context, plan)
        if goes_on or part is not parts[-1]:
            context.simulate(plan)
        whole.extend(plan)
        facts.update(found)
    return whole, facts


def rehearse(context: Context, inputs: Inputs, steps: Steps | None = None, until: str | None = None) -> dict[str, Planned]:
    """Take for done what a run does before one step, None for all of it: in check mode nobody has done it. Returns what each step has planned.

    steps: those of RUN, where none are given. The host is a draft. Raises BadInput and StoreError for what the run would refuse.
    """
    rehearsed: dict[str, Planned] = {}
    for step, parts in itertools.takewhile(lambda item: item[0] != until, (RUN if steps is None else steps).items()):
        rehearsed[step] = plan_step(context, parts, inputs, stale_view=not rehearsed, goes_on=True)
    return rehearsed


def due(context: Context, rehearsed: Mapping[str, Planned]) -> list[str]:
    """Return the steps of a rehearsed run that would change something, or warn."""
    # What is odd about the host itself is said by whoever reads it.
    return [step for step, (plan, _facts) in rehearsed.items() if plan or set(plan.warnings) - set(context.observed.warnings)]


def repairs(context: Context, guard: bool = False, exits: bool = False) -> tuple[Part, ...]:
    """Return the parts that bring the whole cell back from its records alone, in an order that leaks nothing.

    guard: only what the kernel takes while the WireGuard interfaces are not there. exits: only the exits of devices, by what is there.
    Raises StoreError where the records do not say what the cell is.
    """
    if not context.stored.cell.name:
        lost = " ".join(context.store.warnings) or f"This host is not a cell: there is no record of it in {context.store.path}."
        raise StoreError(f"{lost} Put it back from a backup, or run pic.cells.site.")
    return GUARD if guard else EXITS if exits else REPAIRS


def plan_repair(context: Context, part: Part, inputs: Inputs | None = None) -> Plan:
    """Plan what one part repairs, when those before it are done. inputs: None for all that is recorded."""
    # Without conntrack the cell is closed and comes back all the same: at boot there are no flows that could go on.
    context.ends_flows = context.host.has("conntrack")
    return context.plan(part, part.repair(context.stored) if inputs is None else inputs, CONTRIBUTIONS)[0]


def drift(context: Context) -> list[str]:
    """Return how the host differs from the records, a line each. The host is a draft."""
    lines = []
    for part in repairs(context):
        try:
            plan = plan_repair(context, part)
        except (BadInput, StoreError, ToolMissing) as error:
            lines.append(f"refused: {error}")
            continue
        lines += plan.differences()
        context.simulate(plan)
    return list(dict.fromkeys(lines))
