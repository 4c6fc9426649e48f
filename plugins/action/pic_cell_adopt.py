# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import known
from ansible_collections.pic.cells.plugins.plugin_utils.adopted import lines, place
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import refused


class ActionModule(Asked):
    """Execute the module of this name, and make an inventory of its answer on the controller."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the cell has answered, and the lines of the inventory."""
        result = super().run(tmp, task_vars)
        if "inventory" not in result or any(result.get(key) for key in ("failed", "unreachable", "skipped")):
            return result
        try:
            inventory = lines(Mesh(*known.of_task(task_vars or {}, self._task)), result)
            text, dest = "".join(f"{line}\n" for line in inventory), self._task.args.get("dest")
            changed = bool(dest) and place(str(dest), text, write=not self._task.check_mode)
        except BadInput as error:
            return refused(result, error)
        return {**result, "changed": changed, "lines": inventory, **({"diff": {"before": "", "after": text, "after_header": dest}} if changed else {})}

    def execution(self, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the module and its arguments; where the inventory is written is no matter of the cell."""
        module, arguments = super().execution(task_vars)
        return module, {key: value for key, value in arguments.items() if key != "dest"}
