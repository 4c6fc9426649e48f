# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS of routed devices: what they ask the cell, or anything else near it, is answered by a resolver that they reach through their exit. Pure.

nat PREROUTING -> PIC-PRE -> PIC-RESOLVE -> PIC-ASK, PIC-A-<exit>   a routed device's question to a private address goes to the resolver
filter INPUT   -> PIC-IN  -> PIC-DNS                                one that reaches the cell all the same is dropped
filter FORWARD -> PIC-PATH -> PIC-ROUTED -> PIC-HOME -> PIC-DNS     and so is one to the LAN or to another device

A question to a public address needs nothing: it leaves by the exit as all else does. Where nobody states who answers there is none of this.
A resolver is a stated one on the internet, or that of the exit in use: then each exit has a chain, and a device whose exit has none asks whom it likes.
A resolver that is stated for devices of their own has a chain, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..base import names
from ..base.networks import HOME, host_networks, of_family, outside
from ..kernel.ruleset import Rule, Table
from ..records.model import Cell, Peer, State
from .chains import Chains, tree
from .stages import on_devices_interface, ruled

_QUESTION = [f"-p {protocol} --dport {names.DNS_PORT}" for protocol in names.DNS_PROTOCOLS]
_REFUSED, _REDIRECTED = "PIC-DNS", "PIC-RESOLVE"
_BRANCHES = {_REFUSED: "PIC-Q", _REDIRECTED: "PIC-V"}
_STATED, _OF_EXIT = "PIC-ASK", "A"


def refused(state: State, family: int) -> Chains:
    """Return the chains that drop a routed device's question. They need no resolver of this family: one that nobody answers must not leave either."""
    if not state.cell.leads_dns:
        return {}
    return _tree(_REFUSED, dict.fromkeys(state.cell.own_networks(family) if state.peers_lost else _asking(state, family), "-j DROP"))


def redirected(state: State, family: int) -> Chains:
    """Return the chains that find out whose question goes to which resolver, and those of the exits' own ones; none where there can be no resolver.

    They stand without any device too, so that a change of exits alone makes no more than these.
    """
    cell, stated = state.cell, state.cell.exit_resolver(family)
    if not (cell.has_family(family) and (stated or cell.dns_by_exit or cell.dns_by_device)):
        return {}
    if state.peers_lost:
        return _tree(_REDIRECTED, dict.fromkeys(cell.own_networks(family) if stated else (), f"-g {_STATED}"))
    leaves, chains = {}, Chains()
    for network, peer in _asking(state, family).items():
        resolver = state.answerer(peer, family)
        if resolver is None:
            continue
        if state.answered_by(peer) == [names.EXIT]:
            chain = names.chain(_OF_EXIT, str(state.exit_of(peer)))
        else:
            chain = _STATED if resolver == stated else names.resolver_chain(resolver)
        leaves[network] = f"-g {chain}"
        if chain != _STATED:
            chains[chain] = _answers(state, family, resolver)
    return {**_tree(_REDIRECTED, leaves), **{chain: chains[chain] for chain in sorted(chains)}}


def ends(state: State, family: int) -> Chains:
    """Return the chain of the stated resolver, where there is one."""
    resolver = state.cell.exit_resolver(family)
    return {_STATED: _answers(state, family, resolver)} if resolver else {}


def nat(state: State, family: int) -> Table:
    """Return the whole redirect of one family, with the jump to it; an empty table where there can be no resolver."""
    chains = redirected(state, family)
    if not chains:
        return Table()
    return Table({"PIC-PRE": _questions(state.cell, _REDIRECTED), **chains, **ends(state, family)}, {"PREROUTING": "PIC-PRE"})


def at_the_cell(state: State) -> list[Rule]:
    """Return the rules of INPUT: no resolver of the cell itself is asked by a routed device."""
    return _questions(state.cell, _REFUSED) if state.cell.leads_dns else []


def at_home(state: State, family: int) -> list[Rule]:
    """Return the rules before those that let a routed device reach its LAN and other devices: a linked cell's resolver may answer, and no other."""
    if not state.cell.leads_dns:
        return []
    links = [(link, network) for link in on_devices_interface(state.cell, ruled(state)) for network in of_family(family, link.networks)]
    shared = [Rule(f"-o {state.cell.interface} -d {network} {question} -j RETURN", names.tag(link.name)) for link, network in links for question in _QUESTION]
    # By the resolver of its exit, and where devices differ, not every routed device is answered.
    some = state.cell.dns_by_exit or state.cell.dns_by_device
    return [*shared, *(Rule(f"{question} -j {_REFUSED if some else 'DROP'}") for question in _QUESTION)]


def is_branch(chain: str, state: State) -> bool:
    """Tell whether a chain follows devices and exits. Where nobody states who answers they are for the plan of all rules to remove."""
    return state.cell.leads_dns and chain.startswith((*(f"{branch}-" for branch in _BRANCHES.values()), names.chain(_OF_EXIT, "")))


def _questions(cell: Cell, chain: str) -> list[Rule]:
    return [Rule(f"-i {cell.interface} {question} -g {chain}") for question in _QUESTION]


def _answers(state: State, family: int, resolver: str) -> list[Rule]:
    """Return the rules that send a routed device's question to a resolver, unless it asks a linked cell or the internet."""
    near = [*map(str, HOME[family]), *outside(state.cell.own_networks(family), map(str, HOME[family]))]
    shared = [Rule(f"-d {network} -j RETURN", names.tag(link.name)) for link in ruled(state) for network in of_family(family, link.networks)]
    return [*shared, *(Rule(f"-d {network} -j DNAT --to-destination {resolver}") for network in near)]


def _asking(state: State, family: int) -> dict[str, Peer]:
    """Return the routed devices that may not ask whom they like, by their addresses and the networks behind them."""
    asking = [peer for peer in state.routed if state.answerer(peer, family) != names.OWN]
    return {network: peer for peer in asking for network in (*host_networks(of_family(family, peer.addresses)), *of_family(family, peer.networks))}


def _tree(chain: str, verdicts: Mapping[str, str]) -> Chains:
    """Return a tree of networks. While the registry of devices cannot be read, every device could be a routed one."""
    return tree(chain, _BRANCHES[chain], "-s", {network: [Rule(f"-s {network} {verdict}")] for network, verdict in verdicts.items()})
