# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does outside of our own affairs, as far as it decides whether a cell works. Each part is read once, and only for those who give advice."""

from __future__ import annotations

from .command import Host


class Surveyed:
    """A host as others have made it."""

    def __init__(self, host: Host) -> None:
        """host: the machine that is asked."""
        self.host = host
