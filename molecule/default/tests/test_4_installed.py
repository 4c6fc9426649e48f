# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As users have it: the artifact in an empty home, with the oldest and the newest ansible-core that this machine can have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from playbooks import INVENTORY, PROJECT

OWN = "python{}.{}".format(*sys.version_info)
PYTHONS = {Path(path).name: path for path in subprocess.run(["tests/tools/pythons.sh"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split()}
OLDEST, NEWEST = "python3.10", list(PYTHONS)[-1]  # the oldest with ansible-core 2.17; our own is what the pages install the artifact with
# the ansible.posix of our own environment is older than the newest ansible-core
OF_OTHERS = ("'ansible.module_utils._text' is deprecated", "Deprecation warnings can be disabled")


@pytest.mark.parametrize("python", [*({NEWEST} & {*PYTHONS}), *(pytest.param(name, marks=pytest.mark.at_length) for name in {OLDEST} & {*PYTHONS} - {NEWEST})])
def test_the_artifact_installs_into_an_empty_home_and_runs_from_there(tmp_path, python):
    if python == OWN:
        venv = Path(sys.prefix)
    else:
        venv = Path(subprocess.run(["tests/tools/core.sh", PYTHONS[python]], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip())
    # ansible.posix is with the package ansible, which the small environments lack
    collections = f"{tmp_path}/.ansible/collections:{sysconfig.get_path('purelib')}"
    environment = {"HOME": str(tmp_path), "PATH": f"{venv}/bin:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": collections}

    def call(*argv: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), cwd=PROJECT)
    call("ansible-galaxy", "collection", "install", "--no-deps", *map(str, tmp_path.glob("*.tar.gz")))
    found = json.loads(call("ansible-galaxy", "collection", "list", "--format", "json", "pic.cells"))
    assert list(found) == [f"{tmp_path}/.ansible/collections/ansible_collections"]
    said = call("ansible-playbook", "-i", str(INVENTORY), "pic.cells.site")
    assert set(re.findall(r"^(cell\w) .* changed=(\d+)", said, re.M)) == {("cella", "0"), ("cellb", "0"), ("cellc", "0")}, said
    warnings = [line for line in said.splitlines() if "WARNING" in line]
    assert not [line for line in warnings if not any(words in line for words in OF_OTHERS)], said
