# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims that redeem an invitation, root's side: what the receiver has handed over is judged again, and makes the link."""

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
    """Make the links of those who redeem an invitation, under the caller's lock. Returns what has changed.

    path: the folder with the records. log: is told which claims were not taken over.
    """
    whole = Plan()
    for delivery in deliveries:
        context = Context(host, Store(host, path))
        link = _invited(context, delivery)
        if link is not None:
            whole.extend(_take(context, link, delivery, log))
    return whole


def _invited(context: Context, delivery: Delivery) -> Link | None:
    """Return the link whose invitation a delivery redeems, None where it proves none."""
    link = next((one for one in context.stored.links.values() if one.invited and one.interface == delivery.interface), None)
    if link is None:
        return None
    key = signing.push_key(context.preshared_keys().get(link.name), str(link.public_key), context.identity.public)
    return link if claims.proven(link, delivery, key, context.timestamp()) else None


def _take(context: Context, link: Link, delivery: Delivery, log: Callable[[str], None]) -> Plan:
    try:
        claim = claims.parse_claim(delivery.body)
        claims.check_claim(link, claim)
        plan, _facts = plan_step(context.on(Draft(context.host)), WAY, Inputs(links=[claim]))
    except BadInput as error:
        log(f"What redeems the invitation of {link.name} was not taken over: {error}")
        refused = {link.name: {"claim": claims.fingerprint(delivery.body), "reason": str(error)}}
        plan, _facts = plan_step(context.on(Draft(context.host)), (pairing.REFUSE,), Inputs(answers=refused))
    apply(context.host, plan)
    return plan
