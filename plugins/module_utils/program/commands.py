# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subcommands of root, which work with the records and the kernel. Errors of the engine are for whoever calls them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .. import info
from ..base.command import Host
from ..base.errors import CellError
from ..base.networks import parse_address
from ..kernel.plan import apply
from ..parts import device_file, devices
from ..parts.part import Context
from ..records.codec import dump_peer
from ..records.store import Store
from . import explain, metrics, prove, status
from .exchange import replay, take_in
from .listen import Listener
from .output import DIFFERS, FAILED, OK, complain, report, say, say_only_to_a_person
from .redial import follow
from .restore import drafted
from .uninstall import plan_uninstall
from .watch import Watcher


def _read(host: Host, store: Store) -> dict[str, Any]:
    """Read the cell back without changing anything."""
    with store.lock(create=False):
        context = drafted(host, store.path)
        return {**info.info(context), "warnings": context.store.warnings}


def _check(host: Host, store: Store, given: argparse.Namespace) -> int:
    found = _read(host, store)
    if not found["name"]:
        raise CellError(" ".join(found["warnings"]) or f"This host is not a cell: there is no record of it in {store.path}.")
    drift = found["drift"] + found["warnings"]
    broken = [f"expectation {line}" for line in status.broken(found)]
    facts = {key: found[key] for key in ("drift", "warnings", "advice", "expectations")}
    report(given, facts, [*drift, *broken, *(f"warning: {line}" for line in found["advice"])])
    return DIFFERS if drift or broken else OK


def _status(host: Host, store: Store, given: argparse.Namespace) -> int:
    found = _read(host, store)
    report(given, found, metrics.metrics(found) if given.prometheus else status.report(found) + found["warnings"])
    return OK


def _explain(host: Host, store: Store, given: argparse.Namespace) -> int:
    with store.lock(create=False):
        context = drafted(host, store.path)
        to = None if given.to is None else str(parse_address(given.to, "--to"))
        paths = explain.explain(context, given.peer, to)
        facts = {
            "peer": given.peer,
            "route_via": dump_peer(context.stored.peers[given.peer])["route_via"],
            "exit": context.stored.exit_of(context.stored.peers[given.peer]),
            "ways": [asdict(path) for path in paths],
            "advice": info.advise(context),
        }
        report(given, facts, [*explain.words(context, given.peer, paths), *(f"warning: {line}" for line in facts["advice"])])
    return OK


def _prove(host: Host, store: Store, given: argparse.Namespace) -> int:
    found = prove.prove(host, store.path, given.peer)
    report(given, prove.facts(found), prove.report(found))
    return OK if prove.is_proven(found) else DIFFERS


def _config(host: Host, store: Store, given: argparse.Namespace) -> int:
    with store.lock(create=False):
        context = drafted(host, store.path)
        cell = devices.entry(context)
        peer = explain.device(context, given.peer)
        preshared = devices.has_preshared_key(context, peer)
    dns = device_file.dns_of(cell, peer.addresses, given.split)
    text = device_file.render(cell, peer.name, peer.addresses, dns, given.split, preshared=preshared)
    report(given, {"peer": peer.name, "config": text}, text.splitlines())
    return OK


def _apply(host: Host, store: Store, given: argparse.Namespace) -> int:
    done = take_in(host, store.path, given.spool, say)
    for error in done.errors:
        complain(error)
    replay(host, store.path, log=say)  # what has been heard may be answered by what is told: a wish to use an exit that is offered now
    return FAILED if done.errors else OK


def _replay(host: Host, store: Store, given: argparse.Namespace) -> int:
    answers = replay(host, store.path, attempts=given.attempts, log=say_only_to_a_person(given))
    report(given, {"answers": answers}, [])
    return OK


def _watch(host: Host, store: Store, given: argparse.Namespace) -> int:
    Watcher(host, store.path, say, Listener()).run()
    return OK


def _redial(host: Host, store: Store, given: argparse.Namespace) -> int:
    for line in follow(host, store.path, given.interface):
        say(line)
    return OK


def _uninstall(host: Host, store: Store, given: argparse.Namespace) -> int:
    with store.lock(create=False):
        plan = plan_uninstall(Context(host, store), given.cell, given.purge)
        for line in plan.warnings:
            complain(line)
        apply(host, plan)
    removed = plan.differences()
    report(given, {"removed": removed, "warnings": plan.warnings}, removed or ["there is no cell left to remove"])
    return OK


RUN = {
    "check": _check,
    "watch": _watch,
    "apply": _apply,
    "replay": _replay,
    "redial": _redial,
    "status": _status,
    "explain": _explain,
    "prove": _prove,
    "config": _config,
    "uninstall": _uninstall,
}
