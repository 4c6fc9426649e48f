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

from .command import Host
from .errors import StoreError
from .records import State, dump_cell, dump_links, dump_peers, load_cell, load_links, load_peers

STATE_DIR = "/var/lib/pic"

FILES: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "cell.json": ("cell", load_cell, dump_cell),
    "cell_links.json": ("links", load_links, dump_links),
    "peer_registry.json": ("peers", load_peers, dump_peers),
}


class Store:
    """The folder with a cell's records."""

    def __init__(self, host: Host, path: str = STATE_DIR) -> None:
        """path: the folder (0700, made on the first write)."""
        self.host = host
        self.path = path
        self.warnings: list[str] = []

    @contextlib.contextmanager
    def lock(self, create: bool = True, wait: float = 30) -> Iterator[None]:
        """Hold the cell's lock; raise StoreError that says who holds it after wait seconds.

        create: make the folder if there is none; a run that only predicts must not, and has nothing to lock then.
        """
        folder = os.path.join(self.host.root, self.path.lstrip("/"))
        if create:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        elif not os.path.isdir(folder):
            yield
            return
        with open(os.path.join(folder, "lock"), "a+", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        file.seek(0)
                        raise StoreError(
                            f"The records in {self.path} are locked by {file.read().strip() or 'another run'} for more than {wait:g} s. "
                            "Wait for it or end it, then run again."
                        ) from None
                    time.sleep(0.1)
            file.truncate(0)
            file.write(f"process {os.getpid()}\n")
            file.flush()
            yield

    def load(self) -> State:
        """Read all records. A file that cannot be read counts as empty (permissions fail closed) and is reported in warnings."""
        state = State()
        self.warnings = []
        for name, (part, load, _dump) in FILES.items():
            text = self.host.read(f"{self.path}/{name}")
            if text is None:
                continue
            try:
                setattr(state, part, load(json.loads(text)))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self.warnings.append(
                    f"{self.path}/{name} cannot be read ({error}); it is kept as {name}.corrupt on the next write, and everything in it counts as not allowed."
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
        load(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True


def _unused_name(host: Host, path: str) -> str:
    name, count = path, 1
    while host.exists(name):
        name, count = f"{path}.{count}", count + 1
    return name
