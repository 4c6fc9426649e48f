# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chains that keep routed devices from the uplink: the firewall's second layer behind the policy rules."""

from __future__ import annotations

from ..kernel import iptables
from ..kernel.model import Routing, Saved
from ..kernel.plan import Plan
from ..records.model import State
from . import firewall, hostfacts
from .part import Context

NOWHERE = "(nowhere)"  # the exit of a device that is blocked, and has none yet


def with_blocked(state: State, routing: dict[int, Routing]) -> State:
    """Return a state in which a device counts as routed while a policy rule blocks it: only the plan of the routes lets it out."""
    state = state.copy()
    blocked = {rule.source for seen in routing.values() for rule in seen.rules if rule.table is None and rule.destination is None}
    for peer in state.peers.values():
        if state.exit_of(peer) is None and blocked.intersection(peer.addresses):
            peer.route_via = [NOWHERE]
    return state


def plan_chains(context: Context, state: State, family: int) -> Plan:
    """Plan the kill-switch chains for the devices that are routed in a state. Raises BadInput where the tables cannot be read."""
    present = context.observed.iptables[family]
    iptables.check_denies(present)
    facts = hostfacts.host_facts(context.observed, context.wanted, family)
    wanted, names = firewall.layer(state, family, facts.uplink), set[str]()
    for name, table in wanted.items():
        there = present.get(name, Saved()).rules
        routed = any(rules for chain, rules in table.chains.items() if chain != firewall.ANSWERS)
        if not routed and firewall.ANSWERS not in there:
            table.chains.pop(firewall.ANSWERS, None)  # nobody asks for it yet
        names |= {*table.chains, *(chain for chain in there if firewall.is_of_layer(chain, state))}
        if routed:
            table.chains.update(firewall.ends(state, family, name))
    ours = firewall.own_interfaces(context.wanted.cell)
    return iptables.plan_rules(wanted, present, ours, context.observed.backends[family][0], names)


def plan_move(context: Context, before: State) -> tuple[Plan, Plan]:
    """Plan the chains for a change of exits: who becomes routed is in them early, who goes direct leaves them late. before: as the devices were routed."""
    early, late = Plan(), Plan()
    # One that goes direct because none of its exits can be used is no change of the records: the kernel tells that it was routed.
    union = with_blocked(context.wanted, context.observed.routing)
    for peer in before.routed:
        if not (peer.name in union.peers and union.exit_of(union.peers[peer.name])):
            union.peers[peer.name] = peer
    for family in context.observed.families:
        final = plan_chains(context, context.wanted, family)
        if union.routed_addresses(family) == context.wanted.routed_addresses(family):
            early.extend(final)
        else:
            if set(context.wanted.routed_addresses(family)) - set(before.routed_addresses(family)):
                early.steps += plan_chains(context, union, family).steps
            late.extend(final)
    return early, late
