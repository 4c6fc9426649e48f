# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy rules and routes of the kernel: reading, comparing, and the batch that changes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base.command import Host
from ..base.networks import FORWARDING, WIDEST_DEFAULT_LIKE, interface_of
from .lookups import parse_lookup, parse_wide
from .model import LOCAL, MAIN, PROTOCOL, PolicyRule, Route, Routing, RoutingChange, Skip, changed
from .plan import Effect, Plan, Run

RESERVED_TABLES = frozenset({0, 253, 254, 255})
TABLES = range(4200, 5200)

# Priorities 3990-4999 are ours: wg-quick uses 32764-32765, tailscale 5210-5270, netbird 100-110, netmaker 2500-2600.
PRIORITIES = range(4000, 4998, 10)
TREE_PRIORITIES = range(4000, 4990)  # an engine from before trees finds three free ones after them
# Shared rules come before those of devices, where an engine from before them does not look: it would take one for a device's.
SHARED_PRIORITIES = range(3990, 4000)
# Two for each length of a prefix, so that the longest decides; where an engine from before them does not look either.
EXCEPTED_PRIORITIES = range(3732, 3990)

PROBED_PRIORITY = 3731  # of what this host itself sends by an exit's interface

# by whether a rule has a destination
_OWN_PRIORITIES = {False: range(PRIORITIES.start, PRIORITIES.stop + 10), True: range(EXCEPTED_PRIORITIES.start, SHARED_PRIORITIES.stop)}
_OTHER_SELECTORS = frozenset({"not", "fwmark", "iif", "oif", "tos", "dsfield", "ipproto", "sport", "dport", "uid_start", "goto"})

KEPT = "/etc/sysctl.d/90-pic-cells.conf"  # the role's file
NETWORKD = "/etc/systemd/networkd.conf.d/90-pic-cells.conf"

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


def forwards(device: str) -> str:
    """Return the setting that decides whether IPv4 packets that come in by an interface are forwarded; for IPv6 there is none."""
    return f"net/ipv4/conf/{device}/forwarding"  # with slashes, as the device's name may hold a dot


def unforwarded(host: Host) -> list[str]:
    """Return the settings for forwarding that are off now, or would be after a reboot, by sysctl's names for them."""
    kept = {line.replace(" ", "") for line in (host.read(KEPT) or "").splitlines()}
    there = [name for family, name in FORWARDING.items() if family == 4 or setting(host, name) is not None]  # a kernel can be without IPv6
    return [name for name in there if setting(host, name) != "1" or f"{name}=1" not in kept]


def read_routing(host: Host, family: int) -> Routing:
    """Read rules and routes of one family; nothing where ip is not installed yet. Raises CommandFailed."""
    if not host.has("ip"):
        return Routing()
    rules = host.run_json(["ip", f"-{family}", "-N", "-json", "rule", "show"]) or []
    routes = host.run_json(["ip", f"-{family}", "-N", "-json", "route", "show", "table", "all"]) or []
    return parse_routing(family, rules, routes)


def parse_routing(family: int, rules: list[dict[str, Any]], routes: list[dict[str, Any]]) -> Routing:
    """Read what ip -json -N printed; an own rule is one of our protocol and of a form that we make, within our priorities."""
    own_rules, skips, foreign_priorities, foreign_tables, lookups = [], [], set(), set(), []
    for item in rules:
        priority, table = int(item.get("priority", 0)), _number(item.get("table"))
        selected = _selector(family, item, "dst")
        destination = selected and _network(selected)  # ip shows a single address without its length
        if str(item.get("protocol")) == str(PROTOCOL) and priority == PROBED_PRIORITY and _OTHER_SELECTORS.intersection(item) == {"oif"} and not destination:
            own_rules.append(PolicyRule(family, priority, _selector(family, item, "src") or "all", table, device=str(item["oif"])))
        elif str(item.get("protocol")) == str(PROTOCOL) and priority in _OWN_PRIORITIES[destination is not None] and not _OTHER_SELECTORS.intersection(item):
            own_rules.append(PolicyRule(family, priority, _selector(family, item, "src") or "all", table, _number(item.get("suppress_prefixlen")), destination))
        elif str(item.get("protocol")) == str(PROTOCOL) and priority in TREE_PRIORITIES and _skips(item):
            skips.append(Skip(family, priority, str(_selector(family, item, "src")), _number(item.get("goto"))))
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
        tuple(skips),
    )


def batch(family: int, changes: Iterable[RoutingChange]) -> Plan:
    """Plan one call of ip for all changes, none where there is no change."""
    changes = tuple(changes)
    text = "".join(f"{'route' if isinstance(item, Route) else 'rule'} {verb} {item.render()}\n" for verb, item in changes)
    if not changes:
        return Plan()
    return Plan([Run(("ip", f"-{family}", "-batch", "-"), text)], effects=[Effect("routing", changed, changes)])


def _skips(item: Mapping[str, Any]) -> bool:
    """Tell whether a rule has a form of Skip."""
    others = _OTHER_SELECTORS.intersection(item) - {"not"}
    return "not" in item and item.get("src", "all") != "all" and "dst" not in item and (others == {"goto"} or (not others and "nop" in item))


def _selector(family: int, item: Mapping[str, Any], key: str) -> str | None:
    """Return the network, or the address, that a rule selects by its src or dst; None where it selects all."""
    if item.get(key, "all") == "all":
        return None
    length = item.get(f"{key}len")
    return str(item[key]) if length in (None, {4: 32, 6: 128}[family]) else f"{item[key]}/{length}"


def _network(destination: str) -> str:
    return destination if destination == "default" else str(interface_of(destination).network)


def _number(value: Any) -> int | None:
    return int(value) if value is not None and str(value).isdecimal() else None
