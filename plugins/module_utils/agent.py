# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The on-cell program as one file, and the plan that installs it with its units."""

from __future__ import annotations

import importlib.util
import io
import pkgutil
import shlex
import zipfile
from collections.abc import Mapping
from typing import Any

from . import cli, units
from .exchange import SPOOL
from .plan import Plan, Run
from .receiver import CONNECTIONS
from .reconcile import Cell
from .store import STATE_DIR
from .view import FOLDER

PROGRAM = "/usr/local/lib/pic-cells/pic-cell.pyz"
LAUNCHER = "/usr/local/bin/pic-cell"

_PACKAGE = "pic_cells"
_NOT_ON_THE_CELL = ("module", "alone", "rekey")  # for modules alone
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = f"import sys\n\nfrom {_PACKAGE}.{cli.__name__.rpartition('.')[2]} import main\n\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can hold


def sources() -> dict[str, bytes]:
    """Return the engine's own files by module name, from wherever it runs: a folder, or the zip file that Ansible sends."""
    package = importlib.import_module(str(__package__))
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.name not in _NOT_ON_THE_CELL)
    return {name: _source(f"{package.__name__}.{name}") for name in names}


def _source(module: str) -> bytes:
    found: Any = importlib.util.find_spec(module)
    data: bytes = found.loader.get_data(found.origin)
    return data


def build(files: Mapping[str, bytes]) -> bytes:
    """Return the program: a zip file that Python runs; the same bytes for the same sources, wherever it is made."""
    entries = {"__main__.py": _MAIN.encode(), f"{_PACKAGE}/__init__.py": b"", **{f"{_PACKAGE}/{name}.py": text for name, text in files.items()}}
    out = io.BytesIO()
    out.write(_SHEBANG)
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # a file of Unix, rw-r--r--
            archive.writestr(entry, entries[name])  # stored: what compression makes differs by version
    return out.getvalue()


def plan_agent(cell: Cell, interpreter: str, program: bytes) -> Plan:
    """Plan the program, and where systemd runs its units.

    interpreter: the Python that runs it, as long as that is there. program: what build() returned.
    """
    host, plan = cell.host, Plan()
    executables = {PROGRAM: program.decode("utf-8", "surrogateescape"), LAUNCHER: _launcher(interpreter, cell.store.path)}
    for path, text in executables.items():
        plan.write(path, host.read(path), text, 0o755)
    renewed = bool(plan)
    plan.extend(cell.plan_view())
    if not host.exists("/run/systemd/system"):
        return plan
    known = cell.stored
    sockets = len(known.link_interface_names()) * len(known.cell.own_addresses()) + CONNECTIONS
    wanted = units.files(LAUNCHER, cell.store.path, f"{cell.store.path}/{FOLDER}", SPOOL, known.cell.sync_port, sockets)
    for interface in (known.cell.interface, *known.link_interface_names()):
        wanted[units.drop_in_path(interface)] = units.drop_in()
    changed = Plan()
    for path, text in wanted.items():
        changed.write(path, host.read(path), text, 0o644)
    plan.extend(changed)
    if changed:
        plan.steps.append(Run(("systemctl", "daemon-reload")))
    if not all(host.exists(path) for path in units.links()):
        plan.steps.append(Run(("systemctl", "enable", *units.ENABLED)))
        plan.describe(["units: not started by themselves"], ["units: restore at boot, on a timer, and when what removes rules starts; peer-sync at boot"])
    states = host.run(["systemctl", "show", "--property=ActiveState", "--value", *units.RUNNING]).out.split()
    for unit, state in zip(units.RUNNING, states):
        if state == "activating":
            # As in a container without the right to make the receiver's sandbox: systemd tries again by itself, and another start would change nothing.
            plan.warnings.append(f"{unit} does not come up; systemd goes on trying. See why with: journalctl -u {unit}")
        elif state != "active":
            plan.steps.append(Run(("systemctl", "start", unit)))
            plan.describe([f"{unit}: not running"], [f"{unit}: running"])
        elif unit in (units.SERVE, units.WATCH) and (renewed or f"{units.SYSTEM}/{unit}: as wanted" in changed.after):
            plan.steps.append(Run(("systemctl", "restart", unit)))
            plan.describe([f"{unit}: of before"], [f"{unit}: as wanted"])
    return plan


def _launcher(interpreter: str, state_dir: str) -> str:
    """Return the command: Python without the user's own settings, the system's where the given one has gone in an upgrade."""
    arguments = "" if state_dir == STATE_DIR else f" --state-dir {shlex.quote(state_dir)}"
    python = shlex.quote(interpreter)
    return f'#!/bin/sh\n# Kept by pic.cells.\npython={python}\n[ -x "$python" ] || python=python3\nexec "$python" -I {PROGRAM}{arguments} "$@"\n'
