# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which live flows a change ends: exactly those, and their end."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .networks import FAMILIES, of_family
from .plan import Ask, Run, Step
from .records import State

_FEW = 8
_FAMILY_NAME = {4: "ipv4", 6: "ipv6"}
_NONE_MATCHED = (0, 1)  # conntrack -D ends with 1 when there was nothing to delete


def revoked(before: State, after: State) -> list[str]:
    """Return the flows of every share, exit relay and link that was there before and is not after, as conntrack finds them."""
    found: list[str] = []
    for name, link in sorted(before.links.items()):
        now = after.links.get(name)
        for family in FAMILIES:
            for network in of_family(family, link.networks):
                if now is None or not now.ruled:
                    if link.ruled:
                        found += [flows_of(family, "-s", network), flows_of(family, "-d", network)]
                    continue
                for protocol, address, port in share_keys(before, name, family) - share_keys(after, name, family):
                    found.append(flows_of(family, "-p", protocol, "-s", network, "--orig-dst", address, "--orig-port-dst", str(port)))
                if link.relays and not now.relays:
                    found.append(flows_of(family, "-s", network, "-n"))
    return sorted(found)


def end_begun_by(addresses: Sequence[str]) -> list[Step]:
    """Return the end of all flows that some addresses of one family began. Many at once are looked for before: most have none."""
    if len(addresses) <= _FEW:
        return [end(of_address(address)) for address in addresses]

    def then(listed: str) -> list[Run]:
        beginners = {match[1] for match in re.finditer(r"^.*?\bsrc=(\S+)", listed, re.MULTILINE)}
        return [end(of_address(address)) for address in addresses if address in beginners]

    return [Ask(listing(_family(addresses[0])), then)]


def of_address(address: str) -> str:
    """Return all flows that a peer began, as conntrack finds them."""
    return flows_of(_family(address), "--orig-src", address)


def end(flows: str) -> Run:
    """Return the deletion of flows."""
    return Run(("conntrack", "-D", *flows.split()), ok=_NONE_MATCHED)


def listing(family: int) -> tuple[str, ...]:
    """Return the command that prints all flows of a family."""
    return ("conntrack", "-L", "-f", _FAMILY_NAME[family])


def flows_of(family: int, *words: str) -> str:
    """Return flows of a family as conntrack finds them."""
    return " ".join(("-f", _FAMILY_NAME[family], *words))


def share_keys(state: State, name: str, family: int) -> set[tuple[str, str, int]]:
    """Return protocol, address and port of whatever is shared with a cell."""
    services = (state.cell.services[share] for share in state.links[name].shares if share in state.cell.services)
    return {(service.protocol, address, service.port) for service in services for address in of_family(family, service.addresses)}


def _family(address: str) -> int:
    return 6 if ":" in address else 4
