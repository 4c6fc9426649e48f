#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes an environment with what the unit tests need and an ansible-core; says where it is. Arguments: the Python, and the version of ansible-core
# (2.18, devel); without it, the newest that this Python takes.
set -euo pipefail

python=$1 core=${2:-}
case $core in
    "") asked=ansible-core ;;
    devel) asked=https://github.com/ansible/ansible/archive/devel.tar.gz ;;
    *) asked="ansible-core==$core.*" ;;
esac

venv=$PWD/.build/cores/${python##*/}${core:+-$core}
test -x "$venv/bin/pip" || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/unit/requirements.txt "$asked" >&2
echo "$venv"
