# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a host may keep a cell from working, though all that is ours is as it should be: in sentences that name the thing and what to do.

Nothing depends on it: what cannot be read is a sentence as well. What cannot work at all is refused elsewhere, before anything changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import access, fitness, iptables, mtu, passage, services, sysctl
from .networks import FAMILIES
from .observed import Observed
from .records import State
from .routing import FORWARDING, KEPT, setting
from .surveyed import Surveyed
from .texts import printable
from .wgconfig import config_path


@dataclass(frozen=True)
class Situation:
    """What is judged.

    state: the records, or what they are going to be. seen: the kernel. survey: what else the host does. run: whether a run of the role asks.
    """

    state: State
    seen: Observed
    survey: Surveyed
    run: bool = False


_IPV4_SPARES = 20  # bytes that a tunnel over IPv4 has left

Source = Callable[[Situation], Iterable[str]]


def advise(situation: Situation, sources: Iterable[Source] | None = None) -> list[str]:
    """Return all advice, each sentence once."""
    lines: list[str] = []
    for source in SOURCES if sources is None else sources:
        try:
            lines += source(situation)
        except Exception as error:  # what others have on their hosts is of no form that we know
            lines.append(f"{(source.__doc__ or source.__name__).splitlines()[0].rstrip('.')}: that cannot be told ({type(error).__name__}: {error}).")
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
                f"Table '{table}' holds chains of nftables' own beside those of iptables, which decide packets as well and which iptables does not show. "
                f"See them with 'nft list table {table}', and give them a table of another name."
            )


def _uplinks(situation: Situation) -> Iterable[str]:
    """Say which uplink is stated and not there, and which exit has no way to the internet."""
    cell, name = situation.state.cell, situation.state.cell.uplink
    if not situation.survey.host.has("ip"):
        return  # nothing could be read yet
    if name and name not in situation.seen.links:
        there = ", ".join(sorted(set(situation.seen.links) - {"lo", cell.interface})) or "none"
        yield (
            f"The uplink {name!r} of cell {cell.name!r} is no interface of this host, so nothing leaves by it. Correct cell_uplink, or leave it out. "
            f"The interfaces: {there}."
        )
        return
    offered = sorted(link.name for link in situation.state.links.values() if link.exit_offered)
    without = [family for family in FAMILIES if cell.has_family(family) and not situation.seen.uplink(cell, family)]
    if offered and not name and set(without) >= {family for family in FAMILIES if cell.own_networks(family)}:
        yield (
            f"Cell {cell.name!r} offers {', '.join(offered)} an exit and has no default route, so that none of their packets gets out. "
            "Give this host one, or name the way out in cell_uplink."
        )


def _other_ways(situation: Situation) -> Iterable[str]:
    """Say where packets of devices leave by another interface than the host's own default route."""
    cell = situation.state.cell
    for family in situation.seen.families:
        default, found = situation.seen.routing[family].uplink, situation.seen.way_out(cell, family)
        if not cell.own_networks(family) or found is None:
            continue
        # One uplink is stated for both families: in IPv6 alone it may be meant to lead nowhere.
        if cell.uplink in situation.seen.links and found != cell.uplink and family == (4 if cell.own_networks(4) else 6):
            yield (
                f"By the policy rules and routes of this host, IPv{family} packets of devices leave by {found!r}, and not by {cell.uplink!r}, which cell "
                f"{cell.name!r} has for uplink: they are dropped. Set cell_uplink to {found!r}, or keep the other software from routing what is forwarded."
            )
        elif cell.uplink is None and default is not None and found != default:
            yield (
                f"IPv{family} packets of devices leave by {found!r}, although the default route in main is through {default!r}: other software (ip rule show, "
                f"ip route show table all) leads them there, so cell {cell.name!r} takes it for the uplink. Say which you want: cell_uplink."
            )


def _devices_mtu(situation: Situation) -> Iterable[str]:
    """Say where the devices' interface takes more than the way to the internet carries."""
    cell = situation.state.cell
    interface = situation.seen.wireguard.get(cell.interface)
    fits = mtu.tunnel(situation.seen, None, [family for family in FAMILIES if cell.own_networks(family)], None)
    if interface is not None and interface.mtu and fits and interface.mtu > fits + _IPV4_SPARES:
        yield (
            f"Interface {cell.interface!r} has MTU {interface.mtu}, and the way to the internet carries {fits} in a tunnel: larger packets get lost. "
            f"Write 'MTU = {fits}' into [Interface] of /etc/wireguard/{cell.interface}.conf, and set it now: ip link set dev {cell.interface} mtu {fits}."
        )


def _forwarding(situation: Situation) -> Iterable[str]:
    """Say where forwarding is off, or a file turns it off at the next boot."""
    host = situation.survey.host
    undone = list(sysctl.unkept(host))
    for path, name, value in undone:
        yield (
            f"File {path} sets {name} to {value}, and is read after {KEPT}: after a reboot this host forwards nothing until 'pic-cell restore' has run. "
            "Take that line out."
        )
    for family in situation.seen.families:
        name = FORWARDING[family]
        # What the role keeps is put back, and what it is about to set needs no word; else nobody does it.
        if not situation.run and situation.state.cell.own_networks(family) and setting(host, name) == "0" and name not in sysctl.kept(host):
            yield f"This host forwards no IPv{family} packets ({name} is 0). Run pic.cells.site, which turns it on for good."


def _readable_key(situation: Situation) -> Iterable[str]:
    """Say where a file with the cell's key that somebody else has made is open to everybody."""
    name = situation.state.cell.interface
    mode = access.exposed(situation.survey.host, name)
    if mode:
        path = config_path(name)
        yield f"File {path} has mode {mode}, so that everybody on this host may read the cell's private key. Take that away: chmod o= {path}"


def _sync_port(situation: Situation) -> Iterable[str]:
    """Say where another program has the port of peer-sync."""
    cell = situation.state.cell
    # The receiver itself listens on the cell's own addresses only.
    if situation.state.links and fitness.everywhere(fitness.listening(situation.survey.host, "tcp").get(cell.sync_port, ())):
        yield (
            f"Another program listens on TCP port {cell.sync_port}, at which cell {cell.name!r} would hear what linked cells tell, and cannot be reached by "
            f"the cell's own addresses. See which with \"ss -tlpn 'sport = :{cell.sync_port}'\", and set cell_sync_port to another port."
        )


def _firewalls(situation: Situation) -> Iterable[str]:
    """Say which chains of nftables' own do not let pass what has to."""
    uplinks = {family: situation.seen.uplink(situation.state.cell, family) for family in FAMILIES}
    return passage.blocked(situation.survey.nftables, situation.state, uplinks) if situation.state.cell.name else ()


def _services(situation: Situation) -> Iterable[str]:
    """Say which services are opened along with others that are shared."""
    return services.opened_along(situation.state)


# In the order in which it is said.
SOURCES: tuple[Source, ...] = (_variants, _hidden_chains, _uplinks, _other_ways, _devices_mtu, _forwarding, _readable_key, _services, _sync_port, _firewalls)
