# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of whole runs share."""

from __future__ import annotations

from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import Run

PSK = made_key("a preshared key")


def executed(run: Run) -> dict[str, list[str]]:
    """Return the modules that a run has executed after it has read the cells, by host."""
    return {host: [module for at, module, _args in run.calls if at == host and module != "pic_cell_info"] for host in ("cella", "cellb", "cellc")}
