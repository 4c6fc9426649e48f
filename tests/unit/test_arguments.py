# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No playbook and no task of the role passes on what comes from outside as a text that Ansible fills in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.plugins.plugin_utils.job import INPUTS
from ansible_collections.pic.cells.plugins.plugin_utils.outside import SECRET
from ansible_collections.pic.cells.plugins.plugin_utils.schema import GROUP_VARIABLE

PROJECT = Path(__file__).parents[2]
FILES = sorted([*(PROJECT / "playbooks").rglob("*.yml"), *(PROJECT / "roles").rglob("*.yml")])
# Questions to Ansible alone, whose answers are no text that goes anywhere.
ASKED = re.compile(r"\b(__cell_\w+)(?: is (?:not )?\w+|\.results (?:!=|==) \[\])")
CHECKED = {"__cell_checked", "__cells_report"}  # of the controller's own check and report, whose values are data already
EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# What goes through the one place where text from outside becomes data, or is made of the inventory alone.
TAKEN = re.compile(r"lookup\('pic\.cells\.side'[^)]*\)|[\w.]+ \| pic\.cells\.(?:shown|status_report|status_failures|prove_failures)\b")


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Yield all plays, blocks and tasks of a file."""
    if isinstance(node, dict):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from tasks(item)


def registers() -> set[str]:
    """Return the names under which answers of cells are kept."""
    found = {task["register"] for file in FILES for task in tasks(yaml.safe_load(file.read_text())) if "register" in task and "awx" not in file.name}
    return found - CHECKED


def templates(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts that Ansible fills in, with their keys; a condition is filled in without braces."""
    for key, item in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        at = where if isinstance(node, list) else str(key)
        if isinstance(item, str):
            expressions = [item] if at in ("when", "that", "failed_when", "changed_when", "until") else EXPRESSION.findall(item)
            yield from ((at, expression) for expression in expressions)
        else:
            yield from templates(item, at)


def passed_on(text: str, outside: set[str]) -> list[str]:
    """Return which variables from outside are filled in by a file's text as they are."""
    found = []
    for key, expression in templates(yaml.safe_load(text)):
        bare = QUOTED.sub("''", ASKED.sub("", TAKEN.sub("", expression)))
        found += [f"{key}: {expression}" for name in sorted(outside) if re.search(rf"(?<![\w.]){name}\b", bare)]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_nothing_from_outside_is_filled_in(file: Path) -> None:
    assert passed_on(file.read_text(), {*INPUTS, SECRET, GROUP_VARIABLE, *registers()}) == []


@pytest.mark.parametrize(
    "line",
    [
        "- m: {cell: \"{{ cell | default('') }}\"}",
        "- m: {list: ['{{ invitation }}']}",
        "- m: {deep: {er: 'x {{ services }} y'}}",
        "- m: {}\n  when: offered | bool",
        "- m: {msg: '{{ __cell_read.msg }}'}",
        "- m: {}\n  vars: {x: '{{ __cell_checked.job.cell ~ peer }}'}",
        "- m: {}\n  loop: '{{ __cell_read.results }}'",
        "- m: '{% if preshared_key %}x{% endif %}'",
        "- hosts: '{{ cell }}'",
    ],
)
def test_what_is_filled_in_is_found(line: str) -> None:
    assert len(passed_on(line, {*INPUTS, SECRET, "__cell_read"})) == 1


def test_what_ansible_is_asked_about_an_answer_is_no_text_of_it() -> None:
    fine = "- m: {msg: \"{{ lookup('pic.cells.side', 'summary', job=__cell_job) }}\", state_dir: '{{ cell_state_dir }}'}\n  when: __cell_read is not skipped"
    assert passed_on(fine, {*INPUTS, "__cell_read", "__cell_job"}) == []


def test_every_play_says_its_strategy() -> None:
    """What one cell answers is used by the others, so none may run ahead, whatever ansible.cfg says."""
    plays = [(file.name, play) for file in (PROJECT / "playbooks").glob("*.yml") for play in yaml.safe_load(file.read_text()) if "hosts" in play]
    assert plays and [name for name, play in plays if play.get("strategy") != "linear"] == []
