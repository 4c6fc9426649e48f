# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the documentation as a reader follows them: the commands that they show, what those print, and the files that the reader makes.

In a block `console` a line `$ command` is typed on the reader's own machine, `cella# command` as root on the host of that name,
`friend$ command` on the machine of somebody else; what follows is what it prints.
`...` stands for lines left out; what is not shown at the end need not be shown. A block that begins with a comment `# name.yml` is a file
that the reader saves under that name, `# phone:/etc/wg.conf` one on the host of that name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([PROJECT / "README.md", PROJECT / "roles" / "cell" / "README.md", *(PROJECT / "docs").glob("*.md")])

EXECUTED = "console"
# What such a block holds is read, not typed.
SHOWN = ("text", "yaml", "ini", "json", "{toctree}")

_FENCE = re.compile(r" *(?P<ticks>`{3,})(?P<info>[^`]*)")
_PROMPT = re.compile(r"(?:(?P<host>[a-z][a-z0-9-]*)[#$] |\$ )(?P<command>.+)")
_FILE = re.compile(r"# (?:(?P<host>[a-z][a-z0-9-]*):)?(?P<path>[\w./-]+\.[a-z]+)")
# A key, or an invitation, which holds one.
KEY = re.compile(r"(?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=|pic[01]-[A-Za-z0-9_-]{40,})")
# what differs from one run to the next, or is filled up to the width of the terminal
_VARIES = (
    (re.compile(r"\b\d+ s ago"), "(some) s ago"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "(time)"),
    (re.compile(r"\b\d+ bytes"), "(some) bytes"),
    (re.compile(r"\bpic\.cells:\d\S*"), "pic.cells:(version)"),
    (re.compile(r" \*{3,}$"), ""),
    (re.compile(r"^(\w+) +: (ok=.*)"), r"\1: \2"),
    (re.compile(r" +"), " "),
)
LEFT_OUT = "..."


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; line is that of its first line of text."""

    page: Path
    line: int
    info: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A file that the reader saves; host: empty for the reader's own machine."""

    line: int
    host: str
    path: str
    text: str


@dataclass
class Command:
    """What the reader types, and what the page shows of what it prints."""

    line: int
    host: str
    text: str
    shown: list[str] = field(default_factory=list)


class PageError(Exception):
    """A page that no test can follow."""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    begun: tuple[str, str, int] | None = None
    held: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if begun is None and fence:
            begun, held = (fence["ticks"], fence["info"].strip(), number + 1), []
        elif begun and line.strip() == begun[0]:
            yield Block(page, begun[2], begun[1], tuple(held))
            begun = None
        elif begun:
            held.append(line)
    if begun:
        raise PageError(f"{page}:{begun[2] - 1}: the block does not end")


def steps(page: Path) -> Iterator[File | Command]:
    """Yield what the reader of a page does, in its order."""
    for block in blocks(page):
        if block.info == EXECUTED:
            yield from commands(block)
        elif block.lines and (name := _FILE.fullmatch(block.lines[0])):
            yield File(block.line, name["host"] or "", name["path"], "\n".join(block.lines) + "\n")


def commands(block: Block) -> list[Command]:
    """Read an executed block. Raises PageError where its first line is no command."""
    found: list[Command] = []
    for number, line in enumerate(block.lines, block.line):
        prompt = _PROMPT.fullmatch(line)
        if prompt:
            found.append(Command(number, prompt["host"] or "", prompt["command"]))
        elif not found:
            raise PageError(f"{block.page}:{number}: a block {EXECUTED!r} begins with '$ ' or 'host# ' and a command, not with {line!r}")
        elif found[-1].text.endswith("\\"):
            found[-1].text += f"\n{line}"
        else:
            found[-1].shown.append(line)
    return found


def plain(line: str, known: Collection[str] = ()) -> str:
    """Take out of a line what differs from one run to the next. known: keys that have been printed before, and have to be the same."""
    line = KEY.sub(lambda key: key[0] if key[0] in known else "(key)", line.rstrip())
    for pattern, stand_in in _VARIES:
        line = pattern.sub(stand_in, line)
    return line


def not_printed(shown: Sequence[str], printed: Sequence[str], known: Collection[str] = ()) -> str | None:
    """Return the first part of what a page shows that was not printed so, in that order; None where all was."""
    said = [plain(line, known) for line in printed]
    at = 0
    for part in _parts(shown):
        wanted = [plain(line, known) for line in part]
        starts = [n for n in range(at, len(said) - len(wanted) + 1) if said[n : n + len(wanted)] == wanted]
        if not starts:
            return "\n".join(part)
        at = starts[0] + len(wanted)
    return None


def _parts(shown: Sequence[str]) -> Iterator[list[str]]:
    """Yield the runs of lines that follow each other, without the empty ones around them."""
    part: list[str] = []
    for line in [*shown, LEFT_OUT]:
        if line.strip() != LEFT_OUT:
            part.append(line)
            continue
        text = "\n".join(part).strip("\n")
        if text:
            yield text.split("\n")
        part = []


def keys(shown: Sequence[str], printed: Sequence[str]) -> dict[str, str]:
    """Return which key was printed in the place of each that a page shows: what it shows of keys are examples."""
    said = {plain(line): line for line in reversed(printed)}
    found: dict[str, str] = {}
    for line in shown:
        if plain(line) in said:
            found.update(zip(KEY.findall(line), KEY.findall(said[plain(line)])))
    return found
