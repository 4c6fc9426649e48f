# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What linked cells tell each other: each builds its messages (tell), takes over those of others (hear), and notes how its own have ended (note).

Owns of each link the generation of what is told, what the other cell has said of itself, and how the last push has ended. Adds nothing to the host:
rules and routes follow from these records. Comes before them in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Optional

from ..base.errors import BadInput
from ..base.networks import interface_of
from ..kernel.plan import Plan
from ..records.model import LAST, Cell, Link
from ..records.ownership import Fields
from . import claims, merge, peer_sync, signing
from .inputs import Args
from .part import Context, Part, Planned
from .peer_sync import Push

Ends = tuple[Optional[str], str, str]  # the preshared key of a link, and the public keys of who sends and who answers


def plan_messages(context: Context) -> Planned:
    """Plan what the linked cells are to be told. Returns plan and {payloads: {link: message}}."""
    before, payloads, lines, used = context.before, {}, [], context.wanted.exits_in_use()
    for name, link in sorted(context.wanted.links.items()):
        if link.pending or link.provided or link.invited:
            continue
        payloads[name] = peer_sync.payload(context.wanted, name, context.identity.public, used)
        peer_sync.mint(link, payloads[name])
        if link != before.links.get(name):
            lines.append(f"cell {name} is to be told: {_payload_words(payloads[name])}")
    plan = context.write_records()
    plan.describe([], lines)
    return plan, {"payloads": payloads}


def plan_receipt(context: Context) -> Planned:
    """Plan to take over what linked cells say. Returns plan and {answers: {link: {status, applied, generation, reason}}}."""
    heard, warnings = [], []
    for message in context.inputs.received:
        try:
            heard.append((peer_sync.check_payload(dict(message)), peer_sync.Evidence("delegate")))
        except BadInput as error:  # what one cell says is no reason not to hear the others
            warnings.append(f"What cell {str(message.get('from_cell'))[:32]!r} says was rejected. {error}")
    plan, facts = _plan_heard(context, heard)
    plan.warnings += warnings
    return plan, facts


def plan_deliveries(context: Context) -> Planned:
    """Plan to take over what the receiver has handed over, judged anew. Returns plan and answers as plan_receipt does."""
    secrets, heard = context.preshared_keys(), []
    for delivery in context.inputs.deliveries:
        try:
            message = peer_sync.parse_push(delivery.body)
        except BadInput:
            continue
        link = context.stored.links.get(message["from_cell"])
        if link is not None:
            # By the key of the record: the one in the message can be any text.
            key = signing.push_key(secrets.get(link.name), str(link.public_key), context.identity.public)
            mac_ok = signing.check_push(key, delivery.body, delivery.signature)
            heard.append((message, peer_sync.Evidence("tunnel", delivery.interface, delivery.source, mac_ok)))
    return _plan_heard(context, sorted(heard, key=lambda item: int(item[0]["generation"])))


def plan_answers(context: Context) -> Planned:
    """Plan to note how pushes ended."""
    plan, links = Plan(), context.wanted.links
    for name, answer in sorted(context.inputs.answers.items()):
        if name in links:
            before = _push_words(links[name])
            peer_sync.acknowledge(links[name], peer_sync.check_answer(answer), context.timestamp())
            plan.describe(before, _push_words(links[name]))
    plan.extend(context.write_records())
    return plan, {}


def pushes(context: Context, payloads: Mapping[str, Args]) -> dict[str, Push]:
    """Return what is to be sent to the cells that are not told yet. payloads: as plan_messages has returned them."""
    secrets, found = context.preshared_keys(), {}
    for name, message in payloads.items():
        link = context.wanted.links[name]
        if link.pending_push and link.remote_api_url and link.interface:
            ends = secrets.get(name), context.identity.public, str(link.public_key)
            found[name] = _push(context, link, message, ends)
            older = peer_sync.without_resolvers(message)
            if older:
                found[name] = replace(found[name], older=_push(context, link, older, ends))
    return found


def announcements(context: Context, about: str) -> dict[str, list[Push]]:
    """Return what is to be sent to the cells that do not know yet where this one is dialled, or which networks it has.

    about: one of the two, as in claims. To each cell by one address after the other, first by the cell's own: who answers there knows them already.
    """
    cell, links = context.stored.cell, context.stored.links
    late = {name: link for name, link in links.items() if (link.moved if about == claims.DIALLED else link.known_as) and link.remote_api_url}
    secrets, found = context.preshared_keys() if late else {}, {}
    for name, link in late.items():
        observed = context.observed.wireguard.get(str(link.interface))
        # The addresses that the tunnel has, whatever the records say that it will have.
        there = [str(interface_of(address).ip) for address in observed.addresses] if observed else []
        if not secrets.get(name) or (about == claims.PLACED and not set(cell.own_addresses()) <= set(there)):
            continue  # who takes the networks over at once has to find this cell there
        own = [address for address in cell.own_addresses() if address in there] or there
        tries = [own, *([address] for address in (*link.known_as[:1], *link.known_as[:0:-1]) if address in there)]
        body = claims.render_announcement(_announced(cell, link, about))
        ends = secrets[name], context.identity.public, str(link.public_key)
        found[name] = [claim_push(str(link.remote_api_url), tuple(sources), str(link.interface), body, ends) for sources in tries if sources]
    return {name: pushes for name, pushes in found.items() if pushes}


def _announced(cell: Cell, link: Link, about: str) -> dict[str, Any]:
    """Return what a linked cell is told of this one, with a count by which it knows the last from all before."""
    said: dict[str, Any] = {"name": cell.name, "count": link.told or 1}
    if about == claims.DIALLED:
        return {**said, "endpoint": link.moved}
    address = cell.own_addresses()
    return {**said, "networks": cell.own_networks(), "address": address, "api_url": merge.api_url(address, cell.sync_port)}


def claim_push(url: str, sources: tuple[str, ...], device: str, body: bytes, ends: Ends) -> Push:
    """Return what brings a claim to another cell."""
    return _signed(url, sources, device, body, ends, signing.claim_key, claims.PATH)


def _plan_announced(context: Context) -> Planned:
    """Plan to note who knows by now what it was told: an answer that it was heard says nothing of what becomes of it there."""
    for name, answer in context.inputs.answers.items():
        link = context.wanted.links.get(name)
        if not link or not answer:
            continue
        if answer["status"] != peer_sync.FORBIDDEN and answer["source"] in link.known_as:
            # Pushes go by the first one.
            link.known_as = [answer["source"], *(address for address in link.known_as if address != answer["source"])]
        if answer["status"] == peer_sync.OK and answer.get("ignored"):
            link.moved, link.known_as = (None, link.known_as) if answer["about"] == claims.DIALLED else (link.moved, [])
        elif answer["status"] == peer_sync.CONFLICT and link.told <= answer["generation"] <= link.told + peer_sync.AHEAD:
            # A later one is known there, as where this cell's records were brought back from a backup.
            link.told = min(answer["generation"] + 1, LAST)
    return context.write_records(), {}


def _push(context: Context, link: Link, message: Mapping[str, Any], ends: Ends) -> Push:
    """Return one push to a cell."""
    sources = (*link.known_as, *context.wanted.cell.own_addresses())
    return _signed(str(link.remote_api_url), sources, str(link.interface), peer_sync.render_push(message), ends, signing.push_key, peer_sync.PATH)


def _signed(url: str, sources: tuple[str, ...], device: str, body: bytes, ends: Ends, key_of: Callable[..., str | None], path: str) -> Push:
    key = key_of(*ends)
    return Push(url, sources, device, body, signing.sign_push(key, body) if key else None, signing.answer_key(*ends), path=path)


def _plan_heard(context: Context, heard: Iterable[tuple[Mapping[str, Any], peer_sync.Evidence]]) -> Planned:
    plan, answers, links = Plan(), {}, context.wanted.links
    for message, evidence in heard:
        name = message["from_cell"]
        verdict = peer_sync.judge(links.get(name), message, evidence)
        if verdict.accepted:
            before = _said_words(links[name])
            peer_sync.take_over(links[name], message, verdict, context.timestamp())
            plan.describe(before, _said_words(links[name]))
        generation = peer_sync.known(links[name]) if name in links else 0
        answers[name] = {"status": verdict.status, "applied": verdict.accepted, "generation": generation, "reason": verdict.reason}
        if verdict.status != peer_sync.OK:
            plan.warnings.append(f"A push of cell {name!r} was answered {verdict.status}: {verdict.reason}.")
    plan.extend(context.write_records())
    return plan, {"answers": answers}


def _payload_words(message: Mapping[str, Any]) -> str:
    shares = ", ".join(sorted(message["permissions"]["outbound"])) or "nothing"
    offer = "offers an exit" if message["exit_offered"] else "offers no exit"
    offer += f" with the resolver {', '.join(message[peer_sync.RESOLVERS])}" if peer_sync.RESOLVERS in message else ""
    wish = "uses its exit" if message["use_as_exit_relay"] else "does not use its exit"
    return f"shares {shares}; {offer}; {wish}"


def _push_words(link: Link) -> list[str]:
    return [f"cell {link.name}: {'not told yet' if link.pending_push else 'told'}"]


def _said_words(link: Link) -> list[str]:
    shares = ", ".join(sorted(name for name, allowed in link.permissions["outbound"].items() if allowed)) or "nothing"
    resolvers = f" with the resolver {', '.join(link.remote_resolvers)}" if link.remote_resolvers else ""
    offer = f", offers an exit{resolvers}" if link.remote_exit_offered else ""
    relay = ", uses this cell as an exit" if link.remote_exit_relay_active else ""
    return [f"cell {link.name}: shares {shares} with this cell{offer}{relay}"]


# A cell tells, and judges by, what the whole run leads to, though other parts write it.
TELL = Part(
    "tell",
    plan_messages,
    owns=Fields(links=("generation", "minted", "pending_push")),
    merges=(merge.merge_cell, merge.merge_links, merge.merge_rights, merge.merge_offers, merge.merge_routes),
)
HEAR = Part(
    "hear",
    plan_receipt,
    owns=Fields(
        links=(
            *("permissions.outbound", "remote_exit_offered", "remote_resolvers"),
            *("remote_exit_relay_active", "last_remote_update_at", "remote_generation"),
        )
    ),
    merges=(merge.merge_cell, merge.merge_links, merge.merge_rights),
)
DELIVER = Part("deliver", plan_deliveries, owns=HEAR.owns)
ANNOUNCED = Part("announced", _plan_announced, owns=Fields(links=("moved", "known_as", "told")))
NOTE = Part(
    "note",
    plan_answers,
    owns=Fields(links=("generation", "minted", "pending_push", "last_push_status", "last_push_at", "last_push_error", "remote_exit_offered")),
    merges=(merge.merge_cell,),
)
