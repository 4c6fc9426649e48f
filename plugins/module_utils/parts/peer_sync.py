# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peer-sync: what one cell tells another, who may say it, and the only things that it can change. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..base.errors import BadInput
from ..base.names import check_name
from ..base.networks import address_of
from ..base.texts import printable
from ..records.model import LAST, Cell, Link, State

OK, MALFORMED, FORBIDDEN, UNKNOWN, CONFLICT = 200, 400, 403, 404, 409
PATH = "/api/cells/peer-sync/permissions"
EXIT_PATH = "/api/cells/peer-sync/exit"
SIGNATURE = "X-Pic-Cells-Signature"
BODY_LIMIT = 64 * 1024  # bytes
MOST_SERVICES = 256  # that one cell shares with another: each is a line of the journal and of a report, and all of them fit into BODY_LIMIT
AHEAD = 2**32  # generations that a push may be ahead of what is known: one a second, unheard for 136 years
HMAC, ADDRESS = "hmac", "address"  # what a link's sync_auth can be
_FIELDS = {"from_cell": str, "from_public_key": str, "generation": int, "permissions": dict, "exit_offered": bool, "use_as_exit_relay": bool}
RESOLVERS = "resolvers"  # the one field that a message can lack: cells before it refuse a message that has it, and so it goes out without it once more
_LEFT_OUT = "its program is older and knows no resolvers of exits; it was told all else"


@dataclass(frozen=True)
class Push:
    """One push: where to, from where, and what. signature, answer_key: None where the link has no key. older: the same for a cell that refuses this one."""

    url: str
    sources: tuple[str, ...]
    device: str
    body: bytes
    signature: str | None = None
    answer_key: str | None = field(default=None, repr=False)
    older: Push | None = None
    path: str = PATH


@dataclass(frozen=True)
class Evidence:
    """How a push arrived. On the delegate channel Ansible's own authority stands for interface, source and signature.

    mac_ok: None where the link has no key to sign with.
    """

    channel: str
    interface: str | None = None
    source: str | None = None
    mac_ok: bool | None = False


@dataclass(frozen=True)
class Verdict:
    """The answer to a push, and whether its content may be taken over."""

    status: int
    reason: str
    accepted: bool = False
    relay: bool = False


def api_port(cell: Cell, link: Link) -> int:
    """Return the port of the other cell's peer-sync API, as a push finds it: that of its URL, else our own default."""
    return (urlsplit(link.remote_api_url).port or 80) if link.remote_api_url else cell.sync_port


def payload(state: State, name: str, public_key: str, used: Collection[str]) -> dict[str, Any]:
    """Return what this cell tells another: what it shares, whether it offers an exit, with which resolver, whether it asks for one. used: exits in use."""
    link = state.links[name]
    resolvers = {RESOLVERS: list(state.cell.resolver)} if link.exit_offered and state.cell.resolver else {}
    return {
        "from_cell": state.cell.name,
        "from_public_key": public_key,
        "generation": state.links[name].generation,
        "permissions": {"outbound": dict.fromkeys(link.shares, True)},
        "exit_offered": link.exit_offered,
        "use_as_exit_relay": name in used,
        **resolvers,
    }


def without_resolvers(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a payload as cells took it before there were resolvers in it; None where it has none."""
    return {key: message[key] for key in _FIELDS} if RESOLVERS in message else None


def answer_to_older(message_generation: int, answer: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return how a push ended that went out once more without its resolvers: what was left out is still to be told."""
    if answer is None or answer["status"] != OK or answer["generation"] != message_generation:
        return answer
    return {"status": MALFORMED, "generation": 0, "reason": _LEFT_OUT}


def render_push(message: Mapping[str, Any]) -> bytes:
    """Turn a payload into the body of a push (inverse of parse_push)."""
    return json.dumps(message, sort_keys=True).encode()


def parse_push(body: bytes) -> dict[str, Any]:
    """Read the body of a push; raise BadInput for whatever is no payload."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise BadInput("The body of the push is not JSON. Send a payload built by pic_peer_sync.") from None
    return check_payload(message)


def digest(message: Mapping[str, Any]) -> str:
    """Return a fingerprint of a payload's content; the generation does not count."""
    content = {key: value for key, value in message.items() if key != "generation"}  # one without resolvers has that of before: an upgrade tells nothing anew
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def check_answer(answer: object) -> dict[str, Any] | None:
    """Return what an answer to a push says as far as it is one, whoever carried it; None for whatever is none."""
    if not isinstance(answer, dict):
        return None
    status, generation, reason = (answer.get(key) for key in ("status", "generation", "reason"))
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status < 600:
        return None
    counted = isinstance(generation, int) and not isinstance(generation, bool) and 0 <= generation <= LAST
    found = {"status": status, "generation": generation if counted else 0, "reason": printable(reason)[:200] if isinstance(reason, str) else f"status {status}"}
    return {**found, **{key: True for key in ("ignored", "overtaken") if answer.get(key) is True}}


def check_payload(message: object) -> dict[str, Any]:
    """Return a payload of the right shape; raise BadInput for missing, unknown or ill-typed fields."""
    if not isinstance(message, dict) or set(message) - {RESOLVERS} != set(_FIELDS):
        raise BadInput(
            f"A peer-sync payload has to be an object with exactly the fields {', '.join(_FIELDS)}, and perhaps {RESOLVERS}. Send one built by pic_peer_sync."
        )
    for key, kind in _FIELDS.items():
        if not isinstance(message[key], kind) or (kind is int and isinstance(message[key], bool)):
            raise BadInput(f"The peer-sync field {key} is not of type {kind.__name__}. Send a payload built by pic_peer_sync.")
    outbound = message["permissions"].get("outbound")
    if set(message["permissions"]) != {"outbound"} or not isinstance(outbound, dict) or not all(isinstance(v, bool) for v in outbound.values()):
        raise BadInput("The peer-sync field permissions may hold only 'outbound', an object of service names and booleans.")
    if len(outbound) > MOST_SERVICES:
        raise BadInput(f"The peer-sync field permissions names {len(outbound)} services, but {MOST_SERVICES} is the limit.")
    for service in outbound:
        check_name("Service", service)
    _check_resolvers(message.get(RESOLVERS, []))
    check_name("Cell", message["from_cell"])
    if not 0 < message["generation"] <= LAST:
        raise BadInput(f"The peer-sync field generation has to be a number from 1 to {LAST}. Send a payload built by pic_peer_sync.")
    return message


def _check_resolvers(resolvers: object) -> None:
    try:
        addresses = [address_of(text) for text in resolvers] if isinstance(resolvers, list) else [None]
    except (TypeError, ValueError):
        addresses = [None]
    if None in addresses or [str(address) for address in addresses] != resolvers or len({address.version for address in addresses if address}) < len(addresses):
        raise BadInput(f"The peer-sync field {RESOLVERS} has to be a list of one IPv4 and one IPv6 address at most. Send a payload built by pic_peer_sync.")


def judge(link: Link | None, message: Mapping[str, Any], evidence: Evidence) -> Verdict:
    """Decide on a well-formed push; link is the receiver's record of the sender, None where it has none."""
    if link is None or link.invited or not link.public_key or message["from_public_key"] != link.public_key:
        return Verdict(FORBIDDEN, "the sender is not the linked cell that it claims to be")
    if evidence.channel != "delegate" and not (
        (evidence.mac_ok or (evidence.mac_ok is None and link.sync_auth == ADDRESS))
        and evidence.interface == link.interface
        and evidence.source is not None
        and evidence.source in link.address
    ):
        return Verdict(FORBIDDEN, "the sender is not the linked cell that it claims to be")
    if message["generation"] <= known(link):
        return Verdict(OK, "not newer than the known generation")
    if message["generation"] - known(link) > AHEAD:
        # Taken over, it would make all that this cell says later count as old. The sender goes on from what it is told is known.
        return Verdict(OK, "too far ahead of the known generation")
    if message["use_as_exit_relay"] and not link.exit_offered:
        return Verdict(CONFLICT, "no exit is offered to this cell; everything else was accepted", accepted=True)
    return Verdict(OK, "taken over", accepted=True, relay=message["use_as_exit_relay"])


def known(link: Link) -> int:
    """Return the generation of the other cell's that counts as known here."""
    return link.remote_generation if link.remote_generation < LAST else 0


def take_over(link: Link, message: Mapping[str, Any], verdict: Verdict, now: str) -> None:
    """Change the receiver's view of the sender, and nothing else."""
    if not verdict.accepted:
        return
    link.permissions = {"inbound": link.permissions["inbound"], "outbound": dict(message["permissions"]["outbound"])}
    link.remote_exit_offered = message["exit_offered"]
    link.remote_exit_relay_active = verdict.relay
    if message["exit_offered"]:
        # One that is not offered any more stays known: what devices ask by DNS goes on to be closed as all else is.
        link.remote_resolvers = list(message.get(RESOLVERS, []))
    link.last_remote_update_at = now
    link.remote_generation = message["generation"]


def mint(link: Link, message: dict[str, Any]) -> None:
    """Give a payload its generation: the current one, or a new one where its content is new."""
    content = digest(message)
    if link.minted != content or link.generation >= LAST:
        # Anew from where nobody has begun: the first ones can be known over there, as something else.
        link.generation = link.generation + 1 if link.generation < LAST else 1 + int(content[:7], 16)
        link.minted = content
        link.pending_push = True
    message["generation"] = link.generation


def acknowledge(link: Link, answer: Mapping[str, Any] | None, now: str) -> None:
    """Write down how a push ended.

    answer: {status, generation, reason} of the receiver, None where it was not reached; overtaken, where the other cell has been
    heard since the push was sent; ignored, where the tunnel brought it and it was not new. A push that fails again in the same way changes nothing.
    """
    if answer is not None and answer["status"] == OK and answer["generation"] < link.generation and not link.pending_push:
        return  # While this answer was on its way the cell has said something later by itself, and that was acknowledged.
    status = None if answer is None else int(answer["status"])
    error = "not reached" if answer is None else None if status == OK else str(answer["reason"])
    stored = answer is not None and status in (OK, CONFLICT) and answer["generation"] == link.generation
    was = (link.pending_push, link.last_push_status, link.last_push_error)
    link.pending_push = not stored or status == CONFLICT
    if stored and status == OK and was[0] and answer is not None and (answer.get("ignored") or was[1] == MALFORMED):
        # An earlier answer was lost, or the generation was once given to something else (the record was lost; an older program took what was without
        # resolvers): nobody can tell, so it is said anew.
        link.pending_push, link.minted, error = True, None, "the other cell knows this generation already"
    if answer is not None and status == OK and answer["generation"] > link.generation:
        # The other side knows a later one of ours (this cell was reinstalled): continue from there.
        if answer["generation"] < LAST:
            link.generation, link.minted, error = answer["generation"], None, "the other cell knows a later generation"
        else:
            error = "the other cell knows a generation that no cell reaches"
    if answer is not None and status == OK and link.generation - answer["generation"] > AHEAD:
        link.generation, link.minted, error = answer["generation"], None, "the other cell knows only far earlier generations"
    if status == CONFLICT and answer is not None and answer.get("overtaken"):
        link.minted = None  # what it offers now is in the record, and the wish that it has refused is said anew
    elif status == CONFLICT:
        link.remote_exit_offered = False
    if was != (link.pending_push, status, error):
        link.last_push_status, link.last_push_error, link.last_push_at = status, error, now
