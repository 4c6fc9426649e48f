# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this run has registered, of all hosts of the batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

CHECKED = "__cell_checked"  # the register of a playbook's check

_Method = TypeVar("_Method", bound=Callable[..., Any])
_Found = dict[tuple[str, ...], Any]


def _keeping(place: Callable[[Any], _Found]) -> Callable[[_Method], _Method]:
    def keeping(method: _Method) -> _Method:
        @functools.wraps(method)
        def found(registers: Registers, *words: str) -> Any:
            key, known = (method.__name__, *words), place(registers)
            if key not in known:
                known[key] = method(registers, *words)
            return known[key]

        return cast(_Method, found)

    return keeping


# Keep what a method has found: each pair of hosts asks for it, and templating costs milliseconds a value.
kept = _keeping(lambda registers: registers.found)
# The same where it depends on whose answers count for the host that asks.
believed = _keeping(lambda registers: registers.view)


class Registers:
    """What the tasks of this run have registered. A host is an inventory name."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        """variables: as known.py returns them."""
        # Names of our own are never taken from an inventory: a register is one, an extra var another.
        self._registers: Mapping[str | None, Any] = variables.get("registers", variables["hostvars"])
        self.own = variables.get("inventory_hostname")
        self.found: _Found = {}
        self.view: _Found = {}
        self.play_hosts: list[str] = list(variables.get("ansible_play_batch", ()))

    def register(self, host: str | None, name: str) -> Any:
        """Return what a host has registered under a name, empty where it has nothing."""
        return (self._registers.get(host) or {}).get(name) or {}

    @property
    def checked(self) -> dict[str, Any]:
        """Return the day-2 change that the playbook has checked, empty for the whole site."""
        return dict(self.register(self.own, CHECKED).get("job") or {})

    @functools.cached_property
    def batch(self) -> list[str]:
        """Return the hosts of this batch of the play, with those that have died."""
        # As it began: who has died since has said something too. Hosts outside of it may have older registers, of another play.
        return list(self.register(self.own, "__cell_batch") or self.play_hosts)

    def results(self, register: str, host: str) -> dict[str, Any]:
        """Return what a registered, delegated task said first for a host, whichever host of the play asked; empty where nothing did."""
        return next(iter(self.reported(register, host)), {})

    def reported(self, register: str, host: str) -> list[dict[str, Any]]:
        """Return all that a registered, delegated task said for a host; an item of its loop is the host, or begins with it."""
        return self._by_host(register, self.only_asker(host)).get(host, [])

    def only_asker(self, host: str) -> str:
        """Return the one host of the batch that can have had anything executed on a host; an empty text where any can."""
        return ""

    def applied(self, host: str, part: str) -> list[dict[str, Any]]:
        """Return all that one part of the step "apply" said for a host."""
        return [result["steps"][part] for result in self.reported("__cell_applied", host)]

    @kept
    def _by_host(self, register: str, asker: str) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for result in self.registered(register, asker):
            if not any(result.get(key) for key in ("unreachable", "failed", "skipped")):
                item = result.get("item")
                found.setdefault(str(item[0] if isinstance(item, list) else item), []).append(result)
        return found

    @kept
    def registered(self, register: str, asker: str = "") -> list[dict[str, Any]]:
        """Return all results of a registered task, of one host of this batch or of all."""
        return self.said_to([asker] if asker else self.batch, register)

    def said_to(self, askers: Iterable[str], register: str) -> list[dict[str, Any]]:
        """Return all results of a registered task that some hosts of the play have asked for."""
        return [result for asker in askers for result in self.register(asker, register).get("results", ())]

    @kept
    def answered(self, host: str) -> dict[str, Any]:
        """Return what a host has answered to the preflight."""
        return self.results("__cell_read", host) or self.results("__cell_others", host)
