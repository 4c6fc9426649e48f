# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links and services of a cell as its records, and the rules of an older version, have them, and what an inventory states of them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.errors import BadInput
from ..base.names import check_name, tag
from ..base.networks import check_link_networks, network_of, sorted_networks
from ..kernel.ruleset import comment_of, words_of
from ..records.model import Cell, Link, Service

_PROTOCOLS = ("tcp", "udp")


@dataclass
class Opened:
    """What flat rules of an older version let in: at which addresses, from which links."""

    addresses: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)


def cell_items(cell: Cell) -> dict[str, Any]:
    """Return what an inventory states of the cell itself. The rest of its record stays where the inventory is silent."""
    interface = {} if cell.interface == Cell.interface else {"cell_interface": cell.interface}
    given = {"cell_name": cell.name, "cell_networks": list(cell.networks), "cell_endpoint": cell.endpoint, **interface}
    return {name: value for name, value in given.items() if value}


def service_item(service: Service) -> dict[str, Any]:
    """Return what an inventory states of a service."""
    return {"name": service.name, "address": list(service.addresses), "port": service.port, "protocol": service.protocol}


def read_flat_rules(rules: Iterable[str], links: Collection[str]) -> dict[tuple[str, int], Opened]:
    """Return which ports the rules of an older version open to links: it had them in FORWARD itself, each with the link's tag. rules: as saved."""
    found: dict[tuple[str, int], Opened] = {}
    tags = {tag(name): name for name in links}
    for rule in rules:
        words = words_of(rule)
        given = dict(zip(words, words[1:]))
        link, port, to = tags.get(comment_of(rule).partition(" ")[0]), given.get("--dport", ""), given.get("-d", "")
        if link and given.get("-j") == "ACCEPT" and given.get("-p") in _PROTOCOLS and port.isdigit() and "!" not in words and to:
            network = network_of(to)
            if network.num_addresses == 1:
                opened = found.setdefault((given["-p"], int(port)), Opened())
                opened.addresses.add(str(network.network_address))
                opened.links.add(link)
    return found


def services_of(links: Mapping[str, Link], known: Collection[str], opened: Mapping[tuple[str, int], Opened], notes: list[str]) -> list[dict[str, Any]]:
    """Return the services that links share and no record describes, as the rules that are in force tell them.

    A rule does not say which service it is for. It is known where one service alone is shared with these links, and one port alone is open to them.
    """
    shared: dict[str, set[str]] = {}
    for link in links.values():
        for name in link.shares:
            if name not in known:
                shared.setdefault(name, set()).add(link.name)
    found = []
    for name, with_links in sorted(shared.items()):
        ports = [port for port, what in sorted(opened.items()) if what.links == with_links]
        if len(ports) == 1 and [other for other in shared.values() if other == with_links] == [with_links]:
            (protocol, number), addresses = ports[0], sorted_networks(opened[ports[0]].addresses)
            found.append({"name": name, "address": addresses, "port": number, "protocol": protocol})
            notes.append(
                f"service {name}: its address and port are those of the rules for {_listed(with_links)}. If docker translates them, state those that devices "
                "ask for."
            )
            continue
        rules = [f"{protocol} {', '.join(sorted_networks(opened[protocol, number].addresses))} port {number}" for protocol, number in ports]
        open_now = f"Open to them by rules: {'; '.join(rules)}." if rules else "No rule opens a port to them."
        notes.append(
            f"service {name}: {_listed(with_links)} may reach it, but no record says where it is. {open_now} Describe it in cell_services and share it there "
            "before you run site, or site closes it."
        )
    return found


def link_item(link: Link, known: Collection[str], devices: str | None, notes: list[str]) -> dict[str, Any] | None:
    """Return what an inventory states of a link, None where it cannot; notes says why. known: services. devices: the interface where the link has a peer."""
    if link.provided:
        notes.append(
            f"link {link.name}: it is a provider of internet access. Keep its item in cell_exits, with its file: site removes an exit that is not there."
        )
        return None
    try:
        check_name("Cell", link.name)
        check_link_networks(f"networks of link {link.name!r}", link.networks, link.allow_public_networks)
    except BadInput as error:
        notes.append(f"link {link.name!r} is left out. {error}")
        return None
    if link.pending:
        notes.append(f"link {link.name}: its public key or its networks are not known, so it is pending.")
    terms = {"until": link.exit_offered_until, "rate": link.exit_offered_rate}
    given = {
        "public_key": link.public_key,
        "networks": list(link.networks),
        "allow_public_networks": link.allow_public_networks,
        "address": list(link.address),
        "endpoint": link.endpoint,
        "interface": devices,
        "keepalive": link.keepalive,
        "sync_auth": None if link.sync_auth == Link.sync_auth else link.sync_auth,
    }
    shares = {} if set(link.shares) - set(known) else {"share": link.shares}
    offer: Any = {key: value for key, value in terms.items() if value} if link.exit_offered and any(terms.values()) else link.exit_offered
    return {"name": link.name, **{key: value for key, value in given.items() if value}, **shares, "offer_exit": offer}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
