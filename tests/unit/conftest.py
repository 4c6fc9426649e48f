# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the unit tests share."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.release import __version__ as core

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.tests.unit import cell_python
from ansible_collections.pic.cells.tests.unit.controller import PROGRAMS, Controller, serving_playbooks
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.forking import serving
from ansible_collections.pic.cells.tests.unit.world import World, three_cells


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """Return a host that has never heard of us."""
    return FakeHost(tmp_path / "host")


@pytest.fixture
def real(tmp_path: Path) -> Host:
    """Return this machine, with its files below a folder of the test's own."""
    return Host(str(tmp_path))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return three cells that have never been set up."""
    return World(tmp_path, three_cells())


@pytest.fixture(scope="session")
def _linked(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("linked"), three_cells())
    world.site()
    world.reset()
    return world


@pytest.fixture
def linked(_linked: World) -> World:
    """Return three cells that are set up."""
    return _linked.fork()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves to make core, and to make cores, what others show in less time."""
    for item in items:
        if not os.environ.get("PIC_AT_LENGTH") and item.get_closest_marker("at_length"):
            item.add_marker(pytest.mark.skip(reason="at length: make core"))


@pytest.fixture(params=[pytest.param(name, marks=[] if name == "current" else [pytest.mark.at_length]) for name in PROGRAMS])
def ansible(request: pytest.FixtureRequest) -> Path:
    """Return ansible-playbook of one version after the other."""
    if request.param == "current" and tuple(map(int, core.split(".")[:2])) < (2, 17):
        pytest.skip(f"the collection does not run with ansible-core {core}")
    program = PROGRAMS[request.param]
    assert program.exists(), f"{program} is not there; make setup makes it"
    return program


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder for what real Ansible and its cells need once."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(folder / "cell-python", cell_python.__name__):
        yield folder


@pytest.fixture(scope="session")
def _serving() -> Iterator[Callable[[Path, Path], None]]:
    """Return what sees to it that there is a server for a program, in the folder for what all share."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda program, shared: stack.enter_context(serving_playbooks(program, shared)))


@pytest.fixture
def controller(ansible: Path, linked: World, tmp_path: Path, shared: Path, _serving: Callable[[Path, Path], None]) -> Controller:
    """Return a machine with real Ansible, and three cells that are set up."""
    _serving(ansible, shared)
    return Controller(ansible, tmp_path, linked.inventory, linked.hosts, shared)
