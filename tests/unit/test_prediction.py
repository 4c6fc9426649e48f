# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes of random inventories: check mode predicts each exactly, and the run after it changes nothing."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import verdicts
from ansible_collections.pic.cells.plugins.module_utils.records.model import Down
from ansible_collections.pic.cells.tests.unit.changes import DEVICES, ENDS, OUTSIDE, RATES, SERVICES, Change, Inventory, outside
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import Refusal, Run, World, device_key, three_cells


def four_cells() -> Inventory:
    """Return an inventory with a bit of everything."""
    inventory = three_cells()
    inventory["cella"]["cell_admin_networks"] = ["10.0.1.0/24"]
    inventory["cellb"]["cell_services"] = [{"name": "web", "address": "10.0.1.1", "port": 80}]
    inventory["cellb"]["cell_links"] += [{"name": "cellx", **outside("cellx"), "share": ["web"]}]
    inventory["the-cell-behind-nat"] = {
        "cell_networks": ["10.0.3.1/24", "fd00:d::1/64"],
        "cell_peers": [{"name": "tv", "public_key": device_key("tv"), "addresses": ["10.0.3.2", "fd00:d::2"], "route_via": "cellb"}],
        "cell_links": [{"name": "cellb", "keepalive": 15}],
    }
    inventory["cellb"]["cell_links"] += [{"name": "the-cell-behind-nat", "offer_exit": True, "share": ["web"], "preshared_key": made_key("psk")}]
    return inventory


def job(dice: random.Random, world: World) -> dict[str, str]:
    """Return the extra vars of a random day-2 job."""
    kind = dice.choice(("link", "unlink", "share", "offer_exit", "route_peer"))
    cell, remote = dice.sample([*world.inventory, *OUTSIDE[:1]], 2)
    given = {"kind": kind, "cell": cell}
    if kind == "route_peer":
        several = ",".join(dice.sample([name for name in world.inventory if name != cell], 2))
        return {**given, "peer": dice.choice(DEVICES), "via_cell": dice.choice((remote, remote, several, f"{several},direct", "direct"))}
    if kind in ("link", "share"):
        given["services"] = dice.choice(("none", *SERVICES, ",".join(SERVICES)))
    if kind in ("link", "offer_exit"):
        given["offered"] = dice.choice(("yes", "no"))
        given["until"] = dice.choice(("", ENDS[0])) if given["offered"] == "yes" else ""
        given["rate"] = dice.choice(("", "", RATES[0])) if given["offered"] == "yes" else ""
    return {**given, "remote_cell": remote}


def is_predicted_done_and_done_once(world: World, what: str, do: Callable[..., Run]) -> bool:
    """Do something in check mode, then really, then again, and compare; return whether it was allowed."""
    world.reset()
    try:
        predicted = do(check=True)
    except (BadInput, Refusal):
        assert world.steps() == {}, what
        return False
    except AssertionError as error:
        raise AssertionError(f"{what}, in check mode: {error}") from error
    assert world.steps() == {}, what
    try:
        done = do()
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    assert predicted.changed == done.changed, what
    assert predicted.diffs() == done.diffs(), what
    world.reset()
    try:
        again = do()
        assert again.changed == [], what
    except Refusal:
        # What cannot be was left out before, or ended the run of its own cell, while something had to be taken back; now nothing has to.
        assert set(done.said) != set(world.hosts) or "cannot be" in str(done.said), what
    assert world.steps() == {}, what
    return True


def fall_ill(dice: random.Random, world: World) -> list[str]:
    """Let the watchers of exits find that some do not work, or work again; returns which, by cell."""
    found = []
    for name, host in sorted(world.hosts.items()):
        down = {
            other: Down(f"2026-11-29T12:00:{dice.randrange(60):02}Z", "silent", dice.choice((None, "2026-11-29T12:01:00Z"))) for other in sorted(world.hosts)
        }
        down = {other: what for other, what in down.items() if other != name and dice.random() < 0.3}
        host.files[verdicts.FOUND] = (0o600, verdicts.render_verdict(down))
        found += [f"{name}: {other}" for other in down]
        host.exits = dict.fromkeys(sorted(down))
    return found


def _seeds(always: int, most: int) -> list[Any]:
    return [pytest.param(seed, marks=[] if seed < always else [pytest.mark.at_length]) for seed in range(most)]


def some_world(folder: Path, seed: int) -> World:
    """Return three cells, or for every fifth seed four."""
    return World(folder, three_cells() if seed % 5 else four_cells())


@pytest.mark.parametrize("seed", _seeds(6, 20))
def test_a_random_change_of_the_inventory_is_predicted_done_and_done_once(tmp_path: Path, seed: int) -> None:
    dice, health, world = random.Random(seed), random.Random(f"health {seed}"), some_world(tmp_path, seed)
    if seed % 2:  # the others are virgin hosts
        world.site()
    count = 0
    while count < 10:
        before = copy.deepcopy(world.inventory)
        change = Change(dice, world.inventory)
        play = dice.sample(sorted(world.hosts), 2) if dice.random() < 0.1 else []  # as --limit does
        what = f"seed {seed}, change {count}: {change.words}, limited to {play or 'nothing'}, down: {fall_ill(health, world)}"
        if world.inventory != before and is_predicted_done_and_done_once(world, what, functools.partial(world.site, *play)):
            count += 1
        else:
            world.inventory = before


@pytest.mark.parametrize("seed", _seeds(4, 8))
def test_a_random_day_2_job_is_predicted_done_and_done_once(tmp_path: Path, seed: int) -> None:
    dice, health, world = random.Random(seed), random.Random(f"health {seed}"), some_world(tmp_path, seed)
    world.site()
    count = 0
    while count < 5:
        given = job(dice, world)
        count += is_predicted_done_and_done_once(
            world, f"seed {seed}, job {count}: {given}, down: {fall_ill(health, world)}", functools.partial(world.job, **given)
        )
