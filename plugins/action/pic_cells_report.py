# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import known
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import LARGEST, plain, refused, shown_lines
from ansible_collections.pic.cells.plugins.plugin_utils.overview import UNREAD, overview, table
from ansible_collections.pic.cells.plugins.plugin_utils.page import page
from ansible_collections.pic.cells.plugins.plugin_utils.page_file import target, write


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
            mesh = Mesh(*known.of_task(variables, self._task))
            read = {host: self._read(variables, mesh, host, given["register"]) for host in variables["ansible_play_hosts"]}
            unread = {*variables["ansible_play_hosts_all"]} - {host for host, info in read.items() if info != UNREAD}
            found = overview([info for info in read.values() if info and info != UNREAD], unread)
            result.update(
                changed=False, overview=plain(found.facts(), "The overview", LARGEST * len(read)), table=plain(shown_lines(table(found)), "The table")
            )
            if given["report"]:
                path = target(given["report"])
                if not self._task.check_mode:
                    write(path, page(found, f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"))
                result.update(changed=True, report=str(path))
        except BadInput as error:
            return refused(result, error)
        return result

    def _read(self, variables: dict[str, Any], mesh: Mesh, host: str, register: str) -> Any:
        """Return what a host has said of itself; None where it was not asked, UNREAD where that is no answer: one host spoils no report of the others."""
        said = variables["hostvars"][host].get(register) or {}
        if said.get("skipped"):
            return None
        try:
            info = plain(said, f"What host {host!r} says of itself")
            overview([info])
        except (AttributeError, BadInput, KeyError, TypeError, ValueError):
            return UNREAD
        return info if info["name"] in ("", mesh.name(host)) else UNREAD
