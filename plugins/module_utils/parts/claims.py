# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairing: how the owner of another cell redeems an invitation through the tunnel, and what that can make of a link. Pure.

The secret of an invitation leads to a key pair, and is the preshared key of a link that stands until the other cell has said by it who it is (its claim).
Whoever comes by that link reaches the port of peer-sync alone, with one address that is used nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..base import names, wgkeys
from ..base.errors import BadInput
from ..base.networks import address_of, check_api_url, check_link_networks, is_inside, network_of, outside, parse_address, parse_network
from ..records.model import LAST, Link
from .visible import Delivery

PATH = "/api/cells/peer-sync/pairing"
# The range for benchmarks (RFC 2544, section C.2.2) is routed nowhere, and no cloud serves its machines there, as in 169.254.0.0/16; of IPv6 it is a unique
# local network. Which address it is follows from the name of the link.
TEMPORARY = {4: "198.18.0.0/15", 6: "fd70:6963:6365:6c6c::/64"}
MOST_NETWORKS = 8
WIDEST = {4: 16, 6: 48}  # that another owner may claim; nobody looks at it before it counts
TAKEN_OVER = "taken over"
HANDED_OVER = "handed over"  # the answer to a claim that root has not judged yet
WAITS = "its owner has to agree to these networks, and reads in pic-cell status how"
OUTDATED = "something else has been announced since"
DIALLED, PLACED = "endpoint", "networks"  # what an announcement can be about, each judged by itself
LONGEST = 400  # letters of the reason why a claim is refused
_TEMPORARIES = 2**16
_USE = b"pic.cells invitation key"
_FIELDS = ("name", "public_key", "networks", "address", "endpoint", "api_url", "preshared_key")
_MAY_LACK = ("endpoint", "api_url")
_ANNOUNCED = {DIALLED: ("name", "count", "endpoint"), PLACED: ("name", "count", "networks", "address", "api_url")}


def one_time_key(secret: str) -> str:
    """Return the private key that an invitation's secret leads to. secret: 32 bytes in base64."""
    return wgkeys.clamped(base64.b64encode(hmac.new(base64.b64decode(secret), _USE, hashlib.sha256).digest()).decode())


def temporary_address(name: str, family: int, taken: Collection[str]) -> str:
    """Return the address that the other cell has while it redeems an invitation. name: the other cell's. taken: those of other invitations."""
    first = network_of(TEMPORARY[family]).network_address + zlib.crc32(name.encode()) % _TEMPORARIES
    found = (str(first + more) for more in range(_TEMPORARIES))
    return next(address for address in found if address not in taken)


def render_claim(said: dict[str, Any], preshared_key: str) -> bytes:
    """Return what a cell says of itself when it redeems an invitation (inverse of parse_claim). said: as plan_invitation has it."""
    return json.dumps({**{key: said.get(key) for key in _FIELDS}, "preshared_key": preshared_key}, sort_keys=True).encode()


def parse_claim(body: bytes) -> dict[str, Any]:
    """Read a claim, within what another owner may claim at all. Raises BadInput, with nothing secret in the text."""
    said = _read(body, _FIELDS)
    if said is None:
        raise BadInput(f"A claim has to be an object with exactly the fields {', '.join(_FIELDS)}.")
    claim = {key: value for key, value in said.items() if value is not None or key not in _MAY_LACK}
    where = f"the claim of {names.check_name('Cell', claim['name'])!r}"
    wgkeys.check_public_key(f"public_key of {where}", claim["public_key"])
    wgkeys.check_preshared_key(where, claim["preshared_key"] if isinstance(claim["preshared_key"], str) else "")
    return _placed(where, claim)


def _placed(where: str, claim: dict[str, Any]) -> dict[str, Any]:
    """Judge where a cell says that it is, and return it as the records have it. where: what the claim is called in a sentence."""
    for key, read in (("networks", parse_network), ("address", parse_address)):
        if key not in claim:
            continue
        values = claim[key]
        if not isinstance(values, list) or not values or len(values) > MOST_NETWORKS:
            raise BadInput(f"{key} of {where} has to be a list of 1 to {MOST_NETWORKS}.")
        claim[key] = [str(read(value if isinstance(value, str) else repr(value)[:64], f"{key} of {where}")) for value in values]
    if "endpoint" in claim:
        wgkeys.check_endpoint(where, claim["endpoint"])
    if "api_url" in claim and str(address_of(str(urlsplit(check_api_url(f"api_url of {where}", claim["api_url"])).hostname))) not in claim["address"]:
        raise BadInput(f"api_url of {where}: {claim['api_url']} is at none of its addresses {', '.join(claim['address'])}.")
    return claim


def _read(body: bytes, *kinds: Collection[str]) -> dict[str, Any] | None:
    """Return an object with just the fields of one of these kinds; None for whatever is none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and set(content) in map(set, kinds) else None


def render_announcement(said: dict[str, Any]) -> bytes:
    """Return what a cell announces of itself (inverse of parse_announcement)."""
    return json.dumps(said, sort_keys=True).encode()


def parse_announcement(body: bytes, link: Link) -> dict[str, Any]:
    """Read where a linked cell is dialled from now on, or which networks it has; nothing else of a link follows from what it announces. Raises BadInput."""
    content = _read(body, *_ANNOUNCED.values())
    if content is None or content["name"] != link.name:
        kinds = " or ".join(", ".join(fields) for fields in _ANNOUNCED.values())
        raise BadInput(f"An announcement of {link.name!r} has to be an object with exactly the fields {kinds}.")
    where = f"the announcement of {link.name!r}"
    count = content["count"]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= LAST:
        raise BadInput(f"count of {where} has to be a number from 1 to {LAST}.")
    return _placed(where, content)


def about(said: Mapping[str, Any]) -> str:
    """Return what an announcement is about."""
    return PLACED if "count" in said and "networks" in said else DIALLED


def is_about_networks(body: bytes) -> bool:
    """Tell whether somebody announces networks: they wait for root apart, since neither may take the other's place."""
    return _read(body, _ANNOUNCED[PLACED]) is not None


def known_count(link: Link, said: Mapping[str, Any], mark: str) -> int:
    """Return the count that is known of what a cell announces if this announcement is older than that, or is another one with the same count; else 0.

    What was signed once can be brought again by whoever has seen it: a receiver that was taken over.
    """
    count, _space, known = link.heard.get(about(said), "0 ").partition(" ")
    old = "count" in said and (said["count"] < int(count) or (said["count"] == int(count) and mark != known))
    return int(count) if old else 0


def heard(link: Link, said: Mapping[str, Any], mark: str) -> dict[str, str]:
    """Return what counts as announced by a cell once this was judged."""
    return {**link.heard, about(said): f"{said['count']} {mark}"} if "count" in said else link.heard


def used_up(known: str) -> str:
    """Return what counts as announced where nothing with the same count is taken any more, as heard has it."""
    return f"{known.partition(' ')[0]} {'0' * 16}"


def said(link: Link, body: bytes) -> dict[str, Any]:
    """Return what a claim changes of a link, as the modules take it: all that an invitation allows, or what a linked cell announces. Raises BadInput."""
    if not link.invited:
        return parse_announcement(body, link)
    claim = parse_claim(body)
    check_claim(link, claim)
    return claim


def unagreed(asked: Iterable[str], has: Iterable[str], accepted: Iterable[str], moved: bool = True) -> bool:
    """Tell whether a linked cell may have networks only when this cell's owner agrees.

    asked: which it announces. has: which it has. accepted: which are set aside for it; without any it changes nothing by itself. moved: whether its address or
    its API is another one in these. If it gave up a family, what the owner expects could not hold any more.
    """
    asked, has, accepted = list(asked), list(has), list(accepted)
    if set(map(network_of, asked)) == set(map(network_of, has)):
        return moved and not accepted
    return not accepted or bool(outside(asked, [*has, *accepted])) or gives_up(asked, has)


def is_there(said: Mapping[str, Any], link: Link) -> bool:
    """Tell whether a link has the networks, the address and the API already that a cell announces: its owner may have stated what no cell could take."""
    has = set(map(network_of, link.networks)), set(link.address), link.remote_api_url
    return (set(map(network_of, said["networks"])), set(said["address"]), said["api_url"]) == has


def gives_up(asked: Iterable[str], has: Iterable[str]) -> bool:
    """Tell whether a linked cell gives all of its networks of a family up."""
    return not _families(has) <= _families(asked)


def _families(networks: Iterable[str]) -> set[bool]:
    return {":" in network for network in networks}


def check_claim(link: Link, claim: dict[str, Any]) -> None:
    """Refuse what another owner's cell may not claim. Raises BadInput."""
    if claim["name"] != link.name:
        raise BadInput(f"The invitation is for cell {link.name!r}, and not for {claim['name']!r}.")
    check_claimable(f"networks of {link.name!r}", claim["networks"], link.allow_public_networks)
    strange = [one for one in claim["address"] if not is_inside(one, claim["networks"])]
    if strange:
        raise BadInput(f"address {strange[0]} of {link.name!r} is in none of its networks {', '.join(claim['networks'])}.")


def check_claimable(what: str, networks: Iterable[str], public: bool) -> None:
    """Refuse networks that no other owner's cell may take by itself. what: what they are called in a sentence. public: whether it may have public ones."""
    networks = list(networks)
    check_link_networks(what, networks, public)
    for network in map(network_of, networks):
        if network.overlaps(network_of(TEMPORARY[network.version])):
            raise BadInput(f"{what}: {network} is where invitations are redeemed from. Give the cell's own networks.")
        if network.prefixlen < WIDEST[network.version]:
            raise BadInput(f"{what}: {network} is wider than /{WIDEST[network.version]}, which is the most that another owner's cell may take. Give less.")


def comes_by(link: Link, delivery: Delivery, now: str) -> bool:
    """Tell whether a claim has come by a link's tunnel from the other cell, or from whoever holds the invitation to it, in time."""
    in_time = link.invited_until is None or now < link.invited_until
    return in_time and delivery.interface == link.interface and delivery.source in link.address


def fingerprint(body: bytes) -> str:
    """Return what tells a claim from another one; it does not tell what is secret in it."""
    return hashlib.sha256(body).hexdigest()[:16]


def judged(link: Link, body: bytes) -> str | None:
    """Return why just this claim was not taken over, an empty text where it was, None where root has not judged it yet."""
    mark = fingerprint(body)
    return next((why for marked, why in filter(None, (link.refused_claim, link.judged_claim, link.judged_place)) if marked == mark), None)
