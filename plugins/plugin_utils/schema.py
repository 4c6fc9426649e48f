# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a cell as the role's argument specification has them: what is known, of which type, and how each way to write a value is read.

The specification is the one source. Ansible itself judges by it only when the role begins on a host, and names no link; so what concerns
an empty text, or the items of a list, is left to this file, which judges all hosts before anything begins.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.pic.cells.plugins.module_utils.base import destinations, expectations
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.offers import OFFER, read_offer

SPECIFICATION = Path(__file__).parents[2] / "roles" / "cell" / "meta" / "argument_specs.yml"
GROUP_VARIABLE = "cell_group"  # of a whole run, not of a cell
PREFIX = "cell_"

Option = Mapping[str, Any]


@functools.cache
def options() -> Mapping[str, Option]:
    """Return the variables of a cell, as the role's argument specification describes them."""
    read: Mapping[str, Option] = yaml_load(SPECIFICATION.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    return read


options()  # here and not when it is first asked for: Ansible's main process imports this file, and forks a process for each host and task, which has it then


def normal(variable: str, value: Any) -> Any:
    """Return the value of a variable as the rest reads it: not given is None, a text for a list is the list, numbers are numbers.

    What is of a wrong type stays as it is; problems() says so.
    """
    return _reader(variable)(value, options().get(variable, {}), variable, [])


def items(value: Any) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the items of a list as they are written, as far as they have a name, each with its place. normal_item() reads each."""
    numbered = enumerate(value) if isinstance(value, (list, tuple)) else ()
    return [(place, item) for place, item in numbered if isinstance(item, (dict, Mapping)) and item.get("name")]


def normal_item(variable: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return one item of a list as normal() reads it."""
    read: dict[str, Any] = _read_item(item, options()[variable]["options"], variable, [])
    return read


def problems(variable: str, value: Any, host: str) -> list[str]:
    """Return a sentence for each unknown key and each value of a wrong type in a variable of a host."""
    found: list[str] = []
    _reader(variable)(value, options().get(variable, {}), f"{variable} of host {host!r}", found)
    return found


def unknown(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield which variables look like one of a cell and are none, with the likely name, or an empty text."""
    for name in names:
        if name.startswith(PREFIX) and name != GROUP_VARIABLE and name not in options():
            yield name, likely(name, options())


def likely(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant, empty where none is near."""
    return next(iter(difflib.get_close_matches(word, sorted(known), 1)), "")


def decrypted(value: Any) -> Any:
    """Return a value without what Ansible before 2.19 wraps around one from a vault, which is no text for anybody else."""
    return str(value) if getattr(value, "__ENCRYPTED__", False) else value


def listed(value: Any) -> list[Any]:
    """Return the items of a list, or of a text with commas or line breaks; an empty text is no item."""
    value = decrypted(value)
    items = re.split(r"[,\n]", value) if isinstance(value, str) else value if isinstance(value, (list, tuple, set)) else [value]
    stripped = (item.strip() if isinstance(value, str) else decrypted(item) for item in items)
    return [item for item in stripped if not _empty(item)]


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "")


def _read(value: Any, option: Option, where: str, found: list[str]) -> Any:
    """Read a value as its option says; what is wrong with it is added to found."""
    value = decrypted(value)
    if _empty(value):
        return None
    kind = _kind(option)
    if kind == "list":
        return _read_list(value, option, where, found)
    read = _READERS[kind](value)
    choices = [choice for choice in option.get("choices", ()) if choice != ""]
    if read is None:
        shown = "" if option.get("no_log") else f" {value!r}"
        found.append(f"{where}:{shown} is not {_WORDS[kind]}.")
    elif choices and read not in choices:
        meant = likely(str(read), choices)
        found.append(f"{where}: {read!r} is not one of {', '.join(choices)}.{f' Did you mean {meant!r}?' if meant else ''}")
    return value if read is None else read


def _read_list(value: Any, option: Option, where: str, found: list[str]) -> Any:
    if isinstance(value, Mapping) or ("options" in option and isinstance(value, str)):
        found.append(f"{where} is not a list of items. Give a list in which each item has a name.")
        return value
    items = listed(value)
    if not items and value not in ([], (), set()):
        return None  # empty texts alone say nothing, least of all that a list is to be empty
    if "options" in option:
        return [_read_item(item, option["options"], where, found) for item in items]
    return [_read(item, {"type": option.get("elements", "str")}, where, found) for item in items]


def _read_item(item: Any, known: Mapping[str, Option], where: str, found: list[str]) -> Any:
    if not isinstance(item, Mapping):
        found.append(f"{where} is not a list of items: {item!r} is not an item. Give a list in which each item has a name.")
        return item
    variable, _of, host = where.partition(" of ")
    what = variable[len(PREFIX) : -1]
    which = f"{what} {decrypted(item.get('name'))!r}{_of}{host}"
    for key in item:
        if key not in known:
            meant = likely(str(key), known)
            remedy = f"Did you mean {meant!r}?" if meant else f"Its keys: {', '.join(known)}."
            found.append(f"The {which} has an unknown key {key!r}. {remedy}")
    read = {key: _READS.get(key, _read)(value, known.get(key, {}), f"{key} of {which}", found) for key, value in item.items()}
    return {key: value for key, value in read.items() if value is not None}


def _read_offer(value: Any, _option: Option, where: str, found: list[str]) -> Any:
    """Read the offer of an exit, which has several forms; the specification knows of one type only."""
    value = decrypted(value)
    if _empty(value):
        return None
    try:
        return read_offer(value, where)
    except BadInput as error:
        found.append(str(error))
        return value


def _read_exceptions(value: Any, _option: Option, where: str, found: list[str]) -> Any:
    """Read the exceptions of a device, which the specification does not know well enough to name the one that is wrong."""
    value = decrypted(value)
    if _empty(value):
        return None
    try:
        return destinations.listed(destinations.read(value, where))
    except BadInput as error:
        found.append(str(error))
        return value


def _read_expectations(value: Any, _option: Option, where: str, found: list[str]) -> Any:
    """Read what is expected of the cell: its items have no name by which the specification could tell them apart."""
    value = decrypted(value)
    if _empty(value):
        return None
    try:
        return expectations.listed(expectations.read(value, where))
    except BadInput as error:
        found.append(str(error))
        return value


_Reader = Callable[[Any, Option, str, list[str]], Any]
_READS: dict[str, _Reader] = {OFFER: _read_offer, "route_except": _read_exceptions, "cell_expect": _read_expectations}


def _reader(variable: str) -> _Reader:
    """Return what reads a variable."""
    return _READS.get(variable, _read)


def _kind(option: Option) -> str:
    """Return the type of an option. Ansible would refuse an empty text as a number or boolean, so the specification says raw there, with a default."""
    kind = str(option.get("type", "raw"))
    default = option.get("default")
    return type(default).__name__ if kind == "raw" and default is not None else kind


def _as_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _as_number(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _as_boolean(value: Any) -> bool | None:
    try:
        return bool(boolean(value, strict=True))
    except TypeError:
        return None


_READERS: dict[str, Callable[[Any], Any]] = {
    "str": _as_text,
    "path": _as_text,
    "int": _as_number,
    "bool": _as_boolean,
    "raw": lambda value: listed(value) if isinstance(value, (list, tuple)) else value,
}
_TEXT = "text. Put it in quotes"
_WORDS = {"str": _TEXT, "path": _TEXT, "int": "a whole number", "bool": "a boolean. Give true or false"}
