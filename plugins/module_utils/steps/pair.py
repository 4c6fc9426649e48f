# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pic_link_pair does."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..kernel.plan import Plan, apply
from ..module import opened, report, root_host
from ..options import STATE_DIR
from ..program.redeem import plan_preshared_key, redeem

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        **STATE_DIR,
        **{key: {"type": "str", "required": True} for key in ("name", "public_key", "endpoint", "api_url", "source")},
        "preshared_key": {"type": "str", "required": True, "no_log": True},
        "endpoint_port": {"type": "int"},
    },
    "supports_check_mode": True,
}


def run(module: AnsibleModule) -> None:
    name = module.params["name"]
    with opened(module, "pair") as context:
        plan = plan_preshared_key(context, name, module.params["public_key"])
        if plan and not module.check_mode:
            apply(context.host, plan)
    redeems, done = plan is not None, plan or Plan()
    if redeems:
        done.describe([], [f"link {name}: this cell is known there by its invitation"])
    if redeems and not module.check_mode:
        # Without the lock: until the other cell answers, whatever has to be repaired here can be.
        with root_host(module) as host:
            redeem(context.on(host), name, module.params)
    report(module, done, {"redeemed": redeems})
