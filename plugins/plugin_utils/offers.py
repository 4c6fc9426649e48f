# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The offer of an exit as it is stated, true, false, or a dictionary with its end and its rate, and as the modules take it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.rates import parse_rate
from ansible_collections.pic.cells.plugins.module_utils.base.times import parse_moment

OFFER, UNTIL, RATE = "offer_exit", "offer_until", "offer_rate"  # what the modules take of a link
RIGHTS = (OFFER, UNTIL, RATE)
# What can be stated of an offer, as the modules take it, and what reads it.
TERMS: Mapping[str, tuple[str, Callable[[object, str], str]]] = {"until": (UNTIL, parse_moment), "rate": (RATE, parse_rate)}
_REMEDY = "Give true or false, or {until: 2026-12-31T00:00:00Z, rate: 20mbit}, of which either can be left out."


def read_offer(value: Any, where: str) -> bool | dict[str, str]:
    """Read a stated offer: whether there is one, or its terms, like {until: moment}. where: names it. Raises BadInput."""
    if not isinstance(value, Mapping):
        try:
            return bool(boolean(value, strict=True))
        except TypeError:
            raise BadInput(f"{where}: {value!r} is not an offer. {_REMEDY}") from None
    for key in value:
        if key not in TERMS:
            raise BadInput(f"{where} has an unknown key {key!r}. Its keys: {', '.join(TERMS)}.")
    if not value:
        raise BadInput(f"{where} has no until and no rate. {_REMEDY}")
    for key, term in value.items():
        if term in (None, ""):
            raise BadInput(f"{where} has no {key}. {_REMEDY}")
    return {key: TERMS[key][1](term, f"{key} of {where}") for key, term in value.items()}


def split_offer(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is stated of a link with its offer as the modules take it: whether there is one, and its terms where it has some."""
    offer = item.get(OFFER)
    return {**item, OFFER: True, **{TERMS[key][0]: term for key, term in offer.items()}} if isinstance(offer, Mapping) else dict(item)


def stated_words(item: Mapping[str, Any]) -> str | None:
    """Return the offer of a link as an inventory states it; None where it is silent."""
    if item.get(OFFER) is None:
        return None
    terms = ", ".join(f"{key}: {item[option]}" for key, (option, _read) in TERMS.items() if item.get(option))
    return f"{OFFER}: {{{terms}}}" if terms else f"{OFFER}: {item[OFFER]}"


def has_ended(item: Mapping[str, Any], now: str) -> bool:
    """Tell whether the offer that is stated of a link has an end that has come. now: a moment."""
    return bool(item.get(OFFER) and item.get(UNTIL)) and item[UNTIL] <= now
