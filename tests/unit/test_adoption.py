# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A devices' interface that was there before the cell: adoption changes what it must, and nothing else."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import wgconfig
from ansible_collections.pic.cells.tests.unit.adopted import ALICE, BOB, FILES, OWN, PORT, SECRET
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import Device, Peer, clamped, made_key, public_key
from ansible_collections.pic.cells.tests.unit.test_advice import told
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, device_key, program

WG0 = "/etc/wireguard/wg0.conf"
CELL = {"name": "cella", "networks": ["10.0.0.1/24", "fd00:a::1/64"]}
PHONE = {"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.0.9", "fd00:a::9"]}
ALICES = {"name": "alice", "public_key": ALICE, "addresses": ["10.0.0.2", "fd00:a::2"]}
GONE = {"state": "absent"}

every_file = pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())


def furnished(host: FakeHost, text: str, mode: int = 0o600) -> FakeHost:
    """Give a host a wg0 that runs from this file."""
    host.files[WG0] = (mode, text)
    host.by_hand("systemctl enable wg-quick@wg0")
    host.by_hand("systemctl restart wg-quick@wg0")
    return host


def make(host: FakeHost, *peers: dict[str, Any], cell: dict[str, Any] | None = None, fails: bool = False) -> dict[str, Any]:
    """Make the host a cell with these devices; check that it is foreseen, and done once."""
    args = {"cell": {**CELL, **(cell or {})}, "peers": list(peers)}
    foreseen = call("wg_cell", host, args, check=True)
    host.reset()
    done = call("wg_cell", host, args)
    assert done.get("failed", False) == fails, done.get("msg")
    if fails:
        assert (foreseen["msg"], host.steps) == (done["msg"], [])
        return done
    assert foreseen["diff"] == done["diff"]
    host.reset()
    assert (call("wg_cell", host, args)["changed"], host.steps) == (False, [])
    return done


def refused(host: FakeHost, *peers: dict[str, Any], cell: dict[str, Any] | None = None) -> str:
    """Return the sentence by which this is refused; nothing may be written."""
    before = host.text()
    message = make(host, *peers, cell=cell, fails=True)["msg"]
    assert host.text() == before
    return str(message)


def text_of(host: FakeHost) -> str:
    """Return the file of wg0."""
    return host.read(WG0) or ""


def comments(text: str) -> list[str]:
    """Return a file's comments, also those behind a setting, and its blank lines."""
    return [line[line.index("#") :] if "#" in line else line for line in text.split("\n") if "#" in line or not line.strip()]


# What others have put into the file


@every_file
def test_what_others_have_put_into_the_file_is_there_afterwards_byte_for_byte(host: FakeHost, text: str) -> None:
    furnished(host, text)
    make(host, ALICES, PHONE)
    assert text_of(host).startswith(text)
    assert text_of(host).count(device_key("phone")) == 1
    host.by_hand("systemctl restart wg-quick@wg0")
    make(host, ALICES, PHONE)
    make(host, ALICES, {**PHONE, "addresses": ["10.0.0.10"]})
    assert text_of(host).startswith(text)
    make(host, {**ALICES, "state": "present"}, {**PHONE, **GONE})
    assert text_of(host) == text


@every_file
def test_of_a_peer_that_is_stated_only_the_lines_that_say_otherwise_change(host: FakeHost, text: str) -> None:
    furnished(host, text)
    make(host, {**ALICES, "addresses": ["10.0.0.2", "10.0.0.22"]})
    changed = [(old, new) for old, new in zip(text.split("\n"), text_of(host).split("\n")) if old != new]
    assert comments(text_of(host)) == comments(text)
    assert all("allowedips" in old.lower() for old, _new in changed[:1])
    assert host.wg["wg0"].peers[ALICE].allowed == ["10.0.0.2/32", "10.0.0.22/32"]
    assert (host.wg["wg0"].peers[ALICE].psk, host.wg["wg0"].peers[BOB].allowed[0]) == (SECRET["alice"], "10.0.0.3/32")
    host.by_hand("systemctl restart wg-quick@wg0")
    assert set(host.wg["wg0"].peers[ALICE].allowed) == {"10.0.0.2/32", "10.0.0.22/32"}


@every_file
def test_a_peer_that_goes_leaves_every_comment_and_blank_line(host: FakeHost, text: str) -> None:
    furnished(host, text)
    make(host, ALICES, PHONE)
    make(host, {**ALICES, **GONE}, {**PHONE, **GONE})
    assert ALICE not in text_of(host)
    assert comments(text_of(host)) == comments(text)
    assert [line for line in text.split("\n") if line not in text_of(host).split("\n") and line != "[Peer]"] == [
        line for line in text.split("\n") if ALICE in line or SECRET["alice"] in line or "10.0.0.2/32" in line or ("fd00:a::2" in line and "#" in line)
    ]
    host.by_hand("systemctl restart wg-quick@wg0")
    assert list(host.wg["wg0"].peers) == [BOB]


def removed_by(tool: str, name: str, text: str) -> str:
    """Return what that tool leaves of the file when it removes a device: each deletes from one line to another."""
    begin, end = {
        "PiVPN": (f"### begin {name} ###", f"### end {name} ###"),
        "Nyr": (f"# BEGIN_PEER {name}", f"# END_PEER {name}"),
        "angristan": (f"### Client {name}", ""),
    }[tool]
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = inside or line.rstrip("\n") == begin
        if not inside:
            kept.append(line)
        inside = inside and line.rstrip("\n") != end
    return "".join(kept)


@pytest.mark.parametrize("tool", ["PiVPN", "Nyr", "angristan"])
@pytest.mark.parametrize("state", ["present", "absent"])
def test_other_tools_find_their_own_peers_again_and_no_more(host: FakeHost, tool: str, state: str) -> None:
    furnished(host, FILES[tool])
    make(host, ALICES, PHONE)
    make(host, {**ALICES, "addresses": ["10.0.0.2"]}, PHONE)
    make(host, {**ALICES, "addresses": ["10.0.0.2"], "state": state}, PHONE)
    left = removed_by(tool, "alice", text_of(host))
    assert (ALICE in left, BOB in left, device_key("phone") in left) == (False, True, True)
    left = removed_by(tool, "bob", left)
    assert (BOB in left, device_key("phone") in left) == (False, True)


def test_an_endpoint_and_a_keepalive_of_a_peer_that_is_stated_stay(host: FakeHost) -> None:
    furnished(host, FILES["Nyr"].replace("# END_PEER alice", "Endpoint = 192.0.2.7:7\nPersistentKeepalive = 21\n# END_PEER alice"))
    before = text_of(host)
    make(host, ALICES)
    assert text_of(host) == before
    assert (host.wg["wg0"].peers[ALICE].endpoint, host.wg["wg0"].peers[ALICE].keepalive) == ("192.0.2.7:7", 21)


# SaveConfig


@pytest.mark.parametrize("value", ["true", "True"])
def test_a_file_that_wg_quick_rewrites_is_compared_by_what_it_says(world: World, value: str) -> None:
    host = world["cella"]
    text = FILES["Nyr"].replace("ListenPort", f"SaveConfig = {value}\nListenPort").replace("# BEGIN_PEER bob", "PersistentKeepalive = 21\n# BEGIN_PEER bob")
    furnished(host, text)
    world.inventory["cella"]["cell_links"][0]["interface"] = "wg0"
    world.inventory["cella"]["cell_peers"] = [ALICES, PHONE]
    world.inventory["cella"]["cell_services"] = []
    world.inventory["cella"]["cell_links"] = [{"name": "cellb", "interface": "wg0"}, {"name": "cellc"}]
    world.inventory["cellb"]["cell_peers"] = []
    world.site()
    for _number in range(2):
        host.by_hand("systemctl restart wg-quick@wg0")
        assert text_of(host).startswith("[Interface]\nAddress = ")
        host.reset()
        world.site()
        assert [step for step in host.steps if " dev wg0 table 254 " not in step] == [], "only routes have gone with the interface"
        host.reset()
        assert (world.site().changed, host.steps) == ([], [])
    assert set(host.wg["wg0"].peers) == {ALICE, BOB, PHONE["public_key"], world.public_key("cellb")}
    assert host.wg["wg0"].peers[ALICE].psk == SECRET["alice"]


# Addresses


def test_a_link_local_address_beside_the_others_is_left_alone(host: FakeHost) -> None:
    furnished(host, FILES["PiVPN"].replace(",fd00:a::1/64", ", fe80::1/64"))
    before = text_of(host)
    make(host, cell={"networks": ["10.0.0.1/24"]})
    assert text_of(host) == before
    assert host.links["wg0"].addresses == ["10.0.0.1/24", "fe80::1/64"]
    host.by_hand("ip -batch -", "addr add fe80::2/64 dev wg0\n")  # as WireGuard in user space does
    make(host, cell={"networks": ["10.0.0.1/24"]})
    assert "fe80::2/64" in host.links["wg0"].addresses


# The port


@every_file
def test_the_port_is_adopted_as_the_key_is(host: FakeHost, text: str) -> None:
    furnished(host, text)
    make(host)
    assert (host.wg["wg0"].port, host.wg["wg0"].private) == (PORT, clamped(OWN))
    host.files["/etc/wireguard/wg0.conf"] = (0o600, text.replace(str(PORT), "40001"))
    make(host)
    assert str(PORT) in text_of(host), "the record has it by then"
    make(host, cell={"listen_port": 40002})
    make(host)
    assert host.wg["wg0"].port == 40002


def test_other_cells_dial_the_adopted_port(world: World) -> None:
    furnished(world["cella"], FILES["PiVPN"])
    world.inventory["cella"].update(cell_peers=[ALICES])
    world.inventory["cella"]["cell_links"][0]["interface"] = "wg0"
    world.site()
    assert world.link("cellb", "cella")["endpoint"] == f"cella.example.net:{PORT}"
    assert f"-p udp -m udp --dport {PORT} -j ACCEPT" in world["cella"].chain(4, "PIC-IN")
    assert world.site().changed == []


# Whose it is


CLIENT = f"""\
[Interface]
PrivateKey = {OWN}
Address = 10.64.7.2/32, fc00:bbbb::2/128
DNS = 10.64.0.1

[Peer]
PublicKey = {device_key("provider")}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 198.51.100.9:51820
"""


@pytest.mark.parametrize(
    "text",
    [
        CLIENT,
        CLIENT.replace("0.0.0.0/0, ::/0", "0.0.0.0/1, 128.0.0.0/1"),
        CLIENT.replace("0.0.0.0/0, ::/0", "10.64.0.0/10\nAllowedIPs = 2000::/3"),
        CLIENT.replace("0.0.0.0/0, ::/0", "10.64.0.0/10"),
        CLIENT.replace("/32, fc00:bbbb::2/128", "/16"),
    ],
    ids=["everything", "two halves", "all of IPv6", "an address in no network", "an address in a network"],
)
@pytest.mark.parametrize("up", [True, False])
def test_the_way_into_somebody_elses_vpn_is_not_taken(host: FakeHost, text: str, up: bool) -> None:
    host.files[WG0] = (0o600, text)
    if up:
        host.files[WG0] = (0o600, text.replace("DNS", "Table = off\nDNS"))
        host.by_hand("systemctl restart wg-quick@wg0")
    message = refused(host)
    assert all(word in message for word in ("'wg0'", device_key("provider"), "198.51.100.9:51820", "cell_interface")), message
    make(host, cell={"interface": "wg1"})
    assert OWN not in (host.read("/var/lib/pic/identity.key") or "")


@every_file
def test_a_server_is_no_way_into_somebody_elses_vpn(host: FakeHost, text: str) -> None:
    text = text.replace("AllowedIPs = 10.0.0.3", "Endpoint = 192.0.2.7:7\nAllowedIPs = 10.0.0.3")  # as SaveConfig writes of a phone
    make(furnished(host, text))


def test_a_server_with_one_device_is_none_either(host: FakeHost) -> None:
    text = f"[Interface]\nPrivateKey = {OWN}\nAddress = 10.0.0.1/24, fd00:a::1/64\nListenPort = {PORT}\n"
    make(furnished(host, f"{text}\n[Peer]\nPublicKey = {ALICE}\nAllowedIPs = 10.0.0.2/32\nEndpoint = 192.0.2.7:7\n"))


KEEPERS = {
    "systemd-networkd": ("/etc/systemd/network/50-home.netdev", "[NetDev]\nName=wg0\nKind=wireguard\n\n[WireGuard]\nListenPort=51820\n"),
    "netplan": ("/etc/netplan/60-home.yaml", "network:\n  tunnels:\n    wg0:\n      mode: wireguard\n      port: 51820\n"),
    "netplan ": ("/etc/netplan/60-home.yaml", "network: {version: 2, tunnels: {wg0: {mode: wireguard, port: 51820}}}\n"),  # in one line
    "wicked": ("/etc/sysconfig/network/ifcfg-wg0", "STARTMODE='auto'\nWIREGUARD='yes'\n"),
    "NetworkManager": ("/etc/NetworkManager/system-connections/home.nmconnection", "[connection]\nid=home\ntype=wireguard\ninterface-name=wg0\n"),
    "ifupdown": ("/etc/network/interfaces", "auto wg0\niface wg0 inet static\n  address 10.0.0.1/24\n  pre-up ip link add wg0 type wireguard\n"),
}


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("up", [True, False])
def test_an_interface_that_other_software_keeps_is_refused_by_that_name(host: FakeHost, keeper: str, up: bool) -> None:
    if up:
        furnished(host, FILES["plain"])
        for path in (WG0, "/etc/systemd/system/multi-user.target.wants/wg-quick@wg0.service"):
            del host.files[path]
    path, text = KEEPERS[keeper]
    host.files[path] = (0o640, text)
    message = refused(host, ALICES)
    assert all(word in message for word in ("'wg0'", keeper, path, "cell_interface")), message
    del host.files[path]
    host.files[path.replace("wg0", "wg00")] = (0o640, text.replace("wg0", "wg00"))
    if not up:
        make(host, ALICES)


def test_an_interface_without_a_file_is_refused(host: FakeHost) -> None:
    furnished(host, FILES["plain"])
    del host.files[WG0]
    assert "other software made the interface" in refused(host, ALICES)


def test_an_interface_whose_file_is_another_ones_is_refused(host: FakeHost) -> None:
    furnished(host, FILES["plain"])
    host.files[WG0] = (0o600, FILES["plain"].replace(OWN, made_key("yet another")))
    assert "have different private keys" in refused(host, ALICES)


def test_a_cell_does_not_give_its_key_to_another_interface(host: FakeHost) -> None:
    make(host)
    host.files["/etc/wireguard/wg1.conf"] = (0o600, FILES["Nyr"])
    assert "with another key than this cell's" in refused(host, cell={"interface": "wg1"})


def test_the_file_that_has_been_deleted_comes_back_with_what_the_kernel_has_of_others(host: FakeHost) -> None:
    furnished(host, FILES["PiVPN"].replace("10.0.0.1/24,", "10.0.0.1/24, 10.66.66.1/24,"))
    make(host, ALICES)
    before = host.text(files=False)
    del host.files[WG0]
    make(host, ALICES)
    assert host.text(files=False) == before
    host.by_hand("systemctl restart wg-quick@wg0")
    assert {key: peer.psk for key, peer in host.wg["wg0"].peers.items()} == {ALICE: SECRET["alice"], BOB: SECRET["bob"]}
    assert set(host.links["wg0"].addresses) == {"10.0.0.1/24", "fd00:a::1/64", "10.66.66.1/24"}


# What others have on it


FAR = {"name": "far", "public_key": device_key("far"), "address": ["10.66.66.1"], "networks": ["10.66.66.0/24"]}


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("10.0.0.1/24,", "10.66.66.1/24, 10.0.0.1/24,", ("interface wg0",)),
        ("10.0.0.3/32,", "10.0.0.3/32, 10.66.66.128/25,", (BOB, "interface wg0")),
        ("10.0.0.3/32,", "10.0.0.3/32, 10.64.0.0/10,", (BOB, "interface wg0")),
    ],
    ids=["another network", "a network behind a peer", "a wider one"],
)
def test_a_link_takes_no_network_that_somebody_has_on_the_devices_interface(host: FakeHost, old: str, new: str, words: tuple[str, ...], running: bool) -> None:
    text = FILES["PiVPN"].replace(old, new)
    furnished(host, text)
    if not running:
        host.drop_link("wg0")
    make(host)
    for path in ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"):
        host.files[path] = (0o644, "1\n")
    before = host.text()
    message = call("wg_cell_peer", host, {"peers": [FAR]})["msg"]
    assert all(word in message for word in ("'far'", "10.66.66.0/24", "overlaps", *words)), message
    assert host.text() == before
    run = {"links": [FAR], "peers": [], "routes": [], "received": [], "answers": {}}
    info = call("pic_cell_info", host, {"cell": CELL, "run": run})
    assert [message] == info["refusals"]


def test_two_cells_with_the_same_older_network_are_not_linked(world: World) -> None:
    furnished(world["cella"], FILES["PiVPN"].replace("10.0.0.1/24,", "10.0.0.1/24, 10.0.2.1/24,"))
    world.inventory["cella"].update(cell_peers=[ALICES])
    before = world.text()
    with pytest.raises(Refusal, match=r"10\.0\.2\.0/24 of link 'cellc' overlaps 10\.0\.2\.0/24 of interface wg0 of this host"):
        world.site()
    assert world.text() == before


@pytest.mark.parametrize("taken", ["10.0.0.9/32", "10.0.0.8/30", "10.0.0.0/16", "fd00:a::/120"])
def test_a_device_takes_no_address_that_another_peer_has(host: FakeHost, taken: str) -> None:
    furnished(host, FILES["PiVPN"].replace("10.0.0.3/32,", f"10.0.0.3/32, {taken},"))
    message = refused(host, PHONE)
    assert all(word in message for word in ("'phone'", "10.0.0.9" if "." in taken else "fd00:a::9", BOB, "'wg0'")), message
    make(host, {"name": "bob", "public_key": BOB, "addresses": ["10.0.0.3"], "networks": []}, PHONE)
    assert device_key("phone") in host.wg["wg0"].peers


def test_a_device_that_has_its_address_beside_a_wider_one_may_be_stated(host: FakeHost) -> None:
    furnished(host, FILES["PiVPN"].replace("10.0.0.3/32,", "10.0.0.0/24,"))
    make(host, ALICES)
    assert host.wg["wg0"].peers[BOB].allowed[0] == "10.0.0.0/24"


# Networks behind a device


LAN = "192.168.8.0/24"


@pytest.mark.parametrize(
    "text",
    [
        FILES["PiVPN"].replace("10.0.0.2/32,", f"10.0.0.2/32, {LAN},"),
        FILES["Nyr"].replace("# END_PEER alice", f"AllowedIPs = {LAN}\n# END_PEER alice"),
    ],
    ids=["in one line", "in two lines"],
)
def test_a_network_behind_a_device_is_kept_and_can_be_stated(host: FakeHost, text: str) -> None:
    furnished(host, text)
    make(host, ALICES)
    assert text_of(host) == text
    assert set(host.wg["wg0"].peers[ALICE].allowed) == {"10.0.0.2/32", LAN, "fd00:a::2/128"}
    assert [route.dev for route in host.routes if route.dst == LAN] == ["wg0"]
    host.by_hand("systemctl restart wg-quick@wg0")
    assert call("wg_cell", host, {})["changed"] is False
    make(host, {"name": "alice"})
    assert text_of(host) == text
    make(host, {"name": "alice", "networks": ["192.168.9.0/24"]})
    assert {route.dst for route in host.routes if route.dst.startswith("192.168.")} == {"192.168.9.0/24"}
    assert host.wg["wg0"].peers[ALICE].allowed == ["10.0.0.2/32", "192.168.9.0/24", "fd00:a::2/128"]
    make(host, {"name": "alice", "networks": []})
    assert (host.wg["wg0"].peers[ALICE].allowed, [r for r in host.routes if r.dst.startswith("192.168.")]) == (["10.0.0.2/32", "fd00:a::2/128"], [])
    make(host, {"name": "alice", "networks": [LAN]})
    host.by_hand("systemctl restart wg-quick@wg0")  # which makes the route itself
    make(host, {"name": "alice"})
    host.reset()
    assert (call("wg_cell", host, {})["changed"], host.steps) == (False, [])
    make(host, {**ALICES, **GONE})
    assert [route for route in host.routes if route.dst == LAN] == []


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        (["10.0.0.128/25"], ("10.0.0.128/25", "this cell")),
        (["203.0.113.0/25"], ("203.0.113.0/25", "eth0")),
        (["10.0.1.128/25"], ("10.0.1.128/25", "link 'cellb'")),
        (["0.0.0.0/0"], ("0.0.0.0/0", "networks of peer 'laptop'")),
        (["192.168.8.1/24"], ("192.168.8.1/24", "host bits")),
    ],
)
def test_a_network_that_cannot_be_behind_a_device_is_refused(linked: World, networks: list[str], words: tuple[str, ...]) -> None:
    host = linked["cella"]
    result = call("wg_cell", host, {"peers": [{"name": "laptop", "networks": networks}]})
    assert all(word in result["msg"] for word in (*words, "'laptop'")), result
    assert host.steps == []


def test_the_kernel_takes_the_routes_along_when_a_cell_gives_up_ipv4(linked: World) -> None:
    cella = linked.inventory["cella"]
    cella["cell_peers"][2]["networks"] = ["192.168.9.0/24"]
    linked.site()
    cella["cell_networks"] = ["fd00:a::1/64"]
    for peer in cella["cell_peers"]:
        peer["addresses"] = [address for address in peer["addresses"] if ":" in address]
    cella["cell_services"] = [{"name": service["name"], "state": "absent"} for service in cella["cell_services"]]
    for link in cella["cell_links"]:
        link["share"] = []
    predicted = linked.site(check=True)
    assert predicted.diffs() == linked.site().diffs()
    assert not [route for route in linked["cella"].routes if route.dst == "192.168.9.0/24"]


def test_what_is_behind_a_device_that_is_routed_does_not_go_direct(linked: World) -> None:
    linked.inventory["cella"]["cell_peers"][0]["networks"] = [LAN, "fd77::/64"]
    linked.inventory["cella"]["cell_peers"][2]["networks"] = ["192.168.9.0/24"]
    linked.site()
    host = linked["cella"]
    assert host.chain(4, "PIC-ROUTED")[-1] == f"-s {LAN} -j PIC-HOME"
    assert host.chain(6, "PIC-ROUTED")[-1] == "-s fd77::/64 -j PIC-HOME"
    assert linked.site().changed == []
    linked.job("route_peer", cell="cella", peer="laptop", via_cell="cellb")
    assert "-s 192.168.9.0/24 -j PIC-HOME" in host.chain(4, "PIC-ROUTED")
    host.boot()
    program(host, "restore")
    assert {route.dst for route in host.routes if route.dst.startswith("192.168.")} == {LAN, "192.168.9.0/24"}
    assert linked.site().changed == []


def test_the_file_keeps_its_mode_and_a_new_one_is_for_root_alone(host: FakeHost) -> None:
    furnished(host, FILES["wireguard-ui"], 0o640)
    make(host, ALICES, PHONE)
    assert host.files[WG0][0] == 0o640


@every_file
def test_the_file_is_kept_as_it_was(host: FakeHost, text: str) -> None:
    furnished(host, text)
    make(host, ALICES, PHONE)
    make(host, {**ALICES, **GONE}, cell={"listen_port": 40002})
    assert host.files["/var/lib/pic/adopted-wg0.conf"] == (0o600, text)


def test_a_file_of_our_own_is_not_kept(host: FakeHost) -> None:
    make(host, PHONE)
    make(host)
    assert host.files[WG0][0] == 0o600
    assert not host.exists("/var/lib/pic/adopted-wg0.conf")


def test_a_link_that_stands_comes_back_though_somebody_has_taken_its_network_since(linked: World) -> None:
    host = linked["cella"]
    host.by_hand("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {device_key('bob')}\nAllowedIPs = 10.0.1.0/24\n")
    host.drop_link("pic-cellb")
    rc, _out, err = program(host, "restore")
    assert (rc, err, "pic-cellb" in host.wg) == (0, "", True)
    assert "10.0.1.0/24" in host.wg["wg0"].peers[BOB].allowed


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_read_and_given_back_as_it_is(seed: int) -> None:
    dice = random.Random(seed)
    parts = [
        "\n",
        "\r\n",
        "\0",
        "\x0c",
        "\u2028",
        "\udcff",
        "#",
        "=",
        ",",
        " ",
        "[Peer]",
        "[Interface]",
        "# pic.cells: device a",
        "PublicKey",
        "AllowedIPs = 10.0.0.2/32",
        "x",
    ]
    for _number in range(200):
        text = "".join(dice.choice(parts) for _part in range(dice.randint(0, 40)))
        assert wgconfig.parse(text).render() == text
        config = wgconfig.parse(text + "\n[Interface]\nAddress = 10.0.0.1/24")
        config.add_peer(["PublicKey = y", "AllowedIPs = 10.0.0.3/32"], "device b")
        added = wgconfig.parse(config.render())
        (ours,) = [section for section in added.of("peer") if section.get("publickey") == "y"]
        added.remove(ours)
        assert added.render() == text + "\n[Interface]\nAddress = 10.0.0.1/24"


# Files that wg-quick does not take, or takes otherwise than it looks

TAKEN_FROM = FILES["angristan"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("\ufeff" + TAKEN_FROM, "line 1 begins with a byte order mark", id="byte order mark"),
        pytest.param(TAKEN_FROM.replace("Address", "Adress"), "line 2 ('Adress')", id="typing error"),
        pytest.param(TAKEN_FROM.replace("[Peer]", "[Client]", 1), "line 11", id="another section"),
        pytest.param(TAKEN_FROM.replace("[Interface]", "[ Interface ]"), "line 1", id="blanks that wg-quick does not take"),
        pytest.param(TAKEN_FROM.replace("[Interface]\n", "\n"), "line 2 ('Address')", id="no section"),
        pytest.param(TAKEN_FROM.replace("### Client bob", f"{OWN}"), "line 16", id="a line that is none"),
        pytest.param(TAKEN_FROM.replace("### Client", "; Client"), "line 10", id="another tool's comment"),
        pytest.param(TAKEN_FROM + "\n[Peer]\nAllowedIPs = 10.0.0.7/32\n", "the peer that begins in line 22 has no PublicKey", id="no key"),
    ],
)
def test_a_file_that_wg_quick_does_not_take_is_refused_naming_the_line(host: FakeHost, text: str, said: str) -> None:
    host.files[WG0] = (0o600, text)
    message = refused(host, ALICES)
    assert (f"{WG0}: {said}" in message, "wg-quick" in message, OWN in message) == (True, True, False)
    assert text_of(host) == text


def test_a_file_that_has_become_none_is_said_while_the_interface_is_up_and_started_no_more(linked: World) -> None:
    host = linked["cella"]
    host.files[WG0] = (0o600, text_of(host).replace("[Interface]", "[Interface]\nMTUU = 1"))
    (sentence,) = told(host)
    assert f"{WG0}: line 3 ('MTUU')" in sentence and "at the next boot" in sentence
    host.drop_link("wg0")
    host.active.discard("wg-quick@wg0")
    rc, _out, err = program(host, "restore")
    assert (rc, f"{WG0}: line 3 ('MTUU')" in err, "wg0" in host.wg, "pic-cellb" in host.wg) == (1, True, False, True)


@every_file
def test_every_file_of_the_others_is_taken(host: FakeHost, text: str) -> None:
    assert wgconfig.fault(text) == ""


def test_a_peer_that_stands_there_twice_keeps_its_preshared_key(host: FakeHost) -> None:
    """wg sets what a later section says, and leaves the rest as an earlier one has it."""
    furnished(host, f"{TAKEN_FROM}\n[Peer]\nPublicKey = {ALICE}\nAllowedIPs = 10.0.0.2/32, fd00:a::2/128\n")
    assert host.wg["wg0"].peers[ALICE].psk == SECRET["alice"]
    make(host, ALICES, PHONE)
    host.by_hand("systemctl restart wg-quick@wg0")
    make(host, ALICES, PHONE)
    assert host.wg["wg0"].peers[ALICE].psk == SECRET["alice"]


def test_a_key_that_the_file_does_not_have_is_not_replaced_by_a_new_one(host: FakeHost) -> None:
    text = TAKEN_FROM.replace(f"PrivateKey = {OWN}", "PostUp = wg set %i private-key /root/key")
    host.files[WG0] = (0o600, text)
    message = refused(host, ALICES)
    assert f"{WG0} has no PrivateKey" in message and "wg-quick up wg0" in message
    host.add_link("wg0", "10.0.0.1/24", "fd00:a::1/64", kind="wireguard")
    host.wg["wg0"] = Device(clamped(OWN), PORT, {ALICE: Peer(["10.0.0.2/32", "fd00:a::2/128"]), BOB: Peer(["10.0.0.3/32", "fd00:a::3/128"])})
    assert make(host, ALICES)["public_key"] == public_key(OWN)
