# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell answers to one of our modules, as far as it is an answer: known fields of the right types, in plain values that are safe to print.

Another cell's root is somebody else, and can answer anything. What is of a wrong shape is no answer, as if the module had failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils import wireguard
from ansible_collections.pic.cells.plugins.module_utils.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.names import check_interface, check_name
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown

_LARGEST = 64 * 1024 * 1024  # characters and items: a cell with a thousand links has some megabytes of rules
_LONGEST = 4000  # characters of a line
_MOST_WARNINGS = 100
_MADE = "(generated)"  # what check mode has in place of a key

Reader = Callable[[Any], Any]


def judged(module: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of an answer; where it is none, one that has failed, with a sentence that says why. module: its name."""
    try:
        said = {key: value for key, value in answer.items() if key in FIELDS[module] or key in _COMMON}
        failed = any(_flag(said.get(key)) for key in ("failed", "unreachable", "skipped"))
        lacking = [] if failed else sorted(set(FIELDS[module]) - set(said) - _OPTIONAL)
        if lacking:
            raise BadInput(f"it lacks {', '.join(lacking)}.")
        return {key: (_COMMON.get(key) or FIELDS[module][key])(value) for key, value in said.items()}
    except BadInput as error:
        return {"failed": True, "changed": False, "msg": f"The cell's answer is none of {module}: {shown(error, _LONGEST)}"}


def _none(value: Any, what: str) -> BadInput:
    return BadInput(f"{shown(value)!r} is no {what}.")


def _flag(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    raise _none(value, "yes or no")


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return int(value)
    raise _none(value, "number of something")


def _port(value: Any) -> int:
    if 0 < _count(value) < 2**16:
        return int(value)
    raise _none(value, "port")


def _line(value: Any) -> str:
    if isinstance(value, str):
        return str(plain(shown(value, _LONGEST), "a line"))
    raise _none(value, "text")


def _text(value: Any) -> Any:
    """Read a text of several lines, as a traceback is one; what is no text says nothing."""
    return plain("\n".join(shown(line, _LONGEST) for line in value.splitlines()), "a text") if isinstance(value, str) else ""


def _name(value: Any) -> str:
    return check_name("Name", value)


def _key(value: Any) -> str:
    return value if value == _MADE else wireguard.check_public_key("public_key", value)


def _preshared_key(value: Any) -> str:
    return value if value == wireguard.PRESHARED_LATER else wireguard.check_preshared_key("preshared_keys", value)


def _matching(pattern: str, what: str) -> Reader:
    def read(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII):
            return value
        raise _none(value, what)

    return read


def _maybe(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def _list(reader: Reader) -> Reader:
    def read(value: Any) -> list[Any]:
        if isinstance(value, list):
            return [reader(item) for item in value]
        raise _none(value, "list")

    return read


def _map(reader: Reader, name: Reader = _name) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return {name(key): reader(item) for key, item in value.items()}
        raise _none(value, "dictionary")

    return read


def _record(**fields: Reader) -> Reader:
    """Read fields of known types, and all others so that they can be printed."""
    every = _map(lambda value: value, _line)
    return lambda value: {key: fields.get(key, _anything)(item) for key, item in every(value).items()}


def _anything(value: Any) -> Any:
    return _printable(plain(value, "a field", _LARGEST))


def _printable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_line(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return _line(value) if isinstance(value, str) else value


def _warnings(value: Any) -> list[str]:
    """Read warnings; since 2.19 ansible-core makes objects of some, which have the text within."""
    found = value if isinstance(value, (list, tuple)) else []
    texts = (item if isinstance(item, str) else getattr(getattr(item, "event", None), "msg", "") for item in found[:_MOST_WARNINGS])
    return [_line(text) for text in texts if isinstance(text, str) and text]


def _diff(value: Any) -> dict[str, str]:
    return {key: _text(value[key]) for key in ("before", "after") if key in value} if isinstance(value, Mapping) else {}


# Of every module; what else Ansible itself would act on (facts, hosts, statistics) is not among them.
_COMMON: dict[str, Reader] = {
    "changed": _flag,
    "failed": _flag,
    "unreachable": _flag,
    "skipped": _flag,
    "msg": _text,
    "module_stderr": _text,
    "module_stdout": _text,
    "stdin": _text,
    "cmd": _anything,
    "rc": _anything,
    "warnings": _warnings,
    "diff": _diff,
}
_TUNNEL = {"last_handshake": _count, "received": _count, "sent": _count}
_LINK = _record(
    name=_name,
    public_key=_maybe(_key),
    listen_port=_maybe(_port),
    permissions=_map(_map(_flag), _line),
    share=_list(_name),
    generation=_count,
    remote_generation=_count,
    preshared_key_id=_maybe(_line),
    last_push_error=_maybe(_line),
    **dict.fromkeys(("exit_offered", "remote_exit_offered", "exit_relay_active", "remote_exit_relay_active", "pending_push", "ruled"), _flag),
    **_TUNNEL,
)
_DEVICE = _record(name=_name, route_via=_maybe(_name), exit_effective=_flag, **_TUNNEL)
_ANSWER = _map(_map(_anything, _line))
_LINES = _list(_line)
_PENDING: dict[str, Reader] = {"pending": _list(_name)}
FIELDS: dict[str, dict[str, Reader]] = {
    "pic_cell_info": {
        "name": lambda value: value if value == "" else _name(value),
        "public_key": _maybe(_key),
        "networks": _LINES,
        "links": _map(_LINK),
        "peers": _map(_DEVICE),
        **dict.fromkeys(("rules", "policy_rules", "routes"), _anything),
        **dict.fromkeys(("drift", "refusals", "due", "advice", "missing_programs", "unpackaged"), _LINES),
        "unlisted": _flag,
        "system": _line,
        "payloads": _map(_anything, _line),
        "advertised": _list(check_interface),
        "unforwarded": _list(_matching(r"net\.[a-z0-9_.]+", "kernel setting")),
        "missing": _list(_matching(r"[a-zA-Z0-9][a-zA-Z0-9.+_-]*", "package")),
    },
    "pic_cell_agent": {"program": _line},
    "pic_cell_restore": {"repairs": _LINES},
    "pic_cell_rules": {"shares": _map(_list(_name))},
    "pic_link_invitation": {"invitation": _anything, "key_file": _line},
    "pic_link_keys": {"preshared_keys": _map(_preshared_key)},
    "pic_peer_sync": {"payloads": _map(_anything, _line), "answers": _ANSWER, "due": _LINES},
    "pic_policy_route": _PENDING,
    "wg_cell": {"public_key": _key, "generated": _flag, "links": _map(_LINK)},
    "wg_cell_peer": {**_PENDING, "public_key": _maybe(_key), "links": _map(_LINK)},
    "pic_cell_rekey": {"public_key": _maybe(_key)},
    "pic_cell_uninstall": {"removed": _LINES},
}
_OPTIONAL = {"advice", "due"}
MODULES = tuple(FIELDS)
