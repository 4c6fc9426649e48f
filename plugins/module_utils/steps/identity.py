# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module wg_cell does: the step of the role that makes the cell."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..cell import RUN
from ..module import carry_out, opened, report
from ..options import CELL, DEVICE, NAME, PORT, STATE, several
from ..parts.inputs import Inputs

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {**CELL, "peers": several(DEVICE, default=[]), "links": several({**NAME, **PORT, **STATE}, default=[])},
    "supports_check_mode": True,
}


def run(module: AnsibleModule) -> None:
    with opened(module, "identity") as context:
        plan, facts = carry_out(module, context, RUN["identity"], Inputs(module.params["cell"], module.params["peers"], module.params["links"]))
        after = context.on(context.host)
        if not module.check_mode and any(link.moved or link.known_as for link in after.stored.links.values()):
            from ..program.exchange import announce  # noqa: PLC0415  # read in few executions only

            plan.warnings += announce(context.host, after.store.path)
        report(module, plan, facts)
