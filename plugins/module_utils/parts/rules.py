# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the cell in both families: who may reach what, and the end of flows that are no longer allowed.

Owns what linked cells may reach: the shares, the offer of an exit and its use. Adds to the host all chains of the cell in filter, nat and mangle.
Comes before the links: default deny and the exit relay stand before a tunnel carries its first packet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..kernel import conntrack, iptables
from ..kernel.model import SavedRuleset
from ..kernel.plan import Plan, Step
from ..records.model import Link, State
from ..records.ownership import Fields
from . import firewall, gaps, hostfacts, killswitch, merge, providers, stages, tunnels
from .part import Context, Part, Planned


def plan_rules(context: Context) -> Planned:
    """Plan all rules. Returns plan and {shares: {link: [service]}}."""
    for name in context.inputs.absent_links:
        if name in context.wanted.links:
            gone = context.wanted.links[name]
            gone.ruled, gone.exit_offered, gone.remote_exit_relay_active = False, False, False
            gone.exit_offered_until = gone.exit_offered_rate = None
            gone.permissions = {"inbound": {}, "outbound": gone.permissions["outbound"]}
    tunnels.allocate_ports(context)
    plan, ends_of_gaps = context.write_records(), list[Step]()
    state, seen = killswitch.with_blocked(context.wanted, context.observed.routing), context.observed
    ours = firewall.own_interfaces(context.wanted.cell)
    for family in seen.families:
        backend, other = seen.backends[family]
        wanted = firewall.build(state, family, hostfacts.host_facts(seen, context.wanted, family), context.contributions)
        changes = iptables.plan_rules(wanted, seen.iptables[family], ours, backend)
        plan.extend(changes)
        if other:  # the host no longer uses that variant, whose rules would go on deciding
            plan.extend(iptables.plan_rules({}, seen.other_iptables[family], (), other, observed_as="other_iptables"))
        ends_of_gaps += _plan_end_of_gap(context, state, family) if changes else []
    plan.steps += ends_of_gaps
    if context.ends_flows:
        if context.leaving.flows and not plan:
            plan.describe(["flows of what is no longer allowed: alive"], [])
        plan.steps += [conntrack.end(flows) for flows in context.leaving.flows]
        context.bury(plan, flows=[])
    plan.warnings += [*seen.warnings, *_ended(context)]
    return plan, {"shares": {name: link.shares for name, link in sorted(context.wanted.links.items()) if not link.provided}}


def _ended(context: Context) -> list[str]:
    """Return a warning for each offer that is stated with an end that has come: what states it outlives it, which is no reason to end a run."""
    links = context.wanted.links
    stated = (links[item["name"]] for item in context.inputs.rights if item.get("offer_until") and item["name"] in links)
    return [
        f"The offer of an exit to cell {link.name!r} ended at {link.exit_offered_until}, so it is not offered one. State a later end, or offer_exit: false."
        for link in stated
        if not link.exit_offered and link.exit_offered_until
    ]


def _plan_end_of_gap(context: Context, state: State, family: int) -> list[Step]:
    """Return the end of what was opened while rules that the records have called for were not there, or not first."""
    stored, seen = killswitch.with_blocked(context.stored, context.observed.routing), context.observed
    called_for = firewall.deny(firewall.build(stored, family, hostfacts.host_facts(seen, context.stored, family), context.contributions))
    if not context.host.has("conntrack") or iptables.stands(called_for, seen.iptables[family], firewall.own_interfaces(stored.cell)):
        return []
    look = gaps.Allowed(state, family, hostfacts.host_facts(seen, context.wanted, family), seen.addresses()).lookup()
    # Nothing has gone through a link that is new.
    return [look] if look and (stages.ruled(stored) or stored.routed_addresses(family)) else []


def _check_tables(check: Callable[[SavedRuleset], None]) -> Callable[[Context], None]:
    def check_families(context: Context) -> None:
        for family in context.observed.families:
            check(context.observed.iptables[family])

    return check_families


def _nothing(_context: Context) -> Planned:
    return Plan(), {}


def _words(state: State) -> list[str]:
    return [
        f"link {link.name}: shares {', '.join(link.shares) or 'nothing'}{_offer_words(link)}{'' if link.ruled else ', no rules'}"
        for link in state.links.values()
        if not link.provided
    ]


def _offer_words(link: Link) -> str:
    if not link.exit_offered and link.exit_offered_until is None:
        return ""
    until = f" until {link.exit_offered_until}" if link.exit_offered_until else ""
    limited = f", limited to {link.rate}" if link.rate else ""
    return f", {'offers' if link.exit_offered else 'offered'} an exit{until}{limited}"


RULES = Part(
    "rules",
    plan_rules,
    owns=Fields(links=("permissions.inbound", "exit_offered", "exit_offered_until", "exit_offered_rate", "remote_exit_relay_active", "ruled")),
    merges=(merge.merge_cell, merge.merge_links, merge.merge_rights, providers.merge_exits),
    check=_check_tables(iptables.check_shown),
    words=_words,
)
# A repair begins with the tables that can be read. That others cannot be is an error only when all is done that does not need them.
REPAIR = replace(RULES, check=lambda _context: None)
CHECK_DENIES = Part("default deny", _nothing, check=_check_tables(iptables.check_denies))
CHECK_ALL = Part("all rules", _nothing, check=_check_tables(iptables.check_shown))
