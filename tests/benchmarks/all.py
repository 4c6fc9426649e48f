# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs all benchmarks, each in a process of its own; one that cannot run here is named at the end, with the reason, and the others go on.

Run it as root with the collection and tests/lab on PYTHONPATH: python tests/benchmarks/all.py --json .build/benchmark.json [--short]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ansible_collections.pic.cells.tests.benchmarks.measure import parser

FOLDER = Path(__file__).parent
SHORT = ("restore", "controller", "memory", "path", "ordinary")
LAB = ("restore_lab", "repair", "plays", "failover")  # they need podman; the last two also what make demo leaves


def run(argv: list[str]) -> tuple[int, str]:
    """Run one; return its exit code and what it said of errors. Where this ends too early, it still removes what it has made."""
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            _out, said = process.communicate()
        except BaseException:
            process.terminate()
            raise
        return process.returncode, said


def main() -> int:
    """Run them; return whether one has failed."""
    given = parser(__doc__).parse_args()
    options = [*(["--json", str(given.json)] if given.json else []), *(["--short"] if given.short else []), f"--by={given.by}"]
    failed = {}
    for name in SHORT if given.short else (*SHORT, *LAB):
        print(f"\n--- {name}", flush=True)
        code, said = run([sys.executable, str(FOLDER / f"{name}.py"), *options])
        if code:
            failed[name] = next(iter(said.strip().splitlines()[-1:]), f"exit code {code}")
            print(said, file=sys.stderr)
    for name, reason in failed.items():
        print(f"not measured: {name}: {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
