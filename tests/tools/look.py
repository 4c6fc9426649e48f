# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens every page of the built documentation in a browser, at the width of a desk and of a telephone, light and dark, and says what is wrong.

A developer's tool, no part of the tests: after `make docs`, `pip install playwright`, and a browser (`apt-get install chromium`, or `playwright install`),
python tests/tools/look.py FOLDER looks at .build/docs and leaves a picture of each page in FOLDER.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).resolve().parents[2] / ".build" / "docs"
WIDTHS = (1280, 390)
THEMES = ("light", "dark")

# What is wider than its page or its box and does not scroll there, images that are not shown, and what Sphinx or the theme complains of.
FAULTS = """() => {
    const faults = [], page = document.scrollingElement, name = element => element.tagName.toLowerCase() + ' ' + (element.textContent || '').trim().slice(0, 60)
    if (page.scrollWidth > innerWidth) faults.push(`the page is ${page.scrollWidth} wide`)
    const flow = element => getComputedStyle(element).overflowX
    const scrolls = element => element.tagName != 'ARTICLE' && (['auto', 'scroll'].includes(flow(element)) || scrolls(element.parentElement))
    for (const element of document.querySelectorAll('article *')) {
        const right = element.getBoundingClientRect().right
        if (right > innerWidth + 1 && !scrolls(element.parentElement)) faults.push(`out of the page: ${name(element)}`)
        if (flow(element) == 'hidden' && element.scrollWidth > element.clientWidth + 1) faults.push(`cut off: ${name(element)}`)
        if (element.tagName == 'IMG' && !element.naturalWidth) faults.push(`not shown: ${element.src}`)
        if (element.tagName == 'IMG' && !element.alt) faults.push(`without words: ${element.src}`)
    }
    for (const element of document.querySelectorAll('article :is(.contents, .system-message, .problematic)')) faults.push(`an error: ${name(element)}`)
    return faults
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine alone, and give its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def look(browser: Browser, address: str, shots: Path) -> list[str]:
    """Return what is wrong with the pages."""
    found = []
    for theme in THEMES:
        for width in WIDTHS:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            said: list[str] = []
            page.on("console", lambda message, said=said: said.append(f"console: {message.text}") if message.type in ("error", "warning") else None)
            page.on("pageerror", lambda error, said=said: said.append(f"error: {error}"))
            page.on("requestfailed", lambda request, said=said: said.append(f"not loaded: {request.url}"))
            for path in sorted(SITE.rglob("*.html")):
                name = path.relative_to(SITE).with_suffix("")
                said.clear()
                page.goto(f"{address}/{name}.html", wait_until="load")
                found += [f"{name} at {width}, {theme}: {fault}" for fault in [*said, *page.evaluate(FAULTS)]]
                page.screenshot(path=shots / f"{str(name).replace('/', '-')}-{width}-{theme}.png", full_page=True)
            page.close()
    return found


def main() -> int:
    """Look at all pages; the exit code says whether something is wrong."""
    shots = Path(sys.argv[1])
    shots.mkdir(parents=True, exist_ok=True)
    with served(SITE) as address, sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found = look(browser, address, shots)
        browser.close()
    print("\n".join(found) or "nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
