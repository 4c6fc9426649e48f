# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of other tools, and a cell of the original, become cells under a device's traffic; servers are given back as they were."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import lab
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, FILES, OWN, PORT, SECRET
from cells import sh
from lab import INTERNET
from packets import Sniffer, Stream, reaches, snapshot
from playbooks import INVENTORY, play

SERVER, PHONE, DEVICE = "cellc", "phone-b1", "phone-a3"
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
    sh(SERVER, f"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; {OWNERS_RULES} systemctl enable --quiet wg-quick@wg0")
    installed(SERVER, text)
    key = lab.inside(SERVER, "wg", "pubkey", stdin=f"{OWN}\n").stdout.strip()
    config = (
        f"[Interface]\nPrivateKey = {private}\nAddress = 10.0.0.2/32, fd00:a::2/128\n\n[Peer]\nPublicKey = {key}\nPresharedKey = {SECRET['alice']}\n"
        f"Endpoint = {lab.NETWORKS['inet'].addresses(lab.HOSTS[SERVER].at['inet'])[0]}:{PORT}\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 5\n"
    )
    installed(PHONE, config)


def installed(host: str, config: str) -> None:
    """The host has this file for wg0, and nothing else on it."""
    lab.inside(host, "sh", "-c", "umask 077; mkdir -p /etc/wireguard; cat >/etc/wireguard/wg0.conf; systemctl restart wg-quick@wg0", stdin=config)


# What the original had: all on wg0, and in FORWARD itself a line for each service that a cell may reach, and one that closes the rest.
ORIGINAL = "10.0.2", "10.0.1"  # its own network, and that of the cell that it is linked with
OPEN, CLOSED = ("tcp", 8445), ("udp", 9003)  # of what the device phone-a3 offers
FLAT = (
    f"iptables -A INPUT -p udp --dport {PORT} -j ACCEPT; "
    f"iptables -A FORWARD -s {ORIGINAL[1]}.0/24 -d {ORIGINAL[0]}.4/32 -p {OPEN[0]} --dport {OPEN[1]} -m comment --comment pic-cell-cellb -j ACCEPT; "
    f"iptables -A FORWARD -s {ORIGINAL[1]}.0/24 -m comment --comment pic-cell-cellb -j DROP; "
    "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A FORWARD -i wg0 -o eth0 -j ACCEPT; "
)


def original() -> None:
    """The server is a cell of the original: phone-a3 is its device, and phone-b1 stands for the cell that it is linked with."""
    lab.renew(SERVER)
    peers, endpoint = "", f"{lab.NETWORKS['inet'].addresses(lab.HOSTS[SERVER].at['inet'])[0]}:{PORT}"
    key = lab.inside(SERVER, "wg", "pubkey", stdin=f"{OWN}\n").stdout.strip()
    keys, configs = {}, {}
    for host, address, allowed in ((DEVICE, f"{ORIGINAL[0]}.4/32", f"{ORIGINAL[0]}.4/32"), (PHONE, f"{ORIGINAL[1]}.2/32", f"{ORIGINAL[1]}.0/24")):
        private = sh(host, "wg genkey").strip()
        keys[host] = lab.inside(host, "wg", "pubkey", stdin=f"{private}\n").stdout.strip()
        peers += f"\n[Peer]\nPublicKey = {keys[host]}\nAllowedIPs = {allowed}\n"
        configs[host] = (
            f"[Interface]\nPrivateKey = {private}\nAddress = {address}\n\n[Peer]\nPublicKey = {key}\nEndpoint = {endpoint}\n"
            "AllowedIPs = 10.0.0.0/16\nPersistentKeepalive = 5\n"
        )
    sh(SERVER, f"sysctl -qw net.ipv4.ip_forward=1; {FLAT}")
    installed(SERVER, f"[Interface]\nPrivateKey = {OWN}\nAddress = {ORIGINAL[0]}.1/24\nListenPort = {PORT}\n{peers}")
    for host, config in configs.items():
        installed(host, config)
    link = {"cell_name": "cellb", "public_key": keys[PHONE], "vpn_subnet": f"{ORIGINAL[1]}.0/24", "permissions": {"inbound": {"camera": True}, "outbound": {}}}
    records = {"cell_links": [link], "peer_registry": [{"name": "phone", "public_key": keys[DEVICE], "ip": f"{ORIGINAL[0]}.4", "internet_access": True}]}
    for name, content in records.items():
        lab.inside(SERVER, "sh", "-c", f"umask 077; mkdir -p /var/lib/pic; cat >/var/lib/pic/{name}.json", stdin=json.dumps(content))


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


def test_a_cell_of_the_original_is_taken_over_under_a_flow_and_never_more_open(tmp_path: Path) -> None:
    original()
    inventory, adopted = told(tmp_path), tmp_path / "adopted.yml"
    over, target = threading.Event(), f"{ORIGINAL[0]}.4"

    def knock() -> None:
        while not over.wait(0.05):
            lab.inside(PHONE, "bash", "-c", f"echo x >/dev/{CLOSED[0]}/{target}/{CLOSED[1]}")

    with Stream(PHONE, target, OPEN[1], OPEN[0]) as flow, Sniffer(DEVICE, "wg0", f"{CLOSED[0]} port {CLOSED[1]}") as arrived:
        knocking = threading.Thread(target=knock)
        knocking.start()
        try:
            outcome = play("adopt", inventory=inventory, cell=SERVER, dest=adopted)
            assert outcome.rc == 0, outcome.message
            for changed in (True, False):
                outcome = play("site", "-i", str(adopted), inventory=inventory)
                assert (outcome.rc, bool(outcome.changed[SERVER])) == (0, changed), outcome.message
                assert flow.undisturbed()
        finally:
            over.set()
            knocking.join()
    assert arrived.lines == []
    rules = sh(SERVER, "iptables-save -t filter")
    assert "-A FORWARD" in rules and not [line for line in rules.splitlines() if line.startswith("-A FORWARD") and "pic-cell-cellb" in line]
    assert (reaches(PHONE, target, OPEN[1], OPEN[0]), reaches(PHONE, target, CLOSED[1], CLOSED[0])) == (True, False)
