# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What imports what: no circle, and no file or class that is too long to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins"
LONGEST_FILE, LONGEST_CLASS = 400, 200  # lines
# "": the files outside of the folders. Those that the program needs come before it, and the others after it.
FOLDERS = ("base", "records", "kernel", "parts", "", "program", "", "steps")
ORDER = ("cell", "info")  # those that it needs


def modules() -> dict[str, Path]:
    """Return the files that may import each other, by name; a folder's own file has the name of the folder."""
    paths = [path for folder in ("module_utils", "plugin_utils") for path in sorted((PLUGINS / folder).rglob("*.py"))]
    return {".".join(path.relative_to(PLUGINS).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(name: str, known: Mapping[str, Path]) -> set[str]:
    """Return what a file imports of these, also where only a type checker does."""
    package = name.split(".") if known[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*start, *filter(None, [node.module])]).removeprefix("ansible_collections.pic.cells.plugins.")
            found |= {next((one for one in (f"{whole}.{alias.name}", whole) if one in known), "") for alias in node.names}
    return found - {""}


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the sets of files each of which imports all others of its set, by whatever way."""
    reached: dict[str, set[str]] = {}
    for name in graph:
        ways, seen = list(graph[name]), set[str]()
        while ways:
            one = ways.pop()
            if one not in seen:
                seen.add(one)
                ways += graph[one]
        reached[name] = seen
    found = [{other for other in reached[name] if name in reached[other]} for name in graph]
    return [one for number, one in enumerate(found) if one and one not in found[:number]]


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == [{"b", "c"}, {"e"}]


def test_nothing_imports_what_imports_it() -> None:
    known = modules()
    graph = {name: imported(name, known) for name in known}
    assert graph["module_utils.cell"] >= {"module_utils.parts.links", "module_utils.kernel.plan"}
    assert circles(graph) == []


def later(name: str) -> int:
    """Tell how late the folder of a file of the engine comes; the parts' order and what knows Ansible stand outside of all folders."""
    folder, _dot, file = name.removeprefix("module_utils.").rpartition(".")
    return FOLDERS.index(folder, 0 if folder or file in ORDER else FOLDERS.index("program"))


def test_no_folder_imports_a_later_one() -> None:
    known = {name: path for name, path in modules().items() if name.startswith("module_utils.")}
    found = {(name, other) for name in known for other in imported(name, known) if later(other) > later(name)}
    assert found == set()
    assert {name.split(".")[1] for name in known if name.count(".") == 2} == set(FOLDERS) - {""}


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(PLUGINS)): len(path.read_text().splitlines()) for path in PLUGINS.rglob("*.py")}
    assert {name for name, lines in lengths.items() if lines > LONGEST_FILE} == set()


def test_no_class_is_too_long() -> None:
    found = set()
    for path in PLUGINS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.end_lineno and node.end_lineno - node.lineno >= LONGEST_CLASS:
                found.add(f"{path.relative_to(PLUGINS)}: {node.name}")
    assert found == set()
