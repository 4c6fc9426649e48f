# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device needs of its cell: a free address, and what its own WireGuard file says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..base.errors import BadInput
from ..base.networks import EVERYWHERE, FAMILIES, Interface, Network, host_port, interface_of, network_of, of_family

# For a device that sends everything into its tunnel, where its cell has no resolver: the one that it had may be out of reach then.
PUBLIC_RESOLVERS = ("9.9.9.9", "2620:fe::fe")
KEEPALIVE = 25
_NO_KEY = "# PrivateKey: only the device has it"
NO_PRESHARED_KEY = "# PresharedKey: the device has it"


@dataclass(frozen=True)
class Entry:
    """What a cell says of the way in to it."""

    cell: str
    public_key: str | None
    endpoint: str | None  # a name or an address, without a port
    listen_port: int
    networks: list[str]  # with the cell's own address
    reachable: list[str]  # all networks that a device reaches through its tunnel, but for the internet
    resolvers: list[str]  # that are known to answer here
    exit_dns: list[str]  # public ones that the owner has chosen for routed devices
    taken: list[str]  # networks and addresses within the cell's own that somebody has


def free_addresses(networks: Iterable[str], taken: Iterable[str], cell: str) -> list[str]:
    """Return the lowest address that nobody has, of each family. networks: the cell's own. Raises BadInput where there is none."""
    gone = [network_of(text) for text in taken]
    found = []
    for family in FAMILIES:
        own = [interface_of(text) for text in of_family(family, networks)]
        free = next(filter(None, (_lowest(interface, gone) for interface in own)), None)
        if own and free is None:
            ranges = ", ".join(str(interface.network) for interface in own)
            raise BadInput(f"Cell {cell!r} has no free address in {ranges}. Remove a device, give addresses, or state a further network in cell_networks.")
        found += [free] if free else []
    return found


def dns_of(cell: Entry, addresses: Iterable[str], split: bool) -> list[str]:
    """Return whom a device asks unless somebody says otherwise: who answers at its cell, or if all goes into the tunnel a resolver on the internet."""
    families = [family for family in FAMILIES if of_family(family, addresses)]
    here = [resolver for family in families for resolver in of_family(family, cell.resolvers)]
    if here or split:
        return here
    return [resolver for family in families for resolver in of_family(family, cell.exit_dns or PUBLIC_RESOLVERS)]


def render(cell: Entry, name: str, addresses: Sequence[str], dns: Sequence[str], split: bool, private_key: str | None = None, preshared: bool = False) -> str:
    """Return the device's file for wg-quick. private_key: None for what may be shown. preshared: whether the device has a preshared key, never shown.

    Raises BadInput where nobody knows how to reach the cell.
    """
    if not cell.public_key:
        raise BadInput(f"Cell {cell.cell!r} has no key yet, which a device needs to know. Run pic.cells.site first.")
    if not cell.endpoint:
        raise BadInput(
            f"Cell {cell.cell!r} has no endpoint, so device {name!r} would not know whom to dial. State cell_endpoint: the name or address at which port "
            f"{cell.listen_port}/udp of the cell is reached."
        )
    lines = [
        "[Interface]",
        f"# {name}, a device of {cell.cell}",
        # Before the key: where Ansible takes the file for an inventory, it prints the first line that is none.
        f"Address = {', '.join(str(network_of(address)) for address in addresses)}",
        f"PrivateKey = {private_key}" if private_key else _NO_KEY,
        *([f"DNS = {', '.join(dns)}"] if dns else []),
        "",
        "[Peer]",
        f"PublicKey = {cell.public_key}",
        *([NO_PRESHARED_KEY] if preshared else []),
        f"Endpoint = {host_port(cell.endpoint, cell.listen_port)}",
        f"AllowedIPs = {', '.join(cell.reachable if split else EVERYWHERE)}",
        f"PersistentKeepalive = {KEEPALIVE}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _lowest(interface: Interface, taken: Iterable[Network]) -> str | None:
    """Return the lowest address of a network that is in none of those, None where all are. What holds the whole network says nothing of an address."""
    network = interface.network
    ends = 1 if network.num_addresses > 2 else 0
    candidate, last = int(network.network_address) + ends, int(network.broadcast_address) - (ends if network.version == 4 else 0)
    inside = [one for one in taken if one.version == network.version and one.prefixlen > network.prefixlen and one.network_address in network]
    for low, high in sorted((int(one.network_address), int(one.broadcast_address)) for one in [*inside, network_of(str(interface.ip))]):
        if low > candidate:
            break
        candidate = max(candidate, high + 1)
    return str(network[candidate - int(network.network_address)]) if candidate <= last else None
