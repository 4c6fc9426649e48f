# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell remembers: itself, its links and its peers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..base.destinations import way_of
from ..base.names import DIRECT, DNS_PORT, DOWN, EXIT, OWN
from ..base.networks import FAMILIES, address_of, interface_of, network_of, of_family, sorted_networks
from ..base.targets import Target, parse_url
from ..base.targets import of_family as targets_of_family
from .tombstones import Leaving, Tunnel

# The last generation of what a cell tells another. No cell comes to as many changes, and each reader of JSON has them exactly.
# A count that is there, or beyond, is forged or broken: it begins anew.
LAST = 2**53

Record = TypeVar("Record")


def twin(record: Record) -> Record:
    """Return a copy of a record; copy.copy takes five times as long."""
    made = object.__new__(type(record))
    vars(made).update(vars(record))
    return made


@dataclass
class Service:
    """Something that listens on a cell or on one of its peers."""

    name: str
    addresses: list[str] = field(default_factory=list)
    port: int = 0
    protocol: str = "tcp"


@dataclass
class Cell:
    """The cell itself: own addresses with prefix, devices' interface, services."""

    name: str = ""
    networks: list[str] = field(default_factory=list)
    endpoint: str | None = None
    interface: str = "wg0"
    listen_port: int = 51820
    link_port_base: int = 51821
    services: dict[str, Service] = field(default_factory=dict)
    uplink: str | None = None
    admin_networks: list[str] = field(default_factory=list)
    sync_port: int = 8088
    exit_failures: int = 3
    exit_hold: int = 60
    exit_switches: int = 3
    exit_hold_limit: int = 600
    exit_dns: list[str] = field(default_factory=list)  # resolvers, at most one of each family, for devices that leave by another cell; none: whom they ask
    dns_by_exit: bool = False  # whether the resolver of the exit in use answers such devices
    dns_by_device: bool = False  # whether for some device somebody else is stated: it counts while nobody knows which
    resolver: list[str] = field(default_factory=list)  # that the owner runs, at most one of each family: it answers cells that use this one as their exit
    exit_probes: list[str] = field(default_factory=list)  # targets on the internet (base.targets) that are asked through each exit
    whoami: list[str] = field(default_factory=list)  # URLs (base.targets), at most one of each family, that say by which address exits leave
    expect: list[str] = field(default_factory=list)  # what the owner expects of the cell (base.expectations)
    retired: list[str] = field(default_factory=list)  # "address port" where a UDP service was: its server may not know yet

    def udp_services(self) -> set[str]:
        """Return where UDP services answer, as "address port"."""
        services = {f"{address} {service.port}" for service in self.services.values() if service.protocol == "udp" for address in service.addresses}
        return services | {f"{address} {DNS_PORT}" for address in self.resolver}

    def exit_resolver(self, family: int) -> str | None:
        """Return the resolver that routed devices are answered by in this family."""
        return next(iter(of_family(family, self.exit_dns)), None)

    @property
    def leads_dns(self) -> bool:
        """Tell whether it is stated who answers devices that leave by another cell."""
        return self.dns_by_exit or self.dns_by_device or bool(self.exit_dns)

    @property
    def answered_by(self) -> list[str]:
        """Return who answers such devices: resolvers, or EXIT or OWN alone."""
        return [EXIT] if self.dns_by_exit else self.exit_dns or [OWN]

    def asked_through_exits(self, family: int) -> list[Target]:
        """Return the targets of one family whom this cell itself asks through exits, each once."""
        named = [url.target for url in map(parse_url, self.whoami) if url.target.family == family]
        return list(dict.fromkeys([*targets_of_family(self.exit_probes, family), *named]))

    def copy(self) -> Cell:
        """Return a copy with services of its own."""
        return replace(self, services={name: twin(service) for name, service in self.services.items()})

    def own_addresses(self, family: int | None = None) -> list[str]:
        """Return the cell's own addresses, without prefix."""
        return [str(interface_of(n).ip) for n in self.networks if family in (None, interface_of(n).version)]

    def has_family(self, family: int) -> bool:
        """Tell whether the cell has a network of this family; while none is known it may have both."""
        return not self.networks or bool(self.own_networks(family))

    def own_networks(self, family: int | None = None) -> list[str]:
        """Return the cell's own networks."""
        return [str(interface_of(n).network) for n in self.networks if family in (None, interface_of(n).version)]


@dataclass
class Link:
    """What this cell knows and has decided of one other cell, or of a provider of internet access. Every flag is false until somebody says otherwise."""

    name: str
    public_key: str | None = None
    networks: list[str] = field(default_factory=list)
    address: list[str] = field(default_factory=list)
    endpoint: str | None = None
    interface: str | None = None
    listen_port: int | None = None
    keepalive: int | None = None
    mtu: int | None = None
    allow_public_networks: bool = False
    permissions: dict[str, dict[str, bool]] = field(default_factory=lambda: {"inbound": {}, "outbound": {}})
    exit_offered: bool = False
    exit_offered_until: str | None = None  # a moment (base.times), and after it too: when the offer ended
    exit_offered_rate: str | None = None  # (base.rates) of the whole link in each direction, as long as the offer stands
    remote_exit_offered: bool = False
    remote_resolvers: list[str] = field(default_factory=list)  # as the other cell has said with its last offer, wherever they are
    exit_relay_active: bool = False
    remote_exit_relay_active: bool = False
    exit_table: int | None = None
    ruled: bool = True
    remote_api_url: str | None = None
    sync_auth: str = "hmac"
    last_push_status: int | None = None
    last_push_at: str | None = None
    last_push_error: str | None = None
    pending_push: bool = False
    last_remote_update_at: str | None = None
    generation: int = 0
    minted: str | None = None
    remote_generation: int = 0
    given_addresses: list[str] = field(default_factory=list)  # of this cell in a provider's tunnel: where there are any, the other end is no cell
    given_resolvers: list[str] = field(default_factory=list)  # a provider's
    invited_until: str | None = None  # a moment; where there is one, key and networks are those with which the other owner redeems an invitation until then
    judged_claim: list[str] = field(default_factory=list)  # fingerprint of the last claim, and why it was not taken over: an empty text where it was
    refused_claim: list[str] = field(default_factory=list)  # the same of one that was refused after another one had been taken over, which stays
    moved: str | None = None  # where the other cell has to dial this one and does not know yet
    known_as: list[str] = field(default_factory=list)  # this cell's addresses by which the other one may still know it; pushes go by the first
    told: int = 0  # the count of what this cell has announced of itself, raised with each change of that
    accept_networks: list[str] = field(default_factory=list)  # that this cell's owner has set aside for the other one to take by itself
    asked_networks: list[str] = field(default_factory=list)  # that it asks to have instead of its own, and this cell's owner has not agreed to
    asked_address: list[str] = field(default_factory=list)  # its own in these
    heard: dict[str, str] = field(default_factory=dict)  # "count fingerprint" of the last announcement that was judged, by what it is about
    judged_place: list[str] = field(default_factory=list)  # as judged_claim, of what the other cell has announced of its networks
    forwarded: int | None = None  # the port at the cell's endpoint that it dials, where a router forwards another one to the link's own

    @property
    def provided(self) -> bool:
        """Tell whether the other end is a provider of internet access (cell_exits), which is no cell: it tells nothing, and is told nothing."""
        return bool(self.given_addresses)

    @property
    def kind(self) -> str:
        """Return what the other end is, as a person reads it."""
        return "exit" if self.provided else "cell"

    @property
    def offers_exit(self) -> bool:
        """Tell whether the other end lets this cell's devices out to the internet. A provider is there for nothing else."""
        return self.provided or self.remote_exit_offered

    @property
    def shares(self) -> list[str]:
        """Return the names of the services that the other cell may reach here."""
        return [] if self.invited else sorted(name for name, allowed in self.permissions["inbound"].items() if allowed)

    @property
    def invited(self) -> bool:
        """Tell whether whoever comes by this link is known by an invitation alone: they can redeem it, and nothing else."""
        return self.invited_until is not None

    @property
    def announced(self) -> bool:
        """Tell whether the other cell has said itself where it is dialled."""
        return self.judged_claim[1:] == [""]

    @property
    def pending(self) -> bool:
        """Tell whether too little is known of the other cell to make a tunnel."""
        return not (self.public_key and (self.networks or self.provided))

    def offers(self, now: str) -> bool:
        """Tell whether this cell offers the other its exit at a moment."""
        return self.exit_offered and (self.exit_offered_until is None or now < self.exit_offered_until)

    @property
    def rate(self) -> str | None:
        """Return the rate that the link is limited to now; None where it is not."""
        return self.exit_offered_rate if self.exit_offered else None

    @property
    def relays(self) -> bool:
        """Tell whether this cell forwards the other's devices to the internet now."""
        return self.exit_offered and self.remote_exit_relay_active and not self.invited

    def resolver(self, family: int) -> str | None:
        """Return the other end's resolver, None where it has none: what a cell says of an address outside of its networks counts for nothing."""
        if self.provided:
            return next(iter(of_family(family, self.given_resolvers)), None)
        networks = [network_of(network) for network in self.networks]
        return next((one for one in of_family(family, self.remote_resolvers) if any(address_of(one) in network for network in networks)), None)

    def has_family(self, family: int) -> bool:
        """Tell whether the other cell has a network of this family, or a provider has given this cell an address of it."""
        return bool(of_family(family, self.given_addresses or self.networks))

    def sources(self, cell: Cell, family: int) -> list[str]:
        """Return the addresses that this cell itself has in the tunnel. cell: this cell."""
        return of_family(family, self.given_addresses) if self.provided else cell.own_addresses(family)


@dataclass
class Peer:
    """A device of this cell."""

    name: str
    public_key: str | None = None
    addresses: list[str] = field(default_factory=list)
    route_via: list[str] = field(default_factory=list)  # its exits, best first, and perhaps "direct" at the end; none: it goes direct
    networks: list[str] = field(default_factory=list)  # behind it
    route_except: dict[str, str] = field(default_factory=dict)  # networks of the internet that it reaches by a certain cell, or by "direct"
    exit_dns: list[str] = field(default_factory=list)  # who answers it: resolvers, or EXIT or OWN alone; none: whom the cell states

    @property
    def exits(self) -> list[str]:
        """Return the cells that its packets to the internet may leave by, best first, and then those of its exceptions."""
        return [name for name in dict.fromkeys([*self.route_via, *self.route_except.values()]) if name != DIRECT]


@dataclass(frozen=True)
class Down:
    """What was found of an exit that does not work, or not for long enough yet. Times are in UTC, as in the records."""

    since: str
    why: str  # of names.DOWN
    answers: str | None = None  # since when it works again: good enough where no other exit of a device works
    held: bool = False  # whether it was not trusted again yet when it went down

    def words(self, name: str) -> str:
        """Return what a person reads of the exit with this name."""
        return f"{name} works again since {self.answers} only" if self.answers else f"{name} {DOWN[self.why]} since {self.since}"


@dataclass
class State:
    """Everything that a cell remembers, and which of its exits were found not to work."""

    cell: Cell = field(default_factory=Cell)
    links: dict[str, Link] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    peers_lost: bool = False  # the registry is there but cannot be read: nobody knows which devices are routed
    leaving: Leaving = field(default_factory=Leaving)
    links_lost: bool = False  # the link records are there but cannot be read: nobody knows what belongs to a link
    down: dict[str, Down] = field(default_factory=dict)  # found out since the boot, and in no record

    def copy(self) -> State:
        """Return a copy to be overlaid with what was asked for. A field that is a list or a dictionary is replaced, never changed in place."""
        links = {name: twin(link) for name, link in self.links.items()}
        peers = {name: twin(peer) for name, peer in self.peers.items()}
        return State(self.cell.copy(), links, peers, self.peers_lost, self.leaving, self.links_lost, self.down)

    def at(self, now: str) -> State:
        """Return these records as they count at a moment: an offer whose end has come is withdrawn."""
        if all(link.offers(now) is link.exit_offered for link in self.links.values()):
            return self
        counting = self.copy()
        for link in counting.links.values():
            link.exit_offered = link.offers(now)
        return counting

    def link_interface_names(self) -> list[str]:
        """Return the interfaces of all links, sorted."""
        return sorted({link.interface for link in self.links.values() if link.interface})

    def device_keys(self) -> set[str]:
        """Return the keys of all devices."""
        return {peer.public_key for peer in self.peers.values() if peer.public_key}

    def tunnels(self) -> set[Tunnel]:
        """Return the tunnel of each link that has one."""
        return {Tunnel(str(link.interface), str(link.public_key)) for link in self.links.values() if not link.pending}

    def exits(self) -> set[str]:
        """Return the names of the links that are used as an exit."""
        return {link.name for link in self.links.values() if link.exit_relay_active}

    def exit_of(self, peer: Peer) -> str | None:
        """Return the cell that a device leaves by now, None where it goes direct.

        The first of its exits that can be used and works. Where none works it is the one that has answered for longest, or else the one that went down
        last, so that a device stays where it is while all of them are down. Where none can be used it is the first, which is closed.
        """
        silent = []
        for name in peer.route_via:
            if name == DIRECT:
                return None
            if self.exit_is_effective(name):
                if name not in self.down:
                    return name
                silent.append(name)
        answering = [name for name in silent if self.down[name].answers]
        if answering:
            return min(answering, key=lambda name: str(self.down[name].answers))
        return max(silent, key=lambda name: (self.down[name].since, not self.down[name].held), default=next(iter(peer.route_via), None))

    def way_of(self, peer: Peer, to: str) -> str | None:
        """Return the cell by which a device's packets to an address of the internet leave now, None where they go direct."""
        excepted = way_of(peer.route_except, to)
        return self.exit_of(peer) if excepted is None else None if excepted == DIRECT else excepted

    def answered_by(self, peer: Peer) -> list[str]:
        """Return who is stated to answer a device that leaves by another cell: resolvers, or EXIT or OWN alone."""
        return peer.exit_dns or self.cell.answered_by

    def answerer(self, peer: Peer, family: int) -> str | None:
        """Return who answers what a device asks near it by DNS: the address of a resolver, OWN for whom it asks, None for nobody."""
        via, stated = self.exit_of(peer), self.answered_by(peer)
        if via is None or stated == [OWN]:
            return OWN
        if stated != [EXIT]:
            return next(iter(of_family(family, stated)), None)
        link = self.links.get(via)
        # A closed exit closes this too, whatever is known of it.
        return (link.resolver(family) if link else None) or (OWN if self.exit_is_effective(via) else None)

    def dns_by_uplink(self, peer: Peer) -> list[int]:
        """Return the families in which what a device asks leaves by this cell's own connection, though its exit was to answer."""
        if self.exit_of(peer) is None or self.answered_by(peer) != [EXIT]:
            return []
        return [family for family in FAMILIES if of_family(family, peer.addresses) and self.answerer(peer, family) == OWN]

    @property
    def networks(self) -> list[str]:
        """Return all networks of this cell, of linked cells and behind devices."""
        linked = (network for link in self.links.values() for network in link.networks)
        return [*self.cell.own_networks(), *linked, *(network for peer in self.peers.values() for network in peer.networks)]

    @property
    def routed(self) -> list[Peer]:
        """Return the devices that are meant to leave by another cell now."""
        return [peer for peer in self.peers.values() if self.exit_of(peer) is not None]

    def routed_addresses(self, family: int) -> list[str]:
        """Return the addresses of all devices that are meant to leave by another cell now, in numeric order."""
        return sorted_networks(of_family(family, (address for peer in self.routed for address in peer.addresses)))

    def routed_networks(self, family: int) -> list[str]:
        """Return the networks behind devices that are meant to leave by another cell now."""
        return sorted_networks(of_family(family, (network for peer in self.routed for network in peer.networks)))

    @property
    def named_exits(self) -> list[str]:
        """Return the cells that some device has among its exits, sorted."""
        return sorted({name for peer in self.peers.values() for name in peer.exits})

    @property
    def asked_exits(self) -> list[str]:
        """Return the exits that have a way of their own, sorted: those of devices, and each provider where targets are to be asked through it."""
        return sorted({*self.named_exits, *(name for name, link in self.links.items() if link.provided and self.cell.exit_probes)})

    @property
    def watched_exits(self) -> list[str]:
        """Return the cells that can be used as an exit by a device that has another way too, sorted: only for these it matters whether they work."""
        several = {name for peer in self.peers.values() if len(peer.route_via) > 1 for name in peer.route_via}
        return sorted(name for name in several if self.exit_is_effective(name) and self._can_be_asked(self.links[name]))

    def _can_be_asked(self, link: Link) -> bool:
        """Tell whether there is somebody to ask whether an exit works: the other cell, or targets on the internet through a provider's tunnel."""
        targets = [family for family in FAMILIES if self.cell.has_family(family) and targets_of_family(self.cell.exit_probes, family)]
        return bool(link.address or (link.provided and targets))

    def exit_is_effective(self, name: str | None) -> bool:
        """Tell whether a cell can be used as an exit now: linked, known, and offering."""
        link = self.links.get(name or "")
        return link is not None and not link.pending and link.offers_exit

    def exits_in_use(self) -> set[str]:
        """Return the cells that some device has among its exits, and that can be one: they are ready then before they are needed."""
        return set(filter(self.exit_is_effective, self.named_exits))


def leaving(before: State, after: State) -> Leaving:
    """Return the tombstones of devices, tunnels and exits that are in the first records and not in the second."""
    return Leaving(
        devices=sorted(before.device_keys() - after.device_keys()),
        links=sorted(before.tunnels() - after.tunnels()),
        exits=sorted(before.exits() - after.exits()),
    )
