# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preshared key that waits on this cell for a link with another owner's: used once, gone with the link, or after a day."""

from __future__ import annotations

from collections.abc import Iterable

from ..base.command import Host
from ..kernel.plan import Plan, Remove, Write
from ..records.store import INVITATIONS

AGE = 24 * 3600  # seconds
_KEY, _MADE, _WHOLE = ".psk", ".made", ".token"  # a host may copy a file with another time, so when it was made is written down


def key_path(folder: str, name: str) -> str:
    """Return the file with the key for a cell. folder: the one with the records."""
    return f"{folder}/{INVITATIONS}/{name}{_KEY}"


def token_path(folder: str, name: str) -> str:
    """Return the file with the whole invitation of a cell, its secret in it."""
    return f"{folder}/{INVITATIONS}/{name}{_WHOLE}"


def waiting(host: Host, folder: str, name: str, now: float) -> str | None:
    """Return the key that waits for a cell; None where there is none, or it is too old to be used."""
    path = key_path(folder, name)
    text = host.read(path)
    return (text.strip() or None) if text is not None and not _is_over(host, path, now) else None


def plan_new(folder: str, name: str, key: str, now: float) -> Plan:
    """Plan the file of a new key."""
    path = key_path(folder, name)
    plan = Plan([Write(_made_path(path), f"{int(now)}\n"), Write(path, f"{key}\n")])
    plan.describe([], [f"{path}: the preshared key of link {name}"])
    return plan


def until(host: Host, folder: str, name: str, now: float) -> int:
    """Return when the key that waits for a cell is too old, in seconds since the epoch; of one that is new, or that nobody knows the time of, in a day."""
    made = _made(host, key_path(folder, name))
    return (int(now) if made is None else made) + AGE


def plan_used(host: Host, folder: str, names: Iterable[str]) -> Plan:
    """Plan the end of the keys for cells whose link has its key, or is gone."""
    there = {name.rpartition(".")[0] for name in host.list(f"{folder}/{INVITATIONS}")}
    return _plan_end(host, (key_path(folder, name) for name in names if name in there))


def plan_expired(host: Host, folder: str, now: float) -> Plan:
    """Plan the end of keys that nobody has used within a day; one of which nobody knows the time begins its day now."""
    plan = Plan()
    for path in (f"{folder}/{INVITATIONS}/{name}" for name in host.list(f"{folder}/{INVITATIONS}") if name.endswith(_KEY)):
        if _is_over(host, path, now):
            plan.extend(_plan_end(host, [path]))
        elif _made(host, path) is None:
            plan.steps.append(Write(_made_path(path), f"{int(now)}\n"))
            plan.describe([], [f"{path}: kept for a day"])
    return plan


def _plan_end(host: Host, paths: Iterable[str]) -> Plan:
    plan = Plan()
    for path in paths:
        there = [one for one in (path, _made_path(path), path.removesuffix(_KEY) + _WHOLE) if host.exists(one)]
        plan.steps += [Remove(one) for one in there]
        plan.describe([f"{path}: there"] if there else [], [])
    return plan


def _made_path(path: str) -> str:
    return path.removesuffix(_KEY) + _MADE


def _made(host: Host, path: str) -> int | None:
    text = (host.read(_made_path(path)) or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _is_over(host: Host, path: str, now: float) -> bool:
    made = _made(host, path)
    return made is not None and not 0 <= now - made <= AGE
