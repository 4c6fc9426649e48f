# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells that are brought to a state once, and of which each test gets its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import World


def prepared(make: Callable[[Any], World | FakeHost]) -> Any:
    """Make a fixture of what brings the cells of another one to a state: it does so for the first test that asks, and each gets a fork."""
    (before,) = inspect.signature(make).parameters
    made: list[World | FakeHost] = []

    @pytest.fixture(name=make.__name__)
    def fork(request: pytest.FixtureRequest) -> World | FakeHost:
        if not made:
            made.append(make(request.getfixturevalue(before)))
        return made[0].fork()

    fork.__doc__ = make.__doc__
    return fork
