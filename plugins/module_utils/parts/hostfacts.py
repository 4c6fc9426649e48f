# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firewall has to know of a host: its uplink, its networks, and who may send from the devices' interface."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..base import names
from ..base.networks import EVERYWHERE, of_family, sorted_networks
from ..base.texts import printable
from ..kernel import lookups
from ..kernel.model import Interface
from ..kernel.observed import Observed, is_ours
from ..records.model import Cell, State


@dataclass(frozen=True)
class HostFacts:
    """What the rules have to know of the host in one family.

    connected: its networks. senders: AllowedIPs of all peers on the devices' interface but links and defaults.
    """

    uplink: str | None = None
    connected: tuple[str, ...] = field(default=())
    senders: tuple[str, ...] = field(default=())


def host_facts(seen: Observed, state: State, family: int) -> HostFacts:
    """Return what the rules of one family have to know of a host. Warns of an uplink that no rule can name."""
    cell = state.cell
    connected = {network for device, network in seen.routing[family].connected if not is_ours(device, cell.interface) and seen.is_in(device, network)}
    devices = seen.wireguard.get(cell.interface, Interface(cell.interface))
    links = {link.public_key for link in state.links.values()} | {tunnel.key for tunnel in state.leaving.links}
    senders = {network for key, peer in devices.peers.items() if key not in links for network in peer.allowed_ips}
    found = uplink(seen, cell, family) if cell.has_family(family) else None  # without networks of its own it is no exit there either
    if found and not names.is_interface(found):
        seen.warn(f"Interface {printable(found)!r}, the uplink, has a name that cannot be used in a rule. Rename it; until then no device leaves through it.")
        found = None
    return HostFacts(found, tuple(sorted_networks(connected)), tuple(sorted_networks(of_family(family, senders - set(EVERYWHERE)))))


def uplink(seen: Observed, cell: Cell, family: int) -> str | None:
    """Return the interface by which packets of devices go to the internet: the stated one, or the one that the kernel would find for them."""
    return cell.uplink or way_out(seen, cell, family) or seen.routing[family].uplink


def way_out(seen: Observed, cell: Cell, family: int) -> str | None:
    """Return the interface that the kernel finds for what a device sends to the internet, by the rules and routes of others; None where it finds none."""
    routing = seen.routing[family]
    found = lookups.way_out(family, routing.lookups, routing.wide, next(iter(cell.own_networks(family)), None), cell.interface)
    return None if found is None or is_ours(found, cell.interface) else found
