# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real ansible-core, of several versions, with fake hosts for cells: what Ansible itself makes of an answer, no stand-in shows."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pic.cells.tests.unit import forking, playbooks
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost

PROJECT = Path(__file__).parents[2]
BUILD = PROJECT / ".build"
# The oldest that the collection takes (tests/tools/oldest.sh makes it), and the one that the tests themselves run with.
PROGRAMS = {"oldest": BUILD / "oldest" / "bin" / "ansible-playbook", "current": Path(sys.executable).parent / "ansible-playbook"}


@dataclass
class Outcome:
    """How a playbook ended: exit code, recap by host, each result as (host that was worked on, task, result), and all that was printed."""

    rc: int
    stats: dict[str, dict[str, int]]
    results: list[tuple[str, str, dict[str, Any]]]
    text: str

    @property
    def message(self) -> str:
        """Return what the failed tasks said."""
        return "\n".join(str(result.get("msg")) for _host, _task, result in self.results if result.get("failed"))

    @property
    def said(self) -> dict[str, list[str]]:
        """Return the summary, by host."""
        return {host: result["msg"] for host, task, result in self.results if "Summary | " in task}


class Controller:
    """A machine with Ansible, an inventory, and fake hosts that it reaches.

    settings: of ansible.cfg, its section defaults.
    """

    def __init__(self, program: Path, folder: Path, inventory: Mapping[str, Mapping[str, Any]], hosts: Mapping[str, FakeHost], shared: Path) -> None:
        """program: ansible-playbook. inventory: variables by host, all in the group cells. hosts: what is behind those that are to be reached.

        shared: a folder for what all controllers share, with the socket cell-python.
        """
        self.program, self.folder = program, folder
        self.inventory: dict[str, Any] = {"all": {"children": {"cells": {"hosts": {name: dict(variables) for name, variables in inventory.items()}}}}}
        self.settings: dict[str, str] = {}
        self.shared = playbooks.built_once(shared, program)
        for name, host in hosts.items():
            self[name] = host
            python = folder / f"{name}-python"
            forking.write_client(python, shared / "cell-python", repr([str(folder), name]))
            self.of(name).update(ansible_connection="local", ansible_python_interpreter=str(python))

    def of(self, host: str) -> dict[str, Any]:
        """Return the variables of a host in the inventory."""
        variables: dict[str, Any] = self.inventory["all"]["children"]["cells"]["hosts"][host]
        return variables

    def __getitem__(self, host: str) -> FakeHost:
        found: FakeHost = pickle.loads((self.folder / f"{host}.pickle").read_bytes())
        return found

    def __setitem__(self, name: str, host: FakeHost) -> None:
        (self.folder / f"{name}.pickle").write_bytes(pickle.dumps(host))

    def hostile(self, host: str, source: str) -> None:
        """Let a host's root answer by a Python function answer(module, arguments, honest), which returns a result, or a text to print."""
        (self.folder / f"{host}.py").write_text(source)

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Let all hosts have facts in a cache, as an earlier run has left them there: up to ansible-core 2.18, and since."""
        folder = self.folder / "facts"
        folder.mkdir()
        for host in self.inventory["all"]["children"]["cells"]["hosts"]:
            (folder / host).write_text(json.dumps(facts))
            (folder / f"s1_{host}").write_text(json.dumps({"__payload__": json.dumps(facts)}))
        self.settings.update(fact_caching="jsonfile", fact_caching_connection=str(folder), fact_caching_timeout="0")

    def asked(self, host: str) -> list[tuple[str, dict[str, Any]]]:
        """Return what was executed on a host: modules and their arguments."""
        log = self.folder / f"{host}.log"
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def play(self, playbook: str, *options: str, timeout: int = 120, callback: str = "ansible.posix.json", **extra_vars: Any) -> Outcome:
        """Run a playbook of the collection by its name, or a file."""
        inventory, config = self.folder / "inventory.yml", self.folder / "ansible.cfg"
        inventory.write_text(yaml.safe_dump(self.inventory))
        config.write_text("[defaults]\ninternal_poll_interval = 0.01\n" + "".join(f"{key} = {value}\n" for key, value in self.settings.items()))
        environment = _environment(self.shared)
        environment.update(
            ANSIBLE_CONFIG=str(config),
            ANSIBLE_HOME=str(self.folder / "ansible"),
            ANSIBLE_REMOTE_TEMP=str(self.folder / "remote"),
            ANSIBLE_STDOUT_CALLBACK=callback,
            HOME=str(self.folder),
        )
        argv = [str(self.program), "-i", str(inventory), *options, playbook if "/" in playbook else f"pic.cells.{playbook}"]
        for key, value in extra_vars.items():
            argv += ["-e", json.dumps({key: value}) if not isinstance(value, str) else f"{key}={value}"]
        return self._outcome(playbooks.called(argv, environment, self.folder, timeout, anew=bool(self.settings)))

    @staticmethod
    def _outcome(done: subprocess.CompletedProcess[str]) -> Outcome:
        start, results = done.stdout.find("{\n"), []
        report = json.loads(done.stdout[start:]) if start >= 0 else {"plays": [], "stats": {}}
        for play in report["plays"]:
            for task in play["tasks"]:
                for host, result in task["hosts"].items():
                    for item in result.get("results") or [result]:
                        at = item.get("item", host) if "results" in result else host
                        results.append((str(at[0] if isinstance(at, list) else at), task["task"]["name"], item))
        return Outcome(done.returncode, report["stats"], results, done.stdout + done.stderr)


def serving_playbooks(program: Path, shared: Path) -> contextlib.AbstractContextManager[None]:
    """Have a server that runs playbooks as a program does, for all controllers that share a folder."""
    return playbooks.serving(program, _environment(playbooks.built_once(shared, program)))


def _environment(built: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that all calls of ansible-playbook have."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    collections = os.pathsep.join(map(str, [BUILD / "collections", *_neighbours()]))
    return {**environment, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1", **built}


def _neighbours() -> list[Path]:
    """Find where ansible.posix is installed: with the package ansible, of the environment for the tools."""
    return sorted(BUILD.glob("venv*/lib/python*/site-packages"))
