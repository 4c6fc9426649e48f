#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs ansible-test sanity. It wants a git tree in a folder ansible_collections/pic/cells, so it gets a copy. Arguments are passed on to it.
# Without any, these are all tests with this Python. Of the others the oldest and the newest one import everything, and at length (PIC_AT_LENGTH) each.
set -euo pipefail

build=$PWD/.build/sanity
copy=$build/ansible_collections/pic/cells

# its downloads and environments stay between runs, in tests/output and the home below
mkdir -p "$copy/tests/output" "$build/home"
find "$copy" -mindepth 1 -maxdepth 1 ! -name tests -exec rm -rf {} +
find "$copy/tests" -mindepth 1 -maxdepth 1 ! -name output -exec rm -rf {} +
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory="$copy"
git -C "$copy" init --quiet
git -C "$copy" add --all

# pyenv finds its versions by HOME
supported=$(python -c 'from ansible_test._internal.constants import SUPPORTED_PYTHON_VERSIONS; print("|".join(SUPPORTED_PYTHON_VERSIONS))')
mapfile -t pythons < <(tests/tools/pythons.sh | grep -oE "[0-9.]+\$" | grep -xE "$supported")

# a shim of pyenv fails for each version that is not chosen, the interpreters themselves do not
if command -v pyenv >/dev/null; then
    PATH=$(dirname "$(command -v ansible-test)"):$(printf '%s:' "$(pyenv root)"/versions/*/bin)$PATH
fi

# ansible-test passes HOME on and no other setting of pip
for settings in .config/pip .pip; do
    if [ -e "$HOME/$settings" ]; then
        mkdir -p "$(dirname "$build/home/$settings")"
        ln -sfn "$HOME/$settings" "$build/home/$settings"
    fi
done
export HOME=$build/home

# ansible-test begins every environment with a download from this one address, and takes a file in its cache instead
version=$(python -c '
from types import SimpleNamespace
from ansible_test._internal.python_requirements import get_venv_packages
print(get_venv_packages(SimpleNamespace(version=""))["pip"])')
cache=$HOME/.ansible/test/cache
get_pip=$cache/get_pip_${version//./_}.py
if [ ! -e "$get_pip" ] && ! python -c "import urllib.request as r; r.urlopen('https://ci-files.testing.ansible.com/ansible-test/get-pip-$version.py', timeout=10)" 2>/dev/null; then
    echo "ansible-test's get-pip script is out of reach, pip's wheel serves instead"
    mkdir -p "$cache"
    pip download --quiet --disable-pip-version-check --no-deps --dest "$cache" "pip==$version"
    cp tests/tools/get_pip.py "$get_pip"
fi

cd "$copy"
sanity() {
    ansible-test sanity --local --color no "$@"
}
if [ $# -gt 0 ] || [ -n "${PIC_AT_LENGTH:-}" ]; then
    sanity "$@"
    exit
fi
own=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for python in "${pythons[0]}" "${pythons[-1]}"; do
    if [ "$python" != "$own" ]; then
        sanity --python "$python" --test compile --test import
    fi
done
sanity --python "$own"
