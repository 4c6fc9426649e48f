# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another key for a cell, which keeps everything else."""

from __future__ import annotations

from . import wireguard
from .errors import StoreError
from .plan import Plan, Write
from .reconcile import Cell


def plan_rekey(cell: Cell) -> tuple[Plan, str]:
    """Plan a new private key; the interfaces get it with the next plan of the cell. Returns plan and the new public key."""
    if not cell.stored.cell.name:
        raise StoreError(f"This host is no cell: there is no record of it in {cell.store.path}. Run pic.cells.site first.")
    plan, private, public = Plan(), wireguard.GENERATED, wireguard.GENERATED
    if not cell.predict:
        private = cell.host.run(["wg", "genkey"]).out.strip()
        public = wireguard.public_key_of(cell.host, private)
    plan.steps.append(Write(f"{cell.store.path}/identity.key", f"{private}\n"))
    plan.describe([f"identity: public key {cell.identity.public}"], [f"identity: public key {wireguard.GENERATED}"])
    return plan, public
