# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and networks: reading them strictly, telling families apart, finding overlaps."""

from __future__ import annotations

import bisect
import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Union

from .errors import BadInput

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

_BLANK = " \t\r\n"
_API_URL = re.compile(r"http://(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?(?:/[A-Za-z0-9_./-]*)?")

FAMILIES = (4, 6)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}  # by family: the kernel's setting
LEAST_MTU = {4: 576, 6: 1280}  # bytes that every host has to take (RFC 791, RFC 8200)
EVERYWHERE = ("0.0.0.0/0", "::/0")  # an exit's AllowedIPs

# Never ipaddress.is_private: it counts the documentation ranges, and misses others that no exit should forward.
PRIVATE = {
    4: tuple(
        ipaddress.ip_network(n)
        for n in (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/3",
        )
    ),
    6: tuple(ipaddress.ip_network(n) for n in ("::/8", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8")),
}

# Where a routed peer's packets may go without its exit: networks that can be a LAN, a docker bridge or a linked cell.
HOME = {
    4: tuple(ipaddress.ip_network(n) for n in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")),
    6: tuple(ipaddress.ip_network(n) for n in ("fc00::/7", "fe80::/10")),
}

# What a linked cell's networks may be unless its link says otherwise, and how wide: whatever is in them goes into the tunnel, the cell's own traffic too.
_OF_CELLS = {4: tuple(n for n in HOME[4]), 6: (ipaddress.ip_network("fc00::/7"),)}
_WIDEST = {4: 8, 6: 32}
# What is never another host's: this host, one interface, several hosts, or nobody.
_NEVER = {
    4: tuple(ipaddress.ip_network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    6: tuple(ipaddress.ip_network(n) for n in ("::/8", "fe80::/10", "ff00::/8")),
}

# Other VPNs install 0.0.0.0/1 + 128.0.0.0/1 or 2000::/3 in main: a route as wide as that is no network of the host.
WIDEST_DEFAULT_LIKE = {4: 7, 6: 6}

_kept = functools.lru_cache(maxsize=1 << 14)  # the same are read again and again, and ipaddress is slow; a cell with 1,000 links has some 8,000


@_kept
def interface_of(text: str) -> Interface:
    """Read an address with or without prefix. Raises ValueError."""
    return ipaddress.ip_interface(_without_zone(text))


@_kept
def address_of(text: str) -> Address:
    """Read an address. Raises ValueError."""
    return ipaddress.ip_address(_without_zone(text))


def address_from(data: bytes) -> Address:
    """Read an address as the kernel has it."""
    return ipaddress.ip_address(data)


@_kept
def network_of(text: str) -> Network:
    """Read a network without host bits, or an address as a network of its own. Raises ValueError."""
    return ipaddress.ip_network(_without_zone(text))


def _without_zone(text: str) -> str:
    """Refuse a zone: ipaddress takes any character there, newlines too, and gives it back as it was."""
    if "%" in text or not text.isascii():
        raise ValueError("an address with a zone, or of characters beyond ASCII")
    return text


def host_port(host: object, port: object) -> str:
    """Return host:port as endpoints and URLs have it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def host_of(endpoint: str) -> str:
    """Return the name or address of host:port (inverse of host_port)."""
    return endpoint.rpartition(":")[0].strip("[]")


def is_host(text: str) -> bool:
    """Tell whether a text is an address, or a name that may be asked for; a name whose last label is a number is an address that is mistaken."""
    try:
        address_of(text)
    except ValueError:
        return len(text) < 254 and re.fullmatch(rf"({_LABEL}\.)*(?![0-9]+\.?$){_LABEL}\.?", text, re.ASCII) is not None
    return True


def check_host(value: object, what: str) -> str:
    """Return the name or address that others dial, without a port; raise BadInput that says what to write instead."""
    text = str(value)
    if isinstance(value, str) and is_host(text):
        return text
    bare = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://|/.*", "", text)
    bracketed = re.fullmatch(r"\[(?P<host>[^\]]*)\](:[0-9]*)?", bare)
    host = bracketed["host"] if bracketed else re.sub(r":[0-9]*$", "", bare) if bare.count(":") == 1 else bare
    remedy = f"Give {host}; each link has a port of its own" if is_host(host) else "Give one like a.example.net, 203.0.113.11 or 2001:db8::1, without a port"
    raise BadInput(f"{what}: {text!r} is not a plain host name or address. {remedy}.")


def parse_address(value: object, what: str) -> Address:
    """Read one address, e.g. 10.0.0.2; raise BadInput naming what it was for."""
    try:
        return address_of(str(value).strip(_BLANK))
    except ValueError:
        raise BadInput(f"{what}: {value!r} is not an IP address. Give one like 10.0.0.2 or fd00:a::2.") from None


def parse_network(value: object, what: str) -> Network:
    """Read one network, e.g. 10.0.1.0/24; raise BadInput for host bits, for /0 and for what is no network."""
    try:
        interface = interface_of(str(value).strip(_BLANK))
        network = interface.network
    except ValueError:
        raise BadInput(f"{what}: {value!r} is not a network. Give one like 10.0.1.0/24 or fd00:b::/64.") from None
    if network.prefixlen == 0:
        raise BadInput(
            f"{what}: {value!r} is the whole internet, not the network of a cell. Give the cell's own networks; to use a cell as an exit, set "
            "route_via of a device."
        )
    if interface.ip != network.network_address:
        raise BadInput(f"{what}: {value!r} has host bits set. Did you mean {network}?")
    return network


def parse_interface(value: object, what: str) -> Interface:
    """Read an own address with its prefix, e.g. 10.0.0.1/24; raise BadInput for a bare address, /0 and a network address."""
    try:
        interface = interface_of(str(value).strip(_BLANK))
    except ValueError:
        raise BadInput(f"{what}: {value!r} is not an address with a prefix. Give one like 10.0.0.1/24 or fd00:a::1/64.") from None
    if "/" not in str(value) or interface.network.prefixlen == 0:
        raise BadInput(f"{what}: {value!r} lacks a usable prefix length. Give an address with its prefix, like 10.0.0.1/24.")
    if interface.ip == interface.network.network_address and interface.network.num_addresses > 2:
        raise BadInput(f"{what}: {value!r} is the network itself. Give the cell's own address in it, like {interface.ip + 1}/{interface.network.prefixlen}.")
    return interface


def check_link_networks(what: str, values: Iterable[str], public: bool = False) -> None:
    """Refuse networks that no other cell should claim: wide ones, and those of the internet unless public ones are allowed. Raises BadInput."""
    for value in values:
        network = interface_of(value).network
        if network.prefixlen < _WIDEST[network.version]:
            raise BadInput(
                f"{what}: {value!r} is wider than /{_WIDEST[network.version]}. All traffic to it would go into the tunnel. Give the cell's own networks."
            )
        if any(network.overlaps(never) for never in _NEVER[network.version]):
            raise BadInput(f"{what}: {value!r} holds addresses that are no other host's. Give the cell's own networks.")
        known = _OF_CELLS[network.version]
        if not public and not any(network.version == one.version and network.subnet_of(one) for one in known):  # type: ignore[arg-type]
            raise BadInput(
                f"{what}: {value!r} is neither private ({', '.join(map(str, _OF_CELLS[4]))}) nor a unique local network (fc00::/7), and all traffic to there "
                "would go into the tunnel. If that cell really has it, set allow_public_networks: true for the link."
            )


def check_not_managed_from(what: str, networks: Iterable[str], admin_networks: Iterable[object]) -> None:
    """Refuse networks that somebody else says to have where this cell lets in whoever manages it. Raises BadInput."""
    admins = [parse_network(value, "cell_admin_networks") for value in admin_networks]
    for value in networks:
        for admin in admins:
            if interface_of(value).network.overlaps(admin):
                raise BadInput(
                    f"{what}: {value!r} overlaps {admin}, from where this cell is managed (cell_admin_networks), so all of it would be open to the other "
                    "cell. Let the other cell give its own networks, or take that one out of cell_admin_networks."
                )


def check_api_url(what: str, value: object) -> str:
    """Return the URL of a peer-sync API: http, an address in digits, a port that is one; raise BadInput for anything else."""
    match = _API_URL.fullmatch(value) if isinstance(value, str) else None
    try:
        good = match is not None and bool(address_of(match[1] or match[2])) and 0 < int(match[3] or 80) < 65536
    except ValueError:
        good = False
    if not good:
        raise BadInput(f"{what}: {value!r} is not a URL like http://10.0.1.1:8088 or http://[fd00:b::1]:8088. Correct it, or leave it out.")
    return str(value)


def of_family(family: int, values: Iterable[str]) -> list[str]:
    """Return those addresses or networks (text) that belong to family 4 or 6, in their order."""
    return [value for value in values if (":" in value) == (family == 6)]


@_kept
def sort_key(value: str) -> tuple[int, int, int]:
    """Order addresses and networks (text) by family, address and prefix."""
    interface = interface_of(value)
    return interface.version, int(interface.ip), interface.network.prefixlen


def host_networks(addresses: Iterable[str]) -> list[str]:
    """Turn addresses into host networks: 10.0.0.2 -> 10.0.0.2/32, fd00::2 -> fd00::2/128."""
    return list(map(host_network, addresses))


@_kept
def host_network(address: str) -> str:
    """Turn one address into a host network."""
    return str(network_of(address))


def conflicts(wanted: Mapping[str, Iterable[str]], taken: Mapping[str, Iterable[str]]) -> list[str]:
    """List a sentence for each wanted network that overlaps another wanted or a taken one, both named.

    wanted and taken map what a network is for ("link cellb") to networks as text (host bits allowed).
    """
    found, known = [], Overlaps()
    for who, texts in taken.items():
        for text in texts:
            known.add(interface_of(text).network, who)
    for who, texts in wanted.items():
        mine = [interface_of(text).network for text in texts]
        for network in mine:
            found += [f"network {network} of {who} overlaps {other} of {other_who}" for other, other_who in known.of(network)]
        for network in mine:
            known.add(network, who)
    return list(dict.fromkeys(found))


class Overlaps:
    """Networks and whose they are, found by what they overlap: each is compared with those around it and within it, not with all."""

    def __init__(self) -> None:
        """Begin without networks."""
        self._known: list[tuple[Network, Any]] = []
        self._by_prefix: dict[tuple[int, int], dict[int, list[int]]] = {}
        self._starts: dict[int, list[tuple[int, int]]] = {}

    def add(self, network: Network, who: Any) -> None:
        """Take a network in."""
        number, start = len(self._known), int(network.network_address)
        self._known.append((network, who))
        self._by_prefix.setdefault((network.version, network.prefixlen), {}).setdefault(start, []).append(number)
        bisect.insort(self._starts.setdefault(network.version, []), (start, number))

    def of(self, network: Network) -> list[tuple[Network, Any]]:
        """Return the networks that overlap one, in the order in which they were taken in."""
        start, bits = int(network.network_address), network.max_prefixlen
        numbers: set[int] = set()
        for (version, prefix), starts in self._by_prefix.items():
            if version == network.version and prefix <= network.prefixlen:
                numbers.update(starts.get(start >> (bits - prefix) << (bits - prefix), ()))
        beginning = self._starts.get(network.version, [])
        within = slice(bisect.bisect_left(beginning, (start, 0)), bisect.bisect_left(beginning, (int(network.broadcast_address) + 1, 0)))
        numbers.update(number for _start, number in beginning[within])
        return [self._known[number] for number in sorted(numbers)]


def is_everything(networks: Iterable[str]) -> bool:
    """Tell whether networks of one family together are everything; two halves are, and win over a default route."""
    collapsed = list(ipaddress.collapse_addresses(interface_of(network).network for network in networks))  # type: ignore[type-var]
    return [network.prefixlen for network in collapsed] == [0]


def is_of_a_host(address: Address) -> bool:
    """Tell whether an address can be another host's: it is not of this host alone, of one interface alone, or of several hosts."""
    return not any(address in never for never in _NEVER[address.version])


def is_inside(address: str, networks: Iterable[str]) -> bool:
    """Tell whether an address is in one of these networks."""
    return any(interface_of(address).ip in interface_of(network).network for network in networks)


def is_private(network: Network) -> bool:
    """Tell whether a network lies wholly in a range that no exit forwards to."""
    return any(network.version == private.version and network.subnet_of(private) for private in PRIVATE[network.version])  # type: ignore[arg-type]


def outside(networks: Iterable[str], wider: Iterable[str]) -> list[str]:
    """Return the networks that are in none of the wider ones of their family, each once."""
    around = [network_of(network) for network in wider]

    def is_within(one: Network, other: Network) -> bool:
        return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]

    return [text for text in dict.fromkeys(networks) if not any(is_within(network_of(text), other) for other in around)]


def sorted_networks(values: Iterable[str]) -> list[str]:
    """Return networks or addresses without doubles, IPv4 first, in numeric order."""
    return sorted(set(values), key=sort_key)
