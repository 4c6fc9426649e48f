# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records on disk: old ones, broken ones, and two who want them at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput, StoreError
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.plugins.module_utils.records.model import State
from ansible_collections.pic.cells.plugins.module_utils.records.soundness import LARGEST
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call, program

KEY = made_key("cellb")
FLAGS = ("exit_offered", "remote_exit_offered", "exit_relay_active", "remote_exit_relay_active")


def loaded(host: FakeHost, name: str, content: Any) -> tuple[State, list[str]]:
    """Write a record file, read everything, and return it with the warnings."""
    host.write(f"/var/lib/pic/{name}", content if isinstance(content, str) else json.dumps(content))
    store = Store(host)
    return store.load(), store.warnings


@pytest.mark.parametrize("kept", [subset for size in range(4) for subset in itertools.combinations(("permissions", "exit_offered", "public_key"), size)])
def test_a_record_of_any_age_is_read_and_what_it_does_not_say_is_not_allowed(host: FakeHost, kept: tuple[str, ...]) -> None:
    full = {"permissions": {"inbound": {"files": True}}, "exit_offered": True, "public_key": KEY}
    record = {"cell_name": "cellb", "vpn_subnet": "10.0.1.0/24", "of_the_future": 1, **{key: full[key] for key in kept}}
    link = loaded(host, "cell_links.json", [record])[0].links["cellb"]
    assert link.networks == ["10.0.1.0/24"]
    assert link.shares == (["files"] if "permissions" in kept else [])
    assert [getattr(link, flag) for flag in FLAGS] == ["exit_offered" in kept, False, False, False]
    assert link.public_key == (KEY if "public_key" in kept else None)


@pytest.mark.parametrize("value", ["yes", 1, "false", None, [True]])
def test_only_true_itself_allows_anything(host: FakeHost, value: object) -> None:
    record = {"name": "cellb", "permissions": {"inbound": {"files": value}}, **dict.fromkeys(FLAGS, value)}
    link = loaded(host, "cell_links.json", {"links": [record]})[0].links["cellb"]
    assert not any(getattr(link, flag) for flag in FLAGS)
    assert link.shares == []


def test_an_old_registry_of_peers_is_read(host: FakeHost) -> None:
    records = {"phone": {"ip": "10.0.0.2", "route_via": "direct"}, "pad": {"ip": "10.0.0.3", "route_via": "cellb"}}
    peers = loaded(host, "peer_registry.json", records)[0].peers
    assert {peer.name: (peer.addresses, peer.route_via) for peer in peers.values()} == {"phone": (["10.0.0.2"], []), "pad": (["10.0.0.3"], ["cellb"])}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cell_links.json", ""),
        ("cell_links.json", "[1, 2"),
        ("cell_links.json", "\0\0\0"),
        ("cell_links.json", [{"public_key": "no name"}]),
        ("cell_links.json", {"links": 5}),
        ("cell_links.json", {"links": [{"name": "cellb", "networks": [5]}]}),
        ("cell_links.json", {"links": [{"name": "cellb", "generation": "new"}]}),
        ("cell_links.json", {"links": [{"name": "cellb", "permissions": {"inbound": ["files"]}}]}),
        ("cell.json", "[]"),
        ("cell.json", {"name": "cella", "networks": "10.0.0.1/24 or so", "listen_port": "many"}),
        ("cell.json", {"services": [{"port": 5}]}),
        ("peer_registry.json", {"peers": [{"name": "phone", "route_via": 5}]}),
        ("peer_registry.json", "null"),
    ],
)
def test_what_cannot_be_read_counts_as_nothing_and_is_set_aside_when_it_is_written_next(linked: World, name: str, content: Any) -> None:
    host = linked["cella"]
    state, warnings = loaded(host, name, content)
    part = {"cell_links.json": "links", "cell.json": "cell", "peer_registry.json": "peers"}[name]
    assert [name in warning and "cannot be read" in warning for warning in warnings] == [True]
    assert getattr(state, part) == getattr(State(), part), "something of it was taken over"
    broken = host.read(f"/var/lib/pic/{name}")
    run = linked.site()
    assert any(name in warning for warning in run.warnings())
    assert host.read(f"/var/lib/pic/{name}.corrupt") == broken
    assert not linked.site().changed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(
            (name, text)
            for name in ("cell_links.json", "cell.json", "peer_registry.json")
            for text in ("[" * 100_000, '{"links":' * 100_000, f'{{"links": [], "peers": []}}{" " * LARGEST}', f"[{'9' * 5000}]", "NaN", '"\\ud800"')
        ),
        *(
            ("cell_links.json", {"links": [{"name": "cellc"}, {"name": "cellb", **values}]})
            for values in (
                *({"networks": [text]} for text in ("fd00::1%1 -j ACCEPT\n-I FORWARD -j ACCEPT", "home", "10.0.0.0/33", "")),
                *({"address": ["fd00::1%eth0"]}, {"public_key": "KEY"}, {"endpoint": "x\nPostUp = reboot:5"}, {"interface": "pic-a b"}),
                *({"name": "a b"}, {"name": "direct"}, {"name": "\x1b[2J"}, {"listen_port": 0}, {"mtu": 10**9}, {"exit_table": -1}),
                *({"generation": -1}, {"remote_generation": -5}, {"permissions": {"inbound": {"a b": True}}}, {"permissions": 5}),
                *({"permissions": {"inbound": {"files": {"files": True}}, "outbound": [5]}}, {"endpoint": ["a"]}, {"networks": {"a": "b"}}),
            )
        ),
        *(
            ("cell.json", {"name": "cella", "networks": ["10.0.0.1/24"], **values})
            for values in (
                *({"networks": ["10.0.0.1%1/24"]}, {"interface": "wg0\n"}, {"uplink": "a b"}, {"endpoint": "a b"}, {"sync_port": 0}, {"name": "A"}),
                *({"admin_networks": ["all"]}, {"retired": ["10.0.0.1"]}, {"retired": ["10.0.0.1 x y"]}, {"retired": ["home 53"]}),
                {"services": [{"name": "files", "addresses": ["10.0.0.1"], "port": 5, "protocol": "tcp -j ACCEPT"}]},
                {"services": [{"name": "files", "addresses": ["10.0.0.1"], "port": 70000}]},
                {"services": {"files": 5}},
            )
        ),
        *(
            ("peer_registry.json", {"peers": [{"name": "phone", **values}]})
            for values in ({"public_key": "x"}, {"addresses": ["fd00::2%x"]}, {"route_via": "a b"}, {"name": "a\nb"}, {"ip": {"a": 5}})
        ),
    ],
    ids=lambda value: f"{value!s:.60}",
)
def test_what_has_the_shape_of_a_record_and_is_none_counts_as_nothing(linked: World, name: str, content: Any) -> None:
    """L5: nested without end, too large, or with values that no argument could have."""
    state, warnings = loaded(linked["cella"], name, content)
    part = {"cell_links.json": "links", "cell.json": "cell", "peer_registry.json": "peers"}[name]
    assert [name in warning and "cannot be read" in warning and warning.isprintable() and len(warning) < 500 for warning in warnings] == [True]
    assert getattr(state, part) == getattr(State(), part), "something of it was taken over"


@pytest.mark.parametrize(
    "values", [{"devices": ["x"]}, {"links": ["pic-a"]}, {"links": ["pic-a b c"]}, {"flows": ["-s 10.0.0.1\n"]}, {"exits": ["a b"]}, [], 5]
)
def test_a_note_of_what_has_to_go_that_is_none_ends_nothing(linked: World, values: Any) -> None:
    host = linked["cella"]
    _state, warnings = loaded(host, "leaving.json", values)
    assert ["leaving.json" in warning for warning in warnings] == [True]
    host.reset()
    rc, _out, err = program(host, "restore")
    assert (rc, host.steps) == (1, []) and "leaving.json" in err


def test_a_url_that_earlier_versions_took_costs_nobody_the_record(linked: World) -> None:
    host = linked["cella"]
    records = json.loads(host.read("/var/lib/pic/cell_links.json") or "")
    records["links"][0]["remote_api_url"] = "http://10.0.1.1:99999999"
    state, warnings = loaded(host, "cell_links.json", records)
    assert warnings == [] and state.links["cellb"].remote_api_url is None
    linked.site()
    assert Store(host).load().links["cellb"].remote_api_url == "http://10.0.1.1:8088"


def test_a_second_broken_file_does_not_replace_the_first(linked: World) -> None:
    host = linked["cella"]
    for number in (1, 2):
        host.write("/var/lib/pic/cell_links.json", f"broken {number}")
        linked.site()
    assert [host.read(f"/var/lib/pic/cell_links.json.corrupt{end}") for end in ("", ".1")] == ["broken 1", "broken 2"]


def test_records_are_for_root_alone(linked: World) -> None:
    files = {path: mode for path, (mode, _text) in linked["cella"].files.items() if path.startswith(("/var/lib/pic/", "/etc/wireguard/"))}
    assert files.pop("/var/lib/pic/view/links.json") == 0o644, "the receiver reads it where it is bound"
    assert files.pop("/var/lib/pic/exits/exits.json") == 0o644, "so does the watcher of exits"
    assert set(files.values()) == {0o600}


def started(action: Callable[[], object]) -> int:
    """Do something in a process of its own; return its number."""
    number = os.fork()
    if number == 0:
        try:
            action()
        finally:
            os._exit(0)
    return number


@pytest.fixture
def holder(real: Host) -> Iterator[int]:
    """Return the number of a process that holds the lock for half a second."""
    heard, told = os.pipe()

    def hold() -> None:
        with Store(real).lock():
            os.write(told, b"held")
            time.sleep(0.5)

    number = started(hold)
    os.read(heard, 4)
    yield number
    os.waitpid(number, 0)
    os.close(heard)
    os.close(told)


def test_who_has_to_wait_too_long_is_told_for_whom(real: Host, holder: int) -> None:
    words = rf"The records in /var/lib/pic have been locked by process {holder} for more than 0\.1 s\. Wait for it or stop it, then run again\."
    with pytest.raises(StoreError, match=words), Store(real).lock(wait=0.1):
        pytest.fail("two hold the lock")
    began = time.monotonic()
    with Store(real).lock():
        assert time.monotonic() - began > 0.1, "it did not wait"


def test_who_is_killed_holds_nothing(real: Host, holder: int) -> None:
    os.kill(holder, signal.SIGKILL)
    with Store(real).lock(wait=0.4):
        pass


def test_who_write_at_once_write_one_after_the_other(real: Host) -> None:
    def count() -> None:
        for _time in range(20):
            with Store(real).lock():
                real.write("/var/lib/pic/count", str(int(real.read("/var/lib/pic/count") or 0) + 1))

    for number in [started(count) for _process in range(3)]:
        os.waitpid(number, 0)
    assert real.read("/var/lib/pic/count") == "60"


def test_a_prediction_makes_no_folder(host: FakeHost) -> None:
    args = {"cell": {"name": "cella", "networks": ["10.0.0.1/24"]}}
    assert call("wg_cell", host, args, check=True)["changed"]
    assert not host.exists("/var/lib/pic")


@pytest.mark.parametrize(
    "path", ['/var/lib/pic"', "/var/lib/pic\n[Service]", "/var/lib/%n", "/var/lib/a b", "var/lib/pic", "/", "/var/lib/../../etc", "/var/lib/$HOME", "/vär"]
)
def test_a_folder_that_means_more_in_a_unit_is_refused(host: FakeHost, path: str) -> None:
    with pytest.raises(BadInput, match="cell_state_dir"):
        Store(host, path)
    with pytest.raises(BadInput, match="cell_state_dir"):
        units.files("/usr/local/bin/pic-cell", path, "/view", "/exits", "/var/lib/spool", 8088, 8)
