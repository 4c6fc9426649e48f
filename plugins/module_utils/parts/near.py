# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not lie in the networks of cells and devices: an exception of a device, and the endpoint of a link. Pure."""

from __future__ import annotations

from ..base.errors import BadInput
from ..base.names import DIRECT, EXIT, OWN
from ..base.networks import Overlaps, address_of, host_of, network_of
from ..records.model import Link, State


def check_exceptions(state: State) -> None:
    """Refuse exceptions that hold what a device reaches in another way: networks of cells and of devices, and the resolver that its questions go to."""
    if not any(peer.route_except for peer in state.peers.values()):
        return
    near = Overlaps()
    for who, networks in (
        (f"cell {state.cell.name!r}", state.cell.own_networks()),
        *((f"link {link.name!r}", link.networks) for link in state.links.values()),
        *((f"peer {peer.name!r}", peer.networks) for peer in state.peers.values()),
    ):
        for network in networks:
            near.add(network_of(network), who)
    for peer in state.peers.values():
        for text, via in peer.route_except.items():
            what = f"route_except of peer {peer.name!r}: {text}"
            for other, who in near.of(network_of(text)):
                raise BadInput(f"{what} overlaps {other} of {who}, which the device reaches without an exit. Give networks of the internet.")
            stated = peer.exit_dns or state.cell.exit_dns if via == DIRECT else []
            resolver = next((address for address in stated if address not in (EXIT, OWN) and address_of(address) in network_of(text)), None)
            if resolver:
                whose = f"peer {peer.name!r}" if peer.exit_dns else f"cell {state.cell.name!r}"
                raise BadInput(
                    f"{what} contains {resolver}, a resolver of {whose} (exit_dns), so what the device asks by DNS would leave directly. "
                    "Give another resolver, or leave this network out."
                )


def check_endpoint(link: Link) -> None:
    """Refuse an endpoint in digits in a network of its own link. Raises BadInput."""
    try:
        address = address_of(host_of(link.endpoint or ""))
    except ValueError:
        return
    for network in link.networks:
        if address in network_of(network):
            raise BadInput(
                f"endpoint {link.endpoint!r} of link {link.name!r} lies in the link's own network {network}, which would create a loop. "
                "Give the address outside the tunnel."
            )
