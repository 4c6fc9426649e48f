# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation, followed page by page as it is written: each command ends well and prints what its page shows."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import lab
from ansible_collections.pic.cells.tests.unit.awx_stand_in import TOKEN, Awx, served
from pages import PAGES, PROJECT, Command, steps
from playbooks import INVENTORY, PLAIN
from reader import Reader

DOCS = PROJECT / "docs"
# On two new servers, from a workstation that has nothing of ours, in this order; the third server is where a cell moves to.
SERVERS = ("two-servers.md", "operating.md")
BEGIN = "getting-started.md"
# In the lab that the page before has brought up, each after the other; they undo what they do.
LAB = (
    *("inventory.md", "status.md", "share.md", "offer-exit.md", "route-peer.md", "unlink.md", "link.md", "replay.md", "restore.md", "pic-cell.md"),
    "troubleshooting.md",
)
OWNERS = "invitation.md"
AWX = "awx.md"
# on two cells that are new again
MODULES = "modules.md"
# These repeat commands of other pages.
REPEATING = ("README.md",)

NAMES = {"a.example.net": "cella", "b.example.net": "cellb", "c.example.net": "cellc", "whoami.example.org": "internet"}
REPOSITORY = "https://github.com/pic-cells/pic.cells"


def addresses(host: str) -> tuple[str, str]:
    return lab.INTERNET if host == "internet" else lab.NETWORKS["inet"].addresses(lab.HOSTS[host].at["inet"])


@pytest.fixture(scope="session")
def connected_phones() -> None:
    """Nothing: in the pages the phones connect when it is their turn."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Returns a PATH whose ssh has the key that the servers know, and knows their names: it asks the system for its settings, not the environment."""
    names = "".join(f"Host {name}\n  HostName {addresses(host)[0]}\n" for name, host in NAMES.items())
    settings = tmp_path / "ssh_config"
    everywhere = f"IdentityFile {lab.STATE}/keys/ssh\n  UserKnownHostsFile {tmp_path}/known_hosts\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
    settings.write_text(f"{names}Host *\n  {everywhere}")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {settings} "$@"\n')
    (tools / "ssh").chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


@pytest.fixture
def workstation(tmp_path: Path, path: str) -> dict[str, str]:
    """Returns the environment of a workstation: a home of its own, and none of the project's tools."""
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    (home / ".gitconfig").write_text(f'[url "{PROJECT}"]\n  insteadOf = {REPOSITORY}\n')
    (home / ".config" / "pip").symlink_to(Path.home() / ".config" / "pip")
    own = Path(sys.executable).parent.resolve()
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "PIC_LAB_"))}
    return {**kept, "HOME": str(home), "PATH": ":".join(folder for folder in path.split(":") if Path(folder).resolve() != own), "LANG": "C.UTF-8"}


@pytest.fixture
def published(workstation: dict[str, str]) -> dict[str, str]:
    """Returns what is typed in place of the commands that ask Galaxy: the same with this tree's artifact, and what Galaxy would send along is there."""
    folder = Path(workstation["HOME"]) / ".ansible" / "collections" / "ansible_collections" / "ansible"
    folder.mkdir(parents=True)
    shutil.copytree(Path(sysconfig.get_paths()["purelib"]) / "ansible_collections" / "ansible" / "posix", folder / "posix")
    lab.run(["ansible-galaxy", "collection", "build", "--output-path", workstation["HOME"], str(PROJECT)])
    artifact = next(Path(workstation["HOME"]).glob("pic-cells-*.tar.gz"))
    install = "ansible-galaxy collection install"
    return {
        f"{install} pic.cells": f"{install} --offline {artifact}",
        f"{install} --upgrade pic.cells": f"{install} --offline --force {artifact}",
    }


def follow(pages: tuple[str, ...], machines: Mapping[str, tuple[Path, Mapping[str, str]]], instead: Mapping[str, str] | None = None, **hosts: str) -> None:
    """Follows pages one after the other. machines: folder and environment of each person. hosts: the lab's, by what the page calls them."""
    for folder, _environment in machines.values():
        folder.mkdir(exist_ok=True)
    reader = Reader(machines, hosts, instead)
    try:
        for page in pages:
            reader.follow(DOCS / page)
    finally:
        reader.close()


def test_from_two_new_servers_to_a_phone_behind_the_other_and_back(tmp_path: Path, workstation: dict[str, str], published: dict[str, str]) -> None:
    machines = ("cella", "cellb", "cellc", "phone-a1")
    told = "".join(f"{address} {name}\n" for name, host in NAMES.items() for address in addresses(host))
    try:
        for host in machines:  # their DNS
            lab.inside(host, "sh", "-c", "cp /etc/hosts /etc/hosts.before; cat >>/etc/hosts", stdin=told)
        follow(SERVERS, {"": (tmp_path / "reader", workstation)}, published, phone="phone-a1")
    finally:
        for host in machines:
            lab.inside(
                host, "sh", "-c", "cat /etc/hosts.before >/etc/hosts; wg-quick down cell; rm -f /etc/wireguard/phone.key /etc/wireguard/cell.conf", check=False
            )


def test_the_modules_without_the_role(tmp_path: Path, at_home: dict[str, str]) -> None:
    asked = lab.parse(["reset"])
    lab.reset(asked.cells_release, asked.backend)
    follow((MODULES,), {"": (tmp_path / "reader", at_home)})


def test_the_lab_is_up_in_two_commands(tmp_path: Path, workstation: dict[str, str]) -> None:
    asked = lab.parse(["reset"])
    lab.reset(asked.cells_release, asked.backend)
    clone = f"git clone {REPOSITORY} && cd pic.cells"
    # What make has downloaded and built for this test serves it there too.
    follow((BEGIN,), {"": (tmp_path / "reader", workstation)}, {clone: f"{clone} && ln -s {PROJECT}/.build .build"})


@pytest.fixture
def at_home(tmp_path: Path, path: str) -> dict[str, str]:
    """Returns the environment of somebody who has installed the collection."""
    return {**os.environ, **PLAIN, "PATH": path, "ANSIBLE_STDOUT_CALLBACK": "default", "MOLECULE_PROJECT_DIRECTORY": str(PROJECT)}


@pytest.mark.parametrize("page", LAB)
def test_a_page_in_the_lab(page: str, tmp_path: Path, at_home: dict[str, str]) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    shutil.copy(INVENTORY, folder / "inventory.yml")
    follow((page,), {"": (folder, at_home)})


def test_two_owners(tmp_path: Path, at_home: dict[str, str]) -> None:
    stated = yaml.safe_load(INVENTORY.read_text())
    machines = {}
    for name, cells in (("", ("cella", "cellb")), ("friend", ("cellc",))):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        hosts = {cell: {**stated["cells"]["hosts"][cell], "cell_links": [], "cell_peers": []} for cell in cells}
        (folder / "inventory.yml").write_text(yaml.safe_dump({**stated, "cells": {**stated["cells"], "hosts": hosts}}))
        machines[name] = (folder, at_home)
    follow((OWNERS,), machines)


@pytest.mark.skipif(find_spec("ansible_collections.awx") is None, reason="the installed package ansible brings no awx.awx any more")
def test_awx(tmp_path: Path, at_home: dict[str, str]) -> None:
    asked = "export CONTROLLER_HOST={} CONTROLLER_OAUTH_TOKEN={}"
    with served(Awx(PROJECT / "playbooks" / "files" / "awx_project")) as url:
        follow((AWX,), {"": (tmp_path / "reader", at_home)}, {asked.format("https://awx.example.net", "…"): asked.format(url, TOKEN)})


def test_each_page_is_followed() -> None:
    followed = {*SERVERS, BEGIN, *LAB, OWNERS, AWX, MODULES}
    typed = {step.text for page in followed for step in steps(DOCS / page) if isinstance(step, Command)}
    for page in PAGES:
        ours = {step.text for step in steps(page) if isinstance(step, Command)}
        assert not ours or page.name in followed or (page.name in REPEATING and ours <= typed), (page, ours - typed)
