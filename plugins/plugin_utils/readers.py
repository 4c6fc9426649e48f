# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of what a cell answers: each takes a value that can be anything, returns a plain one that is safe to print, or raises BadInput."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base import destinations, wgkeys
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT, check_exits, check_name
from ansible_collections.pic.cells.plugins.module_utils.base.networks import check_host, parse_address, parse_interface, parse_network
from ansible_collections.pic.cells.plugins.module_utils.base.rates import parse_rate
from ansible_collections.pic.cells.plugins.module_utils.base.times import parse_moment
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown

LARGEST = 64 * 1024 * 1024  # characters and items: a cell with a thousand links has some megabytes of rules
LONGEST = 4000  # characters of a line
# Later tasks go through all of it, and execute something for each item: what another cell says must not hold them up.
MOST_ITEMS, MOST_SENTENCES = 20_000, 1000
MADE = "(generated)"  # what check mode has in place of a key

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
Reader = Callable[[Any], Any]


def check_whole(said: Mapping[str, Any], fields: set[str]) -> None:
    """Raise BadInput where an answer lacks a field."""
    lacking = sorted(fields - set(said))
    if lacking:
        raise BadInput(f"it lacks {', '.join(lacking)}.")


def none(value: Any, what: str) -> BadInput:
    return BadInput(f"{shown(value)!r} is not a valid {what}.")


def flag(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    raise none(value, "boolean")


def count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return int(value)
    raise none(value, "count")


def port(value: Any) -> int:
    if 0 < count(value) < 2**16:
        return int(value)
    raise none(value, "port")


def line(value: Any) -> str:
    if isinstance(value, str):
        return str(plain(shown(value, LONGEST), "a line"))
    raise none(value, "text")


def text(value: Any) -> Any:
    """Read a text of several lines, as a traceback is one; what is no text says nothing."""
    return plain("\n".join(shown(line, LONGEST) for line in value.splitlines()), "a text") if isinstance(value, str) else ""


def base64_text(value: Any) -> str:
    if isinstance(value, str) and len(value) <= LARGEST and _BASE64.fullmatch(value):
        return value
    raise BadInput("it is not base64, or too large.")


def name(value: Any) -> str:
    return check_name("Name", value)


def key(value: Any) -> str:
    return value if value == MADE else wgkeys.check_public_key("public_key", value)


def moment(value: Any) -> str:
    return parse_moment(value, "exit_offered_until")


def rate(value: Any) -> str:
    return parse_rate(value, "exit_offered_rate")


def exits(value: Any) -> Any:
    """Read the exits of a device: none, one as a text, or a list."""
    if isinstance(value, list):
        return check_exits("route_via:", bounded(value, MOST_SENTENCES))
    return None if value is None else name(value)


def way(value: Any) -> str:
    return DIRECT if value == DIRECT else name(value)


def exceptions(value: Any) -> dict[str, str]:
    """Read the exceptions of a device, as its record has them."""
    if not isinstance(value, dict) or len(value) > destinations.MOST:
        raise none(value, "exceptions of a device")
    return destinations.read(destinations.listed(value), "route_except")


def address(value: Any) -> str:
    return str(parse_address(value, "address"))


def network(value: Any) -> str:
    return str(parse_network(value, "network"))


def interface(value: Any) -> str:
    return str(parse_interface(value, "network"))


def host(value: Any) -> str:
    return check_host(value, "endpoint")


def preshared_key(value: Any) -> str:
    return value if value == wgkeys.PRESHARED_LATER else wgkeys.check_preshared_key("preshared_keys", value)


def matching(pattern: str, what: str) -> Reader:
    def read(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII):
            return value
        raise none(value, what)

    return read


def maybe(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def list_of(reader: Reader, most: int = MOST_ITEMS) -> Reader:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise none(value, "list")
        return [reader(item) for item in bounded(value, most)]

    return read


def map_of(reader: Reader, name: Reader = name) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise none(value, "dictionary")
        return {name(key): reader(item) for key, item in bounded(value, MOST_ITEMS).items()}

    return read


def bounded(value: Any, most: int) -> Any:
    if len(value) > most:
        raise BadInput(f"it holds {len(value)} items where {most} are the most.")
    return value


def record(**fields: Reader) -> Reader:
    """Read fields of known types, and all others so that they can be printed."""
    every = map_of(lambda value: value, line)
    return lambda value: {key: fields.get(key, anything)(item) for key, item in every(value).items()}


def exactly(**fields: Reader) -> Reader:
    """Read fields that all have to be there, and no others."""

    def read(value: Any) -> dict[str, Any]:
        said = map_of(lambda field: field, line)(value)
        check_whole(said, set(fields))
        return {key: reader(said[key]) for key, reader in fields.items()}

    return read


def known(**fields: Reader) -> Reader:
    """Read fields of which each may be missing, and no others."""

    def read(value: Any) -> dict[str, Any]:
        said = map_of(lambda field: field, line)(value)
        for key in set(said) - set(fields):
            raise none(key, "field")
        return {key: fields[key](item) for key, item in said.items()}

    return read


def parts(**parts: Mapping[str, Reader]) -> Reader:
    """Read what each part of a cell has said: whether it has changed, and fields of its own. parts: the fields of each."""
    return exactly(**{name: exactly(**fields, changed=flag) for name, fields in parts.items()})


def anything(value: Any) -> Any:
    return printable(plain(value, "a field", LARGEST))


def printable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {line(key): printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable(item) for item in value]
    return line(value) if isinstance(value, str) else value
