# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages that a packet passes in our chains, in their order, which is the policy. Each makes its rules from the records. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..base import names
from ..base.networks import host_networks, of_family
from ..kernel.ruleset import Rule
from ..records.model import Cell, Link, State
from . import former
from .hostfacts import HostFacts

LINKS = "pic-+"
ROUTED = "PIC-ROUTED"
FROM_LINKS, TO_CELL, APIS, MASQUERADED = "PIC-LINK", "PIC-CELL", "PIC-API", "PIC-MASQ"
NEW = "-m conntrack --ctstate NEW"
ANSWERED = "-m conntrack --ctstate ESTABLISHED"
_KNOWN = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
INVALID = "-m conntrack --ctstate INVALID -j DROP"
_SYN = "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"


Stage = Callable[[State, HostFacts, int], list[Rule]]  # of the records, of the host in a family, and the family: 4 or 6


@dataclass(frozen=True)
class Contribution:
    """Rules that a part adds behind those of a stage."""

    stage: Stage
    rules: Stage


def killswitch(state: State, _facts: HostFacts, _family: int) -> list[Rule]:
    """Drop a routed device's packet at the uplink whatever the routing says, also one of a flow that is known."""
    return [Rule(f"-i {state.cell.interface} ! -o {LINKS} -j {ROUTED}")]


def source_check(state: State, _facts: HostFacts, _family: int) -> list[Rule]:
    """Look at the source of whatever comes from a link; who may have it goes on.

    Comes before the state: an exit's forged answer would be taken for that of whoever was asked.
    """
    rules = [Rule(f"-i {LINKS} -j PIC-SOURCE")]
    if on_devices_interface(state.cell, ruled(state)):
        rules.append(Rule(f"-i {state.cell.interface} -j PIC-SENDER"))
    return rules


def conntrack_state(_state: State, _facts: HostFacts, _family: int) -> list[Rule]:
    """Let pass what belongs to a flow that is known."""
    return [Rule(INVALID), Rule(_KNOWN)]


def from_links(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Send what comes from a link, with a source that belongs there, to the link's chain, and drop the rest."""
    return [*_to_chains_on_devices_interface("L", state, family), Rule(f"-i {LINKS} -g {FROM_LINKS}")]


def revoked_flows(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Let no packet of a revoked flow leave towards a link."""
    return [Rule(f"{match} -j PIC-GUARD", tag) for match, tag in towards(state.cell, ruled(state), family)]


def remote_api(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Keep devices from what other cells offer this cell alone: their peer-sync API."""
    reached = [LINKS, *([state.cell.interface] if on_devices_interface(state.cell, ruled(state)) else [])]
    return [Rule(f"-i {state.cell.interface} -o {interface} -p tcp -j {APIS}") for interface in reached]


def to_links(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Let the cell's own networks reach linked cells, and nobody else."""
    found, own = towards(state.cell, ruled(state), family), state.cell.own_networks(family)
    rules = [Rule(f"-i {state.cell.interface} {match} -s {network} -j ACCEPT", tag) for match, tag in found for network in own]
    return rules + [Rule(f"{match} -j DROP", tag) for match, tag in found]


def to_uplink(state: State, facts: HostFacts, family: int) -> list[Rule]:
    """Let the cell's own networks reach the internet."""
    if not facts.uplink:
        return []
    devices = state.cell.interface
    rules = [Rule(f"-i {devices} -o {facts.uplink} -s {network} -j ACCEPT") for network in state.cell.own_networks(family)]
    # Whoever is at the uplink opens nothing to a device, unless the host's owner forwards a port to it.
    return [*rules, Rule(f"-i {facts.uplink} -o {devices} -m conntrack ! --ctstate DNAT -j DROP")]


def own_questions(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Let nothing that this cell asks targets through exits leave another way: the kernel resets by the uplink what comes in for a closed connection."""
    return [
        Rule(f"-s {own} -d {target.address} ! -o {LINKS} -p {target.protocol} --dport {target.port} -j DROP")
        for target in state.cell.asked_through_exits(family)
        for own in host_networks([*state.cell.own_addresses(family), *given_addresses(state, family)])
    ]


def tunnels(state: State, _facts: HostFacts, _family: int) -> list[Rule]:
    """Let WireGuard's own packets in, to the devices' interface and to those of links. A provider never dials: of its packets the answers are let in."""
    ports: dict[str, set[int]] = {"": {state.cell.listen_port}, f"{ANSWERED} ": set()}
    for link in ruled(state):
        if link.listen_port and link.interface != state.cell.interface:
            ports[f"{ANSWERED} " if link.provided else ""].add(link.listen_port)
    # A rule for each port would be compared with every packet of every tunnel.
    return [Rule(f"-p udp --dport {listed} {match}-j ACCEPT") for match, numbers in ports.items() for listed in _ranges(numbers)]


def conntrack_state_of_links(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Let pass what comes from a link and belongs to a flow that is known; of all else that the host receives others decide."""
    matches = [(f"-i {LINKS}", names.GENERAL_TAG)]
    matches += [(match, names.tag(link.name)) for link in on_devices_interface(state.cell, ruled(state)) for match in _arriving(link, family)]
    return [rule for match, tag in matches for rule in (Rule(f"{match} {INVALID}", tag), Rule(f"{match} {_KNOWN}", tag))]


def from_links_to_cell(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Send what comes from a link to the cell itself, with a source that belongs there, to the link's chain, and drop the rest."""
    return [*_to_chains_on_devices_interface("I", state, family), Rule(f"-i {LINKS} -g {TO_CELL}")]


def own_api(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Keep everybody else from this cell's peer-sync API, and devices from all that it has at addresses by which some linked cell alone still knows it.

    A network of the host's own may have such an address meanwhile.
    """
    old = of_family(family, former.addresses(state))
    api = [Rule(f"! -i lo -d {address} -p tcp --dport {state.cell.sync_port} -j DROP") for address in (*state.cell.own_addresses(family), *old)]
    return [*api, *(Rule(f"-i {state.cell.interface} -d {address} -j DROP") for address in old)]


def provided_sources(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Give what leaves towards a provider the address that it has given this cell, and knows; no other would be answered."""
    links = [link for link in ruled(state) if link.provided and link.has_family(family)]
    return [Rule(f"-o {link.interface} -j MASQUERADE", names.tag(link.name)) for link in links]


def kept_sources(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Let what leaves towards a link keep its source: under a foreign masquerade a phone would wear the cell's address there."""
    return [Rule(f"{match} -j ACCEPT", tag) for match, tag in towards(state.cell, ruled(state), family)]


def masquerade(state: State, facts: HostFacts, family: int) -> list[Rule]:
    """Give what leaves for the internet the uplink's address: what devices send, and those of the cells that this one is an exit for."""
    if not facts.uplink:
        return []
    return [Rule(f"-o {facts.uplink} -j {MASQUERADED}")]


def clamp_mss(state: State, _facts: HostFacts, family: int) -> list[Rule]:
    """Let no TCP connection through a link begin with segments that do not fit its tunnel."""
    matches = [f"-o {LINKS}", f"-i {LINKS}"]
    for link in on_devices_interface(state.cell, ruled(state)):
        for network in of_family(family, link.networks):
            matches += [f"-o {state.cell.interface} -d {network}", f"-i {state.cell.interface} -s {network}"]
    return [Rule(f"{match} {_SYN}") for match in matches]


FORWARD: tuple[Stage, ...] = (killswitch, source_check, conntrack_state, from_links, revoked_flows, remote_api, to_links, to_uplink)
INPUT: tuple[Stage, ...] = (tunnels, source_check, conntrack_state_of_links, from_links_to_cell, own_api)
OUTPUT: tuple[Stage, ...] = (own_questions, revoked_flows)
POSTROUTING: tuple[Stage, ...] = (provided_sources, kept_sources, masquerade)
MANGLE: tuple[Stage, ...] = (clamp_mss,)


def joined(stages: Iterable[Stage], state: State, facts: HostFacts, family: int, more: Iterable[Contribution] = ()) -> list[Rule]:
    """Return the rules of stages in their order, each with what parts add to it."""
    more = tuple(more)
    steps = [step for stage in stages for step in (stage, *(one.rules for one in more if one.stage is stage))]
    return [rule for step in steps for rule in step(state, facts, family)]


def _to_chains_on_devices_interface(kind: str, state: State, family: int) -> list[Rule]:
    links = on_devices_interface(state.cell, ruled(state))
    return [Rule(f"{match} -g {names.chain(kind, link.name)}", names.tag(link.name)) for link in links for match in _arriving(link, family)]


def _ranges(numbers: Iterable[int]) -> list[str]:
    """Return numbers as ranges without gaps, as iptables writes them."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][-1] == number - 1:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number])
    return [":".join(map(str, ends)) for ends in found]


def towards(cell: Cell, links: list[Link], family: int) -> list[tuple[str, str]]:
    """Return the matches (and tags) of packets that leave towards any link."""
    matches = [(f"-o {LINKS}", names.GENERAL_TAG)]
    for link in on_devices_interface(cell, links):
        matches += [(f"-o {cell.interface} -d {network}", names.tag(link.name)) for network in of_family(family, link.networks)]
    return matches


def given_addresses(state: State, family: int) -> list[str]:
    """Return the addresses that providers have given this cell."""
    return sorted({address for link in ruled(state) if link.provided for address in link.sources(state.cell, family)})


def _arriving(link: Link, family: int) -> list[str]:
    """Return the matches of packets that come in from a link with a source that belongs there.

    With 0.0.0.0/0 in AllowedIPs the exit cell could inject any source; what matches none of these is dropped.
    """
    return [f"-i {link.interface} -s {network}" for network in of_family(family, link.networks)]


def ruled(state: State) -> list[Link]:
    """Return the links that have rules, by name."""
    return [state.links[name] for name in sorted(state.links) if state.links[name].ruled and state.links[name].interface and not state.links[name].pending]


def on_devices_interface(cell: Cell, links: list[Link]) -> list[Link]:
    """Return the links that are peers on the devices' interface."""
    return [link for link in links if link.interface == cell.interface]
