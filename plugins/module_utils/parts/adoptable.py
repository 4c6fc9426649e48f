# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices as files of other tools describe them, and what an inventory states of them so that a run changes none. Pure.

No private and no preshared key is looked at. What is not understood is said with its place, and never with a value that could be a key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.errors import BadInput
from ..base.names import RESERVED
from ..base.networks import WIDEST_DEFAULT_LIKE, Network, interface_of, network_of, parse_interface
from ..base.wgkeys import check_public_key
from ..kernel.wgconfig import INTERFACE, PEER, Config, addresses_of, fault, networks_of, parse, setting
from ..kernel.wglabels import as_name, commented_out, endpoint_of, labelled
from ..records.model import Peer

_NAME_LENGTH = 32
_NEITHER = re.compile(r"[^a-z0-9]+")
# What YAML, of one version or another, reads as something else than a text.
_MISREAD = re.compile(r"[0-9-]+(e-?[0-9]+)?|0[box][0-9a-f]+|y|yes|n|no|on|off|true|false|null")
_SHOWN = 20  # lines, or peers
_LABEL_SHOWN = 60  # characters

_COMMAND = "a command, which stays as it is; what it does is not looked at"
_STAYS = "stays as it is"
_SECRET = "stays in the file, and is not read"
_KEPT = {
    INTERFACE: {
        **dict.fromkeys(("preup", "postup", "predown", "postdown"), _COMMAND),
        **dict.fromkeys(("dns", "mtu", "fwmark", "table", "saveconfig"), _STAYS),
    },
    PEER: {"presharedkey": _SECRET, **dict.fromkeys(("endpoint", "persistentkeepalive"), _STAYS)},
}
# as the manuals write them
_WRITTEN = {
    name.lower(): name
    for name in (
        *("PreUp", "PostUp", "PreDown", "PostDown", "DNS", "MTU", "FwMark", "Table", "SaveConfig"),
        *("PresharedKey", "Endpoint", "PersistentKeepalive"),
    )
}


@dataclass(frozen=True)
class Candidate:
    """Somebody who may be a device. where: names the place. label: what it is called there, empty for nothing. known: what the registry of a PIC has."""

    where: str
    key: str
    label: str
    networks: Sequence[str]
    known: Peer | None = None


@dataclass
class Described:
    """What is found on a cell: the variables of an inventory, candidates for its devices, and what was not understood."""

    variables: dict[str, Any] = field(default_factory=dict)
    candidates: dict[str, Candidate] = field(default_factory=dict)  # by key
    notes: list[str] = field(default_factory=list)


def read_config(path: str, text: str) -> Described:
    """Return what a file of wg-quick says of an interface and its peers."""
    found, config = Described(), parse(text)
    found.notes += _kept(path, config)
    wrong = fault(text)
    if wrong:
        found.notes.append(f"{path}: {wrong}, so wg-quick does not start the interface, and site refuses it. Correct it.")
    found.variables.update(cell_networks=own_networks(path, addresses_of(text), found.notes), cell_endpoint=endpoint_of(config))
    for line, label in commented_out(config):
        found.notes.append(f"{path} line {line}: a peer{_called(label)} is commented out, and is left out.")
    for peer in labelled(config):
        where, key = f"{path} line {peer.line}", peer.section.get("publickey") or ""
        before = found.candidates.get(key)
        if before:
            found.notes.append(f"{where}: the peer of {before.where} stands here again; its AllowedIPs of here count.")
        found.candidates[key] = Candidate(where, key, (before.label if before else "") or peer.label, networks_of(peer.section.all("allowedips")))
    return found


def own_networks(path: str, addresses: Iterable[str], notes: list[str]) -> list[str]:
    """Return the addresses that can be a cell's own; notes gets the others."""
    found = []
    for address in addresses:
        try:
            parse_interface(address, path)
        except BadInput as error:
            notes.append(str(error))
        else:
            found.append(address)
    return found


def is_wg_easy(data: Any) -> bool:
    """Tell whether data is what wg-easy, up to its version 14, keeps of its clients."""
    return isinstance(data, Mapping) and isinstance(data.get("clients"), (Mapping, list))


def read_wg_easy(path: str, data: Mapping[str, Any]) -> Described:
    """Return what wg-easy's wg0.json says. It holds no prefix: wg-easy has /24 for IPv4, and /64 for IPv6 where there is any."""
    found = Described()
    server = data.get("server")
    server = server if isinstance(server, Mapping) else {}
    own = [f"{address}{'' if '/' in address else prefix}" for address, prefix in _addresses(server, "/24", "/64")]
    found.variables["cell_networks"] = own_networks(path, own, found.notes)
    clients = data["clients"]
    for number, client in enumerate(clients.values() if isinstance(clients, Mapping) else clients, 1):
        where = f"{path} client {number}"
        if not isinstance(client, Mapping) or not isinstance(client.get("publicKey"), str):
            found.notes.append(f"{where}: has no publicKey, and is left out.")
            continue
        label = as_name(client["name"]) if isinstance(client.get("name"), str) else ""
        if client.get("enabled", True) is not True:
            found.notes.append(f"{where}: a client{_called(label)} is disabled, and is left out.")
            continue
        networks = [address.partition("/")[0] + prefix for address, prefix in _addresses(client, "/32", "/128")]
        found.candidates[client["publicKey"]] = Candidate(where, client["publicKey"], label, [n for n in networks if _is_network(n)])
    return found


def read_peers(path: str, peers: Mapping[str, Peer]) -> Described:
    """Return what the registry of a PIC says."""
    found = Described()
    for name, peer in peers.items():
        where = f"{path} peer {quoted(as_name(name))}"
        if peer.public_key is None:
            found.notes.append(f"{where}: has no public key, and is left out.")
            continue
        networks = [n for address in peer.addresses for n in [address if "/" in address else f"{address}{'/128' if ':' in address else '/32'}"]]
        found.candidates[peer.public_key] = Candidate(where, peer.public_key, as_name(name), [n for n in networks if _is_network(n)], peer)
    return found


def merged(config: Described | None, *others: Described) -> Described:
    """Return all that was found. What the interface's own file lets in counts; others, the better ones last, say what it is called.

    config: of the interface's own file, None where there is none. Only then others say who is a device.
    """
    whole = Described(dict(config.variables), dict(config.candidates), list(config.notes)) if config else Described()
    for other in others:
        whole.notes += other.notes
        whole.variables = {**other.variables, **{name: value for name, value in whole.variables.items() if value}}
        for key, candidate in other.candidates.items():
            known = whole.candidates.get(key)
            if known:
                whole.candidates[key] = replace(known, label=candidate.label or known.label, known=candidate.known or known.known)
            elif config and not candidate.known:
                whole.notes.append(f"{candidate.where}: {quoted(candidate.label)} is no peer of the interface, and is left out.")
            else:
                whole.candidates[key] = candidate
    return whole


def devices(found: Described, others: Collection[str]) -> list[dict[str, Any]]:
    """Return the devices as an inventory states them; found gets what cannot be stated. others: the keys of who is none: links, and the cell itself."""
    own = [interface_of(network).network for network in found.variables.get("cell_networks", ())]
    fit: dict[str, _Sorted] = {}
    holders: dict[str, Candidate] = {}
    for key, candidate in found.candidates.items():
        if key in others:
            continue
        networks = _sorted(candidate.networks, own)
        why = _why_none(candidate, networks)
        if why:
            found.notes.append(f"{candidate.where}: {why}. It stays the peer that it is, and is left out.")
            continue
        for address in networks.addresses:
            before = holders.get(address)
            if before and fit.pop(before.key, None):
                found.notes.append(f"{before.where}: its address {address} is that of {candidate.where} too, which comes later and has it. It is left out.")
            holders[address] = candidate
        fit[key] = networks
    items: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for key, networks in fit.items():
        candidate = found.candidates[key]
        name = _unique(_name(candidate.label, networks.addresses[0]), items, counts)
        if name != candidate.label:
            found.notes.append(f"{candidate.where}: {quoted(candidate.label) if candidate.label else 'what no comment names'} is called {name}.")
        items[name] = {"name": name, "public_key": key, "addresses": networks.addresses}
        if networks.behind:
            items[name]["networks"] = networks.behind
            found.notes.append(f"{candidate.where}: {', '.join(networks.behind)} is behind the device {name}, and stays so (networks).")
    return list(items.values())


@dataclass
class _Sorted:
    """What is let in from a peer: addresses of the device itself, networks behind it, and what is neither."""

    addresses: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)


def _sorted(networks: Iterable[str], own: Collection[Network]) -> _Sorted:
    found = _Sorted()
    for network in map(network_of, dict.fromkeys(networks)):
        mine = any(network.version == one.version and network.overlaps(one) for one in own)
        if mine and network.num_addresses == 1:
            found.addresses.append(str(network.network_address))
        elif mine or network.prefixlen <= WIDEST_DEFAULT_LIKE[network.version]:
            found.unfit.append(str(network))
        else:
            found.behind.append(str(network))
    return found


def some(items: Sequence[object]) -> str:
    """Return items as a person reads them, the first of many."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{', '.join(map(str, items[:_SHOWN]))}{more}"


def quoted(label: str) -> str:
    """Return what something is called, in quotes and not too long."""
    return repr(f"{label[:_LABEL_SHOWN]}…" if len(label) > _LABEL_SHOWN else label)


def _why_none(candidate: Candidate, networks: _Sorted) -> str:
    """Return why somebody cannot be stated as a device without a change, empty where that can be."""
    try:
        check_public_key("", candidate.key)
    except BadInput:
        return "the public key is none that a device can have"
    if networks.unfit:
        return f"{', '.join(networks.unfit)} in AllowedIPs is neither an address of one device nor a network behind it"
    return "" if networks.addresses else "it has no address in a network of the interface, as the other end of a link between two sites has none"


def _name(label: str, address: str) -> str:
    """Return a valid name for what is called so, or has that address."""
    plain = unicodedata.normalize("NFKD", label[: 4 * _NAME_LENGTH]).encode("ascii", "ignore").decode().lower()
    name = _NEITHER.sub("-", plain).strip("-")[:_NAME_LENGTH].strip("-")
    if not name:
        name = f"device-{_NEITHER.sub('-', address).strip('-')}"
    elif _MISREAD.fullmatch(name) or name in RESERVED:
        name = f"device-{name}"
    return name[:_NAME_LENGTH].strip("-")


def _unique(name: str, taken: Collection[str], counts: dict[str, int]) -> str:
    """Return a name that is not taken. counts: how often each was wanted."""
    unique = name
    while unique in taken:
        counts[name] = counts.get(name, 1) + 1
        end = f"-{counts[name]}"
        unique = f"{name[: _NAME_LENGTH - len(end)].strip('-')}{end}"
    return unique


def _kept(path: str, config: Config) -> list[str]:
    """Say which settings of a file are in no inventory, and where they are."""
    lines: dict[tuple[str, str], list[int]] = {}
    number = 0
    for section in config.sections:
        number += len(section.lead)
        for line in section.lines:
            number += 1
            name, value = setting(line)
            reason = _KEPT.get(section.header, {}).get(name)
            if reason and value:
                lines.setdefault((_WRITTEN[name], reason), []).append(number)
    return [f"{path} {_numbers(found)}: {name} {'is ' if reason == _COMMAND else ''}{reason}." for (name, reason), found in lines.items()]


def _numbers(lines: Sequence[int]) -> str:
    return f"{'lines' if len(lines) > 1 else 'line'} {some(lines)}"


def _addresses(item: Mapping[str, Any], four: str, six: str) -> list[tuple[str, str]]:
    """Return the addresses of wg-easy's server or of a client, each with the prefix that it has there."""
    found = [item.get(name) for name in ("address", "address4", "addressV6", "address6")]
    return [(address, six if ":" in address else four) for address in found if isinstance(address, str) and address]


def _is_network(text: str) -> bool:
    try:
        network_of(text)
    except ValueError:
        return False
    return True


def _called(label: str) -> str:
    return f" called {quoted(label)}" if label else ""
