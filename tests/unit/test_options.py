# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules take, what their documentation says and what the role takes are the same, down to each default.

That the role hands the modules nothing else is seen by every test of world.py, where the modules themselves read what they are given.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.records.model import Cell, Service
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.plugins.plugin_utils import schema

PROJECT = Path(__file__).parents[2]
ON_THE_CELL = sorted(path.stem for path in (PROJECT / "plugins/modules").glob("*.py") if "AnsibleModule(" in path.read_text())
OF_AN_OPTION = ("type", "elements", "required", "default", "choices")
# What the role alone takes: it works out an endpoint from it.
OF_THE_ROLE = {"endpoint_port"}


class Called(Exception):
    """A module has said what it takes."""


@functools.cache
def documentation() -> dict[str, Any]:
    """Return what ansible-doc says of all modules."""
    names = [f"pic.cells.{module}" for module in ON_THE_CELL]
    found: dict[str, Any] = json.loads(subprocess.run(["ansible-doc", "-t", "module", "-j", *names], stdout=subprocess.PIPE, check=True).stdout)
    return found


def documented(module: str) -> dict[str, Any]:
    """Return the options of a module as its documentation names them, with those of its fragments."""
    options: dict[str, Any] = documentation()[f"pic.cells.{module}"]["doc"]["options"]
    return options


def taken(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the argument specification that a module is run with."""
    source = importlib.import_module(f"ansible_collections.pic.cells.plugins.modules.{module}")
    found: list[dict[str, Any]] = []

    def called(argument_spec: dict[str, Any], **_others: Any) -> None:
        found.append(argument_spec)
        raise Called

    monkeypatch.setattr(source, "AnsibleModule", called)
    with pytest.raises(Called):
        source.main()
    return found[0]


def shape(options: Mapping[str, Any], below: str) -> dict[str, Any]:
    """Return options without their texts. below: the key that suboptions stand under."""
    return {
        name: {
            **{key: option.get(key) for key in OF_AN_OPTION},
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "below": shape(option.get(below) or {}, below),
        }
        for name, option in options.items()
    }


def types(options: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the type and the choices of each option."""
    return {name: (option.get("type", "str"), option.get("choices")) for name, option in options.items()}


def text(option: Mapping[str, Any]) -> str:
    """Return a description as one line."""
    given = option["description"]
    return " ".join([given] if isinstance(given, str) else given)


@pytest.mark.parametrize("module", ON_THE_CELL)
def test_a_module_takes_what_its_documentation_says(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shape(taken(module, monkeypatch), "options") == shape(documented(module), "suboptions")


def test_a_run_is_described_as_its_modules_are() -> None:
    run = documented("pic_cell_info")["run"]["suboptions"]
    assert run["peers"]["suboptions"] == documented("wg_cell")["peers"]["suboptions"]
    assert run["routes"]["suboptions"] == documented("pic_peer_sync")["routes"]["suboptions"]
    links, own = run["links"]["suboptions"], {"exit", "exit_relay"}
    lists = [("wg_cell", "links"), ("wg_cell_peer", "peers"), ("pic_cell_rules", "cells"), ("pic_peer_sync", "cells")]
    for module, option in lists:
        items = {name: item for name, item in documented(module)[option]["suboptions"].items() if name not in own}
        assert {**items, "state": None} == {name: None if name == "state" else links.get(name) for name in items}, module
    assert set(links) == {name for module, option in lists for name in documented(module)[option]["suboptions"]} - own


@pytest.mark.parametrize(("module", "many"), [("wg_cell_peer", "peers"), ("pic_cell_rules", "cells"), ("pic_policy_route", "routes")])
def test_one_item_has_the_options_of_an_item_in_a_list(module: str, many: str) -> None:
    options = documented(module)
    items = {name: item for name, item in options[many]["suboptions"].items() if not item.get("required")}
    assert {name: options.get(name) for name in items} == {name: {key: item[key] for key in item if key != "default"} for name, item in items.items()}


@pytest.mark.parametrize(("variable", "option"), [("cell_peers", "peers"), ("cell_links", "links")])
def test_the_role_takes_what_the_modules_take(variable: str, option: str) -> None:
    theirs = types(documented("pic_cell_info")["run"]["suboptions"][option]["suboptions"])
    for name, (kind, choices) in types(schema.options()[variable]["options"]).items():
        if name not in OF_THE_ROLE:
            assert (theirs[name][0] if kind == "raw" else kind, choices) == theirs[name], name


def test_the_role_takes_what_describes_a_cell() -> None:
    described = documented("pic_cell_info")["cell"]["suboptions"]
    ours = schema.options()
    del described["endpoint_ports"], described["in_run"]  # out of cell_links, and of what the run is about
    assert {name for name in described if f"cell_{name}" not in ours} == set()
    for name, (kind, choices) in types(described).items():
        told, told_choices = types(ours)[f"cell_{name}"]
        assert (kind if told == "raw" else told, told_choices) == (kind, choices), name
    service = types(described["services"]["suboptions"])
    told_service = types(ours["cell_services"]["options"])
    assert {name: service[name] if kind == "raw" else (kind, choices) for name, (kind, choices) in told_service.items()} == service


def test_a_default_is_the_same_wherever_it_stands() -> None:
    described, ours, engine = documented("pic_cell_info")["cell"]["suboptions"], schema.options(), Cell()
    for name in ("interface", "listen_port", "link_port_base", "sync_port", "exit_failures", "exit_hold", "exit_switches", "exit_hold_limit"):
        default = getattr(engine, name)
        assert f"V({default})" in text(described[name]), name
        assert f"V({default})" in text(ours[f"cell_{name}"]), name
        assert ours[f"cell_{name}"].get("default", default) == default, name
    assert f"V({Service('').protocol})" in text(described["services"]["suboptions"]["protocol"])
    assert f"V({STATE_DIR})" in text(ours["cell_state_dir"])
    assert {documented(module)["state_dir"]["default"] for module in ON_THE_CELL if module != "cell_step"} == {STATE_DIR}


def test_nothing_of_any_length_is_documented_twice() -> None:
    """A sentence that stands in two places gets better in one of them."""
    lines: Counter[str] = Counter()
    for path in [*(PROJECT / "plugins/modules").glob("*.py"), *(PROJECT / "plugins/doc_fragments").glob("*.py")]:
        source = path.read_text(encoding="utf-8").partition("EXAMPLES = ")[0]
        lines.update(re.findall(r"^ *(?:- |description: )(\S.{60,})$", source, re.MULTILINE))
    assert lines and [line for line, times in lines.items() if times > 1] == []
