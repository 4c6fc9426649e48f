# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one call says of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.command import Host
from ..base.errors import BadInput
from ..base.names import check_name
from ..kernel.provided import LARGEST, Provided, read, render
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
    exits: Sequence[Args] | None = None  # name, config_file or the fields of a Provided: all exits that are no cells; None where nothing is said of them
    provided: Mapping[str, Provided] | None = None  # the same, read, by name
    routes: Sequence[Args] = ()  # peer, via_cell, addresses
    received: Sequence[Args] = ()  # messages of linked cells
    deliveries: Sequence[Delivery] = ()  # messages that the receiver has handed over
    answers: Mapping[str, Args | None] = field(default_factory=dict)  # to our messages, by linked cell; None where it was not reached

    @property
    def present_links(self) -> list[Args]:
        """Return the links that stay."""
        return [item for item in self.links if item.get("state") != "absent"]

    @property
    def present_tunnels(self) -> list[Args]:
        """Return what is said of the tunnels to linked cells that stay, and to providers."""
        return [*self.present_links, *({"name": name} for name in self.provided or ())]

    def with_provided(self, host: Host) -> Inputs:
        """Return the same with the files of providers read, of which some are on the host. Raises BadInput."""
        if self.exits is None or self.provided is not None:
            return self
        provided: dict[str, Provided] = {}
        for item in self.exits:
            name = check_name("Exit", item.get("name"))
            path, what = item.get("config_file"), f"exit {name!r}"
            if path:
                what = f"config_file {path!r} of exit {name!r}"
                text = host.read_foreign(str(path), LARGEST)
                if text is None:
                    raise BadInput(f"{what}: there is no plain file of at most {LARGEST} bytes on the cell. Put it there, or give config.")
            else:
                text = render(item)
            provided[name] = read(text, what)
        return replace(self, provided=provided)

    @property
    def absent_links(self) -> list[str]:
        """Return the names of the links that go."""
        return [str(item["name"]) for item in self.links if item.get("state") == "absent"]
