# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that wg-quick reads, of which only some lines are ours: it is changed line by line. Pure.

Other tools find their own peers again by the comments around them, and delete from one to the next: no comment of theirs, no blank line goes or moves.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..base import texts
from ..base.networks import interface_of

CONFIG_DIR = "/etc/wireguard"
INTERFACE, PEER = "interface", "peer"

# What wg-quick and wg know in each section.
_KNOWN = {
    INTERFACE: {
        *("privatekey", "listenport", "fwmark", "address", "dns", "mtu", "table", "saveconfig"),
        *("preup", "postup", "predown", "postdown"),
    },
    PEER: {"publickey", "presharedkey", "allowedips", "endpoint", "persistentkeepalive"},
}
_WORD = re.compile(r"[a-z]{1,20}")  # what is longer can be a key that stands where none belongs
_LABEL = "# pic.cells: "  # what stands before a peer that we have added


@dataclass
class Section:
    """One section of a file: its header and all lines up to the next one, comments and blank lines included.

    lead: what we have put before the header.
    """

    header: str
    lines: list[str] = field(default_factory=list)
    lead: list[str] = field(default_factory=list)

    def get(self, key: str) -> str | None:
        """Return the value of a setting; of several the last one counts, as for wg."""
        found = self.all(key)
        return found[-1] if found else None

    def all(self, key: str) -> list[str]:
        """Return the values of all such settings."""
        return [value for name, value in map(setting, self.lines) if name == key.lower()]

    def has_settings(self) -> bool:
        """Tell whether there is more than comments."""
        return any(setting(line)[0] for line in self.lines)


@dataclass
class Config:
    """A whole file. eol: what its lines end with before the newline. open_end: whether the last line has no newline."""

    sections: list[Section]
    eol: str = ""
    open_end: bool = False

    def of(self, header: str) -> list[Section]:
        """Return the sections of one kind."""
        return [section for section in self.sections if section.header == header]

    def get(self, key: str) -> str | None:
        """Return a setting of the interface."""
        return next((value for section in reversed(self.of(INTERFACE)) for value in reversed(section.all(key))), None)

    def put(self, sections: Sequence[Section], key: str, value: str, same: Callable[[str, str], bool] = str.__eq__) -> None:
        """Let a setting of some sections have a value; a line that says the same already stays as it is."""
        texts.setting(f"{key} = {value}")
        for section in reversed(sections):
            for number in reversed(range(len(section.lines))):
                name, found = setting(section.lines[number])
                if name == key.lower():
                    if not same(found, value):
                        section.lines[number] = _with_value(section.lines[number], value)
                    return
        self._insert(sections[0], f"{key} = {value}")

    def put_list(self, sections: Sequence[Section], key: str, values: Sequence[str], normal: Callable[[str], str | None]) -> None:
        """Let a setting that may be repeated, and list several values, have these in any order.

        normal: returns one form for all that mean the same, None for what is to be left.
        """
        missing = list(values)
        if values:
            texts.setting(f"{key} = {', '.join(values)}")
        for section in sections:
            lines: list[str] = []
            for line in section.lines:
                name, found = setting(line)
                parts = found.split(",")  # with their blanks
                kept = [part for part in parts if normal(part.strip()) in (None, *values)] if name == key.lower() else parts
                missing = [value for value in missing if name != key.lower() or value not in map(normal, map(str.strip, kept))]
                if kept == parts:
                    lines.append(line)
                else:
                    lines += [_with_value(line, ",".join(kept).strip())] if any(map(str.strip, kept)) else _comment(line)
            section.lines = lines
        if missing:
            self._extend(sections, key, missing)

    def _extend(self, sections: Sequence[Section], key: str, values: Sequence[str]) -> None:
        for section in reversed(sections):
            for number in reversed(range(len(section.lines))):
                name, found = setting(section.lines[number])
                if name == key.lower():
                    section.lines[number] = _with_value(section.lines[number], ", ".join([*([found] if found else []), *values]))
                    return
        self._insert(sections[0], f"{key} = {', '.join(values)}")

    def drop(self, section: Section, key: str) -> None:
        """Let a setting go, not the comment behind it."""
        section.lines = [left for line in section.lines for left in (_comment(line) if setting(line)[0] == key.lower() else [line])]

    def add_peer(self, lines: Iterable[str], label: str) -> None:
        """Add a peer at the end, behind a blank line: some tools take a peer to end there."""
        self.sections.append(Section(PEER, [f"{line}{self.eol}" for line in ("[Peer]", *lines)], [self.eol, f"{_LABEL}{label}{self.eol}"]))

    def relabel(self, section: Section, label: str) -> None:
        """Let our own line before a peer name it; where there is none, none is added."""
        if section.lead:
            section.lead[-1] = f"{_LABEL}{label}{self.eol}"

    def remove(self, section: Section) -> None:
        """Remove a peer and what we have put before it; comments and blank lines of others stay."""
        at = self.sections.index(section)
        for line in section.lines:
            self.sections[at - 1].lines += _comment(line) if setting(line)[0] or _header(line) else [line]
        del self.sections[at]

    def render(self) -> str:
        """Return the file's text (inverse of parse)."""
        lines = [line for section in self.sections for line in (*section.lead, *section.lines)]
        return "\n".join(lines) + ("" if self.open_end or not lines else "\n")

    def _insert(self, section: Section, line: str) -> None:
        """Put a line behind the last setting of a section."""
        settings = [number for number, found in enumerate(section.lines) if setting(found)[0] or _header(found)]
        section.lines.insert((settings[-1] if settings else -1) + 1, f"{texts.setting(line)}{self.eol}")


def parse(text: str | None) -> Config:
    """Read a file. Only a newline ends a line here, as for wg-quick: other separators of lines may stand in a comment."""
    lines = (text or "").split("\n")
    open_end = bool(lines[-1])
    if not open_end:
        lines.pop()
    config = Config([Section("")], "\r" if lines and lines[0].endswith("\r") else "", open_end)
    for line in lines:
        header = _header(line)
        if header is None:
            config.sections[-1].lines.append(line)
            continue
        before, lead = config.sections[-1].lines, []
        if header == PEER and before and before[-1].startswith(_LABEL):
            at = len(before) - (2 if len(before) > 1 and not before[-2].strip() else 1)
            before[at:], lead = [], before[at:]
        config.sections.append(Section(header, [line], lead))
    return config


@functools.lru_cache(maxsize=1 << 12)
def settings(text: str) -> tuple[tuple[str, dict[str, list[str]]], ...]:
    """Return header and settings, by name, of each section of a file, for whoever only reads: the file of a link is asked for several things."""
    sections = parse(text).sections
    found: list[tuple[str, dict[str, list[str]]]] = [(section.header, {}) for section in sections]
    for section, (_header, values) in zip(sections, found):
        for name, value in map(setting, section.lines):
            values.setdefault(name, []).append(value)
    return tuple(found)


def fault(text: str) -> str:
    """Say what in a file keeps wg-quick from starting the interface; empty where nothing does. No value is shown: it may be a key."""
    known: set[str] = set()
    keyless = 0
    for number, line in enumerate(text.split("\n"), 1):
        code = line.partition("#")[0].strip()
        name = setting(line)[0]
        if code.startswith("["):
            if keyless:
                break
            # wg takes blanks within the brackets, wg-quick does not.
            header = "".join(code.lower().split()).strip("[]")
            if header not in _KNOWN or (header == INTERFACE and code.lower() != f"[{INTERFACE}]"):
                return f"line {number} begins no section"
            known, keyless = _KNOWN[header], number if header == PEER else 0
        elif code and name not in known:
            if number == 1 and line.startswith("\ufeff"):
                return "line 1 begins with a byte order mark"
            return f"line {number}{f' ({code.partition(chr(61))[0].strip()!r})' if _WORD.fullmatch(name) else ''} is no setting there"
        elif name == "publickey":
            keyless = 0
    return f"the peer that begins in line {keyless} has no PublicKey" if keyless else ""


def config_path(interface: str) -> str:
    """Return the file that wg-quick reads for an interface."""
    return f"{CONFIG_DIR}/{interface}.conf"


def setting(line: str) -> tuple[str, str]:
    """Return name (in lower case) and value of a setting, two empty texts for any other line."""
    name, equals, value = line.split("#", 1)[0].partition("=")
    return (name.strip().lower(), value.strip()) if equals else ("", "")


def listed(values: Iterable[str]) -> list[str]:
    """Split the values of a setting that may be repeated, and list several."""
    return [token.strip() for value in values for token in value.split(",") if token.strip()]


def plain_address(text: str) -> str | None:
    """Return an interface's address with its prefix in one form; None for what is none, and for a link-local one, which anybody may add."""
    try:
        found = interface_of(text)
    except ValueError:
        return None
    return None if found.is_link_local and found.version == 6 else str(found)


@functools.lru_cache(maxsize=1 << 14)
def plain_network(text: str) -> str | None:
    """Return a network of AllowedIPs in one form; None for what is none."""
    try:
        return str(interface_of(text).network)
    except ValueError:
        return None


def addresses_of(text: str | None) -> list[str]:
    """Return the addresses that a file gives its interface, each with its prefix; what is none has no effect there either."""
    found = (plain_address(one) for section in parse(text).of(INTERFACE) for one in listed(section.all("address")))
    return list(dict.fromkeys(address for address in found if address))


def networks_of(allowed_ips: Iterable[str]) -> list[str]:
    """Return the networks that a peer's section lets in."""
    return list(dict.fromkeys(network for network in map(plain_network, listed(allowed_ips)) if network))


def _header(line: str) -> str | None:
    text = line.split("#", 1)[0].strip()
    return text.strip("[]").strip().lower() if text.startswith("[") else None


def _comment(line: str) -> list[str]:
    """Return what is left of a setting's line that goes: the comment behind it, if it has one."""
    return [line[line.index("#") :]] if "#" in line else []


def _with_value(line: str, value: str) -> str:
    """Return a setting's line with another value, all else as it stands."""
    before, _equals, rest = line.partition("=")
    code, hash_sign, comment = rest.partition("#")
    lead = re.match(r"[^\S\n]*", code)
    blank = lead[0] if lead and code.strip() else " "
    behind = code[len(code.rstrip()) :] if code.strip() else (" " if hash_sign else "\r" if code.endswith("\r") else "")
    return f"{before}={blank}{value}{behind}{hash_sign}{comment}"
