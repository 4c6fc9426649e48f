# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell that hears what is taken away from it, looks, and starts restore where something is missing."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable

from ..base.command import UNANSWERED, Host
from ..base.errors import CellError
from ..base.networks import FORWARDING
from ..kernel import iptables, sysctl, wireguard
from ..kernel.model import Backend
from ..kernel.routing import setting
from ..parts import units
from ..records.store import FILES, Store
from .events import Heard, Interest, interest_of, judge, own_part
from .listen import Listener
from .pace import Pace
from .redial import SAMPLE, Silence, begin, dialled, redial
from .restore import Restored, restore
from .unchanged import restore_changed

GATHER = 0.05  # seconds in which what belongs together comes
LEGACY_GAP = 2.0  # seconds between two looks at the rules of iptables-legacy
HOLD, AT_MOST = 10.0, 60.0  # seconds after a change of the records in which a run may not be done yet; seconds that a look waits for it
BUSY, BUSY_AT_MOST = 0.25, 10.0  # seconds until wg-quick is looked for again; seconds that a look waits for it


class Watcher:
    """The resident part: it only reads, and has restore done by its unit, or itself where systemd does not run."""

    def __init__(self, host: Host, path: str, say: Callable[[str], None], listener: Listener, clock: Callable[[], float] = time.monotonic) -> None:
        """path: the folder with the records. say: is told what a person has to know."""
        self._host, self._path, self._say, self._listener, self._clock = host, path, say, listener, clock
        now = clock()
        self.pace = Pace(now)
        self.interest = Interest()
        self._legacy: dict[Backend, object] = {}
        self._legacy_free, self._legacy_heard = now, False
        self._interface_at = now - BUSY_AT_MOST
        self._looked_at = now
        self._forwards = True
        self._said: set[str] = set()
        self._silence, self._counted_at = Silence(), now

    def run(self) -> None:
        """Go on until the process is ended."""
        for line in self._listener.deaf:
            self._say(line)
        while True:
            self.step()

    def step(self) -> None:
        """Hear what comes, and look where that is due."""
        heard = self._hear(self._seconds())
        now = self._clock()
        if self._legacy_heard and now >= self._legacy_free:
            self._compare_legacy()
        if not self._host.exists("/run/systemd/system") and now - self._looked_at >= units.PERIOD:
            self.pace.heard(Heard.DOUBTFUL, now)  # no timer does it
        if self.interest.interface and now - self._counted_at >= SAMPLE:
            self._count(now)
        due = self.pace.due()
        if due is None or now < due:
            if heard:
                time.sleep(GATHER)
        elif not self._wait(now, self.pace.wanted or now):
            self.look()

    def look(self) -> None:
        """Compare the kernel with the records, and have put back what is missing."""
        self._listener.drop()
        self.pace.begin()
        spent = _processor_time()
        found = self._missing()
        cost = _processor_time() - spent
        if found:
            self._repair()
            # If restore was at work already, it may have read what was there before.
            self.pace.heard(Heard.DOUBTFUL, self._clock())
        self._looked_at = self._clock()
        rival = self.pace.end(self._looked_at, cost, found)
        if rival:
            self._say(
                f"Other software on this host keeps removing what the cell puts back ({rival}). The cell now puts it back less and less often, at "
                "least once a minute. "
                f"'journalctl -u {units.RESTORE}' says when it was missing; stop the software that removes it."
            )

    def _seconds(self) -> float | None:
        now = self._clock()
        times = [self.pace.due()]
        times += [self._legacy_free] if self._legacy_heard else []
        times += [] if self._host.exists("/run/systemd/system") else [self._looked_at + units.PERIOD]
        times += [self._counted_at + SAMPLE] if self.interest.interface else []
        known = [at for at in times if at is not None]
        return max(0.0, min(known) - now) if known else None

    def _hear(self, seconds: float | None) -> bool:
        heard = False
        for datagram in self._listener.hear(seconds):
            what = Heard.DOUBTFUL if datagram is None else judge(datagram, self.interest, _name_of)
            heard = True
            now = self._clock()
            self.pace.heard(what, now)
            if what == Heard.INTERFACE:
                self._interface_at = now
            elif what == Heard.FORWARDING and self._forwards_no_more():
                self.pace.heard(Heard.LOSS, now)
        if self._listener.hear_legacy():
            self._legacy_heard = heard = True
        return heard

    def _wait(self, now: float, wanted: float) -> bool:
        """Tell whether somebody is at work on the cell; a look in the middle of it would do it a second time, and be in its way."""
        if now - self._interface_at < BUSY_AT_MOST and _runs("wg-quick"):
            self.pace.wait(now + BUSY)
            return True
        changed = max((_changed_at(f"{self._host.root.rstrip('/')}{self._path}/{name}") for name in FILES), default=0.0)
        rest = min(changed + HOLD - time.time(), wanted + AT_MOST - now)
        if 0 < rest <= HOLD:
            self.pace.wait(now + rest)
            return True
        return False

    def _missing(self) -> list[str]:
        """Return what restore would put back."""
        # No name is looked up: that may take seconds, and is no affair of events.
        self._host.lookups_left = 0
        try:
            done = restore(self._host, self._path, predict=True)
        except (CellError, OSError) as error:
            self._say_once(str(error))
            return []
        self._learn(done)
        return done.repairs

    def _learn(self, done: Restored) -> None:
        """Remember what concerns the cell from now on."""
        context = done.context
        if context is None:
            return
        with contextlib.suppress(CellError):
            self.interest = interest_of(context)
            self._legacy = {}
            if (self._host.read("/proc/net/ip_tables_names") or self._host.read("/proc/net/ip6_tables_names") or "").strip():
                self._listener.listen_to_legacy()
                if not done.repairs:
                    self._legacy = {context.observed.backends[family][0]: own_part(saved) for family, saved in context.observed.iptables.items()}

    def _compare_legacy(self) -> None:
        """Look whether what iptables-legacy has done concerns the cell: it says nothing but that it was there."""
        self._legacy_heard = False
        try:
            changed = not self._legacy or any(own_part(iptables.read_rules(self._host, backend)) != part for backend, part in self._legacy.items())
        except CellError:
            changed = True
        self._legacy_free = self._clock() + LEGACY_GAP
        if changed:
            self.pace.heard(Heard.LOSS if self._legacy else Heard.DOUBTFUL, self._clock())

    def _count(self, now: float) -> None:
        """Count what the links carry, and have dialled anew those that get no answer. Names may take seconds: that is for a process of its own."""
        self._counted_at = now
        try:
            silent = self._silence.heard(wireguard.read_transfers(self._host))
            elsewhere = {link.interface for _name, link in dialled(Store(self._host, self._path).load())} if silent else set()
            for interface in filter(elsewhere.__contains__, silent):
                if self._host.exists("/run/systemd/system"):
                    begin(self._host, interface)
                else:
                    self._host.lookups_left = UNANSWERED
                    for line in redial(self._host, self._path, interface):
                        self._say(line)
        except (CellError, OSError, ValueError) as error:
            self._say_once(str(error))

    def _repair(self) -> None:
        try:
            if self._host.exists("/run/systemd/system"):
                # At once, also while an interface that restore is ordered after still asks for a name.
                self._host.run(["systemctl", "--job-mode=ignore-dependencies", "start", units.RESTORE], timeout=600)
            else:
                self._host.lookups_left = UNANSWERED
                done = restore_changed(self._host, self._path, self._say)
                for error in done.errors if done else ():
                    self._say_once(error)
        except (CellError, OSError) as error:
            self._say_once(str(error))

    def _forwards_no_more(self) -> bool:
        """Tell whether restore can put forwarding back; say so where nothing of ours keeps it, which restore leaves alone."""
        off = [name for name in FORWARDING.values() if setting(self._host, name) == "0"]
        kept = sysctl.kept(self._host)
        left = [name for name in off if name not in kept]
        if left and self._forwards:
            self._say(f"This host no longer forwards packets: {', '.join(left)} is 0. No packet of a device gets through. Set it with: sysctl -w {left[0]}=1")
        self._forwards = not left
        return len(off) > len(left)

    def _say_once(self, line: str) -> None:
        if line not in self._said and len(self._said) < 100:
            self._said.add(line)
            self._say(line)


def _name_of(number: int) -> str:
    try:
        return socket.if_indextoname(number)
    except (OSError, OverflowError):
        return ""


def _runs(program: str) -> bool:
    """Tell whether a program runs on this host."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/comm", encoding="utf-8", errors="replace") as file:
                if file.read().strip() == program:
                    return True
    return False


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _processor_time() -> float:
    """Return the seconds that this process and its children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
