# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell's root makes its Python answer, and what Ansible makes of it: on real ansible-core."""

from __future__ import annotations

from ansible_collections.pic.cells.tests.unit.controller import Controller


def test_honest_cells_are_run_as_by_the_stand_in(controller: Controller) -> None:
    done = controller.play("site")
    assert done.rc == 0, done.text
    assert done.said == {cell: [f"nothing changed on {cell}", "next: nothing is left to do"] for cell in ("cella", "cellb", "cellc")}
    assert [module for module, _arguments in controller.asked("cella")] == ["pic_cell_info"], "a run that changes nothing takes one execution"
