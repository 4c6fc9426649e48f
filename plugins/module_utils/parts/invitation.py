# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the owner of another cell has to know to link with this one. Owns no record; adds a file with a preshared key to the host."""

from __future__ import annotations

from ..base.names import check_name
from ..base.networks import host_port
from ..kernel.plan import Plan
from ..records.model import Link
from . import invitations, keys, merge
from .part import Context, Planned


def plan_invitation(context: Context, name: str, endpoint_port: int | None = None) -> Planned:
    """Plan the preshared key of a link with a cell of another owner. Returns plan and {invitation, key_file}. Raises BadInput for a name that is none.

    endpoint_port: at which the other cell dials, where it is not the link's own.
    """
    check_name("Cell", name)
    cell, link, folder = context.stored.cell, context.stored.links.get(name, Link(name)), context.store.path
    path, plan = invitations.key_path(folder, name), Plan()
    if not context.preshared_keys().get(name) and not invitations.waiting(context.host, folder, name, context.now):
        plan.extend(invitations.plan_new(folder, name, keys.new_preshared_key(context.host, context.predict), context.now))
    port, host = endpoint_port or link.listen_port, cell.endpoint or ""
    address = cell.own_addresses()
    invitation = {
        "name": cell.name,
        "public_key": context.identity.public,
        "networks": cell.own_networks(),
        "address": address,
        "endpoint": host_port(host, port) if host and port else None,
        "api_url": merge.api_url(address, cell.sync_port),
    }
    return plan, {"invitation": invitation, "key_file": path if plan or context.host.exists(path) else ""}
