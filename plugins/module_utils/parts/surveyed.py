# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does outside of our own affairs, as far as it decides whether a cell works. Each part is read once, and only for those who give advice."""

from __future__ import annotations

from functools import cached_property

from ..base.command import Host
from ..base.errors import CommandFailed
from ..kernel import nftables, systemd
from . import units

_TIMEOUT = 20  # seconds for what is said of many thousand rules


class Surveyed:
    """A host as others have made it."""

    def __init__(self, host: Host) -> None:
        """host: the machine that is asked."""
        self.host = host

    @cached_property
    def nftables(self) -> nftables.Natives:
        """Chains of nftables' own, with their rules; none where nft is not installed. Rules are read only where there are such chains: others can be many."""
        if not self.host.has("nft"):
            return nftables.Natives()
        try:
            chains = nftables.parse(self.host.run_json(["nft", "-j", "list", "chains"], timeout=_TIMEOUT) or {"nftables": []})
        except CommandFailed as error:
            if "JSON support" in error.output:  # it can be left out when nft is built
                return nftables.Natives()
            raise
        if not chains.bases:
            return chains
        return nftables.parse(self.host.run_json(["nft", "-j", "list", "ruleset"], timeout=_TIMEOUT) or {"nftables": []})

    @cached_property
    def units(self) -> dict[str, str]:
        """The states of our units that are to run, by name; none where there are none."""
        if not (self.host.exists("/run/systemd/system") and self.host.exists(f"{systemd.SYSTEM}/{units.RESTORE}")):
            return {}
        return units.states(self.host)
