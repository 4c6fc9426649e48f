# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stateful fake of a Linux host: what a command changes is there for the next one to see, and to refuse.

What a real tool would refuse (a double, something that is not there) ends in CommandFailed, as there; what the fake does not
know at all is an AssertionError. Formats and exit codes are those of iproute2 6.1, iptables 1.8.9 and wireguard-tools 1.0.20210914.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import ipaddress
import json
import pickle
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.command import UNANSWERED, Host, Result, missing_tool, writing
from ansible_collections.pic.cells.plugins.module_utils.errors import CommandFailed

FAMILIES = (4, 6)
MAIN, LOCAL = 254, 255
NO_KEY = base64.b64encode(bytes(32)).decode()
WANTS = "/etc/systemd/system/multi-user.target.wants"
TABLES = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
# Each target with the table that it belongs to, if it belongs to one.
TARGETS = {**dict.fromkeys(("ACCEPT", "DROP", "RETURN", "LOG")), **dict.fromkeys(("MASQUERADE", "DNAT"), "nat"), "REJECT": "filter", "TCPMSS": "mangle"}
MATCHES = ("comment", "conntrack", "addrtype", "tcp", "udp", "icmp", "icmp6")
# Each option with the number of its values; what is not here is a mistake of the engine or of a test.
OPTIONS = {
    **dict.fromkeys(("-s", "-d", "-i", "-o", "-p", "-m", "-j", "-g", "--comment", "--ctstate", "--ctorigdst", "--ctorigdstport"), 1),
    **dict.fromkeys(("--ctdir", "--ctorigsrc", "--icmp-type", "--icmpv6-type"), 1),
    **dict.fromkeys(("--sport", "--dport", "--reject-with", "--to-destination", "--dst-type"), 1),
    **dict.fromkeys(("!", "--syn", "--clamp-mss-to-pmtu"), 0),
    "--tcp-flags": 2,
}

WG_QUICK = (
    *("privatekey", "listenport", "fwmark", "address", "dns", "mtu", "table", "saveconfig"),
    *("preup", "postup", "predown", "postdown"),
)


class Killed(BaseException):
    """The program ended in the middle, as by a power cut."""


class Refused(Exception):
    """A tool's own refusal: exit code and what it says."""

    def __init__(self, rc: int, message: str) -> None:
        self.rc, self.message = rc, message
        super().__init__(message)


@dataclass
class Link:
    """One network interface."""

    kind: str = "ether"
    mtu: int = 1500
    up: bool = True
    addresses: list[str] = field(default_factory=list)


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

    def show(self) -> dict[str, Any]:
        """Return what ip -json -N rule show prints."""
        address, _slash, length = self.src.partition("/")
        shown: dict[str, Any] = {"priority": self.priority, "src": address, "srclen": int(length) if length else None}
        shown.update({"action": "7"} if self.table is None else {"table": str(self.table)})
        shown.update({"suppress_prefixlen": self.suppress, "protocol": str(self.proto) if self.proto else None})
        marks = {"not": None, "fwmark": "0xca6c"} if self.unmarked else {}
        return {**{key: value for key, value in shown.items() if value is not None}, **marks}


@dataclass
class Peer:
    """One peer of a WireGuard device."""

    allowed: list[str] = field(default_factory=list)
    endpoint: str | None = None
    keepalive: int = 0
    psk: str | None = None
    handshake: int = 0


@dataclass
class Device:
    """One WireGuard device."""

    private: str | None = None
    port: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)


@dataclass
class Table:
    """One table of iptables: policy ('-' for a user chain) and rules of each chain."""

    policies: dict[str, str]
    rules: dict[str, list[tuple[str, ...]]]


class FakeHost(Host):
    """A Linux host in memory.

    log: every command. steps: everything that wrote, in order, as far as it is atomic. missing: tools that are not installed.
    dns: what names resolve to. deaf: no resolver answers. ended: the deletions asked of conntrack. answers: canned results by argv. secrets: must not be in
    an argv.
    flows: addresses that have begun some. entries: lines of conntrack beside theirs. files: mode and text by path.
    fail_at: this step (1 is the next one after reset) fails, or with kill is the end; fails: how many do;
    late: after they took effect. watch: called before each step. now: the time.
    """

    def __init__(self, root: object, name: str = "host", *, systemd: bool = True, legacy: bool = False) -> None:
        """root: the folder for the lock. name: makes generated keys differ. legacy: iptables is the legacy one."""
        super().__init__(str(root))
        self.files: dict[str, tuple[int, str]] = {"/run/systemd/system/x": (0o644, "")} if systemd else {}
        self.files["/proc/sys/net/ipv6/conf/default/disable_ipv6"] = (0o644, "0\n")  # the kernel has IPv6
        self.owners: dict[str, int] = {}  # of files and folders that are not root's
        self.folders: dict[str, int] = {}  # modes of those that are for more than root
        self.journal: dict[str, str] = {}  # what units have said
        self.without: set[str] = set()  # tables of iptables that the kernel does not have, with their family
        self.name, self.default = name, "-legacy" if legacy else "-nft"
        self.missing: set[str] = set()
        self.dns: dict[str, list[str]] = {}
        self.deaf = False
        self.answers: dict[tuple[str, ...], Result] = {}
        self.secrets: set[str] = set()
        self.watch: Callable[[str], None] | None = None
        self.made = 0
        self.flows: set[str] = set()
        self.entries: list[str] = []
        self.now = 1_800_000_000.0
        self.reset()
        self.boot()

    # What tests call

    def reset(self) -> None:
        """Forget what was recorded and the faults; the state stays."""
        self.log: list[list[str]] = []
        self.steps: list[str] = []
        self.ended: list[list[str]] = []
        self.fail_at: int | None = None
        self.fails = 1
        self.kill = False
        self.late = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "watch": None}

    def begun(self) -> FakeHost:
        """Return this host as a new process finds it."""
        self.lookups_left = UNANSWERED
        return self

    def fork(self) -> FakeHost:
        """Return a copy that goes its own way."""
        twin: FakeHost = pickle.loads(pickle.dumps(self))
        return twin

    def boot(self) -> None:
        """Lose all kernel state, keep the files, start what is enabled."""
        self.links: dict[str, Link] = {}
        self.routes: list[Route] = []
        self.rules = {4: [Rule(0, table=LOCAL), Rule(32766, table=MAIN)], 6: [Rule(0, table=LOCAL), Rule(32766, table=MAIN)]}
        self.wg: dict[str, Device] = {}
        self.tables: dict[tuple[str, int], dict[str, Table]] = {(variant, family): {} for variant in ("-nft", "-legacy") for family in FAMILIES}
        self.active: set[str] = set()
        self.native: list[dict[str, Any]] = []  # tables, chains and rules of nftables' own, as nft -j prints them
        self.failing: set[str] = set()  # units that come up only to end, again and again
        self.add_link("lo", "127.0.0.1/8", "::1/128")
        self.add_link("eth0", "203.0.113.11/24", "2001:db8:113::11/64")
        self.routes += [Route(4, "0.0.0.0/0", "eth0", via="203.0.113.254"), Route(6, "::/0", "eth0", metric=1024, via="2001:db8:113::254")]
        for unit in (name for name in self.list(WANTS) if name.startswith("wg-quick@")):
            self.by_hand(f"systemctl restart {unit.removesuffix('.service')}")
        self.active.update(self.list(WANTS.replace("multi-user", "timers")))
        self.active.update(name for name in self.list(WANTS) if name.startswith("pic-cell-") and not name.startswith("pic-cell-restore"))

    def add_link(self, name: str, *addresses: str, kind: str = "ether") -> None:
        """Add an interface, up."""
        if name in self.links:
            raise Refused(2, "RTNETLINK answers: File exists")
        self.links[name] = Link(kind)
        for address in addresses:
            self._add_address(name, address)

    def drop_link(self, name: str) -> None:
        """Delete an interface with its routes."""
        del self.links[name]
        self.wg.pop(name, None)
        self.routes = [route for route in self.routes if route.dev != name]

    def by_hand(self, command: str, stdin: str = "") -> str:
        """Do something from outside: not recorded, no faults."""
        kept = {name: getattr(self, name) for name in ("log", "steps", "ended", "fail_at", "fails", "kill", "late", "watch")}
        self.reset()
        self.watch = None
        try:
            return self.run(shlex.split(command), stdin).out
        finally:
            vars(self).update(kept)

    def iptables(self, family: int, table: str, *rules: str, chains: Iterable[str] = ()) -> None:
        """Load somebody else's rules, given with their command, e.g. '-A FORWARD -j DROP'."""
        declared = "".join(f":{chain}\n" for chain in chains)
        self.by_hand(f"{_tool(family)}-restore --noflush -w 10", f"*{table}\n{declared}" + "".join(f"{rule}\n" for rule in rules) + "COMMIT\n")

    def chain(self, family: int, chain: str, table: str = "filter") -> list[str]:
        """Return the rules of a chain without their comments."""
        rules = self.tables[self.default, family][table].rules[chain]
        return [re.sub(r"-m comment --comment (\"[^\"]*\"|\S+) ", "", _render(rule)) for rule in rules]

    def text(self, files: bool = True) -> str:
        """Return the whole state as sorted lines."""
        lines = [f"link {name} {link.kind} {'up' if link.up else 'down'} mtu {link.mtu} {sorted(link.addresses)}" for name, link in self.links.items()]
        lines += [f"unit {unit}" for unit in self.active] + [f"{route}" for route in self.routes]
        lines += [f"rule{family} {rule}" for family in FAMILIES for rule in self.rules[family]]
        for name, device in self.wg.items():
            lines += [f"wg {name} port {device.port} key {device.private}", *(f"wg {name} peer {key} {peer}" for key, peer in device.peers.items())]
        for (variant, family), tables in self.tables.items():
            for name, table in tables.items():
                for chain, rules in table.rules.items():
                    lines += [f"{_tool(family)}{variant} {name} {chain} {table.policies[chain]}"] if table.policies[chain] != "ACCEPT" else []
                    lines += [f"{_tool(family)}{variant} {name} {chain} {number:03} {_render(rule)}" for number, rule in enumerate(rules)]
        if files:
            lines += [
                f"file {path} {mode:04o} {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}" for path, (mode, text) in self.files.items()
            ]
        return "".join(f"{line}\n" for line in sorted(lines))

    # What the engine calls

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run one command on the fake."""
        words = list(argv)
        self.log.append(words)
        assert not any(secret in word for secret in self.secrets for word in words), f"a secret in the arguments of {words[0]}"
        assert self._knows(words[0]), f"the fake host does not know: {words[0]}"
        if not self.has(words[0]):
            raise missing_tool(words[0], self)
        result = self.answers.get(tuple(words)) or self._execute(words, stdin or "")
        if result.rc not in ok:
            raise CommandFailed(words, result.rc, result.err, stdin)
        return result

    def has(self, tool: str) -> bool:
        """Tell whether a command is installed; without iptables or wg its companions are missing too."""
        return not {tool, tool.split("-", maxsplit=1)[0]} & self.missing and self._knows(tool)

    def read(self, path: str) -> str | None:
        """Return the text of a file, or None where there is none."""
        return self.files[path][1] if path in self.files else None

    def read_foreign(self, path: str, limit: int) -> str | None:
        """Return the text of a file that is not too large."""
        text = self.read(path)
        return text if text is not None and len(text) <= limit else None

    def exists(self, path: str) -> bool:
        """Tell whether there is a file, or a folder with one."""
        return path in self.files or any(name.startswith(f"{path}/") for name in self.files)

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder."""
        return sorted({name[len(path) + 1 :].partition("/")[0] for name in self.files if name.startswith(f"{path}/")})

    def write(self, path: str, text: str, mode: int | None = 0o600) -> None:
        """Write a file; without a mode it keeps that of the one that is there."""
        kept = self.files.get(path, (0o600, ""))[0] if mode is None else mode
        self._file_step("write", path, lambda: self.files.update({path: (kept, text)}))

    def access(self, path: str) -> tuple[int, int, bool] | None:
        """Return mode and owner of a file or a folder."""
        if path in self.files:
            return self.files[path][0], self.owners.get(path, 0), False
        return (self.folders.get(path, 0o700), self.owners.get(path, 0), True) if self.exists(path) else None

    def restrict(self, path: str, mode: int) -> None:
        """Give a file or a folder to root, with a mode."""
        assert self.exists(path), path

        def change() -> None:
            if path in self.files:
                self.files[path] = mode, self.files[path][1]
            else:
                self.folders[path] = mode
            self.owners.pop(path, None)

        self._file_step("restrict", path, change)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._file_step("remove", path, lambda: self.files.pop(path, None))

    def list_foreign(self, path: str, most: int) -> list[str]:
        """Return names in a folder, no more than most."""
        return self.list(path)[:most]

    def remove_foreign(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        for found in [name for name in self.files if name == path or name.startswith(f"{path}/")]:
            self.remove(found)

    # Inside

    def _tools(self) -> dict[str, Callable[[list[str], str], str]]:
        names = ("ip", "wg", "wg-quick", "systemctl", "conntrack", "getent", "modprobe", "nft", "journalctl", "sysctl")
        return {name: getattr(self, f"_{name.replace('-', '_')}") for name in names}

    def _knows(self, tool: str) -> bool:
        return tool in self._tools() or re.fullmatch(r"ip6?tables(-nft|-legacy)?(-save|-restore)?", tool) is not None

    def _execute(self, words: list[str], stdin: str) -> Result:
        tool = self._tools().get(words[0], self._iptables)
        try:
            return Result(0, tool(words[1:] if tool != self._iptables else words, stdin))
        except Refused as refusal:
            return Result(refusal.rc, "", refusal.message)

    def _step(self, step: str, action: Callable[[], Any]) -> None:
        if self.watch:
            self.watch(step)
        self.steps.append(step)
        hit = self.fail_at is not None and 0 <= len(self.steps) - self.fail_at < self.fails
        if self.late or not hit:
            action()
        if hit and self.kill:
            raise Killed(step)
        if hit:
            raise Refused(111, "injected failure")

    def _file_step(self, verb: str, path: str, action: Callable[[], Any]) -> None:
        try:
            self._step(f"{verb} {path}", action)
        except Refused:
            with writing(path):
                raise OSError(28, "No space left on device") from None

    # ip

    def _ip(self, words: list[str], stdin: str) -> str:
        family = int(words.pop(0)[1]) if words[0] in ("-4", "-6") else None
        if family == 6 and not self._has_ipv6():
            raise Refused(2, "RTNETLINK answers: Operation not supported")
        if words == ["-batch", "-"]:
            for number, line in enumerate(stdin.splitlines(), 1):
                try:
                    self._step(f"ip {f'-{family} ' if family else ''}{line}", lambda line=line: self._ip_change(family, line.split()))
                except Refused as refusal:
                    raise Refused(111 if refusal.rc == 111 else 1, f"{refusal.message}\nCommand failed -:{number}") from None
            return ""
        if words[:4] == ["-N", "-json", "route", "get"] and family and words[5::2] == ["from", "iif"] and len(words) == 9:
            return json.dumps([self._route_to(family, words[4], words[6])])
        if words[:1] == ["rule"] or words[:1] == ["route"]:  # PostUp, and tests
            self._ip_change(family, words)
            return ""
        if words[:3] == ["link", "del", "dev"] and len(words) == 4:
            self._link(words[3])
            self._step(f"ip {' '.join(words)}", lambda: self.drop_link(words[3]))
            return ""
        if words == ["-N", "-json", "addr", "show"] and family is None:
            return json.dumps([self._show_link(name, link) for name, link in self.links.items()])
        if words == ["-N", "-json", "rule", "show"] and family:
            return json.dumps([rule.show() for rule in self.rules[family]])
        if words == ["-N", "-json", "route", "show", "table", "all"] and family:
            return json.dumps([route.show() for route in self.routes if route.family == family])
        raise AssertionError(f"the fake host does not know: ip {words}")

    def _route_to(self, family: int, to: str, source: str) -> dict[str, Any]:
        """Look a destination up as the kernel does for a packet that comes in from a source."""
        for rule in self.rules[family]:
            if rule.src not in ("all", source):
                continue
            if rule.table is None:
                break
            fitting = [route for route in self.routes if route.family == family and route.table == rule.table and _covers(route.dst, to)]
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
        return {"ifname": name, "flags": ["UP", "LOWER_UP"] if link.up else [], "mtu": link.mtu, "addr_info": infos}

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
        if ":" in address and not self._has_ipv6():
            raise Refused(2, "RTNETLINK answers: Operation not supported")
        where = name if self.read(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6") else "default"
        if ":" in address and name != "lo" and (self.read(f"/proc/sys/net/ipv6/conf/{where}/disable_ipv6") or "").strip() == "1":
            raise Refused(2, "RTNETLINK answers: Permission denied")
        if address in link.addresses:
            raise Refused(2, "Error: Address already assigned.")
        link.addresses.append(address)
        if link.up:
            self._connect(name, address)

    def _has_ipv6(self) -> bool:
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
        given = _pairs(words, "from", "lookup", "suppress_prefixlength", "pref", "protocol", flags=("unreachable",))
        src = given["from"] if given["from"] == "all" else re.sub(r"/(32|128)$", "", _network(family, given["from"]))
        table = None if "unreachable" in given else int(given["lookup"])
        suppress = int(given["suppress_prefixlength"]) if "suppress_prefixlength" in given else None
        rule = Rule(int(given["pref"]), src, table, suppress, int(given.get("protocol", 0)))
        same = [r for r in self.rules[family] if (r.priority, r.src, r.table, r.suppress) == (rule.priority, rule.src, rule.table, rule.suppress)]
        if verb == "add" and same:  # whatever its protocol
            raise Refused(2, "RTNETLINK answers: File exists")
        if verb == "del" and rule not in same:
            raise Refused(2, "RTNETLINK answers: No such file or directory")
        self.rules[family] = [r for r in self.rules[family] if r is not rule and r not in same] + ([rule] if verb == "add" else [])
        self.rules[family].sort(key=lambda r: r.priority)

    def _change_route(self, family: int, verb: str, words: list[str]) -> None:
        unreachable = words[0] == "unreachable"
        given = _pairs(words[1 + unreachable :], "dev", "via", "table", "metric", "protocol", "proto")
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

    # WireGuard

    def _wg(self, words: list[str], stdin: str) -> str:
        if words == ["show", "all", "dump"]:
            return "".join(f"{line}\n" for name, device in self.wg.items() for line in _dump(name, device))
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
                found = self._resolve(host.strip("[]"))
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
        if interface.get("saveconfig", [""])[-1] == "true":
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
                if not any(route.dev == name and route.family == family and _covers(route.dst, address) for route in self.routes):
                    self._change_route(family, "add", [network, "dev", name])
            for command in interface.get("postup", ()):
                if command.startswith("ip -"):  # the hooks of others do nothing that the engine looks at
                    self._ip(command.split()[1:], "")
        except Refused:
            self.drop_link(name)
            raise

    def _systemctl(self, words: list[str], stdin: str) -> str:
        if words == ["daemon-reload"]:
            self._step("systemctl daemon-reload", lambda: None)
            return ""
        if words[0] == "restart" and words[1:] in (["pic-cell-serve.service"], ["pic-cell-watch.service"]):
            self._step(f"systemctl {' '.join(words)}", lambda: None)
            return ""
        if words[0] == "enable" and words[-1].startswith("pic-cell-"):
            self._step(f"systemctl {' '.join(words)}", lambda: self._enable(words[1:]))
            return ""
        if words[:3] == ["show", "--property=ActiveState", "--value"]:
            return "\n".join("active\n" if unit in self.active else "activating\n" if unit in self.failing else "inactive\n" for unit in words[3:])
        if words[0] == "stop" and all(unit.startswith("pic-cell-") for unit in words[1:]):
            self._step(f"systemctl {' '.join(words)}", lambda: self._stop(words[1:]))
            return ""
        if words[:2] == ["disable", "--now"] and words[-1].startswith("pic-cell-"):
            self._step(f"systemctl {' '.join(words)}", lambda: self._disable(words[2:]))
            return ""
        if words[0] == "start" and words[1].startswith("pic-cell-") and len(words) == 2:
            self._step(f"systemctl {' '.join(words)}", lambda: self.active.update({words[1]} - self.failing))
            return ""
        words = [word for word in words if word != "--job-mode=ignore-dependencies"]
        verb, unit, path = words[0], words[-1], f"{WANTS}/{words[-1]}.service"
        name = unit.partition("@")[2]
        assert unit.startswith("wg-quick@"), unit
        if words == ["enable", unit]:
            self._step(f"systemctl enable {unit}", lambda: self.files.update({path: (0o644, "")}))
        elif words in (["restart", unit], ["disable", "--now", unit]):
            if verb == "disable":
                self._step(f"systemctl disable {unit}", lambda: self.files.pop(path, None))
            try:
                if unit in self.active and name in self.links:  # the unit remains active when somebody has deleted its interface
                    self._wg_quick(["down", name], "")
                if verb == "restart":
                    self._wg_quick(["up", name], "")
            finally:
                if name not in self.links:
                    self.active.discard(unit)
                elif verb == "restart":
                    self.active.add(unit)
        else:
            raise AssertionError(f"the fake host does not know: systemctl {words}")
        return ""

    def _stop(self, names: list[str]) -> None:
        for name in names:
            self.active.discard(name)
            for path, (_mode, text) in list(self.files.items()):  # what requires it stops too
                unit = re.fullmatch(r"/etc/systemd/system/(wg-quick@[^/]+)\.service\.d/[^/]+\.conf", path)
                if unit and f"Requires={name}\n" in text and unit[1] in self.active:
                    self._systemctl(["disable", "--now", unit[1]], "")

    def _disable(self, names: list[str]) -> None:
        for name in names:
            if f"/etc/systemd/system/{name}" not in self.files:
                raise Refused(1, f"Failed to disable unit: Unit file {name} does not exist.")
            self.active.discard(name)
            for path in [path for path in self.files if re.fullmatch(rf"/etc/systemd/system/[^/]+\.wants/{re.escape(name)}", path)]:
                del self.files[path]

    def _enable(self, names: list[str]) -> None:
        for name in names:
            text = self.read(f"/etc/systemd/system/{name}")
            if text is None:
                raise Refused(1, f"Failed to enable unit: Unit file {name} does not exist.")
            for target in (target for line in text.splitlines() if line.startswith("WantedBy=") for target in line.partition("=")[2].split()):
                self.files[f"/etc/systemd/system/{target}.wants/{name}"] = (0o644, "")

    # iptables

    def _iptables(self, words: list[str], stdin: str) -> str:
        match = re.fullmatch(r"ip(6?)tables(-nft|-legacy)?(-save|-restore)?", words[0])
        assert match, f"the fake host does not know: {words}"
        family, variant = 6 if match[1] else 4, match[2] or self.default
        tables = self.tables[variant, family]
        if family == 6 and not self._has_ipv6():
            raise Refused(3, f"{words[0]}: can't initialize ip6tables table `filter': Address family not supported by protocol")
        if match[3] is None and words[1:] == ["-V"]:
            return f"{words[0]} v1.8.9 ({'legacy' if variant == '-legacy' else 'nf_tables'})\n"
        if match[3] == "-save" and len(words) == 1:
            return self._save(family, tables) if variant == "-nft" else "".join(_save(name, table) for name, table in tables.items())
        assert match[3] == "-restore" and words[1:3] == ["--noflush", "-w"] and len(words) == 4, f"the fake host does not know: {words}"
        name, table = "", Table({}, {})
        for number, line in enumerate(stdin.split("\n"), 1):
            try:
                if not line:
                    continue
                if line.startswith("*"):
                    name = line[1:]
                    if f"{family} {name}" in self.without:
                        raise Refused(1, f"can't initialize table `{name}': Table does not exist (do you need to insmod?)")
                    fresh = Table(dict.fromkeys(TABLES[name], "ACCEPT"), {chain: [] for chain in TABLES[name]})
                    table = copy.deepcopy(tables.get(name, fresh))
                elif line == "COMMIT":
                    self._step(f"{words[0]} {name}", lambda name=name, table=table: tables.update({name: table}))
                    name = ""
                else:
                    _restore_line(family, name, table, line)
            except Refused as refusal:
                raise Refused(refusal.rc, f"{words[0]}: line {number} failed: {refusal.message}") from None
        assert not name, "COMMIT expected"
        if variant == "-legacy":
            self.files[f"/proc/net/ip{match[1]}_tables_names"] = (0o444, "".join(f"{name}\n" for name in tables))
        return ""

    def _save(self, family: int, tables: dict[str, Table]) -> str:
        """Print all tables as iptables-nft does, which cannot show what is nftables' own."""
        mine = [item for item in self.native for what in item.values() if what["family"] == ("ip6" if family == 6 else "ip")]
        beside = {item["chain"]["table"] for item in mine if "hook" in item.get("chain", ()) and item["chain"]["name"] not in (*TABLES["nat"], "FORWARD")}
        within = {item["rule"]["table"] for item in mine if item.get("rule", {}).get("chain") in (*TABLES["nat"], "FORWARD")}
        text = ""
        for name, chains in TABLES.items():
            fresh = Table(dict.fromkeys(chains, "ACCEPT"), {chain: [] for chain in chains})
            if name in within:
                text += f"# Table `{name}' is incompatible, use 'nft' tool.\n"
            elif name in beside:
                text += f"# Table `{name}' contains incompatible base-chains, use 'nft' tool to list them.\n{_save(name, tables.get(name, fresh))}"
            elif name in tables:
                text += _save(name, tables[name])
        return text

    def _sysctl(self, words: list[str], stdin: str) -> str:
        assert words[:2] == ["-q", "-w"] and len(words) == 3, f"the fake host does not know: sysctl {words}"
        name, _equals, value = words[2].partition("=")
        path = f"/proc/sys/{name if '/' in name else name.replace('.', '/')}"
        if path not in self.files or "read-only sysctl" in self.without:
            raise Refused(1, f'sysctl: setting key "{name}": Read-only file system')
        self._step(f"sysctl {words[2]}", lambda: self.files.update({path: (0o644, f"{value}\n")}))
        return ""

    def _journalctl(self, words: list[str], stdin: str) -> str:
        assert words[0] == "-u" and words[2:] == ["-n", "12", "-o", "cat", "--no-pager", "-q"], f"the fake host does not know: journalctl {words}"
        return self.journal.get(words[1], "")

    def _nft(self, words: list[str], stdin: str) -> str:
        assert words in (["-j", "list", "chains"], ["-j", "list", "ruleset"]), f"the fake host does not know: nft {words}"
        shown: list[dict[str, Any]] = [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}]
        for (variant, family), tables in self.tables.items():
            for name, table in tables.items() if variant == "-nft" else ():
                for chain, policy in table.policies.items():
                    where = {"family": "ip6" if family == 6 else "ip", "table": name}
                    hook = {} if policy == "-" else {"type": "filter", "hook": chain.lower(), "prio": 0, "policy": policy.lower()}
                    shown.append({"chain": {**where, "name": chain, "handle": 1, **hook}})
                    shown += [{"rule": {**where, "chain": chain, "handle": 1, "expr": [{"xt": None}]}} for _rule in table.rules[chain]]
        return json.dumps({"nftables": [item for item in [*shown, *self.native] if words[2] == "ruleset" or not {"chain", "metainfo"}.isdisjoint(item)]})

    # The rest

    def _conntrack(self, words: list[str], stdin: str) -> str:
        if words[:2] == ["-L", "-f"] and len(words) == 3:
            mine = sorted(address for address in self.flows if (":" in address) == (words[2] == "ipv6"))
            lines = [
                f"udp      17 29 src={address} dst=192.0.2.80 sport=9 dport=9 src=192.0.2.80 dst={address} sport=9 dport=9 mark=0 use=1" for address in mine
            ]
            lines += [line for line in self.entries if ("src=" in line and ":" in line.partition("src=")[2].split()[0]) == (words[2] == "ipv6")]
            return "".join(f"{line}\n" for line in lines)
        given = _pairs(words[1:], "-f", "-p", "-s", "-d", "--orig-src", "--orig-dst", "--orig-port-dst", flags=("-n",))
        assert words[0] == "-D" and ("-p" in given or "--orig-port-dst" not in given), words
        for option in ("-s", "-d", "--orig-src", "--orig-dst"):
            if option in given and (":" in given[option]) != (given["-f"] == "ipv6"):
                raise Refused(2, "conntrack: mismatched address family")
        self._step(f"conntrack {' '.join(words)}", lambda: self._end_flows(words, given))
        raise Refused(1, "conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.")

    def _end_flows(self, words: list[str], given: dict[str, str]) -> None:
        self.ended.append(words)
        self.entries = [line for line in self.entries if not _is_found(line, given)]

    def _getent(self, words: list[str], stdin: str) -> str:
        if self.deaf:
            raise Refused(124, "no end within 5 s")
        found = self._resolve(words[1])
        if words[0] != "ahosts" or not found:
            raise Refused(2, "")
        return "".join(f"{address} {kind}\n" for address in found for kind in ("STREAM", "DGRAM", "RAW"))

    def _resolve(self, name: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            return [] if self.deaf else self.dns.get(name, [])

    def _modprobe(self, words: list[str], stdin: str) -> str:
        assert words == ["--dry-run", "--quiet", "wireguard"], words
        return ""


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


def _tool(family: int) -> str:
    return "ip6tables" if family == 6 else "iptables"


def _pairs(words: list[str], *names: str, flags: tuple[str, ...] = ()) -> dict[str, str]:
    given, left = {}, list(words)
    while left:
        word = left.pop(0)
        assert word in names or word in flags, f"the fake host does not know: {word} in {words}"
        given[word] = "" if word in flags else left.pop(0)
    return given


def _is_found(entry: str, given: dict[str, str]) -> bool:
    """Tell whether conntrack -D finds an entry, by the direction in which it began."""
    values: dict[str, list[str]] = {}
    protocol = entry.partition(" ")[0]
    for key, value in re.findall(r"(\w+)=(\S+)", entry):
        values.setdefault(key, []).append(value)
    source, to, port = given.get("--orig-src", given.get("-s")), given.get("--orig-dst", given.get("-d")), given.get("--orig-port-dst")
    return (
        (":" in values["src"][0]) == (given["-f"] == "ipv6")
        and given.get("-p", protocol) == protocol
        and (source is None or _covers(source, values["src"][0]))
        and (to is None or _covers(to, values["dst"][0]))
        and (port is None or values.get("dport", [""])[0] == port)
        and ("-n" not in given or values["dst"][1] != values["src"][0])
    )


def _network(family: int, text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    if network.version != family or network.network_address != ipaddress.ip_interface(text).ip:
        raise Refused(2, f"Error: inet{'6' if family == 6 else ''} prefix is expected rather than {text!r}.")
    return str(network)


def _dump(name: str, device: Device) -> Iterator[str]:
    private = device.private or "(none)"
    yield f"{name}\t{private}\t{public_key(private) if device.private else '(none)'}\t{device.port}\toff"
    for key, peer in device.peers.items():
        allowed, keepalive = ",".join(peer.allowed) or "(none)", peer.keepalive or "off"
        yield f"{name}\t{key}\t{peer.psk or '(none)'}\t{peer.endpoint or '(none)'}\t{allowed}\t{peer.handshake}\t0\t0\t{keepalive}"


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


def _covers(network: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _save(name: str, table: Table) -> str:
    order = [*TABLES[name], *sorted(chain for chain in table.rules if chain not in TABLES[name])]
    lines = [f"# Generated by iptables-save v1.8.9\n*{name}", *(f":{chain} {table.policies[chain]} [12:3456]" for chain in order)]
    lines += [f"-A {chain} {_render(rule)}" for chain in order for rule in table.rules[chain]]
    return "\n".join([*lines, "COMMIT\n# Completed\n"])


def _render(rule: Sequence[str]) -> str:
    texts = ("--comment", "--log-prefix")
    quoted = ('"' + re.sub(r"([\"'\\])", r"\\\1", word) + '"' for word in rule)
    pairs = zip(rule, ("", *rule), quoted)
    return " ".join(text if before in texts and re.search(r"[^A-Za-z0-9_-]", word) else word for word, before, text in pairs)


def _restore_line(family: int, name: str, table: Table, line: str) -> None:
    if line.startswith(":"):
        chain, *policy = line[1:].split()
        if len(chain) > 28:
            raise Refused(2, f"chain name `{chain}' too long (must be under 29 chars)")
        if chain in TABLES[name]:
            table.policies[chain] = policy[0] if policy[0] != "-" else table.policies[chain]
        else:
            table.policies[chain], table.rules[chain] = "-", []
        return
    command, chain, *words = shlex.split(line)
    if chain not in table.rules:
        raise Refused(1, "No chain/target/match by that name.")
    rules = table.rules[chain]
    if command == "-X":
        if rules or any(_target(rule) == chain for others in table.rules.values() for rule in others):
            raise Refused(4, f"CHAIN_DEL failed (Device or resource busy): chain {chain}")
        del table.rules[chain], table.policies[chain]
        return
    position = int(words.pop(0)) if command == "-I" else len(rules) + 1
    rule = _checked_rule(family, name, table, words)
    if command == "-D":
        if rule not in rules:
            raise Refused(1, "Bad rule (does a matching rule exist in that chain?).")
        rules.remove(rule)
    elif command in ("-A", "-I") and position <= len(rules) + 1:
        rules.insert(position - 1, rule)
    else:
        raise AssertionError(f"the fake host does not know: {line}")


def _target(rule: Sequence[str]) -> str | None:
    return next((value for option, value in zip(rule, rule[1:]) if option in ("-j", "-g")), None)


def _checked_rule(family: int, name: str, table: Table, words: list[str]) -> tuple[str, ...]:
    given: dict[str, str] = {}
    left = list(words)
    while left:
        option = left.pop(0)
        assert option in OPTIONS, f"the fake host does not know: {option} in {words}"
        given[option] = " ".join(left.pop(0) for _number in range(OPTIONS[option]))
        assert option != "-m" or given[option] in MATCHES, words
    for option in ("-s", "-d", "--ctorigdst", "--ctorigsrc"):
        if option in given and (":" in given[option]) != (family == 6):
            raise Refused(2, f"host/network `{given[option]}' not found")
    for option in ("-i", "-o"):
        if len(given.get(option, "")) > 16 - (not given.get(option, "").endswith("+")):
            raise Refused(2, f"interface name `{given[option]}' must be shorter than 16 characters")
    ported = {"--sport", "--dport", "--syn", "--tcp-flags"} & set(given)
    if (ported and given.get("-p") not in ("tcp", "udp")) or len(given.get("--comment", "")) > 255:
        raise Refused(2, f"unknown option {sorted(ported)}, or a comment too long")
    for option, protocol, owner in (("--icmp-type", "icmp", 4), ("--icmpv6-type", "ipv6-icmp", 6)):
        if option in given and (given.get("-p"), family) != (protocol, owner):
            raise Refused(2, f"unknown option {option}")
    target = _target(words)
    if target is not None and target not in table.rules and TARGETS.get(target, "no such target") not in (None, name):
        raise Refused(2, f"Chain '{target}' does not exist")
    if "-g" in given and target not in table.rules:
        raise Refused(2, f"Chain '{target}' does not exist")
    if ported and given.get("-m") != given["-p"] and f"-m {given['-p']}" not in " ".join(words):  # it prints what it adds by itself
        at = words.index("-p") + 2
        words = [*words[:at], "-m", given["-p"], *words[at:]]
    return tuple(words)
