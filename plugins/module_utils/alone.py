# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module that is called without the role leaves to be done: until then a cell is not filtered, not closed, or gone after a reboot."""

from __future__ import annotations

from .base.names import chain
from .base.networks import FAMILIES, FORWARDING
from .kernel import systemd
from .kernel.model import Saved
from .kernel.routing import setting
from .parts import units
from .parts.part import Context


def missing(context: Context) -> list[str]:
    """Return a sentence for each module that has to be called as well; none once all have been."""
    if not context.stored.cell.name:
        return ["This host has no record of a cell, so there are no networks and devices to make rules for. Call wg_cell first, with name and networks."]
    lines = []
    if not _filtered(context):
        lines.append("Some rules of this cell are missing, so packets that arrive through a link are not filtered as they should be. Call pic_cell_rules.")
    if not context.host.exists(f"{systemd.SYSTEM}/{units.RESTORE}") and context.host.exists("/run/systemd/system"):
        lines.append("Nothing restores this cell after a reboot, or puts back what other software removes. Call pic_cell_agent.")
    off = [name for family, name in FORWARDING.items() if context.stored.cell.own_networks(family) and setting(context.host, name) != "1"]
    if off:
        lines.append(f"This host does not forward packets: {' and '.join(off)} {'are' if len(off) > 1 else 'is'} not 1. Set it with ansible.posix.sysctl.")
    return lines


def _filtered(context: Context) -> bool:
    """Tell whether the rules are jumped to, and each link with a tunnel has its own."""
    state = context.stored
    for family in FAMILIES:
        rules = context.observed.iptables[family].get("filter", Saved()).rules
        up = [link for link in state.links.values() if not link.provided and link.interface in context.observed.wireguard and link.has_family(family)]
        if up and not (any("-j PIC-FWD" in rule for rule in rules.get("FORWARD", ())) and all(chain("L", link.name) in rules for link in up)):
            return False
    return True
