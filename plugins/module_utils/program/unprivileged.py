# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subcommands that need no privileges: they run for ever, and load little of the engine."""

from __future__ import annotations

import argparse

from ..base.command import Host
from ..parts.verdicts import RUNTIME
from ..parts.visible import EXITS_FILE, EXITS_FOLDER, FILE, FOLDER
from ..records.store import Store
from .output import OK, say
from .probe import Prober
from .receiver import Server


def _serve(host: Host, store: Store, given: argparse.Namespace) -> int:
    folder = given.view or f"{store.path}/{FOLDER}"
    Server(host, f"{folder}/{FILE}", given.spool, say).run()
    return OK


def _probe(host: Host, store: Store, given: argparse.Namespace) -> int:
    folder = given.view or f"{store.path}/{EXITS_FOLDER}"
    Prober(host, f"{folder}/{EXITS_FILE}", given.verdict or f"/run/{RUNTIME}", say).run()
    return OK


RUN = {"serve": _serve, "probe": _probe}
