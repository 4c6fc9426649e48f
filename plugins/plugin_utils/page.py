# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of pic.cells.status as one HTML page that loads nothing: no script, no font, no picture of elsewhere."""

from __future__ import annotations

from typing import Any

from ansible_collections.pic.cells.plugins.plugin_utils.diagram import diagram, legend, text
from ansible_collections.pic.cells.plugins.plugin_utils.overview import CELL, COLUMNS, IDLE, QUIET, UP, WAITING, Overview, counted, words
from ansible_collections.pic.cells.plugins.plugin_utils.page_file import MARK

# Nothing is loaded and nothing runs, whatever a cell has put into a name.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STATES = (
    (UP, "up: a handshake within 3 minutes"),
    (IDLE, "idle: no handshake for longer, and no keepalives that would make one"),
    (QUIET, "silent: no handshake for longer than 3 minutes"),
    (WAITING, "pending: an end waits for a key or networks, or has not been told the latest"),
)
# Each text and each line that means something has at least the contrast of WCAG AA with what is behind it (4.5 and 3 to 1).
COLOURS = {
    "light": {
        "page": "#ffffff",
        "text": "#1b1f24",
        "faint": "#57606a",
        "line": "#7d8590",
        "row": "#f3f5f7",
        "up": "#116b35",
        "idle": "#57606a",
        "silent": "#b42318",
        "pending": "#8a5300",
    },
    "dark": {
        "page": "#14181d",
        "text": "#e8ebee",
        "faint": "#a9b3bd",
        "line": "#828c97",
        "row": "#1e242b",
        "up": "#4fc47a",
        "idle": "#a9b3bd",
        "silent": "#ff8b7e",
        "pending": "#f0b35a",
    },
}
_STYLE = """
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 78rem; padding: 1rem; background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.6rem } h2 { margin: 2rem 0 .5rem; font-size: 1.2rem }
p { margin: .25rem 0 } .faint { color: var(--faint) }
.scroll { overflow-x: auto } .scroll:focus-visible { outline: 3px solid var(--line); outline-offset: 2px }
table { border-collapse: collapse; min-width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .4rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th { white-space: nowrap } tbody tr:nth-child(even) { background: var(--row) }
td.wide { min-width: 16rem } data { white-space: nowrap }
.up, .yes { color: var(--up) } .idle { color: var(--idle) } .silent, .no, .drift, .expectation, .unread { color: var(--silent) }
.pending, .warning { color: var(--pending) }
.state::before { content: "\\25CF\\00A0" } .idle.state::before { content: "\\25CB\\00A0" }
.silent.state::before { content: "\\25B2\\00A0" } .pending.state::before { content: "\\25C6\\00A0" }
svg { display: block; width: 100%; min-width: 32rem; height: auto; max-height: 34rem }
.link { stroke: currentColor; stroke-width: 3 }
.link.idle { stroke-width: 1.5 } .link.silent { stroke-dasharray: 12 7 } .link.pending { stroke-dasharray: 3 6 }
.node rect { fill: var(--row); stroke: var(--text); stroke-width: 2 } .node.others rect { stroke-dasharray: 5 4 } .node.provided rect { stroke-width: 4 }
.node text { fill: var(--text); font: 14px ui-monospace, monospace; text-anchor: middle }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: .5rem 0; padding: 0; list-style: none; color: var(--faint); font-size: .9rem }
.legend li { display: flex; align-items: center; gap: .5rem } .legend svg { width: 44px; min-width: 0; flex: none }
"""
_CLASSES = {"state": "state", "kind": "kind"}
_WIDE = {"way", "what", "remedy", "pending", "line", "why"}
_BYTES = {"received", "sent"}


def page(found: Overview, made: str) -> str:
    """Return the page. made: when the cells were read, in words."""
    sections = [
        _section(
            "What is not as it should be", _table("findings", found) if found.findings else "<p>Nothing. Every cell was read, and is as its records say.</p>"
        ),
        _section("Cells and links", _scrolled("diagram", diagram(found)) + legend(_STATES)),
        _section("Links, by each end", _table("links", found) if found.links else "<p>There are no links.</p>"),
        _section("Who may reach what", _reach(found)),
        _section("Devices and their exits", _table("devices", found) if found.devices else "<p>There are no devices.</p>"),
        *([_section("What is expected", _table("expectations", found))] if found.expectations else []),
    ]
    head = "".join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            MARK,
            "<title>Cells</title>",
            f"<style>{_variables('light')}\n@media (prefers-color-scheme: dark) {{ {_variables('dark')} }}{_STYLE}</style>",
        ]
    )
    top = f'<header><h1>Cells</h1><p>{text(counted(found))}</p><p class="faint">Read {text(made)}</p></header>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{top}\n<main>{"".join(sections)}</main></body></html>\n'


def _variables(theme: str) -> str:
    return f":root {{ {'; '.join(f'--{name}: {colour}' for name, colour in COLOURS[theme].items())} }}"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>{content}</section>\n"


def _table(name: str, found: Overview) -> str:
    columns = COLUMNS[name]
    rows = [[_cell(field, getattr(row, field)) for field in columns.values()] for row in getattr(found, name)]
    return _tabular(name, [f'<th scope="col">{text(heading)}</th>' for heading in columns], rows)


def _cell(field: str, value: Any) -> str:
    said = text(words(field, value))
    if field in _BYTES:
        return f'<td><data value="{value}">{text(in_units(value))}</data></td>'
    if field in _CLASSES:
        return f'<td><span class="{_CLASSES[field]} {said}">{said}</span></td>'
    if field in ("has_internet", "holds"):
        return f'<td><span class="{said}">{said}</span></td>'
    return f'<td class="wide">{said}</td>' if field in _WIDE else f"<td>{said}</td>"


def _reach(found: Overview) -> str:
    """Return who may reach which service: each cell, with its devices, and each service that is shared with anybody."""
    allowed = {(link.other, f"{name}@{link.cell}") for link in found.links for name in link.shares}
    # What a cell that was not read says it shares is known from the other end.
    allowed |= {(link.cell, f"{name}@{link.other}") for link in found.links for name in link.may_use}
    services = sorted({service for _cell_name, service in allowed}, key=lambda service: service.split("@")[::-1])
    who = sorted({*found.cells, *(link.other for link in found.links if link.kind == CELL)})
    if not services:
        return "<p>Nothing is shared.</p>"
    rows = [[f'<th scope="row">{text(cell)}</th>', *(_mark(cell, service, (cell, service) in allowed) for service in services)] for cell in who]
    heads = ['<th scope="col">cell and its devices</th>', *(f'<th scope="col">{text(service)}</th>' for service in services)]
    return _tabular("reach", heads, rows)


def _mark(cell: str, service: str, allowed: bool) -> str:
    if service.endswith(f"@{cell}"):
        return '<td class="faint">own</td>'
    return '<td><span class="yes">yes</span></td>' if allowed else '<td class="faint">no</td>'


def _tabular(name: str, heads: list[str], rows: list[list[str]]) -> str:
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in rows)
    return _scrolled(name, f'<table id="{name}"><thead><tr>{"".join(heads)}</tr></thead><tbody>\n{body}</tbody></table>')


def _scrolled(name: str, content: str) -> str:
    """Return what can be wider than the window, so that the keyboard can scroll it too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{content}</div>'


def in_units(count: int) -> str:
    """Return a number of bytes in units that a person reads."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
