# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All cells together: the table, the data and the page of pic.cells.status, which say the same."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.plugin_utils import page as pages
from ansible_collections.pic.cells.plugins.plugin_utils import page_file
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.plugins.plugin_utils.overview import COLUMNS, Overview, overview, table, words
from ansible_collections.pic.cells.tests.unit.controller import Controller
from ansible_collections.pic.cells.tests.unit.test_statement import mesh
from ansible_collections.pic.cells.tests.unit.world import World, call

VOID = {"meta"}


class Reader(HTMLParser):
    """Reads a page: the texts of each table's cells, and whether each element is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "table":
            self.rows: list[list[str]] = self.tables.setdefault(str(dict(attrs)["id"]), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def read(world: World, **changes: Any) -> list[dict[str, Any]]:
    """Read all cells back; changes: of the link of cella with cellb."""
    infos = [call("pic_cell_info", host, {}) for host in world.hosts.values()]
    for info in infos:
        for link in info["links"].values():
            link["last_handshake"] = info["read_at"] - 20
        if info["name"] == "cella":
            info["links"]["cellb"].update(changes)
    return infos


def expecting(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let the first cell have an expectation that holds and one that does not."""
    infos[0]["expectations"] = [{"line": "phone to lan is refused", "why": why} for why in ("", "10.0.0.2 reaches it")]
    return infos


def shown(field: str, value: Any) -> str:
    """Return what the page has of a field."""
    return pages.in_units(value) if field in ("received", "sent") else words(field, value)


def test_each_row_of_the_page_is_that_of_the_data(linked: World) -> None:
    found = overview(expecting(read(linked)), ["celld"])
    tables = Reader(pages.page(found, "now")).tables
    assert set(tables) == {*COLUMNS, "reach"}
    for name, columns in COLUMNS.items():
        head, *rows = tables[name]
        assert head == list(columns)
        assert rows == [[shown(field, row[field]) for field in columns.values()] for row in found.facts()[name]]
        assert rows


def test_who_may_reach_what_is_what_the_links_allow(linked: World) -> None:
    infos = read(linked)
    (_corner, *services), *rows = Reader(pages.page(overview(infos), "now")).tables["reach"]
    allowed = {(row[0], service) for row in rows for service, mark in zip(services, row[1:]) if mark == "yes"}
    assert allowed == {
        (other, f"{service}@{info['name']}")
        for info in infos
        for other, link in info["links"].items()
        for service, may in link["permissions"]["inbound"].items()
        if may
    }
    assert allowed
    assert {mark for row in rows for mark in row[1:]} == {"yes", "no", "own"}


def test_what_is_expected_has_a_row_and_a_finding_where_it_does_not_hold(linked: World) -> None:
    found = overview(expecting(read(linked)))
    assert [(row.cell, row.holds, row.why) for row in found.expectations] == [("cella", True, ""), ("cella", False, "10.0.0.2 reaches it")]
    (finding,) = [finding for finding in found.findings if finding.kind == "expectation"]
    assert (finding.cell, finding.what) == ("cella", "'phone to lan is refused' does not hold: 10.0.0.2 reaches it")
    assert any(line.startswith("cella  phone to lan is refused  no ") for line in table(found))
    assert "What is expected" not in pages.page(overview(read(linked)), "now")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "up"),
        ({"last_handshake": 1, "keepalive": 25}, "silent"),
        ({"last_handshake": 0, "keepalive": 0}, "idle"),
        ({"pending_push": True, "last_push_error": "no answer"}, "pending"),
        ({"public_key": None}, "pending"),
    ],
)
def test_the_worse_end_of_a_link_decides_how_it_is_drawn(linked: World, changes: dict[str, Any], state: str) -> None:
    found = overview(read(linked, **changes))
    assert [link.state for link in found.links if {link.cell, link.other} == {"cella", "cellb"}] == [state, "up"]
    drawn = re.findall(r'<line class="link (\w+)"[^>]*><title>cella and cellb: (\w+)</title>', pages.page(found, "now"))
    assert drawn == [(state, state)]
    assert bool(found.findings) == (state in ("silent", "pending"))
    if state == "pending":
        assert "pic.cells.replay -e cell=cella" in next(finding.remedy for finding in found.findings)


def test_a_host_without_an_answer_and_a_difference_are_findings_with_a_remedy(linked: World) -> None:
    linked["cella"].by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    found = overview(read(linked), ["celld"])
    assert [(finding.cell, finding.kind) for finding in found.findings][:2] == [("celld", "unread"), ("cella", "drift")]
    assert all(finding.remedy for finding in found.findings)
    assert any(line.startswith("celld") and "ansible celld -m ping" in line for line in table(found))
    assert '<g class="node others">' in pages.page(found, "now")


def test_the_table_has_a_line_for_each_row(linked: World) -> None:
    found = overview(read(linked))
    lines = table(found)
    named = [line.split()[1] for line in lines if line.startswith("cella ")]
    assert named == ["cellb", "cellc", "laptop", "phone", "tablet"]
    assert lines[-1] == f"3 cells, 2 links, {len(found.devices)} devices, 0 findings"


def test_nothing_is_a_page_too() -> None:
    reader = Reader(pages.page(overview([]), "now"))
    assert reader.tables == {}
    assert table(overview([])) == ["0 cells, 0 links, 0 devices, 0 findings"]


def test_what_a_cell_says_is_text_and_nothing_is_loaded(linked: World) -> None:
    evil = "</title><script>alert(1)</script><img src=//x>\x1b[31m"
    infos = read(linked, pending_push=True, last_push_error=evil)
    infos[0]["drift"] = [evil]
    text = pages.page(overview(infos, [evil]), "now")
    reader = Reader(text)
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert {name for _tag, name, _value in reader.attributes}.isdisjoint({"src", "href", "style", "onload", "xlink:href"})
    assert "url(" not in text and "@import" not in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("theme", sorted(pages.COLOURS))
def test_each_colour_has_the_contrast_of_wcag_aa(theme: str) -> None:
    colours = pages.COLOURS[theme]
    for behind in ("page", "row"):
        for name in set(colours) - {"page", "row"}:
            assert contrast(colours[name], colours[behind]) >= (3 if name == "line" else 4.5), (name, behind)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2, 1.4.3)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def job(**given: Any) -> dict[str, Any]:
    return read_job(mesh({}), {"job": "status", **given})[0]


def test_what_the_playbook_is_asked_for(tmp_path: Path) -> None:
    assert job(output="json", report=str(tmp_path / "new.html")) == {"output": "json", "report": str(tmp_path / "new.html")}
    assert job() == {}
    with pytest.raises(BadInput, match="Give one of table, json"):
        job(output="yaml")
    with pytest.raises(BadInput, match=r"nowhere does not exist on the controller\. Create it"):
        job(report=str(tmp_path / "nowhere" / "x.html"))


@pytest.mark.parametrize("given", ["~nosuchuser/x.html", "a\0b", "x" * 300 + "/y.html"])
def test_what_can_be_no_path_is_one_sentence(given: str) -> None:
    with pytest.raises(BadInput, match="Give another file"):
        job(report=given)


@pytest.mark.parametrize("there", ["a text", "a folder", "a link to a text"])
def test_only_a_report_is_written_anew(tmp_path: Path, there: str) -> None:
    file = tmp_path / "there"
    if there == "a folder":
        file.mkdir()
    elif there == "a text":
        file.write_text("mine")
    else:
        (tmp_path / "text").write_text("mine")
        file.symlink_to("text")
    with pytest.raises(BadInput, match=r"is no report of pic\.cells\.status, so it is not overwritten"):
        job(report=str(file))


def test_a_page_keeps_its_mode_and_a_new_one_is_the_owners(tmp_path: Path) -> None:
    path = page_file.target(str(tmp_path / "x.html"))
    page_file.write(path, pages.page(Overview([], [], [], [], []), "first"))
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    page_file.write(page_file.target(str(path)), pages.page(Overview([], [], [], [], []), "second"))
    assert path.stat().st_mode & 0o777 == 0o644
    assert "second" in path.read_text() and list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.html"
    page_file.write(path, "before")

    def full(*_paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_file.os, "replace", full)
    with pytest.raises(BadInput, match="No space left on device"):
        page_file.write(path, "after")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("before", [path])


def test_the_playbook_shows_and_writes_all_cells(controller: Controller, linked: World, tmp_path: Path) -> None:
    file = tmp_path / "cells {{ 7*6 }}.html"
    done = controller.play("status", "--check", report=f'"{file}"')
    assert not file.exists()
    done = controller.play("status", output="json", report=f'"{file}"', fail_on="pending")
    (said,) = (result["msg"] for _host, task, result in done.results if task == "Show all cells together")
    assert said["cells"] == ["cella", "cellb", "cellc"]
    assert [row[:2] for row in Reader(file.read_text()).tables["links"][1:]] == [[link["cell"], link["other"]] for link in said["links"]]
    assert not any(task == "Show the report" and not result.get("skipped") for _host, task, result in done.results)
    assert json.dumps(said)


@pytest.mark.parametrize("answer", [{"skipped": True}, {"advice": None}, {"name": "cella"}, {"links": {"cella": {}}}])
def test_a_hostile_cell_spoils_the_report_of_no_other(controller: Controller, linked: World, answer: dict[str, Any]) -> None:
    """What is no answer of it is said, and nothing of it stands in the name of another cell."""
    controller.hostile("cellb", f"def answer(module, arguments, honest):\n    return {{**honest, **{answer}}}\n")
    done = controller.play("status", output="json")
    (said,) = (result["msg"] for _host, task, result in done.results if task == "Show all cells together")
    assert said["cells"] == ["cella", "cellc"]
    assert [finding["cell"] for finding in said["findings"] if finding["kind"] == "unread"] == ["cellb"]
