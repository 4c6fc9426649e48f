# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where systemd keeps what it is told of units. Pure."""

from __future__ import annotations

SYSTEM = "/etc/systemd/system"


def wants_path(unit: str, by: str = "multi-user.target") -> str:
    """Return the link by which a unit is started along with another one, by default at boot."""
    return f"{SYSTEM}/{by}.wants/{unit}"


def drop_in_path(interface: str) -> str:
    """Return where the unit of an interface of ours is told to wait for the guard."""
    return f"{SYSTEM}/wg-quick@{interface}.service.d/pic-cells.conf"
