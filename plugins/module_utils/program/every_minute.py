# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the subcommand does that a timer starts every minute: it reads the engine only where there may be something to do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..base.command import Host
from ..records.store import Store
from .output import FAILED, OK, complain, report, say_only_to_a_person
from .unchanged import restore_changed

if TYPE_CHECKING:
    from .restore import Restored


def _restore(host: Host, store: Store, given: argparse.Namespace) -> int:
    log = say_only_to_a_person(given)
    if given.guard or given.exits:
        from .restore import restore  # noqa: PLC0415

        done: Restored | None = restore(host, store.path, given.guard, log, exits=given.exits)
    else:
        done = restore_changed(host, store.path, log)
    repairs, errors = (done.repairs, done.errors) if done else ([], [])
    report(given, {"repairs": repairs, "errors": errors}, [])
    for error in errors:
        complain(error)
    return FAILED if errors else OK


RUN = {"restore": _restore}
