# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has, as data: interfaces, routing, and rulesets as they were read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Union

from .lookups import Lookup, Wide

PROTOCOL = 201  # marks what is ours; clear of the protocols that the kernel, DHCP and routing daemons use
MAIN, LOCAL = 254, 255


@dataclass(frozen=True)
class PolicyRule:
    """One policy rule; without a table it answers "unreachable". destination: a network for a shared rule and for a device's exception, else None.

    device: the interface by which this host itself sends; None for what it forwards.
    """

    family: int
    priority: int
    source: str
    table: int | None = None
    suppress: int | None = None
    destination: str | None = None
    device: str | None = None

    def render(self) -> str:
        """Return the rule as ip takes it after 'rule add' or 'rule del'."""
        destination = "" if self.destination is None else f"to {self.destination} "
        destination += "" if self.device is None else f"oif {self.device} "
        action = "unreachable" if self.table is None else f"lookup {self.table}"
        suppress = "" if self.suppress is None else f" suppress_prefixlength {self.suppress}"
        return f"from {self.source} {destination}{action}{suppress} pref {self.priority} protocol {PROTOCOL}"


@dataclass(frozen=True)
class Skip:
    """A policy rule that sends all but what comes from a network on to a later priority; to: None for one that does nothing, since others lead there."""

    family: int
    priority: int
    network: str
    to: int | None = None

    def render(self) -> str:
        """Return the rule as ip takes it after 'rule add' or 'rule del'."""
        action = "nop" if self.to is None else f"goto {self.to}"
        return f"not from {self.network} {action} pref {self.priority} protocol {PROTOCOL}"


@dataclass(frozen=True)
class Route:
    """One route of ours; without a device it answers "unreachable"."""

    family: int
    destination: str
    device: str | None = None
    table: int = MAIN
    metric: int | None = None

    def render(self) -> str:
        """Return the route as ip takes it after 'route replace' or 'route del'."""
        kind = "unreachable " if self.device is None else ""
        device = "" if self.device is None else f" dev {self.device}"
        metric = "" if self.metric is None else f" metric {self.metric}"
        return f"{kind}{self.destination}{device} table {self.table}{metric} protocol {PROTOCOL}"

    def words(self) -> str:
        """Return the route as a person reads it."""
        table = "" if self.table == MAIN else f" in table {self.table}"
        return f"{self.destination} {'unreachable' if self.device is None else f'through {self.device}'}{table}"


@dataclass(frozen=True)
class Routing:
    """What one family's routing holds: our rules and routes, and what others have."""

    rules: tuple[PolicyRule, ...] = ()  # those that decide
    routes: tuple[Route, ...] = ()
    foreign_priorities: frozenset[int] = frozenset()
    foreign_tables: frozenset[int] = frozenset()
    host_networks: tuple[tuple[str, str], ...] = ()  # (device, network) of all tables but local that is not ours
    connected: tuple[tuple[str, str], ...] = ()  # those of them that the host is itself in
    uplink: str | None = None
    lookups: tuple[Lookup, ...] = ()  # policy rules of others
    wide: tuple[Wide, ...] = ()  # routes of others that are as wide as a default one
    advertised: tuple[str, ...] = ()  # devices by which routers have made themselves known as a way out (IPv6)
    skips: tuple[Skip, ...] = ()  # our rules that skip others of ours

    @property
    def every_rule(self) -> list[PolicyRule | Skip]:
        """Return our rules, those that decide and those that skip others."""
        return [*self.rules, *self.skips]


def foreign_priorities(routings: Iterable[Routing]) -> frozenset[int]:
    """Return the priorities that policy rules of others have in any family."""
    return frozenset[int]().union(*(routing.foreign_priorities for routing in routings))


RoutingChange = tuple[str, Union[PolicyRule, Skip, Route]]  # "add", "replace" or "del", and what


def changed(routing: Mapping[int, Routing], changes: Iterable[RoutingChange]) -> dict[int, Routing]:
    """Return what changes make of our rules and routes, by family."""
    by_family: dict[int, list[RoutingChange]] = {}
    for verb, item in changes:
        by_family.setdefault(item.family, []).append((verb, item))
    return {family: _changed(seen, by_family[family]) if family in by_family else seen for family, seen in routing.items()}


def _changed(routing: Routing, changes: Iterable[RoutingChange]) -> Routing:
    rules = routing.every_rule
    routes: dict[tuple[str, int, int | None], list[Route]] = {}
    for route in routing.routes:
        routes.setdefault((route.destination, route.table, route.metric), []).append(route)
    for verb, item in changes:
        if not isinstance(item, Route):
            (rules.remove if verb == "del" else rules.append)(item)
        else:
            routes.pop((item.destination, item.table, item.metric), None)
            if verb != "del":
                routes[item.destination, item.table, item.metric] = [item]
    return replace(
        routing,
        rules=tuple(rule for rule in rules if isinstance(rule, PolicyRule)),
        routes=tuple(route for same in routes.values() for route in same),
        skips=tuple(rule for rule in rules if isinstance(rule, Skip)),
    )


def without_routes_of(routing: Routing, device: str) -> Routing:
    """Return routing without our routes through an interface."""
    return _changed(routing, (("del", route) for route in routing.routes if route.device == device))


@dataclass
class WgPeer:
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
    peers: dict[str, WgPeer] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    mtu: int | None = None
    up: bool = True
    routes: list[Route] = field(default_factory=list)


def loses_ipv4(before: Interface, after: Interface) -> bool:
    """Tell whether an interface's last IPv4 address goes, with which the kernel deletes its IPv4 routes."""
    return any("." in address for address in before.addresses) and not any("." in address for address in after.addresses)


@dataclass
class Saved:
    """One table as iptables-save printed it: every chain with its policy ('-' for a user chain) and rules in order.

    native: whether it has base chains beside those of iptables, which decide packets as well and are not shown.
    hidden: why the table cannot be shown, and what to do; empty where it can.
    """

    policies: dict[str, str] = field(default_factory=dict)
    rules: dict[str, list[str]] = field(default_factory=dict)
    native: bool = False
    hidden: str = ""


SavedRuleset = dict[str, Saved]


@dataclass(frozen=True)
class Backend:
    """The pair of programs of one family and variant, e.g. iptables-nft-save and iptables-nft-restore."""

    family: int
    variant: str  # "", "-nft" or "-legacy"

    @property
    def save(self) -> str:
        """Return the program that prints all rules."""
        return f"{base_program(self.family)}{self.variant}-save"

    @property
    def restore(self) -> str:
        """Return the program that loads rules."""
        return f"{base_program(self.family)}{self.variant}-restore"


def base_program(family: int) -> str:
    """Return the program of a family without its variant."""
    return "ip6tables" if family == 6 else "iptables"
