# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After one run of site, with foreign rules, policy DROP and an older wg0 on the cells."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import neighbours
from lab import CELLS, inside
from packets import seen_address, snapshot
from playbooks import play, run

# a1 leaves by cell B, a2 by C, a3 directly, b1 by A
SEEN = {
    "phone-a1": {4: "198.51.100.12", 6: "2001:db8:113::12"},
    "phone-a2": {4: "198.51.100.13", 6: "2001:db8:113::13"},
    "phone-a3": {4: "198.51.100.11", 6: "2001:db8:113::11"},
    "phone-b1": {4: "198.51.100.11", 6: "2001:db8:113::11"},
}
SHARED_KEY = "ZnVuLWZhY3QtdGhpcy1pcy0zMi1ieXRlcy1sb25nISE="  # 32 bytes of text, for tests alone


def test_all_phones_are_seen_with_their_exits_addresses_at_the_same_time():
    asked = [(phone, family) for phone in SEEN for family in (4, 6)]
    with ThreadPoolExecutor(len(asked)) as pool:
        seen = dict(zip(asked, pool.map(lambda pair: seen_address(*pair), asked)))
    assert seen == {(phone, family): address for phone, addresses in SEEN.items() for family, address in addresses.items()}


@pytest.mark.parametrize("cell", [cell.name for cell in CELLS])
@pytest.mark.parametrize("tool", ["iptables", "ip6tables"])
def test_policies_are_still_drop(cell, tool):
    policies = inside(cell, tool, "-S").stdout.splitlines()
    assert {"-P INPUT DROP", "-P FORWARD DROP"} <= set(policies)


def counted(cell: str) -> dict[str, int]:
    """Returns how many packets each rule of ours has met."""
    lines = inside(cell, "sh", "-c", "iptables-save -c; ip6tables-save -c").stdout.splitlines()
    return {line.split("] ")[1]: int(line[1:].split(":")[0]) for line in lines if line.startswith("[") and "pic-cell" in line}


def test_a_second_run_changes_nothing_and_runs_no_writing_command():
    before = {cell.name: snapshot(cell.name) for cell in CELLS}
    packets = {cell.name: counted(cell.name) for cell in CELLS}
    assert all(any(counts.values()) for counts in packets.values())
    for cell in CELLS:
        neighbours.forget_commands(cell.name)
    outcome = play("site", __cell_every_step=True)
    assert (outcome.rc, outcome.changed) == (0, {"cella": 0, "cellb": 0, "cellc": 0})
    assert {len(outcome.executed(cell.name)) for cell in CELLS} == {4}
    for cell in CELLS:
        assert neighbours.commands(cell.name), "the wrappers log nothing"
        assert neighbours.writing_commands(cell.name) == []
        assert snapshot(cell.name) == before[cell.name]
        assert all(count >= packets[cell.name][rule] for rule, count in counted(cell.name).items()), "the counters have begun anew"


def test_module_executions_do_not_grow_with_links_and_peers():
    links = [{"name": f"far{n}", "share": ["files"]} for n in range(20)]
    peers = [{"name": f"tablet{n}", "addresses": [f"10.0.0.{100 + n}"], "route_via": "direct"} for n in range(20)]
    few = play("site", "--check")
    many = play("site", "--check", overlay={"cella": {"cell_links": [{"name": "cellb"}, {"name": "cellc"}, *links], "cell_peers": peers}})
    assert (few.rc, many.rc) == (0, 0), many.message
    steps = [[task.partition(" : ")[2].partition(" | ")[0] for task in few.executed(cell.name)] for cell in CELLS]
    assert steps == [["Preflight"]] * 3, "nothing is to be done; of the rules that cellc has in both iptables the preflight warns"
    assert len(many.executed("cella")) <= 6


def test_no_secret_in_output_arguments_or_results():
    for cell in CELLS:
        neighbours.forget_commands(cell.name)
    peer = {"name": "tablet", "addresses": ["10.0.0.77"], "public_key": "fmIu6M0TSBWqGpm5u5ndM3qkpDsGRGBrVdpBYp3tbCM=", "preshared_key": SHARED_KEY}
    overlay = {"cella": {"cell_links": [{"name": "cellb", "preshared_key": SHARED_KEY}, {"name": "cellc"}], "cell_peers": [peer]}}
    done = run("site", "-vvv", "--diff", overlay=overlay)
    assert done.returncode == 0, done.stdout[-3000:]
    printed = done.stdout + done.stderr
    for cell in CELLS:
        files = inside(cell.name, "sh", "-c", "cat /etc/wireguard/*.conf /var/lib/pic/identity.key").stdout
        secrets = {word for line in files.splitlines() if "PrivateKey" in line or "PresharedKey" in line for word in line.split()[-1:]}
        secrets.add(inside(cell.name, "cat", "/var/lib/pic/identity.key").stdout.strip())
        arguments = "\n".join(neighbours.commands(cell.name))
        records = inside(cell.name, "sh", "-c", "cat /var/lib/pic/*.json").stdout
        for secret in {*secrets, SHARED_KEY}:
            assert len(secret) == 44
            assert secret not in printed
            assert secret not in arguments
            assert secret not in records
    assert f"PresharedKey = {SHARED_KEY}" in inside("cella", "cat", "/etc/wireguard/pic-cellb.conf").stdout, "the key did not arrive"
    assert f"PresharedKey = {SHARED_KEY}" in inside("cellb", "cat", "/etc/wireguard/pic-cella.conf").stdout, "the key did not arrive on the other side"
    assert seen_address("phone-a1", 4) == SEEN["phone-a1"][4]


@pytest.mark.parametrize("cell", [cell.name for cell in CELLS])
def test_what_holds_keys_is_for_root_alone(cell):
    # These two are for the programs without privileges, into whose file systems they are bound: nobody else comes as far.
    listing = "stat -c '%a %n' /var/lib/pic $(ls -d /var/lib/pic/* | grep -vE '/(view|exits)$') /etc/wireguard/*.conf"
    modes = inside(cell, "sh", "-c", listing).stdout.splitlines()
    assert modes
    assert {line.split()[0] for line in modes if line.endswith("/var/lib/pic")} == {"700"}
    assert {line.split()[0] for line in modes if not line.endswith("/var/lib/pic")} == {"600"}


def test_the_cells_own_key_never_left_it():
    keys = {inside(cell.name, "cat", "/var/lib/pic/identity.key").stdout for cell in CELLS}
    assert len(keys) == len(CELLS)
    assert inside("cella", "cat", "/root/wg0.key").stdout in keys, "the key that wg0 had before is the cell's identity"


def test_what_others_have_put_into_an_older_wg0_is_there_byte_for_byte():
    text = inside("cella", "cat", "/etc/wireguard/wg0.conf").stdout
    assert text.startswith(inside("cella", "cat", "/root/wg0.before").stdout)
    assert inside("cella", "cat", "/var/lib/pic/adopted-wg0.conf").stdout == inside("cella", "cat", "/root/wg0.before").stdout


def test_status_reports_every_link_and_device_and_no_drift():
    done = run("status")
    assert done.returncode == 0
    for text in ("link cellb: last handshake", "peer phone-a1: last handshake", "internet via cellb", "shares files, voice"):
        assert text in done.stdout
    assert "differs from the records" not in done.stdout
    inside("cella", "ip", "rule", "del", "pref", "4001", "from", "10.0.0.2")
    assert "differs from the records: missing: 10.0.0.2" in run("status").stdout
    assert play("site", "--limit", "cella").changed == {"cella": 1}
