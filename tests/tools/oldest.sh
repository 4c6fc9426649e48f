#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes an environment with the oldest ansible-core that the collection takes (meta/runtime.yml), for the tests that run playbooks with it. The argument
# is its folder. That version is made for Python 3.10 to 3.12; where there is none of these, python3 has to do.
set -euo pipefail

core=$(sed -nE 's/^requires_ansible: ">=([0-9]+\.[0-9]+)\..*/\1/p' meta/runtime.yml)
pythons=$(tests/tools/pythons.sh | sed -n '/python3\.1[0-2]$/p')
python=${pythons%%$'\n'*}
test -x "$1/bin/python" || "${python:-python3}" -m venv "$1"
"$1/bin/python" -m pip install --quiet --disable-pip-version-check "ansible-core==$core.*" --requirement <(grep -E '^(netaddr|segno)' tests/unit/requirements.txt)
