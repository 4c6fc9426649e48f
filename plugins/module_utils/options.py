# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the modules, each in one place; plugin_utils/documented.py documents them in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import store

Options = Mapping[str, Mapping[str, Any]]

TEXT = {"type": "str"}
TEXTS = {"type": "list", "elements": "str"}
NUMBER = {"type": "int"}
YES_NO = {"type": "bool"}
NAME = {"name": {"type": "str", "required": True}}
STATE = {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}


def several(options: Options, default: list[Any] | None = None) -> dict[str, Any]:
    """Return a list of items that have these options. default: that of the list; None where it matters whether the list is given."""
    return {"type": "list", "elements": "dict", "options": options, **({} if default is None else {"default": default})}


def one_item(options: Options) -> dict[str, Any]:
    """Return the options of an item for the top level, where none has a default: one that stands beside a list of items is seen to be given."""
    return {name: {key: value for key, value in spec.items() if key != "default"} for name, spec in options.items()}


STATE_DIR: dict[str, Any] = {"state_dir": {"type": "path", "default": store.STATE_DIR}}

SERVICE: dict[str, Any] = {
    **NAME,
    "address": TEXTS,
    "port": NUMBER,
    "protocol": {"type": "str", "choices": ["tcp", "udp"]},
    **STATE,
}

EXPECTATION: dict[str, Any] = {
    **{key: {"type": "str", "required": True} for key in ("from", "to")},
    "is": {"type": "str", "choices": ["allowed", "refused"]},
    "via": TEXT,
}

CELL: dict[str, Any] = {
    **STATE_DIR,
    "cell": {
        "type": "dict",
        "options": {
            "name": TEXT,
            "networks": TEXTS,
            "endpoint": TEXT,
            "interface": TEXT,
            "listen_port": NUMBER,
            "link_port_base": NUMBER,
            "services": several(SERVICE),
            "uplink": TEXT,
            "admin_networks": TEXTS,
            "sync_port": NUMBER,
            "endpoint_ports": {"type": "dict"},
            "in_run": TEXTS,
            "exit_failures": NUMBER,
            "exit_hold": NUMBER,
            "exit_switches": NUMBER,
            "exit_hold_limit": NUMBER,
            "exit_probes": TEXTS,
            "whoami": TEXTS,
            "expect": several(EXPECTATION),
            "exit_dns": TEXTS,
            "resolver": TEXTS,
        },
    },
}

EXCEPTIONS: dict[str, Any] = {"route_except": several({"to": {**TEXTS, "required": True}, "via": {"type": "str", "required": True}})}

DEVICE: dict[str, Any] = {
    **NAME,
    "public_key": {"type": "str", "no_log": False},
    "preshared_key": {"type": "str", "no_log": True},
    "addresses": TEXTS,
    "networks": TEXTS,
    "route_via": TEXTS,
    "exit_dns": TEXTS,
    **EXCEPTIONS,
    **STATE,
}

PORT: dict[str, Any] = {"interface": TEXT, "listen_port": NUMBER}

LINK: dict[str, Any] = {
    "public_key": {"type": "str", "no_log": False},
    "networks": TEXTS,
    "allow_public_networks": YES_NO,
    "address": TEXTS,
    **PORT,
}

API_URL: dict[str, Any] = {"api_url": TEXT}

TUNNEL: dict[str, Any] = {
    **LINK,
    "endpoint": TEXT,
    "keepalive": NUMBER,
    "mtu": NUMBER,
    "preshared_key": {"type": "str", "no_log": True},
    **API_URL,
    "accept_networks": TEXTS,
    "sync_auth": {"type": "str", "choices": ["hmac", "address"]},
}

GENERATED: dict[str, Any] = {"generated": {"type": "bool", "default": False}}

RIGHTS: dict[str, Any] = {"share": TEXTS, "offer_exit": YES_NO, "offer_until": TEXT, "offer_rate": TEXT}
OFFERED: dict[str, Any] = {"offered": YES_NO}

DEVICE_NAME: dict[str, Any] = {"peer": {"type": "str", "required": True}}
ROUTE: dict[str, Any] = {"via_cell": TEXTS, **EXCEPTIONS}
ROUTES = several({**DEVICE_NAME, **ROUTE}, default=[])

EXIT: dict[str, Any] = {
    **NAME,
    "private_key": {"type": "str", "no_log": True},
    "addresses": TEXTS,
    "resolvers": TEXTS,
    "mtu": NUMBER,
    "public_key": {"type": "str", "no_log": False},
    "preshared_key": {"type": "str", "no_log": True},
    "endpoint": TEXT,
    "keepalive": NUMBER,
    "config_file": TEXT,
}

RUN: dict[str, Any] = {
    "run": {
        "type": "dict",
        "options": {
            "peers": several(DEVICE, default=[]),
            "links": several({**NAME, **GENERATED, **TUNNEL, **RIGHTS, **OFFERED, **STATE}, default=[]),
            "exits": several(EXIT),
            "routes": ROUTES,
            "received": {"type": "list", "elements": "dict", "default": []},
            "answers": {"type": "dict", "default": {}},
        },
    },
}
