#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes an environment with what the unit tests need and the newest ansible-core that the given Python takes; says where it is.
set -euo pipefail

venv=$PWD/.build/cores/${1##*/}
test -x "$venv/bin/pip" || "$1" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/unit/requirements.txt >&2
echo "$venv"
