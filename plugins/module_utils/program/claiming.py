# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cells claim of themselves, root's side: what the receiver has handed over is judged again, and makes the link, or lets it be dialled elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..base.command import Draft, Host
from ..base.errors import BadInput
from ..cell import WAY, plan_step
from ..kernel.plan import Plan, apply
from ..parts import claims, pairing, signing
from ..parts.inputs import Inputs
from ..parts.part import Context
from ..parts.visible import Delivery
from ..records.model import Link
from ..records.store import Store


def take_claims(host: Host, path: str, deliveries: Iterable[Delivery], log: Callable[[str], None]) -> Plan:
    """Change links as the cells at their other ends may claim, under the caller's lock. Returns what has changed.

    path: the folder with the records. log: is told which claims were not taken over.
    """
    whole = Plan()
    for delivery in deliveries:
        context = Context(host, Store(host, path))
        link = _sender(context, delivery)
        if link is not None:
            whole.extend(_take(context, link, delivery, log))
    return whole


def _sender(context: Context, delivery: Delivery) -> Link | None:
    """Return the link of the cell that a delivery is from, None where it proves none."""
    secrets = context.preshared_keys()
    for link in context.stored.links.values():
        key = signing.push_key(secrets.get(link.name), str(link.public_key), context.identity.public)
        if claims.proven(link, delivery, key, context.timestamp()):
            return link
    return None


def _take(context: Context, link: Link, delivery: Delivery, log: Callable[[str], None]) -> Plan:
    try:
        plan, _facts = plan_step(context.on(Draft(context.host)), WAY, Inputs(links=[claims.said(link, delivery.body)]))
    except BadInput as error:
        log(f"What {link.name} claims of itself was not taken over: {error}")
        refused = {link.name: {"claim": claims.fingerprint(delivery.body), "reason": str(error)}}
        plan, _facts = plan_step(context.on(Draft(context.host)), (pairing.REFUSE,), Inputs(answers=refused))
    apply(context.host, plan)
    return plan
