# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records on disk: one lock for read-plan-apply, atomic writes, corrupt files set aside."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..base.command import Host, writing
from ..base.errors import StoreError
from ..base.names import check_state_dir
from ..base.texts import printable
from . import soundness
from .codec import dump_cell, dump_leaving, dump_links, dump_peers
from .model import State

STATE_DIR = "/var/lib/pic"
LOCK = "lock"
INVITATIONS = "invitations"  # the folder within of keys that wait for a link
_SHOWN = 200  # characters of what is wrong with a file

# In the order in which they are written.
FILES: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "leaving.json": ("leaving", soundness.leaving, dump_leaving),
    "cell.json": ("cell", soundness.cell, dump_cell),
    "cell_links.json": ("links", soundness.links, dump_links),
    "peer_registry.json": ("peers", soundness.peers, dump_peers),
}


class Store:
    """The folder with a cell's records."""

    def __init__(self, host: Host, path: str = STATE_DIR) -> None:
        """path: the folder (0700, made on the first write)."""
        self.host = host
        self.path = check_state_dir(path)
        self.warnings: list[str] = []

    @contextlib.contextmanager
    def lock(self, create: bool = True, wait: float = 30, name: str = LOCK) -> Iterator[None]:
        """Hold the cell's lock, or another one of this name; raise StoreError that says who holds it after wait seconds.

        create: make the folder if there is none; a run that only predicts must not, and has nothing to lock then.
        """
        folder = os.path.join(self.host.root, self.path.lstrip("/"))
        if not create and not os.path.isdir(folder):
            yield
            return
        with writing(f"{self.path}/{name}"):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            handle = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        holder = printable(os.pread(handle, 80, 0).decode("utf-8", "surrogateescape")).strip() or "another run"
                        raise StoreError(
                            f"The records in {self.path} have been locked by {holder} for more than {wait:g} s. Wait for it or stop it, then run again."
                        ) from None
                    time.sleep(0.1)
            with contextlib.suppress(OSError):  # a full disk keeps nobody from repairing what is no record
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()}\n".encode(), 0)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, 0)
        finally:
            os.close(handle)

    def was_killed(self, name: str) -> bool:
        """Tell whether who held a lock has ended without letting it go."""
        try:
            handle = os.open(os.path.join(self.host.root, self.path.lstrip("/"), name), os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return os.fstat(handle).st_size > 0
        except BlockingIOError:
            return False
        finally:
            os.close(handle)

    def load(self) -> State:
        """Read all records. A file that cannot be read counts as empty (permissions fail closed) and is reported in warnings."""
        state = State()
        self.warnings = []
        for name, (part, load, _dump) in FILES.items():
            text = self.host.read(f"{self.path}/{name}")
            if text is None:
                continue
            try:
                setattr(state, part, soundness.read(text, load))
            except ValueError as error:
                state.peers_lost = state.peers_lost or part == "peers"
                state.links_lost = state.links_lost or part == "links"
                said = printable(str(error))[:_SHOWN]
                self.warnings.append(
                    f"{self.path}/{name} cannot be read ({said}); nothing in it counts as allowed, and the next write keeps it as {name}.corrupt."
                )
        return state

    def writes(self, before: State, after: State) -> list[tuple[str, str]]:
        """List (path, text) of the record files whose content has to change, corrupt ones set aside first."""
        wanted = []
        for name, (part, load, dump) in FILES.items():
            if getattr(before, part) == getattr(after, part):
                continue
            path = f"{self.path}/{name}"
            found = self.host.read(path)
            if found is not None and not _readable(found, load):
                wanted.append((_unused_name(self.host, f"{path}.corrupt"), found))
            wanted.append((path, json.dumps(dump(getattr(after, part)), indent=1, sort_keys=True) + "\n"))
        return wanted


def _readable(text: str, load: Callable[[Any], Any]) -> bool:
    try:
        soundness.read(text, load)
    except ValueError:
        return False
    return True


def _unused_name(host: Host, path: str) -> str:
    name, count = path, 1
    while host.exists(name):
        name, count = f"{path}.{count}", count + 1
    return name
