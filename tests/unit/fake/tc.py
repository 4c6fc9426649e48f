# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Token buckets, and the redirection of what an interface receives, as tc shows and changes them (iproute2 6.1)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ansible_collections.pic.cells.tests.unit.fake.ip import Ip
from ansible_collections.pic.cells.tests.unit.fake.machine import Refused

_UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_BUCKET = re.compile(r"handle ([0-9a-f]+:) tbf rate ([0-9]+)([kmg]bit) burst ([0-9]+) latency 100ms")
_FILTER = "filter add dev {} parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev"
_SHOWN = """\
filter protocol all pref 1 u32 chain 0
filter protocol all pref 1 u32 chain 0 fh 800: ht divisor 1
filter protocol all pref 1 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 terminal flowid not_in_hw
  match 00000000/00000000 at 0
\taction order 1: mirred (Egress Redirect to device {}) stolen
\tindex 1 ref 1 bind 1

"""


@dataclass
class Bucket:
    """A token bucket at the root of a device."""

    handle: str
    rate: int  # bits per second
    burst: int


class Tc(Ip):
    """A host with tc. buckets: by device. ingress: the devices with an ingress qdisc, and where its filter sends all; None where it has no filter."""

    def boot(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.ingress: dict[str, str | None] = {}
        super().boot()

    def drop_link(self, name: str) -> None:
        """Delete an interface with its queues; a filter that leads there is left, and loses what it gets."""
        super().drop_link(name)
        self.buckets.pop(name, None)
        self.ingress.pop(name, None)
        self.ingress.update({source: "*" for source, target in self.ingress.items() if target == name})

    def shaped(self) -> list[str]:
        """Return all queues, a line each."""
        return sorted(
            [
                *(f"tc {name} {bucket}" for name, bucket in self.buckets.items()),
                *(f"tc {name} receives through {target}" for name, target in self.ingress.items()),
            ]
        )

    def root_qdisc(self, name: str) -> str:
        """Return the kind of the qdisc that a device sends through."""
        return "tbf" if name in self.buckets else "noqueue"

    def _tc(self, words: list[str], stdin: str) -> str:
        if words == ["-json", "qdisc", "show"]:
            return json.dumps([shown for name in self.links for shown in self._show(name)])
        if words[:3] == ["filter", "show", "dev"] and words[4:] == ["parent", "ffff:"]:
            self._link(words[3])
            target = self.ingress.get(words[3])
            return _SHOWN.format(target) if target else ""
        if words == ["-batch", "-"]:
            for number, line in enumerate(stdin.splitlines(), 1):
                try:
                    self._step(f"tc {line}", lambda line=line: self._change(line))
                except Refused as refusal:
                    raise Refused(refusal.rc, f"{refusal.message}\nCommand failed -:{number}") from None
            return ""
        raise AssertionError(f"the fake host does not know: tc {words}")

    def _show(self, name: str) -> list[dict[str, object]]:
        bucket, shown = self.buckets.get(name), list[dict[str, object]]()
        if bucket:
            options = {"rate": bucket.rate // 8, "burst": bucket.burst - 2, "lat": 100000}
            shown.append({"kind": "tbf", "handle": bucket.handle, "dev": name, "root": True, "refcnt": 2, "options": options})
        else:
            shown.append({"kind": "noqueue", "handle": "0:", "dev": name, "root": True, "refcnt": 2, "options": {}})
        if name in self.ingress:
            shown.append({"kind": "ingress", "handle": "ffff:", "dev": name, "parent": "ffff:fff1", "options": {}})
        return shown

    def _change(self, line: str) -> None:
        words = line.split()
        name = words[3]
        self._link(name)
        bucket = _BUCKET.fullmatch(line.removeprefix(f"qdisc replace dev {name} root "))
        if bucket:
            self.buckets[name] = Bucket(bucket[1], int(bucket[2]) * _UNITS[bucket[3]], int(bucket[4]))
        elif line == f"qdisc del dev {name} root":
            if self.buckets.pop(name, None) is None:
                raise Refused(1, "Error: Cannot delete qdisc with handle of zero.")
        elif line == f"qdisc add dev {name} ingress":
            if name in self.ingress:
                raise Refused(1, "Error: Exclusivity flag on, cannot modify.")
            self.ingress[name] = None
        elif line == f"qdisc del dev {name} ingress":
            if name not in self.ingress:
                raise Refused(1, "Error: Invalid handle.")
            del self.ingress[name]
        elif line.startswith(_FILTER.format(name)):
            self._link(words[-1])
            if name not in self.ingress:
                raise Refused(1, "Error: Parent Qdisc doesn't exists.\nWe have an error talking to the kernel")
            assert self.ingress[name] is None, f"a second filter: {line}"
            self.ingress[name] = words[-1]
        else:
            raise AssertionError(f"the fake host does not know: tc {line}")
