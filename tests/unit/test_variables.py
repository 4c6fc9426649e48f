# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page with all variables: made of what the collection itself reads, and not stale."""

from __future__ import annotations

import re

import pytest
import yaml

from ansible_collections.pic.cells.plugins.plugin_utils import job, schema
from ansible_collections.pic.cells.tests.tools import variables


def test_the_page_is_not_stale() -> None:
    assert variables.PAGE.read_text(encoding="utf-8") == variables.page(), "make reference writes it anew"


def test_the_page_names_every_variable_and_key() -> None:
    text = variables.page()
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(schema.options())
    keys = [key for option in schema.options().values() for key in option.get("options", ())]
    awx = list(yaml.safe_load((variables.PLAYBOOKS / "awx.yml").read_text())[0]["vars"])
    named = re.findall(r"(?:^- |, )\*\*(\w+)\*\*", text, re.MULTILINE)
    assert sorted(named) == sorted([*keys, *job.INPUTS, "preshared_key", *awx])


def test_the_page_says_which_extra_vars_have_to_be_given() -> None:
    rows = re.findall(r"^\| `pic\.cells\.(\w+)` \| (.*?) \| (.*?) \|$", variables.page(), re.MULTILINE)
    needed = {name: tuple(re.findall(r"\w+", required)) for name, required, _optional in rows}
    assert needed == {"site": (), **job.NEEDED, **dict.fromkeys(job.ON_THE_CELLS, ())}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("V(none) for nothing, M(pic.cells.pic_cells_check)", "`none` for nothing, `pic.cells.pic_cells_check`"),
        ("C(wg0\\)) here", "`wg0)` here"),
        ("nothing (at all)", "nothing (at all)"),
    ],
)
def test_the_markup_of_ansible_becomes_that_of_a_page(text: str, shown: str) -> None:
    assert variables.plain(text) == shown
