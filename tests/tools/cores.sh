#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs the unit tests on each Python of this machine, with the newest ansible-core that it takes: what cells run has to work from Python 3.9 on,
# what the controller runs from ansible-core 2.17 on. With the newest Python sanity and one scenario follow.
set -euo pipefail

mapfile -t pythons < <(tests/tools/pythons.sh)
failed=()
for python in "${pythons[@]}"; do
    venv=$(tests/tools/core.sh "$python")
    core="${python##*/}, ansible-core $("$venv/bin/python" -c 'from ansible.release import __version__; print(__version__)')"
    echo "--- unit tests: $core"
    PATH=$venv/bin:$PATH pytest -n auto || failed+=("unit tests: $core")
done

echo "--- sanity and the scenario exit_relay: $core"
make --no-print-directory PYTHON="${pythons[-1]}" sanity molecule SCENARIO=exit_relay || failed+=("sanity or exit_relay: $core")

if [ ${#failed[@]} -gt 0 ]; then
    printf 'Failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
