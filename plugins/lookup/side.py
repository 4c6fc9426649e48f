# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: side
short_description: What the role gives its modules for one cell
description:
  - Puts together what the inventory states of a cell and its links with what this run has read from other cells, for the role C(pic.cells.cell).
  - Tolerates the absence of any host (C(--limit), C(serial), slices of AWX, unreachable cells); what is not visible is left out, and the modules
    then keep what the cell's record says.
version_added: 0.1.0
author:
  - pic.cells contributors (@pic-cells)
options:
  _terms:
    description:
      - The host whose cell is meant, or V(job) for the day-2 change, V(state_dir) for the folder of this host's records, V(own) for this host where the run
        is about it, V(sides) for the hosts that this host works on, V(others) for linked hosts outside this batch of the play,
        a step of the role (V(identity), V(keys), V(tell), V(hand), V(apply), V(push)) for those of them that have something to do in it,
        V(role files) for the files of the role that this run includes,
        V(missing) for [host, packages, whether lists are to be fetched] of what is to be installed, V(advertised) for [host, device] of uplinks known by router
        advertisements, V(unforwarded) for [host, kernel setting] of forwarding that is off, V(refusals) for what forbids the run of
        this host, V(invited) for
        [host, cell, port] of cells of other owners that get an invitation, V(summary) for what this run has changed, what is pending, and what to do next,
        V(left out) for a sentence where parts of the role were not taken, V(ending) for that or else the summary.
    required: true
  job:
    description: The day-2 change as M(pic.cells.pic_cells_check) returned it; empty for the whole site. Left out, that of the playbook that runs.
    type: dict
"""

EXAMPLES = r"""
- name: Show what the role would give its modules for oslo
  ansible.builtin.debug:
    msg: "{{ (lookup('pic.cells.side', 'oslo')).run }}"
"""

RETURN = r"""
_raw:
  description: The arguments of all modules as a dictionary, or for those words a list of hosts or sentences.
  type: list
  elements: raw
"""

import functools
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import arguments
from ansible_collections.pic.cells.plugins.plugin_utils.endpoints import port_of
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import link_secret
from ansible_collections.pic.cells.plugins.plugin_utils.known import without_facts
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import STEPS, Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.summary import invitations, left_out, summary


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return one answer for each term."""
        self.set_options(var_options=variables, direct=kwargs)
        variables = variables or {}
        mesh = Mesh(
            without_facts(variables),
            self._templar.template,
            self.get_option("job"),
            lambda: link_secret(self._loader),
        )
        if self.get_option("job") is None:
            mesh.job = mesh.checked
        own = variables["inventory_hostname"]

        def found(key: str) -> list[list[str]]:
            return [[host, name] for host in mesh.sides(own) for name in mesh.read(host).get(key, ())]

        words: dict[str, Callable[[], Any]] = {
            "job": lambda: mesh.job,
            "state_dir": lambda: mesh.state_dir(own),
            "interface": lambda: mesh.var(own, "cell_interface") or "",
            "own": lambda: mesh.concerned(own),
            "sides": lambda: mesh.sides(own),
            "others": lambda: mesh.others(own),
            "role files": mesh.role_files,
            "missing": lambda: mesh.installing(own),
            "advertised": lambda: found("advertised"),
            "unforwarded": lambda: found("unforwarded"),
            "invited": lambda: [[own, name, port_of(mesh, own, name)] for name in mesh.invited()],
            "refusals": mesh.refusals,
            "invitations": lambda: invitations(mesh, own),
            "left out": lambda: left_out(mesh, own),
            "ending": lambda: left_out(mesh, own) or summary(mesh, own, bool(variables.get("ansible_check_mode"))),
            "summary": lambda: summary(mesh, own, bool(variables.get("ansible_check_mode"))),
        }
        words.update({step: functools.partial(mesh.taking, own, step) for step in STEPS})
        try:
            return [words[term]() if term in words else arguments.side(mesh, term) for term in terms]
        except BadInput as error:
            raise AnsibleError(str(error)) from None
