# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall before other programs: what we write for them has no character that their format takes for syntax. Pure.

Everything that comes from outside is judged where it comes in. What fails here was not, which is a mistake of ours:
it raises before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import UnsafeText

# In the words of a rule, a route or a setting: addresses, names, numbers, options; no quote, no '%', '#', '$', '\', ';' and nothing beyond ASCII.
_WORD = re.compile(r"[A-Za-z0-9_.:/,+=@\[\]()!-]+")
_WORDS = re.compile(rf"{_WORD.pattern}(?: {_WORD.pattern})*")
_ONCE = frozenset({"-s", "-d", "-i", "-o", "-p", "-j", "-g", "--dport", "--ctstate", "--ctorigdst", "--ctorigdstport"})
# What iptables-restore is given beside rules: tables, chains, the end.
_RESTORE_LINE = re.compile(r"\*[a-z]+|COMMIT|:[A-Za-z0-9_-]+ - \[0:0\]|-X [A-Za-z0-9_-]+")
_RESTORE_RULE = re.compile(r"-(?:A ([A-Za-z0-9_-]+)|I ([A-Za-z0-9_-]+) 1) (.*)")
_COMMENT = re.compile(r'-m comment --comment "[a-z0-9-]+ [0-9a-f]{10}" ')
# Parentheses stand for a key that the run will make; in PostUp they would be the shell's.
_SETTING = re.compile(r"\[Peer\]|PostUp = ip -[46] route replace [A-Za-z0-9_.:/ -]+|(?!Post|Pre[UD])[A-Za-z]+ = [A-Za-z0-9_.:/,+= ()\[\]-]+")
_REMARK = re.compile(r"[a-z]+ [A-Za-z0-9-]+")
_NO_PATH = re.compile(r"[\x00-\x1f\x7f\"\\%$:]")


def word(value: object) -> str:
    """Return a value as the one word that it has to be in what another program reads. Raises UnsafeText."""
    text = str(value)
    if not _WORD.fullmatch(text):
        raise UnsafeText(f"The text {printable(text)!r} cannot be a word of a rule, a route or a setting.")
    return text


def rule(text: str) -> str:
    """Return a rule of iptables as we write it: plain words, each match at most once, one target. Raises UnsafeText."""
    words = text.split(" ")
    if not _WORDS.fullmatch(text):
        list(map(word, words))
    if words.count("-j") + words.count("-g") != 1 or (len(set(words)) < len(words) and any(words.count(option) > 1 for option in _ONCE)):
        raise UnsafeText(f"The rule {printable(text)!r} says something twice, or has not one target.")
    return text


def setting(line: str) -> str:
    """Return one line of ours in a configuration file of WireGuard. Raises UnsafeText."""
    if not _SETTING.fullmatch(line):
        raise UnsafeText(f"The line {printable(line.partition('=')[0])!r} of a WireGuard file holds what is no value.")  # the value can be a key
    return line


def remark(text: str) -> str:
    """Return what a comment of ours says of a peer. Raises UnsafeText."""
    if not _REMARK.fullmatch(text):
        raise UnsafeText(f"The comment {printable(text)!r} cannot stand in a WireGuard file.")
    return text


def path(value: str) -> str:
    """Return a path that a unit names, within double quotes. Raises UnsafeText."""
    if not value.startswith("/") or _NO_PATH.search(value):
        raise UnsafeText(f"The path {printable(value)!r} cannot stand in a unit of systemd.")
    return value


def command(argv: Sequence[str], stdin: str | None) -> None:
    """Refuse a command that holds what none of ours does: in its words, or in a text for iptables-restore, ip or wg. Raises UnsafeText."""
    for argument in argv:
        # Names that others have given may hold any byte but these.
        if not argument or _has_control(argument):
            raise UnsafeText(f"The command {printable(argv[0])!r} has an argument that is empty, or holds a control character.")
    if stdin is None:
        return
    if stdin and not stdin.endswith("\n"):
        raise UnsafeText(f"The input of {printable(argv[0])!r} does not end with a line.")
    for line in stdin.split("\n")[:-1]:
        if argv[0].endswith("-restore"):
            _restored(line)
        elif "-batch" in argv:
            for part in line.split(" "):
                word(part)
        elif "addconf" in argv:
            setting(line)


def _has_control(text: str) -> bool:
    """Tell whether a text has a control character of ASCII."""
    return not text.isprintable() and any(ord(character) < 32 or ord(character) == 127 for character in text)


def _restored(line: str) -> None:
    found = _RESTORE_RULE.fullmatch(line)
    if found:
        rule(_COMMENT.sub("", found[3], count=1))
    elif line.startswith("-D "):  # as iptables-save has printed it
        if _has_control(line):
            raise UnsafeText(f"The rule {printable(line)!r} cannot be deleted by a line.")
    elif not _RESTORE_LINE.fullmatch(line):
        raise UnsafeText(f"The line {printable(line)!r} is none for iptables-restore.")


def printable(text: str) -> str:
    """Return a text for people: what would not be seen, or would move their cursor, is shown by its number; a line's end stays."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(character if character.isprintable() or character == "\n" else _numbered(ord(character)) for character in text)


def shown(value: Any) -> Any:
    """Return a result with all its texts as people, and those who read UTF-8, can take them."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {shown(key): shown(item) for key, item in value.items()}
    return [shown(item) for item in value] if isinstance(value, (list, tuple)) else value


def _numbered(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
