#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs every linter, also after one has failed. The environment is the Makefile's; the argument is the collection's artifact.
set -euo pipefail

artifact=$1
failed=()

check() {
    echo "--- $*"
    "$@" || failed+=("$1")
}

importer() {
    # its exit code is 0 whatever it finds, and where it breaks off it names no error
    mkdir -p .build/importer
    (cd .build/importer && GALAXY_IMPORTER_RUN_ANSIBLE_TEST=false python -m galaxy_importer.main "$artifact") | tee .build/importer/log
    grep -qx 'Importer processing completed successfully' .build/importer/log && ! grep -qE '^(ERROR|WARNING|CRITICAL)' .build/importer/log
}

check ruff check
check ruff format --check
check mypy
check shellcheck .ci/run tests/tools/*.sh
check ansible-lint
check antsibull-docs lint-collection-docs --plugin-docs .
check antsibull-changelog lint
check reuse lint --lines
check check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
check importer

if [ ${#failed[@]} -gt 0 ]; then
    echo "Failed: ${failed[*]}" >&2
    exit 1
fi
