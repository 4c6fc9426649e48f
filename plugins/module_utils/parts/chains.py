# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes of chains: a list of networks as a tree, so that a packet's cost stays flat; and the filter's chains once more, for mangle. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..base.networks import Network, network_of, sort_key
from ..kernel.ruleset import Rule

_FAN_OUT_BITS = 4  # 16 rules a level: a packet passes some 16 rules per level, whatever the number of networks
# TCP that is NEW without SYN: the filter's guard behind it answers it with a reset, which mangle cannot.
_FOR_THE_GUARD = "-p tcp ! --syn -m conntrack --ctstate NEW -j RETURN"

Chains = dict[str, list[Rule]]


def tree(chain: str, branch: str, side: str, leaves: Mapping[str, Iterable[Rule]], otherwise: Iterable[Rule] = ()) -> Chains:
    """Return a chain, with branches where it would be long, that carries out the rules of the network that a packet's address is in.

    branch: how the names of branches begin. side: '-s' or '-d'. leaves: rules by network. otherwise: what decides where no rule has.
    A RETURN of any of these rules leads back to whoever jumped to the chain.
    """
    return _tree(chain, branch, side, {network: list(leaves[network]) for network in sorted(leaves, key=sort_key)}, list(otherwise))


def _tree(chain: str, branch: str, side: str, leaves: Mapping[str, list[Rule]], otherwise: list[Rule]) -> Chains:
    """Return the chains of a tree: rules for few networks, else a branch for each value of the next bits in which these differ. leaves: sorted."""
    if len(leaves) <= 1 << _FAN_OUT_BITS:
        return {chain: [*(rule for rules in leaves.values() for rule in rules), *otherwise]}
    parsed = {text: network_of(text) for text in leaves}
    first, *_others, last = parsed.values()
    bits = first.max_prefixlen
    common = bits - (int(first.network_address) ^ int(last.network_address)).bit_length()
    prefix = min(bits, common + _FAN_OUT_BITS)
    groups: dict[Network, dict[str, list[Rule]]] = {}
    wide = []
    for text, network in parsed.items():
        if network.prefixlen < prefix:  # it reaches into several branches
            wide += leaves[text]
        else:
            groups.setdefault(network.supernet(new_prefix=prefix), {})[text] = leaves[text]
    chains: Chains = {chain: []}
    for number, (network, members) in enumerate(groups.items()):
        name = f"{branch}-{number:x}"
        chains[chain].append(Rule(f"{side} {network} -g {name}"))
        # What spans several branches is looked for behind each of them: a packet that has turned into one does not come back.
        chains.update(_tree(name, name, side, members, [*wide, *otherwise]))
    chains[chain] += [*wide, *otherwise]
    return chains


def again(chains: Mapping[str, list[Rule]]) -> Chains:
    """Return the filter's chains as mangle holds them, where they refuse the same packets: RETURN for ACCEPT, since that would skip the rules of others.

    Each ACCEPT has to stand in a chain that was gone to ('-g') from one that a built-in chain jumps to.
    """
    return {chain: [_again(rule) for rule in rules] for chain, rules in chains.items() if chain not in ("PIC-OUT", "PIC-GUARD")}


def _again(rule: Rule) -> Rule:
    text = rule.text.replace("-j PIC-GUARD", _FOR_THE_GUARD).replace("-j ACCEPT", "-j RETURN")
    return rule if text == rule.text else Rule(text, rule.tag)
