# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One WireGuard interface with the links on it, of which that of the devices can hold several."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..base import wgkeys
from ..base.errors import BadInput
from ..base.networks import EVERYWHERE, FAMILIES, host_networks, sorted_networks
from ..kernel import mtu, wgconfig, wgquick, wireguard
from ..kernel.model import Interface, WgPeer
from ..kernel.plan import Plan
from ..records.model import Cell, Link
from . import exits, invitations, keys, providers
from .part import Context

# Seconds. The lower one lets a linked cell hear within 30 s from where this one sends now; the other keeps the mappings of common NATs and firewalls open
# (WireGuard quick start), which is all that a provider's server is for.
_OF_A_CELL, _OF_A_PROVIDER = 10, 25


def plan_tunnels(context: Context, interface: str, links: Collection[Link], given: Mapping[str, str | None], known: Mapping[str, str | None]) -> Plan:
    """Plan one interface with the links on it. given, known: new and old preshared keys by the link's name."""
    cell, observed = context.wanted.cell, context.observed.wireguard.get(interface)
    in_file = keys.written(context.host, interface)
    if interface != cell.interface:  # without its preshared key the link would be weaker, and not understood
        wgquick.check_file_keys(wgconfig.config_path(interface), context.host.read(wgconfig.config_path(interface)) or "")
    addresses = device_addresses(context) if interface == cell.interface else []
    wanted = Interface(interface, context.identity.private, None, cell.listen_port, {}, addresses)
    removed = left_keys(context, interface)
    for link in links:
        key = peer_key(link)
        keepalive = (_OF_A_PROVIDER if link.provided else _OF_A_CELL) if link.keepalive is None else link.keepalive
        secret = _preshared_key(context, link, given.get(link.name), in_file.get(key), known.get(link.name))
        wanted.peers[key] = WgPeer(str(link.public_key), allowed_ips(link), link.endpoint or "", keepalive, secret)
        wanted.routes += [route for route in exits.link_routes(cell, link) if route.family in context.observed.families]
        if interface != cell.interface:
            wanted.listen_port, wanted.mtu = link.listen_port, link.mtu or _fitting_mtu(context, link)
            # Without its last address an interface has no routes: none of the cell's being known is no reason to take it away.
            wanted.addresses = _addresses(cell, link) or (observed.addresses if observed else [])
            wanted.private_key = providers.private_key(context, link) if link.provided else wanted.private_key
            wanted.routes += exits.default_routes(cell, link) if link.exit_relay_active else []
            removed |= set(observed.peers if observed else ())
    labels = {peer_key(link): f"{link.kind} {link.name}" for link in links}
    present = [route for routing in context.routing().values() for route in routing.routes]
    return wireguard.plan_interface(context.host, wanted, observed, labels, removed, context.now, present)


def _addresses(cell: Cell, link: Link) -> list[str]:
    """Return the addresses of a link's own interface, as networks."""
    return sorted_networks(host_networks(address for family in FAMILIES if cell.has_family(family) for address in link.sources(cell, family)))


def device_addresses(context: Context) -> list[str]:
    """Return the addresses of the devices' interface: the cell's, and what somebody else has put into its file."""
    cell = context.wanted.cell
    text = context.host.read(wgconfig.config_path(cell.interface))
    ours = {*cell.networks, *context.stored.cell.networks}
    return [*cell.networks, *(address for address in wgconfig.addresses_of(text) if address not in ours)]


def left_keys(context: Context, interface: str) -> set[str]:
    """Return the keys of links that have been on an interface and are not any more."""
    left = {tunnel.key for tunnel in context.leaving.links if tunnel.interface == interface}
    return left - {link.public_key for link in context.wanted.links.values() if link.interface == interface} - context.wanted.device_keys()


def allocate_ports(context: Context) -> None:
    """Give each wanted link a port; the same answer in check mode and in the run."""
    cell, links = context.wanted.cell, context.wanted.links
    used = {link.listen_port for link in links.values() if link.listen_port} | {cell.listen_port}
    for _name, link in sorted(links.items()):
        if link.interface == cell.interface:
            link.listen_port = cell.listen_port
        elif link.listen_port is None:
            port = cell.link_port_base
            while port in used or port in context.observed.used_ports():
                port += 1
            link.listen_port = port
            used.add(port)


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
    ours = left_keys(context, name) | {link.public_key for link in context.wanted.links.values()}
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


def _fitting_mtu(context: Context, link: Link) -> int | None:
    carried = [family for family in context.observed.families if link.has_family(family)]
    return mtu.tunnel(context.observed, link.endpoint, carried, context.host.read(wgconfig.config_path(str(link.interface))))
