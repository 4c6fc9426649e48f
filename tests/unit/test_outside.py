# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from outside is data, whatever it holds."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import is_trusted_as_template, trust_as_template

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils.outside import plain, shown, shown_lines

HOSTILE = "http://10.0.2.1:8088{{ lookup('pipe', 'id') }}"


def loaded(text: str) -> Any:
    """Return what Ansible reads out of a text of extra vars."""
    return DataLoader().load(trust_as_template(text))


def types(value: Any) -> set[type]:
    """Return the types of a value and of all that it holds."""
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return {type(value), *(found for item in inner for found in types(item))}


def test_no_text_from_outside_stays_a_template() -> None:
    given = loaded(f'{{"a": ["{HOSTILE}", 7, 1.5, true, null], "{{{{ x }}}}": {{"b": "{{% x %}}"}}}}')
    assert is_trusted_as_template(given["a"][0]), "the fixture is as Ansible reads extra vars"
    taken = plain(given, "it")
    assert taken == {"a": [HOSTILE, 7, 1.5, True, None], "{{ x }}": {"b": "{% x %}"}}
    assert types(taken) == {dict, list, str, int, float, bool, type(None)}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (datetime.date(2024, 1, 1), "holds '2024-01-01'"),
        ({7: "x"}, "a key '7' that is not text"),
        (b"x", "neither text, a number, a list nor"),
        (float("nan"), "holds 'nan'"),
        (float("inf"), "holds 'inf'"),
        pytest.param(10**5000, "too large", id="digits"),
        (2**63, "too large"),
        ([[[[["x"]]]]], "nested too deeply"),
        ("x" * 101, "too large"),
        (["x"] * 60, "too large"),
        ({"x" * 101: 1}, "too large"),
        ([{}] * 200, "too large"),
    ],
)
def test_what_is_no_plain_value_is_refused(value: object, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        plain(value, "it", largest=100, deepest=4)


def test_what_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(BadInput, match="nested too deeply"):
        plain(ring, "it")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("oslo", "oslo"),
        ("a\x1b[2Jb\nc\td\x07\x9b31m", "a\\x1b[2Jb\\nc\\td\\x07\\x9b31m"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\ud800", "\\ud800"),
        ("x" * 300, "x" * 200 + "…"),
        ("\x1b" * 150, "\\x1b" * 50 + "…"),
        ("Büro", "Büro"),
        (7, "7"),
        pytest.param(10**5000, "a number with thousands of digits", id="digits"),
    ],
)
def test_what_is_printed_moves_no_cursor(value: object, line: str) -> None:
    assert shown(value) == line


def test_lines_of_a_cell_are_bounded_in_length_and_number() -> None:
    assert shown_lines(["a\x1b[2J", 7, "b\nc"]) == ["a\\x1b[2J", "7", "b\\nc"]
    assert len(shown_lines("x" for _line in range(10**6))) == 5001
