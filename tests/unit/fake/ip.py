# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses, policy rules and routes, as iproute2 shows and changes them."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.pic.cells.tests.unit.fake.machine import Machine, Refused, pairs

FAMILIES = (4, 6)
MAIN, LOCAL = 254, 255


@dataclass
class Link:
    """One network interface."""

    kind: str = "ether"
    mtu: int = 1500
    up: bool = True
    addresses: list[str] = field(default_factory=list)
    flags: list[str] | None = None  # where they are not those of an interface that is up and has a carrier, or down


@dataclass
class Route:
    """One route; without a device it answers "unreachable"."""

    family: int
    dst: str
    dev: str | None
    table: int = MAIN
    metric: int = 0
    proto: int = 3
    via: str | None = None

    def show(self) -> dict[str, Any]:
        """Return what ip -json -N route show table all prints."""
        plain = {"0.0.0.0/0": "default", "::/0": "default"}.get(self.dst, self.dst.removesuffix("/128" if self.family == 6 else "/32"))
        device = "lo" if self.family == 6 and self.dev is None else self.dev
        shown = {"type": None if self.dev else "7", "dst": plain, "gateway": self.via, "dev": device, "table": None if self.table == MAIN else str(self.table)}
        shown.update({"protocol": None if self.proto == 3 else str(self.proto), "metric": self.metric or None})
        return {**{key: value for key, value in shown.items() if value is not None}, "flags": []}


@dataclass
class Rule:
    """One policy rule; without a table it answers "unreachable"."""

    priority: int
    src: str = "all"
    table: int | None = None
    suppress: int | None = None
    proto: int = 0
    unmarked: bool = False  # "not fwmark 0xca6c", as wg-quick has it
    dst: str | None = None
    oif: str | None = None
    inverted: bool = False
    goto: int | None = None
    nop: bool = False

    def show(self) -> dict[str, Any]:
        """Return what ip -json -N rule show prints."""
        shown: dict[str, Any] = {"priority": self.priority}
        for key, network in (("src", self.src), ("dst", self.dst)):
            address, _slash, length = (network or "").partition("/")
            shown.update({key: address or None, f"{key}len": int(length) if length else None})
        shown.update({"oif": self.oif})
        if self.goto is not None:
            shown.update({"goto": self.goto})
        elif not self.nop:
            shown.update({"action": "7"} if self.table is None else {"table": str(self.table)})
        shown.update({"suppress_prefixlen": self.suppress, "protocol": str(self.proto) if self.proto else None})
        marks: dict[str, Any] = {"not": None, "fwmark": "0xca6c"} if self.unmarked else {"not": None} if self.inverted else {}
        marks.update({"nop": None} if self.nop else {})
        return {**{key: value for key, value in shown.items() if value is not None}, **marks}


class Ip(Machine):
    """A host with interfaces, policy rules and routes, and the command ip."""

    def boot(self) -> None:
        super().boot()
        self.links: dict[str, Link] = {}
        self.routes: list[Route] = []
        self.shown_routes: list[dict[str, Any]] = []  # of others, of IPv4, in shapes that Route does not have, as ip prints them
        self.rules = {4: [Rule(0, table=LOCAL), Rule(32766, table=MAIN)], 6: [Rule(0, table=LOCAL), Rule(32766, table=MAIN)]}
        self.add_link("lo", "127.0.0.1/8", "::1/128")
        self.add_link("eth0", "203.0.113.11/24", "2001:db8:113::11/64")
        self.routes += [Route(4, "0.0.0.0/0", "eth0", via="203.0.113.254"), Route(6, "::/0", "eth0", metric=1024, via="2001:db8:113::254")]

    def add_link(self, name: str, *addresses: str, kind: str = "ether") -> None:
        """Add an interface, up."""
        if name in self.links:
            raise Refused(2, "RTNETLINK answers: File exists")
        self.links[name] = Link(kind)
        default = self.files.get("/proc/sys/net/ipv4/conf/default/rp_filter")
        if default:
            self.files[f"/proc/sys/net/ipv4/conf/{name}/rp_filter"] = default
        for address in addresses:
            self._add_address(name, address)

    def drop_link(self, name: str) -> None:
        """Delete an interface with its routes."""
        del self.links[name]
        self.files.pop(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", None)
        self.routes = [route for route in self.routes if route.dev != name]

    def _ip(self, words: list[str], stdin: str) -> str:
        family = int(words.pop(0)[1]) if words[0] in ("-4", "-6") else None
        if family == 6 and not self.has_ipv6():
            raise Refused(2, "RTNETLINK answers: Operation not supported")
        if words == ["-batch", "-"]:
            for number, line in enumerate(stdin.splitlines(), 1):
                try:
                    self._step(f"ip {f'-{family} ' if family else ''}{line}", lambda line=line: self._ip_change(family, line.split()))
                except Refused as refusal:
                    raise Refused(111 if refusal.rc == 111 else 1, f"{refusal.message}\nCommand failed -:{number}") from None
            return ""
        if words == ["-N", "-json", "-force", "-batch", "-"] and family:
            return self._ip_answers(family, stdin.splitlines())
        if words[:4] == ["-N", "-json", "route", "get"] and family and words[5::2] == ["from", "iif"] and len(words) == 9:
            return json.dumps([self._route_to(family, words[4], words[6])])
        if words[:1] == ["rule"] or words[:1] == ["route"]:  # PostUp, and tests
            self._ip_change(family, words)
            return ""
        if words == ["link", "add", "name", "pif-", "numtxqueues", "65535", "type", "ifb"]:  # refused in any case, and what the kernel lacks it names first
            raise Refused(2, "Error: Unknown device type." if "ifb" in self.without else "Error: Invalid number of transmit queues.")
        if words[:3] == ["link", "del", "dev"] and len(words) == 4:
            self._link(words[3])
            self._step(f"ip {' '.join(words)}", lambda: self.drop_link(words[3]))
            return ""
        if words[:2] == ["netns", "delete"] and f"/run/netns/{words[2]}" in self.files:
            self._step(f"ip {' '.join(words)}", lambda: self.files.pop(f"/run/netns/{words[2]}"))
            return ""
        if words == ["-N", "-json", "addr", "show"] and family is None:
            return json.dumps([self._show_link(name, link) for name, link in self.links.items()])
        if words == ["-N", "-json", "rule", "show"] and family:
            return json.dumps([rule.show() for rule in self.rules[family]])
        if words == ["-N", "-json", "route", "show", "table", "all"] and family:
            return json.dumps([*(route.show() for route in self.routes if route.family == family), *(self.shown_routes if family == 4 else ())])
        raise AssertionError(f"the fake host does not know: ip {words}")

    def _ip_answers(self, family: int, lines: list[str]) -> str:
        """Answer questions one after the other, each that can be in a line of its own."""
        out, errors = "", ""
        for number, line in enumerate(lines, 1):
            try:
                out += f"{self._ip([f'-{family}', '-N', '-json', *line.split()], '')}\n"
            except Refused as refusal:
                errors += f"{refusal.message}\nCommand failed -:{number}\n"
        if errors:
            raise Refused(1, errors, out)
        return out

    def _route_to(self, family: int, to: str, source: str) -> dict[str, Any]:
        """Look a destination up as the kernel does for a packet that comes in from a source."""
        after = 0
        for rule in self.rules[family]:
            about = (rule.src == "all" or covers(rule.src, source)) and (rule.dst is None or covers(rule.dst, to))
            if rule.oif or rule.nop or about == rule.inverted or rule.priority < after:
                continue
            if rule.goto is not None:  # it leads on only where there is such a rule
                after = rule.goto if any(other.priority == rule.goto for other in self.rules[family]) else after
                continue
            if rule.table is None:
                break
            fitting = [route for route in self.routes if route.family == family and route.table == rule.table and covers(route.dst, to)]
            fitting.sort(key=lambda route: (-ipaddress.ip_network(route.dst).prefixlen, route.metric))
            if fitting and not (rule.suppress is not None and ipaddress.ip_network(fitting[0].dst).prefixlen <= rule.suppress):
                if fitting[0].dev is None:
                    break
                return {"dst": to, "from": source, "dev": fitting[0].dev, **({} if rule.table == MAIN else {"table": str(rule.table)})}
        raise Refused(2, "RTNETLINK answers: No route to host")

    def _show_link(self, name: str, link: Link) -> dict[str, Any]:
        infos = []
        for address in link.addresses:
            ip, _slash, length = address.partition("/")
            infos.append({"family": "inet6" if ":" in ip else "inet", "local": ip, "prefixlen": int(length)})
        flags = (["UP", "LOWER_UP"] if link.up else []) if link.flags is None else link.flags
        flags = ["BROADCAST", "NOARP", *flags] if link.kind == "ifb" else flags
        return {"ifname": name, "flags": flags, "mtu": link.mtu, "qdisc": self.root_qdisc(name), "addr_info": infos}

    def root_qdisc(self, _name: str) -> str:
        """Return the kind of the qdisc that a device sends through."""
        return "noqueue"

    def _ip_change(self, family: int | None, words: list[str]) -> None:
        kind, verb, *rest = words
        if kind == "addr" and verb in ("add", "del") and rest[1] == "dev" and len(rest) == 3:
            (self._add_address if verb == "add" else self._delete_address)(rest[2], rest[0])
        elif (kind, verb) == ("link", "set") and rest[0] == "dev":
            link = self._link(rest[1])
            if rest[2] == "mtu":
                link.mtu = int(rest[3])
            elif rest[2:] == ["up"]:
                link.up = True
                for address in link.addresses:
                    self._connect(rest[1], address)
            elif rest[2:] == ["down"]:
                link.up = False
                self.routes = [route for route in self.routes if route.dev != rest[1]]
            else:
                raise AssertionError(f"the fake host does not know: ip {words}")
        elif (kind, verb) == ("link", "add") and rest[0] == "name" and rest[2:] == ["type", "ifb"]:
            if "ifb" in self.without:
                raise Refused(2, "Error: Unknown device type.")
            self.add_link(rest[1], kind="ifb")
            self.links[rest[1]].up = False
        elif (kind, verb) == ("link", "del") and rest[0] == "dev" and len(rest) == 2:
            self._link(rest[1])
            self.drop_link(rest[1])
        elif kind == "rule" and verb in ("add", "del") and family:
            self._change_rule(family, verb, rest)
        elif kind == "route" and verb in ("add", "replace", "del") and family:
            self._change_route(family, verb, rest)
        else:
            raise AssertionError(f"the fake host does not know: ip {family} {words}")

    def _link(self, name: str) -> Link:
        if name not in self.links:
            raise Refused(1, f'Cannot find device "{name}"')
        return self.links[name]

    def _add_address(self, name: str, address: str) -> None:
        link = self._link(name)
        if ":" in address and not self.has_ipv6():
            raise Refused(2, "RTNETLINK answers: Operation not supported")
        where = name if self.read(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6") else "default"
        if ":" in address and name != "lo" and (self.read(f"/proc/sys/net/ipv6/conf/{where}/disable_ipv6") or "").strip() == "1":
            raise Refused(2, "RTNETLINK answers: Permission denied")
        if address in link.addresses:
            raise Refused(2, "Error: Address already assigned.")
        link.addresses.append(address)
        if link.up:
            self._connect(name, address)

    def has_ipv6(self) -> bool:
        """Tell whether the kernel has IPv6."""
        return self.exists("/proc/sys/net/ipv6")

    def _connect(self, name: str, address: str) -> None:
        network = ipaddress.ip_interface(address).network
        if name != "lo" and not (network.version == 4 and network.prefixlen == 32):
            self.routes.append(Route(network.version, str(network), name, metric=256 if network.version == 6 else 0, proto=2))

    def _delete_address(self, name: str, address: str) -> None:
        link = self._link(name)
        if address not in link.addresses:
            raise Refused(2, "Error: Address not found.")
        link.addresses.remove(address)
        network = str(ipaddress.ip_interface(address).network)
        last = ":" not in address and not any(":" not in other for other in link.addresses)  # it takes all IPv4 routes along
        self.routes = [r for r in self.routes if r.dev != name or not ((r.dst == network and r.proto == 2) or (last and r.family == 4))]

    def _change_rule(self, family: int, verb: str, words: list[str]) -> None:
        given = pairs(words, "from", "to", "lookup", "suppress_prefixlength", "pref", "protocol", "oif", "goto", flags=("unreachable", "not", "nop"))
        src, dst = (
            None if given.get(key, "all") == "all" else _network(family, given[key]).removesuffix({4: "/32", 6: "/128"}[family]) for key in ("from", "to")
        )
        table = int(given["lookup"]) if "lookup" in given else None
        suppress = int(given["suppress_prefixlength"]) if "suppress_prefixlength" in given else None
        goto = int(given["goto"]) if "goto" in given else None
        assert [table is not None, "unreachable" in given, goto is not None, "nop" in given].count(True) == 1, f"the fake host does not know: {words}"
        if goto is not None and goto <= int(given["pref"]):
            raise Refused(2, "Error: Backward goto not supported.")
        rule = Rule(int(given["pref"]), src or "all", table, suppress, int(given.get("protocol", 0)), dst=dst, oif=given.get("oif"))
        rule = replace(rule, inverted="not" in given, goto=goto, nop="nop" in given)
        same = [r for r in self.rules[family] if replace(r, proto=rule.proto, unmarked=rule.unmarked) == rule]
        if verb == "add" and same:  # whatever its protocol
            raise Refused(2, "RTNETLINK answers: File exists")
        if verb == "del" and rule not in same:
            raise Refused(2, "RTNETLINK answers: No such file or directory")
        self.rules[family] = [r for r in self.rules[family] if r is not rule and r not in same] + ([rule] if verb == "add" else [])
        self.rules[family].sort(key=lambda r: r.priority)

    def _change_route(self, family: int, verb: str, words: list[str]) -> None:
        unreachable = words[0] == "unreachable"
        given = pairs(words[1 + unreachable :], "dev", "via", "table", "metric", "protocol", "proto")
        dst = _network(family, {"default": "::/0" if family == 6 else "0.0.0.0/0"}.get(words[unreachable], words[unreachable]))
        metric = int(given.get("metric", 0)) or (1024 if family == 6 else 0)
        proto = int(given.get("protocol", given.get("proto", 3)))
        route = Route(family, dst, given.get("dev"), int(given.get("table", MAIN)), metric, proto, given.get("via"))
        if unreachable == bool(route.dev):
            raise Refused(2, "RTNETLINK answers: No such device")
        if verb == "del":
            if route not in self.routes:
                raise Refused(2, "RTNETLINK answers: No such process")
            self.routes.remove(route)
            return
        if route.dev and not self._link(route.dev).up:
            raise Refused(2, "Error: Device for nexthop is not up.")
        same = [r for r in self.routes if (r.family, r.dst, r.table, r.metric) == (family, dst, route.table, metric)]
        if same and verb == "add":
            raise Refused(2, "RTNETLINK answers: File exists")
        self.routes = [r for r in self.routes if r not in same] + [route]


def _network(family: int, text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    if network.version != family or network.network_address != ipaddress.ip_interface(text).ip:
        raise Refused(2, f"Error: inet{'6' if family == 6 else ''} prefix is expected rather than {text!r}.")
    return str(network)


def covers(network: str, address: str) -> bool:
    """Tell whether an address is in a network."""
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)
