# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that the kernel knows."""

from __future__ import annotations

import re

from ansible_collections.pic.cells.tests.unit.fake.ip import covers
from ansible_collections.pic.cells.tests.unit.fake.machine import Machine, Refused, pairs


class Conntrack(Machine):
    """A host with conntrack.

    flows: addresses that have begun some. entries: lines beside theirs. ended: the deletions that were asked for.
    """

    flows: set[str]
    entries: list[str]

    def _conntrack(self, words: list[str], stdin: str) -> str:
        if words[:2] == ["-L", "-f"] and len(words) == 3:
            mine = sorted(address for address in self.flows if (":" in address) == (words[2] == "ipv6"))
            lines = [
                f"udp      17 29 src={address} dst=192.0.2.80 sport=9 dport=9 src=192.0.2.80 dst={address} sport=9 dport=9 mark=0 use=1" for address in mine
            ]
            lines += [line for line in self.entries if ("src=" in line and ":" in line.partition("src=")[2].split()[0]) == (words[2] == "ipv6")]
            return "".join(f"{line}\n" for line in lines)
        given = pairs(words[1:], "-f", "-p", "-s", "-d", "--orig-src", "--orig-dst", "--orig-port-dst", flags=("-n",))
        assert words[0] == "-D" and ("-p" in given or "--orig-port-dst" not in given), words
        for option in ("-s", "-d", "--orig-src", "--orig-dst"):
            if option in given and (":" in given[option]) != (given["-f"] == "ipv6"):
                raise Refused(2, "conntrack: mismatched address family")
        self._step(f"conntrack {' '.join(words)}", lambda: self._end_flows(words, given))
        raise Refused(1, "conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.")

    def _end_flows(self, words: list[str], given: dict[str, str]) -> None:
        self.ended.append(words)
        self.entries = [line for line in self.entries if not _is_found(line, given)]


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
        and (source is None or covers(source, values["src"][0]))
        and (to is None or covers(to, values["dst"][0]))
        and (port is None or values.get("dport", [""])[0] == port)
        and ("-n" not in given or values["dst"][1] != values["src"][0])
    )
