# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another key for a cell, which keeps everything else."""

from __future__ import annotations

from .base import wgkeys
from .base.errors import StoreError
from .kernel.plan import Plan, Write
from .parts.part import Context


def plan_rekey(context: Context) -> tuple[Plan, str]:
    """Plan a new private key; the interfaces get it with the next plan of the cell. Returns plan and the new public key."""
    if not context.stored.cell.name:
        raise StoreError(f"This host is not a cell: there is no record of it in {context.store.path}. Run pic.cells.site first.")
    plan, private, public = Plan(), wgkeys.GENERATED, wgkeys.GENERATED
    if not context.predict:
        private = context.host.run(["wg", "genkey"]).out.strip()
        public = wgkeys.public_key_of(context.host, private)
    plan.steps.append(Write(f"{context.store.path}/identity.key", f"{private}\n"))
    plan.describe([f"identity: public key {context.identity.public}"], [f"identity: public key {wgkeys.GENERATED}"])
    return plan, public
