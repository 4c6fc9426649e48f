# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook in a process that has imported it already: that is nearly half of what a short run takes."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from ansible_collections.pic.cells.tests.unit import forking

COLLECTION = Path(__file__).parents[2]
# What a run imports by name, and each of its tasks in a process of its own.
PLUGINS = (
    *(f"ansible.plugins.{name}" for name in ("strategy.linear", "connection.local", "shell.sh", "action.normal", "callback.default", "cache.memory")),
    *(f"ansible.plugins.{name}" for name in ("inventory.host_list", "inventory.script", "inventory.auto", "inventory.yaml", "vars.host_group_vars")),
    *("ansible.executor.process.worker", "ansible_collections.ansible.posix.plugins.callback.json"),
    *(f"ansible_collections.ansible.builtin.plugins.action.{name}" for name in ("assert", "debug", "group_by", "set_fact", "validate_argument_spec")),
    *(f"ansible_collections.pic.cells.plugins.{kind}.{path.stem}" for kind in ("action", "lookup") for path in COLLECTION.glob(f"plugins/{kind}/*.py")),
)


def serve(address: str) -> None:
    """Serve those who ask for a run at an address."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]:
        del sys.modules[name]  # Ansible finds collections in its own way
    importlib.import_module("ansible.cli.playbook")
    importlib.import_module("ansible.plugins.loader").init_plugin_loader()
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    for name in PLUGINS:
        with contextlib.suppress(ImportError):  # each version of Ansible has its own
            importlib.import_module(name)
    forking.serve(address, main)


def main(argv: list[str], environment: dict[str, str], folder: str) -> None:
    """Run ansible-playbook as a process would that was started with this environment in a folder."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    constants: Any = importlib.import_module("ansible.constants")
    importlib.reload(constants)  # it reads configuration and environment
    importlib.import_module("ansible.cli.playbook").main(argv)
