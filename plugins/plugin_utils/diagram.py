# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cells and their links as an SVG drawing, for a page with the styles of page.py: a state shows by colour and by the kind of line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from ansible_collections.pic.cells.plugins.plugin_utils.outside import shown
from ansible_collections.pic.cells.plugins.plugin_utils.overview import PROVIDER, STATES, UNREAD, Overview

_WIDTH, _HEIGHT = 720, 440
_NODE_HEIGHT, _CHARACTER, _PADDING = 34, 8.5, 14
READ, OTHERS, PROVIDED = "read", "others", "provided"
_LONGEST = 2000
_CORNERS = {READ: 17, OTHERS: 0, PROVIDED: 6}
# What the legend says of each kind of node.
KINDS = {READ: "cell", OTHERS: "cell that was not read", PROVIDED: "exit of a provider"}


def text(value: object) -> str:
    """Return a text as HTML and SVG take it: without control characters, and as nothing but text."""
    return escape(shown(value, _LONGEST))


def diagram(found: Overview) -> str:
    """Return the drawing: the cells on an ellipse, a line for each link, in the worse state of its two ends."""
    kinds = _kinds(found)
    places = {name: _place(number, len(kinds)) for number, name in enumerate(kinds)}
    lines = [_line(places[one], places[other], f"{one} and {other}: {state}", state) for (one, other), state in _states(found).items()]
    nodes = [_node(place, name, kinds[name]) for name, place in places.items()]
    label = f"{len(kinds)} cells and exits of providers, and the {len(lines)} links between them"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(label)}">{"".join([*lines, *nodes])}</svg>'


def _kinds(found: Overview) -> dict[str, str]:
    """Return each node's kind by its name; that of a provider's exit is of its cell, since two cells can have exits of one name."""
    kinds = dict.fromkeys(found.cells, READ)
    for link in found.links:
        if link.kind == PROVIDER:
            kinds[_named(link.cell, link.other, link.kind)] = PROVIDED
        else:
            kinds.setdefault(link.other, OTHERS)
    for finding in found.findings:
        if finding.kind == UNREAD:
            kinds.setdefault(finding.cell, OTHERS)
    return kinds


def _named(cell: str, other: str, kind: str) -> str:
    return f"{other} of {cell}" if kind == PROVIDER else other


def _states(found: Overview) -> dict[tuple[str, str], str]:
    states: dict[tuple[str, str], str] = {}
    for link in found.links:
        one, other = sorted((link.cell, _named(link.cell, link.other, link.kind)))
        states[one, other] = max(states.get((one, other), link.state), link.state, key=STATES.index)
    return states


def _place(number: int, of: int) -> tuple[float, float]:
    if of == 1:
        return _WIDTH / 2, _HEIGHT / 2
    angle = 2 * math.pi * number / of - math.pi / 2
    return _WIDTH / 2 * (1 + 0.76 * math.cos(angle)), _HEIGHT / 2 * (1 + 0.84 * math.sin(angle))


def _line(start: tuple[float, float], end: tuple[float, float], title: str, state: str) -> str:
    ends = " ".join(f'{axis}{number}="{value:.1f}"' for number, point in ((1, start), (2, end)) for axis, value in zip("xy", point))
    return f'<line class="link {state}" {ends}><title>{text(title)}</title></line>'


def _node(place: tuple[float, float], name: str, kind: str) -> str:
    (x, y), width = place, len(name) * _CHARACTER + 2 * _PADDING
    box = f'<rect x="{x - width / 2:.1f}" y="{y - _NODE_HEIGHT / 2:.1f}" width="{width:.1f}" height="{_NODE_HEIGHT}" rx="{_CORNERS[kind]}"/>'
    return f'<g class="node {kind}">{box}<text x="{x:.1f}" y="{y + 5:.1f}">{text(name)}</text></g>'


def legend(words: Iterable[tuple[str, str]]) -> str:
    """Return what the lines and boxes mean. words: of each state, its name and what it means."""
    lines = [(f'<line class="link {state}" x1="2" y1="6" x2="42" y2="6"/>', 12, meaning) for state, meaning in words]
    boxes = [(f'<g class="node {kind}"><rect x="2" y="2" width="40" height="32" rx="{_CORNERS[kind]}"/></g>', 36, meaning) for kind, meaning in KINDS.items()]
    items = [f'<li><svg viewBox="0 0 44 {height}" aria-hidden="true">{shape}</svg>{text(meaning)}</li>' for shape, height, meaning in [*lines, *boxes]]
    return f'<ul class="legend">{"".join(items)}</ul>'
