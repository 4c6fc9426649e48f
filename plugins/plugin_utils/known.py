# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller knows of hosts without asking them: inventory, plays, extra vars and registers. No fact, of this run or from a cache.

Facts are what a host says of itself, and beat the inventory. Ansible has no other way to leave them out than its own variable manager without their store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from ansible.errors import AnsibleError
from ansible.template import Templar
from ansible.vars.hostvars import HostVars

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import schema

# Ansible sets these last of all, so that nothing else can.
_MAGIC = ("groups", "inventory_hostname", "ansible_play_batch", "ansible_play_hosts_all")


class _NoFacts(dict[str, Any]):
    """A store of facts that has none of any host."""

    def get(self, *_args: Any) -> Any:
        return {}


def without_facts(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Mesh is given: of a task's variables the hosts, and as stores of their own all hosts' variables, registers and extra vars."""
    hostvars = variables["hostvars"]
    manager = hostvars._variable_manager
    twin = object.__new__(type(manager))
    vars(twin).update(vars(manager), _fact_cache=_NoFacts())
    return {
        **{key: variables[key] for key in _MAGIC if key in variables},
        "hostvars": HostVars(inventory=hostvars._inventory, variable_manager=twin, loader=hostvars._loader),
        "registers": manager._nonpersistent_fact_cache,
        "extra": manager.extra_vars,
    }


def of_task(variables: Mapping[str, Any], task: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return what Mesh is given where the task is known: with the variables of play, role and task for its own host; and what fills them in."""
    found = without_facts(variables)
    own, template = _of_host(found["hostvars"], task, variables["inventory_hostname"])
    if task._role is None:
        found["registers"] = {}  # a play before this one, in the same call, has left what it knew
    return {**own, **found}, template


def _of_host(hostvars: Any, task: Any, name: str) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    own = hostvars._variable_manager.get_vars(play=task.get_play(), host=hostvars._inventory.get_host(name), task=task)
    return own, cast(Callable[[Any], Any], Templar(loader=hostvars._loader, variables=own).template)


def stated(variables: Mapping[str, Any], task: Any, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what is stated of cells, by host, filled in, with what play, role and task say. Raises BadInput where it depends on facts."""
    hostvars = without_facts(variables)["hostvars"]
    return {host: _filled_in(host, *_of_host(hostvars, task, host)) for host in hosts}


def _filled_in(host: str, variables: Mapping[str, Any], template: Callable[[Any], Any]) -> dict[str, Any]:
    found = {}
    for key in sorted(key for key in variables if key.startswith(schema.PREFIX)):
        try:
            found[key] = template(variables[key])
        except AnsibleError as error:
            raise BadInput(
                f"{key} of host {host!r} cannot be templated ({error}). The variables of a cell cannot use host facts, "
                "because facts are what a host says about itself. Set a plain value in the inventory."
            ) from None
    return found
