# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore plans nothing while a cell is what it was when nothing had to be done, and misses nothing by that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import cell as engine
from ansible_collections.pic.cells.plugins.module_utils.base.errors import WriteFailed
from ansible_collections.pic.cells.plugins.module_utils.program import unchanged
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.faults import damages
from ansible_collections.pic.cells.tests.unit.world import World, device_key, furnish, program, three_cells


@pytest.fixture(scope="module")
def _cell(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    world = World(tmp_path_factory.mktemp("unchanged"), three_cells())
    furnish(world["cella"])
    world.site()
    host = world["cella"]
    assert restored(host) == ""
    host.reset()
    return host


@pytest.fixture
def cell(_cell: FakeHost) -> FakeHost:
    """Return a cell that was found as it should be."""
    return _cell.fork()


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the parts that are planned from here on."""
    parts: list[str] = []
    plan_repair = engine.plan_repair
    monkeypatch.setattr(engine, "plan_repair", lambda context, part, inputs=None: (parts.append(part.name), plan_repair(context, part, inputs))[1])
    return parts


def restored(host: FakeHost, *more: str) -> str:
    rc, out, err = program(host, "restore", *more)
    assert (rc, err) == (0, "")
    return out


def test_nothing_is_planned_and_nothing_written_while_all_is_as_it_was(cell: FakeHost, planned: list[str]) -> None:
    before = cell.text()
    assert restored(cell) == restored(cell) == ""
    assert (planned, cell.steps, cell.text()) == ([], [], before)


def outcome(host: FakeHost) -> tuple[int, str, str, str]:
    return (*program(host, "restore"), host.text())


def test_every_damage_is_repaired_as_ever(cell: FakeHost) -> None:
    found = damages(cell)
    assert len(found) > 100
    for what, _modules, damage in found:
        twin = cell.fork()
        damage(twin)
        ever = twin.fork()
        del ever.files[unchanged.PATH]
        assert outcome(twin) == outcome(ever), what


def test_whatever_file_was_read_makes_it_plan_again_when_it_changes_comes_or_goes(cell: FakeHost, planned: list[str]) -> None:
    asked = [question for question in json.loads(cell.read(unchanged.PATH) or "")["questions"] if question[0] in ("read", "read_foreign", "exists")]
    assert len(asked) > 20
    for method, path, *_limit in asked:
        twin = cell.fork()
        if path in twin.files:
            mode, text = twin.files.pop(path)
            twin.files[path + ".moved"] = mode, text
        else:
            twin.files = {name: file for name, file in twin.files.items() if not name.startswith(f"{path}/")}
            twin.files.update({} if twin.files != cell.files else {path: (0o600, "another")})
        ever = twin.fork()
        del ever.files[unchanged.PATH]
        planned.clear()
        found = outcome(twin)
        assert planned or found[0], (method, path)
        assert found == outcome(ever), (method, path)


@pytest.mark.parametrize(
    ("tool", "there"), [pytest.param("conntrack", False, id="a tool is removed"), pytest.param("systemd-analyze", True, id="a tool that nobody asks for")]
)
def test_the_tools_of_a_host_count(tool: str, there: bool, cell: FakeHost, planned: list[str]) -> None:
    cell.missing.add(tool)
    program(cell, "restore")
    assert (not planned) is there


def traffic(host: FakeHost) -> None:
    for device in host.wg.values():
        for key, peer in device.peers.items():
            device.peers[key] = replace(peer, received=peer.received + 1000, sent=peer.sent + 1000)


def handshakes(host: FakeHost) -> None:
    for device in host.wg.values():
        for key, peer in device.peers.items():
            device.peers[key] = replace(peer, handshake=int(host.now) - 5 if peer.handshake else 0)


@pytest.mark.parametrize("meanwhile", [traffic, handshakes])
def test_traffic_changes_nothing_that_counts(meanwhile: Callable[[FakeHost], None], cell: FakeHost, planned: list[str]) -> None:
    meanwhile(cell)
    cell.now += 60
    assert restored(cell) == ""
    assert planned == []


DEVICE = "phone"  # of cella, with a key of its own


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"endpoint": "192.0.2.77:40000"}, id="roamed"),
        pytest.param({"endpoint": None, "handshake": 0}, id="never heard"),
        pytest.param({"handshake": 1}, id="silent"),
    ],
)
@pytest.mark.parametrize(("of", "plans"), [("device", False), ("link", True)])
def test_devices_come_and_go_and_nothing_is_planned(of: str, plans: bool, change: dict[str, Any], cell: FakeHost, planned: list[str]) -> None:
    interface, key = (
        ("wg0", device_key(DEVICE)) if of == "device" else next((name, next(iter(found.peers))) for name, found in cell.wg.items() if name != "wg0")
    )
    peers = cell.wg[interface].peers
    peers[key] = replace(peers[key], endpoint="192.0.2.66:1", handshake=int(cell.now) - 5)
    restored(cell)
    planned.clear()
    peers[key] = replace(peers[key], **change)
    restored(cell)
    assert bool(planned) is plans


def test_what_tools_print_of_the_moment_is_left_out() -> None:
    saved = "# Generated by iptables-save v1.8.9 on Mon Nov 30\n*filter\n:INPUT ACCEPT [{}:3]\n-A INPUT -j DROP\n"
    assert len({unchanged.steady(["iptables-save"], saved.format(count), 0) for count in (1, 22)}) == 1
    assert unchanged.steady(["iptables-nft-save"], saved.format(1), 0) != unchanged.steady(["iptables-nft-save"], saved.format(1).replace("DROP", "ACCEPT"), 0)
    address = '{{"local":"192.0.2.7","valid_life_time":{0},"preferred_life_time":{0}}}'
    assert unchanged.steady(["ip", "addr"], address.format(86400), 0) == unchanged.steady(["ip", "addr"], address.format(86340), 0)
    assert unchanged.steady(["ip", "addr"], address.format(1), 0) != unchanged.steady(["ip", "addr"], address.format(1).replace(".7", ".8"), 0)
    assert unchanged.steady(["cat", "x"], "[1:2]", 0) == "[1:2]"


@pytest.mark.parametrize(
    ("fresh_before", "fresh_now", "same"),
    [(100, 20, True), (100, 134, True), (100, 140, False), (500, 600, True), (500, 20, False)],
)
def test_a_handshake_that_ends_to_be_fresh_counts(fresh_before: int, fresh_now: int, same: bool) -> None:
    dump = "pic-x\tKEY\t(none)\t192.0.2.1:51820\t10.0.1.0/24\t{}\t1\t2\t25\n"
    now = 1_800_000_000
    words = ["wg", "show", "all", "dump"]
    assert (unchanged.steady(words, dump.format(now - fresh_before), now) == unchanged.steady(words, dump.format(now - fresh_now), now)) is same


def test_what_a_tool_says_when_it_refuses_counts(cell: FakeHost, planned: list[str]) -> None:
    """Whether the kernel can limit what it receives shows only in how ip refuses."""
    argv = next(question[1:] for question in json.loads(cell.files[unchanged.PATH][1])["questions"] if question[0] == "run")
    before = cell.run(argv)
    cell.answers[tuple(argv)] = replace(before, err="Error: Unknown device type.")
    restored(cell)
    assert planned


@pytest.mark.parametrize(("later", "same"), [(60, True), (3599, True), (3600, False), (-1, False), (-86400, False)])
def test_after_an_hour_and_when_the_clock_was_set_back_it_plans_again(later: int, same: bool, cell: FakeHost, planned: list[str]) -> None:
    cell.now += later
    restored(cell)
    assert (not planned) is same


def test_a_cell_of_which_something_ends_at_a_moment_is_always_planned(tmp_path: Path, planned: list[str]) -> None:
    inventory = three_cells()
    offer = next(link for link in inventory["cellb"]["cell_links"] if link.get("offer_exit"))
    offer["offer_exit"] = {"until": "2027-01-15T08:10:00Z"}  # ten minutes after the fake host's time
    world = World(tmp_path, inventory)
    world.site()
    host = world["cellb"]
    restored(host)
    assert unchanged.PATH not in host.files
    planned.clear()
    host.now += 601
    assert restored(host)
    assert planned


def test_an_invitation_that_waits_ends_in_time(cell: FakeHost, planned: list[str]) -> None:
    del cell.files[unchanged.PATH]
    cell.files[f"{STATE_DIR}/invitations/far.psk"] = (0o600, "KEY\n")
    cell.files[f"{STATE_DIR}/invitations/far.psk.made"] = (0o600, f"{int(cell.now)}\n")
    program(cell, "restore")
    assert unchanged.PATH not in cell.files


def test_another_program_plans_again(cell: FakeHost, planned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unchanged, "_PROGRAM", [1, 2, 3])
    restored(cell)
    assert planned


@pytest.mark.parametrize(
    "text",
    ["", "\0", "[]", "7", "{", '{"questions": 7}', "[" * 100_000, '{"program": null}', "more"],
    ids=lambda text: text[:20].replace("\0", "NUL") or "empty",
)
def test_whatever_lies_there_instead_is_no_answer(text: str, cell: FakeHost, planned: list[str]) -> None:
    kept = json.loads(cell.files[unchanged.PATH][1])
    cell.files[unchanged.PATH] = (
        0o600,
        json.dumps({**kept, "questions": [["write", "/etc/passwd", ""], ["run", 7], [], ["nonsense"]]}) if text == "more" else text,
    )
    restored(cell)
    assert planned
    assert "/etc/passwd" not in cell.files


def test_what_is_kept_is_for_root_alone_and_holds_no_secret(cell: FakeHost) -> None:
    mode, text = cell.files[unchanged.PATH]
    assert mode == 0o600
    secrets = {device.private for device in cell.wg.values()} | {peer.psk for device in cell.wg.values() for peer in device.peers.values() if peer.psk}
    assert secrets
    assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("words", [("--guard",), ("--exits",)])
def test_what_looks_at_a_part_of_the_cell_keeps_nothing(words: tuple[str, ...], cell: FakeHost, planned: list[str]) -> None:
    del cell.files[unchanged.PATH]
    restored(cell, *words)
    assert planned
    assert unchanged.PATH not in cell.files


def test_what_was_repaired_is_looked_at_once_more(cell: FakeHost, planned: list[str]) -> None:
    cell.drop_link("pic-cellb")
    restored(cell)
    assert planned
    planned.clear()
    assert restored(cell) == ""
    assert planned
    planned.clear()
    restored(cell)
    assert planned == []


def test_a_full_disk_keeps_nothing_and_is_no_error(cell: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    del cell.files[unchanged.PATH]

    def full(*_given: Any) -> None:
        raise WriteFailed("No space left on device")

    monkeypatch.setattr(cell, "write", full)
    assert restored(cell) == ""
