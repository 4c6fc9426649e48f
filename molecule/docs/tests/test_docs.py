# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation, followed page by page as it is written: each command ends well and prints what its page shows."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import lab
from ansible_collections.pic.cells.tests.unit.awx_stand_in import TOKEN, Awx, served
from pages import PAGES, PROJECT, Command, steps
from playbooks import INVENTORY, PLAIN, play, write_client
from reader import Reader

DOCS = PROJECT / "docs"
# On two new servers, from a workstation that has nothing of ours, in this order; the third server is where a cell moves to.
SERVERS = ("two-servers.md", "operating.md")
BEGIN = "getting-started.md"
# In the lab that the page before has brought up, each after the other; they undo what they do.
LAB = (
    *(
        "index.md",
        "inventory.md",
        "status.md",
        "adopt.md",
        "share.md",
        "offer-exit.md",
        "route-peer.md",
        "add-device.md",
        "provider.md",
        "expectations.md",
        "unlink.md",
        "link.md",
        "replay.md",
        "restore.md",
        "pic-cell.md",
    ),
    *("troubleshooting.md", "firewalls.md", "monitoring.md", "ansible-errors.md", "coming-from.md"),
)
OWNERS = "invitation.md"
AWX = "awx.md"
# on two cells that are new again
MODULES = "modules.md"
# From nothing to a routed phone on two new servers, and then to the lab in two commands.
README = "../README.md"

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
    """Returns what is typed in place of the commands that ask Galaxy for what comes along: the same without asking, since that is there."""
    folder = Path(workstation["HOME"]) / ".ansible" / "collections" / "ansible_collections" / "ansible"
    folder.mkdir(parents=True)
    shutil.copytree(Path(sysconfig.get_paths()["purelib"]) / "ansible_collections" / "ansible" / "posix", folder / "posix")
    install = "ansible-galaxy collection install"
    return {f"{install} {options}git+{REPOSITORY}": f"{install} --offline {options}git+{REPOSITORY}" for options in ("", "--force ")}


@pytest.fixture
def renewed() -> None:
    """The cells are new again."""
    asked = lab.parse(["reset"])
    lab.reset(asked.cells_release, asked.backend)


@pytest.fixture
def named() -> Iterator[None]:
    """Lets the servers and a phone know the names that the pages use: their DNS."""
    machines = ("cella", "cellb", "cellc", "phone-a1")
    told = "".join(f"{address} {name}\n" for name, host in NAMES.items() for address in addresses(host))
    for host in machines:
        lab.inside(host, "sh", "-c", "cp /etc/hosts /etc/hosts.before; cat >>/etc/hosts", stdin=told)
    yield
    for host in machines:
        lab.inside(host, "sh", "-c", "test ! -e /etc/hosts.before || cat /etc/hosts.before >/etc/hosts", check=False)


@pytest.fixture
def asked() -> Iterator[None]:
    """A server in the lab's internet answers by DNS for the name that a page uses."""
    answers = (f"--address=/whoami.example.org/{address}" for address in addresses("internet"))
    lab.inside("internet", "systemd-run", "--quiet", "--unit=pic-lab-names", "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", *answers)
    yield
    lab.inside("internet", "systemctl", "stop", "pic-lab-names")


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


@pytest.mark.usefixtures("named")
def test_from_two_new_servers_to_a_phone_behind_the_other_and_back(tmp_path: Path, workstation: dict[str, str], published: dict[str, str]) -> None:
    try:
        follow(SERVERS, {"": (tmp_path / "reader", workstation)}, published, phone="phone-a1")
    finally:
        lab.inside("phone-a1", "sh", "-c", "wg-quick down cell; rm -f /etc/wireguard/phone.key /etc/wireguard/cell.conf", check=False)


@pytest.mark.usefixtures("renewed")
def test_the_modules_without_the_role(tmp_path: Path, at_home: dict[str, str]) -> None:
    follow((MODULES,), {"": (tmp_path / "reader", at_home)})


# What make has downloaded and built for this test serves it there too.
CLONE = f"git clone {REPOSITORY} && cd pic.cells"
CLONED = f"{CLONE} && ln -s {PROJECT}/.build .build"


@pytest.mark.usefixtures("renewed", "named")
def test_the_readme(tmp_path: Path, workstation: dict[str, str], published: dict[str, str]) -> None:
    """From nothing to linked servers, whose inventory is taken as it stands, and then to the lab."""
    reset = "python3 tests/lab/lab.py reset"  # whoever has followed it so far has these cells as their own servers
    follow((README,), {"": (tmp_path / "reader", workstation)}, {**published, CLONE: f"{CLONED} && {reset}"})


@pytest.mark.usefixtures("renewed")
def test_the_lab_is_up_in_two_commands(tmp_path: Path, workstation: dict[str, str]) -> None:
    follow((BEGIN,), {"": (tmp_path / "reader", workstation)}, {CLONE: CLONED})


@pytest.fixture
def at_home(tmp_path: Path, path: str) -> dict[str, str]:
    """Returns the environment of somebody who has installed the collection."""
    write_client(Path(path.partition(":")[0], "ansible-playbook"))
    return {**os.environ, **PLAIN, "PATH": path, "ANSIBLE_STDOUT_CALLBACK": "default", "MOLECULE_PROJECT_DIRECTORY": str(PROJECT)}


@pytest.fixture(scope="module")
def in_use(request: pytest.FixtureRequest) -> None:
    """The lab is as the first of its pages leaves it, also where a failed page alone is tried again."""
    if not any(item.name == test_the_lab_is_up_in_two_commands.__name__ for item in request.session.items):
        assert play("site").rc == 0
        lab.phones()


@pytest.mark.usefixtures("in_use", "asked")
@pytest.mark.parametrize("page", LAB)
def test_a_page_in_the_lab(page: str, tmp_path: Path, at_home: dict[str, str]) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    shutil.copy(INVENTORY, folder / "inventory.yml")
    follow((page,), {"": (folder, at_home)})


@pytest.mark.usefixtures("in_use")
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
    followed = {(DOCS / page).resolve() for page in (README, *SERVERS, BEGIN, *LAB, OWNERS, AWX, MODULES)}
    for page in PAGES:
        assert page in followed or not any(isinstance(step, Command) for step in steps(page)), page
