# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell says of itself to its devices, and what it knows of each."""

from __future__ import annotations

from collections.abc import Iterable

from ..base.errors import StoreError
from ..base.names import DNS_PORT
from ..base.networks import FAMILIES, address_of, network_of, of_family, sorted_networks
from ..records.model import Cell, Peer, State
from . import former, keys
from .device_file import Entry
from .part import Context


def entry(context: Context) -> Entry:
    """Read what devices need to know of a cell. Raises StoreError where it has forgotten its own."""
    check_registry(context)
    state, cell = context.current, context.current.cell
    found = context.devices_interface()
    return Entry(
        cell.name,
        None if context.identity.new else context.identity.public,
        cell.endpoint,
        found.port or cell.listen_port,
        cell.networks,
        _reachable(state),
        _resolvers(cell),
        cell.exit_dns,
        _taken(state, [address.partition("/")[0] for address in found.addresses] + [network for peer in found.peers for network in peer.allowed_ips]),
    )


def has_preshared_key(context: Context, peer: Peer) -> bool:
    """Tell whether a device has to know a preshared key, without which the cell does not answer it."""
    key, interface = str(peer.public_key), context.stored.cell.interface
    return keys.kept(context.observed, interface, key, keys.written(context.host, interface)) is not None


def check_registry(context: Context) -> None:
    """Refuse a change of one device where the others are not known: the registry would be written anew without them. Raises StoreError."""
    if context.stored.peers_lost:
        raise StoreError(
            f"{' '.join(context.store.warnings)} So nobody knows which other devices are let in, and by which exit. Put it back from a backup, or run "
            "pic.cells.site with all devices in cell_peers first."
        )


def _reachable(state: State) -> list[str]:
    networks = [*state.cell.own_networks(), *(network for peer in state.peers.values() for network in peer.networks)]
    networks += [network for link in state.links.values() if not link.provided for network in link.networks]
    return [network for family in FAMILIES for network in sorted_networks(dict.fromkeys(of_family(family, networks)))]


def _resolvers(cell: Cell) -> list[str]:
    """Return the resolver that is stated, or else the cell's own addresses at which a service is that can only be one."""
    own = {address_of(address) for address in cell.own_addresses()}
    services = [service for service in cell.services.values() if (service.protocol, service.port) == ("udp", DNS_PORT)]
    answering = dict.fromkeys(address for service in services for address in service.addresses if address_of(address) in own)
    return cell.resolver or list(answering)


def _taken(state: State, seen: Iterable[str]) -> list[str]:
    """Return what somebody has of the cell's own networks. seen: what is on the devices' interface."""
    said = [*seen, *state.cell.own_addresses(), *former.addresses(state), *state.cell.resolver]
    said += [address for peer in state.peers.values() for address in (*peer.addresses, *peer.networks)]
    said += [address for service in state.cell.services.values() for address in service.addresses]
    own = [network_of(network) for network in state.cell.own_networks()]
    found = dict.fromkeys(str(network_of(text)) for text in said)
    return [text for text in found if any(network.version == network_of(text).version and network_of(text).network_address in network for network in own)]
