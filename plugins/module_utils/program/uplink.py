# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host has a route to the internet, as the receiver tells the cells that it is an exit for; read without privileges."""

from __future__ import annotations

from collections.abc import Iterator

from ..base.command import Host
from ..base.names import LINK_PREFIX

_ROUTES = {4: "/proc/self/net/route", 6: "/proc/self/net/ipv6_route"}
_UP, _REJECT = 0x1, 0x200  # RTF_UP, RTF_REJECT (linux/route.h)
_DOWN = ("down", "lowerlayerdown", "notpresent")  # sysfs-class-net, operstate


def internet(host: Host, stated: str | None = None) -> dict[int, bool]:
    """Tell by family whether a default route leads out through an interface that is up, other than a link's.

    stated: the uplink that the owner has named, which is judged alone: its default route can be in a table that is not seen here.
    """
    if stated:
        return dict.fromkeys(_ROUTES, host.exists(f"/sys/class/net/{stated}") and _is_up(host, stated))
    return {family: any(_is_up(host, device) for device in _default_devices(host, family)) for family in _ROUTES}


def _default_devices(host: Host, family: int) -> Iterator[str]:
    for line in (host.read(_ROUTES[family]) or "").splitlines():
        words = line.split()
        if family == 4 and len(words) >= 8 and words[1] == words[7] == "00000000":
            device, flags = words[0], words[3]
        elif family == 6 and len(words) >= 10 and words[1] == "00" and not words[0].strip("0"):
            device, flags = words[9], words[8]
        else:
            continue
        if int(flags, 16) & _UP and not int(flags, 16) & _REJECT and device != "lo" and not device.startswith(LINK_PREFIX):
            yield device


def _is_up(host: Host, device: str) -> bool:
    """Tell whether an interface can carry packets, as far as anybody can tell."""
    return (host.read(f"/sys/class/net/{device}/operstate") or "").strip() not in _DOWN
