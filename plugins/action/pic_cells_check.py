# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import check_preshared_key
from ansible_collections.pic.cells.plugins.plugin_utils import known, outside
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import HAS_NETADDR, LINK, ROTATE_KEY
from ansible_collections.pic.cells.plugins.plugin_utils.job import BEGIN, INPUTS, JOBS, JUDGE, ON_THE_CELLS, read_job
from ansible_collections.pic.cells.plugins.plugin_utils.judgement import judge
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh


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
                "job": {"type": "str", "required": True, "choices": list(JOBS)},
                "extra_vars": {"type": "bool", "default": False},
                **{name: {"type": "raw"} for name in INPUTS},
            }
        )
        variables, template = known.of_task(task_vars or {}, self._task)
        try:
            if given["job"] == BEGIN:
                # It holds preshared keys.
                stated = known.stated(variables, self._task, variables["ansible_play_batch"])
                return {**result, "changed": False, "stated": stated, "_ansible_no_log": True}
            if given["job"] == JUDGE:
                mesh = Mesh(variables, template)
                mesh.job = mesh.checked
                return {**result, "changed": False, **judge(mesh)}
            mesh = Mesh(variables, template, preshared_key=lambda: outside.secret(self._loader))
            found = check_inventory(mesh) if given["job"] not in ON_THE_CELLS else []
            job, warnings = read_job(mesh, {**given, **(self._asked(given["job"]) if given["extra_vars"] else {})})
        except BadInput as error:
            return outside.refused(result, error)
        cells = mesh.cells() if self._task._role is not None else {}
        return {**result, "changed": False, "job": job, "cells": cells, "warnings": [*found, *warnings]}

    def _asked(self, job: str) -> dict[str, Any]:
        """Return what the run was asked for. A task's arguments would be filled in as templates, so they are not the way for it."""
        stated = self._stated()
        if "preshared_key" in stated:
            raise BadInput("Give preshared_key as an extra var (-e @file), not as a variable of import_playbook: the role reads extra vars only.")
        asked = outside.asked(self._loader, stated, (*INPUTS, outside.SECRET))
        secret = asked.pop(outside.SECRET, None)
        if secret is not None and job in (LINK, ROTATE_KEY):
            check_preshared_key(outside.SECRET, secret if isinstance(secret, str) else "")
        return asked

    def _stated(self) -> dict[str, Any]:
        """Return the variables that import_playbook gives to the play."""
        block = self._task
        while block is not None and getattr(block, "_play", None) is None:
            block = getattr(block, "_parent", None)
        return dict(block._play.vars) if block is not None else {}
