# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks that this cell's owner has set aside for a linked cell to take by itself (accept_networks).

They are judged as if it had them already. So nothing that it takes later can be in the way of what its owner states here.
"""

from __future__ import annotations

from ..base.errors import BadInput
from ..base.networks import check_not_managed_from, outside
from ..records.model import State
from . import adoption, checks, former, merge, near, providers, reach
from .part import Context


def check(context: Context) -> None:
    """Refuse networks that are set aside and cannot be a link's, by all that is judged of a link's own. Raises BadInput."""
    wanted, stored = (_as_taken(state) for state in (context.wanted, context.stored))
    for name in context.inputs.absent_links:
        wanted.links.pop(name, None)
    if not any(link.accept_networks for link in wanted.links.values()):
        return
    for name, link in sorted(wanted.links.items()):
        check_not_managed_from(f"accept_networks of link {name!r}", link.accept_networks, wanted.cell.admin_networks)
    host_networks = context.observed.host_networks(wanted.cell.interface)
    try:
        checks.check_networks(wanted, host_networks)
        providers.check(wanted, stored, host_networks)
        former.check(wanted, stored)
        near.check_exceptions(wanted)
        for link in wanted.links.values():
            near.check_endpoint(link)
        merge.check_answerers(wanted.cell.exit_dns, wanted, f"exit_dns of cell {wanted.cell.name!r}")
        for peer in wanted.peers.values():
            merge.check_answerers(peer.exit_dns, wanted, f"exit_dns of peer {peer.name!r}")
        adoption.check_others(wanted, stored, context.devices_interface())
        reach.check_reach(context.host, wanted, stored, context.observed.wireguard)
    except BadInput as error:
        raise BadInput(f"What accept_networks sets aside for a link counts as its own. {error}") from None


def _as_taken(state: State) -> State:
    found = state.copy()
    for link in found.links.values():
        link.networks = [*link.networks, *outside(link.accept_networks, link.networks)]
    return found
