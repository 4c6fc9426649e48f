# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of links whose invitation is redeemed in vain, or by nobody, and of the tunnel of a run that was killed while it redeemed one.

Owns what is known of their other end until then; adds nothing to the host.
"""

from __future__ import annotations

from ..base.names import PAIRING
from ..base.texts import printable
from ..kernel.plan import Effect, Plan, Remove, Run
from ..records.model import State
from ..records.ownership import Fields
from .claims import LONGEST, PLACED, about, heard
from .part import Context, Part, Planned

NAMESPACE, LOCK = f"/run/netns/{PAIRING}", "pairing.lock"  # that such a run holds: what it has left when it was killed is taken away


def _plan_refusal(context: Context) -> Planned:
    for name, said in context.inputs.answers.items():
        if said:
            link, judged = context.wanted.links[name], [str(said["claim"]), printable(str(said["reason"]))[:LONGEST]]
            link.heard = heard(link, said["said"], said["claim"])
            if about(said["said"]) == PLACED:
                link.judged_place, link.asked_networks, link.asked_address = judged, list(said["asked"]), list(said["said"]["address"] if said["asked"] else ())
            else:
                setattr(link, "refused_claim" if link.announced else "judged_claim", judged)
    return context.write_records(), {}


def _plan_expiry(context: Context) -> Planned:
    """Plan the end of invitations that nobody has redeemed: what their links know of the other end was the invitation's alone."""
    for link in context.wanted.links.values():
        if link.invited_until is not None and link.invited_until <= context.timestamp():
            link.public_key = link.remote_api_url = link.invited_until = None
            link.networks, link.address, link.judged_claim = [], [], []
    return context.write_records(), {}


def plan_left(context: Context) -> Planned:
    """Plan the end of the tunnel of a run that was killed while it redeemed an invitation: it would go on dialling with the cell's own key."""
    plan, observed = Plan(), context.observed
    namespace, interface = context.host.exists(NAMESPACE), PAIRING in observed.links
    if not (namespace or interface) or not context.store.was_killed(LOCK):
        return plan, {}
    if namespace:
        plan.steps.append(Run(("ip", "netns", "delete", PAIRING)))
        plan.effects.append(Remove(NAMESPACE))
    if interface:
        plan.steps.append(Run(("ip", "link", "del", "dev", PAIRING)))
        plan.effects.append(Effect("links", lambda links, _items: {name: link for name, link in links.items() if name != PAIRING}))
    plan.describe([f"{PAIRING}: of a run that was killed while it redeemed an invitation"], [])
    return plan, {}


_WAITS = "waits for the owner of that cell to redeem its invitation"


def _words(state: State) -> list[str]:
    return [f"link {link.name}: {_WAITS} until {link.invited_until}" for link in state.links.values() if link.invited]


def _asked_words(state: State) -> list[str]:
    return [f"link {link.name}: asks to have the networks {', '.join(link.asked_networks)}" for link in state.links.values() if link.asked_networks]


REFUSE = Part(
    "refuse a claim",
    _plan_refusal,
    owns=Fields(links=("judged_claim", "refused_claim", "judged_place", "asked_networks", "asked_address", "heard")),
    words=_asked_words,
)
LEFT = Part("what a killed run has left", plan_left)
EXPIRY = Part(
    "invitations that are over",
    _plan_expiry,
    owns=Fields(links=("public_key", "networks", "address", "remote_api_url", "invited_until", "judged_claim")),
    words=_words,
)
