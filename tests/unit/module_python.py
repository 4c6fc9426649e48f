# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python for the modules of others, which has imported what they share."""

from __future__ import annotations

import importlib
import os
import sys

from ansible_collections.pic.cells.tests.unit import forking


def serve(address: str) -> None:
    """Serve those who ask for a module at an address."""
    for name in ("basic", "urls"):
        importlib.import_module(f"ansible.module_utils.{name}")
    forking.serve(address, main)


def main(environment: dict[str, str]) -> None:
    """Run the module that comes by the standard input."""
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]:
        del sys.modules[name]
    exec(compile(sys.stdin.read(), "module", "exec"), {"__name__": "__main__"})
