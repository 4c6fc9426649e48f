# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The on-cell program pic-cell: its subcommands, their arguments, and what they print."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from . import explain, status
from .command import Host
from .errors import CellError
from .exchange import SPOOL, replay, take_in
from .listen import Listener
from .networks import parse_address
from .plan import apply
from .receiver import Server
from .reconcile import Cell
from .restore import drafted, restore
from .store import STATE_DIR, Store
from .texts import printable, shown
from .uninstall import plan_uninstall
from .view import FILE, FOLDER
from .watch import Watcher

OK, FAILED, USAGE, DIFFERS = 0, 1, 2, 3

_EPILOG = """\
exit codes:
  0  all is right, or has been put right
  1  an error; standard error says which, and what to do
  2  the arguments cannot be understood
  3  check: the kernel differs from the records

The records are those that Ansible's playbooks write (pic.cells). Nothing but them and this program is needed.
"""


def _nothing(_parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


@dataclass(frozen=True)
class Command:
    """One subcommand: what it is called, what it says of itself, and what it does.

    run: called with host, records and parsed arguments; returns the exit code. Errors of the engine are for main().
    arguments: adds what it takes beyond --json. reports: whether it has --json. root: whether it needs to be root.
    """

    name: str
    help: str
    run: Callable[[Host, Store, argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = _nothing
    reports: bool = True
    root: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one subcommand; return the exit code. argv: the arguments without the program's name."""
    given = _parser(COMMANDS).parse_args(argv)
    command: Command = given.command
    if command.root and os.geteuid() != 0:
        return _complain(f"This needs root, and runs as user id {os.geteuid()}.")
    host = Host()
    try:
        return command.run(host, Store(host, given.state_dir), given)
    except (CellError, OSError) as error:
        return _complain(str(error))


def _parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pic-cell",
        description="Keeps this cell as its records say: tunnels, rules and ways of its devices.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state-dir", default=STATE_DIR, metavar="FOLDER", help="the folder with the records (default: %(default)s)")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        sub = subparsers.add_parser(command.name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}.")
        sub.set_defaults(command=command)
        command.arguments(sub)
        if command.reports:
            sub.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _complain(message: str) -> int:
    _write(sys.stderr, f"pic-cell: {message}")
    return FAILED


def _say(line: str) -> None:
    _write(sys.stdout, line)
    sys.stdout.flush()


def _write(stream: TextIO, line: str) -> None:
    """Write a line, whatever is in it, to a terminal or journal of any encoding."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _say_only_to_a_person(given: argparse.Namespace) -> Callable[[str], None]:
    return (lambda _line: None) if given.json else _say


def _report(given: argparse.Namespace, facts: Any, lines: Sequence[str]) -> None:
    """Say facts as JSON where that was asked for, or else lines for a person."""
    for line in [json.dumps(shown(facts), sort_keys=True)] if given.json else lines:
        _say(line)


def _info(host: Host, store: Store) -> dict[str, Any]:
    """Read the cell back without changing anything."""
    with store.lock(create=False):
        cell = drafted(host, store.path)
        return {**cell.info(None, None), "warnings": cell.store.warnings}


# The subcommands


def _guard_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--guard", action="store_true", help="only what keeps routed devices from going direct; for the time before the WireGuard interfaces are there"
    )


def _restore(host: Host, store: Store, given: argparse.Namespace) -> int:
    done = restore(host, store.path, given.guard, _say_only_to_a_person(given))
    _report(given, {"repairs": done.repairs, "errors": done.errors}, [])
    for error in done.errors:
        _complain(error)
    return FAILED if done.errors else OK


def _check(host: Host, store: Store, given: argparse.Namespace) -> int:
    info = _info(host, store)
    if not info["name"]:
        raise CellError(" ".join(info["warnings"]) or f"This host is no cell: there is no record of it in {store.path}.")
    drift = info["drift"] + info["warnings"]
    facts = {"drift": info["drift"], "warnings": info["warnings"], "advice": info["advice"]}
    _report(given, facts, [*drift, *(f"warning: {line}" for line in info["advice"])])
    return DIFFERS if drift else OK


def _status(host: Host, store: Store, given: argparse.Namespace) -> int:
    info = _info(host, store)
    _report(given, info, status.report(info) + info["warnings"])
    return OK


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the device's name")
    parser.add_argument("--to", metavar="ADDRESS", help="where the packet goes; somewhere in the internet where it is left out")


def _explain(host: Host, store: Store, given: argparse.Namespace) -> int:
    with store.lock(create=False):
        cell = drafted(host, store.path)
        to = None if given.to is None else str(parse_address(given.to, "--to"))
        ways = explain.explain(cell, given.peer, to)
        facts = {"peer": given.peer, "route_via": cell.stored.peers[given.peer].route_via, "ways": [asdict(way) for way in ways], "advice": cell.advice()}
        _report(given, facts, [*explain.words(cell, given.peer, ways), *(f"warning: {line}" for line in facts["advice"])])
    return OK


def _spool_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--spool", default=SPOOL, metavar="FOLDER", help="the folder that serve fills and apply empties (default: %(default)s)")


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--view", metavar="FOLDER", help="the folder with what root lets this program see (default: below the records)")
    _spool_argument(parser)


def _serve(host: Host, store: Store, given: argparse.Namespace) -> int:
    folder = given.view or f"{store.path}/{FOLDER}"
    Server(host, f"{folder}/{FILE}", given.spool, _say).run()
    return OK


def _apply(host: Host, store: Store, given: argparse.Namespace) -> int:
    done = take_in(host, store.path, given.spool, _say)
    for error in done.errors:
        _complain(error)
    replay(host, store.path, log=_say)  # what has been heard may be answered by what is told: a wish to use an exit that is offered now
    return FAILED if done.errors else OK


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--attempts", type=int, default=1, metavar="N", help="how often cells that are not reached are tried, with growing pauses (default: 1)")


def _replay(host: Host, store: Store, given: argparse.Namespace) -> int:
    answers = replay(host, store.path, attempts=given.attempts, log=_say_only_to_a_person(given))
    _report(given, {"answers": answers}, [])
    return OK


def _watch(host: Host, store: Store, given: argparse.Namespace) -> int:
    Watcher(host, store.path, _say, Listener()).run()
    return OK


def _uninstall_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL", help="the cell's name, so that none is meant by mistake")
    parser.add_argument("--purge", action="store_true", help="keep no copy of key and records")


def _uninstall(host: Host, store: Store, given: argparse.Namespace) -> int:
    with store.lock(create=False):
        plan = plan_uninstall(Cell(host, store), given.cell, given.purge)
        for line in plan.warnings:
            _complain(line)
        apply(host, plan)
    removed = plan.differences()
    _report(given, {"removed": removed, "warnings": plan.warnings}, removed or ["nothing is left of a cell"])
    return OK


# In the order of the help.
COMMANDS: tuple[Command, ...] = (
    Command("restore", "put back whatever is missing, and start what is not running", _restore, _guard_argument),
    Command("check", "say what in the kernel differs from the records; change nothing", _check),
    Command("watch", "hear what is taken away from the cell, and start restore at once", _watch, reports=False),
    Command("serve", "hear what linked cells tell; needs no privileges", _serve, _serve_arguments, reports=False, root=False),
    Command("apply", "take over what serve has heard, and carry out what follows", _apply, _spool_argument, reports=False),
    Command("replay", "tell linked cells what they do not know yet", _replay, _replay_arguments),
    Command("status", "say how links and devices are doing", _status),
    Command("explain", "say which way a device's packets go, why, and where they would be dropped", _explain, _explain_arguments),
    Command("uninstall", "remove the cell from this host; what belongs to others stays", _uninstall, _uninstall_arguments),
)
