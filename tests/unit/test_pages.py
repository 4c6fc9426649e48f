# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation holds: no command that no test executes, no link that leads nowhere. That the commands do what it says, molecule/docs tries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.pic.cells.tests.lab.pages import EXECUTED, LEFT_OUT, PAGES, PROJECT, SHOWN, Command, File, PageError, blocks, keys, not_printed, steps
from ansible_collections.pic.cells.tests.unit.world import World

WORDS = (
    "ansible ansible-builder ansible-doc ansible-galaxy ansible-playbook apt apt-get cp curl git ip ip6tables iptables iptables-save journalctl make molecule "
    "pic-cell pip podman python3 rm scp ssh sysctl systemctl wg wg-quick"
)
TYPED = re.compile(rf"\s*(\$ |[a-z0-9-]*# |sudo )?({'|'.join(WORDS.split())}) +[-\w./].*")
# Commands that a sentence names and no page has executed; each with what does.
ELSEWHERE = {
    "ansible-galaxy collection install pic.cells": "there is no release yet; from git it is typed",
    "ansible-galaxy collection install --upgrade pic.cells": "likewise",
    "make benchmark": "it takes an hour; tests/unit/test_benchmarks.py is about what it makes of its figures",
    "make benchmark SHORT=--short": "likewise",
    "make demo-down": "make molecule ends with it",
    "make docs": "a part of make test",
    "make test": "runs this test",
}
IDS = [str(page.relative_to(PROJECT)) for page in PAGES]


def unexecuted(page: Path, executed: str) -> list[str]:
    """Return where a page has commands that no test executes. executed: what the tests do."""
    found, fenced = [], set()
    for block in blocks(page):
        fenced |= set(range(block.line - 1, block.line + len(block.lines) + 1))
        if block.info not in (EXECUTED, *SHOWN):
            found.append(f"{page.name}:{block.line}: a block {block.info!r} is executed by no test; make it {EXECUTED!r}, or one of {', '.join(SHOWN)}")
        elif block.info != EXECUTED:
            found += [f"{page.name}:{n}: {line!r} is in no block {EXECUTED!r}" for n, line in enumerate(block.lines, block.line) if TYPED.fullmatch(line)]
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if number not in fenced:
            said = [line.strip()] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
            found += [
                f"{page.name}:{number}: {text!r} is executed by no page"
                for text in said
                if TYPED.fullmatch(text) and not (text in executed or text in ELSEWHERE)
            ]
    return found


@pytest.fixture(scope="module")
def executed() -> str:
    """Return all commands of all pages."""
    return "\n".join(step.text for page in PAGES for step in steps(page) if isinstance(step, Command))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_is_one_that_a_test_executes(page: Path, executed: str) -> None:
    assert unexecuted(page, executed) == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    generated = PROJECT / "docs" / "reference"  # by antsibull-docs
    assert [link for link in links if not (page.parent / link).exists() and generated not in (page.parent / link).parents] == []


README = PROJECT / "README.md"
OURS = re.compile(r"https://(?:github\.com/pic-cells/pic\.cells/(?:blob|tree)|raw\.githubusercontent\.com/pic-cells/pic\.cells)/main/([^)#\s\"]+)")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_to_a_file_on_github_leads_to_one_of_the_tree(page: Path) -> None:
    assert [path for path in OURS.findall(page.read_text()) if not (PROJECT / path).exists()] == []


def test_the_links_of_the_readme_work_on_galaxy_too() -> None:
    """It is shown there too, without the files around it."""
    text = README.read_text()
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    assert [link for link in links if not link.startswith("https://")] == []
    assert len(links) > 20


@pytest.mark.parametrize("page", [README, PROJECT / "docs" / "two-servers.md"], ids=["README", "two-servers"])
def test_the_inventory_of_a_first_page_is_taken_as_it_stands(page: Path, tmp_path: Path) -> None:
    """And its run says what the page shows. With Ansible and on containers, molecule/docs does the same."""
    (text,) = (step.text for step in steps(page) if isinstance(step, File) and step.path == "inventory.yml")
    world = World(tmp_path, yaml.safe_load(text)["cells"]["hosts"])
    for host in world.hosts.values():
        host.dns.update({"a.example.net": ["192.0.2.11"], "b.example.net": ["192.0.2.12"]})
    run = world.site()
    assert run.warnings() == []
    (shown,) = (step.shown for step in steps(page) if isinstance(step, Command) and step.text == "ansible-playbook -i inventory.yml pic.cells.site")
    said = [line.strip(' ",').replace("forwarding 2, ", "") for line in shown]  # these hosts forward already
    assert said[-2:] == ["next: nothing is left to do", LEFT_OUT]
    assert not_printed(said, [line for lines in run.said.values() for line in lines]) is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("so\n\n```sh\nmake demo\n```\n", "page.md:4: a block 'sh'"),
        ("```text\nhere\n$ make demo\n```\n", "page.md:3: '$ make demo'"),
        ("```yaml\nip rule show\n```\n", "page.md:2: 'ip rule show'"),
        ("```\nx\n```\n", "page.md:2: a block ''"),
        ("one\n\nthen `pic-cell undo`, and\n", "page.md:3: 'pic-cell undo'"),
        ("one\n\n    wg show\n", "page.md:3: 'wg show'"),
    ],
)
def test_a_command_that_no_test_sees_is_named_with_page_and_line(tmp_path: Path, text: str, where: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    found = unexecuted(page, "pic-cell check")
    assert len(found) == 1
    assert found[0].startswith(where)


def test_what_is_executed_or_no_command_at_all_may_be_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`pic-cell check` and `wg0`, `make` itself\n\n```text\nwg0 --- ip of the phone\n```\n")
    assert unexecuted(page, "pic-cell check") == []


def test_a_page_is_read_as_its_reader_follows_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ make demo\nPHONE ...\n\nend\ncella# wg \\\n  show\n```\n"
        "```yaml\n# inventory.yml\na: 1\n```\n```ini\n# phone:/etc/x.conf\n```\n```yaml\n# no file\n```\n"
    )
    assert list(steps(page)) == [
        Command(2, "", "make demo", ["PHONE ...", "", "end"]),
        Command(6, "cella", "wg \\\n  show", []),
        File(10, "", "inventory.yml", "# inventory.yml\na: 1\n"),
        File(14, "phone", "/etc/x.conf", "# phone:/etc/x.conf\n"),
    ]


@pytest.mark.parametrize("text", ["```console\nmake demo\n```\n", "```console\n$ make demo\n"])
def test_a_page_that_cannot_be_followed_is_refused(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(PageError, match=r"page\.md:[12]: "):
        list(steps(page))


KEYS = ("5Hd4mOPLbmHPLRTIsiVNLYJ0d1+RkRlvrfrHSXXkrRo=", "D1S+dGuyO8WkTXLXjXKVIoJEGO+5xwcCdYlcYxwzNHY=")


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ([], None),
        (["a", "b"], None),
        (["a", "...", "d"], None),
        (["b", "a"], "b\na"),
        (["d", "...", "a"], "a"),
        (["a", "c"], "a\nc"),
        (["e"], "e"),
    ],
)
def test_what_a_page_shows_has_to_be_printed_in_its_order(shown: list[str], missing: str | None) -> None:
    assert not_printed(shown, ["a", "b", "c", "d"]) == missing


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("link cellb: last handshake 12 s ago, 5 bytes in", "link cellb: last handshake 3 s ago, 5012 bytes in"),
        ("pic.cells:0.1.0 was installed", "pic.cells:1.2.0-beta.1 was installed"),
        ("TASK [x] ****", "TASK [x] *********************   "),
        (f"peer phone: 10.0.0.2 with key {KEYS[0]}", f"peer phone: 10.0.0.2 with key {KEYS[1]}"),
        ("cella : ok=27 changed=0", "cella                      : ok=27   changed=0"),
    ],
)
def test_what_differs_from_run_to_run_is_not_compared(shown: str, printed: str) -> None:
    assert not_printed([shown], [printed]) is None
    assert not_printed([f"{shown}!"], [printed]) is not None


def test_a_key_that_was_printed_before_has_to_be_the_same() -> None:
    assert not_printed([KEYS[0]], [KEYS[0]], [KEYS[0]]) is None
    assert not_printed([KEYS[0]], [KEYS[1]], [KEYS[0]]) == KEYS[0]
    assert not_printed([KEYS[1]], [KEYS[0]], [KEYS[0]]) == KEYS[1]


def test_the_keys_that_a_page_shows_stand_for_those_that_are_printed() -> None:
    assert keys(["the key", KEYS[0]], ["the key", KEYS[1]]) == {KEYS[0]: KEYS[1]}
    one, other = (f"pic0-{word * 20}" for word in ("a-B_", "0xYz"))
    assert keys([f"invitation: {one}"], [f"invitation: {other}"]) == {one: other}


def absent(page: Path, targets: set[str]) -> list[str]:
    """Return what a page for contributors names that is not there: targets of make, and files of the project."""
    said = [words for line in page.read_text().splitlines() for words in (re.findall(r"`([^`]+)`", line) or [line])]
    named = {(kind, name) for words in said for kind, name in re.findall(r"\b(make|pytest -v|pytest|python) ([a-z][\w./-]*)", words)}
    named |= {("file", words) for words in said if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", words) and "/" in words}
    there = {name: name in targets if kind == "make" else (PROJECT / name).exists() for kind, name in named}
    return sorted(name for name, known in there.items() if not known and not name.startswith(".build"))


@pytest.fixture(scope="module")
def targets() -> set[str]:
    """Return the targets of make."""
    return set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def test_contributors_are_sent_to_what_is_there(targets: set[str]) -> None:
    assert absent(PROJECT / "CONTRIBUTING.md", targets) == []


def test_the_map_of_files_names_paths() -> None:
    """A name without a folder would be looked for by nobody, the test before this one included."""
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## Where to change what\n")[2].partition("\n## ")[0]
    files = re.findall(r"`([^`]+\.(?:py|yml))`", section)
    assert len(files) > 10
    assert [name for name in files if "/" not in name] == []


def test_what_contributors_would_not_find_is_named(tmp_path: Path, targets: set[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("`make tset` and `make test`, `docs/nothing.md`\n\npytest -v molecule/none/tests\n")
    assert absent(page, targets) == ["docs/nothing.md", "molecule/none/tests", "tset"]
