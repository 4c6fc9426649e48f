# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be: keys, interfaces, ports and networks of a cell that are somebody else's, or another link's. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ..base import wgkeys
from ..base.errors import BadInput
from ..base.names import LINK_PREFIX, PAIRING
from ..base.networks import conflicts
from ..kernel.model import Interface
from ..records.model import State


def check_keys(state: State, own_key: str | None, kernel: Mapping[str, Interface]) -> None:
    """Refuse a key that is the cell's own, or that two links, two devices or somebody else's peer share."""
    holders: dict[str, str] = {own_key: f"this cell {state.cell.name!r} itself"} if own_key else {}
    entries = [(f"peer {peer.name!r}", peer.public_key) for peer in state.peers.values()]
    entries += [(f"link {link.name!r}", link.public_key) for link in state.links.values()]
    for who, key in entries:
        if key is None or key == wgkeys.GENERATED:
            continue
        if key in holders:
            raise BadInput(f"public_key of {who}: {key!r} is already the key of {holders[key]}. Every cell and device needs a key of its own.")
        holders[key] = who
    for key, name in taken_keys(state, kernel).items():
        if key in holders:
            raise BadInput(f"public_key of {holders[key]}: {key!r} is already a peer of interface {name!r} of this host. Use another key or remove that peer.")


def taken_keys(state: State, kernel: Mapping[str, Interface]) -> dict[str, str]:
    """Return the public keys of somebody else's peers, and the interface of each."""
    ours = {link.interface for link in state.links.values()} | {state.cell.interface, PAIRING}
    return {key: name for name, interface in kernel.items() if name not in ours and not name.startswith(LINK_PREFIX) for key in interface.peers}


def check_links(state: State, kernel: Mapping[str, Interface], leaving: Collection[str] = ()) -> None:
    """Refuse an interface or a port that two links would have, and a port that another interface still has. leaving: links that go in this run."""
    interfaces: dict[str | None, str] = {state.cell.interface: f"the devices' interface {state.cell.interface!r}"}
    ports: dict[int | None, str] = {state.cell.listen_port: state.cell.interface}
    for name, link in sorted(state.links.items()):
        if link.interface == state.cell.interface or name in leaving:
            continue
        if link.interface in interfaces:
            raise BadInput(f"interface {link.interface!r} of link {name!r} already belongs to {interfaces[link.interface]}. Give one of them another.")
        if link.listen_port in ports:
            holder = interfaces[ports[link.listen_port]]
            raise BadInput(f"listen_port {link.listen_port} of link {name!r} already belongs to {holder}. Give one of them another.")
        interfaces[link.interface] = f"link {name!r}"
        ports[link.listen_port] = str(link.interface)
    for name, interface in kernel.items():
        owner = ports.get(interface.listen_port, name)
        # An interface that no link has any more goes first and takes its port along.
        if owner != name and (name in interfaces or not name.startswith(LINK_PREFIX)):
            raise BadInput(
                f"Port {interface.listen_port} of interface {owner!r} still belongs to {name!r}. Give that one another port in a separate run first."
            )


def check_networks(state: State, host_networks: Mapping[str, Iterable[str]]) -> None:
    """Refuse networks of the cell and its links that overlap each other or a network of the host."""
    wanted: dict[str, Iterable[str]] = {f"this cell {state.cell.name!r}": state.cell.networks}
    wanted.update({f"link {name!r}": link.networks for name, link in sorted(state.links.items())})
    wanted.update({f"peer {name!r}": peer.networks for name, peer in sorted(state.peers.items()) if peer.networks})
    found = conflicts(wanted, host_networks)
    if found:
        raise BadInput("; ".join(f"The {sentence}" for sentence in found) + ". Nothing was changed. Give one of them another network.")
