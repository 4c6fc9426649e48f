# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a part of a cell is, and what its plan is made of.

Each part has one file. It owns some fields of the records, and plans how the host gets there. Its plan writes the records
first, so that after a crash at any later step the next run knows what was meant.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..base.command import Host
from ..base.times import render_moment
from ..kernel import conntrack
from ..kernel.model import Routing
from ..kernel.observed import Observed
from ..kernel.plan import Plan, Write
from ..records import model as records
from ..records import ownership
from ..records.model import State
from ..records.ownership import Fields
from ..records.store import Store
from ..records.tombstones import Leaving
from . import adoption, keys, verdicts
from .inputs import Inputs
from .stages import Contribution

Planned = tuple[Plan, dict[str, Any]]  # ordered steps, and what the part's module returns


NOTHING = Fields()


@dataclass(frozen=True)
class Part:
    """One part of a cell.

    name: its step in a run, a rehearsal or a repair. plan: from records and kernel to ordered steps; reads, but changes nothing.
    owns: the record fields that it alone writes. merges: what of a call its plan knows, each a pure function on the records.
    check: what the host forbids; raises BadInput. words: its records as a person reads them, a line each.
    repair: what a repair says of it, from the records. rules: what it adds to the stages of the firewall, for the part that plans that.
    """

    name: str
    plan: Callable[[Context], Planned]
    owns: Fields = NOTHING
    merges: tuple[Callable[[State, Inputs], None], ...] = ()
    check: Callable[[Context], None] = lambda _context: None
    words: Callable[[State], list[str]] = lambda _state: []
    repair: Callable[[State], Inputs] = lambda _stored: Inputs()
    rules: tuple[Contribution, ...] = ()


IDLE = Part("", lambda _context: (Plan(), {}))


class Context:
    """A cell while it is read, planned and changed: its host, its kernel, its records as stored and as wanted, and what a call says."""

    def __init__(self, host: Host, store: Store, predict: bool = False, now: float | None = None) -> None:
        """host: the machine, a draft to predict. store: its records. predict: no plan will be applied. now: seconds since the epoch."""
        self.host = host
        self.store = store
        self.predict = predict
        self.now = time.time() if now is None else now
        self.ends_flows = True  # or what a plan is for goes on without
        self.contributions: tuple[Contribution, ...] = ()
        self.observed = Observed(host)
        self._down = verdicts.read(host)  # once: all parts go by the same
        self._load()

    def _load(self) -> None:
        self.stored = self.store.load()
        self.stored.down = self._down
        self.wanted = self.stored.copy()
        self.leaving = self.stored.leaving
        self.part, self.inputs = IDLE, Inputs()

    def on(self, host: Host) -> Context:
        """Return the same cell, read on another host: a draft of this one, or this one anew."""
        return Context(host, Store(host, self.store.path), self.predict, self.now)

    def plan(self, part: Part, inputs: Inputs, contributions: tuple[Contribution, ...] = ()) -> Planned:
        """Plan one part. contributions: what all parts add to the firewall. Raises BadInput and StoreError, before anything has changed."""
        self.contributions = contributions
        self.part, self.inputs, self.wanted = part, inputs.with_provided(self.host), self.stored.copy()
        for merge in part.merges:
            merge(self.wanted, self.inputs)
        self.wanted = self.wanted.at(self.timestamp())
        self._keep_port()
        part.check(self)
        return part.plan(self)

    def _keep_port(self) -> None:
        """Let a devices' interface that was there before the cell keep its port, where nobody states one."""
        if (self.inputs.cell or {}).get("listen_port") in (None, "") and not self.has_interface:
            self.wanted.cell.listen_port = self.devices_interface().port or self.wanted.cell.listen_port

    def simulate(self, plan: Plan) -> None:
        """Go on from a plan that was carried out, or is taken to be; the host is a draft."""
        if plan:
            self.observed.simulate(plan)
            self._load()

    # Records

    @property
    def current(self) -> State:
        """The stored records as they count now, for whoever only reads: the plan of the part that owns it writes what has ended."""
        return self.stored.at(self.timestamp())

    @property
    def before(self) -> State:
        """The wanted records as they would be if nobody had called for a change of the part that is planned."""
        return ownership.with_part_as_stored(self.wanted, self.stored, self.part.owns)

    def write_records(self) -> Plan:
        """Plan the writing of the part's own fields of the records, whatever else is merged into them for this call."""
        plan, before = Plan(warnings=list(self.store.warnings)), self.before
        wanted = ownership.replace_part(self.stored, self.wanted, self.part.owns)
        if wanted != self.stored:
            self.leaving = wanted.leaving = self._noted(wanted)
            plan.steps += [Write(path, text) for path, text in self.store.writes(self.stored, wanted)]
        plan.describe(self.part.words(before), self.part.words(self.wanted))
        return plan

    def _noted(self, after: State) -> Leaving:
        """Return the tombstones, with those of what these records forget."""
        new = replace(records.leaving(self.stored, after), flows=conntrack.revoked(self.stored, after))
        return Leaving(**{kind: sorted({*getattr(self.stored.leaving, kind), *entries}) for kind, entries in vars(new).items()})

    def bury(self, plan: Plan, **kinds: list[Any]) -> None:
        """Let a plan end with the tombstones that are left when it is done. kinds: what is left of each."""
        left = replace(self.leaving, **kinds)
        plan.steps += [Write(path, text) for path, text in self.store.writes(State(leaving=self.leaving), State(leaving=left))]
        self.leaving = left

    def timestamp(self) -> str:
        """Return the time as it is recorded, in UTC."""
        return render_moment(self.now)

    # Host

    @property
    def has_interface(self) -> bool:
        """Tell whether the cell has the devices' interface already, by its records."""
        return bool(self.stored.cell.name) and self.stored.cell.interface == self.wanted.cell.interface

    def devices_interface(self) -> adoption.Found:
        """Return the devices' interface as it is."""
        name = self.wanted.cell.interface
        return adoption.look(self.host, name, self.observed.wireguard.get(name))

    def routing(self) -> dict[int, Routing]:
        """Return policy rules and routes of the families that the kernel has."""
        return {family: self.observed.routing[family] for family in self.observed.families}

    # Keys

    @cached_property
    def kept_identity(self) -> keys.Identity | None:
        """The key pair that the cell has, by its own file or by a devices' interface that was there before it."""
        return keys.kept_identity(self.host, self.store.path, self.devices_interface)

    @cached_property
    def identity(self) -> keys.Identity:
        """The cell's key pair; a new one where there is none, to be written by the plan."""
        return self.kept_identity or keys.new_identity(self.host, self.predict)

    def preshared_keys(self) -> dict[str, str | None]:
        """Return the preshared key of each recorded link that has one, by name."""
        return keys.preshared_keys(self.host, self.stored, self.observed)
