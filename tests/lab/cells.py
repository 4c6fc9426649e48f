# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests ask of the lab's cells, and do to them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lab
from lab import PREFIX, inside, podman

_WATCH_OFF = "/etc/systemd/system/pic-cell-watch.service.d/pic-lab.conf"  # lab.py


def sh(host: str, script: str, check: bool = True) -> str:
    """Runs a script on a host, and returns what it printed."""
    return inside(host, "sh", "-c", script, check=check).stdout


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Tries until it is so, and tells whether it was in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


def link_record(cell: str, other: str) -> dict[str, Any]:
    """Returns what a cell remembers of another."""
    return dict(next(link for link in json.loads(inside(cell, "cat", "/var/lib/pic/cell_links.json").stdout)["links"] if link["name"] == other))


def may_use(cell: str, other: str) -> set[str]:
    """Returns which services of another cell a cell knows that it may use."""
    return {name for name, allowed in link_record(cell, other)["permissions"]["outbound"].items() if allowed}


@contextmanager
def watching(cell: str) -> Iterator[None]:
    """Lets a cell's watcher run while the block runs."""
    sh(cell, f"mv {_WATCH_OFF} /root/; systemctl daemon-reload; systemctl restart pic-cell-watch")
    try:
        yield
    finally:
        sh(cell, f"mv /root/pic-lab.conf {_WATCH_OFF}; systemctl daemon-reload; systemctl restart pic-cell-watch")


@contextmanager
def switched_off(cell: str) -> Iterator[None]:
    """Switches a cell off while the block runs, and on again."""
    podman("stop", PREFIX + cell)
    try:
        yield
    finally:
        podman("start", PREFIX + cell)
        lab.wait_until_running(lab.HOSTS[cell])
