# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import statement
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import HAS_NETADDR, Mesh


class ActionModule(ActionBase):
    """Check on the controller, without any connection, what the inventory states and what a day-2 playbook is asked for."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the job, or fail with one sentence for everything that is wrong."""
        result = super().run(tmp, task_vars)
        if not HAS_NETADDR:
            return {**result, "failed": True, "msg": "The Python library 'netaddr' is not installed on the controller. Install it: pip install netaddr."}
        _validated, given = self.validate_argument_spec(
            argument_spec={
                "job": {"type": "str", "required": True, "choices": list(statement.JOBS)},
                **{name: {"type": "raw"} for name in statement.INPUTS},
            }
        )
        mesh = Mesh(task_vars or {}, self._templar.template)
        try:
            found = statement.check_inventory(mesh) if given["job"] not in statement.ON_THE_CELLS else []
            job, warnings = statement.read_job(mesh, given)
        except BadInput as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, "job": job, "warnings": [*found, *warnings]}
