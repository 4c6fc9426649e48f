# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible has packed of a module, kept from one run to the next.

Ansible packs each module with all that this imports once in a run, into a folder that ends with the run. For one that holds the whole engine that takes most of
a second, which is most of the time of a run that changes nothing. Kept is the file as Ansible has written it; it holds no argument.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import ansible
from ansible import constants
from ansible.release import __version__ as core

_COLLECTION = Path(__file__).parents[2]
_ANSIBLE = Path(ansible.__file__).parent
_CACHE = "ansiballz_cache"  # ansible.executor.module_common; where it is called otherwise one day, each run packs anew


@contextlib.contextmanager
def kept(module: str) -> Iterator[None]:
    """Let Ansible find what it has packed of a module of ours in an earlier run, and keep what it packs now. Without a place to keep it nothing is kept."""
    packed, begins = Path(constants.DEFAULT_LOCAL_TMP) / _CACHE, f"ansible_collections.pic.cells.plugins.modules.{module}-"
    with contextlib.suppress(OSError):
        if not _files(packed, begins) and not _overlaid() and _is_ours(store := _store()):
            packed.mkdir(exist_ok=True)
            for file in _files(store, begins):
                _copy(file, packed)
    before = _files(packed, begins)
    yield
    with contextlib.suppress(OSError):
        if not before and not _overlaid():
            _keep(_files(packed, begins), _store())


def _keep(files: list[Path], store: Path) -> None:
    """Put files into a folder that nobody else can write to, and remove what was packed of other versions."""
    store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(store):
        return
    for file in files:
        _copy(file, store)
    for other in set(store.parent.iterdir()) - {store}:
        shutil.rmtree(other, ignore_errors=True)


def _store() -> Path:
    return _home() / "pic.cells" / "packed" / _version()


def _home() -> Path:
    return Path(constants.config.get_config_value("ANSIBLE_HOME")).expanduser()


@functools.cache
def _version() -> str:
    """Return a text that changes with all that is packed: our modules, what they import, and Ansible's own part of it."""
    found = hashlib.sha256(repr((core, sys.version, str(_COLLECTION), str(_ANSIBLE))).encode())
    ours = [_COLLECTION / "plugins" / "modules", _COLLECTION / "plugins" / "module_utils"]
    for file in (path for folder in (*ours, _ANSIBLE / "module_utils") for path in sorted(folder.rglob("*.py"))):
        found.update(f"{file} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    found.update((_COLLECTION / "meta" / "runtime.yml").read_bytes())
    return found.hexdigest()[:32]


def _overlaid() -> bool:
    """Tell whether somebody's own files may take the place of Ansible's."""
    return any(os.path.isdir(folder) and os.listdir(folder) for folder in constants.DEFAULT_MODULE_UTILS_PATH or ())


def _files(folder: Path, begins: str) -> list[Path]:
    return [path for path in folder.glob(f"{begins}*") if path.suffix != ".lock" and path.is_file()] if folder.is_dir() else []


def _is_ours(store: Path) -> bool:
    """Tell whether nobody else can write to what is kept, which Ansible believes. Raises OSError where it is not there."""
    found = [store.lstat(), store.parent.lstat()]
    return all(one.st_uid == os.geteuid() and stat.S_ISDIR(one.st_mode) and not one.st_mode & 0o022 for one in found)


def _copy(file: Path, folder: Path) -> None:
    """Copy a file so that nobody reads half of it: several hosts' processes do this at once."""
    part = folder / f".{file.name}.{os.getpid()}"
    shutil.copyfile(file, part)
    part.replace(folder / file.name)
