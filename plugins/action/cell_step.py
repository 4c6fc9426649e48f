# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import arguments, engine, known
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import link_secret
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh

# Made here, where Ansible loads this, so that the processes which it starts for each task and host have it already.
ENGINE = engine.packed()


class ActionModule(Asked):
    """Put together what a step's module is given for a host, and have the module of this name do there what that one does."""

    def execution(self, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the module of the step, and its arguments. They hold secrets, and so are none of the task."""
        _validated, given = self.validate_argument_spec(
            argument_spec={"step": {"type": "str", "required": True, "choices": list(arguments.STEPS)}, "host": {"type": "str", "required": True}}
        )
        mesh = Mesh(known.without_facts(task_vars), self._templar.template, preshared_key=lambda: link_secret(self._loader))
        mesh.job = mesh.checked
        if given["host"] not in mesh.hosts:
            raise BadInput(f"Host {given['host']!r} is not in the group {mesh.group!r}, in which cells find each other. Add it to that group.")
        return arguments.of_step(mesh, given["step"], given["host"], predict=self._task.check_mode)

    def answer(self, _module: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None, later: bool) -> dict[str, Any]:
        """Execute the step, and return what has come back."""
        return super().answer("cell_step", {**self._task.args, "arguments": arguments, "engine": ENGINE}, task_vars, later)
