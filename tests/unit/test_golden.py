# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell's host looks like after the first run is what it looked like before a change of the code."""

from __future__ import annotations

import pytest

from ansible_collections.pic.cells.tests.unit import golden
from ansible_collections.pic.cells.tests.unit.world import World, three_cells


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return the parts of each cell's host."""
    world: World = golden.first_run(tmp_path_factory.mktemp("golden"))
    return {cell: golden.parts(world[cell]) for cell in three_cells()}


@pytest.mark.parametrize("cell", three_cells())
@pytest.mark.parametrize("part", ["iptables.v4", "iptables.v6", "routing", "wireguard", "records", "units", "steps"])
def test_the_first_run_makes_of_a_host_what_it_made(shown: dict[str, dict[str, str]], cell: str, part: str) -> None:
    kept = (golden.FOLDER / cell / f"{part}.txt").read_text(encoding="utf-8")
    assert shown[cell][part].splitlines() == kept.splitlines(), "if this is meant: python -m ansible_collections.pic.cells.tests.unit.golden"


def test_no_golden_text_holds_a_private_key(shown: dict[str, dict[str, str]]) -> None:
    assert not any("PrivateKey = " in text.replace("PrivateKey = (not shown)", "") for parts in shown.values() for text in parts.values())
