# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: the arguments that describe the cell, the way in, and the report."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import texts
from .alone import missing
from .command import Draft, Host
from .errors import CellError, CommandFailed
from .plan import Plan, apply
from .reconcile import Cell
from .restore import drafted
from .store import STATE_DIR, Store

CELL_OPTIONS: dict[str, Any] = {
    "state_dir": {"type": "path", "default": STATE_DIR},
    "cell": {
        "type": "dict",
        "options": {
            "name": {"type": "str"},
            "networks": {"type": "list", "elements": "str"},
            "endpoint": {"type": "str"},
            "interface": {"type": "str"},
            "listen_port": {"type": "int"},
            "link_port_base": {"type": "int"},
            "services": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "list", "elements": "str"},
                    "port": {"type": "int"},
                    "protocol": {"type": "str", "choices": ["tcp", "udp"]},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "uplink": {"type": "str"},
            "admin_networks": {"type": "list", "elements": "str"},
            "sync_port": {"type": "int"},
        },
    },
}

LINK_OPTIONS: dict[str, Any] = {
    "public_key": {"type": "str", "no_log": False},
    "networks": {"type": "list", "elements": "str"},
    "allow_public_networks": {"type": "bool"},
    "address": {"type": "list", "elements": "str"},
    "interface": {"type": "str"},
    "listen_port": {"type": "int"},
}

TUNNEL_OPTIONS: dict[str, Any] = {
    **LINK_OPTIONS,
    "endpoint": {"type": "str"},
    "keepalive": {"type": "int"},
    "mtu": {"type": "int"},
    "preshared_key": {"type": "str", "no_log": True},
    "api_url": {"type": "str"},
    "sync_auth": {"type": "str", "choices": ["hmac", "address"]},
}

STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
ROUTE: dict[str, Any] = {"peer": {"type": "str", "required": True}, "via_cell": {"type": "str"}}

RUN_OPTIONS: dict[str, Any] = {
    "run": {
        "type": "dict",
        "options": {
            "peers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "public_key": {"type": "str", "no_log": False},
                    "preshared_key": {"type": "str", "no_log": True},
                    "addresses": {"type": "list", "elements": "str"},
                    "networks": {"type": "list", "elements": "str"},
                    "route_via": {"type": "str"},
                    "state": STATE,
                },
            },
            "links": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    **TUNNEL_OPTIONS,
                    "share": {"type": "list", "elements": "str"},
                    "offer_exit": {"type": "bool"},
                    "offered": {"type": "bool"},
                    "state": STATE,
                },
            },
            "routes": {"type": "list", "elements": "dict", "default": [], "options": ROUTE},
            "received": {"type": "list", "elements": "dict", "default": []},
            "answers": {"type": "dict", "default": {}},
        },
    },
}

_INPUT_SHOWN_FOR = ("iptables", "ip6tables", "ip")


@contextlib.contextmanager
def opened(module: AnsibleModule, step: str | None = None, create: bool = True) -> Iterator[Cell]:
    """Lend the cell of this host, locked; an error of the engine ends the module with its sentence.

    step: what the module does in a run; check mode lends the cell as the modules before it leave it. None for one that only reads.
    create: make the folder of the records where there is none.
    """
    with root_host(module) as root:
        predict = module.check_mode or step is None
        host = Draft(root) if predict else root
        store = Store(host, module.params["state_dir"])
        with store.lock(create=create and not predict):
            cell = Cell(host, store, predict)
            if predict and step and module.params.get("run"):
                cell.rehearse(module.params["cell"], module.params["run"], step)
            yield cell


@contextlib.contextmanager
def root_host(module: AnsibleModule) -> Iterator[Host]:
    """Lend this host to root; an error of the engine ends the module with its sentence."""
    if os.geteuid() != 0:
        module.fail_json(msg=f"This needs root on the cell, and runs as user id {os.geteuid()}. Run it with become: true (ansible_become in the inventory).")
    try:
        yield Host()
    except CommandFailed as error:
        shown = error.stdin if error.argv[0].split("-")[0] in _INPUT_SHOWN_FOR else None
        module.fail_json(**texts.shown({"msg": str(error), "cmd": error.argv, "rc": error.rc, "stdin": shown}))
    except (CellError, OSError) as error:
        module.fail_json(msg=texts.printable(str(error)))


def one_item(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an item for the top level, where none has a default: one that stands beside a list of items is seen to be given."""
    return {name: {key: value for key, value in spec.items() if key != "default"} for name, spec in options.items()}


def items(module: AnsibleModule, key: str, options: Collection[str], single: str = "name") -> list[dict[str, Any]]:
    """Return the items of a call: the list under key, or the one item at the top level. options: those of an item, which say nothing beside a list."""
    given = [name for name in options if module.params[name] is not None]
    words = f"{', '.join(given)} {'stand' if len(given) > 1 else 'stands'}"
    if module.params[key] is not None and given:
        module.fail_json(
            msg=f"{words} beside {key}, where nobody can tell which item is meant. Give it in each item of {key}, or give {single} in place of {key}."
        )
    if module.params[key] is None and not module.params[single] and given:
        module.fail_json(msg=f"{words} without {single}, so nobody can tell what is meant. Give {single}, or items in {key}.")
    if module.params[key] is not None:
        return list(module.params[key])
    return [module.params] if module.params[single] else []


def finish(module: AnsibleModule, cell: Cell, plan: Plan) -> None:
    """Carry out a plan, or in check mode take it for done; say what else has to be called where no role does that."""
    cell.add_view(plan)
    if module.check_mode:
        cell.take_for_done(plan)
    else:
        apply(cell.host, plan)
    if module.params["run"] is None:
        plan.warnings += missing(cell if module.check_mode else drafted(cell.host, cell.store.path))


def report(module: AnsibleModule, plan: Plan, **facts: Any) -> None:
    """End the module with what changed, or in check mode would change."""
    for warning in plan.warnings:
        module.warn(texts.printable(warning))
    module.exit_json(**texts.shown({"changed": bool(plan), "diff": plan.diff(), **facts}))
