# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes of the inventory on real cells: check mode predicts each exactly, and the run after it changes nothing."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

import lab
from ansible_collections.pic.cells.tests.unit.changes import Change
from playbooks import INVENTORY, play

CHANGES = lab.ROUNDS
# a name that does not resolve costs seconds here, each time it is looked up
NOT_HERE = ("edit_endpoint",)


@pytest.fixture(scope="module")
def stated() -> dict[str, Any]:
    """What the inventory states: it grows from change to change."""
    return yaml.safe_load(INVENTORY.read_text())


@pytest.fixture(scope="module")
def dice() -> random.Random:
    """Gives each kind of cell other changes, and the same ones every time."""
    return random.Random(lab.podman("inspect", "--format", lab.SHOW, f"{lab.PREFIX}cella").stdout)


@pytest.mark.parametrize("number", range(CHANGES))
def test_a_random_change_of_the_inventory_is_predicted_done_and_done_once(number: int, stated: dict[str, Any], dice: random.Random, tmp_path: Path) -> None:
    hosts = stated["cells"]["hosts"]
    file = tmp_path / "inventory.yml"
    while True:
        before = copy.deepcopy(hosts)
        words = Change(dice, hosts, NOT_HERE).words
        file.write_text(yaml.safe_dump(stated))
        predicted = play("site", "--check", "--diff", inventory=file) if hosts != before else None
        if predicted is not None and predicted.rc == 0:
            break
        hosts.clear()
        hosts.update(before)
        assert predicted is None or not any(predicted.changed.values()), (words, predicted.message)
    done = play("site", "--diff", inventory=file)
    assert done.rc == 0, (words, done.message)
    assert predicted.changes() == done.changes(), words
    again = play("site", inventory=file, __cell_every_step=True)
    assert (again.rc, again.changed) == (0, dict.fromkeys(hosts, 0)), (words, again.message, again.changes())
