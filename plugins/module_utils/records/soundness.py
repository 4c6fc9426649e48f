# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge what records say before anything is made of it: a file is as likely to be damaged, or forged, as an argument. Pure.

Each value is judged as it would be in an argument. A record that fails is none, and so is its whole file: what is allowed in
the rest of it may be forged too. Raises ValueError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..base import destinations, expectations, names, targets, wgkeys
from ..base.errors import BadInput
from ..base.networks import address_of, check_api_url, host_port, interface_of, network_of
from ..base.rates import check_rate
from ..base.times import check_moment
from .codec import load_cell, load_leaving, load_links, load_peers
from .model import LAST, Cell, Link, Peer
from .tombstones import Leaving

Loaded = TypeVar("Loaded")

LARGEST = 16 * 1024 * 1024  # characters; 10,000 devices take 2 million
_PORTS = range(1, 65536)
_TABLES = range(1, 2**32)
_LIMITS = range(1, 86401)
_HEARD = re.compile(r"[0-9]{1,16} [0-9a-f]{16}")


def read(text: str, load: Callable[[Any], Loaded]) -> Loaded:
    """Read one file of the records. Raises ValueError for whatever is none."""
    if len(text) > LARGEST:
        raise ValueError(f"larger than {LARGEST} characters")
    try:
        return load(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (TypeError, KeyError, AttributeError, BadInput) as error:
        raise ValueError(str(error)) from None


def cell(data: Any) -> Cell:
    """Read and judge the cell's own record."""
    found = load_cell(data)
    if found.name:
        names.check_name("Cell", found.name)
    _all(interface_of, found.networks)
    _all(network_of, found.admin_networks)
    _all(address_of, [*found.exit_dns, *found.resolver])
    _all(targets.parse, found.exit_probes)
    _all(targets.parse_url, found.whoami)
    _all(expectations.parse, found.expect)
    names.check_interface(found.interface)
    if found.uplink is not None:
        names.check_interface(found.uplink)
    if found.endpoint:
        wgkeys.check_endpoint("endpoint", host_port(found.endpoint, 1))
    _within(_PORTS, found.listen_port, found.link_port_base, found.sync_port)
    _within(_LIMITS, found.exit_failures, found.exit_hold, found.exit_switches, found.exit_hold_limit)
    for service in found.services.values():
        names.check_name("Service", service.name)
        _all(address_of, service.addresses)
        _within(_PORTS, service.port)
        if service.protocol not in ("tcp", "udp"):
            raise ValueError(f"protocol {service.protocol!r}")
    for entry in found.retired:
        address, port = entry.split()
        address_of(address)
        _within(_PORTS, int(port))
    return found


def links(data: Any) -> dict[str, Link]:
    """Read and judge the links' records."""
    found = load_links(data)
    for link in found.values():
        names.check_name("Cell", link.name)
        _key(link.public_key)
        _all(interface_of, [*link.networks, *link.asked_networks])
        _all(network_of, link.accept_networks)
        _all(address_of, [*link.address, *link.remote_resolvers, *link.given_addresses, *link.given_resolvers, *link.known_as, *link.asked_address])
        own = {address_of(address).version for address in link.given_addresses}
        if link.provided and (link.networks or link.address or link.interface != names.link_interface(link.name) or len(own) < len(link.given_addresses)):
            raise ValueError(f"{link.name} is a provider and a cell at once")
        if link.endpoint is not None:
            wgkeys.check_endpoint("endpoint", link.endpoint)
        if link.interface is not None:
            names.check_interface(link.interface)
        _within(_PORTS, *(port for port in (link.listen_port, link.forwarded) if port is not None))
        _within(range(65536), *(value for value in (link.keepalive, link.mtu) if value is not None))
        _within(_TABLES, *(table for table in (link.exit_table,) if table is not None))
        for moment in filter(None, (link.exit_offered_until, link.invited_until)):
            check_moment(moment)
        if link.moved is not None:
            wgkeys.check_endpoint("moved", link.moved)
        if link.told < 0 or not all(_HEARD.fullmatch(count) for count in link.heard.values()):
            raise ValueError(f"an announcement of {link.name} that no cell makes")
        for claim in (link.judged_claim, link.refused_claim, link.judged_place):
            if len(claim) not in (0, 2):
                raise ValueError(f"a claim of {link.name} has {len(claim)} entries")
        if link.exit_offered_rate is not None:
            check_rate(link.exit_offered_rate)
        if link.generation < 0 or link.remote_generation < 0:
            raise ValueError("a generation below 0")
        # Whoever let it come beyond must not end the link for ever: from there it is counted anew.
        link.generation, link.remote_generation, link.told = min(link.generation, LAST), min(link.remote_generation, LAST), min(link.told, LAST)
        for service in (name for side in link.permissions.values() for name in side):
            names.check_name("Service", service)
        try:
            link.remote_api_url = link.remote_api_url and check_api_url("api_url", link.remote_api_url)
        except BadInput:
            link.remote_api_url = None  # earlier versions took any; it follows from the address again
    return found


def peers(data: Any) -> dict[str, Peer]:
    """Read and judge the registry of devices."""
    found = load_peers(data)
    for peer in found.values():
        names.check_name("Peer", peer.name)
        _key(peer.public_key)
        _all(address_of, peer.addresses)
        if peer.route_via:
            names.check_exits("Cell", peer.route_via)
        if peer.exit_dns not in ([names.EXIT], [names.OWN]):
            _all(address_of, peer.exit_dns)
        peer.route_except = destinations.read(destinations.listed(peer.route_except), f"route_except of peer {peer.name!r}")
    return found


def leaving(data: Any) -> Leaving:
    """Read and judge the note of what has to go."""
    found = load_leaving(data)
    for key in found.devices:
        _key(key)
    for tunnel in found.links:
        names.check_interface(tunnel.interface)
        _key(tunnel.key)
    for name in found.exits:
        names.check_name("Cell", name)
    for flows in found.flows:
        _all(interface_of, filter(None, (flows.source, flows.target, flows.asker, flows.asked)))
        if flows.protocol not in ("", "tcp", "udp"):
            raise ValueError(f"protocol {flows.protocol!r}")
        if flows.port:
            _within(_PORTS, int(flows.port))
    return found


def _key(key: str | None) -> None:
    if key is not None and key != wgkeys.GENERATED:
        wgkeys.check_public_key("public_key", key)


def _all(judge: Callable[[str], object], values: Iterable[str]) -> None:
    for value in values:
        judge(value)


def _within(allowed: range, *values: int) -> None:
    for value in values:
        if value not in allowed:
            raise ValueError(f"{value} is out of range")
