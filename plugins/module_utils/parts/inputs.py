# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one call says of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .visible import Delivery

Args = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What one call says of a cell. An item has the suboptions of the modules; what it does not name, or is None there, stays as it is recorded."""

    cell: Args | None = None  # name, networks, endpoint, services ...: as the option cell
    devices: Sequence[Args] = ()  # name, public_key, preshared_key, addresses, networks, route_via, state
    links: Sequence[Args] = ()  # name, public_key, networks, endpoint, interface ..., state
    rights: Sequence[Args] = ()  # name, share, offer_exit, offer_until, offer_rate, exit_relay, state: what a linked cell may reach
    offers: Sequence[Args] = ()  # name, offered, expected: what a linked cell offers
    routes: Sequence[Args] = ()  # peer, via_cell, addresses
    received: Sequence[Args] = ()  # messages of linked cells
    deliveries: Sequence[Delivery] = ()  # messages that the receiver has handed over
    answers: Mapping[str, Args | None] = field(default_factory=dict)  # to our messages, by linked cell; None where it was not reached

    @property
    def present_links(self) -> list[Args]:
        """Return the links that stay."""
        return [item for item in self.links if item.get("state") != "absent"]

    @property
    def absent_links(self) -> list[str]:
        """Return the names of the links that go."""
        return [str(item["name"]) for item in self.links if item.get("state") == "absent"]
