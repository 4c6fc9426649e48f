# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell answers to one of our modules, as far as it is an answer: known fields of the right types, in plain values that are safe to print.

Another cell's root is somebody else, and can answer anything. What is of a wrong shape is no answer, as if the module had failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base import destinations, expectations
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import EXIT, OWN, check_interface
from ansible_collections.pic.cells.plugins.module_utils.base.networks import FORWARDING
from ansible_collections.pic.cells.plugins.plugin_utils import readers as read
from ansible_collections.pic.cells.plugins.plugin_utils.outside import shown

_MOST_WARNINGS = 100
_MOST_DEVICES = 32
ELAPSED = "elapsed"  # seconds that the answer has taken, as it was measured here


def judged(module: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts of an answer; where it is none, one that has failed, with a sentence that says why. module: its name.

    Of a module that is not ours nothing counts but what every module says.
    """
    fields = FIELDS.get(module, {})
    try:
        said = {key: value for key, value in answer.items() if key in fields or key in _COMMON}
        failed = any(read.flag(said.get(key)) for key in ("failed", "unreachable", "skipped"))
        if said.get("failed") and not said.get("msg"):
            said.update(_crash(module, answer.get("exception")))
        if fields and said.get("skipped"):
            raise BadInput("it says that it was skipped, which none of our modules is.")
        if not failed:
            read.check_whole(said, set(fields) - _OPTIONAL)
        return {key: (_COMMON.get(key) or fields[key])(value) for key, value in said.items()}
    except BadInput as error:
        return {"failed": True, "changed": False, "msg": f"The cell's answer is not a valid result of {module}: {shown(error, read.LONGEST)}"}


def _warnings(value: Any) -> list[str]:
    """Read warnings; since 2.19 ansible-core makes objects of some, which have the text within."""
    found = value if isinstance(value, (list, tuple)) else []
    texts = (item if isinstance(item, str) else getattr(getattr(item, "event", None), "msg", "") for item in found[:_MOST_WARNINGS])
    return [read.line(text) for text in texts if isinstance(text, str) and text]


def _crash(module: str, value: Any) -> dict[str, Any]:
    """Return what a module ended with that could not say it itself: since 2.19 ansible-core keeps that in an object of its own, beside msg."""
    event = getattr(value, "event", None)
    why, where = (getattr(event, name, None) for name in ("msg", "formatted_traceback"))
    return {"msg": f"{module} has ended with an error: {why}", "module_stderr": where} if isinstance(why, str) else {}


def _diff(value: Any) -> Any:
    """Read a difference, or those of several parts of the cell, each under its name; none holds others."""
    if isinstance(value, list):
        return [_diff(item) for item in read.bounded(value, read.MOST_SENTENCES) if isinstance(item, Mapping)]
    texts = {"prepared": read.text, "before": read.text, "after": read.text, "before_header": read.line, "after_header": read.line}
    return {key: texts[key](value[key]) for key in texts if key in value} if isinstance(value, Mapping) else {}


# Of every module; what else Ansible itself would act on (facts, hosts, statistics) is not among them.
_COMMON: dict[str, read.Reader] = {
    ELAPSED: read.count,
    "changed": read.flag,
    "failed": read.flag,
    "unreachable": read.flag,
    "skipped": read.flag,
    "msg": read.text,
    "module_stderr": read.text,
    "module_stdout": read.text,
    "stdin": read.text,
    "cmd": read.anything,
    "rc": read.anything,
    "warnings": _warnings,
    "diff": _diff,
}
_TUNNEL = {"last_handshake": read.count, "received": read.count, "sent": read.count}
_DIALLED = read.matching(r"[A-Za-z0-9_.:\[\]-]{1,260}", "endpoint")
_LINK = read.record(
    name=read.name,
    public_key=read.maybe(read.key),
    listen_port=read.maybe(read.port),
    permissions=read.map_of(read.map_of(read.flag), read.line),
    share=read.list_of(read.name),
    generation=read.count,
    remote_generation=read.count,
    preshared_key_id=read.maybe(read.line),
    last_push_error=read.maybe(read.line),
    given_addresses=read.list_of(read.line),
    given_resolvers=read.list_of(read.line),
    invited_until=read.maybe(read.moment),
    moved=read.maybe(_DIALLED),
    **dict.fromkeys(("known_as", "accept_networks", "asked_networks", "asked_address", "judged_place"), read.list_of(read.line)),
    told=read.count,
    heard=read.map_of(read.line, read.line),
    forwarded=read.maybe(read.port),
    judged_claim=read.list_of(read.line),
    refused_claim=read.list_of(read.line),
    exit_offered_until=read.maybe(read.moment),
    exit_offered_rate=read.maybe(read.rate),
    **dict.fromkeys(("exit_offered", "remote_exit_offered", "exit_relay_active", "remote_exit_relay_active", "pending_push", "ruled"), read.flag),
    **_TUNNEL,
)
_DEVICE = read.record(
    name=read.name,
    public_key=read.maybe(read.key),
    route_via=read.exits,
    route_except=read.exceptions,
    exit=read.maybe(read.name),
    exit_effective=read.flag,
    dns_by_uplink=read.list_of(read.line, 2),
    exit_dns=read.list_of(read.line, 2),
    **_TUNNEL,
)
_EXIT = read.exactly(usable=read.flag, down=read.maybe(read.exactly(since=read.line, why=read.line, answers=read.maybe(read.line), words=read.line)))
_PROVEN = read.exactly(
    name=read.name,
    exit=read.maybe(read.name),
    exits=read.list_of(
        read.exactly(
            name=read.name,
            internet=read.map_of(read.flag, read.line),
            addresses=read.map_of(read.line, read.line),
            full_size=read.maybe(read.flag),
            mtu=read.maybe(read.count),
            **dict.fromkeys(("asked", "tunnel"), read.flag),
            **dict.fromkeys(("found", "wrong"), read.list_of(read.line, read.MOST_SENTENCES)),
        )
    ),
    **dict.fromkeys(("found", "wrong"), read.list_of(read.line, read.MOST_SENTENCES)),
)
_ANSWER = read.map_of(read.map_of(read.anything, read.line))
# What an inventory is made of: in a file of YAML a text would be filled in as a template, so there is none that can hold one.
_ADDRESSES = read.list_of(read.matching(r"[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?", "address"), read.MOST_SENTENCES)
_INVENTORY = read.known(
    cell_name=read.name,
    cell_endpoint=_DIALLED,
    cell_interface=check_interface,
    cell_networks=_ADDRESSES,
    cell_services=read.list_of(read.known(name=read.name, address=_ADDRESSES, port=read.port, protocol=read.matching("tcp|udp", "protocol"))),
    cell_peers=read.list_of(
        read.known(
            name=read.name,
            public_key=read.key,
            addresses=_ADDRESSES,
            networks=_ADDRESSES,
            route_via=read.list_of(read.way, read.MOST_SENTENCES),
            route_except=read.list_of(read.known(to=_ADDRESSES, via=read.way), destinations.MOST),
            exit_dns=read.list_of(read.matching(f"{EXIT}|{OWN}|[0-9A-Fa-f.:]{{2,45}}", "resolver"), 2),
        )
    ),
    cell_links=read.list_of(
        read.known(
            name=read.name,
            public_key=read.key,
            networks=_ADDRESSES,
            allow_public_networks=read.flag,
            address=_ADDRESSES,
            endpoint=_DIALLED,
            interface=check_interface,
            keepalive=read.count,
            sync_auth=read.matching("hmac|address", "sync_auth"),
            share=read.list_of(read.name),
            offer_exit=lambda value: read.flag(value) if isinstance(value, bool) else read.known(until=read.moment, rate=read.rate)(value),
        )
    ),
)
_LINES = read.list_of(read.line)
_PENDING: dict[str, read.Reader] = {"pending": read.list_of(read.name)}
FIELDS: dict[str, dict[str, read.Reader]] = {
    "pic_cell_info": {
        "name": lambda value: value if value == "" else read.name(value),
        "public_key": read.maybe(read.key),
        "networks": _LINES,
        "read_at": read.count,
        "links": read.map_of(_LINK),
        "peers": read.map_of(_DEVICE),
        "exits": read.map_of(_EXIT),
        **dict.fromkeys(("rules", "policy_rules", "routes"), read.anything),
        **dict.fromkeys(("refusals", "due", "advice"), read.list_of(read.line, read.MOST_SENTENCES)),
        "expectations": read.list_of(read.exactly(line=read.line, why=read.line), expectations.MOST),
        **dict.fromkeys(("drift", "taken_keys", "missing_programs", "unpackaged"), _LINES),
        "unlisted": read.flag,
        "system": read.line,
        "payloads": read.map_of(read.anything, read.line),
        "advertised": read.list_of(check_interface, _MOST_DEVICES),
        "unforwarded": read.list_of(read.matching("|".join(FORWARDING.values()).replace(".", r"\."), "kernel setting of forwarding"), len(FORWARDING)),
        "missing": read.list_of(read.matching(r"[a-zA-Z0-9][a-zA-Z0-9.+_-]*", "package")),
    },
    "pic_cell_adopt": {"inventory": _INVENTORY, "notes": read.list_of(read.line, read.MOST_SENTENCES + 1)},
    "pic_cell_device": {
        "cell": lambda value: value if value == "" else read.name(value),
        "public_key": read.maybe(read.key),
        "endpoint": read.maybe(read.host),
        "listen_port": read.port,
        "networks": read.list_of(read.interface),
        "device": read.maybe(
            read.exactly(
                public_key=read.maybe(read.key),
                addresses=read.list_of(read.address),
                route_via=lambda value: read.exits(value) if value else [],
                preshared=read.flag,
            )
        ),
        **dict.fromkeys(("reachable", "taken"), read.list_of(read.network)),
        **dict.fromkeys(("resolvers", "exit_dns"), read.list_of(read.address)),
    },
    "pic_cell_backup": {"files": _LINES, "backup": read.base64_text},
    "pic_cell_restore_backup": {"files": _LINES},
    "pic_cell_agent": {"program": read.line},
    "pic_cell_prove": {"proven": read.flag, "peers": read.list_of(_PROVEN), "lines": _LINES},
    "pic_cell_restore": {"repairs": _LINES},
    "pic_cell_rules": {"shares": read.map_of(read.list_of(read.name))},
    "pic_link_invitation": {"invitation": read.anything, **dict.fromkeys(("key_file", "token", "token_file", "code"), read.line)},
    "pic_link_keys": {"preshared_keys": read.map_of(read.preshared_key)},
    "pic_link_pair": {"redeemed": read.flag},
    "pic_peer_sync": {"payloads": read.map_of(read.anything, read.line), "answers": _ANSWER},
    "pic_policy_route": _PENDING,
    "wg_cell": {"public_key": read.key, "generated": read.flag, "links": read.map_of(_LINK)},
    "wg_cell_peer": {**_PENDING, "public_key": read.maybe(read.key), "links": read.map_of(_LINK)},
    "pic_cell_rekey": {"public_key": read.maybe(read.key)},
    "pic_cell_uninstall": {"removed": _LINES},
}
FIELDS["pic_cell_apply"] = {
    "steps": read.parts(
        hear={"answers": _ANSWER},
        rules=FIELDS["pic_cell_rules"],
        links=FIELDS["wg_cell_peer"],
        routes=FIELDS["pic_policy_route"],
        agent=FIELDS["pic_cell_agent"],
    )
}
_OPTIONAL = {"advice", "due", "expectations", "taken_keys"}
MODULES = tuple(FIELDS)
