# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repair has asked a host that was as it should be. While every answer is the same, nothing has to be planned to know that there is nothing to do.

A plan follows from the answers of the host, from the program and from the time, and from nothing else. So the questions are kept, with one hash of all
answers. The next repair asks them again, which takes the time of the commands. Where anything is answered otherwise, it plans as ever.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.command import Host, Result
from ..base.errors import CellError, StoreError, WriteFailed
from ..kernel.handshakes import without_counts
from ..records.store import INVITATIONS, Store

if TYPE_CHECKING:
    from ..parts.part import Context
    from .restore import Restored

PATH = "/run/pic-cell-unchanged.json"
AT_MOST = 3600  # seconds until everything is planned again
# What tools print that changes all the time, and that no plan goes by.
_COUNTERS = re.compile(r"^#.*$|\[\d+:\d+\]", re.MULTILINE)
_LIFETIMES = re.compile(r'"(?:valid_life_time|preferred_life_time|expires)":\d+')

_READS = ("lookup", "has", "read", "read_foreign", "list_foreign", "exists", "list", "access")

Question = list[Any]  # the name of a host's method, and what it is given
Answer = TypeVar("Answer")


def _program() -> list[int]:
    """Return what tells the program that runs from one that takes its place."""
    found = os.stat(getattr(__spec__ and __spec__.loader, "archive", __file__))
    return [found.st_ino, found.st_mtime_ns, found.st_size]


_PROGRAM = _program()


class Asked(Host):
    """A host that notes what it is asked.

    now: seconds since the epoch, by which the plan goes as well. ahead: answers by question, each of which is given once instead of asking, as long as nothing
    but that was done. same: whether each question was answered alike whenever it was asked.
    """

    def __init__(self, host: Host, now: float, roaming: Collection[str] = ()) -> None:
        """host: who answers. roaming: keys of devices, of which no plan goes by where they are and when they were last heard."""
        super().__init__(host.root)
        self.host, self.now, self.roaming = host, now, roaming
        self.ahead: dict[str, Any] = {}
        self.same = True
        self._answers: dict[str, bytes] = {}

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run a command. One that is given something answers by that alone, which may be secret: it is not noted."""
        question = json.dumps(["run", *argv])
        done = self.ahead.pop(question, None) if stdin is None else None
        if done is None or done.rc not in ok:
            self.ahead = {}  # it may be a command that changes something
            done = self._asked(lambda: self.host.run(argv, stdin=stdin, ok=ok, timeout=timeout))
        if stdin is None:
            self._note(question, f"{done.rc}\n{done.err}\n{steady(argv, done.out, self.now, self.roaming)}")
        return Result(done.rc, done.out, done.err)

    def lookup(self, name: str) -> str | None:
        """Return an address that a name stands for."""
        return self._noted(["lookup", name], self.host.lookup)

    def has(self, tool: str) -> bool:
        """Tell whether a command is installed."""
        return self._noted(["has", tool], self.host.has)

    def read(self, path: str) -> str | None:
        """Return the text of a file."""
        return self._noted(["read", path], self.host.read)

    def read_foreign(self, path: str, limit: int) -> str | None:
        """Return the text of a file that somebody without privileges has put there."""
        return self._noted(["read_foreign", path, limit], self.host.read_foreign)

    def list_foreign(self, path: str, most: int) -> list[str]:
        """Return names in a folder that somebody without privileges fills."""
        return self._noted(["list_foreign", path, most], self.host.list_foreign)

    def exists(self, path: str) -> bool:
        """Tell whether a path exists."""
        return self._noted(["exists", path], self.host.exists)

    def access(self, path: str) -> tuple[int, int, bool] | None:
        """Return mode and owner of a file or a folder, and whether it is a folder."""
        return self._noted(["access", path], self.host.access)

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder."""
        return self._noted(["list", path], self.host.list)

    def write(self, path: str, text: str, mode: int | None = 0o600) -> None:
        """Write a file."""
        self.ahead = {}
        self.host.write(path, text, mode)

    def restrict(self, path: str, mode: int) -> None:
        """Give a file or a folder to root, with a mode."""
        self.ahead = {}
        self.host.restrict(path, mode)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self.ahead = {}
        self.host.remove(path)

    def remove_foreign(self, path: str) -> None:
        """Remove what an unprivileged program has left."""
        self.ahead = {}
        self.host.remove_foreign(path)

    def again(self, question: Question) -> Any:
        """Ask once more what was asked before."""
        method, *given = question
        if method == "run":
            return self.run(given, ok=range(256))
        return getattr(self, method)(*given) if method in _READS else None

    @property
    def questions(self) -> Iterable[Question]:
        """Return what was asked, each question once."""
        return map(json.loads, self._answers)

    @property
    def hash(self) -> str:
        """Return one hash of all answers."""
        return hashlib.sha256(b"".join(self._answers.values())).hexdigest()

    def _noted(self, asked: Question, ask: Callable[..., Answer]) -> Answer:
        question = json.dumps(asked)
        answer: Answer = self.ahead.pop(question) if question in self.ahead else self._asked(lambda: ask(*asked[1:]))
        self._note(question, answer if isinstance(answer, str) else repr(answer))
        return answer

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except BaseException:
            self.same = False
            raise

    def _note(self, question: str, answer: str) -> None:
        digest = hashlib.sha256(answer.encode("utf-8", "surrogateescape")).digest()
        self.same &= self._answers.setdefault(question, digest) == digest


def restore_changed(host: Host, path: str, log: Callable[[str], None]) -> Restored | None:
    """Put back what is missing, as restore does; None where nothing has changed since nothing was missing.

    path: the folder with the records. log: is told each repair. Raises StoreError.
    """
    asked = Asked(host, time.time())
    with Store(host, path).lock(create=False):
        if _is_unchanged(asked, path):
            return None
        # Reading the engine takes longer than all of the above.
        from .restore import restore_locked  # noqa: PLC0415

        asked.roaming = _devices(host, path)
        done = restore_locked(asked, path, log=log, now=asked.now)
        if asked.same and done.context and not (done.plan or done.errors or _ends(done.context)):
            kept = {"program": _PROGRAM, "records": path, "found": asked.now, "roaming": sorted(asked.roaming)}
            kept.update(hash=asked.hash, questions=list(asked.questions))
            with suppress(WriteFailed):
                host.write(PATH, json.dumps(kept))
    return done


def _is_unchanged(asked: Asked, path: str) -> bool:
    """Tell whether a cell answers as it did when nothing was missing; where it does not, its answers need not be asked for again."""
    try:
        kept = json.loads(asked.host.read(PATH) or "{}")
        if [kept.get("program"), kept.get("records")] != [_PROGRAM, path] or not 0 <= asked.now - kept["found"] < AT_MOST:
            return False
        first = Asked(asked.host, asked.now, set(kept["roaming"]))
        answers = {json.dumps(question): first.again(question) for question in kept["questions"]}
        unchanged: bool = first.hash == kept["hash"]
    except (CellError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # whatever may lie there
        return False
    asked.ahead = {} if unchanged else answers
    return unchanged


def _devices(host: Host, path: str) -> set[str]:
    """Return the keys of devices that are in no link, as the records have them."""
    with suppress(StoreError):  # whoever plans says it
        state = Store(host, path).load()
        return state.device_keys() - {str(link.public_key) for link in state.links.values()}
    return set()


def _ends(context: Context) -> bool:
    """Tell whether something of a cell ends at a moment: the time is no answer of the host."""
    timed = any(link.invited_until or link.exit_offered_until for link in context.stored.links.values())
    return timed or bool(context.host.list(f"{context.store.path}/{INVITATIONS}"))


def steady(argv: Sequence[str], out: str, now: float, roaming: Collection[str] = ()) -> str:
    """Return what a command has printed without what changes all the time. roaming: keys of devices."""
    if argv[0].startswith(("iptables", "ip6tables")):
        return _COUNTERS.sub("", out)
    if argv[0] == "ip":
        return _LIFETIMES.sub("", out)
    return without_counts(out, now, roaming) if list(argv) == ["wg", "show", "all", "dump"] else out
