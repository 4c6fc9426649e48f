# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peer-sync through the tunnel between cells: a change on one is known to the other without Ansible reaching it."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.parts import peer_sync, signing, verdicts
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import Delivery, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import exchange
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import Refusal, Run, World, program, three_cells

PSKS = {"cellb": made_key("preshared key of a and b"), "cellc": made_key("preshared key of a and c")}


def inventory(transport: str) -> dict[str, dict[str, Any]]:
    cells = three_cells()
    for item in cells["cella"]["cell_links"]:
        item["preshared_key"] = PSKS[item["name"]]
    for cell in cells.values():
        cell["cell_sync_transport"] = transport
    return cells


@pytest.fixture(scope="session")
def _linked_by_tunnel(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("tunnel"), inventory("tunnel"))
    for _run in range(2):  # what is told at the end of one run can be what the next one builds on
        world.site()
    return world


@pytest.fixture
def tunnel(_linked_by_tunnel: World) -> World:
    """Return three cells that tell each other everything through the tunnels."""
    world = _linked_by_tunnel.fork()
    world.reset()
    return world


def replay(world: World, host: str, *words: str) -> str:
    """Do what the timer does; return what was printed."""
    rc, out, err = program(world[host], "replay", *words, send=functools.partial(world.carry, host))
    assert (rc, err) == (0, "")
    return out


def forge(world: World, host: str, message: Mapping[str, Any], signature: str = "", interface: str = "pic-cella", source: str = "10.0.0.1") -> list[str]:
    """Put something into a cell's spool, as a receiver that is somebody else's by now could; return what is written there."""
    body = peer_sync.render_push(message)
    world[host].files[f"{exchange.SPOOL}/cella.9.json"] = (0o600, render_delivery(Delivery(interface, source, signature, body)))
    world.reset()
    exchange.take_in(world[host], "/var/lib/pic")
    assert world[host].list(exchange.SPOOL) == []
    return [step for step in world[host].steps if exchange.SPOOL not in step]


def message(world: World, **changes: Any) -> dict[str, Any]:
    """Return what cella could tell cellb next."""
    known = world.link("cellb", "cella")["remote_generation"]
    outbound = {"outbound": {"files": True}}
    base = {"from_cell": "cella", "from_public_key": world.public_key("cella"), "generation": known + 1, "permissions": outbound}
    return {**base, "exit_offered": True, "use_as_exit_relay": True, **changes}


def signed(world: World, content: Mapping[str, Any]) -> str:
    key = signing.push_key(PSKS["cellb"], world.public_key("cella"), world.public_key("cellb")) or ""
    return signing.sign_push(key, peer_sync.render_push(content))


def test_cells_that_tell_each_other_by_tunnel_come_to_the_same_as_by_ansible(tmp_path: Path, tunnel: World) -> None:
    carried = World(tmp_path, inventory("delegate"))
    carried.site()
    for host, other in (("cella", "cellb"), ("cellb", "cella"), ("cella", "cellc"), ("cellc", "cella")):
        for key in ("permissions", "exit_offered", "remote_exit_offered", "exit_relay_active", "remote_exit_relay_active", "pending_push"):
            assert tunnel.link(host, other)[key] == carried.link(host, other)[key], (host, other, key)
    assert not any(tunnel.link(host, "cella")["pending_push"] for host in ("cellb", "cellc"))


def test_a_second_run_writes_nothing(tunnel: World) -> None:
    run = tunnel.site()
    assert (run.changed, tunnel.steps()) == ([], {})


@pytest.mark.parametrize("transport", ["tunnel", "auto"])
def test_a_change_is_known_to_the_other_cell_although_ansible_does_not_reach_it(tunnel: World, transport: str) -> None:
    for cell in tunnel.inventory.values():
        cell["cell_sync_transport"] = transport
    run = tunnel.job("share", cell="cella", remote_cell="cellb", services="voice")
    if transport == "tunnel":
        assert {host for host, _module, _args in run.calls} == {"cella"}
    assert tunnel.link("cellb", "cella")["permissions"]["outbound"] == {"voice": True}
    tunnel.job("offer_exit", cell="cella", remote_cell="cellb", offered="false")
    assert tunnel.link("cellb", "cella")["remote_exit_offered"] is False


def test_a_withdrawn_offer_closes_the_other_cells_way_at_once(tunnel: World) -> None:
    assert tunnel.link("cellb", "cella")["exit_relay_active"]
    tunnel.job("offer_exit", cell="cella", remote_cell="cellb", offered="false")
    link = tunnel.link("cellb", "cella")
    assert (link["remote_exit_offered"], link["exit_relay_active"]) == (False, False)
    table = link["exit_table"]
    assert [route.dev for route in tunnel["cellb"].routes if route.table == table and route.family == 4] == [None]
    replay(tunnel, "cellb")
    assert not tunnel.link("cella", "cellb")["remote_exit_relay_active"]


def test_ten_changes_while_the_other_cell_is_off_arrive_as_one(tunnel: World) -> None:
    tunnel.dead.add("cellb")
    for number in range(10):
        run = tunnel.job("share", play=("cella", "cellc"), cell="cella", remote_cell="cellb", services="files" if number % 2 else "voice")
    assert any("has not been told the latest state yet (not reached)" in warning for warning in run.warnings())
    link = tunnel.link("cella", "cellb")
    assert (link["pending_push"], link["last_push_status"], link["last_push_error"]) == (True, None, "not reached")
    tunnel.reset()
    replay(tunnel, "cella")
    assert tunnel.steps() == {}, "a push that fails again in the same way changes nothing"
    before = tunnel.link("cellb", "cella")["remote_generation"]
    tunnel.dead.clear()
    assert "cell cellb: taken over" in replay(tunnel, "cella")
    link, heard = tunnel.link("cella", "cellb"), tunnel.link("cellb", "cella")
    assert (link["pending_push"], link["last_push_status"], link["last_push_error"]) == (False, 200, None)
    assert (heard["permissions"]["outbound"], heard["remote_generation"]) == ({"files": True}, before + 10)
    assert replay(tunnel, "cella") == ""


def test_a_cell_that_is_not_reached_is_tried_again_in_one_run(tunnel: World) -> None:
    tunnel.dead.add("cellb")
    tunnel.job("share", play=("cella", "cellc"), cell="cella", remote_cell="cellb", services="none")
    tries: list[int] = []

    def send(pushes: Mapping[str, Push]) -> dict[str, Any]:
        tries.append(len(pushes))
        return dict.fromkeys(pushes)

    assert program(tunnel["cella"], "replay", "--attempts", "4", send=send)[0] == 0
    assert tries == [1, 1, 1, 1]


@pytest.mark.parametrize("status", [302, 403, 500, 502])
def test_whatever_is_no_acknowledgement_leaves_it_pending(tunnel: World, status: int) -> None:
    tunnel.dead.add("cellb")
    tunnel.job("share", play=("cella", "cellc"), cell="cella", remote_cell="cellb", services="none")
    answer = {"status": status, "generation": 0, "reason": f"HTTP status {status}"}
    assert program(tunnel["cella"], "replay", send=lambda pushes: dict.fromkeys(pushes, answer))[0] == 0
    link = tunnel.link("cella", "cellb")
    assert (link["pending_push"], link["last_push_status"], link["last_push_error"]) == (True, status, f"HTTP status {status}")


def test_an_exit_wish_that_is_refused_closes_the_way_and_the_rest_is_told(tunnel: World) -> None:
    """The offer was withdrawn while nobody could say so."""
    tunnel.dead.add("cellb")
    tunnel.job("offer_exit", play=("cella", "cellc"), cell="cella", remote_cell="cellb", offered="false")
    tunnel.dead = {"cella"}
    tunnel.inventory["cellb"]["cell_services"] = [{"name": "mail", "address": "10.0.1.1", "port": 25, "protocol": "tcp"}]
    tunnel.inventory["cellb"]["cell_links"] = [{"name": "cella", "share": ["mail"], "offer_exit": True}]
    tunnel.site("cellb")
    assert tunnel.link("cellb", "cella")["exit_relay_active"]
    tunnel.dead.clear()
    replay(tunnel, "cellb")
    link = tunnel.link("cellb", "cella")
    assert (link["remote_exit_offered"], link["exit_relay_active"], link["pending_push"]) == (False, False, False)
    heard = tunnel.link("cella", "cellb")
    assert (heard["permissions"]["outbound"], heard["remote_exit_relay_active"]) == ({"mail": True}, False)


def test_a_refused_wish_is_not_held_against_an_offer_that_has_arrived_since(tunnel: World) -> None:
    """The answer is on its way, or waits for the lock, while the other cell offers its exit again."""
    tunnel.dead.add("cellb")
    tunnel.job("offer_exit", play=("cella", "cellc"), cell="cella", remote_cell="cellb", offered="false")
    tunnel.dead.clear()
    tunnel.inventory["cellb"]["cell_services"] = [{"name": "mail", "address": "10.0.1.1", "port": 25, "protocol": "tcp"}]
    tunnel.inventory["cellb"]["cell_links"] = [{"name": "cella", "share": ["mail"], "offer_exit": True}]
    tunnel.dead = {"cella"}
    tunnel.site("cellb")
    tunnel.dead.clear()
    sent: list[int] = []

    def send(pushes: Mapping[str, Push]) -> dict[str, Any]:
        answers = tunnel.carry("cellb", pushes)
        sent.append(answers["cella"]["status"])
        if sent == [409]:
            tunnel.job("offer_exit", play=("cella", "cellc"), cell="cella", remote_cell="cellb", offered="true")
        return answers

    assert program(tunnel["cellb"], "replay", send=send)[0] == 0
    assert sent == [409, 200]
    link = tunnel.link("cellb", "cella")
    assert (link["remote_exit_offered"], link["exit_relay_active"], link["pending_push"]) == (True, True, False)
    assert tunnel.link("cella", "cellb")["remote_exit_relay_active"] is True


def test_a_reinstalled_cell_continues_from_what_the_other_one_knows(tunnel: World) -> None:
    for name in ("generation", "minted"):
        record = tunnel.record("cella")
        for link in record["links"]:
            link[name] = {"generation": 0, "minted": None}[name]
        tunnel["cella"].files["/var/lib/pic/cell_links.json"] = (0o600, json.dumps(record))
    replay(tunnel, "cella")
    link = tunnel.link("cella", "cellb")
    assert link["pending_push"] is False
    assert link["generation"] == tunnel.link("cellb", "cella")["remote_generation"]


def test_news_is_not_lost_in_a_generation_that_the_other_cell_has_already(tunnel: World) -> None:
    """The links' record was lost, and as many changes since then as the other cell had heard before."""
    record = tunnel.record("cella")
    for link in record["links"]:
        link.update(generation=link["generation"] - 1, minted=None, permissions={**link["permissions"], "inbound": {}})
    tunnel["cella"].files["/var/lib/pic/cell_links.json"] = (0o600, json.dumps(record))
    replay(tunnel, "cella")
    link = tunnel.link("cella", "cellb")
    assert tunnel.link("cellb", "cella")["permissions"]["outbound"] == {}
    assert (link["pending_push"], link["generation"]) == (False, tunnel.link("cellb", "cella")["remote_generation"])


@pytest.mark.parametrize(
    "how",
    [
        {"interface": "wg0"},
        {"source": "10.0.0.2"},
        {"signature": ""},
        {"signature": "00" * 32},
        {"changes": {"generation": 1}},
        {"changes": {"from_public_key": made_key("somebody")}},
        {"changes": {"from_cell": "cellx"}},
        {"changes": {"from_cell": "cellc"}},
    ],
)
def test_what_is_handed_over_is_judged_again(tunnel: World, how: dict[str, Any]) -> None:
    content = message(tunnel, **how.get("changes", {}))
    rest = {key: value for key, value in how.items() if key != "changes"}
    assert forge(tunnel, "cellb", content, **{"signature": signed(tunnel, content), **rest}) == []


def test_what_is_handed_over_and_right_is_taken_over(tunnel: World) -> None:
    content = message(tunnel, permissions={"outbound": {}})
    assert forge(tunnel, "cellb", content, signed(tunnel, content)) != []
    assert tunnel.link("cellb", "cella")["permissions"]["outbound"] == {}


def test_garbage_in_the_spool_goes_and_changes_nothing(tunnel: World) -> None:
    for number, text in enumerate(("", "{", "[" * 9999, "x" * 200_000)):
        tunnel["cellb"].files[f"{exchange.SPOOL}/{number}"] = (0o600, text)
    tunnel.reset()
    exchange.take_in(tunnel["cellb"], "/var/lib/pic")
    assert [step for step in tunnel["cellb"].steps if exchange.SPOOL not in step] == []
    assert tunnel["cellb"].list(exchange.SPOOL) == []


def test_nothing_that_the_receiver_could_hand_over_keeps_root_from_hearing_the_others(tunnel: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tunnel["cellb"]
    logged: list[str] = []
    content = message(tunnel, from_public_key="\ud800")
    body = peer_sync.render_push(content)
    host.files[f"{exchange.SPOOL}/0"] = (0o600, render_delivery(Delivery("pic-cella", "10.0.0.1", "", body)))
    host.files[f"{exchange.SPOOL}/1\nforged line \udcff"] = (0o600, "")
    host.files[f"{exchange.SPOOL}/2/in a folder/2"] = (0o600, "")
    content = message(tunnel, permissions={"outbound": {}})
    host.files[f"{exchange.SPOOL}/cella.3.json"] = (
        0o600,
        render_delivery(Delivery("pic-cella", "10.0.0.1", signed(tunnel, content), peer_sync.render_push(content))),
    )
    exchange.take_in(host, "/var/lib/pic", log=logged.append)
    assert tunnel.link("cellb", "cella")["permissions"]["outbound"] == {}
    assert [path for path in host.files if path.startswith(exchange.SPOOL)] == [], "systemd would start root again and again"
    assert all(line.isprintable() for line in logged)


def test_a_receiver_that_fills_its_folder_is_stopped_and_the_folder_emptied(tunnel: World) -> None:
    host = tunnel["cellb"]
    logged: list[str] = []
    content = message(tunnel, permissions={"outbound": {}})
    delivery = render_delivery(Delivery("pic-cella", "10.0.0.1", signed(tunnel, content), peer_sync.render_push(content)))
    host.files.update({f"{exchange.SPOOL}/cella.{number}.json": (0o600, delivery) for number in range(3000)})
    for _run in range(100):
        exchange.take_in(host, "/var/lib/pic", log=logged.append)
        if not host.list(exchange.SPOOL):
            break
    assert host.list(exchange.SPOOL) == []
    assert "pic-cell-serve.service" not in host.active
    assert any("journalctl -u pic-cell-serve.service" in line for line in logged)


def test_root_reads_one_push_of_each_linked_cell_and_says_in_one_line_what_is_none(tunnel: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tunnel["cellb"]
    logged: list[str] = []
    read: list[str] = []
    found = host.read_foreign
    monkeypatch.setattr(host, "read_foreign", lambda path, limit: read.append(path) or found(path, limit))
    for name in ("cella.1.json", "cella.2.json", "cella.10.json", "cellx.3.json", ".cella.4.json.new", ".hidden", "\udcff", "x" * 200, "cella.9.json/a"):
        host.files[f"{exchange.SPOOL}/{name}"] = (0o600, "{")
    exchange.take_in(host, "/var/lib/pic", log=logged.append)
    assert [path.rpartition("/")[2] for path in read if path != verdicts.FOUND] == ["cella.10.json"]
    assert len(logged) == 1
    assert host.list(exchange.SPOOL) == [], "what begins with a dot goes as well"


def test_a_file_of_the_receiver_that_is_no_plain_file_is_not_read(real: Host, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert [real.read_foreign(f"/{name}", 100) for name in ("link", "folder", "pipe", "none")] == [None] * 4
    assert (real.read_foreign("/secret", 6), real.read_foreign("/secret", 5)) == ("secret", None)


def test_folders_that_are_nested_deeper_than_a_path_can_say_are_removed(real: Host, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    here = os.open(tmp_path / "spool", os.O_RDONLY)
    for _depth in range(3000):
        os.mkdir("folder" + "x" * 200, dir_fd=here)
        inner = os.open("folder" + "x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    for number in range(3000):
        (tmp_path / "spool" / ("folder" + "x" * 200) / str(number)).touch()
    real.remove_foreign("/spool/folder" + "x" * 200)
    assert real.list("/spool") == []


def test_a_folder_with_any_number_of_entries_is_listed_up_to_a_bound(real: Host, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for number in range(300):
        (tmp_path / "spool" / f".{number}").touch()
    assert len(real.list_foreign("/spool", 100)) == 100
    assert len(real.list_foreign("/spool", 1000)) == 300
    assert real.list_foreign("/none", 5) == []


def test_whatever_the_receiver_has_made_is_removed_and_no_link_is_followed(real: Host, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "secret").write_text("secret")
    (tmp_path / "spool" / "folder" / "deeper").mkdir(parents=True)
    (tmp_path / "spool" / "folder" / "deeper" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "spool" / "link").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / "spool" / "pipe")
    for name in ("folder", "link", "pipe", "none"):
        real.remove_foreign(f"/spool/{name}")
    assert real.list("/spool") == []
    assert real.list("/kept") == ["secret"]


def test_a_link_without_a_key_is_refused_unless_it_is_told_to_do_without(tunnel: World) -> None:
    for item in tunnel.inventory["cella"]["cell_links"]:
        del item["preshared_key"]
    for host, other in (("cella", "cellb"), ("cellb", "cella")):
        path = f"/etc/wireguard/pic-{other}.conf"
        mode, text = tunnel[host].files[path]
        tunnel[host].files[path] = (mode, "".join(line for line in text.splitlines(keepends=True) if "PresharedKey" not in line))
        assert program(tunnel[host], "restore")[0] == 0
    tunnel.job("share", cell="cella", remote_cell="cellb", services="none")
    assert (tunnel.link("cella", "cellb")["pending_push"], tunnel.link("cella", "cellb")["last_push_status"]) == (True, 403)
    for cell in tunnel.inventory.values():
        for item in cell["cell_links"]:
            item["sync_auth"] = "address"
    tunnel.site("cellb")
    tunnel.site("cella")
    assert keys(tunnel, "cella", "cellb") == (None, None)
    assert (tunnel.link("cella", "cellb")["pending_push"], tunnel.link("cellb", "cella")["permissions"]["outbound"]) == (False, {"files": True, "voice": True})


def test_check_mode_sends_nothing(tunnel: World) -> None:
    tunnel.job("share", check=True, cell="cella", remote_cell="cellb", services="none")
    assert tunnel.steps() == {}


# Preshared keys between cells of the inventory


def keys(world: World, host: str, other: str) -> tuple[str | None, str | None]:
    """Return the preshared key that each end of a link has."""
    one = world[host].wg[f"pic-{other}"].peers.get(world.public_key(other)) if f"pic-{other}" in world[host].wg else None
    two = world[other].wg[f"pic-{host}"].peers.get(world.public_key(host)) if f"pic-{host}" in world[other].wg else None
    return (one.psk if one else None), (two.psk if two else None)


def test_both_ends_of_a_link_get_one_new_key_and_a_second_run_leaves_it(linked: World) -> None:
    one, two = keys(linked, "cella", "cellb")
    other, _other = keys(linked, "cella", "cellc")
    assert one is not None
    assert (one, one != other) == (two, True)
    linked.site()
    assert linked.steps() == {}


def test_a_key_is_made_only_in_a_run_that_reaches_both_ends(tmp_path: Path) -> None:
    world = World(tmp_path, three_cells())
    world.dead.add("cellb")
    world.site()
    assert keys(world, "cella", "cellb")[0] is None
    world.dead = {"cella"}
    world.site()
    assert keys(world, "cella", "cellb") == (None, None)
    world.dead.clear()
    world.site("cella")
    assert keys(world, "cella", "cellb") == (None, None), "the other one was only read"
    world.site()
    assert len(set(keys(world, "cella", "cellb"))) == 1
    assert keys(world, "cella", "cellb")[0]


@pytest.mark.parametrize("lost", ["cella", "cellb"])
def test_ends_that_differ_come_to_one_key_again(linked: World, lost: str) -> None:
    before = keys(linked, "cella", "cellb")
    other = {"cella": "cellb", "cellb": "cella"}[lost]
    path = f"/etc/wireguard/pic-{other}.conf"
    mode, text = linked[lost].files[path]
    linked[lost].files[path] = (mode, "".join(line for line in text.splitlines(keepends=True) if "PresharedKey" not in line))
    predicted, done = linked.site(check=True), linked.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    after = keys(linked, "cella", "cellb")
    assert after[0] == after[1]
    assert after == before, "the end that has a key hands it over"
    linked.reset()
    linked.site()
    assert linked.steps() == {}


def test_of_two_different_keys_that_of_the_cell_with_the_lower_name_stays(linked: World) -> None:
    before = keys(linked, "cella", "cellb")
    mode, text = linked["cellb"].files["/etc/wireguard/pic-cella.conf"]
    linked["cellb"].files["/etc/wireguard/pic-cella.conf"] = (mode, re.sub("PresharedKey = .*", f"PresharedKey = {made_key('another')}", text))
    linked.site()
    assert keys(linked, "cella", "cellb") == before


def test_a_key_that_the_inventory_states_is_nobody_elses_to_make(tunnel: World) -> None:
    assert keys(tunnel, "cella", "cellb") == (PSKS["cellb"],) * 2


def test_a_link_by_playbook_gets_its_key_at_once(tmp_path: Path) -> None:
    cells = three_cells()
    for cell in cells.values():
        cell["cell_links"] = []
        cell["cell_peers"] = []
    world = World(tmp_path, cells)
    world.site()
    world.job("link", cell="cella", remote_cell="cellb")
    assert keys(world, "cella", "cellb")[0]
    assert len(set(keys(world, "cella", "cellb"))) == 1


# Cells of other owners


def owner(folder: Path, cell: str) -> World:
    """Return what one owner has: an inventory with nothing but his own cell."""
    return World(folder, {cell: {**three_cells()[cell], "cell_links": [], "cell_peers": three_cells()[cell]["cell_peers"][:1]}})


def invited(run: Run, host: str) -> dict[str, Any]:
    return run.of(host, "pic_link_invitation")[0]


def test_two_owners_link_their_cells_with_one_invitation_each_way(tmp_path: Path) -> None:
    ours, theirs = owner(tmp_path / "a", "cella"), owner(tmp_path / "b", "cellb")
    ours.inventory["cella"]["cell_peers"][0]["route_via"] = theirs.inventory["cellb"]["cell_peers"][0]["route_via"] = "direct"
    ours.elsewhere, theirs.elsewhere = theirs.hosts, ours.hosts
    ours["cella"].dns["cellb.example.net"] = ["192.0.2.12"]
    ours.site()
    theirs.site()
    first = invited(ours.job("link", cell="cella", remote_cell="cellb", invitation="new", services="files"), "cella")
    path = first["key_file"]
    secret = ours["cella"].files[path]
    assert (path, secret[0]) == ("/var/lib/pic/invitations/cellb.psk", 0o600)
    assert secret[1].strip() not in json.dumps(first)
    assert first["invitation"]["endpoint"] == "cella.example.net:51821"
    sent = json.dumps(first["invitation"])
    second = invited(theirs.job("link", cell="cellb", remote_cell="cella", invitation=sent, preshared_key=secret[1].strip(), offered="true"), "cellb")
    assert second["key_file"] == ""
    assert "cella.example.net" in json.dumps(theirs.link("cellb", "cella"))
    ours.job("link", cell="cella", remote_cell="cellb", invitation=json.dumps(second["invitation"]))
    replay(theirs, "cellb")
    assert ours["cella"].wg["pic-cellb"].peers[theirs.public_key("cellb")].psk == secret[1].strip()
    assert theirs["cellb"].wg["pic-cella"].peers[ours.public_key("cella")].psk == secret[1].strip()
    assert theirs.link("cellb", "cella")["permissions"]["outbound"] == {"files": True}
    assert ours.link("cella", "cellb")["remote_exit_offered"]
    ours.job("route_peer", cell="cella", peer="phone", via_cell="cellb")
    assert theirs.link("cellb", "cella")["remote_exit_relay_active"]
    ours.reset(), theirs.reset()
    ours.site(), theirs.site()
    assert (ours.link("cella", "cellb")["pending_push"], theirs.link("cellb", "cella")["pending_push"]) == (False, False)
    again = ours.job("link", cell="cella", remote_cell="cellb", invitation=json.dumps(second["invitation"]))
    assert (again.due, invited(again, "cella")["invitation"]["name"]) == (["invited"], "cella"), "it is shown though nothing else is to be done"
    theirs.job("offer_exit", cell="cellb", remote_cell="cella", offered="false")
    assert not ours.link("cella", "cellb")["exit_relay_active"]


INVITATION = {"name": "cellx", "public_key": made_key("x"), "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], "endpoint": "192.0.2.9:51821"}


@pytest.mark.parametrize(
    ("invitation", "sentence"),
    [
        ("", "does not know cell"),
        ("{", "the given value is not an invitation"),
        ("[]", "the given value is not an invitation"),
        ("/nowhere/invitation.json", "the given value is not an invitation"),
        (json.dumps({**INVITATION, "name": "celly"}), "comes from cell 'celly'"),
        (json.dumps({**INVITATION, "public_key": "x"}), "not a WireGuard key"),
        (json.dumps({**INVITATION, "networks": ["10.9.0.1/24"]}), "networks of the invitation"),
        (json.dumps({**INVITATION, "networks": []}), "lacks the public key or the networks"),
        (json.dumps({**INVITATION, "networks": ["10.0.1.0/25"], "address": []}), "overlap"),
        (json.dumps({**INVITATION, "endpoint": "x"}), "is not host:port"),
        (json.dumps({**INVITATION, "api_url": "http://x/$(y)"}), "is not a URL"),
    ],
)
def test_an_invitation_that_cannot_be_is_refused_before_anything_changes(linked: World, invitation: str, sentence: str) -> None:
    with pytest.raises((BadInput, Refusal), match=re.escape(sentence)):
        linked.job("link", cell="cella", remote_cell="cellx", invitation=invitation)
    assert linked.steps() == {}


def test_an_invitation_can_be_a_file(linked: World, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(INVITATION))
    linked.job("link", cell="cella", remote_cell="cellx", invitation=str(tmp_path / "x.json"))
    assert linked.link("cella", "cellx")["endpoint"] == "192.0.2.9:51821"
