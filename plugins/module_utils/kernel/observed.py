# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says now. Each part is read once, and only when somebody asks for it."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

from ..base.command import Host
from ..base.networks import FAMILIES, address_of, network_of
from . import iptables, routing, tc, wireguard
from .model import Backend, Interface, Routing, SavedRuleset
from .plan import Effect, Plan, write_files


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
    def routing(self) -> dict[int, Routing]:
        """Policy rules and routes by family."""
        return {family: routing.read_routing(self.host, family) if family in self.families else Routing() for family in FAMILIES}

    @cached_property
    def queues(self) -> dict[str, tc.Queue]:
        """What limits interfaces, by name; only hosts with a limit ask for it."""
        return tc.read_queues(self.host)

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

    def simulate(self, plan: Plan) -> None:
        """Change what was observed as applying a plan would change the host, whose files are a draft's."""
        write_files(self.host, plan.steps)
        write_files(self.host, (effect for effect in plan.effects if not isinstance(effect, Effect)))
        slices: dict[str, list[Effect]] = {}  # of which none says anything of another
        for effect in plan.effects:
            if isinstance(effect, Effect):
                slices.setdefault(effect.slice, []).append(effect)
        for name, effects in slices.items():
            for change, same in itertools.groupby(effects, lambda effect: effect.change):
                setattr(self, name, change(getattr(self, name), [item for effect in same for item in effect.items]))

    def why_silent(self, device: str) -> str:
        """Say why an interface that is there carries nothing; empty where it does."""
        flags = self.links.get(device, {}).get("flags", ("UP", "LOWER_UP"))
        return "is down" if "UP" not in flags else "" if "LOWER_UP" in flags else "has no carrier"

    def warn(self, warning: str) -> None:
        """Add a warning, once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def is_in(self, device: str, network: str) -> bool:
        """Tell whether the host has an address, or its counterpart, in a network; else it is a route of another VPN, or a pinned one."""
        known = (str(address[end]) for address in _addresses(self.links.get(device, {})) for end in ("local", "address") if address.get(end))
        return any(address_of(address) in network_of(network) for address in known)

    def host_networks(self, devices: str) -> dict[str, list[str]]:
        """Return the networks that the host is in or has a route to, by interface, without those of links and of the devices' interface."""
        found: dict[str, list[str]] = {}
        for family in FAMILIES:
            for device, network in self.routing[family].host_networks:
                if not is_ours(device, devices):
                    found.setdefault(f"interface {device} of this host", []).append(network)
        for name, item in self.links.items():
            if is_ours(name, devices) or name == "lo":
                continue
            for address in _addresses(item):
                found.setdefault(f"interface {name} of this host", []).append(f"{address['local']}/{address['prefixlen']}")
        return {who: sorted(set(networks)) for who, networks in found.items()}

    def addresses(self) -> frozenset[str]:
        """Return the host's own addresses."""
        return frozenset(str(address["local"]) for item in self.links.values() for address in _addresses(item))

    def used_ports(self) -> set[int]:
        """Return the UDP ports that somebody listens on."""
        ports = {interface.listen_port for interface in self.wireguard.values() if interface.listen_port}
        for path in ("/proc/net/udp", "/proc/net/udp6"):
            for line in (self.host.read(path) or "").splitlines()[1:]:
                ports.add(int(line.split()[1].rsplit(":", 1)[1], 16))
        return ports


def is_ours(name: str, devices: str) -> bool:
    """Tell whether an interface is a link's or the devices'."""
    return name.startswith("pic-") or name == devices


def _addresses(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [a for a in item.get("addr_info", ()) if a.get("family") in ("inet", "inet6") and a.get("local") and not str(a["local"]).startswith("fe80:")]
