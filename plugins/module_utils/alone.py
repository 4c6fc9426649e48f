# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module that is called without the role leaves to be done: until then a cell is not filtered, not closed, or gone after a reboot."""

from __future__ import annotations

from . import units
from .iptables import Saved
from .names import chain
from .networks import FAMILIES
from .reconcile import Cell
from .routing import FORWARDING, setting


def missing(cell: Cell) -> list[str]:
    """Return a sentence for each module that has to be called as well; none once all have been."""
    if not cell.stored.cell.name:
        return ["This host has no record of a cell, so no rule is made for its networks and devices. Call wg_cell first, with name and networks."]
    lines = []
    if not _filtered(cell):
        lines.append("The rules of this cell are not all there, so what comes in by a link is not filtered as it should be. Call pic_cell_rules.")
    if not cell.host.exists(f"{units.SYSTEM}/{units.RESTORE}") and cell.host.exists("/run/systemd/system"):
        lines.append("Nothing brings this cell back after a reboot, nor puts back what other software removes. Call pic_cell_agent.")
    off = [name for family, name in FORWARDING.items() if cell.stored.cell.own_networks(family) and setting(cell.host, name) != "1"]
    if off:
        lines.append(f"This host does not forward packets: {' and '.join(off)} {'are' if len(off) > 1 else 'is'} not 1. Set that with ansible.posix.sysctl.")
    return lines


def _filtered(cell: Cell) -> bool:
    """Tell whether the rules are jumped to, and each link with a tunnel has its own."""
    state = cell.stored
    for family in FAMILIES:
        rules = cell.observed.iptables[family].get("filter", Saved()).rules
        up = [link for link in state.links.values() if link.interface in cell.observed.wireguard and link.has_family(family)]
        if up and not (any("-j PIC-FWD" in rule for rule in rules.get("FORWARD", ())) and all(chain("L", link.name) in rules for link in up)):
            return False
    return True
