# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the named scenarios, in labs side by side where there are several. One that fails does not stop the others: one run shows all that is broken.

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
LABS = 3  # two leave a third of two cores idle, as tests wait for much
# By name: minutes that it takes on two cores, beside others.
SCENARIOS = {"exit_relay": 25, "docs": 15, "peer_sync": 12, "restore": 8, "default": 6, "absent": 6, "neighbours": 6, "unlink": 6, "share": 4}
AT_LENGTH = {"awx": 6, "prediction": 6}
PARTS = {"exit_relay": 2}  # in which a scenario is run beside others; each has some of its files, on cells of its own
# The one makes and enters labs by commands as people type them, which know of one lab. The other installs by pip, and no further lab has a way out.
IN_THE_FIRST_LAB = ("docs", "default")
# Each systemd, and each tunnel without the kernel's WireGuard, watches files: a lab has a hundred watchers, and Linux gives a user 128.
WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH = 512
UNTIL = int(os.environ.get("PIC_LAB_UNTIL") or 0)
_printing = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A scenario, or a part of one. part: from 1 on."""

    scenario: str
    part: int = 1
    parts: int = 1

    def __str__(self) -> str:
        return self.scenario if self.parts == 1 else f"{self.scenario}-{self.part}"

    @property
    def minutes(self) -> float:
        """Return about how long it takes."""
        return {**SCENARIOS, **AT_LENGTH}.get(self.scenario, 0) / self.parts  # what molecule does not know is refused by it

    def others(self) -> list[Path]:
        """Return the files of the scenario that are for its other parts, which all have about as much to do."""
        shares: list[list[Path]] = [[] for _part in range(self.parts)]
        files = (PROJECT / "molecule" / self.scenario / "tests").glob("test_*.py")
        for file in sorted(files, key=lambda file: (file.stat().st_size, file), reverse=True):
            min(shares, key=lambda share: sum(one.stat().st_size for one in share)).append(file)
        return [file for number, share in enumerate(shares, 1) if number != self.part for file in share]


@dataclass
class Verdict:
    """How a job ended."""

    text: str
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.text.startswith("FAILED")


class Queue:
    """The jobs that no lab has begun."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs, self.lock = list(jobs), threading.Lock()

    def next(self, first_lab: bool) -> Job | None:
        """Return the job that a lab takes next, None where there is no more for it."""
        with self.lock:
            found = [job for job in self.jobs if first_lab or job.scenario not in IN_THE_FIRST_LAB]
            if not found:
                return None
            self.jobs.remove(job := max(found, key=lambda job: job.scenario in IN_THE_FIRST_LAB))
            return job


def jobs(names: list[str], labs: int) -> list[Job]:
    """Return what there is to do for scenarios in so many labs."""
    parts = {name: PARTS.get(name, 1) if labs > 1 else 1 for name in names}
    return [Job(name, number, count) for name, count in parts.items() for number in range(1, count + 1)]


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
    """A further lab, held by a process (tests/lab/beside.sh)."""

    first = False

    def __init__(self, holder: subprocess.Popen[bytes], state: Path) -> None:
        super().__init__(alone=False)
        self.state = state
        (self.pid,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()

    def entering(self, script: str) -> list[str]:
        return ["nsenter", "--target", self.pid, "--net", "--mount", "--pid", "bash", "-c", f"cd {shlex.quote(str(PROJECT))} && {script}"]

    def environment(self) -> dict[str, str]:
        return {"PIC_LAB_STATE": str(self.state), "CONTAINERS_STORAGE_CONF": str(self.state / "storage.conf")}


@contextlib.contextmanager
def labs(wanted: int) -> Iterator[list[Lab]]:
    """Lend the labs to run scenarios in: as many as are wanted, but one where the machine does not let more watch files, or hold no further one."""
    with contextlib.ExitStack() as held:
        further = [lab for number in range(1, wanted if enough_watchers() else 1) if (lab := _held(held, number))]
        yield [Lab(alone=not further), *further]


def _held(held: contextlib.ExitStack, number: int) -> Lab | None:
    """Hold a further lab until the end, where the machine lets anybody."""
    state = BUILD / f"lab-beside-{number}"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = held.enter_context(subprocess.Popen([PROJECT / "tests/lab/beside.sh"], env={**os.environ, "PIC_LAB_STATE": str(state)}, **streams))
    assert holder.stdout
    if holder.stdout.readline() == b"held\n":
        return Beside(holder, state)
    print(f"There is no room for lab {number + 1} on this machine, so more scenarios run one after the other.", file=sys.stderr)
    return None


def enough_watchers() -> bool:
    """Tell whether all labs may watch files, after a try to let them; that stays so until the machine is started anew."""
    if int(WATCHERS.read_text()) < ENOUGH:
        with contextlib.suppress(OSError):
            WATCHERS.write_text(f"{ENOUGH}\n")
    return int(WATCHERS.read_text()) >= ENOUGH


def run(job: Job, lab: Lab, log: Path, *options: str) -> bool:
    """Do a job in a lab, and print what it says, beside another lab when it is over. options: of pytest. Returns whether it passed."""
    # Without the reset, molecule takes the cells of the scenario before for those of this one.
    script = f"molecule reset --scenario-name {job.scenario} && molecule test --scenario-name {job.scenario} --destroy=never"
    own = ["-o", f"cache_dir={BUILD}/pytest-{job}"]  # where pytest notes what has failed
    pytest = {
        "PYTEST_ADDOPTS": " ".join([os.environ.get("PYTEST_ADDOPTS", ""), shlex.join([*own, *options])]),
        "PIC_LAB_LEFT_OUT": ",".join(file.name for file in job.others()),  # molecule names each file, and pytest ignores none of those (molecule/conftest.py)
    }
    environment = {**os.environ, **lab.environment(), **pytest}
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


def judge(job: Job, lab: Lab) -> Verdict:
    """Do a job, where there is time for it."""
    log, began = BUILD / f"scenario-{job}.log", time.monotonic()
    if not has_time(60 * job.minutes):
        return Verdict("not run, since no time is left")
    if run(job, lab, log):
        text = "passed"
    elif "packets.Sniffer" in log.read_text(errors="replace"):
        text = "FAILED, and a capture saw a packet"
    else:
        text = "FAILED"
    return Verdict(text, time.monotonic() - began)


def judge_again(job: Job, verdict: Verdict) -> None:
    """Run the failed tests of a job once more, with nothing beside them and on cells made anew."""
    passed = run(job, Lab(alone=True), BUILD / f"scenario-{job}.second.log", "--last-failed", "--last-failed-no-failures=all")
    verdict.text = "passed when its failed tests ran again" if passed else "FAILED, twice"


def main() -> int:
    """Return 1 where a scenario failed."""
    names = sys.argv[1:] or [*SCENARIOS, *(AT_LENGTH if os.environ.get("PIC_AT_LENGTH") else ())]
    BUILD.mkdir(exist_ok=True)
    verdicts: dict[Job, Verdict] = {}
    with labs(min(LABS, len(names))) as there, ThreadPoolExecutor() as pool:
        planned = jobs(names, len(there))
        queue = Queue(planned)

        def work(lab: Lab) -> None:
            while job := queue.next(lab.first):
                verdicts[job] = judge(job, lab)

        list(pool.map(work, there))
    for job in planned:
        if UNTIL and verdicts[job].text == "FAILED" and has_time(0):
            judge_again(job, verdicts[job])
    print("--- scenarios")
    for job in planned:
        print(f"scenario {job}: {verdicts[job].text} ({verdicts[job].seconds:.0f} s)")
    failed = any(verdict.failed for verdict in verdicts.values())
    if not failed:
        subprocess.run(["make", "--no-print-directory", "demo-down"], cwd=PROJECT, check=False)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
