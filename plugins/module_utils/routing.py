# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy rules and routes of the kernel: reading, comparing, and the batch that changes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Union

from .command import Host
from .lookups import Lookup, Wide, parse_lookup, parse_wide
from .networks import WIDEST_DEFAULT_LIKE, interface_of
from .plan import Plan, Run

PROTOCOL = 201  # marks what is ours; clear of the protocols that the kernel, DHCP and routing daemons use
MAIN, LOCAL = 254, 255
RESERVED_TABLES = frozenset({0, 253, 254, 255})
TABLES = range(4200, 5200)

# Priorities 4000-4999 are ours: wg-quick uses 32764-32765, tailscale 5210-5270, netbird 100-110, netmaker 2500-2600.
PRIORITIES = range(4000, 4998, 10)

FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
KEPT = "/etc/sysctl.d/90-pic-cells.conf"  # the role's file

UNREACHABLE_DEFAULT_METRIC = 4278198272
UNREACHABLE_NETWORK_METRIC = 4294967295
_ADVERTISED = 9  # RTPROT_RA
_UNICAST, _UNREACHABLE = 1, 7  # RTN_UNICAST, RTN_UNREACHABLE


def setting_path(name: str) -> str:
    """Return the file of a kernel's setting, by sysctl's name for it."""
    return f"/proc/sys/{name if '/' in name else name.replace('.', '/')}"


def setting(host: Host, name: str) -> str | None:
    """Read a setting of the kernel by sysctl's name for it, with dots or with slashes; None where there is none."""
    text = host.read(setting_path(name))
    return None if text is None else text.strip()


def unforwarded(host: Host) -> list[str]:
    """Return the settings for forwarding that are off now, or would be after a reboot, by sysctl's names for them."""
    kept = {line.replace(" ", "") for line in (host.read(KEPT) or "").splitlines()}
    there = [name for family, name in FORWARDING.items() if family == 4 or setting(host, name) is not None]  # a kernel can be without IPv6
    return [name for name in there if setting(host, name) != "1" or f"{name}=1" not in kept]


@dataclass(frozen=True)
class Rule:
    """One policy rule; without a table it answers "unreachable"."""

    family: int
    priority: int
    source: str
    table: int | None = None
    suppress: int | None = None

    def render(self) -> str:
        """Return the rule as ip takes it after 'rule add' or 'rule del'."""
        action = "unreachable" if self.table is None else f"lookup {self.table}"
        suppress = "" if self.suppress is None else f" suppress_prefixlength {self.suppress}"
        return f"from {self.source} {action}{suppress} pref {self.priority} protocol {PROTOCOL}"


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

    rules: tuple[Rule, ...] = ()
    routes: tuple[Route, ...] = ()
    foreign_priorities: frozenset[int] = frozenset()
    foreign_tables: frozenset[int] = frozenset()
    host_networks: tuple[tuple[str, str], ...] = ()  # (device, network) of all tables but local that is not ours
    connected: tuple[tuple[str, str], ...] = ()  # those of them that the host is itself in
    uplink: str | None = None
    lookups: tuple[Lookup, ...] = ()  # policy rules of others
    wide: tuple[Wide, ...] = ()  # routes of others that are as wide as a default one
    advertised: tuple[str, ...] = ()  # devices by which routers have made themselves known as a way out (IPv6)


Change = tuple[str, Union[Rule, Route]]  # "add", "replace" or "del", and what


def read_routing(host: Host, family: int) -> Routing:
    """Read rules and routes of one family; nothing where ip is not installed yet. Raises CommandFailed."""
    if not host.has("ip"):
        return Routing()
    rules = host.run_json(["ip", f"-{family}", "-N", "-json", "rule", "show"]) or []
    routes = host.run_json(["ip", f"-{family}", "-N", "-json", "route", "show", "table", "all"]) or []
    return parse_routing(family, rules, routes)


def parse_routing(family: int, rules: list[dict[str, Any]], routes: list[dict[str, Any]]) -> Routing:
    """Read what ip -json -N printed; an own rule is one of our protocol within our priorities."""
    own_rules, foreign_priorities, foreign_tables, lookups = [], set(), set(), []
    for item in rules:
        priority, table = int(item.get("priority", 0)), _number(item.get("table"))
        if str(item.get("protocol")) == str(PROTOCOL) and PRIORITIES.start <= priority < PRIORITIES.stop + 10:
            source = item.get("src", "all")
            if "srclen" in item and source != "all" and item["srclen"] not in (32, 128):
                source = f"{source}/{item['srclen']}"
            own_rules.append(Rule(family, priority, source, table, _number(item.get("suppress_prefixlen"))))
        else:
            foreign_priorities.add(priority)
            lookups.append(parse_lookup(item))
            if table is not None:
                foreign_tables.add(table)
    own_routes, networks, connected, defaults, advertised, wide = [], [], [], [], [], []
    for item in routes:
        table, metric = _number(item.get("table")) or MAIN, _number(item.get("metric"))
        destination, device = item["dst"], item.get("dev") or next((hop.get("dev") for hop in item.get("nexthops", ())), None)
        unreachable = _number(item.get("type")) == _UNREACHABLE
        if _number(item.get("protocol")) == PROTOCOL:
            # The kernel shows 1024 for an IPv6 route that was given no metric.
            implied = family == 6 and metric == 1024
            own_routes.append(Route(family, _network(destination), None if unreachable else device, table, None if implied else metric))
            continue
        foreign_tables.add(table)
        wide += [route for route in [parse_wide(family, item)] if route]
        if table == LOCAL or _number(item.get("type")) not in (None, _UNICAST) or not device:
            continue
        if destination == "default":
            defaults += [(metric or 0, device)] if table == MAIN else []
            advertised += [device] if _number(item.get("protocol")) == _ADVERTISED else []
        elif not destination.startswith("fe80:") and interface_of(_network(destination)).network.prefixlen > WIDEST_DEFAULT_LIKE[family]:
            networks.append((device, _network(destination)))
            if table == MAIN and "gateway" not in item and "via" not in item:
                connected.append(networks[-1])
    return Routing(
        tuple(own_rules),
        tuple(own_routes),
        frozenset(foreign_priorities),
        frozenset(foreign_tables),
        tuple(networks),
        tuple(connected),
        min(defaults)[1] if defaults else None,
        tuple(lookups),
        tuple(wide),
        tuple(advertised),
    )


def batch(family: int, changes: Iterable[Change]) -> Plan:
    """Plan one call of ip for all changes, none where there is no change."""
    changes = tuple(changes)
    text = "".join(f"{'rule' if isinstance(item, Rule) else 'route'} {verb} {item.render()}\n" for verb, item in changes)
    if not changes:
        return Plan()
    return Plan([Run(("ip", f"-{family}", "-batch", "-"), text)], effects=[lambda seen: seen.routing.update({family: changed(seen.routing[family], changes)})])


def changed(routing: Routing, changes: Iterable[Change]) -> Routing:
    """Return what changes make of our rules and routes."""
    rules, routes = list(routing.rules), list(routing.routes)
    for verb, item in changes:
        if isinstance(item, Rule):
            (rules.remove if verb == "del" else rules.append)(item)
        else:
            key = (item.destination, item.table, item.metric)
            routes = [route for route in routes if (route.destination, route.table, route.metric) != key] + ([] if verb == "del" else [item])
    return replace(routing, rules=tuple(rules), routes=tuple(routes))


def _network(destination: str) -> str:
    return destination if destination == "default" else str(interface_of(destination).network)


def _number(value: Any) -> int | None:
    return int(value) if value is not None and str(value).isdecimal() else None
