# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The on-cell program on fake hosts: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ansible_collections.pic.cells.plugins.module_utils.program import cli
from ansible_collections.pic.cells.tests.unit.world import World, program


def test_help_names_every_command_and_exit_code(linked: World) -> None:
    rc, out, _err = program(linked["cella"], "--help")
    assert rc == 0
    for word in ("restore", "check", "status", "exit codes", "  3  check"):
        assert word in out


@pytest.mark.parametrize("words", [(), ("nonsense",), ("restore", "--what")])
def test_arguments_that_cannot_be_understood(linked: World, words: tuple[str, ...]) -> None:
    rc, out, err = program(linked["cella"], *words)
    assert (rc, out) == (2, "")
    assert "usage: pic-cell" in err


def test_only_root_may(linked: World) -> None:
    rc, _out, err = program(linked["cella"], "restore", uid=1000)
    assert (rc, err) == (1, "pic-cell: This needs root, but runs as user id 1000.\n")


@pytest.mark.parametrize("command", ["restore", "check"])
def test_a_host_that_is_no_cell(world: World, command: str) -> None:
    rc, _out, err = program(world["cella"], command)
    assert rc == 1
    assert "is not a cell" in err
    assert world["cella"].steps == []


def test_check_and_status_say_what_differs(linked: World) -> None:
    host = linked["cella"]
    assert program(host, "check") == (0, "", "")
    host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    rc, out, _err = program(host, "check")
    assert rc == 3
    assert "missing: 10.0.0.2: [4001] table 4200, [4002] unreachable" in out.splitlines()
    rc, text, _err = program(host, "check", "--json")
    assert (rc, json.loads(text)["drift"]) == (3, out.splitlines())
    rc, out, _err = program(host, "status")
    assert rc == 0
    assert "peer laptop: no handshake yet; internet direct" in out.splitlines()
    assert json.loads(program(host, "status", "--json")[1])["name"] == "cella"
    assert host.steps == []


def test_restore_says_what_it_has_put_back(linked: World) -> None:
    host = linked["cella"]
    host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    rc, out, _err = program(host, "restore", "--json")
    assert rc == 0
    assert "missing: 10.0.0.2: [4001] table 4200, [4002] unreachable" in json.loads(out)["repairs"]
    assert program(host, "restore") == (0, "", "")


def test_what_runs_for_ever_without_privileges_loads_little_of_the_engine() -> None:
    """It would stay in memory on every cell."""
    engine = cli.__name__.rpartition(".program.")[0]
    script = f"import sys, {cli.__name__}, {engine}.program.unprivileged\n"
    script += f"print(*(name[{len(engine) + 1}:] for name in sys.modules if name.startswith('{engine}.')))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert "program.probe" in loaded
    assert not [name for name in loaded if (name.startswith("kernel.") and name != "kernel.plan") or name in ("info", "cell", "parts.firewall", "parts.part")]
