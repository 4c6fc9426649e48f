# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel needs so that this cell itself can ask targets on the internet through an exit.

A policy rule leads what is bound to the exit's interface into the exit's table, which never closes on a verdict: else the exit could never come back.
The answer comes from an address that main knows by the uplink, so a strict rp_filter drops it. It is loose on these interfaces: who may send by a link,
and what, is for our chains anyway, as for IPv6, which has no rp_filter.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..base.networks import FAMILIES
from ..kernel.model import PolicyRule, Routing
from ..kernel.plan import Plan, Run, Write
from ..kernel.routing import PROBED_PRIORITY, setting, setting_path
from ..records.model import Link, State
from .part import Context

_STRICT, _LOOSE = "1", "2"  # ip-sysctl, rp_filter: the higher of an interface's value and that of all counts


def probed(state: State) -> list[Link]:
    """Return the exits that targets are asked through. On the devices' interface there is none: its packets are those of devices.

    A cell relays nothing before a device uses it as its exit, and lets nobody ask through it. A provider does.
    """
    links = [state.links[name] for name in state.asked_exits if state.exit_is_effective(name)] if any(map(state.cell.asked_through_exits, FAMILIES)) else []
    return [link for link in links if link.interface != state.cell.interface]


def wanted_rules(state: State, family: int) -> list[PolicyRule]:
    """Return the rules that lead this cell's own questions into the tables of exits."""
    if not state.cell.asked_through_exits(family):
        return []
    return [PolicyRule(family, PROBED_PRIORITY, "all", link.exit_table, device=link.interface) for link in probed(state) if link.exit_table]


def way_stands(state: State, link: Link, seen: Mapping[int, Routing]) -> bool:
    """Tell whether the kernel leads this cell's own questions into an exit's table."""
    rules = [rule for family in FAMILIES for rule in wanted_rules(state, family) if rule.device == link.interface]
    return bool(rules) and all(rule in seen[rule.family].rules for rule in rules)


def plan_settings(context: Context) -> Plan:
    """Plan the rp_filter of links: loose where answers of targets come in, and elsewhere as for any new interface."""
    plan, state = Plan(), context.wanted
    loose = {link.interface for link in probed(state)} if state.cell.asked_through_exits(4) else set()
    every, default = (setting(context.host, _filter(name)) for name in ("all", "default"))
    interfaces = {str(link.interface) for link in state.links.values()} - {state.cell.interface}
    for interface in sorted(interfaces.intersection(context.observed.links)):  # at boot they are still to come
        seen = setting(context.host, _filter(interface)) or default  # as it will be for one that this run makes
        wanted = seen
        if interface in loose:
            wanted = _LOOSE if max(every or "", seen or "") == _STRICT else seen
        elif seen == _LOOSE:
            wanted = default
        if seen and wanted and wanted != seen:
            plan.steps.append(Run(("sysctl", "-q", "-w", f"{_filter(interface)}={wanted}")))
            plan.describe([f"{_filter(interface)}: {seen}"], [f"{_filter(interface)}: {wanted}"])
            plan.effects.append(Write(setting_path(_filter(interface)), f"{wanted}\n"))
    return plan


def _filter(device: str) -> str:
    return f"net/ipv4/conf/{device}/rp_filter"  # with slashes, as the device's name may hold a dot
