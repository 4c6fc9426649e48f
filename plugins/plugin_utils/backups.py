# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a backup on the controller: where it is, and how it is closed and opened with the vault passwords of the run. Raises BadInput."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, is_encrypted

from ansible_collections.pic.cells.plugins.module_utils.backup import LARGEST
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import device_files, devices
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import read_file, shown, write_new

_CLOSED = 5  # how many times as large a vault is as what is in it, at most: it is written in hexadecimal digits of hexadecimal digits


def place(hostvars: Mapping[str, Any], mesh: Mesh, host: str, stated: str | None) -> str:
    """Return the path of a new backup; refuse one where no new file can be, or where it would not last."""
    name = f"{mesh.name(host)}-{time.strftime('%Y-%m-%d')}.backup"
    if stated:
        path = _absolute(stated, "backup_dest")
        path = os.path.join(path, name) if stated.endswith(os.sep) or os.path.isdir(path) else path
    elif devices.keeps_output(mesh.extra):
        raise BadInput("The files of this job end with it, so a backup would be lost. Give backup_dest, a path that outlives the job.")
    else:
        found = device_files.default_place(hostvars, host, name)
        if found is None:
            raise BadInput(f"The inventory of host {host!r} is in no file, beside which the backup could be. Give backup_dest, a path.")
        path = found
    device_files.check_apart(hostvars, path, "The backup", "backup_dest")
    if os.path.lexists(path):
        raise BadInput(f"{shown(path)} is there already, and no backup is ever overwritten. Give backup_dest, another path, or move that file away.")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(f"No file can be made in {shown(folder)}. Make the folder, or give backup_dest, another path.")
    return path


def write(path: str, text: bytes, vault: VaultLib) -> None:
    """Write a new backup, for its owner alone."""
    try:
        write_new(Path(path), vault.encrypt(text) if vault.secrets else text)
    except (OSError, ValueError, AnsibleError) as error:
        raise BadInput(f"The backup {shown(path)} cannot be written ({shown(error)}). Give another backup_dest, or run again.") from None


def read(stated: str, vault: VaultLib) -> bytes:
    """Return what a backup holds."""
    path = _absolute(stated, "backup")
    try:
        found = read_file(Path(path), LARGEST * _CLOSED)
    except OSError as error:
        raise BadInput(
            f"The backup {shown(path)} cannot be read ({shown(error)}). Give backup, the path of a file that pic.cells.backup has written."
        ) from None
    if not is_encrypted(found):
        return found
    try:
        return bytes(vault.decrypt(found))
    except AnsibleError:
        raise BadInput(
            f"The backup {shown(path)} is encrypted, and no vault password of this run opens it. Give the one of the run that made it (--ask-vault-pass, or "
            "--vault-password-file)."
        ) from None


def vault_of(loader: Any) -> VaultLib:
    """Return what has the vault passwords of the run. loader: Ansible's."""
    return VaultLib(loader._vault.secrets)


def _absolute(stated: str, option: str) -> str:
    if "\0" in stated:
        raise BadInput(f"{option} holds a NUL, which no path can. Correct it.")
    return os.path.abspath(os.path.expanduser(stated))
