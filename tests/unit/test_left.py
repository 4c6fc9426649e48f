# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace of a run that was killed while it redeemed an invitation: its tunnel would go on dialling with the cell's own key."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.names import PAIRING
from ansible_collections.pic.cells.plugins.module_utils.parts.pairing import LOCK, NAMESPACE
from ansible_collections.pic.cells.plugins.module_utils.program.redeem import alone
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR, Store
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import World, call, program


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Return a cell with such a namespace."""
    world = World(tmp_path, {"cella": {"cell_networks": ["10.0.0.1/24"]}})
    world.site()
    found = world["cella"]
    found.files[NAMESPACE] = (0o444, "")
    found.reset()
    return found


def kill(host: FakeHost) -> None:
    """Leave the lock as a process does that is killed: it is free, and says who had it."""
    (Path(host.root) / STATE_DIR[1:] / LOCK).write_text("process 12345\n")


def test_restore_takes_away_what_a_killed_run_has_left(host: FakeHost) -> None:
    kill(host)
    assert (program(host, "check")[0], host.steps) == (3, [])
    assert program(host, "restore") == (0, f"surplus: {PAIRING}: of a run that was killed while it redeemed an invitation\n", "")
    assert NAMESPACE not in host.files
    assert program(host, "check")[0] == 0
    host.reset()
    assert (program(host, "restore"), host.steps) == ((0, "", ""), [])


def test_an_interface_that_was_not_moved_yet_goes_too(host: FakeHost) -> None:
    kill(host)
    host.add_link(PAIRING, kind="wireguard")
    program(host, "restore")
    assert PAIRING not in host.links and NAMESPACE not in host.files


@pytest.mark.parametrize("why", ["a run is at work", "nothing was ever redeemed", "the last run has ended by itself"])
def test_it_stays_where(host: FakeHost, why: str) -> None:
    """What is there is in use, or somebody else's of this name."""
    store = Store(host, STATE_DIR)
    if why == "a run is at work":
        with store.lock(name=LOCK):
            assert program(host, "check")[0] == 0
            assert (program(host, "restore")[0], host.steps) == (0, [])
        return
    if why == "the last run has ended by itself":
        with store.lock(name=LOCK):
            pass
    assert program(host, "check")[0] == 0
    assert (program(host, "restore")[0], host.steps) == (0, [])


def test_a_run_begins_when_no_repair_is_at_work_and_holds_up_none(host: FakeHost) -> None:
    store, begun = Store(host, STATE_DIR), threading.Event()

    def redeem() -> None:
        with alone(Store(host, STATE_DIR)):
            begun.set()

    with store.lock():
        run = threading.Thread(target=redeem)
        run.start()
        assert not begun.wait(0.3)
    run.join()
    assert begun.is_set()
    with alone(store), store.lock(wait=0.1):
        assert not store.was_killed(LOCK)


def test_uninstall_takes_it_away(host: FakeHost) -> None:
    kill(host)
    assert not call("pic_cell_uninstall", host, {"name": "cella"}).get("failed")
    assert NAMESPACE not in host.files and not host.list(STATE_DIR)
