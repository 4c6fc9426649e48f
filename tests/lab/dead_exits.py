# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How cellb, the exit of a phone, can stop working, and how it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab import INTERNET, PREFIX, run

HOLD = 4  # seconds that an exit has to work until it is used again, in the tests
_UDP = "add table inet cut; add chain inet cut in { type filter hook prerouting priority -400; }; add rule inet cut in iifname eth0 meta l4proto udp drop"
_ROUTES = "for family in 4 6; do ip -$family route save default >/run/way$family; ip -$family route flush default; done"

_BACK = "for family in 4 6; do ip -$family route restore </run/way$family; done"


def on(cell: str, *argv: str) -> tuple[str, ...]:
    """Return a command that executes another one on a cell."""
    return ("podman", "exec", f"{PREFIX}{cell}", *argv)


NO_ROUTE = "no route to the internet"
# What breaks it, and what mends it.
DEATHS = {
    "paused": (("podman", "pause", f"{PREFIX}cellb"), ("podman", "unpause", f"{PREFIX}cellb")),
    "cut off": (on("cellb", "nft", _UDP), on("cellb", "nft", "delete table inet cut")),
    NO_ROUTE: (
        on("cellb", "sh", "-c", _ROUTES),
        on("cellb", "sh", "-c", _BACK),
    ),
    "interface deleted": (on("cellb", "ip", "link", "del", "pic-cella"), on("cellb", "pic-cell", "restore")),
}


# What goes on behind its default route is cut: the cell itself cannot tell.
_FAR = "add table inet far; add chain inet far out { type filter hook postrouting priority 0; }; "
_FAR += f"add rule inet far out oifname eth0 ip daddr {INTERNET[0]} drop; add rule inet far out oifname eth0 ip6 daddr {INTERNET[1]} drop"
CUT_FURTHER_OUT = (on("cellb", "nft", _FAR), on("cellb", "nft", "delete table inet far"))


@contextmanager
def offline(cell: str) -> Iterator[None]:
    """Take from a cell its own routes to the internet while the block runs."""
    run(on(cell, "sh", "-c", _ROUTES))
    try:
        yield
    finally:
        run(on(cell, "sh", "-c", _BACK))


@contextmanager
def cut(cell: str) -> Iterator[None]:
    """Let no packet of a tunnel into a cell while the block runs."""
    run(on(cell, "nft", _UDP))
    try:
        yield
    finally:
        run(on(cell, "nft", "delete table inet cut"))
