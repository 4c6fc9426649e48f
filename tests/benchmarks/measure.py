# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures several ways of one thing side by side; says what came of it in tables, and keeps it in one file of JSON.

What a machine does meanwhile changes from minute to minute, so the ways take turns, and a ratio is that of two figures of one round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROUNDS = 3
VERSIONS = ("iptables --version", "ip -V", "iperf3 --version", "wg --version", "ansible --version", "git -C {tree} rev-parse --short HEAD")
# Where others use the machine as well, what the processor spent on a program says more than the clock.
SECOND = {"clock": "s", "processor": "s of the processor"}
TREE = Path(__file__).resolve().parents[2]


@dataclass
class Comparison:
    """One thing, measured in several ways at several sizes.

    table: those of one table have the same ways. base: the way that ratios are of, None where they are of each way's own first point.
    points: by size and by way the figure of each round.
    """

    table: str
    title: str
    unit: str
    along: str
    base: str | None
    points: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def ways(self) -> list[str]:
        """Return the ways that any point knows, in the order of the last, as the smallest cell can lack some."""
        return list(dict.fromkeys(way for ways in reversed(self.points.values()) for way in ways))

    def figures(self, point: str, way: str) -> list[float]:
        """Return the figures of a way at a point; none where it was not measured."""
        return self.points[point].get(way, [])

    def ratios(self, point: str, way: str) -> list[float]:
        """Return for each round the ratio to the base."""
        found = self.figures(point, way)
        first = self.figures(next(iter(self.points)), way)
        others = self.figures(point, self.base) if self.base else [statistics.median(first)] * len(found) if first else []
        return [one / other for one, other in zip(found, others) if other]


def alternately(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each way once a round; who was the last in a round is the first in the next."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            found[way].append(ways[way]())
    return found


def spread(figures: Sequence[float]) -> str:
    """Return minimum, median and maximum."""
    said = [_said(figure) for figure in (min(figures), statistics.median(figures), max(figures))] if figures else ["-"]
    return " / ".join(said) if len(figures) > 1 else said[0]


def _said(figure: float) -> str:
    """Return a figure with no more digits than it is good for."""
    return f"{figure:,.0f}" if figure >= 10 or not figure else f"{figure:.1f}" if figure >= 1 else f"{figure:.2f}" if figure >= 0.1 else f"{figure:.3f}"


def tables(comparisons: Iterable[Comparison]) -> dict[str, list[str]]:
    """Return each table as the lines of a page, by its name."""
    found: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.table, []).append(comparison)
    return {name: _table(rows) for name, rows in found.items()}


def _table(comparisons: Sequence[Comparison]) -> list[str]:
    base, along = comparisons[0].base, comparisons[0].along
    ways = list(dict.fromkeys(way for comparison in comparisons for way in comparison.ways if way != base))
    if base:
        head = [f"ratio to {base}", along, *ways, f"{base}, itself"]
    else:
        head = ["", along, *(head for way in ways for head in ((f"{way}, ratio to the first", way) if along else (way,)))]
    lines = [head]
    for each in comparisons:
        for point in each.points:
            ratios = {way: spread(each.ratios(point, way)) for way in ways}
            itself = {way: f"{spread(each.figures(point, way))} {each.unit}".strip() for way in [*ways, *([base] if base else [])]}
            cells = [*ratios.values(), itself[base]] if base else [cell for way in ways for cell in ((ratios[way], itself[way]) if along else (itself[way],))]
            lines.append([each.title, point, *cells])
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    return [rows[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows[1:]]


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    found = {"kernel": platform.release(), "processors": str(os.cpu_count()), "python": platform.python_version()}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            found["processor"] = line.partition(":")[2].strip()
    for command in VERSIONS:
        argv = command.format(tree=TREE).split()
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        found["commit" if argv[0] == "git" else argv[0]] = next(iter(done.stdout.splitlines()), "")
    return found


def load(file: Path) -> list[Comparison]:
    """Return what a file holds."""
    return [Comparison(**each) for each in json.loads(file.read_text())["comparisons"]]


def save(file: Path, comparisons: Iterable[Comparison]) -> None:
    """Add comparisons to a file; points that are there already are replaced."""
    held = {(each.table, each.title): each for each in (load(file) if file.exists() else [])}
    for each in comparisons:
        known = held.setdefault((each.table, each.title), each)
        points = {**known.points, **each.points}
        order = sorted(points, key=int) if all(map(str.isdecimal, points)) else list(points)
        held[each.table, each.title] = Comparison(**{**asdict(each), "points": {point: points[point] for point in order}})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine(), "comparisons": [asdict(each) for each in held.values()]}, indent=1) + "\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return what every benchmark understands."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="a file that the figures are added to")
    made.add_argument("--short", action="store_true", help="one round, and small sizes")
    made.add_argument("--by", choices=SECOND, default="clock", help="whose seconds count")
    return made


def report(given: argparse.Namespace, comparisons: Iterable[Comparison]) -> None:
    """Print the tables, and add the figures to the file if one is given."""
    comparisons = list(comparisons)
    for name, lines in tables(comparisons).items():
        print(f"\n{name}\n", *lines, sep="\n", flush=True)
    if given.json:
        save(given.json, comparisons)
