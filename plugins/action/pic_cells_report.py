# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown, shown_lines
from ansible_collections.pic.cells.plugins.plugin_utils.overview import overview, table
from ansible_collections.pic.cells.plugins.plugin_utils.page import page, target, write


class ActionModule(ActionBase):
    """Put together on the controller, without any connection, what the hosts of a play have registered of themselves."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the overview, and write the page."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, given = self.validate_argument_spec(argument_spec={"register": {"type": "str", "required": True}, "report": {"type": "str"}})
        variables = task_vars or {}
        try:
            read = {host: self._registered(variables, host, given["register"]) for host in variables["ansible_play_hosts"]}
            found = overview([info for info in read.values() if info], set(variables["ansible_play_hosts_all"]) - set(read))
            result.update(changed=False, overview=plain(found.facts(), "The overview"), table=plain(shown_lines(table(found)), "The table"))
            if given["report"]:
                path = target(given["report"])
                if not self._task.check_mode:
                    write(path, page(found, f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"))
                result.update(changed=True, report=str(path))
        except BadInput as error:
            return {**result, "failed": True, "msg": shown(error, 4000)}
        return result

    def _registered(self, variables: dict[str, Any], host: str, register: str) -> Any:
        """Return what a host has said of itself, None where it was not asked."""
        said = variables["hostvars"][host].get(register) or {}
        return None if said.get("skipped") or "links" not in said else plain(said, f"What host {host!r} says of itself")
