# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The MTU of a tunnel that nobody has stated: as much as the internet takes, and no more than fits the path to the endpoint. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..base.networks import FAMILIES, LEAST_MTU, address_of, host_of, network_of
from . import lookups, wgconfig
from .observed import Observed

OVERHEAD = 80  # bytes: IPv6, UDP and WireGuard (wg-quick takes as much)
MOST = 1500 - OVERHEAD  # beyond the first router nobody carries more, whatever the own interface does


def tunnel(seen: Observed, endpoint: str | None, families: Iterable[int], text: str | None) -> int | None:
    """Return the MTU of a link's interface; None where no path is known, and none is written.

    endpoint: the stated one; where it is a name, or there is none, the path to the internet counts, so that a plan does not hang on what a name stands for.
    families: those that the link carries. text: its file, which counts while there is no path.
    """
    path = _path_mtu(seen, endpoint)
    if path is None:
        return written(text)
    return max(min(MOST, path - OVERHEAD), *(LEAST_MTU[family] for family in families), LEAST_MTU[4])


def written(text: str | None) -> int | None:
    """Return the MTU that an interface's file states."""
    value = wgconfig.parse(text).get("mtu")
    return int(value) if value and value.isdigit() else None


def _path_mtu(seen: Observed, endpoint: str | None) -> int | None:
    """Return the MTU of the interface by which WireGuard's own packets leave."""
    try:
        address = address_of(host_of(endpoint or ""))
    except ValueError:
        paths = [_out(seen, family) for family in FAMILIES]
        return next((mtu for mtu in paths if mtu), None)
    family = address.version
    near = [(network_of(network).prefixlen, device) for device, network in seen.routing[family].connected if address in network_of(network)]
    return _of(seen, max(near)[1]) if near else _out(seen, family)


def _out(seen: Observed, family: int) -> int | None:
    routing = seen.routing[family]
    return _of(seen, lookups.way_out(family, routing.lookups, routing.wide, None, "lo"))


def _of(seen: Observed, device: str | None) -> int | None:
    return seen.links.get(device, {}).get("mtu") if device else None
