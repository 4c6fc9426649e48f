# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pic_peer_sync does: the steps of the role in which cells are told, and hear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .. import options
from ..cell import RUN, WITHDRAWN
from ..kernel.plan import Plan
from ..module import carry_out, opened, report
from ..options import LINK, NAME, OFFERED, RIGHTS, ROUTES, STATE, several
from ..parts.inputs import Inputs
from ..parts.part import Context, Part
from ..parts.peer_sync import CONFLICT, OK, check_answer
from ..program.exchange import push

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **options.CELL,
        **options.RUN,
        "cells": several({**NAME, **LINK, **RIGHTS, **OFFERED, **STATE}, default=[]),
        "routes": ROUTES,
        "received": {"type": "list", "elements": "dict"},
        "answers": {"type": "dict"},
        "transport": {"type": "str", "choices": ["tunnel", "delegate", "auto"]},
    },
    "mutually_exclusive": [("received", "answers"), ("received", "transport")],
    "supports_check_mode": True,
}


def run(module: AnsibleModule) -> None:
    given = module.params
    step = "hear" if given["received"] is not None else "note" if given["answers"] is not None else None if given["transport"] else "tell"
    with opened(module, step or "push") as context:
        inputs = Inputs(
            cell=given["cell"],
            links=given["cells"],
            rights=given["cells"],
            offers=given["cells"],
            routes=given["routes"],
            received=given["received"] or (),
            answers=_news(context, given["answers"] or {}),
        )
        plan, facts = carry_out(module, context, _parts(step, inputs, given["run"] is not None), inputs) if step else (Plan(), {})
        answers = _send(module, context.on(context.host), plan) if given["transport"] else facts.get("answers", {})
        report(module, plan, {"payloads": facts.get("payloads", {}), "answers": answers})


def _parts(step: str, inputs: Inputs, run: bool) -> tuple[Part, ...]:
    """Return what a step is made of. run: whether the role has the other parts of the cell in its hands too."""
    refused = any((check_answer(answer) or {}).get("status") == CONFLICT for answer in inputs.answers.values())
    return (*RUN[step], *WITHDRAWN) if run and refused else RUN[step]


def _news(context: Context, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers that say more than that a cell is still not told: the tunnel says that in other words, so each run would write what it finds."""
    links, statuses = context.stored.links, {name: (check_answer(answer) or {}).get("status") for name, answer in answers.items()}
    known = {name for name, link in links.items() if link.pending_push and link.last_push_error and statuses.get(name) not in (OK, CONFLICT)}
    return {name: answer for name, answer in answers.items() if name not in known}


def _send(module: AnsibleModule, context: Context, plan: Plan) -> dict[str, Any]:
    """Tell the cells that are not told yet, and return their answers; how that ends is nobody's change, so check mode has nothing to predict."""
    sends = not module.check_mode and module.params["transport"] != "delegate"
    answers = push(context.host, context) if sends else {}
    late = {name: "not reached" if answer is None else answer["reason"] for name, answer in answers.items() if answer is None or answer["status"] != OK}
    plan.warnings += [
        f"Cell {name!r} has not been told the latest state yet ({why}). The cell tries again by itself; pic.cells.replay does it now."
        for name, why in late.items()
    ]
    return {name: answer or {} for name, answer in answers.items()}
