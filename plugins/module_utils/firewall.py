# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From records to rules: what each own chain holds. Pure; the order of the rules is the policy.

filter FORWARD -> PIC-FWD -> PIC-PATH -> PIC-ROUTED -> PIC-HOME     routed peers, before everything else
                                      -> PIC-SENDER                 from the devices' interface while a link is on it
                                      -> PIC-GUARD                  out to a link: no revoked flow comes back
                                      -> PIC-L-<cell> -> PIC-S-<cell>   in from a link: shares, exit relay
filter INPUT   -> PIC-IN  -> PIC-I-<cell> -> PIC-S-<cell>           to the cell itself
filter OUTPUT  -> PIC-OUT -> PIC-GUARD
nat POSTROUTING -> PIC-POST, mangle FORWARD -> PIC-MSS
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from . import names
from .iptables import Rule, Ruleset, Table
from .networks import HOME, PRIVATE, address_of, host_networks, interface_of, is_private, network_of, of_family
from .records import Cell, Link, Service, State, sorted_networks

LINKS = "pic-+"
ROUTED = "PIC-ROUTED"
_NEW = "-m conntrack --ctstate NEW"
_KNOWN = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
_INVALID = "-m conntrack --ctstate INVALID -j DROP"
_SYN = "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"
_FAN_OUT_BITS = 4  # 16 rules a level: a packet passes some 16 rules per level, whatever the number of routed peers


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
    links = [state.links[name] for name in sorted(state.links) if state.links[name].ruled and state.links[name].interface and not state.links[name].pending]
    filters = {
        "PIC-FWD": _forward_scope(state.cell),
        "PIC-PATH": _path(state.cell, links, family, around),
        **routed_chains(state, family),
        "PIC-HOME": home_chain(state.cell, family),
        "PIC-GUARD": _guard(state.cell, family),
        "PIC-IN": _input(state, links, family),
        "PIC-OUT": [Rule(f"{match} -j PIC-GUARD", tag) for match, tag in _towards(state.cell, links, family)],
    }
    if _on_devices_interface(state.cell, links):
        filters["PIC-SENDER"] = _senders(state.cell, links, family, around)
    for link in links:
        filters[names.chain("L", link.name)] = _from_link(link, family, around)
        filters[names.chain("I", link.name)] = _to_cell(state.cell, link, family)
        filters[names.chain("S", link.name)] = _shares(state.cell, link, family)
    return {
        "filter": Table(filters, {"FORWARD": "PIC-FWD", "INPUT": "PIC-IN", "OUTPUT": "PIC-OUT"}),
        "nat": Table({"PIC-POST": _postrouting(state.cell, links, family, around)}, {"POSTROUTING": "PIC-POST"}),
        "mangle": Table({"PIC-MSS": _mss(state.cell, links, family)}, {"FORWARD": "PIC-MSS"}),
    }


def routed_chains(state: State, family: int) -> dict[str, list[Rule]]:
    """Return the chains that find out whether a packet is a routed peer's: a tree, so that its cost stays flat.

    While the registry of devices cannot be read, every device could be one.
    """
    if state.peers_lost:
        return {ROUTED: [Rule(f"-s {network} -j PIC-HOME") for network in state.cell.own_networks(family)]}
    return _tree(ROUTED, state.routed_addresses(family), 0)


def own_interfaces(cell: Cell) -> tuple[str, ...]:
    """Return the interfaces whose packets our chains decide, as iptables matches them."""
    return LINKS, cell.interface


def _tree(chain: str, addresses: list[str], depth: int) -> dict[str, list[Rule]]:
    if len(addresses) <= 1 << _FAN_OUT_BITS:
        return {chain: [Rule(f"-s {network} -j PIC-HOME") for network in host_networks(addresses)]}
    parsed = [address_of(a) for a in addresses]
    bits = parsed[0].max_prefixlen
    common = bits - (int(parsed[0]) ^ int(parsed[-1])).bit_length()
    prefix = min(bits, common + _FAN_OUT_BITS)
    groups: dict[str, list[str]] = {}
    for address in addresses:
        groups.setdefault(str(interface_of(f"{address}/{prefix}").network), []).append(address)
    chains: dict[str, list[Rule]] = {chain: []}
    for number, (network, members) in enumerate(groups.items()):
        branch = f"{chain if depth else 'PIC-R'}-{number:x}"
        chains[chain].append(Rule(f"-s {network} -j {branch}"))
        chains.update(_tree(branch, members, depth + 1))
    return chains


def _forward_scope(cell: Cell) -> list[Rule]:
    """Only packets from or to a link or a device go further: a foreign DROP behind our jump keeps deciding the rest."""
    return [Rule(f"{side} {name} -j PIC-PATH") for name in own_interfaces(cell) for side in ("-i", "-o")]


def _path(cell: Cell, links: list[Link], family: int, around: Surroundings) -> list[Rule]:
    devices = cell.interface
    rules = [
        # Before "established": a routed peer's packet is dropped at the uplink whatever the routing says.
        Rule(f"-i {devices} ! -o {LINKS} -j {ROUTED}"),
        Rule(_INVALID),
        Rule(_KNOWN),
    ]
    if _on_devices_interface(cell, links):
        rules.append(Rule(f"-i {devices} -j PIC-SENDER"))
    rules += [Rule(f"{match} -j PIC-GUARD", tag) for match, tag in _towards(cell, links, family)]
    for link in links:
        rules += [Rule(f"{match} -j {names.chain('L', link.name)}", names.tag(link.name)) for match in _arriving(link, family)]
    rules.append(Rule(f"-i {LINKS} -j DROP"))
    for link in links:
        tag = names.tag(link.name)
        for address in of_family(family, link.address):
            rules.append(Rule(f"-i {devices} -o {link.interface} -d {address} -p tcp --dport {_api_port(cell, link)} -j DROP", tag))
    own = cell.own_networks(family)
    for match, tag in _towards(cell, links, family):
        rules += [Rule(f"-i {devices} {match} -s {network} -j ACCEPT", tag) for network in own]
    rules += [Rule(f"{match} -j DROP", tag) for match, tag in _towards(cell, links, family)]
    if around.uplink:
        rules += [Rule(f"-i {devices} -o {around.uplink} -s {network} -j ACCEPT") for network in own]
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
    for match, tag in from_links:
        rules += [Rule(f"{match} {_INVALID}", tag), Rule(f"{match} {_KNOWN}", tag)]
    if _on_devices_interface(cell, links):
        rules.append(Rule(f"-i {cell.interface} {_NEW} -j PIC-SENDER"))
    for link in links:
        rules += [Rule(f"{match} -j {names.chain('I', link.name)}", names.tag(link.name)) for match in _arriving(link, family)]
    rules.append(Rule(f"-i {LINKS} -j DROP"))
    rules += [Rule(f"! -i lo -d {address} -p tcp --dport {cell.sync_port} -j DROP") for address in cell.own_addresses(family)]
    return rules


def _senders(cell: Cell, links: list[Link], family: int, around: Surroundings) -> list[Rule]:
    """Return who may send from the devices' interface: WireGuard lets an exit there send with any address that no other peer has."""
    networks = [network for link in _on_devices_interface(cell, links) for network in of_family(family, link.networks)]
    return [*(Rule(f"-s {network} -j RETURN") for network in sorted_networks([*networks, *around.senders])), Rule("-j DROP")]


def _from_link(link: Link, family: int, around: Surroundings) -> list[Rule]:
    tag = names.tag(link.name)
    rules = [Rule(f"-j {names.chain('S', link.name)}", tag)]
    if link.relays and around.uplink:
        refused = [str(n) for n in PRIVATE[family]]
        refused += [n for n in around.connected if not is_private(network_of(n))]
        rules += [Rule(f"-d {network} -j DROP", tag) for network in refused]
        rules.append(Rule(f"-o {around.uplink} -j ACCEPT", tag))
    return [*rules, Rule("-j DROP", tag)]


def _to_cell(cell: Cell, link: Link, family: int) -> list[Rule]:
    tag = names.tag(link.name)
    rules = []
    for remote in of_family(family, link.address):
        rules += [Rule(f"-s {remote} -d {own} -p tcp --dport {cell.sync_port} -j ACCEPT", tag) for own in cell.own_addresses(family)]
    # An admin's network is let in below: to the cell, not to the API.
    rules += [Rule(f"-d {own} -p tcp --dport {cell.sync_port} -j DROP", tag) for own in cell.own_addresses(family)]
    rules.append(Rule(f"-j {names.chain('S', link.name)}", tag))
    rules += [Rule(f"-s {network} -j ACCEPT", tag) for network in of_family(family, cell.admin_networks)]
    return [*rules, Rule("-j DROP", tag)]


def _shares(cell: Cell, link: Link, family: int) -> list[Rule]:
    """A share is matched by where the packet was sent to before any DNAT, so that one published by docker works."""
    rules = []
    for service in _sorted(cell.services[name] for name in link.shares if name in cell.services):
        for address in of_family(family, service.addresses):
            match = f"-p {service.protocol} -m conntrack --ctorigdst {address} --ctorigdstport {service.port}"
            rules.append(Rule(f"{match} -j ACCEPT", names.tag(link.name)))
    return rules


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


def _on_devices_interface(cell: Cell, links: list[Link]) -> list[Link]:
    return [link for link in links if link.interface == cell.interface]


def _api_port(cell: Cell, link: Link) -> int:
    """Return the port of the other cell's peer-sync API: that of its URL, else our own default."""
    _scheme, _sep, port = (link.remote_api_url or "").rpartition(":")
    return int(port.split("/")[0]) if port.split("/")[0].isdigit() else cell.sync_port


def _sorted(services: Iterable[Service]) -> list[Service]:
    return sorted(services, key=lambda service: service.name)
