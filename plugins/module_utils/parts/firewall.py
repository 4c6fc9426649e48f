# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to rules: what each own chain holds. Pure; the order of the rules is the policy.

filter FORWARD -> PIC-FWD -> PIC-PATH -> PIC-ROUTED -> PIC-HOME     routed peers, before everything else
                                      -> PIC-SOURCE -> PIC-BACK     from a link: its own networks, and what an exit sends back
                                      -> PIC-SENDER -> PIC-BACK     from the devices' interface while a link is on it
                                      -> PIC-GUARD                  out to a link: no revoked flow comes back
                                      -> PIC-LINK -> PIC-L-<cell> -> PIC-S-<cell>   in from a link: exit relay, shares
                                      -> PIC-API                    from a device to what other cells offer this cell alone
filter INPUT   -> PIC-IN  -> PIC-SOURCE, PIC-CELL -> PIC-I-<cell> -> PIC-S-<cell>   to the cell itself
filter OUTPUT  -> PIC-OUT -> PIC-GUARD
mangle FORWARD -> PIC-FWD -> PIC-MSS, and the chains of filter once more; mangle INPUT likewise
nat POSTROUTING -> PIC-POST -> PIC-MASQ                             out to the internet
nat PREROUTING -> PIC-PRE (parts/dns.py)

In mangle the same packets are refused again, since in filter the rule of somebody else can come to stand before ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..base import destinations, names
from ..base.networks import HOME, PRIVATE, host_networks, is_private, network_of, of_family, sort_key
from ..kernel.ruleset import Rule, Ruleset, Table
from ..records.model import Cell, Link, Peer, Service, State
from . import dns, former, probes
from .chains import Chains, again, tree
from .hostfacts import HostFacts
from .peer_sync import api_port
from .stages import (
    ANSWERED,
    APIS,
    FORWARD,
    FROM_LINKS,
    INPUT,
    INVALID,
    LINKS,
    MANGLE,
    MASQUERADED,
    NEW,
    OUTPUT,
    POSTROUTING,
    ROUTED,
    TO_CELL,
    Contribution,
    Stage,
    joined,
    on_devices_interface,
    ruled,
)

ANSWERS = "PIC-BACK"
_ANSWER = "-m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY"
_TOO_BIG = {4: "-p icmp --icmp-type fragmentation-needed", 6: "-p ipv6-icmp --icmpv6-type packet-too-big"}


def build(state: State, family: int, facts: HostFacts, more: Iterable[Contribution] = ()) -> Ruleset:
    """Return all chains and jumps that a cell's records call for in one family. more: what parts add to stages."""
    links, more = ruled(state), tuple(more)

    def chain(stages: Iterable[Stage]) -> list[Rule]:
        return joined(stages, state, facts, family, more)

    filters: Chains = {
        "PIC-FWD": _forward_scope(state.cell),
        "PIC-PATH": chain(FORWARD),
        **routed_chains(state, family, facts.uplink),
        "PIC-HOME": home_chain(state, family),
        **dns.refused(state, family),
        **answer_chains(state, family),
        "PIC-GUARD": _guard(state.cell, family),
        "PIC-IN": [*chain(INPUT), *dns.at_the_cell(state)],
        "PIC-OUT": chain(OUTPUT),
    }
    # With 0.0.0.0/0 in AllowedIPs the exit cell could send with any source.
    filters.update(_by_source("PIC-SOURCE", "PIC-N", state.cell, links, family, lambda _link: "-j RETURN", f"-g {ANSWERS}"))
    filters.update(_by_source(FROM_LINKS, FROM_LINKS, state.cell, links, family, lambda link: f"-g {names.chain('L', link.name)}", "-j DROP"))
    filters.update(_by_source(TO_CELL, TO_CELL, state.cell, links, family, lambda link: f"-g {names.chain('I', link.name)}", "-j DROP"))
    filters.update(_apis(state.cell, links, family))
    if on_devices_interface(state.cell, links):
        filters.update(_senders(state.cell, links, family, facts))
    old = of_family(family, former.addresses(state))
    for link in (link for link in links if not link.provided):
        filters[names.chain("L", link.name)] = _from_link(link, family, facts)
        filters[names.chain("I", link.name)] = _to_cell(state.cell, link, family, old)
        filters[names.chain("S", link.name)] = _shares(state.cell, link, family)
    questions = dns.nat(state, family)
    return {
        "filter": Table(filters, {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN", "OUTPUT": "PIC-OUT"}),
        # A kernel can be without NAT for IPv6, which a cell without IPv6 networks has no use for: nothing of it is forwarded to links.
        **(
            {
                "nat": Table(
                    {"PIC-POST": chain(POSTROUTING), **_masqueraded(state.cell, links, family, facts), **questions.chains},
                    {"POSTROUTING": "PIC-POST", **questions.jumps},
                )
            }
            if state.cell.has_family(family)
            else {}
        ),
        "mangle": Table(_mangle(filters, chain(MANGLE)), {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN"}),
    }


def deny(rules: Ruleset) -> Ruleset:
    """Return of all rules those that refuse, or lead elsewhere."""
    apart = ("PIC-GUARD", "PIC-OUT", "PIC-MSS", "PIC-POST")
    chosen = {}
    for name in rules:
        chains = {chain: held for chain, held in rules[name].chains.items() if chain not in apart and not chain.startswith(MASQUERADED)}
        chosen[name] = Table(chains, {chain: target for chain, target in rules[name].jumps.items() if target not in apart})
    return {name: table for name, table in chosen.items() if table.chains}


def layer(state: State, family: int, uplink: str | None) -> Ruleset:
    """Return the chains that follow the ways of devices, in the tables that hold them. uplink: by which exceptions leave directly."""
    chains = {**routed_chains(state, family, uplink), **dns.refused(state, family), **answer_chains(state, family)}
    questions = dns.redirected(state, family)
    return {"filter": Table(chains), "mangle": Table(again(chains)), **({"nat": Table(questions)} if questions else {})}


def routed_chains(state: State, family: int, uplink: str | None) -> Chains:
    """Return the chains that find out whether a packet is a routed peer's: a tree, so that its cost stays flat.

    While the registry of devices cannot be read, every device could be one. uplink: by which exceptions leave directly.
    """
    if state.peers_lost:
        return {ROUTED: [Rule(f"-s {network} -j PIC-HOME") for network in state.cell.own_networks(family)]}
    routed = {peer.name for peer in state.routed}
    leaves: Chains = {}
    behind: list[Rule] = []
    for peer in state.peers.values():
        end = "-j PIC-HOME" if peer.name in routed else ""
        for device in host_networks(of_family(family, peer.addresses)):
            leaves[device] = _held_back(device, end, peer, family, uplink)
        # What is behind a device has no policy rules of its own: an exception of a routed one would let it out.
        for network in of_family(family, peer.networks):
            behind += [Rule(f"-s {network} {end}")] if end else _held_back(network, end, peer, family, uplink)
    chains = tree(ROUTED, "PIC-R", "-s", {device: rules for device, rules in leaves.items() if rules})
    chains[ROUTED] += sorted(behind, key=lambda rule: sort_key(rule.text.split()[1]))
    return chains


def _held_back(source: str, end: str, peer: Peer, family: int, uplink: str | None) -> list[Rule]:
    """Return what becomes of a peer's packets at the uplink: of its exceptions first, then of all others.

    source: its address, or a network behind it. end: what becomes of all others, an empty text where they may leave.
    """
    rules = []
    for network, via in destinations.longest_first(peer.route_except, family):
        if via != names.DIRECT:
            rules.append(Rule(f"-s {source} -d {network} -j PIC-HOME"))
        elif uplink:
            rules.append(Rule(f"-s {source} -d {network} -o {uplink} -j RETURN"))
    if end:
        return [*rules, Rule(f"-s {source} {end}")]
    return rules if any("PIC-HOME" in rule.text for rule in rules) else []


def own_interfaces(cell: Cell) -> tuple[str, ...]:
    """Return the interfaces whose packets our chains decide, as iptables matches them."""
    return LINKS, cell.interface


def answer_chains(state: State, family: int) -> Chains:
    """Return the chains that let through what comes from a link with a source that is not of its networks: an exit's answers, to the devices that leave by it.

    While the registry of devices cannot be read, every device could be one.
    """
    asked_exits, routed_devices = set(state.asked_exits), {peer.name for peer in state.routed}
    users: dict[str, list[str]] = {}
    for peer in state.peers.values():
        for via in {*(peer.route_via if peer.name in routed_devices else ()), *peer.route_except.values()}:
            users.setdefault(via, []).extend(of_family(family, peer.addresses))
    used = [link for link in ruled(state) if link.exit_relay_active or link.name in asked_exits]
    devices: dict[str, list[Link]] = {}
    for link in used:
        for network in state.cell.own_networks(family) if state.peers_lost else host_networks(users.get(link.name, ())):
            devices.setdefault(network, []).append(link)
    interface = state.cell.interface
    leaves: Chains = {
        device: [Rule(f"-i {link.interface} -o {interface} -d {device} {_ANSWER} -j RETURN", names.tag(link.name)) for link in links]
        for device, links in devices.items()
    }
    asked = state.cell.asked_through_exits(family)
    for link in probes.probed(state) if asked else ():
        for own in host_networks(link.sources(state.cell, family)):
            matches = [f"-i {link.interface} -s {target.address} -d {own} -p {target.protocol} --sport {target.port}" for target in asked]
            leaves.setdefault(own, []).extend(Rule(f"{match} {_ANSWER} -j RETURN", names.tag(link.name)) for match in matches)
    # A router on the way to a linked cell's network has an address of its own.
    too_big = [
        Rule(f"-i {link.interface} {_TOO_BIG[family]} -m conntrack --ctstate RELATED {side} {network} -j RETURN", names.tag(link.name))
        for link in used
        for network in of_family(family, link.networks)
        for side in ("--ctorigsrc", "--ctorigdst")
    ]
    if not too_big and not any(link.provided and link.has_family(family) for link in used):  # a provider has no network
        return {ANSWERS: [Rule("-j DROP")]}
    return {**tree(ANSWERS, "PIC-B", "-d", leaves, [Rule("-g PIC-TOOBIG")]), "PIC-TOOBIG": [*too_big, Rule("-j DROP")]}


def is_of_layer(chain: str, state: State) -> bool:
    """Tell whether a chain is one of those that follow the ways of devices."""
    return chain in (ROUTED, ANSWERS, "PIC-TOOBIG") or chain.startswith(("PIC-R-", "PIC-B-")) or dns.is_branch(chain, state)


def _forward_scope(cell: Cell) -> list[Rule]:
    """Only packets from or to a link or a device go further: a foreign DROP behind our jump keeps deciding the rest."""
    return [Rule(f"{side} {name} -g PIC-PATH") for name in own_interfaces(cell) for side in ("-i", "-o")]


def ends(state: State, family: int, table: str) -> Chains:
    """Return the chains of a table that those of the layer lead to."""
    return dns.ends(state, family) if table == "nat" else {"PIC-HOME": home_chain(state, family)}


def home_chain(state: State, family: int) -> list[Rule]:
    """Return where a routed peer may go without its exit; everything else is dropped."""
    return [
        *dns.at_home(state, family),
        Rule(f"-o {state.cell.interface} -j RETURN"),
        *(Rule(f"-d {network} -j RETURN") for network in HOME[family]),
        Rule("-j DROP"),
    ]


def _guard(cell: Cell, family: int) -> list[Rule]:
    """Without these a revoked flow keeps its full rate: its server's next packet makes the entry anew."""
    # INVALID is what a flow's next packet is where the host forbids picking up connections (nf_conntrack_tcp_loose=0). TCP alone:
    # the kernel's own ICMP errors about a first packet are INVALID as well.
    rules = [Rule(f"-p tcp {INVALID}"), Rule(f"-p tcp ! --syn {NEW} -j REJECT --reject-with tcp-reset")]
    for source in sorted({*cell.udp_services(), *cell.retired}):
        address, port = source.split()
        rules += [Rule(f"-s {own} -p udp --sport {port} {NEW} -j DROP") for own in of_family(family, [address])]
    return rules


def _by_source(chain: str, branch: str, cell: Cell, links: list[Link], family: int, then: Callable[[Link], str], otherwise: str) -> Chains:
    """Return what follows for packets from the links' own interfaces, by the network that they come from.

    branch: how the names of branches begin. then: what follows where that is a network of the link. otherwise: what follows for all else.
    """
    leaves = {
        network: [Rule(f"-i {link.interface} -s {network} {then(link)}", names.tag(link.name))]
        for link in links
        if link.interface != cell.interface
        for network in of_family(family, link.networks)
    }
    return tree(chain, branch, "-s", leaves, [Rule(otherwise)])


def _apis(cell: Cell, links: list[Link], family: int) -> Chains:
    """Return what keeps devices from other cells' peer-sync API."""
    leaves = {
        address: [Rule(f"-o {link.interface} -d {address} -p tcp --dport {api_port(cell, link)} -j DROP", names.tag(link.name))]
        for link in links
        for address in of_family(family, link.address)
    }
    return tree(APIS, APIS, "-d", leaves)


def _masqueraded(cell: Cell, links: list[Link], family: int, facts: HostFacts) -> Chains:
    """Return who gets the uplink's address towards the internet: devices, and the devices of cells that this one is an exit for."""
    if not facts.uplink:
        return {}
    leaves = {network: [Rule(f"-s {network} -j MASQUERADE")] for network in cell.own_networks(family)}
    for link in (link for link in links if link.relays):
        leaves.update({network: [Rule(f"-s {network} -j MASQUERADE", names.tag(link.name))] for network in of_family(family, link.networks)})
    return tree(MASQUERADED, MASQUERADED, "-s", leaves)


def _senders(cell: Cell, links: list[Link], family: int, facts: HostFacts) -> Chains:
    """Return who may send from the devices' interface: WireGuard lets an exit there send with any address that no other peer has."""
    networks = [network for link in on_devices_interface(cell, links) for network in of_family(family, link.networks)]
    leaves = {network: [Rule(f"-s {network} -j RETURN")] for network in [*networks, *facts.senders]}
    return tree("PIC-SENDER", "PIC-D", "-s", leaves, [Rule(f"-g {ANSWERS}")])


def _mangle(filters: Chains, clamp: list[Rule]) -> Chains:
    """Return the chains of mangle: the filter's once more, behind the clamping of TCP segments."""
    chains = again(filters)
    # The ports that the cell listens on matter there to what comes from a link alone.
    own = [(rule.text, rule) for rule in chains["PIC-IN"]]
    ports = [Rule(f"-i {LINKS} {text}") for text, _rule in own if text.startswith("-p udp --dport ") and ANSWERED not in text]
    chains["PIC-IN"] = [*ports, *(rule for text, rule in own if not text.startswith("-p udp --dport "))]
    return {**chains, "PIC-FWD": [Rule("-j PIC-MSS"), *chains["PIC-FWD"]], "PIC-MSS": clamp}


def _from_link(link: Link, family: int, facts: HostFacts) -> list[Rule]:
    """Return where another cell's packets may go: to the internet while this cell is its exit, and to what is shared with it."""
    tag, shares = names.tag(link.name), names.chain("S", link.name)
    rules = []
    if link.relays and facts.uplink:
        refused = [str(n) for n in PRIVATE[family]]
        refused += [n for n in facts.connected if not is_private(network_of(n))]
        rules += [Rule(f"-d {network} -g {shares}", tag) for network in refused]
        rules.append(Rule(f"-o {facts.uplink} -j ACCEPT", tag))
    return [*rules, Rule(f"-g {shares}", tag)]


def _to_cell(cell: Cell, link: Link, family: int, old: Iterable[str]) -> list[Rule]:
    """Return what another cell may reach of this one itself: the API, by its own address alone, admins everything else, and what is shared with it.

    old: this cell's addresses by which some linked cell still knows it, where there is the API alone.
    """
    tag = names.tag(link.name)
    rules = []
    for remote in of_family(family, link.address):
        asked = [*cell.own_addresses(family), *of_family(family, former.of_link(cell, link))]
        rules += [Rule(f"-s {remote} -d {own} -p tcp --dport {cell.sync_port} -j ACCEPT", tag) for own in asked]
    # An admin's network is let in below: to the cell, not to the API.
    rules += [Rule(f"-d {own} -p tcp --dport {cell.sync_port} -j DROP", tag) for own in cell.own_addresses(family)]
    rules += [Rule(f"-d {address} -j DROP", tag) for address in old]
    # Whoever comes by an invitation is nobody's admin: its address is ours to choose, and may be in their network.
    rules += [Rule(f"-s {network} -j ACCEPT", tag) for network in of_family(family, cell.admin_networks) if not link.invited]
    return [*rules, Rule(f"-g {names.chain('S', link.name)}", tag)]


def _shares(cell: Cell, link: Link, family: int) -> list[Rule]:
    """Let a packet to what is shared pass, or while this cell is its exit to the resolver, and no other.

    A share is matched by where the packet was sent to before any DNAT, so that one published by docker works.
    """
    services = _sorted(cell.services[name] for name in link.shares if name in cell.services)
    asked = [(service.protocol, address, service.port) for service in services for address in of_family(family, service.addresses)]
    if link.relays:
        asked += [(protocol, address, names.DNS_PORT) for address in of_family(family, cell.resolver) for protocol in names.DNS_PROTOCOLS]
    matches = [f"-p {protocol} -m conntrack --ctorigdst {address} --ctorigdstport {port}" for protocol, address, port in dict.fromkeys(asked)]
    return [*(Rule(f"{match} -j ACCEPT", names.tag(link.name)) for match in matches), Rule("-j DROP", names.tag(link.name))]


def _sorted(services: Iterable[Service]) -> list[Service]:
    return sorted(services, key=lambda service: service.name)
