# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What names resolve to."""

from __future__ import annotations

import ipaddress

from ansible_collections.pic.cells.tests.unit.fake.machine import Machine, Refused


class Resolver(Machine):
    """A host with getent.

    dns: addresses by name. deaf: no resolver answers.
    """

    dns: dict[str, list[str]]
    deaf: bool

    def resolve(self, name: str) -> list[str]:
        """Return the addresses of a name; an address is its own."""
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            return [] if self.deaf else self.dns.get(name, [])

    def _getent(self, words: list[str], stdin: str) -> str:
        if self.deaf:
            raise Refused(124, "not finished within 5 s")
        found = self.resolve(words[1])
        if words[0] != "ahosts" or not found:
            raise Refused(2, "")
        return "".join(f"{address} {kind}\n" for address in found for kind in ("STREAM", "DGRAM", "RAW"))
