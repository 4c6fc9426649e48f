# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller computes in a run grows with the links of all cells, and no faster: calls are counted, never seconds.

Each host begins with nothing, as a process of Ansible's does: what one has worked out no other one has, but for what is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.benchmarks.controller import Run
from ansible_collections.pic.cells.tests.unit.test_growth import calls_in

OURS = "/plugins/plugin_utils/"
# Cells that are twice and four times as many, and sizes of which each has so many links more.
SIZES = {"ring": (8, 16, 32), "mesh": (4, 7, 12)}
LINKS = {"ring": (16, 32, 64), "mesh": (12, 42, 132)}


def by_task(shape: str, cells: int, again: bool) -> dict[str, int]:
    """Return how many calls the hosts of a run make together, by task."""
    found: dict[str, int] = {}

    def counted(task: str, times: int, call: Callable[[], Any]) -> Any:
        value: list[Any] = []
        found[task] = found.get(task, 0) + times * calls_in(OURS, lambda: value.append(call()))
        return value[0]

    Run((shape, cells), again).go(counted, cells)
    return found


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("shape", ["ring", "mesh"])
def test_a_run_of_more_cells_is_as_much_more_work_as_there_are_links(shape: str, again: bool) -> None:
    small, middle, large = (by_task(shape, cells, again) for cells in SIZES[shape])
    few, more, most = LINKS[shape]
    grown = {task: (large[task] - middle[task]) / (most - more) / max(1, (middle[task] - small[task]) / (more - few)) for task in large}
    assert {task: round(times, 2) for task, times in grown.items() if times > 1.1} == {}
