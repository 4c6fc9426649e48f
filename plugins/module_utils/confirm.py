# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the kernel sends devices where a plan that was carried out has meant them to go; where it does not, their old way is put back."""

from __future__ import annotations

from collections.abc import Iterable

from .base import destinations
from .base.command import Draft
from .base.errors import CellError
from .base.names import DIRECT
from .cell import RUN, plan_step
from .kernel.answers import Meant, differing
from .kernel.plan import Plan, apply
from .parts.inputs import Inputs
from .parts.part import Context
from .parts.units import REPLAY
from .records.model import Peer


def confirm(context: Context, plan: Plan) -> None:
    """Ask the kernel for the ways of the devices that a plan has moved. Raises CellError where it says otherwise, with their old ways put back.

    context: the cell as it was read before the plan was carried out.
    """
    found = differing(context.host, plan.meant)
    if not found:
        return
    wrong: dict[str, Meant] = {}
    for meant in found:
        wrong.setdefault(meant.who, meant)
    now = context.on(Draft(context.host))
    closed = {meant.who for meant in plan.meant if meant.closed}
    reasons = {name: _why_none(context, now, name, name in closed) for name in wrong}
    better = [context.stored.peers[name] for name, reason in reasons.items() if not reason]
    reasons.update(_put_back(context, now, better))
    name, meant = min(wrong.items())
    out = f"through {', '.join(sorted(found[meant]))}" if found[meant] else "nowhere"
    others = sorted(set(wrong) - {name})
    raise CellError(
        f"Peer {name!r} was sent {meant.words}, but the kernel sends what comes from {meant.source} {out}. {reasons[name]} "
        f"See what comes first with 'pic-cell explain {name}' and 'ip -{meant.family} rule show', take it away, and run again."
        + (f" The same was found of {', '.join(others)}, whose old way is put back where there was one." if others else "")
    )


def _why_none(before: Context, now: Context, name: str, closed: bool) -> str:
    """Say why a device's old way is not put back; empty where it can be. closed: whether the own uplink was closed for it."""
    old, new = before.stored.peers.get(name), now.stored.peers[name]
    if old is None or (old.addresses, before.stored.exit_of(old)) == (new.addresses, now.stored.exit_of(new)):
        return "Its way was the same before, so there is no better one to put back."
    if not old.route_via and closed:
        return f"Its old way ({DIRECT}) is not put back, since the own uplink was closed for it before."
    gone = [name for name in old.exits if name not in now.stored.links]
    if gone:
        return f"Its old way ({_words(old)}) is not put back, since {' and '.join(gone)} {'are' if len(gone) > 1 else 'is'} not linked any more."
    return ""


def _put_back(context: Context, now: Context, peers: Iterable[Peer]) -> dict[str, str]:
    """Give devices the ways that they had by these records, in the order of any other move. Returns what has become of each, by name."""
    old = {peer.name: peer for peer in peers}
    if not old:
        return {}
    routes = [
        {"peer": name, "via_cell": peer.route_via or [DIRECT], "addresses": peer.addresses, "route_except": destinations.listed(peer.route_except)}
        for name, peer in old.items()
    ]
    # An exit that has taken its offer back meanwhile closes the way, as it would have.
    offers = [{"name": exit_cell, "expected": True} for exit_cell in sorted({name for peer in old.values() for name in peer.exits})]
    try:
        plan, _facts = plan_step(now, RUN["routes"], Inputs(routes=routes, offers=offers))
        apply(context.host, plan)
        if context.host.exists("/run/systemd/system"):
            # The exit of before has been told by this run that it is not used any more, and relays nothing until it hears otherwise.
            context.host.run(["systemctl", "start", "--no-block", REPLAY])
        wrong = {meant.who for meant in differing(context.host, plan.meant)}
    except CellError as error:
        return {name: f"Its old way ({_words(peer)}) cannot be put back: {error}" for name, peer in old.items()}
    either = {name: ", and the kernel does not follow that either" if name in wrong else "" for name in old}
    return {name: f"Its old way ({_words(peer)}) is put back{either[name]}." for name, peer in old.items()}


def _words(peer: Peer) -> str:
    return destinations.ways_in_words(peer.route_via, peer.route_except)
