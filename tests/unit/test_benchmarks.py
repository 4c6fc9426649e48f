# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks make of their figures: who is measured when, ratios, tables, one file of JSON. No figure is judged."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.tests.benchmarks import path as packets
from ansible_collections.pic.cells.tests.benchmarks import plot
from ansible_collections.pic.cells.tests.benchmarks.controller import answers, inventory
from ansible_collections.pic.cells.tests.benchmarks.measure import Comparison, alternately, load, save, spread, tables
from ansible_collections.pic.cells.tests.unit.test_pictures import SVG, extents, overlap

PACKETS = Comparison(
    "packets",
    "direct",
    "thousand/s",
    "devices",
    "one",
    {"1": {"one": [100, 120, 110], "flat": [90, 120, 99]}, "250": {"one": [100, 120, 110], "flat": [30, 40, 36.5]}},
)
OWN = Comparison("restore", "all is right", "s", "links", None, {"10": {"own": [0.25, 0.2, 0.3]}, "100": {"own": [2.5, 3, 2]}})


def test_ways_take_turns_and_each_is_first_as_often() -> None:
    turns: list[str] = []
    ways = {name: lambda name=name: turns.append(name) or float(len(turns)) for name in "ab"}
    assert alternately(ways, 3) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(turns) == "abbaab"


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ([3, 1, 2], "1.0 / 2.0 / 3.0"),
        ([0.031, 0.02, 0.5], "0.020 / 0.031 / 0.50"),
        ([12345, 99, 100], "99 / 100 / 12,345"),
        ([5], "5.0"),
        ([], "-"),
        ([0, 0], "0 / 0 / 0"),
    ],
)
def test_figures_are_said_as_minimum_median_and_maximum(figures: list[float], said: str) -> None:
    assert spread(figures) == said


def test_a_ratio_is_that_of_one_round_and_comes_before_the_figures() -> None:
    assert PACKETS.ratios("250", "flat") == [0.3, 40 / 120, 36.5 / 110]
    (table,) = tables([PACKETS]).values()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert rows[0] == ["ratio to one", "devices", "flat", "one, itself"]
    assert rows[2:] == [
        ["direct", "1", "0.90 / 0.90 / 1.0", "100 / 110 / 120 thousand/s"],
        ["direct", "250", "0.30 / 0.33 / 0.33", "100 / 110 / 120 thousand/s"],
    ]


def test_without_another_way_the_ratio_is_to_the_median_of_the_first_point() -> None:
    assert OWN.ratios("100", "own") == [10, 12, 8]
    (table,) = tables([OWN]).values()
    assert [cell.strip() for cell in table[-1].strip("|").split("|")] == ["all is right", "100", "8.0 / 10 / 12", "2.0 / 2.5 / 3.0 s"]


def test_a_way_that_a_point_does_not_know_leaves_its_place_empty() -> None:
    half = Comparison(
        "packets", "routed", "thousand/s", "devices", "one", {"1": {"one": [1.0], "flat": [2.0]}, "50": {"one": [1.0], "tree": [1.0], "flat": [2.0]}}
    )
    lines = [[cell.strip() for cell in line.split("|")] for line in tables([half])["packets"]]
    assert [line[3:5] for line in lines if line[2] in ("1", "devices")] == [["tree", "flat"], ["-", "2.0"]]


def test_a_second_run_adds_its_points_to_the_file_and_replaces_those_that_were_there(tmp_path: Path) -> None:
    file = tmp_path / "new" / "benchmark.json"
    save(file, [PACKETS])
    save(file, [OWN, Comparison("packets", "direct", "thousand/s", "devices", "one", {"250": {"one": [1.0]}, "50": {"one": [2.0]}})])
    packets, own = load(file)
    assert list(packets.points) == ["1", "50", "250"]
    assert packets.points["250"] == {"one": [1.0]}
    assert own == OWN
    assert json.loads(file.read_text())["machine"]["kernel"]


@pytest.mark.parametrize("again", [False, True])
def test_what_stands_in_for_cells_gives_answers_that_the_controller_takes(again: bool) -> None:
    given = answers(inventory(("mesh", 3)), "cell0000", again)
    assert "pic_cell_info" in given
    assert {module: said["msg"] for module, answer in given.items() if (said := judged(module, answer)).get("failed")} == {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with figures of two tables; a third has one size alone."""
    path = tmp_path / "benchmark.json"
    save(path, [PACKETS, OWN, Comparison("memory", "the watcher of all that happens on a cell", "MiB", "links", None, {"10": {"memory": [24.0]}})])
    return path


def test_a_title_is_cut_where_it_would_be_wider_than_its_curve() -> None:
    title = "rules and policy rules lost, and all else"
    assert plot.fitting(title, "soft", 400) == title
    assert plot.fitting(title, "soft", 176).endswith("…")


def test_a_page_gets_its_figures_where_it_has_a_place_for_them_and_keeps_its_words(file: Path) -> None:
    page = "Words.\n<!-- figures: packets -->\nold\n<!-- end -->\nMore.\n<!-- figures: other -->\nstays\n<!-- end -->\n"
    found = plot.figures(file)
    once = plot.renewed(page, found)
    assert once == page.replace("old", f"\n{found['packets']}")
    assert "](pictures/performance-packets.svg)" in found["packets"]
    assert "](pictures" not in found["memory"]
    assert plot.renewed(once, found) == once


def test_curves_stand_alone_and_no_text_is_on_another(file: Path) -> None:
    drawn = plot.pictures(file)
    assert sorted(drawn) == ["performance-packets.svg", "performance-restore.svg"]
    for svg in drawn.values():
        assert "prefers-color-scheme: dark" in svg
        assert {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(svg).iter()} <= {"svg", "title", "desc", "style", "rect", "path", "text"}
        assert [(one, other) for (one, its), (other, others) in combinations(extents(svg).items(), 2) if overlap(its, others)] == []


def test_the_rules_on_a_packets_way_are_those_of_the_engine_and_their_flat_forms_hold_as_many_as_they_say() -> None:
    built = packets.built(3, 2)
    assert all(f"*{table}\n" in "".join(built.firewall) for table in ("filter", "nat", "mangle"))
    assert "-A PIC-S-x2 " in "".join(built.firewall)
    rules = [line for line in built.routing if line.startswith("rule add ")]
    assert {address for address in ("10.0.1.2", "10.0.1.3") if any(f"from {address} unreachable" in line for line in rules)} == {"10.0.1.2", "10.0.1.3"}
    flat = packets.three_rules(3, 2)
    assert flat.firewall == built.firewall
    assert len([line for line in flat.routing if line.startswith("rule ")]) == 3 * 2
    (chain,) = packets.one_chain(3, 2).firewall
    shares = [line for line in chain.splitlines() if "--dport" in line]
    assert len(shares) == 3 * packets.EACH
    assert "pic-x0" in shares[-1]
