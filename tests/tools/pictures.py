# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the pictures of the documentation: python tests/tools/pictures.py writes docs/pictures/*.svg, which are committed.

GitHub and Galaxy show the files as they are, so each stands alone: no script, no font and no image from elsewhere. A picture is 400 units wide, so that
its text is still readable on a telephone. A text that may be wider than its place is an error, since nobody knows the reader's font.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDTH = 400
SHOWN = 520  # how wide a large screen shows it, in pixels
SIZE, SMALL = 14, 13  # of text; 358 pixels are left for a picture on a screen of 390
LEADING = 18
ROUND = 8

# Texts are ink, soft, yes and no; they stand on paper, cell and plain. Lines are link, yes and no.
LIGHT = {
    "paper": "#f6f8fa",
    "edge": "#d0d7de",
    "plain": "#ffffff",
    "cell": "#ddf4ff",
    "ink": "#1f2328",
    "soft": "#4d5660",
    "link": "#0969da",
    "yes": "#116329",
    "no": "#b31d28",
}
DARK = {
    "paper": "#161b22",
    "edge": "#3d444d",
    "plain": "#0d1117",
    "cell": "#0f2a47",
    "ink": "#e6edf3",
    "soft": "#a9b4bf",
    "link": "#58a6ff",
    "yes": "#56d364",
    "no": "#ff8a80",
}

STYLE = f"""\
text {{ font: {SIZE}px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: var(--ink) }}
.bold {{ font-weight: 600 }}
.soft {{ font-size: {SMALL}px; fill: var(--soft) }}
.yes {{ font-size: {SMALL}px; fill: var(--yes) }}
.no {{ font-size: {SMALL}px; fill: var(--no) }}
.paper {{ fill: var(--paper); stroke: var(--edge) }}
.plain {{ fill: var(--plain); stroke: var(--soft) }}
.cell {{ fill: var(--cell); stroke: var(--link); stroke-width: 1.5 }}
.stop {{ fill: var(--plain); stroke: var(--no); stroke-width: 1.5; stroke-dasharray: 5 3 }}
path {{ fill: none; stroke-width: 2.5; stroke-linejoin: round }}
.tube {{ stroke: var(--link); stroke-width: 14 }}
.bore {{ stroke: var(--cell); stroke-width: 11 }}
.way {{ stroke: var(--yes) }}
.use {{ stroke: var(--link) }}
.next {{ stroke: var(--soft) }}
.refused {{ stroke: var(--no); stroke-dasharray: 6 4 }}
.cross {{ stroke: var(--no); stroke-width: 3.5 }}
.wall {{ stroke: var(--soft); stroke-width: 6 }}
.tip-way {{ fill: var(--yes) }}
.tip-use {{ fill: var(--link) }}
.tip-next {{ fill: var(--soft) }}
"""

# How wide letters are in DejaVu Sans, the widest of the fonts that a reader may have, as a share of the size.
_WIDTHS = {"ijl'": 0.28, "I": 0.3, " .,|": 0.32, ":;f-": 0.36, "t()r": 0.41, "skzcxyv/": 0.6, "mM@": 0.98, "w": 0.82, "W": 0.99, "\N{RIGHTWARDS ARROW}": 0.84}
_BOLD = 1.12

Point = tuple[float, float]


class DoesNotFit(Exception):
    """A text that may be wider than its place."""


def wide(text: str, style: str = "") -> float:
    """Return how wide a text may become."""
    size = SIZE if style in ("", "bold") else SMALL
    shares = (next((share for letters, share in _WIDTHS.items() if letter in letters), 0.69 if letter.isupper() else 0.64) for letter in text)
    return sum(shares) * size * (_BOLD if style == "bold" else 1)


@dataclass
class Picture:
    """What is drawn, from the back to the front."""

    name: str
    height: int
    title: str
    said: str  # for those who do not see it
    parts: list[str] = field(default_factory=list)
    drawn_by: str = "tests/tools/pictures.py"

    def text(self, x: float, y: float, text: str, style: str = "", *, room: float, anchor: str = "start") -> None:
        """Write one line. room: how wide it may be."""
        if wide(text, style) > room:
            raise DoesNotFit(f"{self.name}: {text!r} may be {wide(text, style):.0f} wide, and has {room:.0f}")
        named = f' class="{style}"' if style else ""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{named}{where}>{escape(text, quote=False)}</text>')

    def lines(self, x: float, y: float, *texts: tuple[str, str], room: float, anchor: str = "start") -> None:
        """Write lines below each other, each with its style."""
        for number, (text, style) in enumerate(texts):
            self.text(x, y + number * LEADING, text, style, room=room, anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, kind: str, *texts: tuple[str, str], left: bool = False) -> None:
        """Draw a box with lines of text, in its middle or from its left."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{ROUND}" class="{kind}"/>')
        if len(texts) * LEADING > height:
            raise DoesNotFit(f"{self.name}: {len(texts)} lines are higher than {height:g}")
        first = y + height / 2 - (len(texts) - 1) * LEADING / 2 + SIZE * 0.35
        self.lines(x + 12 if left else x + width / 2, first, *texts, room=width - (24 if left else 12), anchor="start" if left else "middle")

    def path(self, kind: str, *points: Point) -> None:
        """Draw a line through points."""
        self.parts.append(f'<path class="{kind}" d="M{" L".join(f"{x:g} {y:g}" for x, y in points)}"/>')

    def link(self, *points: Point) -> None:
        """Draw a tunnel."""
        self.path("tube", *points)
        self.path("bore", *points)

    def arrow(self, kind: str, *points: Point) -> None:
        """Draw what passes; it ends with a tip. Lines are upright or level."""
        (x, y), (before_x, before_y) = points[-1], points[-2]
        along = ((x > before_x) - (x < before_x), (y > before_y) - (y < before_y))
        back = (x - 9 * along[0], y - 9 * along[1])
        side = (5 * along[1], 5 * along[0])
        self.path(kind, *points[:-1], back)
        corners = ((x, y), (back[0] + side[0], back[1] + side[1]), (back[0] - side[0], back[1] - side[1]))
        self.parts.append(f'<polygon class="tip-{kind}" points="{" ".join(f"{a:g},{b:g}" for a, b in corners)}"/>')

    def cross(self, x: float, y: float, size: float = 7) -> None:
        """Draw where nothing passes."""
        self.path("cross", (x - size, y - size), (x + size, y + size))
        self.path("cross", (x - size, y + size), (x + size, y - size))

    def render(self, *colours: dict[str, str]) -> str:
        """Return the file: in one set of colours, or in the first on a light page and the second on a dark one."""
        light, *dark = (f"svg {{ {'; '.join(f'--{name}: {value}' for name, value in each.items())} }}\n" for each in colours)
        adapts = f"@media (prefers-color-scheme: dark) {{ {dark[0].strip()} }}\n" if dark else ""
        size = f'width="{SHOWN}" height="{round(self.height * SHOWN / WIDTH)}"'
        # REUSE-IgnoreStart
        return "\n".join(
            (
                "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
                f"<!-- Drawn by {self.drawn_by}. -->",
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" {size} role="img" aria-labelledby="title desc">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="desc">{escape(self.said)}</desc>',
                f"<style>\n{light}{adapts}{STYLE}</style>",
                f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="{ROUND}" class="paper"/>',
                *self.parts,
                "</svg>\n",
            )
        )
        # REUSE-IgnoreEnd


def overview() -> Picture:
    """Draw cells, what they share, and an exit."""
    p = Picture(
        "overview",
        440,
        "Three cells, what they share, and a phone that leaves through another cell",
        "A phone of cella sends all its internet traffic through cella and the link to cellb, and the internet sees the address of cellb. "
        "The way out by cella itself is refused. A laptop of cellc reaches the service files of cella over another link, and nothing else there.",
    )
    p.link((136, 138), (264, 138))
    p.link((112, 170), (112, 292), (264, 292))
    p.path("refused", (44, 170), (44, 376))
    p.cross(44, 330)
    p.box(16, 16, 120, 36, "plain", ("your phone", "bold"))
    p.box(264, 16, 120, 36, "plain", ("a laptop", "bold"))
    p.box(16, 92, 120, 78, "cell", ("cella", "bold"), ("service: files", "soft"))
    p.box(264, 92, 120, 78, "cell", ("cellc", "bold"), ("of a friend", "soft"))
    p.box(264, 256, 120, 72, "cell", ("cellb", "bold"), ("the exit", "soft"))
    p.box(16, 376, 368, 48, "plain", ("the internet", "bold"), ("sees the address of cellb", "yes"))
    p.arrow("way", (112, 52), (112, 92))
    p.arrow("way", (112, 170), (112, 292), (264, 292))
    p.arrow("way", (324, 328), (324, 376))
    p.arrow("use", (324, 52), (324, 92))
    p.arrow("use", (264, 138), (136, 138))
    p.lines(200, 104, ("reaches files,", "soft"), room=120, anchor="middle")
    p.lines(200, 168, ("nothing else", "soft"), room=120, anchor="middle")
    p.lines(130, 232, ("its internet traffic leaves", "yes"), ("through a link and an exit", "yes"), room=250)
    p.lines(62, 326, ("never out by its own cell,", "no"), ("whatever happens to the link", "no"), room=196)
    return p


def way() -> Picture:
    """Draw what becomes of a packet of a routed device."""
    p = Picture(
        "way",
        660,
        "The way of a packet of a routed phone",
        "The cell checks in this order. First: is it for a near network, that is its own cell, the LAN or a linked cell? Then it goes there. "
        "Second: the table of its exit leads it into the link to cellb; without the link it is unreachable. Third: unreachable, even if that table is empty. "
        "The firewall drops it at cella's uplink, even if all these rules are deleted. The exit takes packets from cella's networks only, "
        "to the internet only, and the internet sees the address of cellb.",
    )
    p.box(16, 88, 368, 372, "cell")
    p.link((344, 460), (344, 506))
    p.path("refused", (36, 460), (36, 600))
    p.cross(36, 500)
    p.lines(54, 500, ("never by", "no"), ("the uplink", "no"), ("of cella", "no"), room=92)
    p.box(120, 16, 160, 36, "plain", ("a routed phone", "bold"))
    p.arrow("next", (200, 52), (200, 88))
    p.text(28, 112, "cella", "bold", room=60)
    p.text(372, 112, "checks in this order", "soft", room=150, anchor="end")
    p.box(28, 124, 250, 52, "plain", ("1. Is it for a near network?", "bold"), ("own cell, LAN, linked cells", "soft"), left=True)
    p.arrow("way", (278, 150), (304, 150))
    p.text(308, 155, "delivered", "yes", room=70)
    p.arrow("next", (150, 176), (150, 198))
    p.box(28, 198, 250, 72, "plain", ("2. The table of its exit", "bold"), ("into the link to cellb,", "yes"), ("without it: unreachable", "no"), left=True)
    p.arrow("way", (278, 234), (344, 234), (344, 506))
    p.cross(300, 258)
    p.arrow("next", (150, 270), (150, 292))
    p.box(28, 292, 250, 52, "plain", ("3. Unreachable", "bold"), ("even if that table is empty", "no"), left=True)
    p.cross(300, 318)
    p.arrow("next", (150, 344), (150, 374))
    p.text(162, 364, "all rules deleted", "soft", room=140)
    p.box(28, 374, 250, 72, "plain", ("The firewall", "bold"), ("drops it at the uplink,", "no"), ("whatever the rules say", "no"), left=True)
    p.cross(300, 410)
    p.text(330, 488, "link", "soft", room=40, anchor="end")
    p.box(150, 506, 234, 72, "cell", ("cellb, the exit", "bold"), ("from networks of cella only,", "soft"), ("to the internet only", "soft"))
    p.arrow("way", (344, 578), (344, 600))
    p.box(16, 600, 368, 48, "plain", ("the internet", "bold"), ("sees the address of cellb", "yes"))
    return p


def link() -> Picture:
    """Draw what a link lets through."""
    p = Picture(
        "link",
        444,
        "What a link lets through",
        "From the other cell passes: a device to a service that is shared; a device to the internet if an exit is offered, by the uplink only; "
        "the cell itself to the sync port, from its own address only; and answers to what devices of this cell have asked. All else is dropped, "
        "and anything new from addresses that are not its own.",
    )
    rows = (
        (("a device,", "to a shared service"), ("if it is shared", "address and port")),
        (("a device,", "to the internet"), ("if offered an exit", "by the uplink only")),
        (("the cell itself,", "to the sync port"), ("always", "from its address")),
        (("answers to what", "this cell has asked"), ("always", "to who has asked")),
        (("a device or the cell,", "to anything else"), ("dropped",)),
        (("anything new, from", "others' addresses"), ("dropped",)),
    )
    p.box(16, 16, 150, 36, "cell", ("the other cell", "bold"))
    p.box(234, 16, 150, 36, "cell", ("this cell", "bold"))
    top = 68
    for number, (sent, result) in enumerate(rows):
        y = 96 + number * 60
        passes = result != ("dropped",)
        p.lines(16, y - 4, *((text, "") for text in sent), room=154)
        if passes:
            p.path("wall", (200, top), (200, y - 11))
            p.arrow("way", (172, y), (230, y))
            top = y + 11
            p.lines(240, y - 4, (result[0], "yes"), (result[1], "soft"), room=146)
        else:
            p.path("refused", (172, y), (190, y))
            p.text(240, y + 5, result[0], "no", room=146)
    p.path("wall", (200, top), (200, 428))
    for number, (_sent, result) in enumerate(rows):
        if result == ("dropped",):
            p.cross(190, 96 + number * 60)
    return p


def push() -> Picture:
    """Draw what a cell can change at another by telling it something."""
    p = Picture(
        "push",
        444,
        "What cellb can change at cella by telling it something",
        "Cella accepts a push only if it comes through the link from cellb, has cellb's key and a valid signature, and is newer than the last one. "
        "What cellb shares with cella becomes what cella's devices may use there; whether it offers an exit, becomes that; whether it uses cella as exit "
        "is taken over while cella offers one. A push never changes what cella shares or offers, nor a key, a network, an endpoint or a route.",
    )
    rows = (
        (("what it shares", "with cella"), ("what cella's devices", "may use there")),
        (("whether it offers", "cella an exit"), ("an exit is offered,", "or no longer")),
        (("whether it uses", "cella as exit"), ("is relayed while", "cella offers it")),
    )
    p.box(
        16,
        16,
        368,
        90,
        "plain",
        ("cella accepts a push only if", "bold"),
        ("it comes through the link from cellb,", "soft"),
        ("has cellb's key and a valid signature,", "soft"),
        ("and is newer than the last one", "soft"),
    )
    p.box(16, 122, 168, 36, "cell", ("cellb tells", "bold"))
    p.arrow("way", (184, 140), (216, 140))
    p.box(216, 122, 168, 36, "cell", ("cella writes down", "bold"))
    for number, (told, becomes) in enumerate(rows):
        y = 174 + number * 62
        p.box(16, y, 168, 50, "plain", *((text, "") for text in told))
        p.arrow("way", (184, y + 25), (216, y + 25))
        p.box(216, y, 168, 50, "plain", *((text, "") for text in becomes))
    p.box(16, 362, 368, 66, "stop", ("Never:", "bold"), ("what cella shares or offers itself,", "no"), ("a key, a network, an endpoint, a route", "no"))
    return p


def boot() -> Picture:
    """Draw how a cell comes back, and stays."""
    p = Picture(
        "boot",
        406,
        "How a cell starts, and how it is repaired",
        "First pic-cell-guard keeps routed devices off the internet; if that fails, WireGuard does not start. Then the devices' interface and the links start. "
        "Then pic-cell-restore puts back what is still missing. It does so again when something of the cell is taken away, when other firewall software "
        "starts or reloads, and every minute.",
    )
    p.box(16, 16, 340, 56, "plain", ("1. pic-cell-guard", "bold"), ("keeps routed devices off the internet", "soft"), left=True)
    p.arrow("next", (40, 72), (40, 116))
    p.cross(66, 94)
    p.text(84, 99, "if it fails, WireGuard does not start", "no", room=300)
    p.box(16, 116, 340, 56, "plain", ("2. wg-quick", "bold"), ("starts the devices' interface and the links", "soft"), left=True)
    p.arrow("next", (40, 172), (40, 208))
    p.box(16, 208, 340, 56, "cell", ("3. pic-cell-restore", "bold"), ("puts back whatever is missing", "soft"), left=True)
    p.arrow("next", (40, 264), (40, 300))
    p.text(56, 287, "the cell runs", "soft", room=200)
    p.box(
        16,
        300,
        340,
        90,
        "plain",
        ("Again, from the cell's own records", "bold"),
        ("as soon as something is taken away,", "soft"),
        ("when other firewall software starts or", "soft"),
        ("reloads, and every minute", "soft"),
        left=True,
    )
    p.arrow("use", (356, 345), (378, 345), (378, 236), (356, 236))
    return p


PICTURES = (overview, way, link, push, boot)


def files() -> dict[str, str]:
    """Return all pictures by the name of their file."""
    drawn = {picture.name: picture for picture in (draw() for draw in PICTURES)}
    found = {f"{name}.svg": picture.render(LIGHT, DARK) for name, picture in drawn.items()}
    # a README is shown by sites that have a theme of their own, whatever the reader's system says
    return {**found, "overview-light.svg": drawn["overview"].render(LIGHT), "overview-dark.svg": drawn["overview"].render(DARK)}


def main() -> None:
    """Write the files."""
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
