# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks of the collection as the tests run them, on the lab's inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pic.cells.tests.unit import forking, playbooks

PROJECT = Path(__file__).resolve().parents[2]
INVENTORY = PROJECT / "molecule" / "inventory.yml"
# Of the oldest ansible-core that the collection takes (tests/tools/oldest.sh makes it), and of the one that the tests themselves run with.
PROGRAMS = {"oldest": PROJECT / ".build" / "oldest" / "bin", "current": Path(sys.executable).parent}
PLAIN = {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
_shared: list[Path] = []  # by all calls of Ansible, while there is a server for them
CONTROLLER_ONLY = {
    "ansible.builtin.assert",
    "ansible.builtin.validate_argument_spec",
    "ansible.builtin.add_host",
    "ansible.builtin.group_by",
    "ansible.builtin.debug",
    "ansible.builtin.include_tasks",
    "ansible.builtin.set_fact",
    "pic.cells.pic_cells_check",
}


@dataclass
class Outcome:
    """How a playbook ended: exit code, recap by host, and every result as (host that was worked on, task, result)."""

    rc: int
    stats: dict[str, dict[str, int]]
    results: list[tuple[str, str, dict[str, Any]]]
    text: str

    @property
    def message(self) -> str:
        """Returns what the failed tasks said."""
        return "\n".join(str(result.get("msg")) for _host, _task, result in self.results if result.get("failed"))

    @property
    def changed(self) -> dict[str, int]:
        """Returns the number of changed tasks by host."""
        return {host: stat["changed"] for host, stat in self.stats.items()}

    def changes(self) -> set[tuple[str, str, str]]:
        """Returns host, task and difference of all that changed, or in check mode would."""
        return {(host, task, json.dumps(result.get("diff"), sort_keys=True)) for host, task, result in self.results if result.get("changed")}

    def executed(self, host: str) -> list[str]:
        """Returns the tasks that have executed a module on a host, one for each execution."""
        # Of the step whose results are not shown, nothing tells whether it was skipped: it only runs where a link has no key yet.
        unseen = ("skipped", "censored")
        return [task for at, task, result in self.results if at == host and not any(map(result.get, unseen)) and result.get("action") not in CONTROLLER_ONLY]


@contextmanager
def served() -> Iterator[None]:
    """Has a server run Ansible for all who ask here: a process that has imported it, and keeps what it has packed of a module for the next call."""
    program = PROGRAMS["current"] / "ansible-playbook"
    with tempfile.TemporaryDirectory() as folder, playbooks.serving(program, {**os.environ, **PLAIN, **playbooks.built_once(Path(folder), program)}):
        _shared.append(Path(folder))
        yield
        _shared.pop()


def write_client(program: Path) -> None:
    """Writes a program that the server runs as it would a call of what it is named after."""
    environment = f"{{**os.environ, **{_built('current')!r}}}"
    forking.write_client(program, playbooks.address(_built("current")), f"[sys.argv, {environment}, os.getcwd()]")


def _built(core: str) -> dict[str, str]:
    return playbooks.built_once(_shared[-1], PROGRAMS[core] / "ansible-playbook") if _shared else {}


def _called(argv: list[str], environment: dict[str, str], core: str, timeout: float) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, **PLAIN, "MOLECULE_PROJECT_DIRECTORY": str(PROJECT), **_built(core), **environment}
    return playbooks.called([str(PROGRAMS[core] / argv[0]), *argv[1:]], whole, PROJECT, timeout)


def call(cell: str, module: str, arguments: str) -> subprocess.CompletedProcess[str]:
    """Calls one module on a cell, as `ansible` does."""
    argv = ["ansible", "-i", str(INVENTORY), cell, "-m", f"pic.cells.{module}", "-a", arguments]
    return _called(argv, {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1"}, "current", 60)


def play(name: str, *options: str, overlay: dict[str, Any] | None = None, inventory: Path = INVENTORY, core: str = "current", **extra_vars: Any) -> Outcome:
    """Runs a playbook by its name or path; overlay states variables of hosts beyond the inventory, by host; core: one of PROGRAMS."""
    done = run(name, *options, overlay=overlay, inventory=inventory, callback="ansible.posix.json", core=core, **extra_vars)
    start = done.stdout.find("{\n")
    if start < 0:
        raise AssertionError(f"{name} said nothing: {done.stdout}{done.stderr}")
    report = json.loads(done.stdout[start:])
    results = []
    for one_play in report["plays"]:
        for task in one_play["tasks"]:
            for host, result in task["hosts"].items():
                for item in result.get("results") or [result]:
                    at = item.get("item", host)
                    at = at[0] if isinstance(at, list) else at
                    results.append((str(at) if "results" in result else host, task["task"]["name"], {"action": result.get("action"), **item}))
    return Outcome(done.returncode, report["stats"], results, done.stdout + done.stderr)


def run(
    name: str,
    *options: str,
    overlay: dict[str, Any] | None = None,
    inventory: Path = INVENTORY,
    callback: str = "default",
    core: str = "current",
    **extra_vars: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs a playbook as a user does, and returns what it printed."""
    environment = {"ANSIBLE_STDOUT_CALLBACK": callback}
    if core != "current":  # it has no collections of its own, and the callback is one's
        found = [os.environ["ANSIBLE_COLLECTIONS_PATH"], *map(str, PROGRAMS["current"].parent.glob("lib/python*/site-packages"))]
        environment["ANSIBLE_COLLECTIONS_PATH"] = os.pathsep.join(found)
    argv = ["ansible-playbook", "-i", str(inventory)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        if overlay:
            yaml.safe_dump({"all": {"hosts": overlay}}, file)
            file.flush()
            argv += ["-i", file.name]
        for key, value in extra_vars.items():
            argv += ["-e", f"{key}={value}"]
        playbook = name if "/" in name else f"pic.cells.{name}"
        return _called([*argv, *options, playbook], environment, core, 300)
