# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the owner of a cell expects of it: who reaches what, and by which exit. Read, and said as the records keep it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import BadInput
from .names import DIRECT, check_name
from .networks import address_of, host_port, is_private, network_of

MOST = 64
ALLOWED, REFUSED = "allowed", "refused"
INTERNET, LAN = "internet", "lan"
_KEYS = ("from", "to", "is", "via")
_REMEDY = f"Give a list of items like {{from: phone, to: {INTERNET}, is: {ALLOWED}, via: cellb}}."
_SERVER = re.compile(r"(tcp|udp)://(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")
_LINE = re.compile(r"(\S+) to (\S+) is (\S+?)(?: via (\S+))?")


@dataclass(frozen=True)
class Server:
    """A port at an address."""

    protocol: str
    port: int
    address: str

    def render(self) -> str:
        """Return it as it is stated."""
        return f"{self.protocol}://{host_port(self.address, self.port)}"


@dataclass(frozen=True)
class Expectation:
    """One line of what is expected.

    source: a device of the cell, or a linked cell. to: as it is stated. allowed: whether source reaches it. via: the exit by which it does; None for any.
    """

    source: str
    to: str
    allowed: bool = True
    via: str | None = None

    def render(self) -> str:
        """Return the expectation as the records keep it, and as a person reads it (inverse of parse)."""
        return f"{self.source} to {self.to} is {ALLOWED if self.allowed else REFUSED}{f' via {self.via}' if self.via else ''}"

    @property
    def service(self) -> tuple[str, str] | None:
        """Return the service that it is about, and the cell of that; None where it is about none."""
        name, at, cell = self.to.partition("@")
        return (name, cell) if at else None

    @property
    def server(self) -> Server | None:
        """Return the port that it is about; None where it is about none."""
        return _server(self.to)


def parse(text: str) -> Expectation:
    """Read an expectation as the records keep it. Raises BadInput."""
    found = _LINE.fullmatch(text)
    if not found:
        raise BadInput(f"{text!r} is no expectation like 'phone to internet is allowed via cellb'.")
    return _one(dict(zip(_KEYS, found.groups())), "expect")


def read(items: Any, what: str) -> list[Expectation]:
    """Read what is stated: a list of {from, to, is, via}. what: what it is of. Raises BadInput."""
    if not isinstance(items, (list, tuple)):
        raise BadInput(f"{what}: {items!r} is not a list. {_REMEDY}")
    found: dict[tuple[str, str], Expectation] = {}
    for item in items:
        one = _one({key: value for key, value in item.items() if value not in (None, "")} if isinstance(item, Mapping) else item, what)
        other = found.setdefault((one.source, one.to), one)
        if other is not one:
            raise BadInput(f"{what}: '{other.render()}' and '{one.render()}' are about the same packets. Leave one of them out.")
    if len(found) > MOST:
        raise BadInput(f"{what}: {len(found)} lines are too many, as each is judged in every run. Give {MOST} at most.")
    return list(found.values())


def listed(expectations: Sequence[Expectation]) -> list[dict[str, str]]:
    """Return expectations as a list of {from, to, is, via}, which read() takes."""
    return [{"from": one.source, "to": one.to, "is": ALLOWED if one.allowed else REFUSED, **({"via": one.via} if one.via else {})} for one in expectations]


def _one(item: Any, what: str) -> Expectation:
    if not isinstance(item, Mapping) or not {"from", "to"} <= set(item) or not all(key in _KEYS for key in item):
        given = dict(item) if isinstance(item, Mapping) else item
        raise BadInput(f"{what}: {given!r} is no expectation. {_REMEDY}")
    source, verdict, via = check_name(f"{what}: from", item["from"]), item.get("is", ALLOWED), item.get("via")
    if verdict not in (ALLOWED, REFUSED):
        raise BadInput(f"{what}: is: {verdict!r} is neither {ALLOWED} nor {REFUSED}. Give one of these.")
    one = Expectation(source, _to(item["to"], what), verdict == ALLOWED, via if via in (None, DIRECT) else check_name(f"{what}: via", via))
    if one.via and not one.allowed:
        raise BadInput(f"{what}: '{one.render()}' names an exit for what is to leave by none. Leave via out, or let it be {ALLOWED}.")
    if one.via and one.to != INTERNET and not (one.server and not is_private(network_of(one.server.address))):
        raise BadInput(f"{what}: '{one.render()}' names an exit, by which only what goes to the internet leaves. Leave via out.")
    if one.to == source:
        raise BadInput(f"{what}: '{one.render()}' is about packets of {source} to itself. Name another one.")
    return one


def _to(value: Any, what: str) -> str:
    """Return a destination as it is written one way only."""
    text = value if isinstance(value, str) else ""
    name, at, cell = text.partition("@")
    if at:
        return f"{check_name(f'{what}: service of to', name)}@{check_name(f'{what}: cell of to', cell)}"
    if "://" not in text:
        return text if text in (INTERNET, LAN) else check_name(f"{what}: to", value)
    server = _server(text)
    if server is None or not 0 < server.port < 65536:
        raise BadInput(f"{what}: to: {value!r} is not a port at an address. Give one like tcp://192.0.2.1:443 or udp://[2001:db8::1]:53.")
    return server.render()


def _server(text: str) -> Server | None:
    found = _SERVER.fullmatch(text)
    try:
        return Server(found[1], int(found[4]), str(address_of(found[2] or found[3]))) if found else None
    except ValueError:
        return None
