# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which live flows a change ends: exactly those, and their end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from ..base.names import DNS_PORT, DNS_PROTOCOLS
from ..base.networks import FAMILIES, of_family
from ..records.model import State
from ..records.tombstones import Flows
from .plan import Ask, Run, Step

_FEW = 8
_FAMILY_NAME = {4: "ipv4", 6: "ipv6"}
_NONE_MATCHED = (0, 1)  # conntrack -D ends with 1 when there was nothing to delete


def revoked(before: State, after: State) -> list[Flows]:
    """Return the flows of every share, exit relay, link and device that was there before and is not after."""
    found: list[Flows] = []
    for name, link in sorted(before.links.items()):
        now = after.links.get(name)
        for family in FAMILIES:
            for network in of_family(family, link.networks):
                if now is None or not now.ruled:
                    if link.ruled:
                        found += [Flows(family, source=network), Flows(family, target=network)]
                    continue
                for protocol, address, port in share_keys(before, name, family) - share_keys(after, name, family):
                    found.append(Flows(family, protocol, network, asked=address, port=str(port)))
                if link.relays and not now.relays:
                    found.append(Flows(family, source=network, translated=True))
    found += [flows for address in _answered_otherwise(before, after) for flows in questions_of(address)]
    # Of a device, since its address is free from now on, or another one's already, which would get the answers.
    gone = {address for address, _key in _holders(before) - _holders(after)}
    found += [flows for address in gone for flows in with_address(address)]
    return sorted(found)


def _holders(state: State) -> set[tuple[str, str | None]]:
    """Return each address of a device, with the key that it is of: a name can be another one's."""
    return {(address, peer.public_key) for peer in state.peers.values() for address in peer.addresses}


def _answered_otherwise(before: State, after: State) -> Iterator[str]:
    """Yield the addresses of devices whose questions are for somebody else than before. One that leaves by another exit loses all flows anyway."""
    if not before.cell.leads_dns and not after.cell.leads_dns:
        return
    for name, peer in after.peers.items():
        was = before.peers.get(name)
        if was is not None and before.exit_of(was) == after.exit_of(peer):
            for family in FAMILIES:
                if before.answerer(was, family) != after.answerer(peer, family):
                    yield from of_family(family, peer.addresses)


def of_address(address: str) -> list[Flows]:
    """Return all flows that a peer began."""
    return [Flows(_family(address), asker=address)]


def with_address(address: str) -> list[Flows]:
    """Return all flows that a peer began, or others with it."""
    return [*of_address(address), Flows(_family(address), asked=address)]


def questions_of(address: str) -> list[Flows]:
    """Return the flows by which a peer has asked a resolver."""
    return [Flows(_family(address), protocol, asker=address, port=str(DNS_PORT)) for protocol in DNS_PROTOCOLS]


def to_network(address: str, network: str) -> Flows:
    """Return the flows that a peer began to a network."""
    return Flows(_family(address), asker=address, asked=network)


def end_begun_by(addresses: Sequence[str], flows_of: Callable[[str], list[Flows]] = of_address) -> list[Step]:
    """Return the end of flows that some addresses of one family began. Many at once are looked for before: most have none.

    flows_of: which flows of an address; all of them where it is left out.
    """
    ends = {address: [end(flows) for flows in flows_of(address)] for address in addresses}
    if len(addresses) <= _FEW:
        return [run for runs in ends.values() for run in runs]

    def then(listed: str) -> list[Run]:
        beginners = {match[1] for match in re.finditer(r"^.*?\bsrc=(\S+)", listed, re.MULTILINE)}
        return [run for address, runs in ends.items() if address in beginners for run in runs]

    return [Ask(listing(_family(addresses[0])), then)]


def end(flows: Flows) -> Run:
    """Return the deletion of flows."""
    return Run(("conntrack", "-D", *flows.words()), ok=_NONE_MATCHED)


def listing(family: int) -> tuple[str, ...]:
    """Return the command that prints all flows of a family."""
    return ("conntrack", "-L", "-f", _FAMILY_NAME[family])


def share_keys(state: State, name: str, family: int) -> set[tuple[str, str, int]]:
    """Return protocol, address and port of whatever is shared with a cell, the resolver among it while the cell is its exit."""
    services = (state.cell.services[share] for share in state.links[name].shares if share in state.cell.services)
    resolvers = of_family(family, state.cell.resolver) if state.links[name].relays else []
    return {
        *((service.protocol, address, service.port) for service in services for address in of_family(family, service.addresses)),
        *((protocol, address, DNS_PORT) for protocol in DNS_PROTOCOLS for address in resolvers),
    }


def _family(address: str) -> int:
    return 6 if ":" in address else 4
