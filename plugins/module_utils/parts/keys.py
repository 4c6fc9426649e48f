# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that a cell has: its own key pair, and the preshared keys of its peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..base import wgkeys
from ..base.command import Host
from ..base.errors import BadInput, StoreError
from ..kernel import wgconfig, wgquick
from ..kernel.model import Interface, WgPeer
from ..kernel.observed import Observed
from ..records.model import State
from . import adoption


@dataclass(frozen=True)
class Identity:
    """The cell's key pair. private is None, and public says so, where a new one is not made: in a prediction, or without wg."""

    private: str | None
    public: str
    new: bool


def identity_path(folder: str) -> str:
    """Return the file with the cell's private key. folder: the one with the records."""
    return f"{folder}/identity.key"


def kept_identity(host: Host, folder: str, devices_interface: Callable[[], adoption.Found]) -> Identity | None:
    """Return the key pair that the cell has; None where it has none. Raises StoreError and BadInput for what is no key."""
    path = identity_path(folder)
    private = (host.read(path) or "").strip()
    if private and not _is_private(private):
        raise StoreError(f"{path} holds no key. Put it back from a backup, or remove it and run pic.cells.site.")
    if not private:  # a cell keeps the identity that its devices know
        found = devices_interface()
        private = found.key or ""
        if private and not _is_private(private):
            raise BadInput(f"{wgconfig.config_path(found.name)}: its PrivateKey is not a WireGuard key. Correct it.")
    return Identity(private, wgkeys.public_key_of(host, private), False) if private else None


def new_identity(host: Host, predict: bool) -> Identity:
    """Make a key pair. predict: nobody will keep it, so none is made."""
    if predict or not host.has("wg"):
        return Identity(None, wgkeys.GENERATED, True)
    private = host.run(["wg", "genkey"]).out.strip()
    return Identity(private, wgkeys.public_key_of(host, private), True)


def new_preshared_key(host: Host, predict: bool) -> str:
    """Make a preshared key. predict: nobody will keep it, so none is made."""
    return wgkeys.PRESHARED_LATER if predict else host.run(["wg", "genpsk"]).out.strip()


def preshared_keys(host: Host, stored: State, seen: Observed) -> dict[str, str | None]:
    """Return the preshared key of each recorded link that has one, by name."""
    names = [name.removesuffix(".conf") for name in host.list(wgconfig.CONFIG_DIR) if name.startswith("pic-") and name.endswith(".conf")]
    found = {interface: written(host, interface) for interface in {*names, stored.cell.interface}}
    anywhere = {key: secret for _interface, peers in sorted(found.items()) for key, secret in peers.items() if secret}
    # A link that moves to another interface takes its key along, and one whose file is lost has it in the kernel.
    return {
        name: kept(seen, str(link.interface), str(link.public_key), found.get(str(link.interface), {})) or anywhere.get(str(link.public_key))
        for name, link in sorted(stored.links.items())
    }


def written(host: Host, interface: str) -> dict[str, str | None]:
    """Return the preshared keys that an interface's file holds, by public key: silence keeps them."""
    return in_text(host.read(wgconfig.config_path(interface)) or "")


def in_text(text: str) -> dict[str, str | None]:
    """Return the preshared keys that the text of an interface's file holds, by public key."""
    peers = wgquick.config_peers(text)
    # One that is none would be no key to sign with, and is not written on.
    return {peer.public_key: peer.preshared_key if peer.preshared_key and wgkeys.is_key(peer.preshared_key) else None for peer in peers}


def kept(seen: Observed, interface: str, key: str, in_file: Mapping[str, str | None]) -> str | None:
    """Return a peer's preshared key as the file of its interface has it, or the kernel where that file does not name the peer. in_file: by public key."""
    if key in in_file:
        return in_file[key]
    return seen.wireguard.get(interface, Interface(interface)).peers.get(key, WgPeer(key)).preshared_key


def _is_private(text: str) -> bool:
    return wgkeys.is_key(text) or text == wgkeys.GENERATED
