# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flows that were opened while rules of ours were missing or overtaken. They would go on after the repair, since what is established comes first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..base import destinations
from ..base.destinations import Exceptions
from ..base.names import DIRECT, DNS_PORT, DNS_PROTOCOLS, OWN
from ..base.networks import HOME, PRIVATE, Network, address_of, is_private, network_of, of_family
from ..kernel import conntrack
from ..kernel.plan import Ask, Run
from ..records.model import Link, State
from ..records.tombstones import Flows
from . import former
from .hostfacts import HostFacts
from .peer_sync import api_port
from .stages import given_addresses, ruled

_MANY = 16
_ENTRY = re.compile(r"^(\w+) +\d+ .*?\bsrc=(\S+) dst=(\S+)(?: sport=\d+ dport=(\d+))?.*? src=(\S+) dst=(\S+)")


@dataclass(frozen=True)
class Flow:
    """One entry of conntrack: who began it, what they asked for, who answers, and to whom."""

    protocol: str
    source: str
    to: str
    port: int
    answering: str
    answered: str


@dataclass(frozen=True)
class Allowed:
    """What the rules of one family let begin. here: the host's own addresses."""

    state: State
    family: int
    facts: HostFacts
    here: frozenset[str] = field(default=frozenset())

    def lookup(self) -> Ask | None:
        """Return the end of all flows that the rules would not let begin; None where there can be none."""
        if not self._links and not self._routed and not self._excepted:
            return None
        return Ask(conntrack.listing(self.family), lambda listed: self.ends(parse(listed)))

    def ends(self, flows: Iterable[Flow]) -> list[Run]:
        """Return the deletions: one for a source of which every flow goes, or for its flows to one address, else one for each port.

        Where that would be many, as after a scan, all that this source has there goes.
        """
        flows = list(flows)
        refused = {flow for flow in flows if self.refuses(flow)}
        stay = {part for flow in flows if flow not in refused for part in self._parts(flow)}
        within: dict[Flows, set[Flows]] = {}
        for flow in refused:
            for outer, inner in zip(self._parts(flow), self._parts(flow)[1:]):
                within.setdefault(outer, set()).add(inner)
        found = set()
        for flow in refused:
            parts = self._parts(flow)
            found.add(next(part for part in parts if part not in stay or len(within.get(part, ())) > _MANY or part == parts[-1]))
        return [conntrack.end(flows) for flows in sorted(found)]

    def _parts(self, flow: Flow) -> list[Flows]:
        """Return what conntrack finds a flow by, from the widest: its source, where it goes to, and to which port."""
        parts = [Flows(self.family, asker=flow.source), Flows(self.family, asker=flow.source, asked=flow.to)]
        if flow.protocol != "unknown":
            parts.append(replace(parts[1], protocol=flow.protocol, port=str(flow.port or "")))
        return parts

    def refuses(self, flow: Flow) -> bool:
        """Tell whether the rules would not let a flow begin."""
        link, other = self._link(flow.source), self._link(flow.to)
        if link is not None:
            return not (self._is_shared(link, flow) or self._is_relayed(link, flow) or self._is_for_the_cell(link, flow))
        if other is not None:
            if flow.source in self.here:
                return False
            to_api = flow.protocol == "tcp" and flow.to in other.address and flow.port == api_port(self.state.cell, other)
            return to_api or not _holds(self._own, flow.source)
        if flow.source in self._routed and self._is_answered_near(flow):
            return True
        # translated, as at the uplink, and not as towards a provider
        return self._must_not_leave(flow) and flow.answered not in (flow.source, *self._given) and not _holds((*HOME[self.family], *self._own), flow.to)

    def _must_not_leave(self, flow: Flow) -> bool:
        """Tell whether a device's flow must not leave by the uplink."""
        excepted = self._excepted.get(flow.source)
        via = destinations.way_of(excepted, flow.to) if excepted else None
        return flow.source in self._routed if via is None else via != DIRECT

    def _is_answered_near(self, flow: Flow) -> bool:
        """Tell whether somebody else than is meant to answers a routed device's question to the cell, its LAN or another device."""
        asks = flow.port == DNS_PORT and flow.protocol in DNS_PROTOCOLS and _holds((*HOME[self.family], *self._own), flow.to)
        return asks and self._answerers[flow.source] not in (OWN, flow.answering)

    @cached_property
    def _former(self) -> list[str]:
        """Return the addresses by which some linked cell still knows this one."""
        return former.addresses(self.state)

    @cached_property
    def _ports(self) -> set[int | None]:
        """Return the ports at which WireGuard lets others begin."""
        return {self.state.cell.listen_port, *(link.listen_port for link in self.state.links.values() if not link.provided)}

    @cached_property
    def _own(self) -> list[Network]:
        return [network_of(text) for text in self.state.cell.own_networks(self.family)]

    @cached_property
    def _given(self) -> list[str]:
        return given_addresses(self.state, self.family)

    @cached_property
    def _routed(self) -> frozenset[str]:
        return frozenset(self.state.routed_addresses(self.family))

    @cached_property
    def _answerers(self) -> dict[str, str | None]:
        """Return who answers routed devices, by their addresses."""
        return {address: self.state.answerer(peer, self.family) for peer in self.state.routed for address in of_family(self.family, peer.addresses)}

    @cached_property
    def _excepted(self) -> dict[str, Exceptions]:
        """Return the exceptions of devices, by their addresses."""
        peers = (peer for peer in self.state.peers.values() if peer.route_except)
        return {address: peer.route_except for peer in peers for address in of_family(self.family, peer.addresses)}

    @cached_property
    def _links(self) -> dict[int, dict[int, Link]]:
        """Return the links by the length of their networks' prefix, and by the network."""
        found: dict[int, dict[int, Link]] = {}
        for link in ruled(self.state):
            for network in map(network_of, of_family(self.family, link.networks)):
                found.setdefault(network.max_prefixlen - network.prefixlen, {})[int(network.network_address)] = link
        return found

    def _link(self, address: str) -> Link | None:
        number = int(address_of(address))
        return next((links[number >> bits << bits] for bits, links in self._links.items() if number >> bits << bits in links), None)

    def _is_shared(self, link: Link, flow: Flow) -> bool:
        return (flow.protocol, flow.to, flow.port) in conntrack.share_keys(self.state, link.name, self.family)

    def _is_relayed(self, link: Link, flow: Flow) -> bool:
        refused = (*PRIVATE[self.family], *(network for network in map(network_of, self.facts.connected) if not is_private(network)))
        return link.relays and self.facts.uplink is not None and flow.answering not in self.here and not _holds(refused, flow.answering)

    def _is_for_the_cell(self, link: Link, flow: Flow) -> bool:
        cell = self.state.cell
        if flow.answering not in self.here:
            return False
        told = flow.protocol == "tcp" and flow.port == cell.sync_port
        if told and flow.to in (*cell.own_addresses(self.family), *former.of_link(cell, link)):
            return flow.source in link.address
        if flow.to in self._former:
            return False
        if flow.protocol == "udp" and flow.port in self._ports:
            return True
        return _holds(map(network_of, of_family(self.family, cell.admin_networks)), flow.source)


def parse(listed: str) -> list[Flow]:
    """Read what conntrack -L printed; what it prints otherwise is left alone."""
    found = (_ENTRY.match(line) for line in listed.splitlines())
    return [Flow(entry[1], entry[2], entry[3], int(entry[4] or 0), entry[5], entry[6]) for entry in found if entry]


def _holds(networks: Iterable[Network], address: str) -> bool:
    parsed = address_of(address)
    return any(parsed in network for network in networks)
