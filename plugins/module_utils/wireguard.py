# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard: keys, what the kernel says, the configuration file, and the plan that leads one interface to its desired state."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from . import texts
from .command import Host
from .errors import BadInput
from .networks import address_of, host_port, is_host, sort_key
from .plan import Plan, Remove, Run
from .routing import MAIN, Route, batch
from .units import drop_in_path
from .wgconfig import INTERFACE, PEER, Config, Section, config_path, networks_of, parse, plain_address, plain_network

WANTS_DIR = "/etc/systemd/system/multi-user.target.wants"
GENERATED = "(generated)"  # a key that the run will make; in check mode nobody knows it yet
# The same for a preshared key. No text of ours has it in it: Ansible blots out a secret wherever it is.
PRESHARED_LATER = "(a preshared key that the run will make)"
FRESH_HANDSHAKE = 135  # seconds; a session is renewed after 120 s, so an older one is no sign of life (WireGuard paper, 6.1)
SILENT = 180  # seconds; a tunnel without a handshake for longer carries nothing (WireGuard paper, 6.1: Reject-After-Time)

_ENDPOINT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>[0-9]{1,5})")
_NO_KEY = base64.b64encode(bytes(32)).decode()
_P = 2**255 - 19
# Points of small order: a peer with such a key shares its secret with everybody (list: cr.yp.to/ecdh.html#validate).
_LOW_ORDER = {
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    _P - 1,
}


@dataclass
class Peer:
    """One peer of a WireGuard interface; where it is wanted, None leaves an endpoint or a keepalive as it is, an empty text and 0 mean none."""

    public_key: str
    allowed_ips: list[str] = field(default_factory=list)
    endpoint: str | None = None
    keepalive: int | None = None
    preshared_key: str | None = None
    handshake: int = 0  # seconds since the epoch, 0 for never
    received: int = 0  # bytes
    sent: int = 0  # bytes


@dataclass
class Interface:
    """One WireGuard interface as the kernel has it, or as it shall be."""

    name: str
    private_key: str | None = None
    public_key: str | None = None
    listen_port: int | None = None
    peers: dict[str, Peer] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    mtu: int | None = None
    up: bool = True
    routes: list[Route] = field(default_factory=list)


def check_public_key(what: str, value: object) -> str:
    """Return a well-formed public key; raise BadInput for what is none or lets everybody in."""
    try:
        raw = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != value:
        raise BadInput(
            f"{what}: {value!r} is no WireGuard key (32 bytes in base64, 44 characters). Copy it from 'wg show <interface> public-key' of the other side."
        )
    if (int.from_bytes(raw, "little") & (2**255 - 1)) % _P in _LOW_ORDER:
        raise BadInput(f"{what}: {value!r} is a key of low order, which protects nothing. Use a key made by 'wg genkey'.")
    return str(value)


def check_preshared_key(what: str, value: str) -> str:
    """Return a well-formed preshared key; raise BadInput, without the key in the text, otherwise."""
    if not is_key(value) or value == _NO_KEY:
        raise BadInput(f"{what}: the preshared key is not 32 bytes in base64 or is all zero. Make one with 'wg genpsk'.")
    return value


def is_key(value: str) -> bool:
    """Tell whether a text is a key as wg takes it: a last character of another key can decode to the same bytes, and wg prints what it refuses."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == 32 and base64.b64encode(raw).decode() == value


def check_file_keys(path: str, text: str) -> None:
    """Refuse a file with a key that is none before wg reads it, and prints it to the journal. Raises BadInput, without the key in the text."""
    for section in parse(text).sections:
        for name in ("PrivateKey", "PublicKey", "PresharedKey"):
            if any(not is_key(value) and value not in (GENERATED, PRESHARED_LATER) for value in section.all(name)):
                raise BadInput(f"{path}: a {name} in a section [{section.header}] is no WireGuard key (32 bytes in base64, 44 characters). Correct it.")


def key_id(preshared_key: str | None) -> str | None:
    """Return what tells a preshared key from another one without telling it; None for none."""
    return hmac.new(base64.b64decode(preshared_key), b"pic.cells preshared key id", "sha256").hexdigest()[:16] if preshared_key else None


def check_endpoint(what: str, value: object) -> str:
    """Return host:port (IPv6 in brackets); raise BadInput for anything else."""
    match = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if not match or not is_host(match["six"] or match["host"]) or not 0 < int(match["port"]) < 65536:
        raise BadInput(f"{what}: endpoint {value!r} is no host:port. Give one like b.example.net:51821 or [2001:db8::1]:51821.")
    return str(value)


def clamped(private_key: str) -> str:
    """Return a private key as the kernel keeps and shows it; one that `wg genkey` made is the same (RFC 7748, section 5, decodeScalar25519)."""
    key = bytearray(base64.b64decode(private_key))
    key[0], key[31] = key[0] & 0xF8, key[31] & 0x7F | 0x40
    return base64.b64encode(key).decode()


def public_key_of(host: Host, private_key: str) -> str:
    """Derive the public key; the private one travels by stdin."""
    return host.run(["wg", "pubkey"], stdin=private_key + "\n").out.strip()


def read_interfaces(host: Host) -> dict[str, Interface]:
    """Read all WireGuard interfaces of the kernel; none where the tool is missing."""
    return parse_dump(host.run(["wg", "show", "all", "dump"]).out) if host.has("wg") else {}


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
            interfaces[name].peers[str(key)] = Peer(
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


def sorted_networks(values: Iterable[str]) -> list[str]:
    """Return AllowedIPs in one order."""
    return sorted((value for value in values if value), key=sort_key)


def merge_config(text: str | None, wanted: Interface, labels: Mapping[str, str], removed: Iterable[str], others: Iterable[Peer] = ()) -> str:
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


def plan_interface(
    host: Host,
    wanted: Interface,
    observed: Interface | None,
    labels: Mapping[str, str],
    removed: Iterable[str],
    now: float,
    present_routes: Iterable[Route] = (),
) -> Plan:
    """Plan one interface: file, unit, and the kernel without a restart; peers that are not ours stay.

    observed: the kernel's, None where there is none. labels: names of the wanted peers by key.
    removed: keys and addresses of ours that go. now: seconds since the epoch, to tell a live session.
    present_routes: our routes that the kernel has.
    """
    plan = Plan()
    link = wanted.name.startswith("pic-")
    path = config_path(wanted.name)
    text = host.read(path)
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
    unwritten = observed if text is None and not link else None  # what others have set up by hand is in the kernel alone
    if unwritten:
        left = [address for address in unwritten.addresses if address not in gone and address not in wanted.addresses]
        wanted.addresses = [*wanted.addresses, *left]
    new_text = render_link(wanted, labels) if link else merge_config(text, wanted, labels, gone, unwritten.peers.values() if unwritten else ())
    plan.write(path, text, new_text, None)
    systemd = host.exists("/run/systemd/system")
    unit = f"wg-quick@{wanted.name}"
    if systemd and not host.exists(_wants(unit)):
        plan.steps.append(Run(("systemctl", "enable", unit)))
        plan.effects.append(lambda seen: seen.host.write(_wants(unit), ""))
        plan.describe([f"{wanted.name}: not started at boot"], [f"{wanted.name}: started at boot"])
    start = observed or Interface(wanted.name, peers={peer.public_key: _settled(host, peer, None, None, now) for peer in config_peers(new_text)})
    peers = {key: peer for key, peer in start.peers.items() if key not in gone}
    peers.update({key: _settled(host, peer, start.peers.get(key), written.get(key), now) for key, peer in wanted.peers.items()})
    kept = [address for address in start.addresses if not (link or address in wanted.addresses or address in gone)]
    private_key = wanted.private_key and clamped(wanted.private_key)
    final = replace(wanted, private_key=private_key, peers=peers, addresses=[*wanted.addresses, *kept], mtu=wanted.mtu or start.mtu)
    if observed is None:
        check_file_keys(path, new_text)
        # "start" would do nothing for a unit whose interface somebody has deleted.
        # The guard that the unit requires would wait for the lock, which this run holds; it has closed the ways itself.
        by_unit = ("systemctl", "--job-mode=ignore-dependencies", "restart", unit)
        plan.steps.append(Run(by_unit if systemd else ("wg-quick", "up", wanted.name)))
    else:
        plan.extend(plan_live(observed, final, present_routes))
    if plan:
        plan.effects.append(lambda seen: seen.take_up(final))
        plan.describe([] if observed is None else describe(observed, labels, gone), describe(final, labels, ()))
    return plan


def plan_removal(host: Host, name: str, observed: Interface | None) -> Plan:
    """Plan the end of a link's interface: unit, kernel, file."""
    plan = Plan()
    unit = f"wg-quick@{name}"
    if host.exists("/run/systemd/system") and (observed is not None or host.exists(_wants(unit))):
        plan.steps.append(Run(("systemctl", "disable", "--now", unit)))
        if observed is not None:  # it goes with its unit (1: no such device), unless somebody has brought it up by hand
            plan.steps.append(Run(("ip", "link", "del", "dev", name), ok=(0, 1)))
    elif observed is not None:
        plan.steps.append(Run(("wg-quick", "down", name)))
    for path in (config_path(name), drop_in_path(name)):
        if host.exists(path):
            plan.steps.append(Remove(path))
    if plan:
        plan.effects += [lambda seen: seen.take_down(name), lambda seen: seen.host.remove(_wants(unit))]
        plan.describe([f"{name}: there"], [])
    return plan


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
        found = host.lookup(name)
        if found is None:
            return None
        address = address_of(found)
    return host_port(address, port)


def plan_live(observed: Interface, final: Interface, present_routes: Iterable[Route]) -> Plan:
    """Plan the way from an interface as it is to what it shall be, both with all their peers and addresses."""
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
        blocks += ["[Peer]", f"PublicKey = {key}", f"AllowedIPs = {', '.join(peer.allowed_ips)}"]
        blocks += [f"PersistentKeepalive = {peer.keepalive or 'off'}", f"PresharedKey = {peer.preshared_key or _NO_KEY}"]
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
    present = set(present_routes)
    if loses_ipv4(observed, final):
        present -= {route for route in present if route.family == 4 and route.device == name}
    for family in (4, 6):
        mine = {route for route in final.routes if route.family == family and route.table == MAIN}
        missing = sorted(mine - present, key=str)
        plan.extend(batch(family, (("replace", route) for route in missing)))
        plan.describe((), (route.words() for route in missing))
    return plan


def loses_ipv4(before: Interface, after: Interface) -> bool:
    """Tell whether an interface's last IPv4 address goes, with which the kernel deletes its IPv4 routes."""
    return any("." in address for address in before.addresses) and not any("." in address for address in after.addresses)


def _settled(host: Host, wanted: Peer, current: Peer | None, written: str | None, now: float) -> Peer:
    """Return a wanted peer as the kernel shall have it; a live session may have roamed from the endpoint that is written."""
    current = current or Peer(wanted.public_key)
    live = current.endpoint and (written or None) == (wanted.endpoint or None) and now - current.handshake < FRESH_HANDSHAKE
    endpoint = None if live or not wanted.endpoint else resolve(host, wanted.endpoint)
    return replace(
        current,
        allowed_ips=sorted_networks(wanted.allowed_ips),
        endpoint=endpoint or current.endpoint,
        keepalive=(current.keepalive if wanted.keepalive is None else wanted.keepalive) or None,
        preshared_key=wanted.preshared_key,
    )


def config_peers(text: str) -> list[Peer]:
    """Return the peers that a file names."""
    peers = []
    for section in parse(text).of(PEER):
        keepalive, secret = section.get("persistentkeepalive") or "off", section.get("presharedkey")
        seconds = int(keepalive) if keepalive.isdigit() else None
        secret = None if secret == _NO_KEY else secret
        peers.append(Peer(str(section.get("publickey")), networks_of(section), section.get("endpoint"), seconds or None, secret or None))
    return peers


def _wants(unit: str) -> str:
    """Return the link by which systemd starts a unit at boot."""
    return f"{WANTS_DIR}/{unit}.service"


def _saved(host: Host, config: Config, wanted: Peer, written: str | None, current: Peer | None, now: float) -> bool:
    """Tell whether an endpoint in a file is what wg-quick has made of the wanted one: with SaveConfig it writes addresses for names whenever it ends."""
    if not wanted.endpoint or not written or written == wanted.endpoint or config.get("saveconfig") != "true":
        return False
    here = current is not None and current.endpoint == written and now - current.handshake < FRESH_HANDSHAKE
    return here or written == resolve(host, wanted.endpoint)


def _same_key(one: str, two: str) -> bool:
    try:
        return clamped(one) == clamped(two)
    except (binascii.Error, ValueError, IndexError):
        return one == two


def _takes_all(wanted: Interface) -> bool:
    return any(network.endswith("/0") for peer in wanted.peers.values() for network in peer.allowed_ips)


def _head(there: bool) -> list[str]:
    return ["# Written by pic.cells.", "[Interface]", *([] if there else ["Table = off"])]


def _put_peer(config: Config, section: Section, wanted: Peer) -> None:
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


def _peer_lines(peer: Peer) -> list[str]:
    lines = ["[Peer]", f"PublicKey = {peer.public_key}"]
    lines += [f"PresharedKey = {peer.preshared_key}"] if peer.preshared_key else []
    lines += [f"AllowedIPs = {', '.join(peer.allowed_ips)}"]
    lines += [f"Endpoint = {peer.endpoint}"] if peer.endpoint else []
    lines += [f"PersistentKeepalive = {peer.keepalive}"] if peer.keepalive else []
    return [texts.setting(line) for line in lines]
