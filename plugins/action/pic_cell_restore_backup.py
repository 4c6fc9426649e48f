# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.pic.cells.plugins.plugin_utils import backups
from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked

_OLDER = "next: take away anew what was taken away since the backup and is not in the inventory: a share, an offer, a device"
_FILES_ONLY = "only the files of the backup are predicted: what pic.cells.site would change after them follows from records that are not there yet"
_SITE = "next: run pic.cells.site --check to see what it would change"


class ActionModule(Asked):
    """Execute the module of this name with the contents of the file on the controller."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the cell has answered, and the lines for a person."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        name, verb = self._task.args.get("name"), "would be written" if self._task.check_mode else "written"
        lines = [f"{verb} on {name}: {file}" for file in result.get("files") or ()]
        predicted = (_FILES_ONLY if lines else _SITE) if self._task.check_mode else None
        lines += [_OLDER] if lines else [f"{name} has all of it already"]
        lines += [predicted] if predicted else []
        return result if any(result.get(key) for key in ("failed", "unreachable", "skipped")) else {**result, "lines": lines}

    def execution(self, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the module and its arguments. They hold secrets, and so are none of the task. Raises BadInput."""
        module, arguments = super().execution(task_vars)
        found = backups.read(str(arguments.get("backup") or ""), backups.vault_of(self._loader))
        return module, {**arguments, "backup": base64.b64encode(found).decode()}
