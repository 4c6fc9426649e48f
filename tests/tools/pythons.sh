#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Lists this machine's Pythons from 3.9 on that can make an environment, oldest first.
set -euo pipefail

# a shim of pyenv fails for each version that is not chosen, the interpreters themselves do not
if command -v pyenv >/dev/null; then
    PATH=$(printf '%s:' "$(pyenv root)"/versions/*/bin)$PATH
fi
for minor in {9..20}; do
    python=$(command -v "python3.$minor") || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python"
    fi
done
