# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may read and write what is ours on a cell: records and keys are root's alone."""

from __future__ import annotations

from collections.abc import Iterator

from ..base.command import Host
from ..kernel.plan import Plan, Restrict
from ..kernel.wgconfig import config_path
from .visible import FOLDERS

CONFIG_DIR = "/etc/wireguard"
_WRITTEN = "# Written by pic.cells."  # the first line of a file that we have made
_FOLDER, _FILE, _EVERYBODY = 0o700, 0o600, 0o007


def plan_access(host: Host, folder: str, devices: str) -> Plan:
    """Plan to take away what somebody has given to others than root. folder: that of the records. devices: the interface whose file can be somebody else's."""
    plan = Plan()
    for path in _ours(host, folder, devices):
        found = host.access(path)
        if found is None:
            continue
        mode, owner, is_folder = found
        most = _FOLDER if is_folder else _FILE
        if owner or mode & ~most:
            plan.steps.append(Restrict(path, mode & most))
            plan.describe([f"{path}: {_words(mode, owner)}"], [f"{path}: {_words(mode & most, 0)}"])
    return plan


def exposed(host: Host, devices: str) -> str | None:
    """Return the mode of the devices' interface's file where everybody may read or change it; None where it is ours, which is mended."""
    path = config_path(devices)
    found = host.access(path)
    return None if found is None or not found[0] & _EVERYBODY or _is_ours(host, path) else f"{found[0]:04o}"


def _ours(host: Host, folder: str, devices: str) -> Iterator[str]:
    yield folder
    yield from (f"{folder}/{name}" for name in host.list(folder) if name not in FOLDERS)
    if host.exists(f"{folder}/invitations"):
        yield from (f"{folder}/invitations/{name}" for name in host.list(f"{folder}/invitations"))
    for name in host.list(CONFIG_DIR):
        path = f"{CONFIG_DIR}/{name}"
        if name.endswith(".conf") and (name.startswith("pic-") or (path == config_path(devices) and _is_ours(host, path))):
            yield path


def _is_ours(host: Host, path: str) -> bool:
    return (host.read(path) or "").startswith(_WRITTEN)


def _words(mode: int, owner: int) -> str:
    return f"mode {mode:04o}, owner {owner or 'root'}"
