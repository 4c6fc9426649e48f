# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests share: the lab's tools, and phones that are connected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "lab"))

import lab
import neighbours
import playbooks

FAMILIES = (4, 6)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves to make matrix what another test shows in less time, and to the other parts of a scenario what is theirs (tests/tools/scenarios.py)."""
    others = os.environ.get("PIC_LAB_LEFT_OUT", "").split(",")
    items[:] = [item for item in items if item.path.name not in others]
    for item in items:
        if not os.environ.get("PIC_AT_LENGTH") and item.get_closest_marker("at_length"):
            item.add_marker(pytest.mark.skip(reason="at length: make matrix"))


@pytest.fixture(scope="session", autouse=True)
def served_playbooks() -> Iterator[None]:
    """Has what a test asks of Ansible done by one server."""
    with playbooks.served():
        yield


@pytest.fixture(scope="session", autouse=True)
def connected_phones() -> None:
    """Connects the phones to their cells."""
    lab.phones()


@pytest.fixture(scope="module", autouse=True)
def untouched_neighbours() -> object:
    """Whatever a scenario does: nothing of others has changed afterwards."""
    yield
    for cell in lab.CELLS:
        if not lab.inside(cell.name, "test", "-e", neighbours.PLANTED, check=False).returncode:
            assert neighbours.foreign(neighbours.snapshot(cell.name)) == neighbours.foreign_before(cell.name)
