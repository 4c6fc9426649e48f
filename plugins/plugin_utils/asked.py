# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How our modules are executed: as any, but what comes back is taken for what a stranger says."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import resource
import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.answers import ELAPSED, judged
from ansible_collections.pic.cells.plugins.plugin_utils.outside import refused

_ROOM = 512 * 1024**2  # bytes that an answer may take here, with all that is made of it
_PATH = re.compile(r"/[\w./+-]+", re.ASCII)


class Asked(ActionBase):
    """Execute the module on the cell, and hand on what is an answer of it: no facts, and nothing else that Ansible acts on."""

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the cell has answered."""
        result = super().run(tmp, task_vars)
        try:
            module, arguments = self.execution(task_vars or {})
        except BadInput as error:
            return refused(result, error)
        if self._connection.transport != "local":  # what the cell starts then would inherit it, wireguard-go too, and it is no other owner's
            _bound_memory()
        began = time.monotonic()
        later = self._task.async_val and not self._connection.has_native_async
        answer = self.answer(module, arguments, task_vars, later)
        if not later:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if self._task.async_val:
            return {**result, **answer}
        return {**result, **judged(module, answer), **self._interpreter(), ELAPSED: int(time.monotonic() - began)}

    def execution(self, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the module that is executed, and its arguments. Raises BadInput."""
        return self._task.action.rpartition(".")[2], self._task.args

    def answer(self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None, later: bool) -> dict[str, Any]:
        """Execute the module, and return what has come back. later: without waiting for its end."""
        found: dict[str, Any] = self._execute_module(f"pic.cells.{module}", arguments, task_vars=task_vars, wrap_async=later)
        return found

    def _interpreter(self) -> dict[str, Any]:
        """Return the one fact that saves time: where Ansible itself has found Python on the cell, if it had to look."""
        key, found = self._discovered_interpreter_key, self._discovered_interpreter
        return {"ansible_facts": {key: found}} if key and isinstance(found, str) and _PATH.fullmatch(found) else {}


def _bound_memory() -> None:
    """Let an answer of gigabytes end this task alone. Ansible reads it whole, in a process of its own for each task."""
    if multiprocessing.parent_process() is None:
        return
    with contextlib.suppress(OSError, ValueError):  # no Linux
        with open("/proc/self/statm", encoding="ascii") as statm:
            wanted = int(statm.read().split()[0]) * resource.getpagesize() + _ROOM
        _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
