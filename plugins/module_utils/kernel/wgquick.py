# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole configuration file of an interface: which peers it names, and what it becomes. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping

from ..base import texts
from ..base.errors import BadInput
from ..base.wgkeys import GENERATED, NO_KEY, PRESHARED_LATER, clamped, is_key
from .model import Interface, WgPeer
from .wgconfig import INTERFACE, PEER, Config, Section, fault, networks_of, parse, plain_address, plain_network, settings


def check_file_keys(path: str, text: str) -> None:
    """Refuse a file with a key that is none before wg reads it, and prints it to the journal. Raises BadInput, without the key in the text."""
    for header, values in settings(text):
        for name in ("PrivateKey", "PublicKey", "PresharedKey"):
            if any(not is_key(value) and value not in (GENERATED, PRESHARED_LATER) for value in values.get(name.lower(), ())):
                raise BadInput(f"{path}: a {name} in a section [{header}] is not a WireGuard key (32 bytes in base64, 44 characters). Correct it.")


def check_file(path: str, text: str) -> None:
    """Refuse a file that wg-quick would not start. Raises BadInput, without any value in the text."""
    found = fault(text)
    if found:
        raise BadInput(f"{path}: {found}, so wg-quick does not start the interface. Correct it.")
    check_file_keys(path, text)


def merge_config(text: str | None, wanted: Interface, labels: Mapping[str, str], removed: Iterable[str], others: Iterable[WgPeer] = ()) -> str:
    """Return the file for the devices' interface: ours as wanted, and not a byte of anybody else's settings, peers and comments changed.

    labels: what a comment says of each peer that we add, by key. removed: keys and addresses of ours that go.
    others: peers that only the kernel has, where there is no file.
    """
    config, gone = parse(text), set(removed)
    if not config.of(INTERFACE):
        config.sections.append(Section(INTERFACE, [f"{line}{config.eol}" for line in _head(bool(text))]))
    sections = config.of(INTERFACE)
    config.put(sections, "PrivateKey", wanted.private_key or GENERATED, _same_key)
    config.put(sections, "ListenPort", str(wanted.listen_port))
    config.put_list(sections, "Address", wanted.addresses, plain_address)
    if _takes_all(wanted):
        config.put(sections, "Table", "off")  # or wg-quick would send the whole host there at the next boot
    if wanted.mtu:
        config.put(sections, "MTU", str(wanted.mtu))
    found = set()
    for section in config.of(PEER):
        key = section.get("publickey") or ""
        found.add(key)
        if key in wanted.peers:
            _put_peer(config, section, wanted.peers[key])
            config.relabel(section, texts.remark(labels[key]))
        elif key in gone:
            config.remove(section)
    for peer in others:
        if peer.public_key not in wanted.peers and peer.public_key not in gone:
            config.sections.append(Section(PEER, ["", *_peer_lines(peer)]))
    for key, peer in wanted.peers.items():
        if key not in found:
            config.add_peer(_peer_lines(peer)[1:], texts.remark(labels[key]))
    return config.render()


def render_link(wanted: Interface, labels: Mapping[str, str]) -> str:
    """Return the file of a link's own interface, which is ours alone."""
    lines = [f"PrivateKey = {wanted.private_key or GENERATED}", f"ListenPort = {wanted.listen_port}"]
    lines += [f"Address = {address}" for address in wanted.addresses]
    lines += [f"MTU = {wanted.mtu}"] if wanted.mtu else []
    lines += [f"PostUp = ip -{route.family} route replace {route.render()}" for route in wanted.routes]
    lines = [*_head(False), *map(texts.setting, lines)]
    for key, peer in wanted.peers.items():
        lines += ["", f"# {texts.remark(labels[key])}", *_peer_lines(peer)]
    return "".join(f"{line}\n" for line in lines)


def config_peers(text: str) -> list[WgPeer]:
    """Return the peers that a file names. One that stands there again has what only an earlier section says, but for its networks: so does wg."""
    peers: list[WgPeer] = []
    said: dict[tuple[str, str], str | None] = {}
    for values in (values for header, values in settings(text) if header == PEER):
        key = values.get("publickey", ["None"])[-1]
        found = {name: said.setdefault((key, name), None) for name in ("endpoint", "persistentkeepalive", "presharedkey")}
        found.update({name: values[name][-1] for name in found if name in values})
        said.update({(key, name): value for name, value in found.items()})
        keepalive, secret = found["persistentkeepalive"] or "off", found["presharedkey"]
        seconds = int(keepalive) if keepalive.isdigit() else None
        secret = None if secret == NO_KEY else secret
        peers.append(WgPeer(key, networks_of(values.get("allowedips", ())), found["endpoint"], seconds or None, secret or None))
    return peers


def _same_key(one: str, two: str) -> bool:
    try:
        return clamped(one) == clamped(two)
    except (binascii.Error, ValueError, IndexError):
        return one == two


def _takes_all(wanted: Interface) -> bool:
    return any(network.endswith("/0") for peer in wanted.peers.values() for network in peer.allowed_ips)


def _head(there: bool) -> list[str]:
    return ["# Written by pic.cells.", "[Interface]", *([] if there else ["Table = off"])]


def _put_peer(config: Config, section: Section, wanted: WgPeer) -> None:
    """Let a section have what is wanted of a peer; an endpoint or a keepalive that is None stays as it is."""
    config.put_list([section], "AllowedIPs", wanted.allowed_ips, plain_network)
    if wanted.preshared_key:
        config.put([section], "PresharedKey", wanted.preshared_key)
    if wanted.endpoint:
        config.put([section], "Endpoint", wanted.endpoint)
    elif wanted.endpoint is not None:
        config.drop(section, "Endpoint")
    if wanted.keepalive:
        config.put([section], "PersistentKeepalive", str(wanted.keepalive))
    elif wanted.keepalive is not None:
        config.drop(section, "PersistentKeepalive")


def _peer_lines(peer: WgPeer) -> list[str]:
    lines = ["[Peer]", f"PublicKey = {peer.public_key}"]
    lines += [f"PresharedKey = {peer.preshared_key}"] if peer.preshared_key else []
    lines += [f"AllowedIPs = {', '.join(peer.allowed_ips)}"]
    lines += [f"Endpoint = {peer.endpoint}"] if peer.endpoint else []
    lines += [f"PersistentKeepalive = {peer.keepalive}"] if peer.keepalive else []
    return [texts.setting(line) for line in lines]
