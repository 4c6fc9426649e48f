# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pic_cell_info does: the preflight of the role."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .. import ways
from ..agent import WHOLE_RUN
from ..base.texts import printable, shown
from ..compiled import PROGRAM
from ..info import info
from ..module import opened, run_inputs
from ..options import CELL, RUN

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {**CELL, **RUN, "prove": {"type": "str", "choices": ["refuse", "warn"]}},
    "supports_check_mode": True,
}


def run(module: AnsibleModule) -> None:
    with opened(module) as context:
        whole = run_inputs(module.params)
        asks = module.params["prove"] and context.host.exists(PROGRAM)
        new_ways = ways.look(context, whole.routes) if whole and asks else ways.Ways()
        facts = info(context, whole, WHOLE_RUN)
    warnings = list(facts["advice"])
    if new_ways.ways and not facts["refusals"]:  # what is refused anyway waits for no exit, and no other run waits with it
        refusals, found = new_ways.ask(refuse=module.params["prove"] == "refuse")
        facts["refusals"] += refusals
        warnings += found
    for sentence in warnings:
        module.warn(printable(sentence))
    module.exit_json(**shown({"changed": False, **facts}))
