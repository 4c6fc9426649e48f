# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destinations that a device reaches another way than the rest of the internet: read, ordered and said. Pure.

They are kept as {network: way}, where a way is the name of a cell or "direct".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import BadInput
from .names import DIRECT, check_name, exits_in_words
from .networks import HOME, address_of, is_private, network_of, of_family, parse_network, sorted_networks

MOST = 64  # networks of a device: each is two policy rules per address, and every packet of the host is compared with all policy rules

Exceptions = Mapping[str, str]


def read(value: Any, what: str) -> dict[str, str]:
    """Read what is stated: a list of {to: networks, via: a cell or direct}. what: what it is of. Raises BadInput."""
    found: dict[str, str] = {}
    for item in value if isinstance(value, (list, tuple)) else [value]:
        networks = item.get("to") if isinstance(item, Mapping) and set(item) == {"to", "via"} else None
        networks = [networks] if isinstance(networks, str) else networks
        if not networks or not isinstance(networks, (list, tuple)):
            raise BadInput(f"{what}: {item!r} is not an exception. Give a list of items like {{to: [203.0.113.0/24], via: {DIRECT}}}.")
        via = item["via"] if item["via"] == DIRECT else check_name(f"{what}: via", item["via"])
        for text in networks:
            network = parse_network(text, what)
            if is_private(network) or any(network.overlaps(home) for home in HOME[network.version]):
                raise BadInput(f"{what}: {network} contains private addresses, which a device reaches without an exit. Give networks of the internet.")
            if str(network) in found:
                raise BadInput(f"{what}: {network} stands there twice. Name each network once.")
            found[str(network)] = via
    if len(found) > MOST:
        raise BadInput(f"{what}: {len(found)} networks are too many. Give {MOST} at most, or wider ones.")
    return {network: found[network] for network in sorted_networks(found)}


def listed(exceptions: Exceptions) -> list[dict[str, Any]]:
    """Return exceptions as a list of {to, via}, which read() takes."""
    return [{"to": [network], "via": via} for network, via in exceptions.items()]


def longest_first(exceptions: Exceptions, family: int) -> list[tuple[str, str]]:
    """Return the networks of one family with their ways in the order in which they decide: the longest prefix first."""
    return sorted(((network, exceptions[network]) for network in of_family(family, exceptions)), key=lambda item: -network_of(item[0]).prefixlen)


def network_of_exception(exceptions: Exceptions, address: str) -> str | None:
    """Return the network that decides about what is sent to an address; None where it is no exception."""
    parsed = address_of(address)
    return next((network for network, _via in longest_first(exceptions, parsed.version) if parsed in network_of(network)), None)


def way_of(exceptions: Exceptions, address: str) -> str | None:
    """Return the way of what is sent to an address; None where it is no exception."""
    network = network_of_exception(exceptions, address)
    return None if network is None else exceptions[network]


def ways_in_words(exits: Sequence[str], exceptions: Exceptions) -> str:
    """Return all ways of a device as a person reads them."""
    return "; ".join([exits_in_words(exits), *in_words(exceptions)])


def in_words(exceptions: Exceptions) -> list[str]:
    """Return exceptions as a person reads them, one text for each way."""
    ways = dict.fromkeys(exceptions.values())
    return [f"to {', '.join(n for n in exceptions if exceptions[n] == way)} {way if way == DIRECT else f'via {way}'}" for way in ways]
