# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pic_cell_apply does: the step of the role that changes most."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..agent import APPLIED
from ..module import run_inputs, run_steps
from ..options import CELL, RUN
from ..parts.inputs import Inputs

ARGUMENTS: dict[str, Any] = {"argument_spec": {**CELL, **RUN}, "supports_check_mode": True}


def run(module: AnsibleModule) -> None:
    run_steps(module, APPLIED, run_inputs(module.params) or Inputs(module.params["cell"]))
