# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WireGuard: its devices, the commands wg and wg-quick, and keys that are made up."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.pic.cells.tests.unit.fake.ip import covers
from ansible_collections.pic.cells.tests.unit.fake.machine import Refused
from ansible_collections.pic.cells.tests.unit.fake.resolver import Resolver
from ansible_collections.pic.cells.tests.unit.fake.tc import Tc

NO_KEY = base64.b64encode(bytes(32)).decode()
WG_QUICK = (
    *("privatekey", "listenport", "fwmark", "address", "dns", "mtu", "table", "saveconfig"),
    *("preup", "postup", "predown", "postdown"),
)


@dataclass
class Peer:
    """One peer of a WireGuard device."""

    allowed: list[str] = field(default_factory=list)
    endpoint: str | None = None
    keepalive: int = 0
    psk: str | None = None
    handshake: int = 0
    received: int = 0
    sent: int = 0


@dataclass
class Device:
    """One WireGuard device."""

    private: str | None = None
    port: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)


class WireGuard(Tc, Resolver):
    """A host with wg and wg-quick.

    name: makes generated keys differ. made: how many there are.
    """

    name: str
    made: int

    def boot(self) -> None:
        self.wg: dict[str, Device] = {}
        super().boot()

    def drop_link(self, name: str) -> None:
        """Delete an interface with its routes and its peers."""
        super().drop_link(name)
        self.wg.pop(name, None)

    def _wg(self, words: list[str], stdin: str) -> str:
        if words == ["show", "all", "dump"]:
            return "".join(f"{line}\n" for name, device in self.wg.items() for line in _dump(name, device))
        if words == ["show", "all", "transfer"]:
            return "".join(f"{name}\t{key}\t{peer.received}\t{peer.sent}\n" for name, device in self.wg.items() for key, peer in device.peers.items())
        if words in (["genkey"], ["genpsk"]):
            self.made += 1
            key = made_key(f"{self.name} {self.made}")
            self.secrets.add(key)
            return f"{key}\n"
        if words == ["pubkey"]:
            return f"{public_key(stdin.strip())}\n"
        verb, name, *rest = words
        if name not in self.wg:
            raise Refused(1, "Unable to modify interface: No such device")
        if verb == "addconf" and rest == ["/dev/stdin"]:
            interface, peers = _sections(stdin)
            assert not interface, "addconf with a section for the interface"
            self._step(f"wg addconf {name} {' '.join(peer['publickey'] for peer in peers)}", lambda: self._set_peers(name, peers))
        elif verb == "set":
            self._step(f"wg {' '.join(words)}", lambda: self._set(name, rest, stdin))
        else:
            raise AssertionError(f"the fake host does not know: wg {words}")
        return ""

    def _set(self, name: str, words: list[str], stdin: str) -> None:
        if words == ["private-key", "/dev/stdin"]:
            self.wg[name].private = clamped(stdin.strip())
        elif len(words) == 2 and words[0] == "listen-port":
            self._set_port(name, int(words[1]))
        elif words[::3] == ["peer"] * (len(words) // 3) and words[2::3] == ["remove"] * (len(words) // 3) and len(words) % 3 == 0:
            for key in words[1::3]:
                if self.wg[name].peers.pop(key, None) is None:
                    raise AssertionError(f"peer {key} is not there to be removed")
        elif len(words) == 4 and words[::2] == ["peer", "preshared-key"] and words[3] == "/dev/stdin":
            key = None if stdin.strip() == NO_KEY else stdin.strip()
            self.wg[name].peers[words[1]].psk = key
            self.secrets.update([key] if key else [])
        elif len(words) == 4 and words[::2] == ["peer", "endpoint"]:
            self.wg[name].peers[words[1]].endpoint = words[3]
        else:
            raise AssertionError(f"the fake host does not know: wg set {words}")

    def _set_port(self, name: str, port: int) -> None:
        if any(device.port == port for other, device in self.wg.items() if other != name) or f":{port:04X} " in (self.read("/proc/net/udp") or ""):
            raise Refused(1, "Unable to modify interface: Address already in use")
        self.wg[name].port = port

    def _set_peers(self, name: str, peers: list[dict[str, str]]) -> None:
        device = self.wg[name]
        for given in peers:
            if "endpoint" in given:
                host, _colon, port = given["endpoint"].rpartition(":")
                found = self.resolve(host.strip("[]"))
                if not found:
                    raise Refused(1, f"Name or service not known: `{given['endpoint']}'")
                given["endpoint"] = f"[{found[0]}]:{port}" if ":" in found[0] else f"{found[0]}:{port}"
        for given in peers:
            peer = device.peers.setdefault(given["publickey"], Peer())
            if "presharedkey" in given:
                peer.psk = None if given["presharedkey"] == NO_KEY else given["presharedkey"]
                self.secrets.update([peer.psk] if peer.psk else [])
            if "persistentkeepalive" in given:
                peer.keepalive = 0 if given["persistentkeepalive"] == "off" else int(given["persistentkeepalive"])
            peer.endpoint = given.get("endpoint", peer.endpoint)
            allowed = [str(ipaddress.ip_network(item.strip(), strict=False)) for item in given.get("allowedips", "").split(",") if item.strip()]
            for other in device.peers.values():  # a prefix belongs to one peer; the last to ask has it
                other.allowed = [network for network in other.allowed if network not in allowed]
            peer.allowed = allowed

    def _wg_quick(self, words: list[str], stdin: str) -> str:
        verb, name = words
        text = self.read(f"/etc/wireguard/{name}.conf")
        if text is None or (verb == "up") == (name in self.links):
            raise Refused(1, f"wg-quick: `{name}': no file, or it exists already, or does not exist")
        self._step(f"wg-quick {verb} {name}", lambda: self._up(name, text) if verb == "up" else self._down(name, text))
        return ""

    def _down(self, name: str, text: str) -> None:
        path, (interface, _peers) = f"/etc/wireguard/{name}.conf", _sections(text)
        if interface.get("saveconfig", [""])[-1].lower() == "true":
            self.files[path] = (self.files[path][0], self._saved(name, interface))
        self.drop_link(name)

    def _saved(self, name: str, interface: dict[str, list[str]]) -> str:
        """Return what wg-quick writes when an interface with SaveConfig goes: what the kernel has, in its order, and no comment."""
        device = self.wg[name]
        lines = ["[Interface]", *(f"Address = {address}" for address in self.links[name].addresses)]
        kept = ("DNS", "MTU", "Table", "SaveConfig", "PreUp", "PostUp", "PreDown", "PostDown")
        lines += [f"{key} = {value}" for key in kept for value in interface.get(key.lower(), ())]
        lines += [f"ListenPort = {device.port}", f"PrivateKey = {device.private}"]
        for key, peer in device.peers.items():
            lines += ["", "[Peer]", f"PublicKey = {key}", *([f"PresharedKey = {peer.psk}"] if peer.psk else [])]
            lines += [f"AllowedIPs = {', '.join(peer.allowed)}"] if peer.allowed else []
            lines += [f"Endpoint = {peer.endpoint}"] if peer.endpoint else []
            lines += [f"PersistentKeepalive = {peer.keepalive}"] if peer.keepalive else []
        return "".join(f"{line}\n" for line in lines)

    def _up(self, name: str, text: str) -> None:
        interface, peers = _sections(text)
        self.add_link(name, kind="wireguard")
        self.wg[name] = Device(clamped(interface["privatekey"][-1]))
        try:
            self._set_port(name, int(interface.get("listenport", ["40000"])[-1]))  # without one, any that is free
            self._set_peers(name, peers)
            for address in interface.get("address", ()):
                for one in address.split(","):
                    self._add_address(name, one.strip())
            self.links[name].mtu = int(interface.get("mtu", ["1420"])[0])
            default = any(network.endswith("/0") for peer in self.wg[name].peers.values() for network in peer.allowed)
            assert not default or interface.get("table") == ["off"], "a default route without Table = off"
            for network in [] if interface.get("table") == ["off"] else [n for peer in self.wg[name].peers.values() for n in peer.allowed]:
                family = 6 if ":" in network else 4
                address = network.partition("/")[0]
                if not any(route.dev == name and route.family == family and covers(route.dst, address) for route in self.routes):
                    self._change_route(family, "add", [network, "dev", name])
            for command in interface.get("postup", ()):
                if command.startswith("ip -"):  # the hooks of others do nothing that the engine looks at
                    self._ip(command.split()[1:], "")
        except Refused:
            self.drop_link(name)
            raise


def made_key(seed: str) -> str:
    """Make a key that is the same for the same seed."""
    return base64.b64encode(hashlib.sha256(seed.encode()).digest()).decode()


def public_key(private: str) -> str:
    """Derive a public key; for a test any function does that cannot be turned round."""
    if len(base64.b64decode(private)) != 32:
        raise Refused(1, "wg: Key is not the correct length or format")
    return made_key(f"public {clamped(private)}")


def clamped(private: str) -> str:
    """Return a private key as the kernel keeps it and shows it."""
    key = bytearray(base64.b64decode(private))
    key[0], key[31] = key[0] & 0xF8, key[31] & 0x7F | 0x40
    return base64.b64encode(key).decode()


def _dump(name: str, device: Device) -> Iterator[str]:
    private = device.private or "(none)"
    yield f"{name}\t{private}\t{public_key(private) if device.private else '(none)'}\t{device.port}\toff"
    for key, peer in device.peers.items():
        allowed, keepalive = ",".join(peer.allowed) or "(none)", peer.keepalive or "off"
        yield f"{name}\t{key}\t{peer.psk or '(none)'}\t{peer.endpoint or '(none)'}\t{allowed}\t{peer.handshake}\t{peer.received}\t{peer.sent}\t{keepalive}"


def _sections(text: str) -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    """Read a file as wg-quick and wg do: keys in any case, what they do not know is refused, of a peer's networks all lines count."""
    interface: dict[str, list[str]] = {}
    peers: list[dict[str, str]] = []
    header = ""
    for line in (raw.partition("#")[0].strip() for raw in text.split("\n")):
        name, equals, value = (part.strip() for part in line.partition("="))
        name = name.lower()
        if line.lower() in ("[interface]", "[peer]"):
            header = line.lower()
            peers += [{}] if header == "[peer]" else []
        elif header == "[interface]" and equals and name in WG_QUICK:
            interface.setdefault(name, []).append(value)
        elif header == "[peer]" and equals and name in ("publickey", "presharedkey", "allowedips", "endpoint", "persistentkeepalive"):
            peers[-1][name] = f"{peers[-1][name]}, {value}" if name == "allowedips" and name in peers[-1] else value
        elif line:
            raise Refused(1, f"Line unrecognized: `{line}'")
    return interface, peers
