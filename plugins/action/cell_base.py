# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleAction

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked


class ActionModule(Asked):
    """Execute a module that is not ours. What comes back is as much a stranger's as with one of ours."""

    _supports_async = False

    def execution(self, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the module that is asked for, and its arguments. Raises BadInput where its collection is not there."""
        _validated, given = self.validate_argument_spec(
            argument_spec={
                "module": {"type": "str", "required": True, "choices": ["ansible.builtin.package", "ansible.posix.sysctl"]},
                "arguments": {"type": "dict", "required": True},
            }
        )
        module, arguments = given["module"], given["arguments"]
        if not self._shared_loader_obj.module_loader.has_plugin(module):
            collection = module.rpartition(".")[0]
            raise BadInput(f"The collection {collection!r} is not installed on the controller. Install it: ansible-galaxy collection install {collection}.")
        return module, arguments

    def answer(self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None, _later: bool) -> dict[str, Any]:
        """Do as Ansible does with a task of that module: by its action plugin, where it has one."""
        task, plugins = self._task.copy(), self._shared_loader_obj.action_loader
        task.action, task.args = module, arguments
        action = plugins.get(
            module if plugins.has_plugin(module) else "ansible.legacy.normal",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        try:
            return dict(action.run(task_vars=task_vars))
        except AnsibleAction as error:  # it can hold what the cell has answered
            return {"failed": True, "msg": str(error)}
