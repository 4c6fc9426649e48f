# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of the documentation: they are what their source draws, and can be read on a telephone, in both themes, with any font, or aloud."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from ansible_collections.pic.cells.tests.benchmarks import plot
from ansible_collections.pic.cells.tests.lab.pages import PAGES
from ansible_collections.pic.cells.tests.tools import pictures

SVG = "{http://www.w3.org/2000/svg}"
FILES = pictures.files()
NAMES = sorted(FILES)
THEMES = [pytest.param(pictures.LIGHT, id="light"), pytest.param(pictures.DARK, id="dark")]
Box = tuple[float, float, float, float]


def luminance(colour: str) -> float:
    """Return how light a colour is, as WCAG 2 has it."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG 2 has it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def extents(svg: str) -> dict[str, Box]:
    """Return where each line of text is: left, top, right and bottom, at its widest."""
    found = {}
    for text in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        width = pictures.wide(text.text, text.get("class", ""))
        left = float(text.get("x")) - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "start")]
        bottom = float(text.get("y")) + 3
        found[f"{text.text} ({text.get('x')}, {text.get('y')})"] = (left, bottom - pictures.SIZE, left + width, bottom)
    return found


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_the_pictures_are_what_their_source_draws():
    committed = {path.name: path.read_text() for path in pictures.FOLDER.iterdir() if not path.name.startswith(plot.PREFIX)}
    assert committed == FILES, "run python tests/tools/pictures.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_stands_alone_and_can_be_read_aloud(name: str):
    svg = ElementTree.fromstring(FILES[name])
    assert {element.tag.removeprefix(SVG) for element in svg.iter()} <= {"svg", "title", "desc", "style", "rect", "path", "polygon", "text"}
    assert not re.search(r"url\(|@import|@font-face|href", FILES[name])
    assert svg.get("role") == "img"
    labels = [svg.find(f"{SVG}{tag}") for tag in ("title", "desc")]
    assert [label.get("id") for label in labels] == svg.get("aria-labelledby").split()
    assert all(label.text for label in labels)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_leaves_its_picture_or_meets_another(name: str):
    found = extents(FILES[name])
    height = float(ElementTree.fromstring(FILES[name]).get("viewBox").split()[3])
    assert [text for text, (left, top, right, bottom) in found.items() if left < 4 or right > pictures.WIDTH - 4 or top < 4 or bottom > height - 4] == []
    assert [(one, other) for one, other in combinations(found, 2) if overlap(found[one], found[other])] == []


def test_a_text_that_may_be_too_wide_for_its_place_is_refused():
    picture = pictures.Picture("p", 100, "title", "said")
    picture.box(0, 0, 100, 50, "cell", ("fits", ""))
    with pytest.raises(pictures.DoesNotFit, match="p: 'does not fit in here' may be"):
        picture.box(0, 0, 100, 50, "cell", ("does not fit in here", ""))
    with pytest.raises(pictures.DoesNotFit, match="3 lines are higher than 50"):
        picture.box(0, 0, 100, 50, "cell", *[("line", "")] * 3)


def test_text_is_large_enough_on_a_telephone():
    assert min(pictures.SIZE, pictures.SMALL) * 358 / pictures.WIDTH > 11


@pytest.mark.parametrize("colours", THEMES)
def test_text_and_lines_stand_out(colours: dict[str, str]):
    grounds = ("paper", "plain", "cell")
    assert {(text, ground) for text in ("ink", "soft", "yes", "no") for ground in grounds if contrast(colours[text], colours[ground]) < 4.5} == set()
    assert {(line, ground) for line in ("link", "yes", "no", "soft") for ground in grounds if contrast(colours[line], colours[ground]) < 3} == set()


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_each_picture_is_shown_by_a_page_with_words_in_its_place():
    pages = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"pictures/([\w-]+\.svg)", pages)) == {path.name for path in pictures.FOLDER.iterdir()}
    assert re.findall(r"!\[.{0,30}\]\(\S*|<img(?![^>]* alt=\"[^\"]{30})[^>]*", pages) == []
