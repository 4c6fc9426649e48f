# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peer-sync over the tunnel, root's side: take over what the receiver hands over, and tell others what they do not know yet."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from ..base.command import Draft, Host
from ..base.errors import BadInput, StoreError
from ..cell import WAY, plan_step
from ..kernel.plan import apply
from ..parts import claims, sync
from ..parts.inputs import Inputs
from ..parts.part import Context
from ..parts.peer_sync import CONFLICT, FORBIDDEN, MALFORMED, OK, UNKNOWN, Push, answer_to_older, parse_push
from ..parts.units import SERVE
from ..records.model import Link, State
from ..records.store import Store
from .claiming import take_claims
from .restore import Restored, restore
from .spool import FOLDER, take
from .transport import send_all

SPOOL = FOLDER
_ROUNDS = 2  # a wish that is refused, or a later generation that is known there, is answered by one more push
_ASKED = 3  # times that networks are told at once: what was handed over is judged a moment later
_PATIENCE = 8.0  # seconds in which cells are told under the lock; others wait 30 s for it
_PAUSE = 2.0  # seconds before the second attempt, doubled for each further one

Send = Callable[[Mapping[str, Push]], dict[str, Any]]
Log = Callable[[str], None]


def take_in(host: Host, path: str, spool: str = SPOOL, log: Log = lambda _line: None) -> Restored:
    """Take over what waits in the spool, and carry out what follows from it: relays, offers and exits of devices.

    What the receiver has judged is judged again: it is not trusted. path: the folder with the records. log: is told each change.
    """
    with Store(host, path).lock(create=False):
        context = Context(host, Store(host, path))
        taken = take(host, spool, context.stored.links, log)
        if taken.too_many:
            _stop_receiver(host, spool, log)
        try:
            plan, _facts = context.plan(sync.DELIVER, Inputs(deliveries=taken.pushes))
            apply(host, plan)
            plan.extend(take_claims(host, path, taken.claims, log))
        finally:  # whatever is in it, it would be found again and again
            for name in taken.names:
                host.remove_foreign(f"{spool}/{name}")
    for line in plan.summed_up():
        log(line)
    return restore(host, path, log=log) if plan else Restored()


def _stop_receiver(host: Host, spool: str, log: Log) -> None:
    """Stop a receiver that fills its folder faster than any linked cell can make it: it is somebody else's program by then."""
    if host.exists("/run/systemd/system"):
        host.run(["systemctl", "stop", SERVE])
    log(f"{spool} holds more entries than linked cells can have sent. {SERVE} is stopped. See why with: journalctl -u {SERVE}")


def push(host: Host, context: Context, send: Send | None = None) -> dict[str, Any]:
    """Tell the linked cells over the tunnel what they are not told yet, under the caller's lock. Returns the answers by cell."""
    answers: dict[str, Any] = {}
    for _round in range(_ROUNDS):
        pushes = _due(host, context)
        if not pushes:
            break
        heard = _sent(pushes, send or send_all)
        answers.update(heard)
        context = context.on(host)
        _note(host, context, heard)
        context = context.on(host)
        if not any(heard.values()):
            break
    return answers


def announce(
    host: Host,
    path: str,
    what: Sequence[str] = (claims.DIALLED, claims.PLACED),
    send: Send | None = None,
    lock: Callable[[], AbstractContextManager[None]] | None = None,
) -> list[str]:
    """Tell the linked cells where this one is dialled and which networks it has, where they do not know yet. Returns a sentence for each that was not told.

    path: the folder with the records. what: of the two, each of which is judged by itself, so that neither holds up the other. lock: what keeps others from
    the records, which it does not while the other cells are waited for; None where the caller does: then these are not waited for as long as they like.
    """
    # Of an endpoint once: whatever is sent from the old port afterwards leads the other cell back to it. Whether it is known there the next replay finds out.
    until = math.inf if lock else time.monotonic() + _PATIENCE
    late = [_announce(host, path, about, until, send or send_all, lock or nullcontext) for about in what]
    return [line for lines in late for _name, line in sorted(lines.items())]


def _announce(host: Host, path: str, about: str, until: float, send: Send, lock: Callable[[], AbstractContextManager[None]]) -> dict[str, str]:
    """Tell cells one thing, and those that have it only handed over once more after a pause, by when their root has judged it. until: when nothing is begun."""
    late: dict[str, str] = {}
    due: Collection[str] | None = None
    for number in range(1 if about == claims.DIALLED else _ASKED):
        if number and time.monotonic() > until:
            break
        with lock():
            pushes = {name: tries for name, tries in sync.announcements(Context(host, Store(host, path)), about).items() if due is None or name in due}
        if not pushes:
            break
        if number:
            time.sleep(_PAUSE)
        answers = _first_heard(pushes, send, about, until)
        with lock():
            context = Context(host, Store(host, path))
            # What another run has changed meanwhile is still to be told.
            now = sync.announcements(context, about)
            answers = {name: answer for name, answer in answers.items() if name in now and now[name][0].body == pushes[name][0].body}
            late.update(_note_announced(host, context, about, answers))
        due = [name for name, answer in answers.items() if answer and (answer["status"] == OK or answer["generation"]) and not answer.get("ignored")]
    return {name: line for name, line in late.items() if line}


def _first_heard(pushes: Mapping[str, Sequence[Push]], send: Send, about: str, until: float) -> dict[str, Any]:
    """Send what is told by one address after the other until a cell knows the sender. Returns the last answer of each, with the address that it came to."""
    answers: dict[str, Any] = {}
    for attempt in range(max(map(len, pushes.values()))):
        if attempt and time.monotonic() > until:
            break
        due = {name: tries[attempt] for name, tries in pushes.items() if attempt < len(tries) and not _knows_the_sender(answers.get(name))}
        heard = dict(send(due)) if due else {}
        if attempt and about == claims.PLACED:
            # Whoever is reached by an old address does not know the new ones, whatever the receiver says: root lets in nothing else once it has them.
            heard = {name: answer and {key: answer[key] for key in answer if key != "ignored"} for name, answer in heard.items()}
        answers.update({name: answer and {**answer, "source": due[name].sources[0]} for name, answer in heard.items()})
    return answers


def _knows_the_sender(answer: Mapping[str, Any] | None) -> bool:
    return answer is not None and answer["status"] != FORBIDDEN


def _note_announced(host: Host, context: Context, about: str, answers: Mapping[str, Any]) -> dict[str, str]:
    """Note who knows what it was told. Returns a sentence for each that does not, an empty one where it has it."""
    before = context.stored
    plan, _facts = context.plan(sync.ANNOUNCED, Inputs(answers={name: answer and {**answer, "about": about} for name, answer in answers.items()}))
    apply(host, plan)
    known = [name for name, answer in answers.items() if answer and answer["status"] == OK and answer.get("ignored")]
    if known and about == claims.PLACED:
        # The addresses by which they have known this cell are of no use any more. What cannot be made anew is for restore to say: others are still to be told.
        with suppress(BadInput, StoreError):
            apply(host, plan_step(context.on(Draft(host)), WAY, Inputs(links=[{"name": name} for name in known]))[0])
    has_it = [name for name, answer in answers.items() if name in known or (about == claims.DIALLED and answer and answer["status"] == OK)]
    late = {
        name: f"Cell {name!r} does not know yet {_told(before, name, about)} ({_why(answer)}). This cell tells it again every minute. If that does not help, "
        "link it anew with an invitation."
        for name, answer in answers.items()
        if name not in has_it
    }
    return {**dict.fromkeys(has_it, ""), **late}


def _told(state: State, name: str, about: str) -> str:
    """Say what a linked cell does not know yet of this one."""
    if about == claims.PLACED:
        return f"that this one has the networks {', '.join(state.cell.own_networks())}"
    return f"that this one is dialled at {state.links[name].moved}"


def _why(answer: Mapping[str, Any] | None) -> str:
    """Say why a cell does not know what it was told."""
    if answer is None:
        return "not reached"
    return "its program is older and knows no announcements" if answer["status"] == UNKNOWN else str(answer["reason"])


def replay(host: Host, path: str, send: Send | None = None, attempts: int = 1, log: Log = lambda _line: None) -> dict[str, Any]:
    """Tell the linked cells what they are not told yet; the lock is not held while they are waited for. Returns the last answers by cell.

    attempts: how often the cells that are not reached are tried, with growing pauses of no fixed length.
    """
    answers: dict[str, Any] = {}
    for line in announce(host, path, send=send, lock=lambda: Store(host, path).lock(create=False)):
        log(line)
    tried = rounds = 0
    while tried < attempts:
        with Store(host, path).lock(create=False):
            context = Context(host, Store(host, path))
            known = {name: link.remote_generation for name, link in context.stored.links.items()}
            pushes = _due(host, context)
        if not pushes:
            break
        heard = _sent(pushes, send or send_all)
        with Store(host, path).lock(create=False):
            context = Context(host, Store(host, path))
            links = context.stored.links
            _note(host, context, {name: _marked(answer, known[name], links[name]) for name, answer in heard.items() if name in links})
        answers.update(heard)
        for name, answer in sorted(heard.items()):
            log(f"cell {name}: {'not reached' if answer is None else answer['reason']}")
        if any(answer and answer["status"] == CONFLICT for answer in heard.values()):
            restore(host, path, log=log)  # an exit that is not offered any more is none
        if any(heard.values()) and rounds < _ROUNDS:
            rounds += 1
            continue
        tried += 1
        if tried < attempts:
            time.sleep(_PAUSE * 2 ** (tried - 1) * random.uniform(0.5, 1.5))
    return answers


def _due(host: Host, context: Context) -> dict[str, Push]:
    """Build what is new, and return what is to be sent."""
    plan, facts = context.plan(sync.TELL, Inputs())
    apply(host, plan)
    return sync.pushes(context, facts["payloads"])


def _sent(pushes: Mapping[str, Push], send: Send) -> dict[str, Any]:
    """Send pushes. Where an older program refuses one for what it does not know, all else is told at once: it may be a revocation."""
    heard = dict(send(pushes))
    refused = {name: pushes[name].older for name, answer in heard.items() if answer and answer["status"] == MALFORMED}
    older = {name: push for name, push in refused.items() if push}
    for name, answer in (send(older) if older else {}).items():
        heard[name] = answer_to_older(parse_push(older[name].body)["generation"], answer)
    return heard


def _marked(answer: Mapping[str, Any] | None, known: int, link: Link) -> Mapping[str, Any] | None:
    """Return an answer that says whether the other cell has been heard while it was waited for. known: its generation before."""
    return answer and {**answer, "overtaken": link.remote_generation != known}


def _note(host: Host, context: Context, answers: Mapping[str, Any]) -> None:
    plan, _facts = context.plan(sync.NOTE, Inputs(answers=answers))
    apply(host, plan)
