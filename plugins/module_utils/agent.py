# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The on-cell program as one file, and the part that installs it with its units. Owns no record. Comes last in a run, and holds the whole engine."""

from __future__ import annotations

import functools
import importlib.util
import io
import marshal
import pkgutil
import shlex
import sys
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .cell import RUN
from .compiled import PACKAGE, PROGRAM, head
from .kernel import systemd
from .kernel.plan import Plan, Run, Write
from .parts import units, view
from .parts.part import Context, Part
from .parts.visible import FOLDERS
from .program.receiver import CONNECTIONS
from .program.spool import FOLDER as SPOOL
from .records.store import STATE_DIR

if TYPE_CHECKING:  # Ansible sends a host what is imported, wherever that stands; no module reads them, and the first one calls the others by name
    from .program import cli, commands, every_minute, unprivileged  # noqa: F401

LAUNCHER = "/usr/local/bin/pic-cell"
ENGINE = __file__.rpartition("/")[0]

_NOT_ON_THE_CELL = {
    "module",
    "steps",
    "options",
    "alone",
    "backup",
    "rekey",
    "invitation",
    "tokens",
    "redeem",
    "apart",
    "ways",
    "confirm",
    "adopt",
    "adoptable",
    "adoptable_links",
    "wglabels",
}  # for modules alone
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = f"import sys\n\nfrom {PACKAGE}.program.cli import main\n\nsys.exit(main())\n"
_PYTHON = str(sys.implementation.cache_tag).encode()
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can hold


def sources() -> dict[str, bytes]:
    """Return the engine's own files by path without .py, from wherever it runs: a folder, or the zip file that Ansible sends."""
    package = importlib.import_module(str(__package__))
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    cut = len(package.__name__) + 1
    names = sorted(module.name for module in found if not {module.name[cut:].partition(".")[0], module.name.rpartition(".")[2]} & _NOT_ON_THE_CELL)
    return dict(_source(name, cut) for name in names)


def _source(name: str, cut: int) -> tuple[str, bytes]:
    found: Any = importlib.util.find_spec(name)
    data: bytes = found.loader.get_data(found.origin.removesuffix("c"))  # where it lies compiled beside its source, that is found first
    path = name[cut:].replace(".", "/")
    return (f"{path}/__init__" if found.submodule_search_locations else path), data


def build(files: Mapping[str, bytes], draft: bool = False) -> bytes:
    """Return the program: a zip file that Python runs. It holds each module compiled for this Python too, which halves the time that a command takes.

    draft: leave out what is compiled, since nobody is going to run it.
    """
    entries = _entries(files)
    out = io.BytesIO()
    out.write(_SHEBANG)
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(entries):
            for path, data in ((name, entries[name]), *(() if draft else ((f"{name}c", _compiled(name, entries[name])),))):
                entry = zipfile.ZipInfo(path, _EPOCH)
                entry.create_system, entry.external_attr = 3, 0o644 << 16  # a file of Unix, rw-r--r--
                archive.writestr(entry, data)
        archive.comment = _PYTHON
    return out.getvalue()


def is_built_of(files: Mapping[str, bytes], program: str | None) -> bool:
    """Tell whether a program is whole, and made of these sources for this Python. What is compiled of one source can differ from one process to the next."""
    try:
        with zipfile.ZipFile(io.BytesIO((program or "").encode("utf-8", "surrogateescape"))) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return False
            found = {name: archive.read(name) for name in archive.namelist()}  # judges the checksum of each
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError):
        return False
    entries = _entries(files)
    compiled = {f"{name}c": head(source) for name, source in entries.items()}
    if archive.comment != _PYTHON or set(found) != {*entries, *compiled}:
        return False
    return all(found[name] == source for name, source in entries.items()) and all(found[name].startswith(begin) for name, begin in compiled.items())


def _entries(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {"__main__.py": _MAIN.encode(), f"{PACKAGE}/__init__.py": b"", **{f"{PACKAGE}/{name}.py": text for name, text in files.items()}}


@functools.lru_cache(maxsize=256)
def _compiled(name: str, source: bytes) -> bytes:
    """Return a module compiled, in the form that Python takes unread beside its source: another version of it takes the source (PEP 552)."""
    begin, kept = head(source), _kept(name)
    return kept if kept.startswith(begin) else begin + marshal.dumps(compile(source, name, "exec", dont_inherit=True))


def _kept(name: str) -> bytes:
    """Return what cell_step has compiled of a module already, as it lies beside the source; nothing where that is elsewhere, as in a zip file."""
    found = importlib.util.cache_from_source(f"{ENGINE}/{name.partition('/')[2]}")
    try:
        with open(found, "rb") as file:
            return file.read()
    except OSError:
        return b""


def plan_agent(context: Context) -> Plan:
    """Plan the program, and where systemd runs its units."""
    host, plan = context.host, Plan()
    # This Python runs it, as long as that is there.
    files, found = sources(), host.read(PROGRAM)
    program = found if is_built_of(files, found) else build(files, draft=context.predict).decode("utf-8", "surrogateescape")
    for path, text in {PROGRAM: str(program), LAUNCHER: _launcher(sys.executable, context.store.path)}.items():
        plan.write(path, host.read(path), text, 0o755)
    renewed = bool(plan)
    plan.extend(view.plan_view(context))
    if not host.exists("/run/systemd/system"):
        return plan
    known = context.stored
    sockets = len(known.link_interface_names()) * len(known.cell.own_addresses()) + CONNECTIONS
    seen, exits = (f"{context.store.path}/{folder}" for folder in FOLDERS)
    wanted = units.files(LAUNCHER, context.store.path, seen, exits, SPOOL, known.cell.sync_port, sockets)
    for interface in (known.cell.interface, *known.link_interface_names()):
        wanted[systemd.drop_in_path(interface)] = units.drop_in()
    changed = Plan()
    for path, text in wanted.items():
        changed.write(path, host.read(path), text, 0o644)
    plan.extend(changed)
    written = [step.path for step in changed.steps if isinstance(step, Write)]
    if written:
        plan.steps.append(Run(("systemctl", "daemon-reload")))
    if not all(host.exists(path) for path in units.links()):
        plan.steps.append(Run(("systemctl", "enable", *units.ENABLED)))
        plan.describe(
            ["units: not started automatically"], ["units: restore at boot, on a timer, and when software that removes rules starts; peer-sync at boot"]
        )
    for unit, state in units.states(host).items():
        if state == "activating":
            # As in a container without the right to make the receiver's sandbox: systemd tries again by itself, and another start would change nothing.
            plan.warnings.append(f"{unit} does not start; systemd keeps trying. See why with: journalctl -u {unit}")
        elif state != "active":
            plan.steps.append(Run(("systemctl", "start", unit)))
            plan.describe([f"{unit}: not running"], [f"{unit}: running"])
        elif unit in units.RESTARTED and (renewed or f"{systemd.SYSTEM}/{unit}" in written):
            plan.steps.append(Run(("systemctl", "restart", unit)))
            plan.describe([f"{unit}: of before"], [f"{unit}: as wanted"])
    return plan


def _launcher(interpreter: str, state_dir: str) -> str:
    """Return the command: Python without the user's own settings, the system's where the given one has gone in an upgrade."""
    arguments = "" if state_dir == STATE_DIR else f" --state-dir {shlex.quote(state_dir)}"
    python = shlex.quote(interpreter)
    return f'#!/bin/sh\n# Kept by pic.cells.\npython={python}\n[ -x "$python" ] || python=python3\nexec "$python" -I {PROGRAM}{arguments} "$@"\n'


AGENT = Part("agent", lambda context: (plan_agent(context), {"program": LAUNCHER}))
APPLIED = {**{step: RUN[step] for step in ("hear", "rules", "links", "routes")}, "agent": (AGENT,)}  # all that needs nothing more of another cell
WHOLE_RUN = {"identity": RUN["identity"], "tell": RUN["tell"], **APPLIED, "note": RUN["note"]}
