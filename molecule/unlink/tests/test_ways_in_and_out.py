# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of other tools become cells under a device's traffic, and are given back as they were. Each tool's file is one that people have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import lab
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, FILES, OWN, PORT, SECRET
from cells import sh
from lab import INTERNET
from packets import Stream, snapshot
from playbooks import INVENTORY, play

SERVER, PHONE = "cellc", "phone-b1"
# what a server's owner has to open on this hardened host, whatever the tool
OWNERS_RULES = "".join(
    f"{tool} -I INPUT -p udp --dport {PORT} -j ACCEPT; {tool} -I FORWARD -i wg0 -j ACCEPT; {tool} -I FORWARD -o wg0 -j ACCEPT; "
    f"{tool} -t nat -A POSTROUTING -s {network} -o eth0 -j MASQUERADE; "
    for tool, network in (("iptables", "10.0.0.0/24"), ("ip6tables", "fd00:a::/64"))
)
FILES_OF_THE_HOST = "find /etc /usr/local /root -xdev -type f -not -path '/etc/pic-*' | sort | xargs sha256sum"
FILE_OF_DEVICES = "cat /etc/wireguard/wg0.conf"
OFTEN = ("angristan", "PiVPN")


@pytest.fixture(scope="module", autouse=True)
def put_back() -> Iterator[None]:
    """The cell that becomes a server here is a cell again."""
    yield
    lab.renew(SERVER)
    assert play("site").rc == 0
    lab.phones()


def served(text: str) -> None:
    """The server is as its tool leaves it, with one device that is there."""
    lab.renew(SERVER)
    private = sh(PHONE, "wg genkey").strip()
    text = text.replace(ALICE, lab.inside(PHONE, "wg", "pubkey", stdin=f"{private}\n").stdout.strip())
    lab.inside(SERVER, "sh", "-c", "umask 077; mkdir -p /etc/wireguard; cat >/etc/wireguard/wg0.conf", stdin=text)
    forwarding = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
    sh(SERVER, f"{forwarding}; {OWNERS_RULES} systemctl enable --quiet --now wg-quick@wg0")
    key = lab.inside(SERVER, "wg", "pubkey", stdin=f"{OWN}\n").stdout.strip()
    config = (
        f"[Interface]\nPrivateKey = {private}\nAddress = 10.0.0.2/32, fd00:a::2/128\n\n[Peer]\nPublicKey = {key}\nPresharedKey = {SECRET['alice']}\n"
        f"Endpoint = {lab.NETWORKS['inet'].addresses(lab.HOSTS[SERVER].at['inet'])[0]}:{PORT}\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 5\n"
    )
    lab.inside(PHONE, "sh", "-c", "umask 077; cat >/etc/wireguard/wg0.conf; systemctl restart wg-quick@wg0", stdin=config)


def state() -> dict[str, str]:
    """Return the server's state as texts. A table of iptables that has been looked at is there, without a rule: that is no difference."""
    empty = re.compile(r"\*[a-z]+\n(?::[A-Z]+ ACCEPT\n)+COMMIT\n")
    return {name: "".join(sorted(empty.sub("", text).split("*"))) if "tables" in name else text for name, text in snapshot(SERVER).items()}


def told(folder: Path) -> Path:
    """Return an inventory that knows how the server is reached, and nothing else of it."""
    stated = yaml.safe_load(INVENTORY.read_text())
    host = {name: value for name, value in stated["cells"]["hosts"][SERVER].items() if name.startswith("ansible_") or name == "cell_endpoint"}
    path = folder / "inventory.yml"
    path.write_text(yaml.safe_dump({**stated, "cells": {"vars": stated["cells"]["vars"], "hosts": {SERVER: host}}}))
    return path


@pytest.mark.parametrize("tool", [pytest.param(tool, marks=[] if tool in OFTEN else [pytest.mark.at_length]) for tool in FILES])
def test_a_server_becomes_a_cell_under_traffic_and_is_given_back(tool: str, tmp_path: Path) -> None:
    served(FILES[tool])
    inventory, adopted = told(tmp_path), tmp_path / "adopted.yml"
    before, files, file = state(), sh(SERVER, FILES_OF_THE_HOST), sh(SERVER, FILE_OF_DEVICES)
    with ExitStack() as stack:
        flows = [stack.enter_context(Stream(PHONE, address, *flow)) for address in INTERNET for flow in ((80, "tcp"), (9000, "udp"))]
        outcome = play("adopt", inventory=inventory, cell=SERVER, dest=adopted)
        assert outcome.rc == 0, outcome.message
        assert (state(), sh(SERVER, FILES_OF_THE_HOST)) == (before, files)
        for changed in (True, False):
            outcome = play("site", "-i", str(adopted), inventory=inventory)
            assert (outcome.rc, bool(outcome.changed[SERVER])) == (0, changed), outcome.message
            assert (state()["wg wg0"], sh(SERVER, FILE_OF_DEVICES)) == (before["wg wg0"], file), "the devices are not as they were"
            assert all(flow.undisturbed() for flow in flows)
        outcome = play("uninstall", "-i", str(adopted), inventory=inventory, cell=SERVER)
        assert outcome.rc == 0, outcome.message
        assert all(flow.undisturbed() for flow in flows)
    assert state() == before
    assert sh(SERVER, FILES_OF_THE_HOST) == files
