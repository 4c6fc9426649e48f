# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stateful fake of a Linux host: what a command changes is there for the next one to see, and to refuse.

What a real tool would refuse (a double, something that is not there) ends in CommandFailed, as there; what the fake does not
know at all is an AssertionError. Formats and exit codes are those of iproute2 6.1, iptables 1.8.9 and wireguard-tools 1.0.20210914.
"""

from __future__ import annotations

import functools
import hashlib
import re

from ansible_collections.pic.cells.plugins.module_utils.program import unchanged
from ansible_collections.pic.cells.tests.unit.fake.conntrack import Conntrack
from ansible_collections.pic.cells.tests.unit.fake.exits import Exits
from ansible_collections.pic.cells.tests.unit.fake.ip import FAMILIES
from ansible_collections.pic.cells.tests.unit.fake.iptables import Iptables, command, render
from ansible_collections.pic.cells.tests.unit.fake.machine import Refused, Tool
from ansible_collections.pic.cells.tests.unit.fake.systemd import Systemd

TOOLS = ("ip", "wg", "wg-quick", "systemctl", "conntrack", "tc", "getent", "modprobe", "nft", "journalctl", "sysctl")


class FakeHost(Systemd, Iptables, Conntrack, Exits):
    """A Linux host in memory, with all tools."""

    def __init__(self, root: object, name: str = "host", *, systemd: bool = True, legacy: bool = False) -> None:
        """root: the folder for the lock. name: makes generated keys differ. legacy: iptables is the legacy one."""
        super().__init__(str(root))
        self.files.update({"/run/systemd/system/x": (0o644, "")} if systemd else {})
        self.files["/proc/sys/net/ipv6/conf/default/disable_ipv6"] = (0o644, "0\n")  # the kernel has IPv6
        self.name, self.default = name, "-legacy" if legacy else "-nft"
        self.made = 0
        self.dns = {}
        self.deaf = False
        self.journal = {}
        self.flows = set()
        self.entries = []
        self.exits, self.narrow, self.unasked, self.questions = {}, set(), set(), []
        self.seen_as, self.asked_who = {}, []
        self.boot()

    def text(self, files: bool = True) -> str:
        """Return the whole state as sorted lines."""
        lines = [f"link {name} {link.kind} {'up' if link.up else 'down'} mtu {link.mtu} {sorted(link.addresses)}" for name, link in self.links.items()]
        lines += [f"unit {unit}" for unit in self.active] + [f"{route}" for route in self.routes]
        lines += [f"rule{family} {rule}" for family in FAMILIES for rule in self.rules[family]]
        for name, device in self.wg.items():
            lines += [f"wg {name} port {device.port} key {device.private}", *(f"wg {name} peer {key} {peer}" for key, peer in device.peers.items())]
        lines += self.shaped()
        for (variant, family), tables in self.tables.items():
            for name, table in tables.items():
                for chain, rules in table.rules.items():
                    lines += [f"{command(family)}{variant} {name} {chain} {table.policies[chain]}"] if table.policies[chain] != "ACCEPT" else []
                    lines += [f"{command(family)}{variant} {name} {chain} {number:03} {render(rule)}" for number, rule in enumerate(rules)]
        if files:
            lines += [
                f"file {path} {mode:04o} {_digest(text)}"
                for path, (mode, text) in self.files.items()
                if path != unchanged.PATH  # what a look has found is no state
            ]
        return "".join(f"{line}\n" for line in sorted(lines))

    def _sysctl(self, words: list[str], stdin: str) -> str:
        assert words[:2] == ["-q", "-w"] and len(words) == 3, f"the fake host does not know: sysctl {words}"
        name, _equals, value = words[2].partition("=")
        path = f"/proc/sys/{name if '/' in name else name.replace('.', '/')}"
        if path not in self.files or "read-only sysctl" in self.without:
            raise Refused(1, f'sysctl: setting key "{name}": Read-only file system')
        every = "/proc/sys/net/ipv4/conf"
        paths = [path, *(f"{every}/{device}/forwarding" for device in (self.list(every) if name == "net.ipv4.ip_forward" else ()))]
        self._step(f"sysctl {words[2]}", lambda: self.files.update(dict.fromkeys(paths, (0o644, f"{value}\n"))))
        return ""

    def _modprobe(self, words: list[str], stdin: str) -> str:
        assert words == ["--dry-run", "--quiet", "wireguard"], words
        return ""

    def _tool(self, name: str) -> Tool | None:
        if name in TOOLS:
            tool: Tool = getattr(self, f"_{name.replace('-', '_')}")
            return tool
        match = re.fullmatch(r"ip(6?)tables(-nft|-legacy)?(-save|-restore)?", name)
        return functools.partial(self._iptables, match) if match else None


@functools.lru_cache(maxsize=1000)
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
