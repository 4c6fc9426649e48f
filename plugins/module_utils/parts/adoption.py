# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a devices' interface is before the cell has it: whose it is, and what of it is to stay."""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from ..base.command import Host
from ..base.errors import BadInput
from ..base.networks import WIDEST_DEFAULT_LIKE, Overlaps, conflicts, interface_of, sorted_networks
from ..base.wgkeys import clamped
from ..kernel import wgconfig
from ..kernel.model import Interface, WgPeer
from ..kernel.wgquick import check_file, config_peers
from ..records.model import State

_HOOKS = ("preup", "postup")  # which may set a key
_REMEDY = "Set cell_interface to another name, like wg1."

# Where other software keeps interfaces, and what in a file says that one of them is this one.
_NETWORKD = ("/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network")
_MANAGERS: tuple[tuple[str, tuple[str, ...], str, tuple[str, ...]], ...] = (
    (
        "netplan",
        ("/etc/netplan", "/run/netplan", "/usr/lib/netplan"),
        ".yaml",
        (r"^([^#\n]*[\s{,])?[\"']?{name}[\"']?\s*:", r"^([^#\n]*[\s{,])?mode\s*:\s*[\"']?wireguard\b"),
    ),
    ("systemd-networkd", _NETWORKD, ".netdev", (r"^\s*Name\s*=\s*{name}\s*$", r"^\s*Kind\s*=\s*wireguard\s*$")),
    (
        "NetworkManager",
        tuple(f"{folder}/NetworkManager/system-connections" for folder in ("/etc", "/run", "/usr/lib")),
        "",
        (r"^interface-name\s*=\s*{name}\s*$", r"^type\s*=\s*wireguard\s*$"),
    ),
    ("ifupdown", ("/etc/network/interfaces.d",), "", (r"^\s*iface\s+{name}\s",)),
)


@dataclass(frozen=True)
class Found:
    """A devices' interface as its file and the kernel have it. text: of the file, None where there is none. kernel: None where it is not up."""

    name: str
    text: str | None
    kernel: Interface | None

    @cached_property
    def config(self) -> wgconfig.Config:
        """The file, read."""
        return wgconfig.parse(self.text)

    @property
    def key(self) -> str | None:
        """The private key that the interface has, or will have when it is started."""
        return self.config.get("privatekey") or (self.kernel.private_key if self.kernel else None)

    @property
    def port(self) -> int | None:
        """The port that its devices dial."""
        written = self.config.get("listenport") or ""
        return int(written) if written.isdigit() and 0 < int(written) < 65536 else (self.kernel.listen_port if self.kernel else None) or None

    @cached_property
    def peers(self) -> list[WgPeer]:
        """Its peers, of the file and of the kernel."""
        return [*config_peers(self.text or ""), *(self.kernel.peers.values() if self.kernel else ())]

    @property
    def addresses(self) -> list[str]:
        """Its addresses, of the file and of the kernel."""
        return list(dict.fromkeys([*wgconfig.addresses_of(self.text), *(self.kernel.addresses if self.kernel else ())]))

    @cached_property
    def _behind(self) -> dict[str, list[str]]:
        networks: dict[str, list[str]] = {}
        for peer in self.peers:
            networks.setdefault(peer.public_key, []).extend(peer.allowed_ips)
        return networks

    def behind(self, key: str | None) -> list[str]:
        """Return the networks that it lets in from one peer."""
        return sorted_networks(self._behind.get(key or "", ()))


def look(host: Host, name: str, kernel: Interface | None) -> Found:
    """Read a devices' interface."""
    return Found(name, host.read(wgconfig.config_path(name)), kernel)


def kept_path(folder: str, name: str) -> str:
    """Return where the file of an older interface is kept as it was. folder: with the records."""
    return f"{folder}/adopted-{name}.conf"


def look_kept(host: Host, folder: str, name: str) -> Found:
    """Read what an older interface was before the cell had it. folder: with the records."""
    return Found(name, host.read(kept_path(folder, name)), None)


def foreign_keys(state: State, found: Found) -> list[str]:
    """Return the peers on the devices' interface that are neither devices nor links."""
    return list(dict.fromkeys(peer.public_key for peer in _foreign(state, state, found)))


def check_owner(host: Host, found: Found, own_key: str | None, links: Collection[str | None] = ()) -> None:
    """Refuse to take over an interface that somebody else keeps, or that is the way into somebody else's VPN.

    own_key: the cell's private key. links: the keys of cells that the records know, as those of an older version do, which had its exits here.
    """
    manager = _manager(host, found.name)
    if manager:
        raise BadInput(f"{manager} manages interface {found.name!r}, and two programs would change it from then on. {_REMEDY}")
    if found.text is None and found.kernel is None:
        return
    if found.text is None:
        raise BadInput(
            f"Interface {found.name!r} exists, but its file {wgconfig.config_path(found.name)} does not: other software made the interface and will "
            "make it again. "
            f"{_REMEDY} Or let wg-quick manage it: if it had a file, write that with 'wg-quick save {found.name}', and stop the other software."
        )
    path = wgconfig.config_path(found.name)
    check_file(path, found.text)
    if found.key is None and (found.config.of(wgconfig.PEER) or any(map(found.config.get, _HOOKS))):
        raise BadInput(
            f"{path} has no PrivateKey, so something else sets it, and a new one would cut off everybody who knows the old one. Start the interface "
            f"('wg-quick up {found.name}'), so that its key can be seen, or write it into the file."
        )
    if found.kernel and found.kernel.private_key and found.key and not _same(found.kernel.private_key, found.key):
        raise BadInput(
            f"Interface {found.name!r} and its file {wgconfig.config_path(found.name)} have different private keys, so one of them is somebody "
            f"else's. {_REMEDY}"
        )
    if own_key and found.key and not _same(own_key, found.key):
        raise BadInput(f"Interface {found.name!r} already exists with another key than this cell's, and its devices would lose their server's key. {_REMEDY}")
    for peer in config_peers(found.text):
        if peer.endpoint and peer.public_key not in links and _leads_away(found, peer):
            raise BadInput(
                f"Interface {found.name!r} leads into somebody else's VPN: its peer {peer.public_key} at {peer.endpoint} gets "
                f"{', '.join(peer.allowed_ips)}. The cell would take over its key, and that connection would end. {_REMEDY}"
            )


def check_others(state: State, before: State, found: Found) -> None:
    """Refuse a link or a device that would take something from somebody else on the devices' interface.

    Only the cell's own networks and devices, and the cells linked there, are ours on it.
    before: the records as they are.
    """
    own = [*state.cell.own_networks(), *before.cell.own_networks()]
    addresses = [address for address in found.addresses if address not in (*state.cell.networks, *before.cell.networks)]
    taken = {f"interface {found.name} of this host": _outside(addresses, own)}
    foreign = _foreign(state, before, found)
    for peer in foreign:
        taken.setdefault(f"the peer {peer.public_key} of interface {found.name}", []).extend(_outside(peer.allowed_ips, own))
    # What stands already was there first, and restore has to bring it back.
    new = {name: link for name, link in sorted(state.links.items()) if name not in before.links or before.links[name].networks != link.networks}
    sentences = conflicts({f"link {name!r}": link.networks for name, link in new.items()}, taken)
    if sentences:
        raise BadInput("; ".join(f"The {sentence}" for sentence in sentences) + ". Nothing was changed. Give one of them another network.")
    others = Overlaps()
    for peer in foreign:
        for network in peer.allowed_ips:
            if not _is_wide(network):
                others.add(interface_of(network).network, peer)
    for name, device in sorted(state.peers.items()):
        if device.public_key:
            _check_device(name, [*device.addresses, *device.networks], found.behind(device.public_key), others, found.name)


def _check_device(name: str, wanted: Iterable[str], has: Collection[str], others: Overlaps, interface: str) -> None:
    for address in wanted:
        network = interface_of(address).network
        holder = next((peer for _network, peer in others.of(network)), None)
        if holder and str(network) not in has:
            raise BadInput(
                f"Address {address} of peer {name!r} already belongs to the peer {holder.public_key} of interface {interface!r} "
                f"({', '.join(holder.allowed_ips)}), which is not a peer of this cell. Give one of them another address, or remove that peer first."
            )


def kept_networks(state: State, before: State, found: Found, name: str) -> list[str]:
    """Return the networks behind a device that is new to the records, as its interface has them; its own addresses are for the inventory to say."""
    device = state.peers[name]
    if name in before.peers:
        return device.networks
    behind = _outside(found.behind(device.public_key), state.cell.own_networks())
    wide = [network for network in found.behind(device.public_key) if _is_wide(network)]
    if wide:
        raise BadInput(
            f"WgPeer {name!r} has {wide[0]} on interface {found.name!r}, which cannot be a network behind a device. "
            "Set networks to those behind it (an empty list for none)."
        )
    return behind


def _foreign(state: State, before: State, found: Found) -> list[WgPeer]:
    ours = {*state.device_keys(), *before.device_keys(), *before.leaving.devices, *(tunnel.key for tunnel in before.leaving.links)}
    ours |= {link.public_key or "" for records in (state, before) for link in records.links.values()}
    return [peer for peer in found.peers if peer.public_key not in ours]


def _outside(networks: Iterable[str], own: Iterable[str]) -> list[str]:
    """Return those networks that are not within the cell's own; one that anybody has for everything is none."""
    inside = [interface_of(network).network for network in own]
    found = [interface_of(network).network for network in networks]
    return [
        str(network)
        for network in dict.fromkeys(found)
        if not _is_wide(str(network)) and not any(network.version == mine.version and network.subnet_of(mine) for mine in inside)  # type: ignore[arg-type]
    ]


def _is_wide(network: str) -> bool:
    found = interface_of(network).network
    return found.prefixlen <= WIDEST_DEFAULT_LIKE[found.version]


def _leads_away(found: Found, peer: WgPeer) -> bool:
    """Tell whether a peer is the other end of a client's tunnel: everything goes there, or it is the only one of an interface that is in no network."""
    alone = len({other.public_key for other in found.peers}) == 1
    addresses = [interface_of(address).network for address in wgconfig.addresses_of(found.text)]
    return any(map(_is_wide, peer.allowed_ips)) or (alone and bool(addresses) and all(network.num_addresses == 1 for network in addresses))


def _same(one: str, two: str) -> bool:
    try:
        return clamped(one) == clamped(two)
    except (binascii.Error, ValueError, IndexError):
        return one == two


def _manager(host: Host, name: str) -> str | None:
    """Return what other software keeps an interface of this name, and where."""
    places = [
        (manager, f"{folder}/{file}", signs)
        for manager, folders, end, signs in _MANAGERS
        for folder in folders
        for file in host.list(folder)
        if file.endswith(end)
    ]
    places.append(("ifupdown", "/etc/network/interfaces", _MANAGERS[-1][3]))
    places += [("wicked", path, ()) for path in [f"/etc/sysconfig/network/ifcfg-{name}"] if host.exists(path)]
    for manager, path, signs in places:
        text = ""
        with contextlib.suppress(OSError):  # a folder, for one
            text = host.read(path) or ""
        if all(re.search(sign.replace("{name}", re.escape(name)), text, re.MULTILINE) for sign in signs):
            return f"netplan ({path})" if "-netplan-" in path else f"{manager} ({path})"
    return None
