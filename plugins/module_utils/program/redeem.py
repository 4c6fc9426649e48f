# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How this cell redeems another owner's invitation: with the invitation's key it says who it is, until its own key is known there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ..base.errors import CellError
from ..base.names import PAIRING, check_name
from ..base.networks import check_api_url, host_networks, parse_address
from ..base.wgkeys import check_preshared_key, check_public_key, public_key_of
from ..kernel import wireguard
from ..kernel.model import WgPeer
from ..kernel.plan import Plan
from ..parts import claims, invitations, keys, sync
from ..parts.invitation import own_side
from ..parts.pairing import LOCK
from ..parts.part import Context
from ..parts.peer_sync import CONFLICT, OK
from ..records.model import Link
from ..records.store import Store
from .apart import Tunnel

_ATTEMPTS = 4
_PATIENCE, _PAUSE = 6.0, 0.5  # seconds for an answer to the own key, which WireGuard asks for again after 5 s (REKEY_TIMEOUT), and between two looks
_LATER = (OK, 429, 502, 503)  # statuses: it is handed over, or may be another time
_KEEPALIVE = 1  # seconds: WireGuard dials a peer by itself where it has something to send


class NotRedeemed(CellError):
    """An invitation that was not redeemed: why, and what to do."""


def plan_preshared_key(context: Context, name: str, public_key: str) -> Plan | None:
    """Plan the preshared key that this cell brings along, kept so that each attempt brings the same. None where the link with that key has one already."""
    check_name("Cell", name)
    host, folder, link = context.host, context.store.path, context.stored.links.get(name, Link(name))
    if link.public_key == public_key and not link.invited and context.preshared_keys().get(name):
        return None
    if not link.invited and invitations.waiting(host, folder, name, context.now):
        return Plan()
    return invitations.plan_new(folder, name, keys.new_preshared_key(host, context.predict), context.now)


def _answers(tunnel: Tunnel) -> bool:
    """Tell whether the other cell knows whom it is dialled by, within the time that it may take to."""
    for _look in range(int(_PATIENCE / _PAUSE)):
        time.sleep(_PAUSE)
        if tunnel.is_up():
            return True
    return False


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Let one run at a time redeem an invitation, and no repair take its tunnel for that of one that was killed."""
    with store.lock(name=LOCK):
        with store.lock():  # a repair that has seen this one free has ended by now
            pass
        yield


def redeem(context: Context, name: str, given: Mapping[str, Any]) -> None:
    """Let another cell know who this one is, as its invitation allows. Raises NotRedeemed and BadInput.

    given: preshared_key, the invitation's secret; of the other cell its public_key, endpoint and api_url; source, the address to redeem it from;
    endpoint_port, at which it dials this cell, None for the link's own port.
    """
    host, secret, other = context.host, check_preshared_key(f"preshared_key of link {name!r}", given["preshared_key"]), given["public_key"]
    check_public_key(f"public_key of link {name!r}", other)
    url = check_api_url(f"api_url of link {name!r}", given["api_url"])
    endpoint = wireguard.resolve(host, given["endpoint"])
    if endpoint is None:
        raise NotRedeemed(f"The endpoint {given['endpoint']!r} of cell {name!r} does not resolve. Run this again when it does.")
    brought = str(invitations.waiting(host, context.store.path, name, context.now))
    source = str(parse_address(given["source"], f"source of link {name!r}"))
    once, own = claims.one_time_key(secret), str(context.identity.private)
    body = claims.render_claim(own_side(context, name, given["endpoint_port"]), brought)
    ends = secret, public_key_of(host, once), other
    push = sync.claim_push(url, (source,), PAIRING, body, ends)
    peer = WgPeer(other, host_networks([str(urlsplit(url).hostname)]), endpoint, _KEEPALIVE, secret)
    with alone(context.store), Tunnel(host) as tunnel:
        for attempt in range(_ATTEMPTS):
            tunnel.be(once, source, peer)
            answer = tunnel.send(push)
            # At first it is the answer to an earlier run, if there was one.
            if answer and answer["status"] not in _LATER and (attempt or answer["status"] != CONFLICT):
                raise NotRedeemed(f"Cell {name!r} refuses this invitation: {str(answer['reason']).rstrip('.')}. Correct that, or ask its owner for a new one.")
            tunnel.be(own, source, replace(peer, preshared_key=brought))
            if _answers(tunnel):
                return
    raise NotRedeemed(
        f"Cell {name!r} does not answer at {given['endpoint']} to this invitation: it was redeemed by somebody else, is over or was withdrawn, or that cell "
        "cannot be reached. Run this again when it can be, or ask its owner to unlink this cell and to send a new invitation."
    )
