# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts take part in a run, and whose answers count in it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

from ansible_collections.pic.cells.plugins.plugin_utils import trust
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import TUNNEL, Inventory, as_list
from ansible_collections.pic.cells.plugins.plugin_utils.registers import believed, kept

JUDGED = "__cell_judged"  # a register


class Participants(Inventory):
    """The hosts of a run, and what they have answered."""

    @functools.cached_property
    def owners(self) -> trust.Owners:
        """Return whose public keys the host of this lookup knows."""
        return trust.owners(self, str(self.own), self.keys())

    @kept
    def keys(self) -> Mapping[str, list[str]]:
        """Return by public key which hosts have answered with it."""
        known: Mapping[str, list[str]] | None = self.judged.get("keys")
        return trust.keys(self) if known is None else known

    @functools.cached_property
    def judged(self) -> Mapping[str, Any]:
        """Return what follows from the answers to the preflight for all hosts of the batch, as it was worked out once; empty before."""
        return cast(Mapping[str, Any], self.register(self.own, JUDGED))

    @functools.cached_property
    def silenced(self) -> Mapping[str, str]:
        """Return the hosts whose answers count for nothing in this run, and why."""
        known = self.judged.get("silenced")
        if known is None:
            return trust.silenced(self, self.owners, self._silent_to_all()) if self.register(self.own, "__cell_read") else {}
        return cast(Mapping[str, str], known.get(self.own, {}))

    @kept
    def _silent_to_all(self) -> dict[str, str]:
        return trust.silent_to_all(self)

    def lost(self, host: str) -> str | None:
        """Return why a step of this run has failed on a host, None where none has."""
        return self._lost(self.only_asker(host)).get(host)

    @kept
    def _lost(self, asker: str) -> dict[str, str]:
        return trust.lost(self, asker)

    @believed
    def unreachable(self) -> set[str]:
        """Return the hosts that this run has found unreachable, in an earlier batch too, or whose answers count for nothing."""
        return {*(self.away() if self.judged.get("away") is None else self.judged["away"]), *self.silenced}

    def away(self) -> list[str]:
        """Return the hosts that this run has not reached, in an earlier batch too."""
        askers = dict.fromkeys((*self.batch, *self.all_play_hosts))
        results = [result for register in trust.READS for result in self.said_to(askers, register)]
        return sorted({result["item"] for result in results if result.get("unreachable") and not self.answered(result["item"])})

    @believed
    def read(self, host: str) -> dict[str, Any]:
        """Return what the preflight has read on a host, as far as it counts."""
        return {} if host in self.silenced else self.answered(host)

    @believed
    def said(self, host: str) -> dict[str, Any]:
        """Return what a cell has said of itself in this run: its identity phase, or else what was read."""
        found = self.results("__cell_identity", host) or self.read(host)
        return {} if trust.false_owner(self, lambda: self.owners, host, found.get("public_key")) else found

    @believed
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
        wanted -= {*self.play_hosts, host}
        return sorted(wanted - self.unreachable()) if wanted else []

    def sides(self, host: str) -> list[str]:
        """Return the hosts that a host of the play works on: in a day-2 job the other cells too, exits first."""
        return [*(self.others(host) if self.changes_links else ()), *self.concerned(host)]

    @functools.cached_property
    def worked_on(self) -> set[str]:
        """Return the hosts that this batch of the play works on."""
        if not self.job:
            return set(self.play_hosts)
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
