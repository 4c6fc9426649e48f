# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to go from a host though the records do not say any more that it is ours. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

_FAMILY_NAMES = {4: "ipv4", 6: "ipv6"}
# Fields by the options with which conntrack finds a flow, in the order in which they are written.
_OPTIONS = {
    "-p": "protocol",
    "-s": "source",
    "-d": "target",
    "--orig-src": "asker",
    "--orig-dst": "asked",
    "--orig-port-dst": "port",
}


class Entry:
    """One tombstone of several words; they are sorted by their text."""

    def render(self) -> str:
        """Return the entry as the file has it."""
        raise NotImplementedError

    def __lt__(self, other: Entry) -> bool:
        """Order by the text."""
        return self.render() < other.render()


@dataclass(frozen=True)
class Tunnel(Entry):
    """The tunnel of a link: an interface, and the key of the peer on it."""

    interface: str
    key: str

    def render(self) -> str:
        """Return the tunnel as the file has it."""
        return f"{self.interface} {self.key}"

    @classmethod
    def parse(cls, text: str) -> Tunnel:
        """Read what render has written. Raises ValueError."""
        interface, key = text.split()
        return cls(interface, key)


@dataclass(frozen=True)
class Flows(Entry):
    """Live flows, by what they have in common; an empty field can be anything.

    source, target: a network in either direction's packets. asker, asked, port: who began it, and what they asked for. translated: by SNAT alone.
    """

    family: int
    protocol: str = ""
    source: str = ""
    target: str = ""
    asker: str = ""
    asked: str = ""
    port: str = ""
    translated: bool = False

    def words(self) -> tuple[str, ...]:
        """Return the options with which conntrack finds these flows."""
        given = [(option, str(getattr(self, name))) for option, name in _OPTIONS.items()]
        return ("-f", _FAMILY_NAMES[self.family], *(word for pair in given if pair[1] for word in pair), *(("-n",) if self.translated else ()))

    def render(self) -> str:
        """Return the flows as the file has them."""
        return " ".join(self.words())

    @classmethod
    def parse(cls, text: str) -> Flows:
        """Read what render has written. Raises ValueError."""
        words = text.split()
        translated = words[-1:] == ["-n"]
        pairs = dict(zip(words[::2], words[1::2]))
        name = pairs.pop("-f", "")
        family = next((number for number, known in _FAMILY_NAMES.items() if known == name), 0)
        if not family or not pairs.keys() <= _OPTIONS.keys():
            raise ValueError(f"no flows: {text!r}")
        found = cls(family, translated=translated, **{_OPTIONS[option]: value for option, value in pairs.items()})
        if found.render() != text:
            raise ValueError(f"no flows: {text!r}")
        return found


@dataclass
class Leaving:
    """What has to go: noted before the other records forget it, removed from here when it is gone.

    Only the records tell what is ours of it. A run that ends in between would leave it for ever.
    """

    devices: list[str] = field(default_factory=list)  # keys
    links: list[Tunnel] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)  # names of links that have been an exit
    flows: list[Flows] = field(default_factory=list)
