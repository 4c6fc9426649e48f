# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a host may keep a cell from working, though all that is ours is as it should be: in sentences that name the thing and what to do.

Nothing depends on it: what cannot be read is a sentence as well. What cannot work at all is refused elsewhere, before anything changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..base.networks import FAMILIES, FORWARDING, outside
from ..base.texts import printable
from ..kernel import foreign, iptables, mtu, sysctl, systemd, wgconfig
from ..kernel.handshakes import SILENT, is_recent
from ..kernel.model import Interface, Saved
from ..kernel.observed import Observed
from ..kernel.routing import KEPT, NETWORKD, forwards, setting
from ..kernel.wgconfig import config_path
from ..kernel.wireguard import is_named
from ..records.model import State
from . import access, claims, fitness, former, hostfacts, limits, passage, services, units
from .surveyed import Surveyed


@dataclass(frozen=True)
class Situation:
    """What is judged.

    state: the records, or what they are going to be. seen: the kernel. survey: what else the host does. run: whether a run of the role asks.
    now: seconds since the epoch.
    """

    state: State
    seen: Observed
    survey: Surveyed
    run: bool = False
    now: float = 0.0


_WITHOUT = {
    units.RESTORE: "the cell does not come back",
    units.TIMER: "nobody looks every minute whether something of the cell is missing",
    units.SERVE: "linked cells cannot tell this one anything through the tunnel",
    units.APPLY_PATH: "what linked cells have told is not taken over",
    units.REPLAY_TIMER: "linked cells that were not reached are not told again",
    units.RELOADS: "what a reload of other software takes away is missing for up to a minute",
    units.WATCH: "what others take away is missing for up to a minute",
    units.PROBE: "devices with several exits stay with one that does not work",
    units.SWITCH_PATH: "devices with several exits leave one that does not work only a minute later",
}
_IPV4_SPARES = 20  # bytes that a tunnel over IPv4 has left

Source = Callable[[Situation], Iterable[str]]


def advise(situation: Situation, sources: Iterable[Source] | None = None) -> list[str]:
    """Return all advice, each sentence once."""
    lines: list[str] = []
    for source in SOURCES if sources is None else sources:
        try:
            lines += source(situation)
        except Exception as error:  # what others have on their hosts is of no form that we know
            lines.append(f"{(source.__doc__ or source.__name__).splitlines()[0].rstrip('.')}: this could not be checked ({type(error).__name__}: {error}).")
    return list(dict.fromkeys(printable(line).replace("\n", " ") for line in lines))


def _variants(situation: Situation) -> Iterable[str]:
    """Say where both variants of iptables hold rules."""
    _read = situation.seen.iptables
    return situation.seen.warnings


def _hidden_chains(situation: Situation) -> Iterable[str]:
    """Say which tables of iptables hold chains that iptables cannot show."""
    for family in FAMILIES:
        for table in iptables.native_tables(situation.seen.iptables[family], family):
            yield (
                f"Table '{table}' holds native nftables chains beside those of iptables. They filter packets too, but iptables does not show them. "
                f"See them with 'nft list table {table}', and move them into a table with another name."
            )


def _uplinks(situation: Situation) -> Iterable[str]:
    """Say which uplink is stated and not there, and which exit has no way to the internet."""
    cell, name = situation.state.cell, situation.state.cell.uplink
    if not situation.survey.host.has("ip"):
        return  # nothing could be read yet
    if name and name not in situation.seen.links:
        there = ", ".join(sorted(set(situation.seen.links) - {"lo", cell.interface})) or "none"
        yield (
            f"The uplink {name!r} of cell {cell.name!r} is not an interface of this host, so nothing leaves through it. Correct cell_uplink, or leave it out. "
            f"The interfaces: {there}."
        )
        return
    for device in dict.fromkeys(hostfacts.uplink(situation.seen, cell, family) for family in FAMILIES if cell.own_networks(family)):
        why = situation.seen.why_silent(device) if device else ""
        if why:
            remedy = f"Bring it up: ip link set dev {device} up" if why == "is down" else "Look at the cable, or at what it connects to."
            yield f"Interface {device!r}, the uplink of cell {cell.name!r}, {why}, so nothing leaves through it. {remedy}"
    offered = sorted(link.name for link in situation.state.links.values() if link.exit_offered)
    without = [family for family in FAMILIES if cell.has_family(family) and not hostfacts.uplink(situation.seen, cell, family)]
    if offered and not name and set(without) >= {family for family in FAMILIES if cell.own_networks(family)}:
        yield (
            f"Cell {cell.name!r} offers {', '.join(offered)} an exit but has no default route, so none of their packets reaches the internet. "
            "Give this host a default route, or set cell_uplink to the interface that leads to the internet."
        )


def _unjudged(situation: Situation) -> Iterable[str]:
    """Say which exits nobody notices to be dead, though a device has another one behind it."""
    state = situation.state
    for name, link in sorted(state.links.items()):
        devices = sorted(peer.name for peer in state.peers.values() if name in peer.route_via[:-1])
        if link.provided and devices and not state.cell.exit_probes:
            yield (
                f"The exit {name!r} of {', '.join(devices)} is no cell that could be asked, so nobody notices when it carries no traffic. "
                "State targets that are asked through it (cell_exit_probes)."
            )


def _unnamed(situation: Situation) -> Iterable[str]:
    """Say which silent links are dialled by an address, which nobody looks up again."""
    for name, link in sorted(situation.state.links.items()):
        peer = situation.seen.wireguard.get(str(link.interface), Interface("")).peers.get(str(link.public_key))
        silent = peer is not None and peer.handshake > 0 and link.keepalive != 0 and not is_recent(peer.handshake, situation.now, SILENT)
        if silent and link.endpoint and not is_named(link.endpoint):
            yield (
                f"The link with {name!r} is silent, and this cell dials it at {link.endpoint}, which is an address: if it has changed, this cell cannot know. "
                f"State the new one as the endpoint of {name!r} and run pic.cells.site, or better a name that its owner keeps up to date (dynamic DNS)."
            )


def _rates(situation: Situation) -> Iterable[str]:
    """Say which rate of an offer holds for one direction only."""
    return limits.advise(situation.state, situation.seen)


def _other_ways(situation: Situation) -> Iterable[str]:
    """Say where packets of devices leave by another interface than the host's own default route."""
    cell = situation.state.cell
    for family in situation.seen.families:
        default, found = situation.seen.routing[family].uplink, hostfacts.way_out(situation.seen, cell, family)
        if not cell.own_networks(family) or found is None:
            continue
        # One uplink is stated for both families: in IPv6 alone it may be meant to lead nowhere.
        if cell.uplink in situation.seen.links and found != cell.uplink and family == (4 if cell.own_networks(4) else 6):
            yield (
                f"The policy rules and routes of this host send IPv{family} packets of devices out through {found!r}, but the uplink of cell {cell.name!r} is "
                f"{cell.uplink!r}, so they are dropped. Set cell_uplink to {found!r}, or stop the other software from routing forwarded packets."
            )
        elif cell.uplink is None and default is not None and found != default:
            yield (
                f"IPv{family} packets of devices leave through {found!r}, although the default route in main is through {default!r}: other software "
                "routes them "
                f"there (ip rule show, ip route show table all), so cell {cell.name!r} uses {found!r} as its uplink. Set cell_uplink to the one that you want."
            )


def _several_ways(situation: Situation) -> Iterable[str]:
    """Say where the kernel spreads packets over several uplinks."""
    cell = situation.state.cell
    for family in situation.seen.families:
        uplink = hostfacts.uplink(situation.seen, cell, family) if cell.own_networks(family) else None
        routes = (route for route in situation.seen.routing[family].wide if route.others and uplink in (route.device, *route.others))
        ways = {device for route in routes for device in (str(route.device), *route.others)}
        if ways:
            yield (
                f"The IPv{family} default route of this host has several ways ({', '.join(sorted(ways))}), and cell {cell.name!r} has one uplink, {uplink!r}: "
                f"what the kernel sends by another one is dropped. Give packets from {cell.own_networks(family)[0]} a policy rule to a table with one way."
            )


def _names(situation: Situation) -> Iterable[str]:
    """Say which interface of others has a name by which the rules take it for a link's."""
    ours = {link.interface for link in situation.state.links.values()} | {tunnel.interface for tunnel in situation.state.leaving.links}
    for name in sorted(set(situation.seen.links) - ours):
        if name.startswith("pic-"):
            yield (
                f"Interface {name!r} belongs to no link of cell {situation.state.cell.name!r}, but its name begins as theirs do, so the cell's rules drop "
                "what comes in through it. Rename it."
            )


def _devices_mtu(situation: Situation) -> Iterable[str]:
    """Say where the devices' interface takes more than the way to the internet carries."""
    cell = situation.state.cell
    interface = situation.seen.wireguard.get(cell.interface)
    fits = mtu.tunnel(situation.seen, None, [family for family in FAMILIES if cell.own_networks(family)], None)
    if interface is not None and interface.mtu and fits and interface.mtu > fits + _IPV4_SPARES:
        yield (
            f"Interface {cell.interface!r} has MTU {interface.mtu}, but the path to the internet carries only {fits} bytes inside a tunnel: larger "
            "packets get lost. "
            f"Write 'MTU = {fits}' into [Interface] of /etc/wireguard/{cell.interface}.conf, and apply it now: ip link set dev {cell.interface} mtu {fits}."
        )


def _forwarding(situation: Situation) -> Iterable[str]:
    """Say where forwarding is off, or a file turns it off at the next boot."""
    host = situation.survey.host
    undone = list(sysctl.unkept(host))
    for path, name, value in undone:
        yield (
            f"File {path} sets {name} to {value}and is read after {KEPT}: after a reboot this host forwards nothing until 'pic-cell restore' has run. "
            "Remove that line."
        )
    for family in situation.seen.families:
        name = FORWARDING[family]
        # What the role keeps is put back, and what it is about to set needs no word; else nobody does it.
        if not situation.run and situation.state.cell.own_networks(family) and setting(host, name) == "0" and name not in sysctl.kept(host):
            yield f"This host does not forward IPv{family} packets ({name} is 0). Run pic.cells.site, which turns forwarding on permanently."

    if situation.state.cell.own_networks(4) and setting(host, FORWARDING[4]) != "0":
        uplink, links = hostfacts.uplink(situation.seen, situation.state.cell, 4), situation.state.links.values()
        for device in dict.fromkeys((situation.state.cell.interface, uplink, *(link.interface for link in links))):
            if device and setting(host, forwards(device)) == "0":
                name = forwards(device)
                yield (
                    f"This host does not forward IPv4 packets that come in through {device!r} ({name} is 0). Set it: sysctl -w {name}=1, and find what turns "
                    "it off: IPForward or IPv4Forwarding of systemd-networkd, or a file below /etc/sysctl.d."
                )


def _networkd(situation: Situation) -> Iterable[str]:
    """Say which file lets systemd-networkd delete rules and routes of ours."""
    for path, name, value in sysctl.unmanaged(situation.survey.host):
        yield (
            f"File {path} sets {name} to {value}, and is read after {NETWORKD}: whenever systemd-networkd starts, it deletes policy rules and routes of this "
            "cell, which are missing until restore has run. Take that line out."
        )


def _readable_key(situation: Situation) -> Iterable[str]:
    """Say where a file with the cell's key that somebody else has made is open to everybody."""
    name = situation.state.cell.interface
    mode = access.exposed(situation.survey.host, name)
    if mode:
        path = config_path(name)
        yield f"File {path} has mode {mode}, so every user on this host can read the cell's private key. Correct that with: chmod o= {path}"


def _devices_file(situation: Situation) -> Iterable[str]:
    """Say where the file of the devices' interface has become one that wg-quick does not take."""
    path = config_path(situation.state.cell.interface)
    fault = wgconfig.fault(situation.survey.host.read(path) or "")
    if fault:
        yield f"{path}: {fault}, so wg-quick does not start {situation.state.cell.interface!r} at the next boot. Correct it."


def _sync_port(situation: Situation) -> Iterable[str]:
    """Say where another program has the port of peer-sync."""
    cell = situation.state.cell
    # The receiver itself listens on the cell's own addresses only.
    if situation.state.links and fitness.everywhere(fitness.listening(situation.survey.host, "tcp").get(cell.sync_port, ())):
        yield (
            f"Another program listens on TCP port {cell.sync_port}, on which cell {cell.name!r} has to receive what linked cells tell it, so nothing reaches "
            f"the cell's receiver. See which program with \"ss -tlpn 'sport = :{cell.sync_port}'\", and set cell_sync_port to another port."
        )


def _firewalls(situation: Situation) -> Iterable[str]:
    """Say which chains of nftables' own do not let pass what has to."""
    uplinks = {family: hostfacts.uplink(situation.seen, situation.state.cell, family) for family in FAMILIES}
    return passage.blocked(situation.survey.nftables, situation.state, uplinks) if situation.state.cell.name else ()


def _uplinks_network(situation: Situation) -> Iterable[str]:
    """Say which rule of somebody opens devices to the uplink's network, which the cell's own do not."""
    cell = situation.state.cell
    for family in FAMILIES:
        uplink, saved = hostfacts.uplink(situation.seen, cell, family), situation.seen.iptables[family].get("filter", Saved())
        for chain, rules in saved.rules.items():
            for rule in rules if not chain.startswith(iptables.CHAIN_PREFIX) else ():
                if uplink and foreign.opens(rule, uplink, cell.interface):
                    yield (
                        f"Rule '{rule}' of chain '{chain}' would let neighbours at the uplink begin connections with devices, and the cell drops those all the "
                        "same. What passes is a port that this host forwards to a device (iptables -t nat, target DNAT)."
                    )


def _units(situation: Situation) -> Iterable[str]:
    """Say which of our units have ended, or do not start at boot."""
    if situation.run:
        return  # which starts them, and says what does not come up
    states = situation.survey.units
    for unit in units.ENABLED if states else ():
        state = states.get(unit, "active")
        if not situation.survey.host.exists(f"{systemd.SYSTEM}/{unit}"):
            yield f"Unit {unit} is not there, so {_WITHOUT[unit]}. Run pic.cells.site, which installs it."
            continue
        if state != "active":
            yield f"Unit {unit} is {state}, so {_WITHOUT[unit]}. Start it: systemctl start {unit}. See why it ended: journalctl -u {unit}"
        if not all(situation.survey.host.exists(path) for path in units.links(unit)):
            yield f"Unit {unit} is not enabled, so after a boot {_WITHOUT[unit]}. Enable it: systemctl enable {unit}"
    for name in (situation.state.cell.interface, *situation.state.link_interface_names()) if states else ():
        if not situation.survey.host.exists(systemd.drop_in_path(name)):
            yield f"Unit 'wg-quick@{name}' does not wait for {units.GUARD}, so at boot packets may pass too early. Run pic.cells.site, which sets it right."


def _exits(situation: Situation) -> Iterable[str]:
    """Say which exits do not work, as far as they are watched."""
    for name, found in sorted(situation.state.down.items()):
        if not found.answers and name in situation.state.watched_exits:
            yield (
                f"Exit {found.words(name)}. Devices leave by another exit of theirs, or directly where that is stated, or have no internet. "
                f"Ask the owner of {name}."
            )


def _renumbered(situation: Situation) -> Iterable[str]:
    """Say which cells ask to have other networks, and which do not know this cell's, and what the owner of which cell does to agree."""
    for name, link in sorted(situation.state.links.items()):
        moved = sorted(link.asked_address) != sorted(link.address)
        if link.asked_networks and claims.unagreed(link.asked_networks, link.networks, link.accept_networks, moved):
            asked, accept = ", ".join(link.asked_networks), ", ".join([*link.accept_networks, *outside(link.asked_networks, link.accept_networks)])
            instead = f"{', '.join(link.networks)}{' with ' if link.address else ''}{', '.join(link.address)}"
            begun = (
                f"Cell {name!r} asks to have the networks {asked} with {', '.join(link.asked_address)} instead of {instead}, and may not be reached until you"
            )
            place = f"networks: [{asked}] and address: [{', '.join(link.asked_address)}]"
            if claims.gives_up(link.asked_networks, link.networks):
                yield f"{begun} agree. To agree, state {place} for the link {name!r} in cell_links, and run pic.cells.site."
            else:
                yield (
                    f"{begun} agree. To agree, state accept_networks: [{accept}] for the link {name!r} in cell_links, and run pic.cells.site. Where networks "
                    f"or address of that link are stated there, state {place} instead."
                )
        if former.of_link(situation.state.cell, link) and not situation.run:  # a run goes on to tell it, and says itself how that has ended
            yield (
                f"Cell {name!r} knows this cell as {', '.join(link.known_as)}, and may not know yet that its networks are "
                f"{', '.join(situation.state.cell.own_networks())}. It is told again every minute. If this stays, ask its owner to run pic-cell status there, "
                "which says how to agree."
            )


def _services(situation: Situation) -> Iterable[str]:
    """Say which services are opened along with others that are shared."""
    return services.opened_along(situation.state)


# In the order in which it is said.
SOURCES: tuple[Source, ...] = (
    _variants,
    _hidden_chains,
    _uplinks,
    _rates,
    _unjudged,
    _unnamed,
    _other_ways,
    _several_ways,
    _names,
    _devices_mtu,
    _forwarding,
    _networkd,
    _devices_file,
    _readable_key,
    _services,
    _sync_port,
    _firewalls,
    _uplinks_network,
    _exits,
    _renumbered,
    _units,
)
