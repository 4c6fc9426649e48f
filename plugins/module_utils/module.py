# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: the way in, the items of a call, and the report."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .alone import missing
from .base import texts
from .base.command import Draft, Host
from .base.errors import CellError, CommandFailed
from .cell import ALONE, RUN, Steps, plan_step, rehearse
from .confirm import confirm
from .kernel.plan import Plan, apply
from .parts.inputs import Inputs
from .parts.part import Context, Part, Planned
from .program.restore import drafted
from .records.store import Store

# Whose input is shown where they fail: no secret is in it. What ip executes in a namespace can be given one.
_RULES, _ROUTES = ("iptables", "ip6tables"), "-batch"


@contextlib.contextmanager
def opened(module: AnsibleModule, step: str | None = None, create: bool = True) -> Iterator[Context]:
    """Lend the cell of this host, locked; an error of the engine ends the module with its sentence.

    step: what the module does in a run; check mode lends the cell as the modules before it leave it. None for one that only reads.
    create: make the folder of the records where there is none.
    """
    with root_host(module) as root:
        predict = module.check_mode or step is None
        host = Draft(root) if predict else root
        store = Store(host, module.params["state_dir"])
        with store.lock(create=create and not predict):
            context = Context(host, store, predict)
            run = run_inputs(module.params)
            if predict and step and run is not None:
                rehearse(context, run, until=step)
            yield context


def run_inputs(params: Mapping[str, Any]) -> Inputs | None:
    """Return what the whole run is going to say of the cell; None where the module is called without a run of the role."""
    run = params.get("run")
    if not run:
        return None
    # What a run is going to use as an exit waits fail-closed until it is offered.
    offers = [{"name": link["name"], "offered": link["offered"], "state": link["state"], "expected": True} for link in run["links"]]
    return Inputs(
        cell=params["cell"],
        devices=run["peers"],
        links=run["links"],
        rights=run["links"],
        offers=offers,
        exits=run["exits"],
        routes=run["routes"],
        received=run["received"],
        answers=run["answers"],
    )


def run_step(module: AnsibleModule, step: str, inputs: Inputs, steps: Steps = RUN) -> None:
    """Plan a step of a run, carry the plan out (in check mode take it for done), and end the module with its report."""
    with opened(module, step) as context:
        report(module, *carry_out(module, context, steps[step], inputs))


def run_alone(module: AnsibleModule, step: str, inputs: Inputs) -> None:
    """Do as run_step does, and outside of a run say what else has to be called for a cell that is filtered, closed and restored."""
    alone = module.params["run"] is None
    with opened(module, step) as context:
        plan, facts = carry_out(module, context, (ALONE if alone else RUN)[step], inputs)
        if alone:
            plan.warnings += missing(context if module.check_mode else drafted(context.host, context.store.path))
        report(module, plan, facts)


def run_steps(module: AnsibleModule, steps: Steps, inputs: Inputs) -> None:
    """Plan steps one after the other before anything has changed, carry them out, and end the module with a report of each."""
    with opened(module, next(iter(steps))) as context:
        planned = rehearse(context if module.check_mode else context.on(Draft(context.host)), inputs, steps)
        whole = Plan()
        for plan, _facts in planned.values():
            whole.extend(plan)
        if not module.check_mode:
            apply(context.host, whole)
            confirm(context, whole)
            if whole:
                _announce(context, whole)
        diff = [{**plan.diff(), "before_header": step, "after_header": step} for step, (plan, _facts) in planned.items() if plan]
        parts = {step: {"changed": bool(plan), **facts} for step, (plan, facts) in planned.items()}
        report(module, whole, {"diff": diff, "steps": parts})


def _announce(context: Context, plan: Plan) -> None:
    """Tell linked cells of other owners which networks this cell has, by the tunnels that have its new addresses. How it ends is nobody's change."""
    if any(link.known_as for link in context.store.load().links.values()):
        from .parts.claims import PLACED  # noqa: PLC0415  # read in few executions only
        from .program.exchange import announce  # noqa: PLC0415  # likewise

        plan.warnings += announce(context.host, context.store.path, [PLACED])


def carry_out(module: AnsibleModule, context: Context, parts: Sequence[Part], inputs: Inputs) -> Planned:
    """Plan parts of the cell, carry the whole plan out, and see whether the kernel follows; in check mode take it for done. Returns plan and facts."""
    if module.check_mode:
        return plan_step(context, parts, inputs, goes_on=True)
    plan, facts = plan_step(context.on(Draft(context.host)), parts, inputs)
    apply(context.host, plan)
    confirm(context, plan)
    return plan, facts


@contextlib.contextmanager
def root_host(module: AnsibleModule) -> Iterator[Host]:
    """Lend this host to root; an error of the engine ends the module with its sentence."""
    if os.geteuid() != 0:
        module.fail_json(msg=f"This needs root on the cell, but runs as user id {os.geteuid()}. Run it with become: true (ansible_become in the inventory).")
    try:
        yield Host()
    except CommandFailed as error:
        shown = error.stdin if error.argv[0].split("-")[0] in _RULES or _ROUTES in error.argv else None
        module.fail_json(**texts.shown({"msg": str(error), "cmd": error.argv, "rc": error.rc, "stdin": shown}))
    except (CellError, OSError) as error:
        module.fail_json(msg=texts.printable(str(error)))


def items(module: AnsibleModule, key: str, options: Collection[str], single: str = "name") -> list[dict[str, Any]]:
    """Return the items of a call: the list under key, or the one item at the top level. options: those of an item, which say nothing beside a list."""
    given = [name for name in options if module.params[name] is not None]
    words = ", ".join(given)
    if module.params[key] is not None and given:
        module.fail_json(
            msg=f"{words} cannot stand beside {key}: it is not clear which item is meant. Give it in each item of {key}, or give {single} instead of {key}."
        )
    if module.params[key] is None and not module.params[single] and given:
        module.fail_json(msg=f"{words} needs {single}: it is not clear what is meant. Give {single}, or items in {key}.")
    if module.params[key] is not None:
        return list(module.params[key])
    return [module.params] if module.params[single] else []


def report(module: AnsibleModule, plan: Plan, facts: Mapping[str, Any]) -> None:
    """End the module with what changed, or in check mode would change."""
    for warning in plan.warnings:
        module.warn(texts.printable(warning))
    module.exit_json(**texts.shown({"changed": bool(plan), "diff": plan.diff(), **facts}))
