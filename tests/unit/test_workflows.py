# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflows on GitHub: together they do what make test does, with the versions of ansible-core that the collection claims."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
MAKEFILE = (PROJECT / "Makefile").read_text()


def jobs(workflow: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((PROJECT / ".github" / "workflows" / f"{workflow}.yml").read_text())["jobs"]
    return read


def made(job: dict[str, Any]) -> set[str]:
    """Return the targets of make that a job makes."""
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    return {word for line in re.findall(r"\bmake ([a-z -]+)", commands) for word in line.split()}


def test_the_jobs_do_together_what_make_test_does() -> None:
    called = {target: line.split() for target, line in re.findall(r"^([a-z]+):.*\n\t.*\$\(MAKE\).* --\S+ ([a-z ]+)$", MAKEFILE, re.MULTILINE)}
    (test,) = re.findall(r"^test: ([a-z ]+)", MAKEFILE, re.MULTILINE)
    parts = {part for target in [*test.split(), *called["beside"]] for part in called.get(target, [target])}
    parts -= {"quietly", "images"}  # the scenarios make the images that they need
    assert parts == {"lint", "docs", "sanity", "unit", "molecule"}
    assert parts <= set().union(*map(made, jobs("ci").values()))


def test_every_target_of_a_workflow_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for workflow in ("ci", "docs", "release"):
        for name, job in jobs(workflow).items():
            if "steps" in job:
                assert made(job) <= targets, (workflow, name)


def test_a_linter_waits_for_nothing() -> None:
    lint = jobs("ci")["lint"]
    assert made(lint) == {"lint"} and "needs" not in lint and lint["timeout-minutes"] <= 10


def test_every_version_of_ansible_core_that_is_claimed_is_tried() -> None:
    matrix = jobs("ci")["core"]["strategy"]["matrix"]
    (oldest,) = re.findall(r'^requires_ansible: ">=([\d.]+)\.0"$', (PROJECT / "meta" / "runtime.yml").read_text(), re.MULTILINE)
    minors = [tuple(map(int, core.split("."))) for core in matrix["core"]]
    assert minors == [(2, minor) for minor in range(minors[0][1], minors[-1][1] + 1)], "none in between is left out"
    assert matrix["core"][0] == oldest
    assert f"ansible-core {oldest} to {matrix['core'][-1]}" in (PROJECT / "README.md").read_text()
    assert [item["core"] for item in matrix["include"]] == ["devel"]
    assert jobs("ci")["core"]["continue-on-error"] == "${{ matrix.core == 'devel' }}"
