# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import backups, known
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import refused


class ActionModule(Asked):
    """Execute the module of this name, and write its answer to a file on the controller. What is returned holds nothing of it."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return which files the backup has, and where it is."""
        variables, vault = task_vars or {}, backups.vault_of(self._loader)
        try:
            mesh = Mesh(*known.of_task(variables, self._task))
            path = backups.place(variables["hostvars"], mesh, str(mesh.own), self._task.args.get("dest"))
            result: dict[str, Any] = super().run(tmp, task_vars)
            text = base64.b64decode(result.pop("backup", ""))
            if any(result.get(key) for key in ("failed", "unreachable", "skipped")):
                return result
            if not self._task.check_mode:
                backups.write(path, text, vault)
        except BadInput as error:
            return refused({}, error)
        closed = "encrypted with the vault password of this run" if vault.secrets else "not encrypted, as this run has no vault password: keep it to yourself"
        line = f"the backup of {mesh.name(str(mesh.own))} {'would be' if self._task.check_mode else 'is'} {path}, {closed}"
        return {**result, "changed": True, "path": path, "encrypted": bool(vault.secrets), "lines": [line]}

    def execution(self, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the module and its arguments; where the file is written is no matter of the cell."""
        module, arguments = super().execution(task_vars)
        return module, {key: value for key, value in arguments.items() if key != "dest"}
