# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS of routed devices: what they ask the cell, or anything else near it, is answered by a resolver that they reach through their exit. Pure.

nat PREROUTING -> PIC-PRE -> PIC-RESOLVE -> PIC-ASK    a routed device's question to a private address goes to the resolver
filter INPUT   -> PIC-IN  -> PIC-DNS                   one that reaches the cell all the same is dropped
filter FORWARD -> PIC-PATH -> PIC-ROUTED -> PIC-HOME   and so is one to the LAN or to another device

A question to a public address needs nothing: it leaves by the exit as all else does. Without a stated resolver there is none of this.
"""

from __future__ import annotations

from ..base import names
from ..base.networks import HOME, host_networks, of_family, outside
from ..kernel.ruleset import Rule, Table
from ..records.model import Cell, State
from .chains import Chains, tree
from .stages import on_devices_interface, ruled

_QUESTION = [f"-p {protocol} --dport {names.DNS_PORT}" for protocol in names.DNS_PROTOCOLS]
_REFUSED, _REDIRECTED = "PIC-DNS", "PIC-RESOLVE"
_BRANCHES = {_REFUSED: "PIC-Q", _REDIRECTED: "PIC-V"}


def refused(state: State, family: int) -> Chains:
    """Return the chains that drop a routed device's question. They need no resolver of this family: one that nobody answers must not leave either."""
    return _of_routed(_REFUSED, state, family, "-j DROP") if state.cell.exit_dns else {}


def redirected(state: State, family: int) -> Chains:
    """Return the chains that find out whether a question is a routed device's; none where there is no resolver of this family."""
    return _of_routed(_REDIRECTED, state, family, "-g PIC-ASK") if state.cell.exit_resolver(family) and state.cell.has_family(family) else {}


def answers(state: State, family: int) -> list[Rule]:
    """Return the rules that send a routed device's question to the resolver, unless it asks a linked cell or the internet."""
    near = [*map(str, HOME[family]), *outside(state.cell.own_networks(family), map(str, HOME[family]))]
    shared = [Rule(f"-d {network} -j RETURN", names.tag(link.name)) for link in ruled(state) for network in of_family(family, link.networks)]
    return [*shared, *(Rule(f"-d {network} -j DNAT --to-destination {state.cell.exit_resolver(family)}") for network in near)]


def nat(state: State, family: int) -> Table:
    """Return the whole redirect of one family, with the jump to it; an empty table where there is no resolver."""
    chains = redirected(state, family)
    if not chains:
        return Table()
    return Table({"PIC-PRE": _questions(state.cell, _REDIRECTED), **chains, "PIC-ASK": answers(state, family)}, {"PREROUTING": "PIC-PRE"})


def at_the_cell(state: State) -> list[Rule]:
    """Return the rules of INPUT: no resolver of the cell itself is asked by a routed device."""
    return _questions(state.cell, _REFUSED) if state.cell.exit_dns else []


def at_home(state: State, family: int) -> list[Rule]:
    """Return the rules before those that let a routed device reach its LAN and other devices: a linked cell's resolver may answer, and no other."""
    if not state.cell.exit_dns:
        return []
    links = [(link, network) for link in on_devices_interface(state.cell, ruled(state)) for network in of_family(family, link.networks)]
    shared = [Rule(f"-o {state.cell.interface} -d {network} {question} -j RETURN", names.tag(link.name)) for link, network in links for question in _QUESTION]
    return [*shared, *(Rule(f"{question} -j DROP") for question in _QUESTION)]


def is_branch(chain: str, state: State) -> bool:
    """Tell whether a chain is a branch of these for devices. Without a stated resolver they are for the plan of all rules to remove."""
    return bool(state.cell.exit_dns) and chain.startswith(tuple(f"{branch}-" for branch in _BRANCHES.values()))


def _questions(cell: Cell, chain: str) -> list[Rule]:
    return [Rule(f"-i {cell.interface} {question} -g {chain}") for question in _QUESTION]


def _of_routed(chain: str, state: State, family: int, verdict: str) -> Chains:
    """Return a tree of all routed devices. While the registry of devices cannot be read, every device could be one."""
    networks = [*host_networks(state.routed_addresses(family)), *state.routed_networks(family)]
    if state.peers_lost:
        networks = state.cell.own_networks(family)
    return tree(chain, _BRANCHES[chain], "-s", {network: [Rule(f"-s {network} {verdict}")] for network in networks})
