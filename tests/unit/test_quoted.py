# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages quote and no reader types: messages of refused runs, the JSON of the on-cell program, files of other tools. It is what is printed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.tests.lab.pages import KEY, PROJECT, blocks
from ansible_collections.pic.cells.tests.unit.adopted import OWN
from ansible_collections.pic.cells.tests.unit.controller import Controller, Outcome
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_firewalls import KNOWN, LOOPBACK, SSH, TOLD, closed
from ansible_collections.pic.cells.tests.unit.test_hostile import OLD_PYTHON
from ansible_collections.pic.cells.tests.unit.world import World, call, program


def quoted(page: str = "ansible-errors.md", info: str = "text") -> Iterator[str]:
    """Yield the blocks of a page that are shown and not typed."""
    for block in blocks(PROJECT / "docs" / page):
        if block.info == info:
            yield "\n".join(block.lines)


def sentence(begin: str) -> str:
    """Return the one message on the page about Ansible's errors that has these words, without what Ansible puts before it, with any key."""
    (line,) = (line for block in quoted() for line in block.splitlines() if begin in line)
    return KEY.sub("(key)", line.removeprefix("[ERROR]: Task failed: ").removeprefix("Action failed: "))


def ends_with(outcome: Outcome, error: str) -> bool:
    """Tell whether Ansible has ended with an error of its own: the whole of it, or before 2.19 what comes after "failed"."""
    return error in outcome.text or f"ERROR! {error.rpartition(' failed: ')[2]}" in outcome.text


def said(text: str) -> str:
    return KEY.sub("(key)", text)


def test_a_group_that_is_missing(controller: Controller) -> None:
    hosts = controller.inventory["all"]["children"].pop("cells")
    controller.inventory["all"]["children"]["servers"] = hosts
    assert ends_with(controller.play("site"), sentence("no group cells"))


def test_a_limit_without_a_cell(controller: Controller) -> None:
    controller.inventory["all"]["children"]["others"] = {"hosts": {"web": {}}}
    assert ends_with(controller.play("site", "--limit", "web"), sentence("within --limit"))


def test_one_machine_for_two_cells(controller: Controller) -> None:
    controller.of("cellb")["ansible_python_interpreter"] = controller.of("cella")["ansible_python_interpreter"]
    assert said(controller.play("site").message.split("\n")[0]) == sentence("the same key")


def test_a_python_that_is_too_old(controller: Controller) -> None:
    python = controller.folder / "old-python"
    python.write_text(OLD_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    controller.of("cellb")["ansible_python_interpreter"] = str(python)
    shown = re.sub(r"this is \S+ \(\S+\)", "this is (one)", sentence("A cell needs Python").partition("error: ")[2])
    assert shown in re.sub(r"this is \S+ \([^)]+\)", "this is (one)", controller.play("status", cell="cellb").text)


@pytest.mark.parametrize(
    ("begin", "source"),
    [
        ("The Python library", "plugins/action/pic_cells_check.py"),
        ("This needs root on the cell", "plugins/module_utils/module.py"),
    ],
)
def test_messages_for_which_a_machine_would_have_to_lack_something(begin: str, source: str) -> None:
    """The libraries of the tests are there, and they may run as root."""
    text = re.sub(r"\"\s*\n?\s*f?\"", "", (PROJECT / source).read_text())
    written = re.sub(r"user id \d+", "user id {os.geteuid()}", sentence(begin))
    assert written in text


def fields(value: Any) -> Any:
    """Return the shape of a value."""
    return {key: fields(item) for key, item in value.items()} if isinstance(value, dict) else type(value).__name__


def holds(whole: Any, part: Any) -> bool:
    """Tell whether all that a part says is in the whole."""
    return all(key in whole and holds(whole[key], value) for key, value in part.items()) if isinstance(part, dict) else whole == part


def test_the_json_of_the_page_about_monitoring_is_a_part_of_what_is_printed(linked: World) -> None:
    (shown,) = (json.loads(block) for block in quoted("monitoring.md", "json"))
    rc, out, _err = program(linked["cella"], "status", "--json")
    assert rc == 0
    assert holds(fields(json.loads(out)), fields(shown))


def test_the_exit_codes_of_the_page_about_monitoring(linked: World, host: FakeHost) -> None:
    cella = linked["cella"]
    assert [program(cella, word)[0] for word in ("check", "status")] == [0, 0]
    assert [program(cella, word, uid=1000)[0] for word in ("check", "status")] == [1, 1]
    assert [program(cella, word, "--no")[0] for word in ("check", "status")] == [2, 2]
    assert [program(host, word)[0] for word in ("check", "status")] == [1, 0]
    cella.drop_link("pic-cellb")
    assert [program(cella, word)[0] for word in ("check", "status")] == [3, 0]
    cella.files["/var/lib/pic/peer_registry.json"] = (0o600, "{")
    assert [program(cella, word)[0] for word in ("check", "status")] == [3, 0]


def test_the_file_of_the_page_about_other_tools_is_taken_over_as_it_says_and_given_back(host: FakeHost) -> None:
    whole, added = (block.replace("PrivateKey = …", f"PrivateKey = {OWN}").replace("PresharedKey = …", "") for block in quoted("coming-from.md", "ini"))
    (stated,) = (yaml.safe_load(block) for block in quoted("coming-from.md", "yaml"))
    path, text = "/etc/wireguard/wg0.conf", f"{whole}\n"
    host.files[path] = (0o600, text)
    host.by_hand("systemctl enable wg-quick@wg0")
    host.by_hand("systemctl restart wg-quick@wg0")
    done = call("wg_cell", host, {"cell": {"name": "cella", "networks": stated["cell_networks"]}, "peers": stated["cell_peers"]})
    assert not done.get("failed"), done
    assert host.read(path) == f"{text}{added}\n"
    assert host.read("/var/lib/pic/adopted-wg0.conf") == text
    assert sorted(host.wg["wg0"].peers) == sorted(set(KEY.findall(whole + added)) - {OWN})
    assert not call("pic_cell_uninstall", host, {"name": "cella"}).get("failed")
    assert host.read(path) == text
    assert sorted(host.wg["wg0"].peers) == sorted(set(KEY.findall(whole)) - {OWN})


TYPES = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "raw": object}
# how the documentation calls what has a name of its own
NAMED = ("other_cell", "device", "exit_cell")


def documented(module: str) -> dict[str, Any]:
    text = (PROJECT / "plugins" / "modules" / f"{module}.py").read_text()
    found: dict[str, Any] = yaml.safe_load(text.partition('RETURN = r"""')[2].partition('"""')[0])
    return found


def unlike(said: dict[str, Any], contains: dict[str, Any], where: str) -> list[str]:
    """Return where a result is not as its documentation says: other keys, other types."""
    named = next((key for key in contains if key in NAMED), None)
    if named:
        contains = dict.fromkeys(said, contains[named])
    optional = {key for key, what in contains.items() if what.get("returned", "success") not in ("success", "always")}
    found = [f"{where}: {key}" for key in sorted(set(said) ^ set(contains)) if key in said or key not in optional]
    for key in set(said) & set(contains):
        value, what = said[key], contains[key]
        # a boolean is an int in Python
        if value is not None and (not isinstance(value, TYPES[what["type"]]) or isinstance(value, bool) != (what["type"] == "bool")):
            found.append(f"{where}.{key}: {value!r} is no {what['type']}")
        for item in (value if isinstance(value, list) else [value]) if value and "contains" in what else ():
            found += unlike(item, what["contains"], f"{where}.{key}")
    return found


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("pic_cell_info", {}),
        ("wg_cell", {}),
        ("wg_cell_peer", {"peers": [{"name": "cellb"}, {"name": "cellc"}]}),
        ("pic_cell_rules", {}),
        ("pic_policy_route", {}),
        ("pic_peer_sync", {}),
        ("pic_link_keys", {"links": ["cellb"]}),
        ("pic_link_invitation", {"name": "cellb"}),
        ("pic_cell_restore", {}),
        ("pic_cell_prove", {}),
        ("pic_cell_adopt", {}),
        ("pic_cell_agent", {}),
    ],
)
def test_return_values_are_those_of_the_documentation(linked: World, module: str, args: dict[str, Any]) -> None:
    done = call(module, linked["cella"], args, check=True)
    said = {key: value for key, value in done.items() if key not in ("changed", "diff", "warnings", "failed", "invocation")}
    assert said
    assert unlike(said, documented(module), module) == []


def test_the_answer_of_the_documentation_is_the_one_that_is_given(linked: World) -> None:
    payload = call("pic_peer_sync", linked["cellb"], {})["payloads"]["cella"]
    done = call("pic_peer_sync", linked["cella"], {"received": [payload]})
    assert unlike(done["answers"], documented("pic_peer_sync")["answers"]["contains"], "answers") == []


@pytest.mark.parametrize("module", sorted(path.stem for path in (PROJECT / "plugins" / "modules").glob("*.py")))
def test_each_return_value_has_a_sample_or_says_what_it_contains(module: str) -> None:
    assert [name for name, what in documented(module).items() if not {"sample", "contains"} & set(what) and name != "stated"] == []


def test_the_warning_of_the_page_about_firewalls(linked: World) -> None:
    host = linked["cella"]
    host.native = closed(KNOWN, LOOPBACK, TOLD, SSH, table="firewall")
    (shown,) = (line for block in blocks(PROJECT / "docs" / "firewalls.md") for line in block.lines if line.startswith("warning: "))
    assert program(host, "check") == (0, f"{shown}\n", "")


@pytest.mark.parametrize("line", re.findall(r"^\|[^|]*\| `([^`…]{25,})", (PROJECT / "docs" / "monitoring.md").read_text(), re.MULTILINE))
def test_lines_of_the_journal_on_the_page_about_monitoring(line: str) -> None:
    sources = "".join(path.read_text() for path in sorted((PROJECT / "plugins" / "module_utils").rglob("*.py")))
    assert line.strip() in re.sub(r"\"\s*\n\s*f?\"", "", sources)
