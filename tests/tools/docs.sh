#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the documentation site; a warning is an error. It needs no internet. The environment is the Makefile's; the argument is the folder.
set -euo pipefail

site=$1
pages=.build/pages

rm -rf "$pages" "$site"
# antsibull-docs writes into no folder that others may write to
umask 022
mkdir -p "$pages/reference"
cp -r docs/*.md docs/conf.py docs/icon.svg docs/site.css docs/grafana.json docs/pictures "$pages"
antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir "$pages/reference" pic.cells
# Options come by their names there: the internal one, which is long, goes behind those that are for everybody.
# The theme has a table of contents of its own, and prints an error on a page with another one.
python - "$pages"/reference/*.rst <<'END'
import pathlib, re, sys

for page in map(pathlib.Path, sys.argv[1:]):
    before, begin, rest = page.read_text().partition("\n.. Options\n")
    options, end, after = rest.partition("\n.. Attributes\n")
    head, *rows = options.split("\n  * - .. raw:: html\n")
    rows.sort(key=lambda row: 'id="parameter-run"' in row or 'id="parameter-run/' in row)
    before = re.sub(r"^\.\. contents::\n(   :.*\n)*", "", before, flags=re.MULTILINE)
    page.write_text(before + begin + "\n  * - .. raw:: html\n".join([head, *rows]) + end + after)
END
sphinx-build --quiet --fail-on-warning --keep-going --builder html --jobs 2 "$pages" "$site"
