# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as data: ordered steps, and what they change in the user's words. Applying it is the only place that writes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from ..base import journal, texts
from ..base.command import Host, missing_tool
from ..base.errors import CommandFailed
from .answers import Meant

_ATTEMPTS = 4
_PAUSE = 0.25  # seconds before the second attempt, doubled for each further one
_FEW = 3  # rules of a chain that are told one by one


@dataclass(frozen=True)
class Run:
    """Run a command. argv holds no secret; ok lists the exit codes that are no error.

    rest: for what others write too, tells from the host what is left to do after the command; it is tried again until nothing is.
    """

    argv: tuple[str, ...]
    stdin: str | None = None
    ok: tuple[int, ...] = (0,)
    rest: Callable[[Host], Run | None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        texts.command(self.argv, self.stdin)


@dataclass(frozen=True)
class Write:
    """Write a file whole. mode: None for a file that others have a part in."""

    path: str
    text: str
    mode: int | None = 0o600


@dataclass(frozen=True)
class Restrict:
    """Give a file or a folder to root, with a mode."""

    path: str
    mode: int


@dataclass(frozen=True)
class Remove:
    """Remove a file. tree: a folder with all that is in it, too."""

    path: str
    tree: bool = False


@dataclass(frozen=True)
class Ask:
    """Run a command that only reads, and then what is to be done after its output."""

    argv: tuple[str, ...]
    then: Callable[[str], Iterable[Run]] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Effect:
    """What a command makes of the kernel. slice: the name of what is observed. change: a pure function from its value, and items, to the one afterwards.

    Effects with one change after the other are taken as one, with the items of all: those of many links would each copy what is there of all links.
    """

    slice: str
    change: Callable[[Any, list[Any]], Any]
    items: tuple[Any, ...] = ()


Step = Union[Run, Ask, Write, Restrict, Remove]


@dataclass(frozen=True)
class Change:
    """What was and what will be, in lines for a person. chain: the one that all of them are rules of."""

    before: Sequence[str]
    after: Sequence[str]
    chain: str = ""


@dataclass
class Plan:
    """Steps in their order, and what they change.

    effects: what the commands among the steps make of the kernel, and of files. meant: what the kernel has to say afterwards, for whoever asks it.
    """

    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    effects: list[Effect | Write | Remove] = field(default_factory=list)
    meant: list[Meant] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def before(self) -> list[str]:
        """What was, a line each."""
        return [line for change in self.changes for line in change.before]

    @property
    def after(self) -> list[str]:
        """What will be, a line each."""
        return [line for change in self.changes for line in change.after]

    def describe(self, before: Iterable[str], after: Iterable[str], chain: str = "") -> None:
        """Add lines to both sides of the difference. chain: as in Change."""
        self.changes.append(Change(tuple(before), tuple(after), chain))

    def write(self, path: str, found: str | None, text: str, mode: int | None = 0o600) -> None:
        """Add the writing of a file, unless what was found is what it shall hold. found: None where there is none."""
        if found != text:
            self.steps.append(Write(path, text, mode))
            self.describe([] if found is None else [f"{path}: as before"], [f"{path}: as wanted"])

    def extend(self, other: Plan) -> None:
        """Append another plan."""
        self.steps.extend(other.steps)
        self.warnings.extend(other.warnings)
        self.effects.extend(other.effects)
        self.changes.extend(other.changes)
        self.meant.extend(other.meant)

    def differences(self) -> list[str]:
        """Return what the host lacks, has too much, or has in another order, a line each; none where nothing changes."""
        return [f"{fault}: {line}" for fault, line in self._faults()]

    def summed_up(self) -> list[str]:
        """Return the differences with one line for each chain of which many rules differ: after a reboot that is all of them."""
        chains = {line: change.chain for change in self.changes if change.chain for line in (*change.before, *change.after)}
        found: dict[str, list[str]] = {}
        for fault, line in self._faults():
            found.setdefault(f"{fault}: {chains.get(line, line)}", []).append(f"{fault}: {line}")
        return [line for what, lines in found.items() for line in ([f"{what} ({len(lines)} rules)"] if len(lines) > _FEW else lines)]

    def _faults(self) -> list[tuple[str, str]]:
        if not self:
            return []
        before, after = self.before, self.after
        found = [("missing", line) for line in sorted(Counter(after) - Counter(before))]
        found += [("surplus", line) for line in sorted(Counter(before) - Counter(after))]
        found = found or [("misplaced", wanted) for line, wanted in zip(before, after) if line != wanted]
        return found or [("unfinished", "what an earlier run had left undone")]

    def diff(self) -> dict[str, str]:
        """Return the difference as Ansible prints it; no lines where nothing changes."""
        if not self:
            return {"before": "", "after": ""}
        return {"before": _text(self.before), "after": _text(self.after)}


def apply(host: Host, plan: Plan) -> None:
    """Carry out all steps of a plan in order; the first error ends it. A missing program is found before the first step."""
    for step in plan.steps:
        if isinstance(step, (Run, Ask)) and not host.has(step.argv[0]):
            raise missing_tool(step.argv[0], host)
    for step in plan.steps:
        if isinstance(step, Run):
            _run(host, step)
        elif isinstance(step, Ask):
            for run in step.then(host.run(step.argv).out):
                _run(host, run)
        elif isinstance(step, Write):
            host.write(step.path, step.text, step.mode)
        elif isinstance(step, Restrict):
            host.restrict(step.path, step.mode)
        elif step.tree:
            host.remove_foreign(step.path)
        else:
            host.remove(step.path)


def write_files(draft: Host, steps: Iterable[Step | Effect]) -> None:
    """Change the files of a draft as carrying out steps would change those of the host."""
    for step in steps:
        if isinstance(step, Write):
            draft.write(step.path, step.text, step.mode)
        elif isinstance(step, Restrict):
            draft.restrict(step.path, step.mode)
        elif isinstance(step, Remove):
            draft.remove(step.path)


def _run(host: Host, step: Run) -> None:
    """Run a command, and what is left to do after it, until nothing is. Raises CommandFailed."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            host.run(step.argv, stdin=step.stdin, ok=step.ok)
        except CommandFailed as error:
            if step.rest is None or attempt == _ATTEMPTS - 1:
                raise journal.told(host, error) from None
        # Also after a failure: what the command was planned for may be what somebody has changed.
        left = step.rest(host) if step.rest else None
        if left is None:
            return
        step = left
    raise CommandFailed(
        step.argv, 0, f"other software undid it {_ATTEMPTS} times. Stop the software that saves and restores rules on this host, then run again", step.stdin
    )


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(set(lines)))
