# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which interface the kernel itself says that it would send a packet to the internet, and whether that is what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.command import Host, parsed
from .lookups import SOMEWHERE

_NOWHERE = ("6", "7", "8", "blackhole", "unreachable", "prohibit")  # a route's type, in both of ip's ways to print it
_SOME_REFUSED = (0, 1)  # ip -force -batch: 1 where one of the questions was answered by an error, as "unreachable" is


@dataclass(frozen=True)
class Meant:
    """How the packets of one address to the internet are meant to leave once a plan is carried out.

    who: whose address it is. devices: the interfaces, any of which will do; none where they are meant to be refused. words: the same for a person.
    closed: whether the own uplink was closed for them before, whatever the records say.
    """

    who: str
    source: str
    inward: str  # the interface by which they come in
    devices: frozenset[str]
    words: str
    closed: bool

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.source else 4


def question(to: str, source: str, inward: str) -> list[str]:
    """Return what ip is asked for the way of a packet to an address that comes from another one, by an interface."""
    return ["route", "get", to, "from", source, "iif", inward]


def devices_of(answer: Mapping[str, Any]) -> list[str]:
    """Return the interfaces of an answer of ip; none where the packet is refused."""
    if answer.get("type") in _NOWHERE:
        return []
    return [str(hop["dev"]) for hop in (answer, *answer.get("nexthops", ())) if hop.get("dev")]


def differing(host: Host, meant: Iterable[Meant]) -> dict[Meant, frozenset[str]]:
    """Ask the kernel, in one command for each family, and return by which interfaces it sends what is meant to leave in another way."""
    families: dict[int, list[Meant]] = {}
    for item in meant:
        families.setdefault(item.family, []).append(item)
    found: dict[Meant, frozenset[str]] = {}
    for family, items in families.items():
        argv = ["ip", f"-{family}", "-N", "-json", "-force", "-batch", "-"]
        lines = [f"{' '.join(question(SOMEWHERE[family], item.source, item.inward))}\n" for item in items]
        out = host.run(argv, stdin="".join(lines), ok=_SOME_REFUSED).out
        answers = {answer.get("from"): answer for line in out.split("\n") for answer in parsed(argv, line) or ()}  # of a question refused there is none
        for item in items:
            devices = frozenset(devices_of(answers.get(item.source, {})))
            if not (devices & item.devices if item.devices else not devices):
                found[item] = devices
    return found
