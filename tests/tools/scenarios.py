# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the named scenarios, in two labs side by side where there are several. One that fails does not stop the others: one run shows all that is broken.

Without a name these are all, the longest first, but for two that unit tests show on fake hosts too: they are for make matrix (PIC_AT_LENGTH).

PIC_LAB_UNTIL, in seconds since the epoch, is for machines that end a run after some time: what would not be over by then is not begun, and the summary
says so. Until then the failed tests of a scenario run once more at the end, on cells made anew, since labs that share two cores with other work can be
late. What a capture saw is never a matter of time: such a scenario has failed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / ".build"
# By name: minutes that it takes on two cores, beside another one.
SCENARIOS = {"exit_relay": 25, "docs": 15, "peer_sync": 12, "restore": 8, "default": 6, "absent": 6, "neighbours": 6, "unlink": 6, "share": 4}
AT_LENGTH = {"awx": 6, "prediction": 6}
# It makes and enters labs by commands as people type them, which know of one lab.
IN_THE_FIRST_LAB = "docs"
# Each systemd, and each tunnel without the kernel's WireGuard, watches files: a lab has a hundred watchers, and Linux gives a user 128.
WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 512
UNTIL = int(os.environ.get("PIC_LAB_UNTIL") or 0)
_printing = threading.Lock()


@dataclass
class Verdict:
    """How a scenario ended."""

    text: str
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.text.startswith("FAILED")


class Queue:
    """The scenarios that no lab has begun."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.lock = list(names), threading.Lock()

    def next(self, first_lab: bool) -> str | None:
        """Return the scenario that a lab takes next, None where there is no more for it."""
        with self.lock:
            found = [name for name in self.names if first_lab or name != IN_THE_FIRST_LAB]
            if not found:
                return None
            self.names.remove(name := max(found, key=lambda name: name == IN_THE_FIRST_LAB))
            return name


def has_time(seconds: float) -> bool:
    """Tell whether what takes some time would be over before the run is ended."""
    return not UNTIL or time.time() + seconds < UNTIL


class Lab:
    """The lab that everybody knows, in which a command runs as it stands."""

    first = True

    def __init__(self, alone: bool) -> None:
        """alone: whether nothing else prints what it says."""
        self.alone = alone

    def entering(self, script: str) -> list[str]:
        """Return the command that runs a script in the lab."""
        return ["bash", "-c", script]

    def environment(self) -> dict[str, str]:
        """Return what tells the lab's tools where it is."""
        return {}


class Beside(Lab):
    """A second lab, held by a process (tests/lab/beside.sh)."""

    first = False
    state = BUILD / "lab-beside"

    def __init__(self, holder: subprocess.Popen[bytes]) -> None:
        super().__init__(alone=False)
        (self.pid,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()

    def entering(self, script: str) -> list[str]:
        return ["nsenter", "--target", self.pid, "--net", "--mount", "--pid", "bash", "-c", f"cd {shlex.quote(str(PROJECT))} && {script}"]

    def environment(self) -> dict[str, str]:
        return {"PIC_LAB_STATE": str(self.state), "CONTAINERS_STORAGE_CONF": str(self.state / "storage.conf")}


@contextlib.contextmanager
def labs(wanted: int) -> Iterator[list[Lab]]:
    """Lend the labs to run scenarios in: two, unless one is wanted, or the machine does not let so many watch files."""
    if wanted == 1 or not enough_watchers():
        yield [Lab(alone=True)]
        return
    environment = {**os.environ, "PIC_LAB_STATE": str(Beside.state)}
    with subprocess.Popen([PROJECT / "tests/lab/beside.sh"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        held = holder.stdout.readline() == b"held\n"
        if not held:
            print("There is no second lab on this machine, so the scenarios run one after the other.", file=sys.stderr)
        yield [Lab(alone=False), Beside(holder)] if held else [Lab(alone=True)]


def enough_watchers() -> bool:
    """Tell whether two labs may watch files, after a try to let them; that stays so until the machine is started anew."""
    if int(WATCHERS.read_text()) < ENOUGH:
        with contextlib.suppress(OSError):
            WATCHERS.write_text(f"{ENOUGH}\n")
    return int(WATCHERS.read_text()) >= ENOUGH


def run(name: str, lab: Lab, log: Path, *options: str) -> bool:
    """Run a scenario in a lab, and print what it says, beside another lab when it is over. options: of pytest. Returns whether it passed."""
    # Without the reset, molecule takes the cells of the scenario before for those of this one.
    script = f"molecule reset --scenario-name {name} && molecule test --scenario-name {name} --destroy=never"
    own = f"-o cache_dir={shlex.quote(str(BUILD))}/pytest-{name}"  # where pytest notes what has failed
    environment = {**os.environ, **lab.environment(), "PYTEST_ADDOPTS": " ".join([os.environ.get("PYTEST_ADDOPTS", ""), own, *options])}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with log.open("wb") as file, subprocess.Popen(lab.entering(script), env=environment, cwd=PROJECT, **streams) as process:
        assert process.stdout
        for line in process.stdout:
            file.write(line)
            if lab.alone:
                _print(line)
    if not lab.alone:
        _print(log.read_bytes())
    return process.returncode == 0


def _print(said: bytes) -> None:
    with _printing:
        sys.stdout.buffer.write(said)
        sys.stdout.buffer.flush()


def judge(name: str, lab: Lab) -> Verdict:
    """Run a scenario, where there is time for it."""
    log, began = BUILD / f"scenario-{name}.log", time.monotonic()
    if not has_time(60 * {**SCENARIOS, **AT_LENGTH}.get(name, 0)):  # what molecule does not know is refused by it
        return Verdict("not run, since no time is left")
    if run(name, lab, log):
        text = "passed"
    elif "packets.Sniffer" in log.read_text(errors="replace"):
        text = "FAILED, and a capture saw a packet"
    else:
        text = "FAILED"
    return Verdict(text, time.monotonic() - began)


def judge_again(name: str, verdict: Verdict) -> None:
    """Run the failed tests of a scenario once more, with nothing beside them and on cells made anew."""
    passed = run(name, Lab(alone=True), BUILD / f"scenario-{name}.second.log", "--last-failed", "--last-failed-no-failures=all")
    verdict.text = "passed when its failed tests ran again" if passed else "FAILED, twice"


def main() -> int:
    """Return 1 where a scenario failed."""
    names = sys.argv[1:] or [*SCENARIOS, *(AT_LENGTH if os.environ.get("PIC_AT_LENGTH") else ())]
    BUILD.mkdir(exist_ok=True)
    queue, verdicts = Queue(names), dict[str, Verdict]()

    def work(lab: Lab) -> None:
        while name := queue.next(lab.first):
            verdicts[name] = judge(name, lab)

    with labs(len(names)) as there, ThreadPoolExecutor() as pool:
        list(pool.map(work, there))
    for name, verdict in verdicts.items():
        if UNTIL and verdict.text == "FAILED" and has_time(0):
            judge_again(name, verdict)
    print("--- scenarios")
    for name in names:
        print(f"scenario {name}: {verdicts[name].text} ({verdicts[name].seconds:.0f} s)")
    failed = any(verdict.failed for verdict in verdicts.values())
    if not failed:
        subprocess.run(["make", "--no-print-directory", "demo-down"], cwd=PROJECT, check=False)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
