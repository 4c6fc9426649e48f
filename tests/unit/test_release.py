# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published: the artifact holds what is needed and nothing else, and a release can be made of this tree at any time."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
PUBLISHED = {
    "CHANGELOG.rst",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
SITE = {"docs/conf.py", "docs/icon.svg", "docs/site.css"}
NUMBERS = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def command(*argv: str, cwd: Path = PROJECT) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> set[str]:
    """Name what belongs to the project: no file that only happens to lie in the tree."""
    listed = command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return {name for name in listed if (PROJECT / name).is_file()}


def version_of(project: Path) -> str:
    return yaml.safe_load((project / "galaxy.yml").read_text())["version"]


def releases_of(project: Path) -> dict[str, dict]:
    return yaml.safe_load((project / "changelogs" / "changelog.yaml").read_text())["releases"]


def numbers(version: str) -> tuple[int, ...]:
    matched = NUMBERS.fullmatch(version)
    assert matched, f"{version} is no semantic version"
    return tuple(map(int, matched.groups()))


def new_in(project: Path) -> dict[str, str]:
    """Say by file which version a plugin, a role or the newest of its options calls itself new in."""
    files = [*(project / "plugins").rglob("*.py"), *(project / "roles").rglob("*.yml")]
    found = ((path.relative_to(project), re.findall(r"version_added: (.*)", path.read_text())) for path in files)
    return {str(path): version.strip("\"'") for path, versions in found for version in versions}


def test_the_artifact_holds_what_an_installed_collection_needs_and_nothing_else(tmp_path):
    command("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    with tarfile.open(tmp_path / f"pic-cells-{version_of(PROJECT)}.tar.gz") as artifact:
        files = {entry.name for entry in artifact.getmembers() if not entry.isdir()}
    assert files == {"MANIFEST.json", "FILES.json"} | {name for name in sources() if name.split("/")[0] in PUBLISHED} - SITE


def test_the_version_is_semantic_and_nothing_is_new_in_one_that_will_never_be():
    version, released = version_of(PROJECT), releases_of(PROJECT)
    assert numbers(version) >= max(map(numbers, released), default=(0, 0, 0))
    assert not {path: new for path, new in new_in(PROJECT).items() if new != version and new not in released}


def test_the_changelog_knows_every_release():
    tagged = {tag for tag in command("git", "tag", "--list").split() if NUMBERS.fullmatch(tag)}
    notes = (PROJECT / "CHANGELOG.rst").read_text()
    assert tagged <= releases_of(PROJECT).keys()
    assert set(re.findall(r"^v(\S+)\n=+$", notes, re.M)) == releases_of(PROJECT).keys()


@pytest.mark.skipif(not shutil.which("antsibull-changelog"), reason="antsibull-changelog is not installed")
def test_a_release_can_be_made(tmp_path):
    for name in sources():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    command("git", "init", "--quiet", cwd=tmp_path)
    fragments = list((tmp_path / "changelogs" / "fragments").glob("*.yml"))
    command("tests/tools/release.sh", "99.0.0", cwd=tmp_path)
    assert version_of(tmp_path) == "99.0.0"
    assert set(new_in(tmp_path).values()) <= {"99.0.0", *releases_of(PROJECT)}
    assert releases_of(tmp_path).keys() - releases_of(PROJECT).keys() == {"99.0.0"}
    assert not any(path.exists() for path in fragments)
    told = releases_of(tmp_path)["99.0.0"]
    new = {Path(path).stem for path, version in new_in(tmp_path).items() if "/modules/" in path and version == "99.0.0"}
    assert {module["name"] for module in told.get("modules", [])} == new
    assert bool(told.get("changes")) == bool(fragments)
    notes = (tmp_path / "CHANGELOG.rst").read_text()
    assert "\nv99.0.0\n" in notes
    assert not re.findall(r"\b[A-Z]{1,2}\(.*", notes), "the markup of documentation, which is none here: write ``literal``"


@pytest.mark.parametrize("version", ["", "1.0", "v1.0.0", "1.0.0-rc1"])
def test_a_release_has_a_version_of_three_numbers(version):
    done = subprocess.run(["tests/tools/release.sh", version], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "three numbers" in done.stderr
