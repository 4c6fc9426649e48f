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

from ansible_collections.pic.cells.plugins.module_utils.base import destinations, wgkeys
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT, check_exits, check_interface, check_name
from ansible_collections.pic.cells.plugins.module_utils.base.networks import check_host, parse_address, parse_interface, parse_network
from ansible_collections.pic.cells.plugins.module_utils.base.rates import parse_rate
from ansible_collections.pic.cells.plugins.module_utils.base.times import parse_moment
from ansible_collections.pic.cells.plugins.module_utils.kernel.routing import FORWARDING
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown

_LARGEST = 64 * 1024 * 1024  # characters and items: a cell with a thousand links has some megabytes of rules
_LONGEST = 4000  # characters of a line
_MOST_WARNINGS = 100
# Later tasks go through all of it, and execute something for each setting: what another cell says must not hold them up.
_MOST_ITEMS, _MOST_SENTENCES, _MOST_DEVICES = 20_000, 1000, 32
ELAPSED = "elapsed"  # seconds that the answer has taken, as it was measured here
_MADE = "(generated)"  # what check mode has in place of a key

Reader = Callable[[Any], Any]


def judged(module: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of an answer; where it is none, one that has failed, with a sentence that says why. module: its name.

    Of a module that is not ours nothing counts but what every module says.
    """
    fields = FIELDS.get(module, {})
    try:
        said = {key: value for key, value in answer.items() if key in fields or key in _COMMON}
        failed = any(_flag(said.get(key)) for key in ("failed", "unreachable", "skipped"))
        if said.get("failed") and not said.get("msg"):
            said.update(_crash(module, answer.get("exception")))
        if not failed:
            _check_whole(said, set(fields) - _OPTIONAL)
        return {key: (_COMMON.get(key) or fields[key])(value) for key, value in said.items()}
    except BadInput as error:
        return {"failed": True, "changed": False, "msg": f"The cell's answer is not a valid result of {module}: {shown(error, _LONGEST)}"}


def _check_whole(said: Mapping[str, Any], fields: set[str]) -> None:
    """Raise BadInput where an answer lacks a field."""
    lacking = sorted(fields - set(said))
    if lacking:
        raise BadInput(f"it lacks {', '.join(lacking)}.")


def _none(value: Any, what: str) -> BadInput:
    return BadInput(f"{shown(value)!r} is not a valid {what}.")


def _flag(value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(value)
    raise _none(value, "boolean")


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return int(value)
    raise _none(value, "count")


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
    return value if value == _MADE else wgkeys.check_public_key("public_key", value)


def _moment(value: Any) -> str:
    return parse_moment(value, "exit_offered_until")


def _rate(value: Any) -> str:
    return parse_rate(value, "exit_offered_rate")


def _exits(value: Any) -> Any:
    """Read the exits of a device: none, one as a text, or a list."""
    if isinstance(value, list):
        return check_exits("route_via:", _bounded(value, _MOST_SENTENCES))
    return None if value is None else _name(value)


def _way(value: Any) -> str:
    return DIRECT if value == DIRECT else _name(value)


def _exceptions(value: Any) -> dict[str, str]:
    """Read the exceptions of a device, as its record has them."""
    if not isinstance(value, dict) or len(value) > destinations.MOST:
        raise _none(value, "exceptions of a device")
    return destinations.read(destinations.listed(value), "route_except")


def _address(value: Any) -> str:
    return str(parse_address(value, "address"))


def _network(value: Any) -> str:
    return str(parse_network(value, "network"))


def _interface(value: Any) -> str:
    return str(parse_interface(value, "network"))


def _host(value: Any) -> str:
    return check_host(value, "endpoint")


def _preshared_key(value: Any) -> str:
    return value if value == wgkeys.PRESHARED_LATER else wgkeys.check_preshared_key("preshared_keys", value)


def _matching(pattern: str, what: str) -> Reader:
    def read(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII):
            return value
        raise _none(value, what)

    return read


def _maybe(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def _list(reader: Reader, most: int = _MOST_ITEMS) -> Reader:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _none(value, "list")
        return [reader(item) for item in _bounded(value, most)]

    return read


def _map(reader: Reader, name: Reader = _name) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _none(value, "dictionary")
        return {name(key): reader(item) for key, item in _bounded(value, _MOST_ITEMS).items()}

    return read


def _bounded(value: Any, most: int) -> Any:
    if len(value) > most:
        raise BadInput(f"it holds {len(value)} items where {most} are the most.")
    return value


def _record(**fields: Reader) -> Reader:
    """Read fields of known types, and all others so that they can be printed."""
    every = _map(lambda value: value, _line)
    return lambda value: {key: fields.get(key, _anything)(item) for key, item in every(value).items()}


def _exactly(**fields: Reader) -> Reader:
    """Read fields that all have to be there, and no others."""

    def read(value: Any) -> dict[str, Any]:
        said = _map(lambda field: field, _line)(value)
        _check_whole(said, set(fields))
        return {key: reader(said[key]) for key, reader in fields.items()}

    return read


def _known(**fields: Reader) -> Reader:
    """Read fields of which each may be missing, and no others."""

    def read(value: Any) -> dict[str, Any]:
        said = _map(lambda field: field, _line)(value)
        for key in set(said) - set(fields):
            raise _none(key, "field")
        return {key: fields[key](item) for key, item in said.items()}

    return read


def _parts(**parts: Mapping[str, Reader]) -> Reader:
    """Read what each part of a cell has said: whether it has changed, and fields of its own. parts: the fields of each."""
    return _exactly(**{name: _exactly(**fields, changed=_flag) for name, fields in parts.items()})


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


def _crash(module: str, value: Any) -> dict[str, Any]:
    """Return what a module ended with that could not say it itself: since 2.19 ansible-core keeps that in an object of its own, beside msg."""
    event = getattr(value, "event", None)
    why, where = (getattr(event, name, None) for name in ("msg", "formatted_traceback"))
    return {"msg": f"{module} has ended with an error: {why}", "module_stderr": where} if isinstance(why, str) else {}


def _diff(value: Any) -> Any:
    """Read a difference, or those of several parts of the cell, each under its name; none holds others."""
    if isinstance(value, list):
        return [_diff(item) for item in _bounded(value, _MOST_SENTENCES) if isinstance(item, Mapping)]
    texts = {"prepared": _text, "before": _text, "after": _text, "before_header": _line, "after_header": _line}
    return {key: texts[key](value[key]) for key in texts if key in value} if isinstance(value, Mapping) else {}


# Of every module; what else Ansible itself would act on (facts, hosts, statistics) is not among them.
_COMMON: dict[str, Reader] = {
    ELAPSED: _count,
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
    given_addresses=_list(_line),
    given_resolvers=_list(_line),
    exit_offered_until=_maybe(_moment),
    exit_offered_rate=_maybe(_rate),
    **dict.fromkeys(("exit_offered", "remote_exit_offered", "exit_relay_active", "remote_exit_relay_active", "pending_push", "ruled"), _flag),
    **_TUNNEL,
)
_DEVICE = _record(
    name=_name,
    public_key=_maybe(_key),
    route_via=_exits,
    route_except=_exceptions,
    exit=_maybe(_name),
    exit_effective=_flag,
    dns_by_uplink=_list(_line, 2),
    exit_dns=_list(_line, 2),
    **_TUNNEL,
)
_EXIT = _exactly(usable=_flag, down=_maybe(_exactly(since=_line, why=_line, answers=_maybe(_line), words=_line)))
_PROVEN = _exactly(
    name=_name,
    exit=_maybe(_name),
    exits=_list(
        _exactly(
            name=_name,
            internet=_map(_flag, _line),
            addresses=_map(_line, _line),
            full_size=_maybe(_flag),
            mtu=_maybe(_count),
            **dict.fromkeys(("asked", "tunnel"), _flag),
            **dict.fromkeys(("found", "wrong"), _list(_line, _MOST_SENTENCES)),
        )
    ),
    **dict.fromkeys(("found", "wrong"), _list(_line, _MOST_SENTENCES)),
)
_ANSWER = _map(_map(_anything, _line))
# What an inventory is made of: in a file of YAML a text would be filled in as a template, so there is none that can hold one.
_ADDRESSES = _list(_matching(r"[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?", "address"), _MOST_SENTENCES)
_DIALLED = _matching(r"[A-Za-z0-9_.:\[\]-]{1,260}", "endpoint")
_INVENTORY = _known(
    cell_name=_name,
    cell_endpoint=_DIALLED,
    cell_interface=check_interface,
    cell_networks=_ADDRESSES,
    cell_services=_list(_known(name=_name, address=_ADDRESSES, port=_port, protocol=_matching("tcp|udp", "protocol"))),
    cell_peers=_list(
        _known(
            name=_name,
            public_key=_key,
            addresses=_ADDRESSES,
            networks=_ADDRESSES,
            route_via=_list(_way, _MOST_SENTENCES),
            route_except=_list(_known(to=_ADDRESSES, via=_way), destinations.MOST),
        )
    ),
    cell_links=_list(
        _known(
            name=_name,
            public_key=_key,
            networks=_ADDRESSES,
            allow_public_networks=_flag,
            address=_ADDRESSES,
            endpoint=_DIALLED,
            interface=check_interface,
            keepalive=_count,
            sync_auth=_matching("hmac|address", "sync_auth"),
            share=_list(_name),
            offer_exit=lambda value: _flag(value) if isinstance(value, bool) else _known(until=_moment, rate=_rate)(value),
        )
    ),
)
_LINES = _list(_line)
_PENDING: dict[str, Reader] = {"pending": _list(_name)}
FIELDS: dict[str, dict[str, Reader]] = {
    "pic_cell_info": {
        "name": lambda value: value if value == "" else _name(value),
        "public_key": _maybe(_key),
        "networks": _LINES,
        "read_at": _count,
        "links": _map(_LINK),
        "peers": _map(_DEVICE),
        "exits": _map(_EXIT),
        **dict.fromkeys(("rules", "policy_rules", "routes"), _anything),
        **dict.fromkeys(("refusals", "due", "advice"), _list(_line, _MOST_SENTENCES)),
        **dict.fromkeys(("drift", "taken_keys", "missing_programs", "unpackaged"), _LINES),
        "unlisted": _flag,
        "system": _line,
        "payloads": _map(_anything, _line),
        "advertised": _list(check_interface, _MOST_DEVICES),
        "unforwarded": _list(_matching("|".join(FORWARDING.values()).replace(".", r"\."), "kernel setting of forwarding"), len(FORWARDING)),
        "missing": _list(_matching(r"[a-zA-Z0-9][a-zA-Z0-9.+_-]*", "package")),
    },
    "pic_cell_adopt": {"inventory": _INVENTORY, "notes": _list(_line, _MOST_SENTENCES + 1)},
    "pic_cell_device": {
        "cell": lambda value: value if value == "" else _name(value),
        "public_key": _maybe(_key),
        "endpoint": _maybe(_host),
        "listen_port": _port,
        "networks": _list(_interface),
        "device": _maybe(_exactly(public_key=_maybe(_key), addresses=_list(_address), route_via=lambda value: _exits(value) if value else [])),
        **dict.fromkeys(("reachable", "taken"), _list(_network)),
        **dict.fromkeys(("resolvers", "exit_dns"), _list(_address)),
    },
    "pic_cell_agent": {"program": _line},
    "pic_cell_prove": {"proven": _flag, "peers": _list(_PROVEN), "lines": _LINES},
    "pic_cell_restore": {"repairs": _LINES},
    "pic_cell_rules": {"shares": _map(_list(_name))},
    "pic_link_invitation": {"invitation": _anything, "key_file": _line},
    "pic_link_keys": {"preshared_keys": _map(_preshared_key)},
    "pic_peer_sync": {"payloads": _map(_anything, _line), "answers": _ANSWER},
    "pic_policy_route": _PENDING,
    "wg_cell": {"public_key": _key, "generated": _flag, "links": _map(_LINK)},
    "wg_cell_peer": {**_PENDING, "public_key": _maybe(_key), "links": _map(_LINK)},
    "pic_cell_rekey": {"public_key": _maybe(_key)},
    "pic_cell_uninstall": {"removed": _LINES},
}
FIELDS["pic_cell_apply"] = {
    "steps": _parts(
        hear={"answers": _ANSWER},
        rules=FIELDS["pic_cell_rules"],
        links=FIELDS["wg_cell_peer"],
        routes=FIELDS["pic_policy_route"],
        agent=FIELDS["pic_cell_agent"],
    )
}
_OPTIONAL = {"advice", "due", "taken_keys"}
MODULES = tuple(FIELDS)
