# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One WireGuard interface: what wg shows of it, its file, and the way from what it is to what it shall be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import errors, wgkeys
from ansible_collections.pic.cells.plugins.module_utils.kernel import handshakes, wgquick, wireguard
from ansible_collections.pic.cells.plugins.module_utils.kernel import model as kernel
from ansible_collections.pic.cells.plugins.module_utils.kernel import plan as plans
from ansible_collections.pic.cells.tests.unit.fake.machine import Machine, Tool
from ansible_collections.pic.cells.tests.unit.fake.wg import clamped, made_key

OWN, B, C, PSK = clamped(made_key("own")), made_key("b"), made_key("c"), made_key("psk")
NOW = 1_800_000_000.0
DUMP = (
    f"wg0\t{OWN}\tPUB\t51820\toff\n"
    f"wg0\t{B}\t{PSK}\t192.0.2.1:51821\t10.0.1.0/24,10.0.0.9/32\t1799999990\t5\t6\t25\n"
    f"wg0\t{C}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"
    "wg1\t(none)\t(none)\t0\toff\n"
)


def test_all_of_a_dump_is_read() -> None:
    assert wireguard.parse_dump(DUMP) == {
        "wg0": kernel.Interface(
            "wg0",
            OWN,
            "PUB",
            51820,
            {B: kernel.WgPeer(B, ["10.0.0.9/32", "10.0.1.0/24"], "192.0.2.1:51821", 25, PSK, 1799999990, 5, 6), C: kernel.WgPeer(C)},
        ),
        "wg1": kernel.Interface("wg1", listen_port=0),
    }
    assert wireguard.parse_dump("") == {}


@pytest.mark.parametrize("installed", [True, False])
def test_all_interfaces_are_asked_for_at_once_where_wg_is_installed(tmp_path: Path, installed: bool) -> None:
    class Host(Machine):
        def _tool(self, name: str) -> Tool | None:
            return lambda argv, stdin: DUMP if argv == ["show", "all", "dump"] else ""

    host = Host(str(tmp_path))
    host.missing = set() if installed else {"wg"}
    assert list(wireguard.read_interfaces(host)) == (["wg0", "wg1"] if installed else [])
    assert host.log == ([["wg", "show", "all", "dump"]] if installed else [])


@pytest.mark.parametrize(
    ("handshake", "recent", "said"),
    [
        (0, False, "no handshake yet"),
        (1, False, "last handshake 1799999999 s ago"),
        (NOW - 135, True, "last handshake 135 s ago"),
        (NOW - 136, False, "last handshake 136 s ago"),
        (NOW, True, "last handshake 0 s ago"),
        (NOW + 5, True, "last handshake 0 s ago"),
        (NOW + 6, False, "last handshake in the future (the clock has been set back)"),
    ],
)
def test_the_age_of_a_handshake(handshake: float, recent: bool, said: str) -> None:
    assert (handshakes.is_recent(int(handshake), NOW, 135), handshakes.age(int(handshake), NOW)) == (recent, said)


@pytest.mark.parametrize(
    ("endpoint", "good"),
    [
        ("b.example.net:51821", True),
        ("192.0.2.1:1", True),
        ("[2001:db8::1]:65535", True),
        ("b.example.net", False),
        ("b.example.net:0", False),
        ("b.example.net:65536", False),
        ("2001:db8::1:51821", False),
        ("[192.0.2.1]:51821", False),
        ("[2001:db8::g]:51821", False),
        ("b example:51821", False),
        ("192.0.2.256:51821", False),
        (":51821", False),
        (51821, False),
        (None, False),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(endpoint: object, good: bool) -> None:
    if good:
        assert wgkeys.check_endpoint("link 'cellb'", endpoint) == endpoint
    else:
        with pytest.raises(errors.BadInput, match=r"link 'cellb': endpoint .* is not host:port"):
            wgkeys.check_endpoint("link 'cellb'", endpoint)


# The file of the devices' interface

WG0 = kernel.Interface("wg0", OWN, listen_port=51820, peers={B: kernel.WgPeer(B, ["10.0.0.2/32"])}, addresses=["10.0.0.1/24"])
LABELS = {B: "device phone"}
FILE = f"""[Interface]
PrivateKey = {OWN}
ListenPort = 51820
Address = 10.0.0.1/24

# pic.cells: device phone
[Peer]
PublicKey = {B}
AllowedIPs = 10.0.0.2/32
"""


def merged(text: str | None, removed: tuple[str, ...] = (), others: tuple[kernel.WgPeer, ...] = (), **more: Any) -> str:
    """Return the file of the devices' interface; more: what else is wanted of its one device."""
    return wgquick.merge_config(text, replace(WG0, peers={B: replace(WG0.peers[B], **more)}), LABELS, removed, others)


FULL = {"endpoint": "192.0.2.1:51821", "keepalive": 25, "preshared_key": PSK}
FULL_FILE = FILE.replace("AllowedIPs", f"PresharedKey = {PSK}\nAllowedIPs") + "Endpoint = 192.0.2.1:51821\nPersistentKeepalive = 25\n"
OTHER = f"\n# by hand\n[Peer]\nPublicKey = {C}\nAllowedIPs = 10.0.0.3/32\n"


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        pytest.param(None, {}, FILE.replace("[Interface]", "# Written by pic.cells.\n[Interface]\nTable = off"), id="where there is none"),
        pytest.param(FILE, {}, FILE, id="where it is there"),
        pytest.param(FILE, FULL, FILE + f"PresharedKey = {PSK}\nEndpoint = 192.0.2.1:51821\nPersistentKeepalive = 25\n", id="with all that a peer can have"),
        pytest.param(FULL_FILE, FULL, FULL_FILE, id="with all of it there"),
        pytest.param(FULL_FILE, {}, FULL_FILE, id="with nothing said of it"),
        pytest.param(
            FULL_FILE, {"endpoint": "", "keepalive": 0}, FILE.replace("AllowedIPs", f"PresharedKey = {PSK}\nAllowedIPs"), id="without endpoint and keepalive"
        ),
        pytest.param(FILE + OTHER, {}, FILE + OTHER, id="with somebody else's peer"),
        pytest.param(
            FILE, {"allowed_ips": ["0.0.0.0/0"]}, FILE.replace("10.0.0.2/32", "0.0.0.0/0").replace("0.1/24\n", "0.1/24\nTable = off\n"), id="of an exit"
        ),
        pytest.param(FILE, {"removed": (C,)}, FILE, id="without a peer that is not there"),
        pytest.param(FILE + OTHER, {"removed": (C,)}, FILE + "\n# by hand\n", id="without a peer that goes"),
        pytest.param(FILE, {"others": (kernel.WgPeer(C, ["10.0.0.3/32"]),)}, FILE + OTHER.replace("# by hand\n", ""), id="with a peer of the kernel's"),
        pytest.param(FILE, {"others": (kernel.WgPeer(C), kernel.WgPeer(B)), "removed": (C,)}, FILE, id="without peers that go or are ours"),
        pytest.param(
            FILE.replace("# pic.cells: device phone", "# the phone"), {}, FILE.replace("# pic.cells: device phone", "# the phone"), id="with another comment"
        ),
        pytest.param(FILE.replace("phone", "tv"), {}, FILE, id="with another name"),
        pytest.param(FILE.replace("10.0.0.1/24", "10.0.0.7/24"), {}, FILE, id="with another address"),
        pytest.param(FILE.replace("51820", "1"), {}, FILE, id="with another port"),
        pytest.param(FILE.replace(OWN, made_key("other")), {}, FILE, id="with another key"),
    ],
)
def test_the_file_of_the_devices_interface(text: str | None, more: dict[str, Any], expected: str) -> None:
    assert merged(text, **more) == expected


def test_a_private_key_that_means_the_same_stays_as_it_is_and_one_that_is_made_later_has_a_word() -> None:
    unclamped = made_key("own")
    assert clamped(unclamped) == OWN
    assert merged(FILE.replace(OWN, unclamped)) == FILE.replace(OWN, unclamped)
    assert f"PrivateKey = {wgkeys.GENERATED}\n" in wgquick.merge_config(None, replace(WG0, private_key=None), LABELS, ())
    assert "MTU = 1400\n" in wgquick.merge_config(FILE, replace(WG0, mtu=1400), LABELS, ())


PIC = kernel.Interface(
    "pic-cellb",
    OWN,
    listen_port=51821,
    peers={B: kernel.WgPeer(B, ["10.0.1.0/24"], "192.0.2.1:51821", 25, PSK)},
    addresses=["10.0.0.1/32", "fd00:a::1/128"],
    routes=[kernel.Route(4, "10.0.1.0/24", "pic-cellb"), kernel.Route(6, "default", "pic-cellb", 4200)],
)
LINK_FILE = f"""# Written by pic.cells.
[Interface]
Table = off
PrivateKey = {OWN}
ListenPort = 51821
Address = 10.0.0.1/32
Address = fd00:a::1/128
MTU = 1400
PostUp = ip -4 route replace 10.0.1.0/24 dev pic-cellb table 254 protocol 201
PostUp = ip -6 route replace default dev pic-cellb table 4200 protocol 201

# cell cellb
[Peer]
PublicKey = {B}
PresharedKey = {PSK}
AllowedIPs = 10.0.1.0/24
Endpoint = 192.0.2.1:51821
PersistentKeepalive = 25
"""


def test_the_file_of_a_link_is_ours_alone() -> None:
    assert wgquick.render_link(replace(PIC, mtu=1400), {B: "cell cellb"}) == LINK_FILE
    assert wgquick.render_link(PIC, {B: "cell cellb"}) == LINK_FILE.replace("MTU = 1400\n", "")
    bare = replace(PIC, private_key=None, peers={B: kernel.WgPeer(B, ["10.0.1.0/24"])}, routes=[])
    short = wgquick.render_link(bare, {B: "cell cellb"})
    assert [key for key in ("PresharedKey", "Endpoint", "PersistentKeepalive", "PostUp") if key in short] == []
    assert f"PrivateKey = {wgkeys.GENERATED}\n" in short


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], kernel.WgPeer(B), id="a key alone"),
        pytest.param(["AllowedIPs = 10.0.1.1/24"], kernel.WgPeer(B, ["10.0.1.0/24"]), id="networks"),
        pytest.param(["Endpoint = b:1", "PersistentKeepalive = 25", f"PresharedKey = {PSK}"], kernel.WgPeer(B, [], "b:1", 25, PSK), id="all else"),
        pytest.param(["PersistentKeepalive = off", "PresharedKey ="], kernel.WgPeer(B), id="off, and no key"),
        pytest.param(["PersistentKeepalive = 0"], kernel.WgPeer(B), id="a keepalive of 0"),
        pytest.param([f"PresharedKey = {'A' * 43}="], kernel.WgPeer(B), id="a key of zeros"),
    ],
)
def test_a_peer_is_read_from_a_file(lines: list[str], expected: kernel.WgPeer) -> None:
    assert wgquick.config_peers("\n".join(["[Peer]", f"PublicKey = {B}", *lines])) == [expected]


def test_a_peer_that_stands_there_twice_has_what_the_first_one_says_but_for_its_networks() -> None:
    first = f"[Peer]\nPublicKey = {B}\nAllowedIPs = 10.0.1.0/24\nEndpoint = b:1\nPersistentKeepalive = 25\nPresharedKey = {PSK}\n"
    again = f"[Peer]\nPublicKey = {B}\nAllowedIPs = 10.0.2.0/24\nEndpoint = b:2\n"
    other = f"[Peer]\nPublicKey = {C}\n"
    assert wgquick.config_peers(first + other + again) == [
        kernel.WgPeer(B, ["10.0.1.0/24"], "b:1", 25, PSK),
        kernel.WgPeer(C),
        kernel.WgPeer(B, ["10.0.2.0/24"], "b:2", 25, PSK),
    ]


# A way without a restart


def written(plan: plans.Plan) -> list[str]:
    """Return the commands of a plan, each with what it is given."""
    return [" ".join(step.argv) + (f" < {step.stdin}" if step.stdin else "") for step in plan.steps if isinstance(step, plans.Run)]


ROUTE = kernel.Route(4, "10.0.1.0/24", "pic-cellb")
PEER = PIC.peers[B]
BLOCK = f"wg addconf pic-cellb /dev/stdin < [Peer]\nPublicKey = {B}\nAllowedIPs = 10.0.1.0/24\nPersistentKeepalive = 25\nPresharedKey = {PSK}\n"
NO_PSK = "A" * 43 + "="


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({"private_key": made_key("old")}, {}, [f"wg set pic-cellb private-key /dev/stdin < {OWN}\n"], id="another key"),
        pytest.param({}, {"private_key": None}, [], id="no key said"),
        pytest.param({"listen_port": 1}, {}, ["wg set pic-cellb listen-port 51821"], id="another port"),
        pytest.param({}, {"listen_port": None}, [], id="no port said"),
        pytest.param({"peers": {B: PEER, C: kernel.WgPeer(C)}}, {}, [f"wg set pic-cellb peer {C} remove"], id="a peer too many"),
        pytest.param({"peers": {}}, {}, [BLOCK + "Endpoint = 192.0.2.1:51821\n"], id="a peer missing"),
        pytest.param({"peers": {B: replace(PEER, allowed_ips=[])}}, {}, [BLOCK], id="other networks of a peer, its endpoint stays"),
        pytest.param({"peers": {B: replace(PEER, endpoint="192.0.2.9:1")}}, {}, [BLOCK + "Endpoint = 192.0.2.1:51821\n"], id="another endpoint"),
        pytest.param(
            {},
            {"peers": {B: replace(PEER, keepalive=None, preshared_key=None, endpoint=None)}},
            [BLOCK.replace("= 25", "= off").replace(PSK, NO_PSK)],
            id="a peer with nothing",
        ),
        pytest.param({"addresses": ["10.0.0.1/32"]}, {}, ["ip -batch - < addr add fd00:a::1/128 dev pic-cellb\n"], id="an address missing"),
        pytest.param({"addresses": [*PIC.addresses, "10.0.0.7/32"]}, {}, ["ip -batch - < addr del 10.0.0.7/32 dev pic-cellb\n"], id="an address too many"),
        pytest.param({"mtu": 1420}, {"mtu": 1400}, ["ip -batch - < link set dev pic-cellb mtu 1400\n"], id="another MTU"),
        pytest.param({"up": False}, {}, ["ip -batch - < link set dev pic-cellb up\n"], id="down"),
        pytest.param(
            {"routes": []}, {"routes": [ROUTE, kernel.Route(4, "10.0.9.0/24", "pic-cellb", 4200)]}, [], id="routes that are there, or in other tables"
        ),
        pytest.param(
            {},
            {"routes": [ROUTE, kernel.Route(6, "fd00:b::/64", "pic-cellb")]},
            ["ip -6 -batch - < route replace fd00:b::/64 dev pic-cellb table 254 protocol 201\n"],
            id="a route missing",
        ),
        pytest.param(
            {},
            {"addresses": ["fd00:a::1/128"]},
            [
                "ip -batch - < addr del 10.0.0.1/32 dev pic-cellb\n",
                "ip -4 -batch - < route replace 10.0.1.0/24 dev pic-cellb table 254 protocol 201\n",
            ],
            id="the last IPv4 address gone, with its routes",
        ),
    ],
)
def test_an_interface_is_led_to_what_it_shall_be_without_a_restart(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    plan = wireguard.plan_live(replace(PIC, **before), replace(PIC, **after), [ROUTE])
    assert written(plan) == expected


def test_a_change_of_mtu_and_routes_is_described() -> None:
    plan = wireguard.plan_live(replace(PIC, mtu=1420), replace(PIC, mtu=1400), [])
    assert (plan.before, plan.after) == (["pic-cellb: mtu 1420"], ["pic-cellb: mtu 1400", "10.0.1.0/24 through pic-cellb"])


def test_an_interface_is_described_without_secrets_and_of_its_peers_ours_alone() -> None:
    both = replace(PIC, peers={**PIC.peers, C: kernel.WgPeer(C)}, up=False)
    first = ["pic-cellb: down, port 51821", "pic-cellb: addresses 10.0.0.1/32, fd00:a::1/128"]
    peer = f"pic-cellb: peer cell cellb {B} with 10.0.1.0/24, endpoint 192.0.2.1:51821, keepalive 25 s, preshared key"
    assert wireguard.describe(both, {B: "cell cellb"}, []) == [*first, peer]
    assert wireguard.describe(both, {}, [C]) == [*first, f"pic-cellb: peer no longer ours {C} with "]
    assert wireguard.describe(replace(PIC, up=True, peers={}), {B: "cell cellb"}, [])[0] == "pic-cellb: up, port 51821"
    assert len(wireguard.describe(replace(PIC, peers={}), {B: "cell cellb"}, [])) == 2


# A whole interface


class Cellb(Machine):
    """A host with files, names and no tools."""

    def __init__(self, root: Path, systemd: bool = True, **names: str) -> None:
        super().__init__(str(root))
        self.names = names
        if systemd:
            self.files["/run/systemd/system"] = (0o755, "")

    def lookup(self, name: str) -> str | None:
        """Return an address that a name stands for."""
        return self.names.get(name)


UNIT = "/etc/systemd/system/multi-user.target.wants/wg-quick@pic-cellb.service"
CONF = "/etc/wireguard/pic-cellb.conf"


def test_many_interfaces_are_enabled_and_started_by_few_commands_in_the_end() -> None:
    names = [f"wg-quick@pic-{number}" for number in range(120)]
    other = plans.Run(("wg", "set", "pic-x", "listen-port", "51820"))
    steps = [plans.Run(("systemctl", *verb, name)) for name in names for verb in (["enable"], ["--job-mode=ignore-dependencies", "restart"])]
    together = written(plans.Plan(wireguard.started_together([*steps[:2], other, *steps[2:]])))
    assert together[3] == "wg set pic-x listen-port 51820"
    assert " ".join(together[:3]).replace("systemctl enable ", "").split() == names
    assert " ".join(together[4:]).replace("systemctl --job-mode=ignore-dependencies restart ", "").split() == names
    assert len(together) == 7


ENABLE, RESTART = "systemctl enable wg-quick@pic-cellb", "systemctl --job-mode=ignore-dependencies restart wg-quick@pic-cellb"


def planned(host: Machine, wanted: kernel.Interface = PIC, observed: kernel.Interface | None = None, removed: tuple[str, ...] = ()) -> plans.Plan:
    """Plan the link to cellb."""
    return wireguard.plan_interface(host, wanted, observed, {B: "cell cellb"}, removed, NOW, PIC.routes)


def settled(root: Path) -> Cellb:
    """Return a host that has the file and the unit of the link."""
    host = Cellb(root)
    host.files.update({CONF: (0o600, wgquick.render_link(PIC, {B: "cell cellb"})), UNIT: (0o644, "")})
    return host


@pytest.mark.parametrize(("systemd", "commands"), [(True, [ENABLE, RESTART]), (False, ["wg-quick up pic-cellb"])])
def test_a_new_interface_is_written_enabled_and_started(tmp_path: Path, systemd: bool, commands: list[str]) -> None:
    plan = planned(Cellb(tmp_path, systemd))
    assert plan.steps[0] == plans.Write(CONF, wgquick.render_link(PIC, {B: "cell cellb"}), None)
    assert (written(plan), plan.warnings) == (commands, [])
    boot = [["pic-cellb: not started at boot"], ["pic-cellb: started at boot"]] if systemd else [[], []]
    assert plan.before == boot[0]
    assert plan.after == [f"{CONF}: as wanted", *boot[1], *wireguard.describe(PIC, {B: "cell cellb"}, [])]


def test_an_interface_that_is_as_it_shall_be_is_left(tmp_path: Path) -> None:
    plan = planned(settled(tmp_path), observed=PIC)
    assert (plan.steps, plan.before, plan.after, plan.effects) == ([], [], [], [])


def test_an_interface_that_is_gone_is_started_again(tmp_path: Path) -> None:
    assert written(planned(settled(tmp_path))) == [RESTART]


@pytest.mark.parametrize(
    ("names", "endpoint"),
    [
        pytest.param({"b.example.net": "192.0.2.7"}, "192.0.2.7:51821", id="a name that resolves"),
        pytest.param({"b.example.net": "2001:db8::7"}, "[2001:db8::7]:51821", id="a name that resolves to IPv6"),
        pytest.param({}, None, id="a name that does not resolve"),
    ],
)
def test_an_endpoint_by_name_is_used_once_it_resolves(tmp_path: Path, names: dict[str, str], endpoint: str | None) -> None:
    named = replace(PIC, peers={B: replace(PEER, endpoint="b.example.net:51821")})
    plan = planned(Cellb(tmp_path, **names), named)
    file = next(step.text for step in plan.steps if isinstance(step, plans.Write))
    warning = "The endpoint 'b.example.net:51821' of cell cellb does not resolve; it is not used until it does."
    assert ("Endpoint = b.example.net:51821\n" in file, plan.warnings) == (endpoint is not None, [] if endpoint else [warning])
    assert any(f"endpoint {endpoint}" in line for line in plan.after) == (endpoint is not None)


@pytest.mark.parametrize(
    ("age", "written_there", "expected"),
    [
        pytest.param(10, "192.0.2.1:51821", [], id="a live session stays where it has roamed"),
        pytest.param(200, "192.0.2.1:51821", ["Endpoint = 192.0.2.1:51821"], id="one that is silent goes back"),
        pytest.param(10, "192.0.2.5:51821", ["Endpoint = 192.0.2.1:51821"], id="a live one follows what is newly written"),
    ],
)
def test_a_peer_that_has_roamed(tmp_path: Path, age: int, written_there: str, expected: list[str]) -> None:
    host = settled(tmp_path)
    host.files[CONF] = (0o600, host.files[CONF][1].replace("192.0.2.1:51821", written_there))
    roamed = replace(PIC, peers={B: replace(PEER, endpoint="198.51.100.9:4500", handshake=int(NOW) - age)})
    commands = written(planned(host, observed=roamed))
    assert [line for command in commands for line in command.splitlines() if line.startswith("Endpoint")] == expected


@pytest.mark.parametrize(
    ("line", "names", "age", "kept"),
    [
        pytest.param("SaveConfig = true\n", {"b.example.net": "192.0.2.1"}, None, True, id="what wg-quick has made of the name"),
        pytest.param("SaveConfig = true\n", {"b.example.net": "192.0.2.2"}, None, False, id="the name stands for something else"),
        pytest.param("SaveConfig = true\n", {"b.example.net": "192.0.2.2"}, 10, True, id="something else, but the session lives"),
        pytest.param("SaveConfig = false\n", {"b.example.net": "192.0.2.1"}, None, False, id="without SaveConfig"),
        pytest.param("", {"b.example.net": "192.0.2.1"}, None, False, id="nothing said of SaveConfig"),
    ],
)
def test_an_address_that_wg_quick_has_saved_for_a_name_stays(tmp_path: Path, line: str, names: dict[str, str], age: int | None, kept: bool) -> None:
    host = Cellb(tmp_path, systemd=False, **names)
    host.files["/etc/wireguard/wg0.conf"] = (0o600, FILE.replace("Address", f"{line}Address") + "Endpoint = 192.0.2.1:51821\n")
    wanted = replace(WG0, peers={B: replace(WG0.peers[B], endpoint="b.example.net:51821")})
    there = replace(WG0, peers={B: replace(WG0.peers[B], endpoint="192.0.2.1:51821", handshake=int(NOW) - (age or 500))})
    plan = wireguard.plan_interface(host, wanted, there, LABELS, (), NOW)
    assert bool([step for step in plan.steps if isinstance(step, plans.Write)]) == (not kept)
    assert wanted.peers[B].endpoint == "b.example.net:51821"


def test_an_endpoint_that_does_not_resolve_leaves_the_one_that_is_written(tmp_path: Path) -> None:
    named = replace(PIC, peers={B: replace(PEER, endpoint="b.example.net:51821")})
    plan = planned(settled(tmp_path), named, PIC)
    assert (plan.steps, len(plan.warnings)) == ([], 1)
    host = settled(tmp_path)
    host.files[CONF] = (0o600, host.files[CONF][1].replace("192.0.2.1:51821", "b.example.net:51821"))
    assert (planned(host, named, PIC).steps, planned(host, named, PIC).warnings) == ([], []), "written already, and running"
    assert len(planned(host, named).warnings) == 1, "written already, but not running"


def test_a_peer_that_goes_is_removed_and_one_of_others_stays(tmp_path: Path) -> None:
    both = replace(PIC, peers={**PIC.peers, C: kernel.WgPeer(C)})
    assert written(planned(settled(tmp_path), observed=both, removed=(C,))) == [f"wg set pic-cellb peer {C} remove"]
    assert written(planned(settled(tmp_path), observed=both)) == []


def test_a_link_has_no_addresses_but_ours_and_the_devices_interface_keeps_others(tmp_path: Path) -> None:
    more = replace(PIC, addresses=[*PIC.addresses, "10.9.9.9/32"])
    assert written(planned(settled(tmp_path), observed=more)) == ["ip -batch - < addr del 10.9.9.9/32 dev pic-cellb\n"]
    host = Cellb(tmp_path)
    host.files.update({"/etc/wireguard/wg0.conf": (0o600, FILE), UNIT.replace("pic-cellb", "wg0"): (0o644, "")})
    there = replace(WG0, addresses=["10.0.0.1/24", "10.9.9.9/32"])
    assert wireguard.plan_interface(host, replace(WG0), there, LABELS, (), NOW).steps == []
    plan = wireguard.plan_interface(host, replace(WG0), there, LABELS, ("10.9.9.9/32",), NOW)
    assert written(plan) == ["ip -batch - < addr del 10.9.9.9/32 dev wg0\n"]


@pytest.mark.parametrize("text", [None, "", "\0\0\n"])
def test_where_no_file_tells_what_others_have_set_up_the_kernel_does(tmp_path: Path, text: str | None) -> None:
    host = Cellb(tmp_path, systemd=False)
    if text is not None:
        host.files["/etc/wireguard/wg0.conf"] = (0o600, text)
    there = replace(WG0, addresses=["10.0.0.1/24", "10.9.9.9/32"], peers={**WG0.peers, C: kernel.WgPeer(C, ["10.0.0.3/32"])})
    plan = wireguard.plan_interface(host, replace(WG0), there, LABELS, (), NOW)
    (file,) = plan.steps
    assert isinstance(file, plans.Write)
    assert "Address = 10.0.0.1/24, 10.9.9.9/32\n" in file.text
    assert f"PublicKey = {C}\nAllowedIPs = 10.0.0.3/32\n" in file.text


def test_a_file_that_wg_quick_would_not_start_is_refused(tmp_path: Path) -> None:
    host = Cellb(tmp_path)
    host.files["/etc/wireguard/wg0.conf"] = (0o600, FILE + "[Peer]\n")
    with pytest.raises(errors.BadInput, match=r"wg0.conf: the peer that begins in line 10 has no PublicKey, so wg-quick does not start the interface"):
        wireguard.plan_interface(host, replace(WG0), None, LABELS, (), NOW)


def test_a_new_peer_lets_in_all_its_networks() -> None:
    text = wgquick.merge_config(FILE, replace(WG0, peers={**WG0.peers, C: kernel.WgPeer(C, ["10.0.0.3/32", "10.5.0.0/24"])}), {**LABELS, C: "device tv"}, ())
    assert text == FILE + f"\n# pic.cells: device tv\n[Peer]\nPublicKey = {C}\nAllowedIPs = 10.0.0.3/32, 10.5.0.0/24\n"


def test_an_interface_is_put_behind_what_a_file_without_one_holds() -> None:
    assert merged("# theirs\n").startswith("# theirs\n# Written by pic.cells.\n[Interface]\nPrivateKey")


def test_a_private_key_that_is_none_is_replaced() -> None:
    assert merged(FILE.replace(OWN, "none")) == FILE


def test_a_file_with_a_key_that_is_none_is_refused_whole() -> None:
    wgquick.check_file("x.conf", FILE)
    with pytest.raises(errors.BadInput, match="is not a WireGuard key"):
        wgquick.check_file("x.conf", FILE.replace(OWN, "none"))


@pytest.mark.parametrize("key", ["PrivateKey", "PublicKey", "PresharedKey"])
def test_a_key_in_a_file_that_is_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(errors.BadInput, match=f"x.conf: a {key} in a section .interface. is not a WireGuard key") as found:
        wgquick.check_file_keys("x.conf", f"[Interface]\n{key} = secret\n")
    assert "secret" not in str(found.value)
    wgquick.check_file_keys("x.conf", f"[Interface]\n{key} = {wgkeys.GENERATED}\n[Peer]\n{key} = {wgkeys.PRESHARED_LATER}\n{key} = {B}\n")


@pytest.mark.parametrize(
    ("systemd", "unit", "there", "commands"),
    [
        pytest.param(True, True, True, ["systemctl disable --now wg-quick@pic-cellb", "ip link del dev pic-cellb"], id="by its unit, and by hand"),
        pytest.param(True, True, False, ["systemctl disable --now wg-quick@pic-cellb"], id="its unit alone"),
        pytest.param(True, False, True, ["systemctl disable --now wg-quick@pic-cellb", "ip link del dev pic-cellb"], id="without a unit"),
        pytest.param(True, False, False, [], id="not there"),
        pytest.param(False, False, True, ["wg-quick down pic-cellb"], id="without systemd"),
        pytest.param(False, False, False, [], id="not there, without systemd"),
    ],
)
def test_an_interface_goes(tmp_path: Path, systemd: bool, unit: bool, there: bool, commands: list[str]) -> None:
    host = Cellb(tmp_path, systemd)
    if unit:
        host.files[UNIT] = (0o644, "")
    observed = PIC if there else None
    plan = wireguard.plan_removal(host, "pic-cellb", observed)
    assert (written(plan), plan.before, plan.after) == (commands, ["pic-cellb: there"] if commands else [], [])
    host.files[CONF] = (0o600, "")
    assert wireguard.plan_removal(host, "pic-cellb", observed).steps == [*plan.steps, plans.Remove(CONF)]
    assert [step.ok for step in plan.steps if isinstance(step, plans.Run) and step.argv[0] == "ip"] == [(0, 1)] * (systemd and there)
