# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard: what the kernel says, and the plan that leads one interface to its desired state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..base.command import Host
from ..base.names import LINK_PREFIX
from ..base.networks import address_of, host_of, host_port, sort_key, sorted_networks
from ..base.wgkeys import NO_KEY, clamped
from .handshakes import FRESH_HANDSHAKE, is_recent
from .model import MAIN, Interface, Route, Routing, WgPeer, changed, loses_ipv4, without_routes_of
from .plan import Effect, Plan, Remove, Run, Step, Write
from .routing import batch
from .systemd import drop_in_path, wants_path
from .wgconfig import Config, config_path, parse
from .wgquick import check_file, config_peers, merge_config, render_link

_ENABLE = ("systemctl", "enable")
_START = ("systemctl", "--job-mode=ignore-dependencies", "restart")
_AT_ONCE = 50  # interfaces that one call starts: it has 60 seconds


def read_interfaces(host: Host) -> dict[str, Interface]:
    """Read all WireGuard interfaces of the kernel; none where the tool is missing."""
    return parse_dump(host.run(["wg", "show", "all", "dump"]).out) if host.has("wg") else {}


def read_transfers(host: Host) -> dict[tuple[str, str], tuple[int, int]]:
    """Read what has come from each peer of links' own interfaces, and what was to go to it: numbers that grow. By interface and key.

    What was to go are bytes that were sent and packets that the interface was given: a program in place of the kernel's WireGuard counts none where
    nobody answers ARP.
    """
    lines = _lines(host.run(["wg", "show", "all", "transfer"]).out) if host.has("wg") else []
    given = {}
    for line in (host.read("/proc/net/dev") or "").splitlines():
        name, _colon, counts = line.strip().partition(":")
        if name.startswith(LINK_PREFIX):
            given[name] = sum(map(int, counts.split()[9:12]))  # packets, errors, drops
    peers = (line.split("\t") for line in lines if line.startswith(LINK_PREFIX))
    return {(name, key): (int(received), int(sent) + given.get(name, 0)) for name, key, received, sent in peers}


def parse_dump(text: str) -> dict[str, Interface]:
    """Read what 'wg show all dump' printed."""
    interfaces: dict[str, Interface] = {}
    for line in _lines(text):
        cells = [None if value in ("(none)", "off") else value for value in line.split("\t")]
        name = str(cells[0])
        if len(cells) == 5:
            interfaces[name] = Interface(name, cells[1], cells[2], int(cells[3] or 0))
        else:
            key, psk, endpoint, allowed, handshake, received, sent, keepalive = cells[1:9]
            interfaces[name].peers[str(key)] = WgPeer(
                str(key),
                sorted_networks((allowed or "").split(",")) if allowed else [],
                endpoint,
                int(keepalive) if keepalive else None,
                psk,
                int(handshake or 0),
                int(received or 0),
                int(sent or 0),
            )
    return interfaces


def _lines(text: str) -> list[str]:
    """Split at line feeds alone, as wg and wg-quick do: Python sees lines where a comment has U+2028, and would end the comment there."""
    return text.removesuffix("\n").split("\n") if text else []


def plan_interface(
    host: Host,
    wanted: Interface,
    observed: Interface | None,
    labels: Mapping[str, str],
    removed: Iterable[str],
    now: float,
    present_routes: Collection[Route] = (),
    moving: Collection[str] = (),
) -> Plan:
    """Plan one interface: file, unit, and the kernel without a restart; peers that are not ours stay.

    observed: the kernel's, None where there is none. labels: names of the wanted peers by key.
    removed: keys and addresses of ours that go. now: seconds since the epoch, to tell a live session.
    present_routes: our routes that the kernel has; a set where there are many.
    moving: keys of peers that go on where they are dialled now until they are at another endpoint, which is written already.
    """
    plan = Plan()
    link = wanted.name.startswith("pic-")
    path = config_path(wanted.name)
    text = host.read(path)
    if not (text or "").strip("\0 \t\r\n"):
        text = None
    config = parse(text)
    written = {peer.public_key: peer.endpoint for peer in config_peers(text or "")}
    gone = set(removed) - set(wanted.peers) - set(wanted.addresses)
    # With a name that does not resolve wg-quick would not start.
    wanted = replace(wanted, peers=wanted.peers.copy())
    for key, peer in wanted.peers.items():
        current = observed.peers.get(key) if observed else None
        if not link and _saved(host, config, peer, written.get(key), current, now):
            wanted.peers[key] = peer = replace(peer, endpoint=written[key])
        if peer.endpoint and (observed is None or written.get(key) != peer.endpoint) and resolve(host, peer.endpoint) is None:
            wanted.peers[key] = replace(peer, endpoint=(written.get(key) if observed else None) or "")
            plan.warnings.append(f"The endpoint {peer.endpoint!r} of {labels[key]} does not resolve; it is not used until it does.")
    unwritten = observed if text is None and not link else None  # what others have set up by hand, or a power cut has left, is in the kernel alone
    if unwritten:
        left = [address for address in unwritten.addresses if address not in gone and address not in wanted.addresses]
        wanted.addresses = [*wanted.addresses, *left]
    new_text = render_link(wanted, labels) if link else merge_config(text, wanted, labels, gone, unwritten.peers.values() if unwritten else ())
    plan.write(path, text, new_text, None)
    systemd = host.exists("/run/systemd/system")
    unit = f"wg-quick@{wanted.name}"
    if systemd and not host.exists(wants_path(f"{unit}.service")):
        plan.steps.append(Run((*_ENABLE, unit)))
        plan.effects.append(Write(wants_path(f"{unit}.service"), ""))
        plan.describe([f"{wanted.name}: not started at boot"], [f"{wanted.name}: started at boot"])
    start = observed or Interface(wanted.name, peers={peer.public_key: _settled(host, peer, None, False, now) for peer in config_peers(new_text)})
    peers = {key: peer for key, peer in start.peers.items() if key not in gone}
    dialled = {key for key, peer in wanted.peers.items() if key in moving or (written.get(key) or None) == (peer.endpoint or None)}
    peers.update({key: _settled(host, peer, start.peers.get(key), key in dialled, now) for key, peer in wanted.peers.items()})
    kept = [address for address in start.addresses if not (link or address in wanted.addresses or address in gone)]
    private_key = wanted.private_key and clamped(wanted.private_key)
    final = replace(wanted, private_key=private_key, peers=peers, addresses=[*wanted.addresses, *kept], mtu=wanted.mtu or start.mtu)
    if observed is None:
        check_file(path, new_text)
        # "start" would do nothing for a unit whose interface somebody has deleted.
        # The guard that the unit requires would wait for the lock, which this run holds; it has closed the ways itself.
        plan.steps.append(Run((*_START, unit) if systemd else ("wg-quick", "up", wanted.name)))
    else:
        plan.extend(plan_live(observed, final, present_routes))
    if plan:
        plan.effects += _taken_up(observed, final)
        plan.describe([] if observed is None else describe(observed, labels, gone), describe(final, labels, ()))
    return plan


def started_together(steps: Iterable[Step]) -> list[Step]:
    """Return the steps of several interfaces with one call for many units, the start last: systemd reads all its files anew after each call that enables.

    One that does not start keeps none of the others from it.
    """
    units: dict[tuple[str, ...], list[str]] = {_ENABLE: [], _START: []}
    others: list[Step] = []
    for step in steps:
        if isinstance(step, Run) and step.argv[:-1] in units:
            units[step.argv[:-1]].append(step.argv[-1])
        else:
            others.append(step)
    enable, start = ([Run((*verb, *names[at : at + _AT_ONCE])) for at in range(0, len(names), _AT_ONCE)] for verb, names in units.items())
    return [*enable, *others, *start]


def plan_removal(host: Host, name: str, observed: Interface | None) -> Plan:
    """Plan the end of a link's interface: unit, kernel, file."""
    plan = Plan()
    unit = f"wg-quick@{name}"
    if host.exists("/run/systemd/system") and (observed is not None or host.exists(wants_path(f"{unit}.service"))):
        plan.steps.append(Run(("systemctl", "disable", "--now", unit)))
        if observed is not None:  # it goes with its unit (1: no such device), unless somebody has brought it up by hand
            plan.steps.append(Run(("ip", "link", "del", "dev", name), ok=(0, 1)))
    elif observed is not None:
        plan.steps.append(Run(("wg-quick", "down", name)))
    for path in (config_path(name), drop_in_path(name)):
        if host.exists(path):
            plan.steps.append(Remove(path))
    if plan:
        plan.effects += [*_taken_down(name), Remove(wants_path(f"{unit}.service"))]
        plan.describe([f"{name}: there"], [])
    return plan


def _taken_up(before: Interface | None, interface: Interface) -> list[Effect]:
    """Return what there is once an interface is up: its routes too, those of other tables only where it was started."""

    def without_ipv4(routing: Mapping[int, Routing], _items: object) -> dict[int, Routing]:
        return {**routing, 4: without_routes_of(routing[4], interface.name)}

    mine = [route for route in interface.routes if before is None or route.table == MAIN]
    return [
        Effect("wireguard", _put, ((interface.name, interface),)),
        Effect("links", _known, (interface.name,)),
        *([Effect("routing", without_ipv4)] if before and loses_ipv4(before, interface) else []),
        Effect("routing", changed, tuple(("replace", route) for route in mine)),
    ]


def _put(interfaces: Mapping[str, Interface], items: Iterable[tuple[str, Interface]]) -> dict[str, Interface]:
    return {**interfaces, **dict(items)}


def _known(links: Mapping[str, dict[str, Any]], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {**links, **{name: {} for name in names if name not in links}}


def _taken_down(name: str) -> list[Effect]:
    """Return what there is once an interface is gone, with its routes."""
    return [
        Effect("wireguard", lambda interfaces, _items: {other: interface for other, interface in interfaces.items() if other != name}),
        Effect("links", lambda links, _items: {other: link for other, link in links.items() if other != name}),
        Effect("routing", lambda routing, _items: {family: without_routes_of(seen, name) for family, seen in routing.items()}),
    ]


def describe(interface: Interface, labels: Mapping[str, str], removed: Iterable[str]) -> list[str]:
    """Say in sorted lines what an interface is, without secrets; of its peers only ours."""
    name = interface.name
    lines = [
        f"{name}: {'up' if interface.up else 'down'}, port {interface.listen_port}",
        f"{name}: addresses {', '.join(sorted(interface.addresses, key=sort_key))}",
    ]
    for key in [*labels, *removed]:
        peer = interface.peers.get(key)
        if peer is not None:
            endpoint = f", endpoint {peer.endpoint}" if peer.endpoint else ""
            keepalive = f", keepalive {peer.keepalive} s" if peer.keepalive else ""
            secret = ", preshared key" if peer.preshared_key else ""
            lines.append(f"{name}: peer {labels.get(key, 'no longer ours')} {peer.public_key} with {', '.join(peer.allowed_ips)}{endpoint}{keepalive}{secret}")
    return lines


def resolve(host: Host, endpoint: str) -> str | None:
    """Turn a name:port into address:port as wg prints it; None where nobody says in time what the name stands for."""
    name, _colon, port = endpoint.rpartition(":")
    try:
        address = address_of(name.strip("[]"))
    except ValueError:
        try:
            address = address_of(host.lookup(name) or "")
        except ValueError:  # nobody knows the name, or it leads to an address of one interface alone ("fe80::1%2")
            return None
    return host_port(address, port)


def is_named(endpoint: str) -> bool:
    """Tell whether a peer is dialled by a name, and not by an address."""
    try:
        address_of(host_of(endpoint))
    except ValueError:
        return True
    return False


def plan_endpoint(interface: str, key: str, endpoint: str) -> Plan:
    """Plan where the kernel dials a peer."""
    return Plan([Run(("wg", "set", interface, "peer", key, "endpoint", endpoint))])


def plan_live(observed: Interface, final: Interface, present_routes: Collection[Route]) -> Plan:
    """Plan the way from an interface as it is to what it shall be, both with all their peers and addresses. present_routes: as for plan_interface."""
    plan, name = Plan(), final.name
    if final.private_key and observed.private_key != final.private_key:
        plan.steps.append(Run(("wg", "set", name, "private-key", "/dev/stdin"), f"{final.private_key}\n"))
    if final.listen_port and observed.listen_port != final.listen_port:
        plan.steps.append(Run(("wg", "set", name, "listen-port", str(final.listen_port))))
    stale = sorted(set(observed.peers) - set(final.peers))
    if stale:
        plan.steps.append(Run(("wg", "set", name, *(word for key in stale for word in ("peer", key, "remove")))))
    blocks = []
    for key, peer in final.peers.items():
        current = observed.peers.get(key)
        if peer == current:
            continue
        if current and peer == replace(current, preshared_key=peer.preshared_key):  # addconf would take the networks away for a moment
            plan.steps.append(Run(("wg", "set", name, "peer", key, "preshared-key", "/dev/stdin"), f"{peer.preshared_key or NO_KEY}\n"))
            continue
        blocks += ["[Peer]", f"PublicKey = {key}", f"AllowedIPs = {', '.join(peer.allowed_ips)}"]
        blocks += [f"PersistentKeepalive = {peer.keepalive or 'off'}", f"PresharedKey = {peer.preshared_key or NO_KEY}"]
        blocks += [f"Endpoint = {peer.endpoint}"] if peer.endpoint and (current is None or peer.endpoint != current.endpoint) else []
    if blocks:
        plan.steps.append(Run(("wg", "addconf", name, "/dev/stdin"), "".join(f"{line}\n" for line in blocks)))
    lines = [f"addr add {address} dev {name}" for address in final.addresses if address not in observed.addresses]
    lines += [f"addr del {address} dev {name}" for address in observed.addresses if address not in final.addresses]
    if final.mtu != observed.mtu:
        lines.append(f"link set dev {name} mtu {final.mtu}")
        plan.describe([f"{name}: mtu {observed.mtu}"], [f"{name}: mtu {final.mtu}"])
    if not observed.up:
        lines.append(f"link set dev {name} up")
    if lines:
        plan.steps.append(Run(("ip", "-batch", "-"), "".join(f"{line}\n" for line in lines)))
    lost = 4 if loses_ipv4(observed, final) else None
    for family in (4, 6):
        mine = {route for route in final.routes if route.family == family and route.table == MAIN}
        missing = sorted((route for route in mine if route not in present_routes or (family == lost and route.device == name)), key=str)
        plan.extend(batch(family, (("replace", route) for route in missing)))
        plan.describe((), (route.words() for route in missing))
    return plan


def _settled(host: Host, wanted: WgPeer, current: WgPeer | None, stays: bool, now: float) -> WgPeer:
    """Return a wanted peer as the kernel shall have it. stays: whether a live session goes on where it is: it may have roamed."""
    current = current or WgPeer(wanted.public_key)
    live = current.endpoint and stays and is_recent(current.handshake, now, FRESH_HANDSHAKE)
    endpoint = None if live or not wanted.endpoint else resolve(host, wanted.endpoint)
    return replace(
        current,
        allowed_ips=sorted_networks(wanted.allowed_ips),
        endpoint=endpoint or current.endpoint,
        keepalive=(current.keepalive if wanted.keepalive is None else wanted.keepalive) or None,
        preshared_key=wanted.preshared_key,
    )


def _saved(host: Host, config: Config, wanted: WgPeer, written: str | None, current: WgPeer | None, now: float) -> bool:
    """Tell whether an endpoint in a file is what wg-quick has made of the wanted one: with SaveConfig it writes addresses for names whenever it ends."""
    if not wanted.endpoint or not written or written == wanted.endpoint or (config.get("saveconfig") or "").lower() != "true":
        return False
    here = current is not None and current.endpoint == written and is_recent(current.handshake, now, FRESH_HANDSHAKE)
    return here or written == resolve(host, wanted.endpoint)
