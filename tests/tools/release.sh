#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes this tree that of a release: the version wherever it is named, and of the fragments the release notes. The argument is the version.
set -euo pipefail

version=$1
if [[ ! $version =~ ^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$ ]]; then
    echo "The version is to be three numbers, like 1.0.0 (semver.org), and is '$version'." >&2
    exit 1
fi

# what has never been released is new in this release, whatever number it was meant for
planned=$(sed -n 's/^version: //p' galaxy.yml)
if ! grep -qxF "  $planned:" changelogs/changelog.yaml; then
    grep -rlZ "version_added: $planned" plugins roles | xargs -0 --no-run-if-empty sed -i "s/version_added: $planned\$/version_added: $version/"
fi
sed -i "s/^version: .*/version: $version/" galaxy.yml

antsibull-changelog release --version "$version"
antsibull-changelog lint
