# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many modules a run executes on a cell: each is a connection, a process, and the engine imported anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ansible_collections.pic.cells.tests.unit.world import Run, World, three_cells


def executed(run: Run) -> dict[str, int]:
    """Return the number of module executions by host."""
    return dict(Counter(host for host, _module, _args in run.calls))


def test_a_first_run(tmp_path: Path) -> None:
    # read, identity, tell, apply, push; cella gives out the preshared keys too
    assert executed(World(tmp_path, three_cells()).site()) == {"cella": 6, "cellb": 5, "cellc": 5}


def test_a_run_that_has_nothing_to_do_only_reads(linked: World) -> None:
    assert executed(linked.site()) == {"cella": 1, "cellb": 1, "cellc": 1}


def test_the_number_does_not_grow_with_links_devices_and_services(linked: World) -> None:
    inventory = linked.inventory["cella"]
    inventory["cell_services"] += [{"name": f"more{number}", "address": "10.0.0.1", "port": 9000 + number, "protocol": "tcp"} for number in range(20)]
    inventory["cell_links"][1]["share"] = ["files", *(f"more{number}" for number in range(20))]
    many = executed(linked.site())
    inventory["cell_links"][1]["share"] = ["files", *(f"more{number}" for number in range(10))]
    assert executed(linked.site())["cella"] <= many["cella"] <= 5


def test_a_new_share(linked: World) -> None:
    assert executed(linked.job("share", cell="cella", remote_cell="cellc", services="voice")) == {"cella": 4, "cellc": 2}


def test_another_exit(linked: World) -> None:
    assert executed(linked.job("route_peer", cell="cella", peer="phone", via_cell="cellc")) == {"cella": 4, "cellb": 2, "cellc": 1}
