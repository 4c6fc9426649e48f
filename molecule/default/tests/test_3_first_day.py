# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before the first run: check mode works, and predicts exactly what the run then does, on cells of another kind."""

from __future__ import annotations

import lab
from packets import seen_address, snapshot
from playbooks import play


def test_check_and_diff_before_the_first_run_predict_it_and_change_nothing():
    lab.reset("trixie", "legacy")
    before = {cell.name: snapshot(cell.name) for cell in lab.CELLS}
    predicted = play("site", "--check", "--diff")
    assert predicted.rc == 0, predicted.message
    assert {cell.name: snapshot(cell.name) for cell in lab.CELLS} == before
    done = play("site", "--diff")
    assert done.rc == 0, done.message
    assert predicted.changes() == done.changes()
    assert {host for host, _task, _diff in predicted.changes()} == {"cella", "cellb", "cellc"}
    named = "".join(diff for _host, _task, diff in predicted.changes())
    for text in ("link cellb: pic-cellb", "peer phone-a1: internet via cellb", "shares files, voice", "identity: public key (generated)", "used as an exit"):
        assert text in named
    lab.phones()
    assert [seen_address("phone-a1", family) for family in (4, 6)] == ["198.51.100.12", "2001:db8:113::12"]
    assert not any(play("site").changed.values())
