# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab relies on while it has no container yet."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.pic.cells.tests.lab import lab
from ansible_collections.pic.cells.tests.tools import scenarios

PROJECT = Path(__file__).parents[2]


def test_a_container_is_entered_after_its_dead_first_process_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """podman says "running" of containers that were killed together with what watched over them."""
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    known = {"pid": dead.pid}
    monkeypatch.setattr(lab, "podman", lambda *argv, **kwargs: subprocess.CompletedProcess(argv, 0, f"{known['pid']}\n", ""))
    monkeypatch.setattr(lab, "_inits", {})
    lab.entering("cella", "true")
    known["pid"] = os.getpid()
    assert str(os.getpid()) in lab.entering("cella", "true")


def test_a_number_that_another_process_has_now_is_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends leaves its number to others."""
    monkeypatch.setattr(lab, "podman", lambda *argv, **kwargs: subprocess.CompletedProcess(argv, 0, "0\n", ""))
    monkeypatch.setattr(lab, "_inits", {"cella": (os.getpid(), "1")})
    assert lab.entering("cella", "true")[0] == "podman"


def begun(folder: Path, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Begin the demo on a machine that has hardly a program."""
    for name in ("bash", "cat", "python3"):
        (folder / name).symlink_to(str(shutil.which(name)))
    (folder / "id").write_text(f"#!{shutil.which('bash')}\necho {user}\n")
    (folder / "id").chmod(0o755)
    return subprocess.run([PROJECT / "tests/tools/demo.sh"], env={"PATH": str(folder)}, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_the_demo_says_what_it_needs_and_installs(tmp_path: Path) -> None:
    done = begun(tmp_path)
    assert done.returncode == 0, done.stderr
    (packages,) = (line for line in done.stdout.splitlines() if "Debian packages:" in line)
    assert {"git", "shellcheck", "podman"} <= set(packages.split())
    for words in ("Debian 12 or 13, root, the right to run containers", "PyPI", "make demo-down"):
        assert words in done.stdout


def test_the_demo_does_not_begin_without_root(tmp_path: Path) -> None:
    done = begun(tmp_path, user=1000)
    assert done.returncode == 1
    assert "The demo needs root" in done.stderr


def test_the_demo_says_so_before_anything_else_happens(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    (tmp_path / "tests").symlink_to(PROJECT / "tests")
    for name in ("meta", "requirements-dev.txt"):
        (tmp_path / name).symlink_to(PROJECT / name)
    command = ["make", "--no-print-directory", "--dry-run", "demo"]  # "make test" runs this test too, and a make below another one says where it is
    planned = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert planned[:2] == ["tests/tools/demo.sh", "tests/tools/packages.sh"]


def test_every_scenario_is_run_by_somebody() -> None:
    assert {*scenarios.SCENARIOS, *scenarios.AT_LENGTH} == {file.parent.name for file in (PROJECT / "molecule").glob("*/molecule.yml")}


def test_labs_take_each_job_once_and_only_the_first_one_follows_the_pages_and_installs_something() -> None:
    queue = scenarios.Queue(scenarios.jobs(["unlink", "docs", "share", "default"], 2))
    assert str(queue.next(first_lab=False)) == "unlink"
    assert [str(queue.next(first_lab=True)) for _job in range(2)] == ["docs", "default"]
    assert [str(queue.next(first_lab)) for first_lab in (False, True)] == ["share", "None"]
    assert scenarios.Queue(scenarios.jobs(["docs"], 1)).next(first_lab=False) is None


def test_the_parts_of_a_scenario_have_each_of_its_files_once(tmp_path: Path) -> None:
    parts = scenarios.jobs(["exit_relay"], 2)
    files = sorted((PROJECT / "molecule/exit_relay/tests").glob("test_*.py"))
    had = [set(files) - set(part.others()) for part in parts]
    assert sorted(file for share in had for file in share) == files and all(len(share) > 1 for share in had)
    assert [job.others() for job in scenarios.jobs(["exit_relay"], 1)] == [[]]


def test_a_part_runs_no_file_of_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As molecule does: it names all files."""
    (job, _other) = scenarios.jobs(["exit_relay"], 2)
    files = sorted((PROJECT / "molecule/exit_relay/tests").glob("test_*.py"))
    (tmp_path / "molecule").write_text(f"#!/bin/sh\n[ $1 = reset ] || exec {sys.executable} -m pytest --collect-only -q {' '.join(map(str, files))}\n")
    (tmp_path / "molecule").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert scenarios.run(job, scenarios.Lab(alone=False), tmp_path / "log")
    assert set(re.findall(r"(test_\w+\.py)::", (tmp_path / "log").read_text())) == {file.name for file in set(files) - set(job.others())}


def test_where_no_further_lab_can_be_held_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tests" / "lab" / "beside.sh"
    program.parent.mkdir(parents=True)
    monkeypatch.setattr(scenarios, "PROJECT", tmp_path)
    monkeypatch.setattr(scenarios, "enough_watchers", lambda: True)
    for script, found in (("echo held; cat", [True, False, False]), ("exit 1", [True])):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(scenarios.Beside, "__init__", lambda *_given: None)
        with scenarios.labs(3) as there:
            assert [lab.first for lab in there] == found
