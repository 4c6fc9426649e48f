# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says now. Each part is read once, and only when somebody asks for it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from . import iptables, lookups, routing, wireguard
from .command import Host
from .firewall import Surroundings
from .iptables import Backend, SavedRuleset
from .names import is_interface
from .networks import EVERYWHERE, FAMILIES, address_of, network_of, of_family
from .records import Cell, State, sorted_networks
from .texts import printable
from .wireguard import Interface, loses_ipv4


class Observed:
    """A host as it is."""

    def __init__(self, host: Host) -> None:
        """host: the machine that is asked."""
        self.host = host
        self.warnings: list[str] = []

    @cached_property
    def links(self) -> dict[str, dict[str, Any]]:
        """All network interfaces with their addresses, by name, as ip prints them."""
        if not self.host.has("ip"):
            return {}
        return {item["ifname"]: item for item in self.host.run_json(["ip", "-N", "-json", "addr", "show"]) or [] if item}

    @cached_property
    def wireguard(self) -> dict[str, Interface]:
        """All WireGuard interfaces, with their addresses."""
        interfaces = wireguard.read_interfaces(self.host)
        for name, interface in interfaces.items():
            item = self.links.get(name, {})
            interface.up = "UP" in item.get("flags", ())
            interface.mtu = item.get("mtu")
            interface.addresses = [f"{address_of(a['local'])}/{a['prefixlen']}" for a in _addresses(item)]
        return interfaces

    @cached_property
    def families(self) -> tuple[int, ...]:
        """The families that the kernel has. Of one that it has not nothing is read, and nothing is planned for it."""
        return tuple(family for family in FAMILIES if family == 4 or self.host.exists("/proc/sys/net/ipv6"))

    @cached_property
    def routing(self) -> dict[int, routing.Routing]:
        """Policy rules and routes by family."""
        return {family: routing.read_routing(self.host, family) if family in self.families else routing.Routing() for family in FAMILIES}

    @cached_property
    def backends(self) -> dict[int, tuple[Backend, Backend | None]]:
        """The iptables variant in use, and the other one where it holds rules as well, by family."""
        chosen: dict[int, tuple[Backend, Backend | None]] = {}
        for family in FAMILIES:
            if family not in self.families:
                chosen[family] = Backend(family, ""), None
                continue
            backend, other, warnings = iptables.choose_backend(self.host, family)
            chosen[family] = backend, other
            self.warnings += warnings
        return chosen

    @cached_property
    def iptables(self) -> dict[int, SavedRuleset]:
        """All rules by family."""
        return {family: iptables.read_rules(self.host, self.backends[family][0]) if family in self.families else {} for family in FAMILIES}

    @cached_property
    def other_iptables(self) -> dict[int, SavedRuleset]:
        """All rules of the variant that is not in use, by family."""
        return {family: iptables.read_rules(self.host, other) for family, (_used, other) in self.backends.items() if other}

    def take_rules(self, backend: Backend, lines: list[str]) -> None:
        """Count lines as restored."""
        rules = self.iptables if backend == self.backends[backend.family][0] else self.other_iptables
        rules[backend.family] = iptables.restored(rules[backend.family], lines)

    def surroundings(self, state: State, family: int) -> Surroundings:
        """Return what the firewall has to know of the host."""
        seen, cell = self.routing[family], state.cell
        connected = {network for device, network in seen.connected if not is_ours(device, cell) and self._is_in(device, network)}
        devices = self.wireguard.get(cell.interface, Interface(cell.interface))
        links = {link.public_key for link in state.links.values()} | {entry.split()[1] for entry in state.leaving.links}
        senders = {network for key, peer in devices.peers.items() if key not in links for network in peer.allowed_ips}
        uplink = self.uplink(cell, family) if cell.has_family(family) else None  # without networks of its own it is no exit there either
        if uplink and not is_interface(uplink):
            self._warn(f"Interface {printable(uplink)!r}, the uplink, has a name that no rule can hold. Rename it; until then no device leaves by it.")
            uplink = None
        return Surroundings(uplink, tuple(sorted_networks(connected)), tuple(sorted_networks(of_family(family, senders - set(EVERYWHERE)))))

    def uplink(self, cell: Cell, family: int) -> str | None:
        """Return the interface by which packets of devices go to the internet: the stated one, or the one that the kernel would find for them."""
        return cell.uplink or self.way_out(cell, family) or self.routing[family].uplink

    def way_out(self, cell: Cell, family: int) -> str | None:
        """Return the interface that the kernel finds for what a device sends to the internet, by the rules and routes of others; None where it finds none."""
        seen = self.routing[family]
        found = lookups.way_out(family, seen.lookups, seen.wide, next(iter(cell.own_networks(family)), None), cell.interface)
        return None if found is None or is_ours(found, cell) else found

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _is_in(self, device: str, network: str) -> bool:
        """Tell whether the host has an address, or its counterpart, in a network; else it is a route of another VPN, or a pinned one."""
        known = (str(address[end]) for address in _addresses(self.links.get(device, {})) for end in ("local", "address") if address.get(end))
        return any(address_of(address) in network_of(network) for address in known)

    def host_networks(self, state: State) -> dict[str, list[str]]:
        """Return the networks that the host is in or has a route to, by device, without those of the cell and its links."""
        found: dict[str, list[str]] = {}
        for family in FAMILIES:
            for device, network in self.routing[family].host_networks:
                if not is_ours(device, state.cell):
                    found.setdefault(f"interface {device} of this host", []).append(network)
        for name, item in self.links.items():
            if is_ours(name, state.cell) or name == "lo":
                continue
            for address in _addresses(item):
                found.setdefault(f"interface {name} of this host", []).append(f"{address['local']}/{address['prefixlen']}")
        return {who: sorted(set(networks)) for who, networks in found.items()}

    def addresses(self) -> frozenset[str]:
        """Return the host's own addresses."""
        return frozenset(str(address["local"]) for item in self.links.values() for address in _addresses(item))

    def take_up(self, interface: Interface) -> None:
        """Count a WireGuard interface as there, with its routes; those of other tables come only when it is started."""
        before = self.wireguard.get(interface.name)
        self.wireguard[interface.name] = interface
        self.links.setdefault(interface.name, {})
        if before and loses_ipv4(before, interface):
            self._lose_routes(interface.name, 4)
        for family in FAMILIES:
            mine = (route for route in interface.routes if route.family == family and (before is None or route.table == routing.MAIN))
            self.routing[family] = routing.changed(self.routing[family], (("replace", route) for route in mine))

    def take_down(self, name: str) -> None:
        """Count an interface as gone, with its routes."""
        self.wireguard.pop(name, None)
        self.links.pop(name, None)
        for family in FAMILIES:
            self._lose_routes(name, family)

    def _lose_routes(self, name: str, family: int) -> None:
        gone = (("del", route) for route in self.routing[family].routes if route.device == name)
        self.routing[family] = routing.changed(self.routing[family], gone)

    def used_ports(self) -> set[int]:
        """Return the UDP ports that somebody listens on."""
        ports = {interface.listen_port for interface in self.wireguard.values() if interface.listen_port}
        for path in ("/proc/net/udp", "/proc/net/udp6"):
            for line in (self.host.read(path) or "").splitlines()[1:]:
                ports.add(int(line.split()[1].rsplit(":", 1)[1], 16))
        return ports


def is_ours(device: str, cell: Cell) -> bool:
    """Tell whether an interface is a link's or the devices'."""
    return device.startswith("pic-") or device == cell.interface


def _addresses(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [a for a in item.get("addr_info", ()) if a.get("family") in ("inet", "inet6") and a.get("local") and not str(a["local"]).startswith("fe80:")]
