# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WireGuard file that a provider of internet access gives its customer: what of it is used, and what is refused. Pure.

It is a text from outside with a secret in it, so no refusal shows more of a value than is known to be none. None of its commands is ever run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.errors import BadInput
from ..base.networks import EVERYWHERE, FAMILIES, LEAST_MTU, Address, address_of, interface_of, is_everything, of_family
from ..base.wgkeys import NO_KEY, check_endpoint, check_preshared_key, check_public_key, is_key
from .wgconfig import INTERFACE, PEER, Section, fault, listed, networks_of, parse, setting

LARGEST = 64 * 1024  # characters
_HOOKS = ("preup", "postup", "predown", "postdown")


@dataclass(frozen=True)
class Provided:
    """What a provider's file says: who the customer is in the tunnel, with which key, and where the tunnel leads."""

    private_key: str = field(repr=False)
    addresses: list[str]  # without prefix, at most one of each family; a family is missing where not everything of it may go through the tunnel
    public_key: str
    endpoint: str
    preshared_key: str | None = field(default=None, repr=False)
    keepalive: int | None = None
    mtu: int | None = None
    resolvers: list[str] = field(default_factory=list)


def read(text: object, what: str) -> Provided:
    """Read a provider's file. what: names it in a sentence. Raises BadInput, without any key in the text.

    Table, FwMark, ListenPort and SaveConfig are left unused: which traffic goes there, and how, is for the cell to say.
    """
    if not isinstance(text, str) or len(text) > LARGEST:
        raise BadInput(f"{what}: it is not the text of a WireGuard file. Give the file of the provider as it is.")
    lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    for number, line in enumerate(lines, 1):
        name, _value = setting(line)
        if name in _HOOKS:
            command = line.partition("=")[0].strip()
            raise BadInput(f"{what}: line {number} ({command}) is a command, and no command of a provider's file is ever run. Remove the line.")
    plain = "\n".join(lines)
    config, found = parse(plain), fault(plain)
    if found:
        raise BadInput(f"{what}: {found}. Give the file of the provider as it is.")
    interface, peer = (_only(config.of(kind), kind, what) for kind in (INTERFACE, PEER))
    private = interface.get("privatekey") or ""
    if not is_key(private) or private == NO_KEY:
        raise BadInput(f"{what}: its PrivateKey is missing, or not a WireGuard key (32 bytes in base64, 44 characters). Give the file with the key in it.")
    preshared = peer.get("presharedkey")
    addresses = _addresses(interface, peer, what)
    return Provided(
        private_key=private,
        addresses=addresses,
        public_key=_judged(f"{what}: its PublicKey is not a WireGuard key. Correct it.", check_public_key, peer.get("publickey")),
        endpoint=_judged(f"{what}: its Endpoint is missing, or not host:port (IPv6 in brackets). Correct it.", check_endpoint, peer.get("endpoint")),
        preshared_key=check_preshared_key(what, preshared) if preshared and preshared != NO_KEY else None,
        keepalive=_number(f"{what}: PersistentKeepalive", peer.get("persistentkeepalive"), 0, 65535, "seconds"),
        mtu=_number(f"{what}: MTU", interface.get("mtu"), max(LEAST_MTU[interface_of(address).version] for address in addresses), 65535, "bytes"),
        resolvers=_first_of_each_family(_addresses_among(listed(interface.all("dns")))),
    )


def render(given: Mapping[str, Any]) -> str:
    """Return a file that says what the fields of a Provided say (inverse of read). A field that holds more than one value of a line is for read to refuse.

    A module is given the fields and not the file: Ansible writes the arguments of modules to the journal, and blots out in them a secret of one line only.
    """
    interface = {"PrivateKey": given.get("private_key"), "MTU": given.get("mtu")}
    peer = {"PresharedKey": given.get("preshared_key"), "Endpoint": given.get("endpoint"), "PersistentKeepalive": given.get("keepalive")}
    lines = [f"{key} = {', '.join(given.get(name) or ())}" for key, name in (("Address", "addresses"), ("DNS", "resolvers")) if given.get(name)]
    lines = ["[Interface]", *lines, *(f"{key} = {value}" for key, value in interface.items() if value is not None)]
    lines += ["[Peer]", f"PublicKey = {given.get('public_key')}", f"AllowedIPs = {', '.join(EVERYWHERE)}"]
    lines += [f"{key} = {value}" for key, value in peer.items() if value is not None]
    return "".join(f"{line}\n" for line in lines)


def _judged(refusal: str, check: Callable[[str, object], str], value: str | None) -> str:
    """Return a value that is right. Of one that is not nothing is shown: a key can stand in the wrong line."""
    try:
        return check("", value)
    except BadInput:
        raise BadInput(refusal) from None


def _only(sections: list[Section], kind: str, what: str) -> Section:
    if len(sections) != 1:
        raise BadInput(f"{what}: it has {len(sections) or 'no'} [{kind.capitalize()}] section{'s' if len(sections) > 1 else ''}. Give a file with exactly one.")
    return sections[0]


def _addresses(interface: Section, peer: Section, what: str) -> list[str]:
    """Return the customer's addresses in those families of which everything may go through the tunnel."""
    addresses = []
    for text in listed(interface.all("address")):
        try:
            address = interface_of(text).ip
        except ValueError:
            raise BadInput(f"{what}: one of its addresses (Address) is not an IP address. Correct it.") from None
        if _is_no_host(address):
            raise BadInput(f"{what}: the Address {address} cannot be the address of a host in a tunnel. Correct it.")
        addresses.append(str(address))
    wide = [family for family in FAMILIES if is_everything(of_family(family, networks_of(peer.all("allowedips"))))]
    used = _first_of_each_family(address for family in wide for address in of_family(family, addresses))
    if not used:
        raise BadInput(
            f"{what}: it lets not everything through the tunnel, or has no Address for it, so it cannot be an exit. "
            f"Give a file with AllowedIPs = {', '.join(EVERYWHERE)}, or one of these, and an Address of the same family."
        )
    return used


def _is_no_host(address: Address) -> bool:
    return address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified


def _addresses_among(texts: Iterable[str]) -> list[str]:
    """Return the addresses among the values of DNS; the others are search domains, which are nobody's on a cell."""
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            address = address_of(text)
            found += [] if _is_no_host(address) else [str(address)]
    return found


def _first_of_each_family(addresses: Iterable[str]) -> list[str]:
    texts = list(addresses)
    return [found[0] for found in (of_family(family, texts) for family in FAMILIES) if found]


def _number(what: str, text: str | None, least: int, most: int, unit: str) -> int | None:
    if text is None or text.lower() == "off":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and least <= int(text) <= most):
        raise BadInput(f"{what} is not a number from {least} to {most} ({unit}). Correct it.")
    return int(text)
