# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A link that gets no answer is dialled anew where its record says.

Its name may lead elsewhere now, which WireGuard looks up only once. Or the other cell has announced another port, and sent something from the old one since,
which WireGuard follows.

A handshake may be two minutes old on a link that works, so its age shows too late that one does not. What a link is given and receives shows it at once:
WireGuard answers whatever it receives within 10 s, if only by a keepalive.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..base.command import Host
from ..base.names import check_interface
from ..kernel import wireguard
from ..kernel.model import Interface
from ..kernel.plan import Plan, apply
from ..parts.tunnels import peer_key
from ..records.model import Link
from ..records.store import Store
from .restore import drafted

SAMPLE = 5.0  # seconds from one count of bytes to the next: WireGuard's REKEY_TIMEOUT
STRIKES, AGAIN = 3, 6  # counts in a row that make a link silent; counts until its name is looked up again

Tunnel = tuple[str, str]  # interface and peer's key


class Silence:
    """Notices which links have something to send, and receive nothing."""

    def __init__(self) -> None:
        self._before: Mapping[Tunnel, tuple[int, int]] = {}
        self._strikes: dict[Tunnel, int] = {}

    def heard(self, transfers: Mapping[Tunnel, tuple[int, int]]) -> list[str]:
        """Return the interfaces with links that are to be dialled anew. transfers: what has come and was to go, as wireguard.read_transfers says."""
        strikes = {}
        for tunnel, (received, sent) in transfers.items():
            before = self._before.get(tunnel)
            strikes[tunnel] = self._strikes.get(tunnel, 0) + 1 if before and received == before[0] and sent > before[1] else 0
        self._before, self._strikes = transfers, strikes
        return sorted({tunnel[0] for tunnel, count in strikes.items() if count >= STRIKES and (count - STRIKES) % AGAIN == 0})


def redial(host: Host, path: str, interface: str) -> list[str]:
    """Dial the links on an interface where their names lead now, and return a line for each that has moved.

    path: the folder with the records. Raises BadInput, StoreError and CommandFailed.
    """
    check_interface(interface)
    lines, plan, store = [], Plan(), Store(host, path)
    # Before the lock, since a resolver can take seconds, in which nobody could repair anything.
    found = {name: (link.endpoint, wireguard.resolve(host, str(link.endpoint))) for name, link in dialled(store) if link.interface == interface}
    if not any(address for _endpoint, address in found.values()):
        return []
    with store.lock(create=False):
        context = drafted(host, path)
        observed = context.observed.wireguard.get(interface, Interface(interface))
        for name, (endpoint, address) in sorted(found.items()):
            link = context.stored.links.get(name)
            peer = observed.peers.get(peer_key(link)) if link and link.interface == interface and link.endpoint == endpoint else None
            if link and peer and address and address != peer.endpoint:
                plan.extend(wireguard.plan_endpoint(interface, peer.public_key, address))
                lines.append(f"{interface}: {link.kind} {name} is dialled at {address}, which is where {str(endpoint).rpartition(':')[0]} leads now")
        apply(host, plan)
    return lines


def dialled(store: Store) -> list[tuple[str, Link]]:
    """Return the links that may be dialled elsewhere than their records say: by a name, or at an address that the other cell has announced."""
    links = store.load().links.items()
    return [(name, link) for name, link in links if link.endpoint and (wireguard.is_named(link.endpoint) or link.judged_claim[1:] == [""])]
