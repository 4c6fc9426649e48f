# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which interface a forwarded packet leaves for the internet: what the kernel would find, by the policy rules and routes of others. Pure.

The kernel itself can be asked only once the interface that the packet comes from is there, and a plan has to know it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.networks import WIDEST_DEFAULT_LIKE, address_of, interface_of, network_of

SOMEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}  # nobody's (RFC 5737, RFC 3849), so that only routes as wide as a default one are asked for it
_MAIN, _THROW = 254, 9
# What a packet that comes from a device and goes to the internet need not have.
_NARROW = ("dst", "oif", "tos", "dsfield", "ipproto", "sport", "sport_start", "dport", "dport_start", "uid_start", "tun_id", "l3mdev")


@dataclass(frozen=True)
class Lookup:
    """One policy rule of others. matches: whether it is about a packet without a mark that is forwarded to the internet; source and iif decide the rest."""

    priority: int
    matches: bool = True
    inverted: bool = False
    source: str | None = None
    iif: str | None = None
    table: int | None = None
    suppress: int | None = None
    goto: int | None = None
    passes: bool = False  # it does nothing


@dataclass(frozen=True)
class Wide:
    """One route of others that is as wide as a default one.

    device: None where it answers that nothing can be reached. throws: whether it sends the kernel on to the next rule. others: devices of its further ways.
    """

    table: int
    network: str
    device: str | None
    metric: int = 0
    throws: bool = False
    others: tuple[str, ...] = ()


def parse_lookup(item: Mapping[str, Any]) -> Lookup:
    """Read one rule as ip -json -N prints it."""
    source = item.get("src", "all")
    marked = int(str(item.get("fwmark", "0")), 0) != 0
    return Lookup(
        int(item.get("priority", 0)),
        not marked and not any(key in item for key in _NARROW),
        "not" in item,
        None if source == "all" else f"{source}/{item['srclen']}" if "srclen" in item else str(source),
        item.get("iif"),
        _number(item.get("table")),
        _number(item.get("suppress_prefixlen")),
        _number(item.get("goto")),
        "nop" in item,
    )


def parse_wide(family: int, item: Mapping[str, Any]) -> Wide | None:
    """Read one route as ip -json -N prints it; None for one that leads to fewer places, or nowhere now."""
    network = {4: "0.0.0.0/0", 6: "::/0"}[family] if item["dst"] == "default" else item["dst"]
    devices = [item["dev"]] if item.get("dev") else list(dict.fromkeys(hop["dev"] for hop in item.get("nexthops", ()) if hop.get("dev")))
    if "/" not in network or int(network.rpartition("/")[2]) > WIDEST_DEFAULT_LIKE[family] or "dead" in item.get("flags", ()):
        return None
    kind = _number(item.get("type"))
    devices = [] if kind in (6, 7, 8, _THROW) else devices  # blackhole, unreachable, prohibit
    table, metric = _number(item.get("table")) or _MAIN, _number(item.get("metric")) or 0
    return Wide(table, network, next(iter(devices), None), metric, kind == _THROW, tuple(devices[1:]))


def way_out(family: int, rules: Iterable[Lookup], routes: Iterable[Wide], network: str | None, iif: str) -> str | None:
    """Return the interface by which a packet from a network leaves that came in by iif; None where it does not. network: None for one that no rule is about."""
    return way_to(SOMEWHERE[family], rules, routes, network, iif)[0]


def way_to(to: str, rules: Iterable[Lookup], routes: Iterable[Wide], network: str | None, iif: str) -> tuple[str | None, int | None]:
    """Return the interface as way_out does, for a packet to an address that all of the rules may be about, and the priority of the rule that decides."""
    routes, left = tuple(routes), sorted(rules, key=lambda rule: rule.priority)
    while left:
        rule = left.pop(0)
        if rule.passes or not _is_about(rule, network, iif):
            continue
        if rule.goto is not None:  # only ever forwards (kernel: fib_rules.c)
            left = [other for other in left if other.priority >= rule.goto]
            continue
        if rule.table is None:
            return None, rule.priority
        found = _best(to, routes, rule.table)
        if found and not found.throws and not (rule.suppress is not None and _length(found) <= rule.suppress):
            return found.device, rule.priority
    return None, None


def _is_about(rule: Lookup, network: str | None, iif: str) -> bool:
    matches = rule.matches and rule.iif in (None, iif)
    if matches and rule.source is not None:
        inside, outside = interface_of(network or "0.0.0.0/32").network, interface_of(rule.source).network
        matches = inside.version == outside.version and inside.subnet_of(outside)  # type: ignore[arg-type]
    return matches != rule.inverted


def _best(to: str, routes: Iterable[Wide], table: int) -> Wide | None:
    fitting = [route for route in routes if route.table == table and address_of(to) in network_of(route.network)]
    return min(fitting, key=lambda route: (-_length(route), route.metric), default=None)


def _length(route: Wide) -> int:
    return int(route.network.rpartition("/")[2])


def _number(value: Any) -> int | None:
    return int(value) if value is not None and str(value).isdigit() else None
