# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cells claim of themselves, root's side: what the receiver has handed over is judged again, and makes the link, or changes where it leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..base.command import Draft, Host
from ..base.errors import BadInput
from ..base.networks import check_not_managed_from, host_of, outside
from ..cell import CONTRIBUTIONS, WAY, plan_step
from ..kernel import wireguard
from ..kernel.plan import Plan, apply
from ..parts import claims, expectations, ground, pairing, signing
from ..parts.inputs import Inputs
from ..parts.part import Context, Part
from ..parts.visible import Delivery
from ..records.model import Link
from ..records.store import Store
from .redial import begin, may_lead

_UNFIT = "its networks, its key or its endpoint cannot be those of a link there; the owner of that cell finds the reason in its journal"


class _NotAgreed(Exception):
    """Networks that this cell's owner has set aside for nobody, or not for this cell."""


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
        if claims.comes_by(link, delivery, context.timestamp()):
            key = signing.claim_key(secrets.get(link.name), str(link.public_key), context.identity.public)
            if signing.check_push(key, delivery.body, delivery.signature):
                return link
    return None


def _take(context: Context, link: Link, delivery: Delivery, log: Callable[[str], None]) -> Plan:
    mark, taken = claims.fingerprint(delivery.body), False

    def planned(parts: Sequence[Part], inputs: Inputs, judged: bool = False) -> Plan:
        draft = context.on(Draft(context.host))
        plan = plan_step(draft, parts, inputs, goes_on=judged)[0]
        if judged and draft.stored.cell.expect:
            broken = expectations.refusals(ground.planned(draft, CONTRIBUTIONS))
            if broken:  # each later run of the owner would be refused for it, also one that takes something back
                raise BadInput(broken[0])
        return plan

    said: dict[str, Any] = {}

    def refused(reason: str, asked: Sequence[str] = ()) -> Plan:
        return planned((pairing.REFUSE,), Inputs(answers={link.name: {"claim": mark, "reason": reason, "said": said, "asked": asked}}))

    try:
        said = claims.said(link, delivery.body)
        if claims.known_count(link, said, mark):
            log(f"What {link.name} has announced before was brought again, and not looked at.")
            return Plan()
        there = not link.invited and "networks" in said and claims.is_there(said, link)
        if "networks" in said and not there:
            claims.check_claim(link, said)
        _check_name(link, said.get("endpoint"))
    except BadInput as error:  # by nothing but what it says
        plan = refused(str(error))
    else:
        try:
            if not link.invited and not there and "networks" in said and claims.unagreed(said["networks"], link.networks, link.accept_networks):
                raise _NotAgreed
            _check_endpoint(context, link, said.get("endpoint"))
            # Of those that it has already the owner has decided.
            new = outside(said.get("networks", ()), link.networks)
            check_not_managed_from(f"networks of {link.name!r}", new, context.stored.cell.admin_networks)
            plan, taken = planned(WAY, Inputs(links=[{**said, "claim": mark}]), judged=True), True
        except _NotAgreed:
            plan = refused(claims.WAITS, said["networks"])
        except BadInput as error:
            # Whoever may claim something of itself may not find out by that what else this cell has.
            log(f"What {link.name} claims of itself was not taken over: {error}")
            plan = refused(_UNFIT)
    apply(context.host, plan)
    if taken and "endpoint" in said and not link.invited and context.host.exists("/run/systemd/system"):
        begin(context.host, str(link.interface))
    return plan


def _check_name(link: Link, endpoint: str | None) -> None:
    """Refuse another name: whoever answers for it could keep this cell waiting under its lock, and lead it elsewhere later. Raises BadInput."""
    if not link.invited and endpoint and wireguard.is_named(endpoint) and host_of(endpoint) != host_of(link.endpoint or ""):
        raise BadInput(
            f"That cell takes an announced endpoint in digits, or with the name that it dials already. Ask its owner to set endpoint: {endpoint} for link "
            f"{link.name!r} in cell_links."
        )


def _check_endpoint(context: Context, link: Link, endpoint: str | None) -> None:
    """Refuse an endpoint that leads nowhere, to this host, or into a network of cells or of this host. Raises BadInput."""
    found = wireguard.resolve(context.host, endpoint) if endpoint else None
    if endpoint and not (found and may_lead(context, link, found)):
        raise BadInput(f"Its endpoint {endpoint!r} is {found or 'nowhere'}, where no other cell can be dialled.")
