# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to rules: what each own chain holds. Pure; the order of the rules is the policy.

filter FORWARD -> PIC-FWD -> PIC-PATH -> PIC-ROUTED -> PIC-HOME     routed peers, before everything else
                                      -> PIC-SOURCE -> PIC-BACK     from a link: its own networks, and what an exit sends back
                                      -> PIC-SENDER -> PIC-BACK     from the devices' interface while a link is on it
                                      -> PIC-GUARD                  out to a link: no revoked flow comes back
                                      -> PIC-L-<cell> -> PIC-S-<cell>   in from a link: exit relay, shares
filter INPUT   -> PIC-IN  -> PIC-SOURCE, PIC-I-<cell> -> PIC-S-<cell>   to the cell itself
filter OUTPUT  -> PIC-OUT -> PIC-GUARD
mangle FORWARD -> PIC-FWD -> PIC-MSS, and the chains of filter once more; mangle INPUT likewise
nat POSTROUTING -> PIC-POST

In mangle the same packets are refused again, since in filter the rule of somebody else can come to stand before ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from . import names
from .chains import Chains, again, tree
from .iptables import Rule, Ruleset, Table
from .networks import HOME, PRIVATE, host_networks, is_private, network_of, of_family
from .records import Cell, Link, Service, State

LINKS = "pic-+"
ROUTED = "PIC-ROUTED"
ANSWERS = "PIC-BACK"
_NEW = "-m conntrack --ctstate NEW"
_KNOWN = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
_INVALID = "-m conntrack --ctstate INVALID -j DROP"
_SYN = "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"
_ANSWER = "-m conntrack --ctstate ESTABLISHED,RELATED --ctdir REPLY"
_TOO_BIG = {4: "-p icmp --icmp-type fragmentation-needed", 6: "-p ipv6-icmp --icmpv6-type packet-too-big"}


@dataclass(frozen=True)
class Surroundings:
    """What the rules have to know of the host in one family.

    connected: its networks. senders: AllowedIPs of all peers on the devices' interface but links and defaults.
    """

    uplink: str | None = None
    connected: tuple[str, ...] = field(default=())
    senders: tuple[str, ...] = field(default=())


def build(state: State, family: int, around: Surroundings) -> Ruleset:
    """Return all chains and jumps that a cell's records call for in one family."""
    links = ruled(state)
    filters: Chains = {
        "PIC-FWD": _forward_scope(state.cell),
        "PIC-PATH": _path(state.cell, links, family, around),
        **routed_chains(state, family),
        "PIC-HOME": home_chain(state.cell, family),
        **answer_chains(state, family),
        "PIC-GUARD": _guard(state.cell, family),
        "PIC-IN": _input(state, links, family),
        "PIC-OUT": [Rule(f"{match} -j PIC-GUARD", tag) for match, tag in _towards(state.cell, links, family)],
    }
    filters.update(_sources(state.cell, links, family))
    if _on_devices_interface(state.cell, links):
        filters.update(_senders(state.cell, links, family, around))
    for link in links:
        filters[names.chain("L", link.name)] = _from_link(link, family, around)
        filters[names.chain("I", link.name)] = _to_cell(state.cell, link, family)
        filters[names.chain("S", link.name)] = _shares(state.cell, link, family)
    return {
        "filter": Table(filters, {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN", "OUTPUT": "PIC-OUT"}),
        # A kernel can be without NAT for IPv6, which a cell without IPv6 networks has no use for: nothing of it is forwarded to links.
        **({"nat": Table({"PIC-POST": _postrouting(state.cell, links, family, around)}, {"POSTROUTING": "PIC-POST"})} if state.cell.has_family(family) else {}),
        "mangle": Table(_mangle(filters, _mss(state.cell, links, family)), {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN"}),
    }


def deny(rules: Ruleset) -> Ruleset:
    """Return of all rules those that refuse."""
    apart = ("PIC-GUARD", "PIC-OUT", "PIC-MSS")
    chosen = {}
    for name in ("filter", "mangle"):
        chains = {chain: held for chain, held in rules[name].chains.items() if chain not in apart}
        chosen[name] = Table(chains, {chain: target for chain, target in rules[name].jumps.items() if target not in apart})
    return chosen


def layer(state: State, family: int) -> Ruleset:
    """Return the chains that follow the ways of devices, in both tables that hold them."""
    chains = {**routed_chains(state, family), **answer_chains(state, family)}
    return {"filter": Table(chains), "mangle": Table(again(chains))}


def routed_chains(state: State, family: int) -> Chains:
    """Return the chains that find out whether a packet is a routed peer's: a tree, so that its cost stays flat.

    While the registry of devices cannot be read, every device could be one.
    """
    if state.peers_lost:
        return {ROUTED: [Rule(f"-s {network} -j PIC-HOME") for network in state.cell.own_networks(family)]}
    chains = tree(ROUTED, "PIC-R", "-s", {network: [Rule(f"-s {network} -j PIC-HOME")] for network in host_networks(state.routed_addresses(family))})
    # What is behind a routed device has no way of its own: it reaches the internet in the device's name, or not at all.
    chains[ROUTED] += [Rule(f"-s {network} -j PIC-HOME") for network in state.routed_networks(family)]
    return chains


def own_interfaces(cell: Cell) -> tuple[str, ...]:
    """Return the interfaces whose packets our chains decide, as iptables matches them."""
    return LINKS, cell.interface


def answer_chains(state: State, family: int) -> Chains:
    """Return the chains that let through what comes from a link with a source that is not of its networks: an exit's answers, to the devices that leave by it.

    While the registry of devices cannot be read, every device could be one.
    """
    used = [link for link in ruled(state) if link.exit_relay_active or any(peer.route_via == link.name for peer in state.peers.values())]
    devices: dict[str, list[Link]] = {}
    for link in used:
        if state.peers_lost:
            routed = state.cell.own_networks(family)
        else:
            routed = host_networks(of_family(family, (a for peer in state.peers.values() if peer.route_via == link.name for a in peer.addresses)))
        for network in routed:
            devices.setdefault(network, []).append(link)
    interface = state.cell.interface
    leaves = {
        device: [Rule(f"-i {link.interface} -o {interface} -d {device} {_ANSWER} -j RETURN", names.tag(link.name)) for link in links]
        for device, links in devices.items()
    }
    # A router on the way to a linked cell's network has an address of its own.
    too_big = [
        Rule(f"-i {link.interface} {_TOO_BIG[family]} -m conntrack --ctstate RELATED {side} {network} -j RETURN", names.tag(link.name))
        for link in used
        for network in of_family(family, link.networks)
        for side in ("--ctorigsrc", "--ctorigdst")
    ]
    if not too_big:
        return {ANSWERS: [Rule("-j DROP")]}
    return {**tree(ANSWERS, "PIC-B", "-d", leaves, [Rule("-g PIC-TOOBIG")]), "PIC-TOOBIG": [*too_big, Rule("-j DROP")]}


def is_of_layer(chain: str) -> bool:
    """Tell whether a chain is one of those that follow the ways of devices."""
    return chain in (ROUTED, ANSWERS, "PIC-TOOBIG") or chain.startswith(("PIC-R-", "PIC-B-"))


def _forward_scope(cell: Cell) -> list[Rule]:
    """Only packets from or to a link or a device go further: a foreign DROP behind our jump keeps deciding the rest."""
    return [Rule(f"{side} {name} -g PIC-PATH") for name in own_interfaces(cell) for side in ("-i", "-o")]


def _path(cell: Cell, links: list[Link], family: int, around: Surroundings) -> list[Rule]:
    devices = cell.interface
    rules = [
        # Before "established": a routed peer's packet is dropped at the uplink whatever the routing says.
        Rule(f"-i {devices} ! -o {LINKS} -j {ROUTED}"),
        # Before it as well: an exit's forged answer would be taken for that of whoever was asked.
        *_from_where(cell, links),
        Rule(_INVALID),
        Rule(_KNOWN),
    ]
    for link in links:
        rules += [Rule(f"{match} -g {names.chain('L', link.name)}", names.tag(link.name)) for match in _arriving(link, family)]
    rules.append(Rule(f"-i {LINKS} -j DROP"))
    rules += [Rule(f"{match} -j PIC-GUARD", tag) for match, tag in _towards(cell, links, family)]
    for link in links:
        tag = names.tag(link.name)
        for address in of_family(family, link.address):
            rules.append(Rule(f"-i {devices} -o {link.interface} -d {address} -p tcp --dport {api_port(cell, link)} -j DROP", tag))
    own = cell.own_networks(family)
    for match, tag in _towards(cell, links, family):
        rules += [Rule(f"-i {devices} {match} -s {network} -j ACCEPT", tag) for network in own]
    rules += [Rule(f"{match} -j DROP", tag) for match, tag in _towards(cell, links, family)]
    if around.uplink:
        rules += [Rule(f"-i {devices} -o {around.uplink} -s {network} -j ACCEPT") for network in own]
        # Whoever is at the uplink opens nothing to a device, unless the host's owner forwards a port to it.
        rules.append(Rule(f"-i {around.uplink} -o {devices} -m conntrack ! --ctstate DNAT -j DROP"))
    return rules


def home_chain(cell: Cell, family: int) -> list[Rule]:
    """Return where a routed peer may go without its exit; everything else is dropped."""
    return [Rule(f"-o {cell.interface} -j RETURN"), *(Rule(f"-d {network} -j RETURN") for network in HOME[family]), Rule("-j DROP")]


def _guard(cell: Cell, family: int) -> list[Rule]:
    """Without these a revoked flow keeps its full rate: its server's next packet makes the entry anew."""
    # INVALID is what a flow's next packet is where the host forbids picking up connections (nf_conntrack_tcp_loose=0). TCP alone:
    # the kernel's own ICMP errors about a first packet are INVALID as well.
    rules = [Rule(f"-p tcp {_INVALID}"), Rule(f"-p tcp ! --syn {_NEW} -j REJECT --reject-with tcp-reset")]
    for source in sorted({*cell.udp_services(), *cell.retired}):
        address, port = source.split()
        rules += [Rule(f"-s {own} -p udp --sport {port} {_NEW} -j DROP") for own in of_family(family, [address])]
    return rules


def _input(state: State, links: list[Link], family: int) -> list[Rule]:
    cell = state.cell
    rules = [Rule(f"-p udp --dport {cell.listen_port} -j ACCEPT")]
    rules += [
        Rule(f"-p udp --dport {link.listen_port} -j ACCEPT", names.tag(link.name)) for link in links if link.listen_port and link.interface != cell.interface
    ]
    from_links = [(f"-i {LINKS}", names.GENERAL_TAG)]
    from_links += [(match, names.tag(link.name)) for link in _on_devices_interface(cell, links) for match in _arriving(link, family)]
    rules += _from_where(cell, links)
    for match, tag in from_links:
        rules += [Rule(f"{match} {_INVALID}", tag), Rule(f"{match} {_KNOWN}", tag)]
    for link in links:
        rules += [Rule(f"{match} -g {names.chain('I', link.name)}", names.tag(link.name)) for match in _arriving(link, family)]
    rules.append(Rule(f"-i {LINKS} -j DROP"))
    rules += [Rule(f"! -i lo -d {address} -p tcp --dport {cell.sync_port} -j DROP") for address in cell.own_addresses(family)]
    return rules


def _from_where(cell: Cell, links: list[Link]) -> list[Rule]:
    """Look at the source of whatever comes from a link; who may have it goes on."""
    rules = [Rule(f"-i {LINKS} -j PIC-SOURCE")]
    if _on_devices_interface(cell, links):
        rules.append(Rule(f"-i {cell.interface} -j PIC-SENDER"))
    return rules


def _sources(cell: Cell, links: list[Link], family: int) -> Chains:
    """Return who may send from a link's interface: with 0.0.0.0/0 in AllowedIPs the exit cell could send with any source."""
    leaves = {}
    for link in links:
        if link.interface != cell.interface:
            for network in of_family(family, link.networks):
                leaves[network] = [Rule(f"-i {link.interface} -s {network} -j RETURN", names.tag(link.name))]
    return tree("PIC-SOURCE", "PIC-N", "-s", leaves, [Rule(f"-g {ANSWERS}")])


def _senders(cell: Cell, links: list[Link], family: int, around: Surroundings) -> Chains:
    """Return who may send from the devices' interface: WireGuard lets an exit there send with any address that no other peer has."""
    networks = [network for link in _on_devices_interface(cell, links) for network in of_family(family, link.networks)]
    leaves = {network: [Rule(f"-s {network} -j RETURN")] for network in [*networks, *around.senders]}
    return tree("PIC-SENDER", "PIC-D", "-s", leaves, [Rule(f"-g {ANSWERS}")])


def _mangle(filters: Chains, clamp: list[Rule]) -> Chains:
    chains = again(filters)
    # The ports that the cell listens on matter there to what comes from a link alone: every packet to the host would walk a list of them.
    ports = sorted({int(rule.text.split()[3]) for rule in chains["PIC-IN"] if rule.text.startswith("-p udp --dport ")})
    listening = [Rule(f"-i {LINKS} -p udp --dport {first}:{last} -j RETURN") for first, last in _ranges(ports)]
    chains["PIC-IN"] = [*listening, *(rule for rule in chains["PIC-IN"] if not rule.text.startswith("-p udp --dport "))]
    return {**chains, "PIC-FWD": [Rule("-j PIC-MSS"), *chains["PIC-FWD"]], "PIC-MSS": clamp}


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return sorted numbers as ranges without gaps."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        found = [*found[:-1], (found[-1][0], number)] if found and found[-1][1] == number - 1 else [*found, (number, number)]
    return found


def _from_link(link: Link, family: int, around: Surroundings) -> list[Rule]:
    tag, shares = names.tag(link.name), names.chain("S", link.name)
    rules = []
    if link.relays and around.uplink:
        refused = [str(n) for n in PRIVATE[family]]
        refused += [n for n in around.connected if not is_private(network_of(n))]
        rules += [Rule(f"-d {network} -g {shares}", tag) for network in refused]
        rules.append(Rule(f"-o {around.uplink} -j ACCEPT", tag))
    return [*rules, Rule(f"-g {shares}", tag)]


def _to_cell(cell: Cell, link: Link, family: int) -> list[Rule]:
    tag = names.tag(link.name)
    rules = []
    for remote in of_family(family, link.address):
        rules += [Rule(f"-s {remote} -d {own} -p tcp --dport {cell.sync_port} -j ACCEPT", tag) for own in cell.own_addresses(family)]
    # An admin's network is let in below: to the cell, not to the API.
    rules += [Rule(f"-d {own} -p tcp --dport {cell.sync_port} -j DROP", tag) for own in cell.own_addresses(family)]
    rules += [Rule(f"-s {network} -j ACCEPT", tag) for network in of_family(family, cell.admin_networks)]
    return [*rules, Rule(f"-g {names.chain('S', link.name)}", tag)]


def _shares(cell: Cell, link: Link, family: int) -> list[Rule]:
    """Let a packet to what is shared pass, and no other.

    A share is matched by where the packet was sent to before any DNAT, so that one published by docker works.
    """
    rules = []
    for service in _sorted(cell.services[name] for name in link.shares if name in cell.services):
        for address in of_family(family, service.addresses):
            match = f"-p {service.protocol} -m conntrack --ctorigdst {address} --ctorigdstport {service.port}"
            rules.append(Rule(f"{match} -j ACCEPT", names.tag(link.name)))
    return [*rules, Rule("-j DROP", names.tag(link.name))]


def _postrouting(cell: Cell, links: list[Link], family: int, around: Surroundings) -> list[Rule]:
    # First of all: under a foreign masquerade a phone would wear the cell's address on a link.
    rules = [Rule(f"{match} -j ACCEPT", tag) for match, tag in _towards(cell, links, family)]
    if around.uplink:
        rules += [Rule(f"-s {network} -o {around.uplink} -j MASQUERADE") for network in cell.own_networks(family)]
        for link in links:
            if link.relays:
                rules += [Rule(f"-s {network} -o {around.uplink} -j MASQUERADE", names.tag(link.name)) for network in of_family(family, link.networks)]
    return rules


def _mss(cell: Cell, links: list[Link], family: int) -> list[Rule]:
    matches = [f"-o {LINKS}", f"-i {LINKS}"]
    for link in _on_devices_interface(cell, links):
        for network in of_family(family, link.networks):
            matches += [f"-o {cell.interface} -d {network}", f"-i {cell.interface} -s {network}"]
    return [Rule(f"{match} {_SYN}") for match in matches]


def _towards(cell: Cell, links: list[Link], family: int) -> list[tuple[str, str]]:
    """Return the matches (and tags) of packets that leave towards any link."""
    matches = [(f"-o {LINKS}", names.GENERAL_TAG)]
    for link in _on_devices_interface(cell, links):
        matches += [(f"-o {cell.interface} -d {network}", names.tag(link.name)) for network in of_family(family, link.networks)]
    return matches


def _arriving(link: Link, family: int) -> list[str]:
    """Return the matches of packets that come in from a link with a source that belongs there.

    With 0.0.0.0/0 in AllowedIPs the exit cell could inject any source; what matches none of these is dropped.
    """
    return [f"-i {link.interface} -s {network}" for network in of_family(family, link.networks)]


def ruled(state: State) -> list[Link]:
    """Return the links that have rules, by name."""
    return [state.links[name] for name in sorted(state.links) if state.links[name].ruled and state.links[name].interface and not state.links[name].pending]


def _on_devices_interface(cell: Cell, links: list[Link]) -> list[Link]:
    return [link for link in links if link.interface == cell.interface]


def api_port(cell: Cell, link: Link) -> int:
    """Return the port of the other cell's peer-sync API: that of its URL, else our own default."""
    _scheme, _sep, port = (link.remote_api_url or "").rpartition(":")
    return int(port.split("/")[0]) if port.split("/")[0].isdigit() else cell.sync_port


def _sorted(services: Iterable[Service]) -> list[Service]:
    return sorted(services, key=lambda service: service.name)
