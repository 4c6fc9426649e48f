# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cells tell each other through the tunnel: at once, after an outage, and from nobody else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cells import link_record, may_use, switched_off, within
from lab import inside
from packets import reaches, seen_address
from playbooks import INVENTORY, call, play, run

API = {4: "http://10.0.1.1:8088", 6: "http://[fd00:b::1]:8088"}
PATH = "/api/cells/peer-sync/permissions"
PERIOD = 60  # seconds, of the timer
# Sends one push of cella's to cellb, made with the program's own files; prints status and answer.
PUSH = """
import json, sys
sys.path.insert(0, "/usr/local/lib/pic-cells/pic-cell.pyz")
from pic_cells import command, peer_sync, reconcile, store, transport
changes = json.loads(sys.argv[1])
host = command.Draft(command.Host())
cell = reconcile.Cell(host, store.Store(host), predict=True)
message = peer_sync.payload(cell.stored, "cellb", cell.identity.public)
sign, message = changes.pop("sign", True), {**message, **changes}
body = peer_sync.render_push(message)
key = peer_sync.signing_key(cell.preshared_keys()["cellb"])
signature = peer_sync.sign(key, cell.identity.public, cell.stored.links["cellb"].public_key, body) if sign else None
print(json.dumps(transport.send(transport.Push("http://10.0.1.1:8088", ("10.0.0.1",), "pic-cellb", body, signature))))
"""


def pushed(**changes: Any) -> dict[str, Any]:
    """Sends a push of cella's to cellb with changed fields."""
    return dict(json.loads(inside("cella", "python3", "-", json.dumps(changes), stdin=PUSH).stdout) or {})


def test_the_receiver_is_hardened_and_sees_nothing_but_its_view():
    exposure = inside("cella", "systemd-analyze", "security", "--no-pager", "pic-cell-serve.service").stdout.splitlines()[-1]
    assert float(exposure.rpartition(": ")[2].split()[0]) <= 1.5, exposure
    pid = inside("cella", "systemctl", "show", "-p", "MainPID", "--value", "pic-cell-serve").stdout.strip()
    assert "CapEff:\t0000000000000000" in inside("cella", "cat", f"/proc/{pid}/status").stdout
    assert "0.0.0.0:8088" not in inside("cella", "ss", "-ltn").stdout


@pytest.mark.parametrize(
    ("playbook", "given", "known"), [("share", {"services": "voice"}, {"voice"}), ("share", {"services": "files,voice"}, {"files", "voice"})]
)
def test_a_change_is_in_the_other_cells_record_within_two_seconds(playbook: str, given: dict[str, str], known: set[str]):
    outcome = play(playbook, cell="cella", remote_cell="cellb", cell_sync_transport="tunnel", **given)
    assert outcome.rc == 0, outcome.message
    assert {host for host, _task, result in outcome.results if not result.get("skipped")} <= {"cella", "cellb", "cellc"}
    assert outcome.executions("cellb") == 0
    assert within(2, lambda: may_use("cellb", "cella") == known)
    assert not link_record("cella", "cellb")["pending_push"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sign": False, "generation": 10**9}, 403),
        ({"from_cell": "cellc", "generation": 10**9}, 403),
        ({"from_public_key": "x", "generation": 10**9}, 403),
        ({"share": ["files"], "generation": 10**9}, 400),
        ({"permissions": {"outbound": {}, "inbound": {"files": True}}, "generation": 10**9}, 400),
        ({"permissions": {"outbound": {"mail": True}}}, 200),
        ({}, 200),
    ],
    ids=["unsigned", "another cell's", "another key", "unknown fields", "our shares", "overtaken", "replayed"],
)
def test_a_push_that_is_not_right_changes_nothing(changes: dict[str, Any], status: int):
    before = link_record("cellb", "cella")
    assert pushed(**changes)["status"] == status
    time.sleep(0.5)
    assert link_record("cellb", "cella") == before


def test_whatever_is_sent_the_receiver_lives_and_answers():
    before = link_record("cellb", "cella")
    oversize = inside("cella", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", "-d", "@-", API[4] + PATH, stdin="x" * 100_000, check=False)
    assert oversize.stdout == "413"
    garbage = "for n in $(seq 200); do (sleep 4 | timeout 6 bash -c 'cat >/dev/tcp/10.0.1.1/8088') & done; head -c 2000000 /dev/urandom >/dev/tcp/10.0.1.1/8088"
    inside("cella", "bash", "-c", f"({garbage}) >/dev/null 2>&1 &")
    time.sleep(1)
    began = time.monotonic()
    assert pushed()["status"] == 200
    assert time.monotonic() - began < 2, "with the start of the program that sends"
    pid = inside("cellb", "systemctl", "show", "-p", "MainPID", "--value", "pic-cell-serve").stdout.strip()
    peak = next(line for line in inside("cellb", "cat", f"/proc/{pid}/status").stdout.splitlines() if line.startswith("VmHWM:"))
    assert int(peak.split()[1]) < 64 * 1024, peak  # KiB
    assert link_record("cellb", "cella") == before


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_but_the_other_cell_reaches_the_receiver(family):
    address = {4: "10.0.1.1", 6: "fd00:b::1"}[family]
    assert reaches("cella", address, 8088)
    assert not reaches("phone-a3", address, 8088), "a phone of that cell"
    assert not reaches("cellc", address, 8088), "a cell without a link"
    assert not reaches("lan-b", address, 8088), "the LAN"
    for source in ("10.0.0.1",) if family == 4 else ("fd00:a::1",):
        inside("lan-b", "ip", "address", "add", f"{source}/{32 if family == 4 else 128}", "dev", "lo")
        try:
            argv = ["curl", "-s", "-m", "2", "--interface", source, "-d", "{}", API[family] + PATH]
            assert inside("lan-b", *argv, check=False).returncode != 0, "the LAN with the tunnel's address"
        finally:
            inside("lan-b", "ip", "address", "del", f"{source}/{32 if family == 4 else 128}", "dev", "lo")


def test_the_receiver_hears_an_interface_that_was_made_anew():
    inside("cellb", "systemctl", "restart", "wg-quick@pic-cella")
    assert within(15, lambda: pushed().get("status") == 200)


def test_a_preshared_key_is_handed_over_without_being_shown():
    inside("cellb", "sed", "-i", "/PresharedKey/d", "/etc/wireguard/pic-cella.conf")
    inside("cellb", "systemctl", "restart", "wg-quick@pic-cella")
    done = run("site", "-vvvv", "--diff")
    assert done.returncode == 0, done.stdout
    keys = [inside(cell, "wg", "show", link, "preshared-keys").stdout.split()[1] for cell, link in (("cella", "pic-cellb"), ("cellb", "pic-cella"))]
    assert keys[0] == keys[1] != "(none)"
    assert keys[0] not in done.stdout + done.stderr
    assert within(20, lambda: pushed().get("status") == 200)


def test_what_was_changed_while_the_other_cell_was_off_arrives_as_one():
    with switched_off("cellb"):
        for number in range(10):
            assert call("cella", "pic_cell_rules", f"name=cellb share={'files' if number % 2 else 'voice'}").returncode == 0
        outcome = play("offer_exit", cell="cella", remote_cell="cellb", offered="false", cell_sync_transport="tunnel")
        assert outcome.rc == 0, outcome.message
        assert "is not told yet (not reached)" in outcome.text
        assert link_record("cella", "cellb")["pending_push"]
        rules = inside("cella", "sh", "-c", "iptables-save; iptables-legacy-save").stdout
        assert not [line for line in rules.splitlines() if "PIC-L-cellb" in line and "-o eth" in line and "ACCEPT" in line], "the relay stands"
    assert within(PERIOD + 15, lambda: may_use("cellb", "cella") == {"files"})
    assert within(5, lambda: not link_record("cellb", "cella")["exit_relay_active"]), "the routed device fails closed"
    assert within(5, lambda: not link_record("cella", "cellb")["pending_push"])


def owner(folder: Path, cell: str) -> Path:
    """Returns an inventory of one owner, who has one cell."""
    inventory = yaml.safe_load(INVENTORY.read_text())
    host = inventory["cells"]["hosts"][cell]
    inventory["cells"]["hosts"] = {cell: {**host, "cell_links": [], "cell_peers": []}}
    path = folder / f"{cell}.yml"
    path.write_text(yaml.safe_dump(inventory))
    return path


def test_two_owners_link_their_cells_with_one_invitation_each_way(tmp_path):
    ours, theirs = owner(tmp_path, "cellb"), owner(tmp_path, "cellc")

    def link(inventory: Path, cell: str, other: str, **given: str) -> dict[str, Any]:
        outcome = play("link", inventory=inventory, cell=cell, remote_cell=other, **given)
        assert outcome.rc == 0, outcome.message
        return next(result for _host, _task, result in outcome.results if "invitation" in result)

    first = link(ours, "cellb", "cellc", invitation="new")
    (tmp_path / "b.json").write_text(json.dumps(first["invitation"]))
    secret = inside("cellb", "cat", first["key_file"]).stdout.strip()
    second = link(theirs, "cellc", "cellb", invitation=str(tmp_path / "b.json"), preshared_key=secret, offered="true")
    (tmp_path / "c.json").write_text(json.dumps(second["invitation"]))
    link(ours, "cellb", "cellc", invitation=str(tmp_path / "c.json"))
    assert within(PERIOD + 15, lambda: link_record("cellb", "cellc")["remote_exit_offered"])
    outcome = play("route_peer", inventory=ours, cell="cellb", peer="phone-b1", via_cell="cellc")
    assert outcome.rc == 0, outcome.message
    assert within(5, lambda: link_record("cellc", "cellb")["remote_exit_relay_active"])
    assert within(20, lambda: seen_address("phone-b1", 4) == "198.51.100.13")
