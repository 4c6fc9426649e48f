# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pic.cells.adopt: the inventory that describes what is on a host already. With it site takes that over, and no device notices."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.records.soundness import LARGEST
from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.plugins.plugin_utils.outside import is_misread
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, BOB, FILES, OWN, PORT, SECRET
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import clamped, made_key
from ansible_collections.pic.cells.tests.unit.test_adoption import furnished
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key

WG0 = "/etc/wireguard/wg0.conf"
NETWORKS = ["10.0.0.1/24", "fd00:a::1/64"]
every_file = pytest.mark.parametrize("tool", FILES)


def adopt(host: FakeHost, **args: str) -> dict[str, Any]:
    """Read a host; nothing may change, check mode says the same, and so does a second time. No secret may be shown."""
    before = host.text()
    found, again, foreseen = (call("pic_cell_adopt", host, args, check=check) for check in (False, False, True))
    assert host.text() == before
    assert "msg" not in found, found
    assert found == again and {**found, "invocation": None} == {**foreseen, "invocation": None}
    shown = json.dumps(found)
    assert not any(secret in shown for secret in (OWN, clamped(OWN), *SECRET.values(), *host.secrets))
    kept = judged("pic_cell_adopt", found)
    assert "failed" not in kept, kept
    assert (kept["inventory"], kept["notes"]) == (found["inventory"], found["notes"])
    return found


def refused(host: FakeHost, **args: str) -> str:
    """Return the sentence by which this is refused."""
    return str(call("pic_cell_adopt", host, args)["msg"])


@pytest.fixture
def old(tmp_path: Path) -> World:
    """Return a host of which the inventory says nothing yet."""
    return World(tmp_path, {"cella": {}})


def taken_over(world: World, inventory: Mapping[str, Any]) -> None:
    """Take a host over with an inventory: its devices stay as they are, and a second run changes nothing."""
    host = world["cella"]
    text, peers = host.read(WG0), dict(host.wg["wg0"].peers)
    key = host.wg["wg0"].private
    world.inventory["cella"] = dict(inventory)
    host.reset()
    world.site()
    assert not [step for step in host.steps if step.startswith(("wg ", "wg-quick ", "systemctl restart wg-quick@wg0")) or step.endswith(WG0)]
    assert (host.read(WG0), host.wg["wg0"].peers, host.wg["wg0"].private) == (text, peers, key)
    host.reset()
    assert (world.site().changed, host.steps) == ([], [])


@every_file
def test_a_file_of_each_kind_is_described_and_taken_over(old: World, tool: str) -> None:
    host = furnished(old["cella"], FILES[tool])
    found = adopt(host)
    names = ["alice-who-is-often-away" if tool == "plain" else "alice", "bob"]
    alone = "10.0.0.3/32\n" in FILES[tool] or tool == "plain"
    assert found["inventory"] == {
        "cell_networks": NETWORKS,
        **({"cell_endpoint": "vpn.example.net"} if "ENDPOINT" in FILES[tool] else {}),
        "cell_peers": [
            {"name": names[0], "public_key": ALICE, "addresses": ["10.0.0.2", "fd00:a::2"]},
            {"name": names[1], "public_key": BOB, "addresses": ["10.0.0.3", *([] if alone else ["fd00:a::3"])]},
        ],
    }
    taken_over(old, found["inventory"])
    again = adopt(host)
    assert again["inventory"] == {"cell_name": "cella", **found["inventory"]}
    taken_over(old, again["inventory"])


def test_what_is_in_no_variable_is_said_with_its_line(host: FakeHost) -> None:
    furnished(host, FILES["plain"])
    assert adopt(host)["notes"] == [
        f"{WG0} line 7: DNS stays as it is.",
        f"{WG0} line 8: FwMark stays as it is.",
        f"{WG0} line 9: PreUp is a command, which stays as it is; what it does is not looked at.",
        f"{WG0} line 10: PostUp is a command, which stays as it is; what it does is not looked at.",
        f"{WG0} line 11: PostDown is a command, which stays as it is; what it does is not looked at.",
        f"{WG0} line 17: PresharedKey stays in the file, and is not read.",
        f"{WG0} line 26: PersistentKeepalive stays as it is.",
        f"{WG0} line 14: 'alice, who is often away' is called alice-who-is-often-away.",
    ]


def test_a_file_that_site_would_refuse_is_said_to_be_one(host: FakeHost) -> None:
    host.files[WG0] = (0o600, FILES["PiVPN"].replace("MTU", "MTUU"))
    notes = adopt(host)["notes"]
    assert any(note.startswith("site refuses the interface wg0 as it is. ") and "line 4 ('MTUU')" in note for note in notes), notes
    host.files["/etc/netplan/60-home.yaml"] = (0o600, "network:\n  tunnels:\n    wg0:\n      mode: wireguard\n")
    assert any("netplan" in note for note in adopt(host)["notes"])


def test_a_host_with_nothing_says_so(host: FakeHost) -> None:
    found = adopt(host)
    assert found["inventory"] == {}
    assert found["notes"] == ["No network of a cell was found. State cell_networks: the cell's own address in each of its networks, with its prefix."]


def test_another_interface_is_read_where_one_is_named(old: World) -> None:
    host = old["cella"]
    host.files["/etc/wireguard/wg1.conf"] = (0o600, FILES["Nyr"].replace("# ENDPOINT vpn.example.net", ""))
    found = adopt(host, interface="wg1")
    assert found["inventory"]["cell_interface"] == "wg1" and len(found["inventory"]["cell_peers"]) == 2
    assert adopt(host)["inventory"] == {}
    assert "'a b' is not a valid name" in refused(host, interface="a b")


# Who cannot be stated


def peers(*sections: str) -> str:
    """Return a file with these peers."""
    return f"[Interface]\nPrivateKey = {OWN}\nListenPort = {PORT}\nAddress = 10.0.0.1/24, fd00:a::1/64\n" + "".join(f"\n{text}\n" for text in sections)


def section(allowed: str, name: str = "alice", label: str = "") -> str:
    """Return a peer."""
    return f"[Peer]\n{f'# {label}' if label else '#'}\nPublicKey = {device_key(name)}\nAllowedIPs = {allowed}"


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        ("192.168.8.0/24", "it has no address in a network of the interface, as the other end of a link between two sites has none"),
        ("10.0.0.2/32, 10.0.0.128/25", "10.0.0.128/25 in AllowedIPs is neither an address of one device nor a network behind it"),
        ("10.0.0.2/32, 0.0.0.0/0", "0.0.0.0/0 in AllowedIPs is neither an address of one device nor a network behind it"),
    ],
)
def test_a_peer_that_would_change_is_left_out_with_its_reason(old: World, allowed: str, why: str) -> None:
    text = peers(section(allowed, label="alice"), section("10.0.0.3/32", "bob", "bob"))
    host = furnished(old["cella"], text.replace("\n\n[Peer]", "\nTable = off\n[Peer]", 1))
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["bob"]
    assert f"{WG0} line 6: {why}. It stays the peer that it is, and is left out." in found["notes"]
    taken_over(old, found["inventory"])


def test_a_network_behind_a_device_is_stated_as_one(old: World) -> None:
    host = furnished(old["cella"], peers(section("10.0.0.2/32, 192.168.8.0/24, 10.66.66.9/32", label="alice")))
    found = adopt(host)
    assert found["inventory"]["cell_peers"][0]["networks"] == ["192.168.8.0/24", "10.66.66.9/32"]
    assert f"{WG0} line 6: 192.168.8.0/24, 10.66.66.9/32 is behind the device alice, and stays so (networks)." in found["notes"]
    taken_over(old, found["inventory"])


def test_of_two_peers_with_one_address_the_later_one_has_it(old: World) -> None:
    host = furnished(old["cella"], peers(section("10.0.0.2/32", "alice", "one"), section("10.0.0.2/32", "bob", "two")))
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["two"]
    assert any("line 6: its address 10.0.0.2 is that of" in note for note in found["notes"])
    taken_over(old, found["inventory"])


def test_a_peer_that_stands_there_twice_is_one(host: FakeHost) -> None:
    host.files[WG0] = (0o600, peers(section("10.0.0.2/32", label="alice"), section("10.0.0.3/32", label="other")))
    found = adopt(host)
    assert [(item["name"], item["addresses"]) for item in found["inventory"]["cell_peers"]] == [("alice", ["10.0.0.3"])]
    assert any("line 11: the peer of /etc/wireguard/wg0.conf line 6 stands here again" in note for note in found["notes"])


def test_a_key_that_none_can_have_is_not_shown(host: FakeHost) -> None:
    host.files[WG0] = (0o600, peers(section("10.0.0.2/32").replace(device_key("alice"), "c2VjcmV0")))
    found = adopt(host)
    assert "cell_peers" not in found["inventory"] and "c2VjcmV0" not in json.dumps(found)
    assert any("the public key is none that a device can have" in note for note in found["notes"])


def test_a_disabled_device_is_left_out_and_said(host: FakeHost) -> None:
    text = FILES["PiVPN"]
    begin = text.index("### begin bob")
    host.files[WG0] = (0o600, text[:begin] + "".join(f"#[disabled] {line}\n" for line in text[begin:].splitlines()))
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["alice"]
    assert f"{WG0} line 13: a peer called 'bob' is commented out, and is left out." in found["notes"]


def test_peers_that_only_the_kernel_has_are_said(host: FakeHost) -> None:
    furnished(host, FILES["PiVPN"])
    host.by_hand("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {device_key('guest')}\nAllowedIPs = 10.0.0.9/32\n")
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["alice", "bob"]
    assert f"{WG0}: the interface has peers that are not in it, and are left out: {device_key('guest')}." in found["notes"]


def test_a_host_without_wg_is_read_all_the_same(host: FakeHost) -> None:
    host.files[WG0] = (0o600, FILES["PiVPN"])
    host.missing.add("wg")
    found = adopt(host)
    assert len(found["inventory"]["cell_peers"]) == 2
    assert not any("refuses" in note for note in found["notes"])


def test_thousands_of_devices_are_described_in_seconds(host: FakeHost) -> None:
    text = peers(*(section(f"10.0.{number >> 8}.{number & 255}/32", f"d{number}", "same name") for number in range(2, 5000))).replace("/24", "/16")
    host.files[WG0] = (0o600, text)
    began = time.monotonic()
    found = call("pic_cell_adopt", host, {})
    assert time.monotonic() - began < 15
    assert len(found["inventory"]["cell_peers"]) == 4998 == len({item["name"] for item in found["inventory"]["cell_peers"]})
    assert found["notes"][-1].startswith("And ")


# Names


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Anna's iPhone", "anna-s-iphone"),
        ("José_2", "jose-2"),
        ("7", "device-7"),
        ("no", "device-no"),
        ("1e3", "device-1e3"),
        ("0x1f", "device-0x1f"),
        ("2024-01-01", "device-2024-01-01"),
        ("direct", "device-direct"),
        ("手机", "device-10-0-0-2"),
        ("", "device-10-0-0-2"),
        ("{{ lookup('pipe', 'id') }}", "lookup-pipe-id"),
        ("a: b\u2028c\x85- d\x1b[2J", "a-b-c-d-2j"),
        ("\udcff\udcfe x", "x"),
        ("the long name of a telephone of Anna's", "the-long-name-of-a-telephone-of"),
        ("!unsafe &a *b", "unsafe-a-b"),
    ],
)
def test_a_name_becomes_one_that_a_device_can_have(host: FakeHost, label: str, name: str) -> None:
    host.files[WG0] = (0o600, peers(section("10.0.0.2/32", label=label)))
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == [name]
    assert not is_misread(name)
    assert any(f"is called {name}." in note for note in found["notes"])
    assert all(note.isprintable() for note in found["notes"])


def test_names_that_become_the_same_are_told_apart(host: FakeHost) -> None:
    labels = ["A", "a", "a-2", "xxxxxxx " * 4, "xxxxxxx " * 5, "", ""]
    text = peers(*(section(f"10.0.0.{number}/32", f"d{number}", label) for number, label in enumerate(labels, 2)))
    host.files[WG0] = (0o600, text)
    names = [item["name"] for item in adopt(host)["inventory"]["cell_peers"]]
    assert names == ["a", "a-2", "a-2-2", "xxxxxxx-xxxxxxx-xxxxxxx-xxxxxxx", "xxxxxxx-xxxxxxx-xxxxxxx-xxxxxx-2", "device-10-0-0-7", "device-10-0-0-8"]


def test_a_secret_in_a_comment_is_neither_name_nor_note(host: FakeHost) -> None:
    secret = made_key("a secret").rstrip("=")  # with its end it would look like a setting
    host.files[WG0] = (0o600, peers(section("10.0.0.2/32", label=f"PrivateKey: {secret}"), section("10.0.0.3/32", "bob", secret.lower())))
    host.secrets.add(secret)
    found = adopt(host)
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["device-10-0-0-2", "device-10-0-0-3"]
    assert secret.lower() not in json.dumps(found)


# wg-easy's own file


def wg_easy(**clients: Mapping[str, Any]) -> str:
    """Return wg-easy's wg0.json, which holds all secrets."""
    server = {"privateKey": OWN, "publicKey": device_key("server"), "address": "10.0.0.1"}
    full = {
        f"id-{name}": {
            "id": f"id-{name}",
            "name": name,
            "address": "10.0.0.2",
            "privateKey": made_key("of a client"),
            "publicKey": device_key(name),
            "preSharedKey": SECRET["alice"],
            "createdAt": "2023-05-02T10:11:12.000Z",
            "enabled": True,
            **client,
        }
        for name, client in clients.items()
    }
    return json.dumps({"server": server, "clients": full})


def test_wg_easys_file_says_what_the_peers_of_the_interface_are_called(old: World) -> None:
    text = FILES["wg-easy"].replace("# Client: alice (6f9619ff)\n", "")
    host = furnished(old["cella"], text)
    host.secrets.add(made_key("of a client"))
    clients = wg_easy(alice={"name": "Alice's phone"}, bob={"address": "10.0.0.3", "enabled": False}, new={"address": "10.0.0.9"})
    host.files["/srv/wg-easy/wg0.json"] = (0o660, clients)
    for source in ("/srv/wg-easy", "/srv/wg-easy/wg0.json"):
        found = adopt(host, source=source)
        assert [(item["name"], item["public_key"]) for item in found["inventory"]["cell_peers"]] == [("alice-s-phone", ALICE), ("bob", BOB)]
        assert "/srv/wg-easy/wg0.json client 2: a client called 'bob' is disabled, and is left out." in found["notes"]
        assert "/srv/wg-easy/wg0.json client 3: 'new' is no peer of the interface, and is left out." in found["notes"]
    taken_over(old, found["inventory"])


def test_a_container_of_wg_easy_is_described_and_taken_over_when_its_file_stands_on_the_host(old: World) -> None:
    host = old["cella"]
    host.files["/srv/wg-easy/wg0.json"] = (0o660, wg_easy(alice={}, bob={"address": "10.0.0.3", "addressV6": "fd00:a::3"}))
    host.files["/srv/wg-easy/wg0.conf"] = (0o600, FILES["wg-easy"].replace(", fd00:a::2/128", "").replace(", fd00:a::1/64", ""))
    found = adopt(host, source="/srv/wg-easy")
    assert any(note.startswith("/etc/wireguard/wg0.conf is not there, and /srv/wg-easy/wg0.conf is read in its place. Put") for note in found["notes"])
    furnished(host, host.files["/srv/wg-easy/wg0.conf"][1])
    taken_over(old, found["inventory"])


def test_wg_easys_file_alone_describes_its_clients(host: FakeHost) -> None:
    host.files["/srv/wg0.json"] = (0o660, wg_easy(alice={}, bob={"address": "10.0.0.3", "addressV6": "fd00:a::3"}))
    found = adopt(host, source="/srv/wg0.json")
    assert found["inventory"]["cell_networks"] == ["10.0.0.1/24"]
    assert [item["name"] for item in found["inventory"]["cell_peers"]] == ["alice", "bob"]
    assert any("its devices no preshared keys" in note for note in found["notes"])


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"clients": {}}',
        '{"clients": [1, null, "x", {}, {"publicKey": 5}]}',
        '{"server": 5, "clients": {"a": {"publicKey": "x", "name": {"a": 1}, "address": ["a"]}}}',
        '{"server": {"address": "\\ud800/%"}, "clients": {"a": {"publicKey": "\\u0000", "name": "\\u001b[2J", "address": "10.0.0.2; reboot"}}}',
        '{"server": {"address": "10.0.0.1/99"}, "clients": []}',
        "[1, 2",
        "NaN",
        "[]",
        "5",
        "{}",
        "",
        "\0",
    ],
)
@pytest.mark.parametrize("name", ["wg0.json", "peers.json", "cell_links.json", "cell.json", "x"])
def test_a_file_that_holds_something_else_ends_in_sentences(host: FakeHost, text: str, name: str) -> None:
    host.files[f"/srv/{name}"] = (0o644, text)
    found = adopt(host, source=f"/srv/{name}")
    assert not {"cell_peers", "cell_links"} & set(found["inventory"])


@pytest.mark.parametrize("name", ["x", "cell.json", "cell_links.json", "peers.json"])
@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"public_key": ["hunter2"]}}',
        '{"a": {"public_key": {"password": "hunter2"}}}',
        '[{"name": "a", "route_via": {"b": ["hunter2"]}, "exit_dns": "hunter2"}]',
        '[{"name": "a", "public_key": "hunter2", "interface": "hunter2 /"}]',
        '{"name": "hunter2 /", "endpoint": ["hunter2"]}',
        '{"name": "a", "services": [{"name": "a", "protocol": "hunter2"}], "uplink": "hunter2 /"}',
        '{"name": "a", "retired": ["hunter2 5"], "networks": ["hunter2"]}',
        '{"name": "a", "services": [{"hunter2": 1}], "listen_port": "hunter2"}',
    ],
)
def test_of_a_file_that_is_none_no_value_is_shown(host: FakeHost, text: str, name: str) -> None:
    """Whoever may start a job template names any file, and root reads it."""
    host.files[f"/srv/{name}"] = (0o600, text)
    notes = adopt(host, source=f"/srv/{name}")["notes"]
    assert "hunter2" not in json.dumps(notes)
    if name == "x" and '{"public_key"' in text:
        assert "/srv/x cannot be read (public_key is of another type), and nothing of it is taken." in notes


@pytest.mark.parametrize("source", ["srv", "/nowhere", "/srv", "/srv/a\nb", "/srv/\0", ""])
def test_a_source_that_is_none_is_refused_by_its_path(host: FakeHost, source: str) -> None:
    host.files["/srv/other"] = (0o644, "x")
    assert not source or "source " in refused(host, source=source)
    assert source or adopt(host, source=source)


def test_a_file_that_is_too_large_is_not_read(host: FakeHost) -> None:
    host.files["/srv/wg0.json"] = (0o644, " " * (LARGEST + 1))
    assert any(
        "/srv/wg0.json is not a plain file of at most" in note for note in call("pic_cell_adopt", host, {"source": "/srv/wg0.json"}).get("notes", ())
    ) or ("source '/srv/wg0.json'" in refused(host, source="/srv/wg0.json"))
    host.files[WG0] = (0o600, "#" * (LARGEST + 1))
    assert f"{WG0} is larger than" in refused(host)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_a_file_holds_the_inventory_is_one(host: FakeHost, seed: int) -> None:
    dice = random.Random(seed)
    parts = [
        *FILES["PiVPN"].split("\n"),
        "[Peer]",
        f"PublicKey = {ALICE}",
        "AllowedIPs = 10.0.0.0/33",
        "AllowedIPs = fd00::%1/64",
        "# {{ x }}",
        "\0",
        "\udcff",
        "=",
    ]
    for _round in range(30):
        host.files[WG0] = (0o600, "\n".join(dice.choice(parts) for _part in range(dice.randint(0, 30))))
        adopt(host)
