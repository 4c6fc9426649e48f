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
cp docs/*.md docs/conf.py "$pages"
antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir "$pages/reference" pic.cells
sphinx-build --quiet --fail-on-warning --keep-going --builder html --jobs 2 "$pages" "$site"
