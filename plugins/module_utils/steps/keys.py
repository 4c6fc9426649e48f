# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pic_link_keys does."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..kernel.plan import Plan
from ..module import opened, report
from ..options import STATE_DIR
from ..parts.keys import new_preshared_key

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {**STATE_DIR, "links": {"type": "list", "elements": "str", "required": True}, "new": {"type": "bool", "default": False}},
    "supports_check_mode": True,
}


def run(module: AnsibleModule) -> None:
    with opened(module, "keys") as context:
        known = {} if module.params["new"] else context.preshared_keys()
        keys = {name: known.get(name) or new_preshared_key(context.host, context.predict) for name in module.params["links"]}
        report(module, Plan(), {"preshared_keys": keys})
