# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the comments in a file of WireGuard call its peers, as each tool writes them. Pure.

A comment is anybody's text. One that may hold a key is none here: people keep the private key of a device beside its peer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..base.networks import is_host
from .wgconfig import PEER, Config, Section, setting

# Before a peer: ours, PiVPN's, Nyr's, angristan's, wg-easy's, wireguard-ui's. The first that is there counts.
_MARKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"# pic\.cells: [a-z]+ (.+)",
        r"#+ begin (.+) #+",
        r"#+ BEGIN_PEER (.+)",
        r"#+ Client (.+)",
        r"# Client: (.+?)(?: \([0-9a-fA-F-]+\))?",
        r"# Name: (.+)",
        r"# Email: (.+)",
    )
)
_INSIDE = re.compile(r"#\s*(?:friendly_)?name\s*[=:]\s*(.+)", re.IGNORECASE)
_ENDS = re.compile(r"#+ (?:end .+ #+|END_PEER .+)")
_DISABLED = "#[disabled] "
_OUT = re.compile(r"#+\s*(?:\[disabled\]\s*)?\[peer\].*", re.IGNORECASE)
_ENDPOINT = re.compile(r"# ENDPOINT (\S+)")
_KEY = re.compile(r"[A-Za-z0-9+/]{33,}")  # longer than a name can be
_BLANKS = re.compile(r"\s+")
_LONGEST = 250  # characters of a comment that is looked at


@dataclass(frozen=True)
class Labelled:
    """A peer of a file. line: of its header. label: what a comment calls it, as it stands there; empty where none does."""

    line: int
    section: Section
    label: str


def labelled(config: Config) -> list[Labelled]:
    """Return the peers of a file, in their order."""
    found: list[Labelled] = []
    before: list[str] = []
    for line, section in _numbered(config):
        if section.header == PEER:
            found.append(Labelled(line, section, _label([*before, *section.lead], section.lines)))
        before = section.lines[_settled(section.lines) :]
    return found


def commented_out(config: Config) -> list[tuple[int, str]]:
    """Return the lines in which a peer begins that is commented out, each with what the line before calls it."""
    found = []
    lines = [line for section in config.sections for line in (*section.lead, *section.lines)]
    for number, line in enumerate(lines, 1):
        if _OUT.fullmatch(line.strip()[:_LONGEST]):
            above = lines[number - 2].strip() if number > 1 else ""
            found.append((number, _marked([above.removeprefix(_DISABLED) if above.startswith(_DISABLED) else above])))
    return found


def endpoint_of(config: Config) -> str | None:
    """Return what the devices of Nyr's script dial, which it notes in a comment."""
    found = (_ENDPOINT.fullmatch(line.strip()) for section in config.sections for line in section.lines)
    return next((match[1] for match in found if match and is_host(match[1])), None)


def _numbered(config: Config) -> Iterator[tuple[int, Section]]:
    """Yield each section with the line of its header."""
    number = 1
    for section in config.sections:
        number += len(section.lead)
        yield number, section
        number += len(section.lines)


def _settled(lines: Sequence[str]) -> int:
    """Return where the lines of a section begin that come after its last setting."""
    return next((number for number in range(len(lines), 0, -1) if setting(lines[number - 1])[0] or lines[number - 1].lstrip().startswith("[")), 0)


def _label(above: Sequence[str], lines: Sequence[str]) -> str:
    """Return what a peer is called. above: the lines between the setting before it and its header."""
    inside = [line.strip()[:_LONGEST] for line in lines[1 : _settled(lines)]]
    nearest = above[-1].strip()[:_LONGEST] if above else ""
    named = [match[1] for match in map(_INSIDE.fullmatch, inside) if match]
    behind = lines[0][:_LONGEST].partition("#")[1:]
    return _marked(above) or _first([*named, "".join(behind), nearest, *inside])


def _marked(above: Iterable[str]) -> str:
    """Return the name that a tool has marked as one."""
    comments = [_BLANKS.sub(" ", line.strip()[:_LONGEST]) for line in above]
    return _first(match[1] for mark in _MARKS for match in map(mark.fullmatch, reversed(comments)) if match)


def _first(texts: Iterable[str]) -> str:
    """Return the first text that can be a name."""
    return next((name for text in texts if not _ENDS.fullmatch(text) for name in [as_name(text.lstrip("#"))] if name), "")


def as_name(text: str) -> str:
    """Return a text as a name; empty where it can be none, as it says something else, or may hold a key."""
    name = _BLANKS.sub(" ", text[:_LONGEST].strip())
    said = any(character.isalnum() for character in name) and not name.lower().startswith(("[", "endpoint "))
    return name if said and not setting(name)[0] and not _KEY.search(name) else ""
