# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each part of the fake host stands on: files, commands, a record of what wrote, and faults."""

from __future__ import annotations

import pickle
import shlex
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ansible_collections.pic.cells.plugins.module_utils.base.command import UNANSWERED, Host, Result, missing_tool, writing
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed
from ansible_collections.pic.cells.plugins.module_utils.program import unchanged

Self = TypeVar("Self", bound="Machine")
Tool = Callable[[list[str], str], str]  # takes its arguments and its standard input, returns its standard output, raises Refused


class Killed(BaseException):
    """The program ended in the middle, as by a power cut."""


class Refused(Exception):
    """A tool's own refusal: exit code, what it says, and what it has printed nevertheless."""

    def __init__(self, rc: int, message: str, out: str = "") -> None:
        self.rc, self.message, self.out = rc, message, out
        super().__init__(message)


class Machine(Host):
    """A host with files and no tools.

    log: every command. steps: everything that wrote, in order, as far as it is atomic. files: mode and text by path.
    missing: tools that are not installed. without: what the kernel does not have. answers: canned results by argv. secrets: must not be in an argv.
    fail_at: this step (1 is the next one after reset) fails, or with kill is the end; fails: how many do;
    late: after they took effect. watch: called before each step. now: the time.
    """

    def __init__(self, root: str) -> None:
        """root: the folder for the lock."""
        super().__init__(root)
        self.files: dict[str, tuple[int, str]] = {}
        self.owners: dict[str, int] = {}  # of files and folders that are not root's
        self.folders: dict[str, int] = {}  # modes of those that are for more than root
        self.missing: set[str] = set()
        self.without: set[str] = set()
        self.answers: dict[tuple[str, ...], Result] = {}
        self.secrets: set[str] = set()
        self.watch: Callable[[str], None] | None = None
        self.now = 1_800_000_000.0
        self.reset()

    # What tests call

    def reset(self) -> None:
        """Forget what was recorded and the faults; the state stays."""
        self.log: list[list[str]] = []
        self.steps: list[str] = []
        self.ended: list[list[str]] = []
        self.fail_at: int | None = None
        self.fails = 1
        self.kill = False
        self.late = False

    def __getstate__(self) -> dict[str, Any]:
        # without its files as bytes most of the time would go into what is no UTF-8: the program
        files = {path: (mode, text.encode("utf-8", "surrogateescape")) for path, (mode, text) in self.files.items()}
        return {**vars(self), "watch": None, "files": files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, files={path: (mode, data.decode("utf-8", "surrogateescape")) for path, (mode, data) in state["files"].items()})

    def begun(self: Self) -> Self:
        """Return this host as a new process finds it."""
        self.lookups_left = UNANSWERED
        return self

    def fork(self: Self) -> Self:
        """Return a copy that goes its own way."""
        files, self.files = self.files, {}  # what they hold never changes, and is most of a host
        twin: Self = pickle.loads(pickle.dumps(self))
        self.files, twin.files = files, dict(files)
        return twin

    def boot(self) -> None:
        """Lose all kernel state, keep the files, start what is enabled."""

    def by_hand(self, command: str, stdin: str = "") -> str:
        """Do something from outside: not recorded, no faults."""
        kept = {name: getattr(self, name) for name in ("log", "steps", "ended", "fail_at", "fails", "kill", "late", "watch")}
        self.reset()
        self.watch = None
        try:
            return self.run(shlex.split(command), stdin).out
        finally:
            vars(self).update(kept)

    # What the engine calls

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run one command on the fake."""
        words = list(argv)
        self.log.append(words)
        assert not any(secret in word for secret in self.secrets for word in words), f"a secret in the arguments of {words[0]}"
        assert self._tool(words[0]), f"the fake host does not know: {words[0]}"
        if not self.has(words[0]):
            raise missing_tool(words[0], self)
        result = self.answers.get(tuple(words)) or self._execute(words, stdin or "")
        if result.rc not in ok:
            raise CommandFailed(words, result.rc, result.err, stdin)
        return result

    def has(self, tool: str) -> bool:
        """Tell whether a command is installed; without iptables or wg its companions are missing too."""
        return not {tool, tool.split("-", maxsplit=1)[0]} & self.missing and self._tool(tool) is not None

    def read(self, path: str) -> str | None:
        """Return the text of a file, or None where there is none."""
        return self.files[path][1] if path in self.files else None

    def read_foreign(self, path: str, limit: int) -> str | None:
        """Return the text of a file that is not too large."""
        text = self.read(path)
        return text if text is not None and len(text) <= limit else None

    def exists(self, path: str) -> bool:
        """Tell whether there is a file, or a folder with one."""
        return path in self.files or any(name.startswith(f"{path}/") for name in self.files)

    def list(self, path: str) -> list[str]:
        """Return the sorted names in a folder."""
        return sorted({name[len(path) + 1 :].partition("/")[0] for name in self.files if name.startswith(f"{path}/")})

    def write(self, path: str, text: str, mode: int | None = 0o600) -> None:
        """Write a file; without a mode it keeps that of the one that is there."""
        kept = self.files.get(path, (0o600, ""))[0] if mode is None else mode
        folder = path.rpartition("/")[0]
        if not self.exists(folder) and kept & 0o004:
            self.folders[folder] = 0o755
        if path == unchanged.PATH:  # what a look has found is no state
            self.files[path] = (kept, text)
            return
        self._file_step("write", path, lambda: self.files.update({path: (kept, text)}))

    def access(self, path: str) -> tuple[int, int, bool] | None:
        """Return mode and owner of a file or a folder."""
        if path in self.files:
            return self.files[path][0], self.owners.get(path, 0), False
        return (self.folders.get(path, 0o700), self.owners.get(path, 0), True) if self.exists(path) else None

    def restrict(self, path: str, mode: int) -> None:
        """Give a file or a folder to root, with a mode."""
        assert self.exists(path), path

        def change() -> None:
            if path in self.files:
                self.files[path] = mode, self.files[path][1]
            else:
                self.folders[path] = mode
            self.owners.pop(path, None)

        self._file_step("restrict", path, change)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._file_step("remove", path, lambda: self.files.pop(path, None))

    def list_foreign(self, path: str, most: int) -> list[str]:
        """Return names in a folder, no more than most."""
        return self.list(path)[:most]

    def remove_foreign(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        for found in [name for name in self.files if name == path or name.startswith(f"{path}/")]:
            self.remove(found)

    # Inside

    def _tool(self, name: str) -> Tool | None:
        """Return what carries a command out, if the fake knows it."""
        raise NotImplementedError

    def _execute(self, words: list[str], stdin: str) -> Result:
        tool = self._tool(words[0])
        assert tool
        try:
            return Result(0, tool(words[1:], stdin))
        except Refused as refusal:
            return Result(refusal.rc, refusal.out, refusal.message)

    def _step(self, step: str, action: Callable[[], Any]) -> None:
        if self.watch:
            self.watch(step)
        self.steps.append(step)
        hit = self.fail_at is not None and 0 <= len(self.steps) - self.fail_at < self.fails
        if self.late or not hit:
            action()
        if hit and self.kill:
            raise Killed(step)
        if hit:
            raise Refused(111, "injected failure")

    def _file_step(self, verb: str, path: str, action: Callable[[], Any]) -> None:
        try:
            self._step(f"{verb} {path}", action)
        except Refused:
            with writing(path):
                raise OSError(28, "No space left on device") from None


def pairs(words: list[str], *names: str, flags: tuple[str, ...] = ()) -> dict[str, str]:
    """Return options with their values; a flag has none."""
    given, left = {}, list(words)
    while left:
        word = left.pop(0)
        assert word in names or word in flags, f"the fake host does not know: {word} in {words}"
        given[word] = "" if word in flags else left.pop(0)
    return given
