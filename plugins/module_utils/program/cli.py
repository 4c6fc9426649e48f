# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The on-cell program pic-cell: its subcommands and their arguments."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..base.command import Host
from ..base.errors import CellError
from ..records.store import STATE_DIR, Store
from .output import complain
from .spool import FOLDER as SPOOL

_EPILOG = """\
exit codes:
  0  everything is as it should be, or has been put right
  1  an error; standard error names it and says what to do
  2  invalid arguments
  3  check: the kernel differs from the records; prove: something is wrong

The playbooks of pic.cells write the records. This program needs nothing but them.
"""

_JSON = ("--json", "print one JSON object")
_PROMETHEUS = ("--prometheus", "print numbers for Prometheus, in its text format")


def _nothing(_parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


@dataclass(frozen=True)
class Command:
    """One subcommand: what it is called, what it says of itself, and what it takes.

    arguments: adds what it takes. forms: what it can print instead of lines for a person, each an option and its help. root: whether it needs to be root.
    module: the file with what it does.
    """

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None] = _nothing
    forms: tuple[tuple[str, str], ...] = (_JSON,)
    root: bool = True
    module: str = "commands"

    def run(self, host: Host, store: Store, given: argparse.Namespace) -> int:
        """Carry it out, and return the exit code; errors of the engine are for main().

        What it needs is loaded only now: the programs that run for ever without privileges would keep the whole engine in memory.
        """
        return int(importlib.import_module(f"{__package__}.{self.module}").RUN[self.name](host, store, given))


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one subcommand; return the exit code. argv: the arguments without the program's name."""
    given = _parser(COMMANDS).parse_args(argv)
    command: Command = given.command
    if command.root and os.geteuid() != 0:
        return complain(f"This needs root, but runs as user id {os.geteuid()}.")
    host = Host()
    try:
        return command.run(host, Store(host, given.state_dir), given)
    except (CellError, OSError) as error:
        return complain(str(error))


def _parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pic-cell",
        description="Keeps this cell as its records say: its tunnels, its rules and its devices' routes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state-dir", default=STATE_DIR, metavar="FOLDER", help="the folder with the records (default: %(default)s)")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        sub = subparsers.add_parser(command.name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}.")
        sub.set_defaults(command=command)
        command.arguments(sub)
        form = sub.add_mutually_exclusive_group()
        for name, words in command.forms:
            form.add_argument(name, action="store_true", help=words)
    return parser


# The subcommands


def _restore_arguments(parser: argparse.ArgumentParser) -> None:
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--exits", action="store_true", help="restore only the exits of devices; for use when one has stopped or started working")
    only.add_argument("--guard", action="store_true", help="restore only the kill switch of routed devices; for use before the WireGuard interfaces exist")


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the device's name")
    parser.add_argument("--to", metavar="ADDRESS", help="the destination of the packet (default: an address on the internet)")


def _redial_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("interface", metavar="INTERFACE", help="the links' WireGuard interface")


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="DEVICE", help="the device's name")
    parser.add_argument("--split", action="store_true", help="send only what is for the cell and linked cells into the tunnel, not the internet")


def _prove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", nargs="?", help="the device's name (default: all that leave through other cells)")


def _spool_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--spool", default=SPOOL, metavar="FOLDER", help="the folder that serve fills and apply empties (default: %(default)s)")


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--view", metavar="FOLDER", help="the folder with the part of the records that this program may see (default: below the records)")
    _spool_argument(parser)


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--attempts", type=int, default=1, metavar="N", help="how often to try cells that cannot be reached, with growing pauses (default: 1)")


def _probe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--view", metavar="FOLDER", help="the folder with the exits that this program may see (default: below the records)")
    parser.add_argument("--verdict", metavar="FOLDER", help="the folder for what is found (default: that of its unit in /run)")


def _uninstall_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cell", metavar="CELL", help="the cell's name, so that you do not remove another cell by mistake")
    parser.add_argument("--purge", action="store_true", help="keep no copy of the key and the records")


# In the order of the help.
COMMANDS: tuple[Command, ...] = (
    Command("restore", "put back whatever is missing, and start what is not running", _restore_arguments, module="every_minute"),
    Command("check", "say what in the kernel differs from the records; change nothing"),
    Command("watch", "watch for anything that is removed from the cell, and start restore at once", forms=()),
    Command("serve", "receive what linked cells tell this one; needs no privileges", _serve_arguments, forms=(), root=False, module="unprivileged"),
    Command("probe", "ask the exits of devices whether they work; needs no privileges", _probe_arguments, forms=(), root=False, module="unprivileged"),
    Command("apply", "apply what serve has received", _spool_argument, forms=()),
    Command("replay", "tell linked cells what they do not know yet", _replay_arguments),
    Command("redial", "dial linked cells anew where the names that they are dialled by lead, or where they have said to be", _redial_arguments, forms=()),
    Command("status", "show the state of links and devices", forms=(_JSON, _PROMETHEUS)),
    Command("explain", "show which way a device's packets take and why, or where they are dropped", _explain_arguments),
    Command("prove", "ask the exits of devices whether they carry traffic, and the kernel whether the own uplink is closed", _prove_arguments),
    Command("config", "print a device's WireGuard file, all but its private key", _config_arguments),
    Command("uninstall", "remove the cell from this host; everything that is not the cell's stays", _uninstall_arguments),
)
