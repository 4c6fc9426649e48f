# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage for each thing of a cell, and what it must never lead to."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed
from ansible_collections.pic.cells.plugins.module_utils.kernel.answers import question
from ansible_collections.pic.cells.plugins.module_utils.kernel.lookups import SOMEWHERE
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import MAIN
from ansible_collections.pic.cells.tests.unit.runs import PSK


def damages(host: FakeHost) -> list[tuple[str, list[str], Callable[[FakeHost], object]]]:
    """Return a damage for each thing of ours in the kernel, with the modules that repair it."""
    found: list[tuple[str, list[str], Callable[[FakeHost], object]]] = []
    for family, table in ((family, table) for family in (4, 6) for table in ("filter", "nat", "mangle")):
        for chain, rules in host.tables[host.default, family][table].rules.items():

            def of(twin: FakeHost, family: int = family, table: str = table, chain: str = chain) -> list[tuple[str, ...]]:
                return twin.tables[twin.default, family][table].rules[chain]

            kinds = {"without its last rule": lambda h, of=of: of(h).pop(), "with its first rule twice": lambda h, of=of: of(h).append(of(h)[0])}
            kinds["reordered"] = lambda h, of=of: of(h).reverse()
            for kind, damage in list(kinds.items())[: min(len(rules) + 1, 3) if rules else 0]:
                found.append((f"IPv{family} {table} {chain} {kind}", ["pic_cell_rules"], damage))
    found += [(f"{rule} gone", ["pic_policy_route"], lambda h, n=number: h.rules[4].pop(n)) for number, rule in enumerate(host.rules[4]) if rule.proto == 201]
    tunnels = ["wg_cell", "wg_cell_peer", "pic_policy_route"]
    found += [(f"{route} gone", tunnels[1:], lambda h, n=number: h.routes.pop(n)) for number, route in enumerate(host.routes) if route.proto == 201]
    for name in host.wg:
        found.append((f"{name} gone", tunnels, lambda h, n=name: h.drop_link(n)))
        found.append((f"{name} down", tunnels, lambda h, n=name: h.by_hand("ip -batch -", f"link set dev {n} down\n")))
        found.append((f"{name} on another port", tunnels, lambda h, n=name: setattr(h.wg[n], "port", 7)))
        found.append((f"{name} with another key", tunnels, lambda h, n=name: setattr(h.wg[n], "private", PSK)))
        found.append((f"{name} without peers", tunnels, lambda h, n=name: h.wg[n].peers.clear()))
    return found


def routed(host: FakeHost) -> dict[str, set[str]]:
    """Return the addresses of all devices that the records route through another cell."""
    peers = json.loads(host.read("/var/lib/pic/peer_registry.json") or '{"peers": []}')["peers"]
    return {peer["name"]: set(peer["addresses"]) for peer in peers if peer["route_via"]}


def is_steered(host: FakeHost, address: str) -> bool:
    """Tell whether policy routing keeps an address from main's default: "unreachable" at the end, or before it a table that ends, which a packet finds."""
    family = 6 if ":" in address else 4
    tables = {rule.table for rule in host.rules[family] if rule.src == address} - {MAIN}
    ending = {None, *(route.table for route in host.routes if route.family == family and ipaddress.ip_network(route.dst).prefixlen == 0)}
    return bool(tables & ending) and not any("table" not in way for way in ways_out(host, family, address))


def ways_out(host: FakeHost, family: int, address: str) -> list[dict[str, Any]]:
    """Return the way of an address to the internet as the kernel finds it; none where it finds none."""
    try:
        return [json.loads(host.run(["ip", f"-{family}", "-N", "-json", *question(SOMEWHERE[family], address, "wg0")]).out)[0]]
    except CommandFailed:
        return []


def is_walled(host: FakeHost, address: str) -> bool:
    """Tell whether the firewall keeps an address from the uplink, whatever the routing says."""
    family, network = (6, f"{address}/128") if ":" in address else (4, f"{address}/32")
    way = {"FORWARD": "-j PIC-FWD", "PIC-FWD": "-i wg0 -g PIC-PATH", "PIC-PATH": "-i wg0 ! -o pic-+ -j PIC-ROUTED", "PIC-ROUTED": f"-s {network} -j PIC-HOME"}
    return all(rule in host.chain(family, chain) for chain, rule in way.items()) and host.chain(family, "PIC-HOME")[-1] == "-j DROP"


def leaks(host: FakeHost, before: FakeHost, after: FakeHost) -> list[str]:
    """Return what can leave by the own uplink of the devices that are routed before a change and after it."""
    old, new = routed(before), routed(after)
    let_in = {network.partition("/")[0] for peer in host.wg["wg0"].peers.values() for network in peer.allowed} if "wg0" in host.wg else set()
    found = []
    for name in set(old) & set(new):
        found += [address for address in old[name] & new[name] if not (is_steered(host, address) and is_walled(host, address))]
        found += [address for address in (old[name] ^ new[name]) & let_in if not (is_steered(host, address) or is_walled(host, address))]
    return found
