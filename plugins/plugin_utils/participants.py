# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts take part in a run, and whose answers count in it."""

from __future__ import annotations

import functools
from typing import Any

from ansible_collections.pic.cells.plugins.plugin_utils import trust
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import TUNNEL, Inventory, as_list
from ansible_collections.pic.cells.plugins.plugin_utils.registers import kept


class Participants(Inventory):
    """The hosts of a run, and what they have answered."""

    @functools.cached_property
    def owners(self) -> trust.Owners:
        """Return whose public keys the host of this lookup knows."""
        return trust.owners(self, str(self.own))

    @functools.cached_property
    def silenced(self) -> dict[str, str]:
        """Return the hosts whose answers count for nothing in this run, and why."""
        return trust.silenced(self, lambda: self.owners)

    @functools.cached_property
    def lost(self) -> dict[str, str]:
        """Return the hosts on which a step of this run has failed, and why."""
        return trust.lost(self)

    @kept
    def unreachable(self) -> set[str]:
        """Return the hosts that this run has found unreachable, in an earlier batch too, or whose answers count for nothing."""
        askers = dict.fromkeys((*self.batch, *self.all_play_hosts))
        results = [result for register in trust.READS for result in self.said_to(askers, register)]
        away = {result["item"] for result in results if result.get("unreachable") and not self.read(result["item"])}
        return away | set(self.silenced)

    @kept
    def read(self, host: str) -> dict[str, Any]:
        """Return what the preflight has read on a host, as far as it counts."""
        return {} if host in self.silenced else self.answered(host)

    @kept
    def said(self, host: str) -> dict[str, Any]:
        """Return what a cell has said of itself in this run: its identity phase, or else what was read."""
        found = self.results("__cell_identity", host) or self.read(host)
        return {} if trust.false_owner(self, lambda: self.owners, host, found.get("public_key")) else found

    @kept
    def others(self, host: str) -> list[str]:
        """Return the hosts of linked cells that are visible and no host of this batch of the play: they are asked by delegation."""
        wanted = {self.host_of[name] for name in self.link_items(host) if name in self.host_of}
        if self.changes_links:
            wanted = {self.host_of[name] for name in self.named() if name in self.host_of}
            peers = self.results("__cell_read", host).get("peers", {})
            before = as_list(peers.get(self.job.get("peer"), {}).get("route_via"))
            wanted |= {self.host_of[name] for name in before if name in self.host_of}
        if self.transport(host) == TUNNEL or not self.concerned(host):
            return []
        return sorted(wanted - set(self.play_hosts) - self.unreachable() - {host})

    def sides(self, host: str) -> list[str]:
        """Return the hosts that a host of the play works on: in a day-2 job the other cells too, exits first."""
        return [*(self.others(host) if self.changes_links else ()), *self.concerned(host)]

    @functools.cached_property
    def worked_on(self) -> set[str]:
        """Return the hosts that this batch of the play works on."""
        return {side for own in self.play_hosts for side in self.sides(own)}

    def told(self, host: str) -> list[str]:
        """Return the hosts outside the play that a host hands what the play's cells say; each is told once, by the first that is linked with it."""
        outside = set(self.others(host)) - set(self.sides(host))
        return sorted(other for other in outside if host == next(own for own in self.play_hosts if other in self.others(own)))

    def lacking(self, host: str) -> list[str]:
        """Return the packages that the role installs on a host."""
        return list(self.read(host).get("missing", ())) if self.manages_packages(host) else []

    def installing(self, host: str) -> list[list[Any]]:
        """Return what the role installs on the hosts that a host of the play works on: host, packages, and whether lists of packages are to be fetched."""
        return [[side, self.lacking(side), bool(self.read(side).get("unlisted"))] for side in self.sides(host) if self.lacking(side)]
