# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the figures of a file into docs/performance.md and draws their curves: python tests/benchmarks/plot.py .build/benchmark.json

What stands between a comment `figures: <table>` and the comment `end` is written anew; all other words of the page stay.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.pic.cells.tests.benchmarks.measure import TREE, Comparison, load, tables
from ansible_collections.pic.cells.tests.tools.pictures import DARK, FOLDER, LEADING, LIGHT, WIDTH, Picture, wide

PAGE = TREE / "docs" / "performance.md"
PREFIX = "performance-"
MACHINE = "machine"
_PLACE = re.compile(r"(<!-- figures: (?P<name>[^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)

LEFT, GAP, ACROSS, HIGH = 16, 16, 176, 96  # of a panel's frame
WRITTEN = 20  # above it
KINDS = ("way", "use", "refused")


def curves(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return those that have been measured at several sizes."""
    return [each for each in comparisons if len(each.points) > 1 and all(map(str.isdecimal, each.points))]


def file_name(table: str) -> str:
    """Return the name of a table's picture, without its ending."""
    return PREFIX + re.sub(r"[^a-z0-9]+", "-", table.lower()).strip("-")


def kinds(comparison: Comparison, ways: Sequence[str]) -> dict[str, str]:
    """Return with which line each way is drawn."""
    others = [way for way in ways if way != comparison.base]
    return {**{way: KINDS[number % len(KINDS)] for number, way in enumerate(others)}, **({comparison.base: "next"} if comparison.base else {})}


def fitting(text: str, style: str, room: float) -> str:
    """Return a text, or as much of it as there is room for."""
    return next(shown for shown in (text, *(f"{text[:end].rstrip(' ,')}…" for end in range(len(text), 0, -1))) if wide(shown, style) <= room)


def drawn(table: str, comparisons: Sequence[Comparison]) -> Picture:
    """Draw the ratios of a table: a panel for each of its comparisons, a line through the medians, and an upright from minimum to maximum."""
    first = comparisons[0]
    ways = list(dict.fromkeys(way for each in comparisons for way in each.ways))
    lines = kinds(first, ways)
    top = 34 + LEADING * (len(ways) + 1)
    height = top + math.ceil(len(comparisons) / 2) * (WRITTEN + HIGH + 30) + 8
    to = first.base or "the first point"
    picture = Picture(
        file_name(table),
        height,
        table,
        f"Curves of the table below it: each way's ratio to {to}, by the number of {first.along}.",
        drawn_by="tests/benchmarks/plot.py",
    )
    picture.text(LEFT, 26, fitting(table, "bold", WIDTH - 2 * LEFT), "bold", room=WIDTH - 2 * LEFT)
    for number, way in enumerate(ways):
        y = 48 + number * LEADING
        picture.path(lines[way], (LEFT, y - 5), (LEFT + 30, y - 5))
        picture.text(LEFT + 40, y, way, "soft", room=WIDTH - 2 * LEFT - 40)
    picture.text(LEFT, 48 + len(ways) * LEADING, f"ratio to {to}, by {first.along}", "soft", room=WIDTH - 2 * LEFT)
    for number, each in enumerate(comparisons):
        x, y = LEFT + number % 2 * (ACROSS + GAP), top + number // 2 * (WRITTEN + HIGH + 30) + WRITTEN
        picture.text(x, y - 6, fitting(each.title, "soft", ACROSS), "soft", room=ACROSS)
        _panel(picture, each, lines, x, y)
    return picture


def _panel(picture: Picture, comparison: Comparison, lines: Mapping[str, str], left: float, top: float) -> None:
    """Draw one comparison. Ratios that differ by more than a factor of ten stand on a scale of powers."""
    found = {way: {int(point): comparison.ratios(point, way) for point in comparison.points if comparison.figures(point, way)} for way in lines}
    every = [ratio for points in found.values() for ratios in points.values() for ratio in ratios] + [1.0]
    powers = max(every) > 10 * min(every)
    bottom, most = (math.log10(min(every)) - 0.1, math.log10(max(every)) + 0.1) if powers else (0.0, max(every) * 1.1)
    sizes = sorted(map(int, comparison.points))
    across = (math.log(sizes[-1]) - math.log(sizes[0])) or 1.0

    def x(size: int) -> float:
        return round(left + 40 + (ACROSS - 58) * (math.log(size) - math.log(sizes[0])) / across, 1)

    def y(ratio: float) -> float:
        return round(top + HIGH - HIGH * ((math.log10(ratio) if powers else ratio) - bottom) / (most - bottom), 1)

    picture.parts.append(f'<rect x="{left:g}" y="{top:g}" width="{ACROSS}" height="{HIGH}" class="plain"/>')
    marks = [10.0**power for power in range(math.ceil(bottom), math.floor(most) + 1)][-4:] if powers else sorted({1.0, float(int(max(every)))})
    for mark in marks:
        picture.parts.append(f'<rect x="{left + 36:g}" y="{y(mark):g}" width="{ACROSS - 40}" height="0.5" class="paper"/>')
        picture.text(left + 32, min(max(y(mark) + 4, top + 14), top + HIGH - 4), f"{mark:,g}", "soft", room=32, anchor="end")
    for way, points in found.items():
        at = [(x(size), y(statistics.median(ratios))) for size, ratios in points.items()]
        picture.path(lines[way], *at)
        for size, ratios in points.items():
            picture.path(lines[way], (x(size), y(min(ratios))), (x(size), y(max(ratios)) - 0.1))
    for size in sizes:
        picture.text(x(size), top + HIGH + 16, f"{size:,}", "soft", room=60, anchor="middle")


def figures(file: Path) -> dict[str, str]:
    """Return what stands in each place of the page, and the pictures by the name of their file."""
    comparisons = load(file)
    found = {MACHINE: "".join(f"- {what}: {value}\n" for what, value in json.loads(file.read_text())["machine"].items())}
    for name, lines in tables(comparisons).items():
        text = "\n".join(lines) + "\n"
        if curves([each for each in comparisons if each.table == name]):
            text = f"![{name}. The table has the figures.](pictures/{file_name(name)}.svg)\n\n{text}"
        found[name] = text
    return found


def pictures(file: Path) -> dict[str, str]:
    """Return the pictures of a file's figures, by their names."""
    found = {}
    comparisons = load(file)
    for name in dict.fromkeys(each.table for each in comparisons):
        several = curves([each for each in comparisons if each.table == name])
        if several:
            picture = drawn(name, several)
            found[f"{picture.name}.svg"] = picture.render(LIGHT, DARK)
    return found


def renewed(page: str, found: Mapping[str, str]) -> str:
    """Return a page with the figures in their places; a place for which there are none stays as it is."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{found[place['name']]}\n{place[3]}" if place["name"] in found else place[0], page)


def main() -> None:
    """Write the page and its pictures; say which figures have no place on it."""
    file = Path(sys.argv[1])
    found, page = figures(file), PAGE.read_text()
    PAGE.write_text(renewed(page, found))
    for name, text in pictures(file).items():
        (FOLDER / name).write_text(text)
    for name in sorted(set(found) - {place["name"] for place in _PLACE.finditer(page)}):
        print(f"no place on the page: {name}")


if __name__ == "__main__":
    main()
