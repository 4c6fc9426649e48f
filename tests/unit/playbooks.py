# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's programs in a process that has imported them already: that is nearly half of what a short run takes."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.tests.unit import forking

COLLECTION = Path(__file__).parents[2]
PROGRAMS = {"ansible": "ansible.cli.adhoc", "ansible-playbook": "ansible.cli.playbook"}
# What a run imports by name, and each of its tasks in a process of its own.
PLUGINS = (
    *(f"ansible.plugins.{name}" for name in ("strategy.linear", "connection.local", "connection.ssh", "become.sudo", "shell.sh")),
    *(f"ansible.plugins.{name}" for name in ("action.normal", "callback.default", "cache.memory")),
    *(f"ansible.plugins.{name}" for name in ("inventory.host_list", "inventory.script", "inventory.auto", "inventory.yaml", "vars.host_group_vars")),
    *("ansible.executor.process.worker", "ansible_collections.ansible.posix.plugins.callback.json"),
    *(
        f"ansible_collections.ansible.builtin.plugins.action.{name}"
        for name in ("add_host", "assert", "debug", "group_by", "set_fact", "validate_argument_spec")
    ),
    *(f"ansible_collections.pic.cells.plugins.{kind}.{path.stem}" for kind in ("action", "lookup") for path in COLLECTION.glob(f"plugins/{kind}/*.py")),
)


def serve(address: str) -> None:
    """Serve those who ask for a run at an address."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]:
        del sys.modules[name]  # Ansible finds collections in its own way
    for name in PROGRAMS.values():
        importlib.import_module(name)
    importlib.import_module("ansible.plugins.loader").init_plugin_loader()
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    for name in PLUGINS:
        with contextlib.suppress(ImportError):  # each version of Ansible has its own
            importlib.import_module(name)
    forking.serve(address, main)


def main(argv: list[str], environment: dict[str, str], folder: str) -> None:
    """Run one of PROGRAMS as a process would that was started with this environment in a folder."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    constants: Any = importlib.import_module("ansible.constants")
    importlib.reload(constants)  # it reads configuration and environment
    importlib.import_module(PROGRAMS[Path(argv[0]).name]).main(argv)


def built_once(shared: Path, program: Path) -> dict[str, str]:
    """Return the environment with which calls of a program share in a folder what they have built of modules."""
    built = shared / f"built by {program.parents[1].name}"
    built.mkdir(exist_ok=True)
    return {"ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"), "PIC_CELLS_BUILT": str(built)}


def called(argv: list[str], environment: Mapping[str, str], folder: Path, timeout: float = 120, anew: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook in a folder, where there is a server for its environment by that. anew: in any case as a program of its own."""
    if "PIC_CELLS_BUILT" in environment and not anew and (server := address(environment)).exists():
        return forking.asked(server, timeout, argv, environment, str(folder))
    return subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout)


def serving(program: Path, environment: Mapping[str, str]) -> contextlib.AbstractContextManager[None]:
    """Have a server that runs playbooks as a program does. environment: its own, with what built_once returns."""
    return forking.serving(address(environment), __name__, str(program.parent / "python"), environment)


def address(environment: Mapping[str, str]) -> Path:
    """Return where the server for an environment is, or would be."""
    return Path(environment["PIC_CELLS_BUILT"] + ".socket")
