# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One WireGuard interface with the links on it, of which that of the devices can hold several."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..base import wgkeys
from ..base.errors import BadInput
from ..base.networks import EVERYWHERE, FAMILIES, host_networks, sorted_networks
from ..kernel import mtu, wgconfig, wgquick, wireguard
from ..kernel.model import Interface, Route, WgPeer
from ..kernel.plan import Plan
from ..records.model import Cell, Link
from . import exits, former, invitations, keys, providers
from .part import Context

# Seconds. The lower one lets a linked cell hear within 30 s from where this one sends now; the other keeps the mappings of common NATs and firewalls open
# (WireGuard quick start), which is all that a provider's server is for.
_OF_A_CELL, _OF_A_PROVIDER = 10, 25


@dataclass(frozen=True)
class Known:
    """What is known of all links before one interface after the other is planned.

    given, kept: new and old preshared keys by the link's name. left: as left_keys returns it. routes: ours that the kernel has.
    """

    given: Mapping[str, str | None]
    kept: Mapping[str, str | None]
    left: Mapping[str, set[str]]
    routes: frozenset[Route]


def known(context: Context, given: Mapping[str, str | None]) -> Known:
    """Return what is known of all links. given: as in Known."""
    routes = frozenset(route for routing in context.routing().values() for route in routing.routes)
    return Known(given, context.preshared_keys(), left_keys(context), routes)


def plan_tunnels(context: Context, interface: str, links: Collection[Link], every: Known) -> Plan:
    """Plan one interface with the links on it. every: what is known of all links."""
    cell, observed = context.wanted.cell, context.observed.wireguard.get(interface)
    path = wgconfig.config_path(interface)
    text = context.host.read(path) or ""
    in_file = keys.in_text(text)
    if interface != cell.interface:  # without its preshared key the link would be weaker, and not understood
        wgquick.check_file_keys(path, text)
    addresses = device_addresses(context) if interface == cell.interface else []
    wanted = Interface(interface, context.identity.private, None, cell.listen_port, {}, addresses)
    removed = set(every.left.get(interface, ()))
    # A file that was there before the cell says itself how often.
    stays = {peer.public_key: peer.keepalive for peer in wgquick.config_peers(text)} if interface == cell.interface else {}
    for link in links:
        key = peer_key(link)
        keepalive = link.keepalive
        if keepalive is None:
            keepalive = stays.get(key) or (_OF_A_PROVIDER if link.provided else _OF_A_CELL)
        secret = _preshared_key(context, link, every.given.get(link.name), in_file.get(key), every.kept.get(link.name))
        wanted.peers[key] = WgPeer(str(link.public_key), allowed_ips(link), link.endpoint or "", keepalive, secret)
        wanted.routes += [route for route in exits.link_routes(cell, link) if route.family in context.observed.families]
        if interface != cell.interface:
            wanted.listen_port, wanted.mtu = link.listen_port, link.mtu or _fitting_mtu(context, link, text)
            # Without its last address an interface has no routes: none of the cell's being known is no reason to take it away.
            wanted.addresses = _addresses(cell, link) or (observed.addresses if observed else [])
            wanted.private_key = providers.private_key(context, link) if link.provided else wanted.private_key
            wanted.routes += exits.default_routes(cell, link) if link.exit_relay_active else []
            removed |= set(observed.peers if observed else ())
    labels = {peer_key(link): f"{link.kind} {link.name}" for link in links}
    moving = {peer_key(link) for link in links if link.announced}  # heard of before it moves: redial.follow sees when
    return wireguard.plan_interface(context.host, wanted, observed, labels, removed, context.now, every.routes, moving)


def _addresses(cell: Cell, link: Link) -> list[str]:
    """Return the addresses of a link's own interface, as networks."""
    own = [address for family in FAMILIES if cell.has_family(family) for address in link.sources(cell, family)]
    return sorted_networks(host_networks([*own, *former.of_link(cell, link)]))


def device_addresses(context: Context) -> list[str]:
    """Return the addresses of the devices' interface: the cell's, and what somebody else has put into its file."""
    cell = context.wanted.cell
    text = context.host.read(wgconfig.config_path(cell.interface))
    ours = {*cell.networks, *context.stored.cell.networks}
    return [*cell.networks, *(address for address in wgconfig.addresses_of(text) if address not in ours)]


def left_keys(context: Context) -> dict[str, set[str]]:
    """Return the keys of links that have been on an interface and are not any more, by that interface."""
    there = {(link.interface, link.public_key) for link in context.wanted.links.values()}
    devices, left = context.wanted.device_keys(), dict[str, set[str]]()
    for tunnel in context.leaving.links:
        if (tunnel.interface, tunnel.key) not in there and tunnel.key not in devices:
            left.setdefault(tunnel.interface, set()).add(tunnel.key)
    return left


def allocate_ports(context: Context) -> None:
    """Give each wanted link a port; the same answer in check mode and in the run."""
    cell, links = context.wanted.cell, context.wanted.links
    used = {link.listen_port for link in links.values() if link.listen_port} | {cell.listen_port}
    port, taken = cell.link_port_base, set[int]()
    for _name, link in sorted(links.items()):
        if link.interface == cell.interface:
            link.listen_port = cell.listen_port
        elif link.listen_port is None:
            taken = taken or used | context.observed.used_ports()
            port = next(number for number in itertools.count(port) if number not in taken)
            taken.add(port)
            link.listen_port = port


def check_shared_exits(context: Context, more: Collection[str] = ()) -> None:
    """Refuse an exit that the devices' interface cannot be. more: names of links that are exits though no device is routed there. Raises BadInput."""
    name = context.wanted.cell.interface
    used = {*more, *context.wanted.named_exits}
    links = [link for _name, link in sorted(context.wanted.links.items()) if link.name in used and link.interface == name]
    if not links:
        return
    # On one interface a prefix belongs to one peer: a second exit would silently steal the first's.
    others = [f"link {link.name!r}" for link in links[1:]]
    observed = context.observed.wireguard.get(name)
    ours = left_keys(context).get(name, set()) | {link.public_key for link in context.wanted.links.values()}
    for key, peer in (observed.peers if observed else {}).items():
        if key not in ours and set(EVERYWHERE) & set(peer.allowed_ips):
            others.append(f"the peer {key}")
    if others:
        raise BadInput(
            f"Link {links[0].name!r} cannot be an exit on interface {name!r}: {others[0]} there has 0.0.0.0/0, which WireGuard gives to one peer only. "
            "Leave the link's interface out, so that it gets its own."
        )


def peer_key(link: Link) -> str:
    """Return what tells a link's peer from others; keys that nobody has made yet look all the same."""
    return f"{link.public_key} {link.name}" if link.public_key == wgkeys.GENERATED else str(link.public_key)


def allowed_ips(link: Link) -> list[str]:
    """Return the networks that a link's peer may send from. What a provider sends is for the chains alone; without any WireGuard would take nothing."""
    return sorted_networks([*link.networks, *(EVERYWHERE if link.exit_relay_active or link.provided else ())])


def _preshared_key(context: Context, link: Link, given: str | None, in_file: str | None, known: str | None) -> str | None:
    """Return the preshared key of a link: the one that is given, or else the one that it has, or that waits in an invitation. Raises BadInput."""
    if given:
        _check_preshared_key(context, f"link {link.name!r}", given)
    if link.provided:
        return providers.preshared_key(context, link)
    before = context.stored.links.get(link.name, link)
    secret = given or in_file or (known if before.public_key == link.public_key else None)
    invited = None if secret else invitations.waiting(context.host, context.store.path, link.name, context.now)
    if invited:
        _check_preshared_key(context, invitations.key_path(context.store.path, link.name), invited)
    return secret or invited


def _check_preshared_key(context: Context, what: str, value: str) -> None:
    """Refuse a key that is none; in a prediction nobody knows yet the one that the run will make."""
    if not (context.predict and value == wgkeys.PRESHARED_LATER):
        wgkeys.check_preshared_key(what, value)


def _fitting_mtu(context: Context, link: Link, text: str) -> int | None:
    carried = [family for family in context.observed.families if link.has_family(family)]
    return mtu.tunnel(context.observed, link.endpoint, carried, text)
