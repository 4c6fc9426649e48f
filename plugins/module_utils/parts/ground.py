# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a packet meets on a cell: rules and ways as the kernel has them, or as a run is going to leave them. Reads, but changes nothing.

What a run leaves is worked out as if all linked cells did their part: their exits are offered and work, and they use what they are offered. Else
no first run could count on what the others have yet to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..base import names, wgkeys
from ..base.command import parsed
from ..base.names import DIRECT
from ..base.networks import EVERYWHERE, FAMILIES, FORWARDING, address_of, interface_of, network_of
from ..kernel import lookups, packets
from ..kernel.answers import devices_of, question
from ..kernel.lookups import Lookup, Wide
from ..kernel.model import MAIN, PolicyRule, Route, Saved, SavedRuleset
from ..kernel.observed import Observed, is_ours
from ..kernel.packets import HERE, Packet
from ..kernel.routing import setting
from ..kernel.ruleset import Ruleset
from ..records.model import State
from . import exits, firewall, hostfacts
from .part import Context
from .stages import Contribution

_SENDS, _GETS = "may send from", "gets what is for"
_NO_ROUTE = (0, 1, 2)  # ip route get: 2 where the answer is "unreachable", 1 where there is no such interface


@dataclass(frozen=True)
class Way:
    """By which interface a packet leaves, HERE where it is for the host itself, None where it does not leave; and why, in words."""

    device: str | None
    why: str = ""


@dataclass(frozen=True)
class Trace:
    """What becomes of one packet, and why, in words. exit: the exit by which it leaves for the internet, None where it does not leave for there."""

    packet: Packet
    passes: bool
    exit: str | None
    why: str


@dataclass(frozen=True)
class Ground:
    """What packets meet. rules, connected: by family. way: how one is sent. heard: whether what linked cells have said so far counts."""

    state: State
    rules: Mapping[int, SavedRuleset]
    here: frozenset[str]
    connected: Mapping[int, tuple[str, ...]]
    way: Callable[[Packet], Way]
    heard: bool

    def follow(self, packet: Packet) -> Trace:
        """Follow a packet that comes in."""
        rules = self.rules[packet.family]
        packet = packets.redirected(rules, packet, self.here)
        way = self.way(packet)
        if way.device is None:
            return Trace(packet, False, None, way.why)
        packet = replace(packet, leaves_by=way.device)
        found, leaves = packets.verdict(rules, packet, self.here), self._exit_at(way.device)
        if not found.passes:
            return Trace(packet, False, leaves, f"{found.rule} drops it")
        lets = f"{found.rule} {'lets' if found.sure else 'may let'} it pass" if found.rule else "no rule refuses it"
        return Trace(packet, True, leaves, f"{lets}{f', {way.why}' if way.why else ''}")

    def _exit_at(self, device: str) -> str | None:
        """Return the exit that an interface leads to."""
        links = [link for link in self.state.links.values() if link.interface == device and (device != self.state.cell.interface or link.exit_relay_active)]
        return links[0].name if links else DIRECT if device != HERE and not is_ours(device, self.state.cell.interface) else None


def planned(context: Context, more: Iterable[Contribution]) -> Ground:
    """Return what a run leaves. context: the cell when all steps of the run are taken to be done. more: what parts add to the firewall."""
    seen, state, more = context.observed, _willing(context.current), tuple(more)
    here = seen.addresses() | set(state.cell.own_addresses())
    ways = {family: (_rules(seen, state, family), _routes(seen, state, family)) for family in seen.families}

    def way(packet: Packet) -> Way:
        if packet.to in here:
            return Way(HERE)
        rules, routes = ways[packet.family]
        about = [_lookup(rule, packet.to) for source in rules if _covers(source, packet.source) for rule in rules[source]]
        device, priority = lookups.way_to(packet.to, [*about, *seen.routing[packet.family].lookups], routes, packet.source, packet.came_by)
        by = "the routing" if priority is None else f"policy rule {priority}"
        silent = _why_closed(seen, state, device, packet.to, _GETS) if device == state.cell.interface else ""  # a link's interface may have yet to be made
        return Way(None, silent) if silent else Way(device, f"{by} {'leads nowhere' if device is None else 'sends it there'}")

    rules = {family: _with_ours(seen.iptables[family], _built(seen, state, family, more)) for family in seen.families}
    return Ground(state, rules, here, _connected(seen, state), way, heard=False)


def observed(context: Context, more: Iterable[Contribution]) -> Ground:
    """Return what there is. more: what parts add to the firewall."""
    seen, state, rules = context.observed, context.current, dict(context.observed.iptables)
    # An exit that is offered and that nobody uses yet has no rule: the cell makes it as soon as it is told.
    idle = {names.chain("L", link.name) for link in state.links.values() if link.exit_offered and not link.relays}
    for family in seen.families if idle else ():
        built = _built(seen, _willing(state), family, more)
        rules[family] = _with_ours(rules[family], {name: replace(t, chains={c: t.chains[c] for c in idle & set(t.chains)}) for name, t in built.items()})
    return Ground(state, rules, seen.addresses(), _connected(seen, state), lambda packet: _asked(context, packet), heard=True)


def _willing(state: State) -> State:
    """Return records as if each linked cell offered the exit that is used, used what it is offered, and worked."""
    result = state.copy()
    result.down = {}
    for link in result.links.values():
        if link.networks and not link.public_key:
            link.public_key = wgkeys.GENERATED  # one that the run makes, or brings
        link.remote_exit_offered = link.remote_exit_offered or link.name in state.named_exits
        link.remote_exit_relay_active = link.exit_offered
    used = result.exits_in_use()
    for link in result.links.values():
        link.exit_relay_active = link.name in used
    return result


def _built(seen: Observed, state: State, family: int, more: Iterable[Contribution]) -> Ruleset:
    return firewall.build(state, family, hostfacts.host_facts(seen, state, family), more)


def _with_ours(saved: SavedRuleset, ours: Ruleset) -> SavedRuleset:
    """Return rules with chains of ours in place of those that are there; of a table that cannot be read nothing is known."""
    result = dict(saved)
    for name, table in ours.items():
        found = saved.get(name, Saved())
        if not found.hidden:
            result[name] = replace(found, rules={**found.rules, **{chain: [rule.text for rule in rules] for chain, rules in table.chains.items()}})
    return result


def _rules(seen: Observed, state: State, family: int) -> dict[str, list[PolicyRule]]:
    """Return our policy rules by what they select as a source: many devices have some each."""
    wanted = exits.wanted_rules(state, family, exits.placed(state, family, seen.routing).priorities)
    found: dict[str, list[PolicyRule]] = {}
    for rule in (*exits.shared_rules(state, family, seen.routing.values()), *(rule for rules in wanted.values() for rule in rules)):
        found.setdefault(rule.source, []).append(rule)
    return found


def _covers(source: str, address: str) -> bool:
    """Tell whether what a rule of ours selects, an address or a network, holds an address."""
    return source == address or ("/" in source and address_of(address) in interface_of(source).network)


def _routes(seen: Observed, state: State, family: int) -> list[Wide]:
    ours = [*exits.exit_routes(state, family), *exits.device_routes(state), *exits.own_routes(state.cell)]
    ours += [route for link in state.links.values() if not link.pending for route in exits.link_routes(state.cell, link)]
    others = [Wide(MAIN, network, device) for device, network in seen.routing[family].host_networks if not is_ours(device, state.cell.interface)]
    return [*(_wide(route) for route in ours if route.family == family), *others, *seen.routing[family].wide]


def _wide(route: Route) -> Wide:
    network = EVERYWHERE[FAMILIES.index(route.family)] if route.destination == "default" else route.destination
    return Wide(route.table, network, route.device, route.metric or 0)


def _lookup(rule: PolicyRule, to: str) -> Lookup:
    matches = not rule.device and (rule.destination is None or address_of(to) in network_of(rule.destination))
    return Lookup(rule.priority, matches, table=rule.table, suppress=rule.suppress)


def _connected(seen: Observed, state: State) -> dict[int, tuple[str, ...]]:
    return {family: hostfacts.host_facts(seen, state, family).connected for family in seen.families}


def _asked(context: Context, packet: Packet) -> Way:
    """Ask the kernel for the way of a packet."""
    seen, state, family = context.observed, context.stored, packet.family
    silent = _why_closed(seen, state, packet.came_by, packet.source, _SENDS)
    if silent:
        return Way(None, silent)
    if packet.to in seen.addresses():
        return Way(HERE)
    if setting(context.host, FORWARDING[family]) == "0":
        return Way(None, f"this host does not forward IPv{family} packets ({FORWARDING[family]} is 0)")
    argv = ["ip", f"-{family}", "-N", "-json", *question(packet.to, packet.source, packet.came_by)]
    result = context.host.run(argv, ok=_NO_ROUTE)
    answer = (parsed(argv, result.out) or [{}])[0] if result.rc == 0 else {}
    device = next(iter(devices_of(answer)), None)
    if device is None:
        return Way(None, "the kernel has no route for it")
    silent = _why_closed(seen, state, device, packet.to, _GETS)
    table = f" by table {answer['table']}" if str(answer.get("table", MAIN)) != str(MAIN) else ""
    return Way(None, silent) if silent else Way(device, f"the kernel sends it there{table}")


def _why_closed(seen: Observed, state: State, name: str, address: str, what: str) -> str:
    """Say why WireGuard lets nothing of an address through an interface of ours; empty where it does, or the interface is none of ours."""
    interface = seen.wireguard.get(name)
    if not is_ours(name, state.cell.interface):
        return ""
    if interface is None or not interface.up:
        return f"interface {name} is {'down' if interface else 'missing'}"
    if not any(address_of(address) in network_of(network) for peer in interface.peers.values() for network in peer.allowed_ips):
        return f"no peer of interface {name} {what} {address}"
    return ""
