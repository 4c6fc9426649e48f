# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell brought back from its records alone: after a reboot, after damage, after an end at any step."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Result
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CellError
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.tests.benchmarks.restore import CASES, damaged, made, measured
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed, Refused
from ansible_collections.pic.cells.tests.unit.fake.systemd import WANTS
from ansible_collections.pic.cells.tests.unit.fake.wg import Device, made_key
from ansible_collections.pic.cells.tests.unit.faults import damages, leaks
from ansible_collections.pic.cells.tests.unit.world import World, call, device_key, foreign, furnish, program, three_cells

PHONE = device_key("phone")
TUNNELS = ("wg0", "pic-cellb", "pic-cellc")


@pytest.fixture(scope="session")
def _cell(tmp_path_factory: pytest.TempPathFactory) -> FakeHost:
    world = World(tmp_path_factory.mktemp("restore"), three_cells())
    furnish(world["cella"])
    world.site()
    world.reset()
    return world["cella"]


@pytest.fixture
def cell(_cell: FakeHost) -> FakeHost:
    """Return a cell that is set up beside others' software."""
    return _cell.fork()


def rebooted(cell: FakeHost) -> FakeHost:
    """Return a cell whose kernel has just come up, before systemd starts anything."""
    twin = cell.fork()
    wanted = {path: file for path, file in twin.files.items() if path.startswith(WANTS)}
    for path in wanted:
        del twin.files[path]
    twin.boot()
    twin.files.update(wanted)
    twin.active.update(units.RUNNING)
    return twin


def ours(host: FakeHost) -> list[str]:
    """Return all that a host holds of ours; foreign things are not put back by us."""
    others = set(foreign(host))
    lines = re.sub(r"(FORWARD|INPUT|OUTPUT|POSTROUTING) \d+", r"\1", host.text()).splitlines()
    return [line for line in lines if line not in others]


def start_units(host: FakeHost) -> None:
    """Do what systemd does at boot between guard and restore."""
    for name in TUNNELS:
        host.by_hand(f"systemctl restart wg-quick@{name}")


@contextlib.contextmanager
def watched(host: FakeHost) -> Iterator[list[str]]:
    """Look before each step whether a routed device can go direct."""
    found: list[str] = []
    host.watch = lambda step: found.extend(f"{leak} before {step}" for leak in leaks(host, host, host) if "wg0" in host.wg)
    yield found
    host.watch = None


def damaged_copies(cell: FakeHost) -> Iterator[tuple[str, FakeHost]]:
    """Give for each thing of ours in the kernel a copy of the cell that has it damaged."""
    for name, _modules, damage in damages(cell):
        if any(word in name for word in ("FORWARD", "INPUT", "OUTPUT", "POSTROUTING", "DOCKER")):
            continue  # of these chains only the jumps are ours
        if name == "wg0 without peers":
            continue  # one of them was somebody else's
        twin = cell.fork()
        damage(twin)
        yield name, twin


def test_whatever_is_damaged_is_put_back_and_nothing_else_is_touched(cell: FakeHost) -> None:
    wanted, others = cell.text(), foreign(cell)
    for name, twin in damaged_copies(cell):
        assert program(twin, "check")[0] == 3, name
        rc, out, err = program(twin, "restore")
        assert (rc, err) == (0, ""), name
        assert out.splitlines() != [], name
        assert (twin.text(), foreign(twin)) == (wanted, others), name
        assert program(twin, "check") == (0, "", ""), name


def test_the_module_does_the_same_and_check_mode_predicts_it(cell: FakeHost) -> None:
    wanted = cell.text()
    for name, twin in damaged_copies(cell):
        found = twin.text()
        predicted = call("pic_cell_restore", twin, {}, check=True)
        assert (twin.steps, twin.text()) == ([], found), name
        done = call("pic_cell_restore", twin, {})
        assert (done["changed"], twin.text()) == (True, wanted), name
        assert (predicted["changed"], predicted["diff"], predicted["repairs"]) == (True, done["diff"], done["repairs"]), name
        twin.reset()
        assert not call("pic_cell_restore", twin, {})["changed"], name
        assert twin.steps == [], name


def test_the_module_says_what_it_could_not_put_back_and_what_it_did(cell: FakeHost) -> None:
    cell.tables[cell.default, 4]["filter"].rules["PIC-HOME"].clear()
    cell.drop_link("pic-cellb")
    cell.fail_at, cell.fails = 2, 99
    done = call("pic_cell_restore", cell, {})
    assert (done["failed"], done["changed"]) == (True, True)
    assert "missing: IPv4 filter: PIC-HOME (6 rules)" in done["repairs"]
    assert "pic-cellb" in done["msg"]


def test_the_module_refuses_a_host_that_is_no_cell(host: FakeHost) -> None:
    for check in (True, False):
        done = call("pic_cell_restore", host, {}, check=check)
        assert done["failed"]
        assert "not a cell" in done["msg"]
        assert "pic.cells.site" in done["msg"]
    assert host.steps == []


def test_each_jump_is_put_back(cell: FakeHost) -> None:
    wanted = cell.text()
    for family, table in ((family, table) for family in (4, 6) for table in ("filter", "nat", "mangle")):
        for chain, rules in cell.tables[cell.default, family][table].rules.items():
            for number, rule in enumerate(rules):
                if rule[-1].startswith("PIC-") and not chain.startswith("PIC-"):
                    twin = cell.fork()
                    twin.tables[twin.default, family][table].rules[chain].pop(number)
                    rc, out, _err = program(twin, "restore")
                    assert (rc, out) == (0, f"missing: IPv{family} {table}: {chain} -j {rule[-1]}\n")
                    assert twin.text() == wanted


def test_many_rules_of_one_chain_are_one_line(cell: FakeHost) -> None:
    cell.tables[cell.default, 4]["filter"].rules["PIC-HOME"].clear()
    cell.tables[cell.default, 4]["filter"].rules["PIC-S-cellb"].clear()
    assert program(cell, "restore")[1].splitlines() == [
        "missing: IPv4 filter: PIC-HOME (6 rules)",
        "missing: IPv4 filter: PIC-S-cellb -j DROP",
        "missing: IPv4 filter: PIC-S-cellb -p tcp -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 443 -j ACCEPT",
        "missing: IPv4 filter: PIC-S-cellb -p udp -m conntrack --ctorigdst 10.0.0.3 --ctorigdstport 5060 -j ACCEPT",
    ]


def test_a_quiet_host_is_only_read(cell: FakeHost) -> None:
    assert program(cell, "restore") == (0, "", "")  # keeps what it has found
    cell.reset()
    wanted = cell.text()
    asked = []
    for _run in range(50):
        assert program(cell, "restore") == (0, "", "")
        asked.append(len(cell.log))
    assert (cell.steps, cell.text()) == ([], wanted)
    assert len({after - before for before, after in zip(asked, asked[1:])}) == 1


def test_a_quiet_host_is_only_read_a_thousand_times(tmp_path: Path) -> None:
    world = World(tmp_path, {"cella": {"cell_networks": ["10.0.0.1/24"], "cell_peers": [{"name": "phone", "public_key": PHONE, "addresses": ["10.0.0.2"]}]}})
    world.site()
    assert program(world["cella"], "restore") == (0, "", "")  # keeps what it has found
    world.reset()
    for _run in range(1000):
        assert program(world["cella"], "restore") == (0, "", "")
    assert world.steps() == {}


def test_the_guard_closes_all_ways_before_the_interfaces_are_there_and_restore_completes_it(cell: FakeHost) -> None:
    twin = rebooted(cell)
    rc, _out, err = program(twin, "restore", "--guard")
    assert (rc, err) == (0, "")
    assert twin.wg == {}
    assert leaks(twin, twin, twin) == []
    assert any(route.dst == "10.0.1.0/24" and route.dev is None for route in twin.routes), "no wall behind a link's network"
    twin.reset()
    assert program(twin, "restore", "--guard") == (0, "", "")
    assert twin.steps == []
    start_units(twin)
    assert leaks(twin, twin, twin) == []
    with watched(twin) as found:
        assert program(twin, "restore")[0] == 0
    assert found == []
    assert ours(twin) == ours(cell)


def test_one_command_is_enough_where_nothing_starts_the_interfaces(tmp_path: Path) -> None:
    world = World(tmp_path, three_cells())
    for host in world.hosts.values():
        host.remove("/run/systemd/system/x")
    world.site()
    host = world["cella"]
    wanted = host.text()
    host.boot()
    with watched(host) as found:
        rc, _out, err = program(host, "restore")
    assert (rc, err, found) == (0, "", [])
    assert host.text() == wanted


def test_an_interface_is_started_without_the_guard_which_would_wait_for_the_lock(cell: FakeHost) -> None:
    twin = rebooted(cell)
    assert program(twin, "restore")[0] == 0
    starts = [argv for argv in twin.log if argv[0] == "systemctl" and "restart" in argv]
    assert [unit for argv in starts for unit in argv if "@" in unit] == [f"wg-quick@{name}" for name in TUNNELS]
    assert all("--job-mode=ignore-dependencies" in argv for argv in starts)


def test_a_link_that_does_not_start_keeps_no_other_one_from_it_and_is_said_once(cell: FakeHost) -> None:
    twin = rebooted(cell)

    def refuse(step: str) -> None:
        if step == "wg-quick up pic-cellb":
            raise Refused(1, "Job for wg-quick@pic-cellb.service failed.")

    twin.watch = refuse
    rc, _out, err = program(twin, "restore")
    assert rc != 0 and "pic-cellc" in twin.wg
    assert err.count("restart wg-quick@pic-cellb' ended") == 1 and "pic-cellc" not in err


@pytest.mark.parametrize("units", [False, True], ids=["before the units", "after the units"])
def test_an_end_at_any_step_is_made_good_by_the_next_run(cell: FakeHost, units: bool) -> None:
    def begun() -> FakeHost:
        twin = rebooted(cell)
        if units:
            start_units(twin)
        twin.reset()
        return twin

    whole = begun()
    for words in (("restore", "--guard"), ("restore",)):
        assert program(whole, *words)[0] == 0
    for number in range(1, len(whole.steps) + 1):
        twin = begun()
        twin.fail_at, twin.kill = number, True
        with pytest.raises(Killed):
            for words in (("restore", "--guard"), ("restore",)):
                program(twin, *words)
        case = f"ended after {twin.steps}"
        twin.reset()
        with watched(twin) as found:
            rc, _out, err = program(twin, "restore")
        assert (rc, err) == (0, ""), case
        assert ours(twin) == ours(cell), case
        assert units or found == [], case


def test_where_the_ways_cannot_be_closed_no_device_is_let_in(cell: FakeHost) -> None:
    twin = rebooted(cell)
    twin.missing.add("iptables")
    rc, _out, err = program(twin, "restore")
    assert rc == 1
    assert "Install the package 'iptables'" in err
    assert twin.wg == {}


def test_one_link_that_cannot_be_keeps_no_other_from_coming_back(cell: FakeHost) -> None:
    for name in ("pic-cellb", "pic-cellc"):
        cell.drop_link(name)
    cell.files["/etc/wireguard/pic-cellb.conf"] = (0o600, cell.files["/etc/wireguard/pic-cellb.conf"][1])
    cell.add_link("pic-cellb")  # somebody else's, of this name
    rc, _out, err = program(cell, "restore")
    assert rc == 1
    assert "Interface 'pic-cellb' of link 'cellb' exists but is not a WireGuard interface" in err
    assert "pic-cellc" in cell.wg
    cell.drop_link("pic-cellb")
    assert program(cell, "restore")[0] == 0
    assert "pic-cellb" in cell.wg


@pytest.mark.parametrize("stopped", [False, True], ids=["wg-quick gave up", "wg-quick was ended"])
def test_a_resolver_that_does_not_answer_at_boot_keeps_only_the_endpoint_waiting(cell: FakeHost, stopped: bool) -> None:
    """wg-quick's unit gives up in time, or systemd ends it half done; restore starts the link without the name, and asks for it again later."""
    twin = rebooted(cell)
    conf = twin.read("/etc/wireguard/pic-cellb.conf") or ""
    assert "Endpoint = cellb.example.net:" in conf
    twin.deaf = True
    program(twin, "restore", "--guard")
    for name in ("wg0", "pic-cellb"):
        with contextlib.suppress(CellError):
            twin.by_hand(f"systemctl restart wg-quick@{name}")
    assert set(twin.wg) == {"wg0"}
    if stopped:
        twin.add_link("pic-cellb", kind="wireguard")
        twin.links["pic-cellb"].up, twin.links["pic-cellb"].mtu = False, 1420
        twin.wg["pic-cellb"] = Device()
    twin.reset()
    rc, out, err = program(twin, "restore")
    assert (rc, err) == (0, "")
    assert set(twin.wg) == set(TUNNELS)
    assert len([argv for argv in twin.log if argv[0] == "getent"]) <= 2 * (out != "")
    assert twin.wg["pic-cellb"].peers[next(iter(twin.wg["pic-cellb"].peers))].endpoint is None
    twin.deaf = False
    assert program(twin, "restore")[0] == 0
    if stopped:
        twin.active.add("wg-quick@pic-cellb")  # the unit has failed, its interface is there
    assert ours(twin) == ours(cell)


def test_a_resolver_that_does_not_answer_is_asked_twice_in_a_run(tmp_path: Path) -> None:
    """Each lookup takes 5 s: with a hundred links systemd would end the run before it has come to the last."""
    host = made(tmp_path, 10)
    text = host.read(f"{STATE_DIR}/cell_links.json") or ""
    host.write(f"{STATE_DIR}/cell_links.json", re.sub(r"192\.0\.2\.9:(\d+)", r"x\1.example.net:\1", text))
    host.deaf = True
    host.reset()
    assert restore(host, STATE_DIR).errors == []
    assert [argv[0] for argv in host.log].count("getent") == 2


# Cost


@pytest.mark.parametrize("case", CASES)
def test_the_number_of_commands_does_not_grow_with_links_shares_and_devices(tmp_path: Path, case: str) -> None:
    small, large = (measured(made(tmp_path / str(links), links), case)[1] for links in (10, 50))
    assert small == large
    assert sum(large.values()) < 30


def test_of_many_devices_only_those_that_have_flows_are_dealt_with(tmp_path: Path) -> None:
    host = damaged(made(tmp_path, 10), CASES[1])
    host.flows = {"10.0.1.7", "fd00:a::9", "192.0.2.1"}
    assert restore(host, STATE_DIR).errors == []
    assert [words[-2:] for words in host.ended] == [["--orig-src", "10.0.1.7"], ["--orig-src", "fd00:a::9"]]
    steps = [step.split()[:3] for step in host.steps]
    assert ["ip", "-4", "rule"] in steps[: steps.index(["conntrack", "-D", "-f"])], "a flow could begin anew"


# Records that cannot be read


def test_without_link_records_nothing_is_allowed_and_no_tunnel_is_lost(cell: FakeHost) -> None:
    tunnels = {name: cell.wg[name] for name in TUNNELS}
    cell.files["/var/lib/pic/cell_links.json"] = (0o600, "{")
    rc, out, err = program(cell, "restore")
    assert rc == 1
    assert "/var/lib/pic/cell_links.json cannot be read" in err
    assert any("PIC-S-cellb" in line for line in out.splitlines())
    assert "PIC-S-cellb" not in cell.tables[cell.default, 4]["filter"].rules
    assert {name: cell.wg[name] for name in TUNNELS} == tunnels
    assert any(route.dst == "10.0.1.0/24" and route.dev is None for route in cell.routes)
    assert leaks(cell, cell, cell) == []
    assert cell.read("/var/lib/pic/cell_links.json") == "{"
    cell.reset()
    assert program(cell, "restore")[0] == 1
    assert cell.steps == []


def test_without_the_registry_every_device_is_kept_from_the_uplink(cell: FakeHost) -> None:
    twin = rebooted(cell)
    twin.files["/var/lib/pic/peer_registry.json"] = (0o600, '{"peers": "garbage"}')
    rc, _out, err = program(twin, "restore", "--guard")
    assert rc == 1
    assert "/var/lib/pic/peer_registry.json cannot be read" in err
    assert twin.chain(4, "PIC-ROUTED") == ["-s 10.0.0.0/24 -j PIC-HOME"]
    assert twin.chain(6, "PIC-ROUTED") == ["-s fd00:a::/64 -j PIC-HOME"]


def test_without_the_cells_own_record_nothing_is_done(cell: FakeHost) -> None:
    for text in ("", "[]", "{}"):
        cell.files["/var/lib/pic/cell.json"] = (0o600, text)
        for words in (("restore", "--guard"), ("restore",), ("check",)):
            rc, _out, err = program(cell, *words)
            assert rc == 1, text
            assert "cell.json" in err or "is not a cell" in err
    assert cell.steps == []


def test_no_key_is_ever_made(cell: FakeHost) -> None:
    wanted = cell.text()
    cell.remove("/var/lib/pic/identity.key")
    assert program(cell, "restore")[0] == 0
    assert cell.text() == wanted, "the interface still had the key"
    twin = rebooted(cell)
    for path in ("/var/lib/pic/identity.key", "/etc/wireguard/wg0.conf"):
        twin.remove(path)
    twin.reset()
    rc, _out, err = program(twin, "restore")
    assert rc == 1
    assert "The cell's key /var/lib/pic/identity.key is gone" in err
    assert ["wg", "genkey"] not in twin.log
    assert leaks(twin, twin, twin) == []


def test_what_an_interrupted_run_had_left_undone_is_finished_and_struck_out(cell: FakeHost) -> None:
    key = made_key("a device that has gone")
    cell.by_hand("wg addconf wg0 /dev/stdin", f"[Peer]\nPublicKey = {key}\nAllowedIPs = 10.0.0.9/32\n")
    note = json.loads(cell.read("/var/lib/pic/leaving.json") or '{"devices": [], "links": [], "exits": [], "flows": []}')
    cell.files["/var/lib/pic/leaving.json"] = (0o600, json.dumps({**note, "devices": [key]}))
    assert program(cell, "restore")[0] == 0
    assert key not in cell.wg["wg0"].peers
    assert json.loads(cell.read("/var/lib/pic/leaving.json") or "{}")["devices"] == []


def of_nftables(family: str, table: str, chain: str, **more: object) -> list[dict[str, object]]:
    """Return a chain of nftables' own with a rule that iptables cannot show."""
    return [{"chain": {"family": family, "table": table, "name": chain, **more}}, {"rule": {"family": family, "table": table, "chain": chain, "expr": []}}]


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_chains_of_nftables_own_beside_ours_keep_nothing_from_coming_back(cell: FakeHost, family: str) -> None:
    wanted = ours(cell)
    twin = rebooted(cell)
    twin.native = of_nftables(family, "nat", "postrouting", hook="postrouting", type="nat", prio=100)
    assert program(twin, "restore", "--guard")[0] == 0
    assert program(twin, "restore")[0] == 0
    assert (ours(twin), program(twin, "restore")) == (wanted, (0, "", ""))
    rc, out, _err = program(twin, "check")
    assert (rc, [f"Table '{family} nat'" in line for line in out.splitlines()]) == (0, [True])


HOOKS = {"filter": "FORWARD", "mangle": "FORWARD", "nat": "POSTROUTING"}


@pytest.mark.parametrize("family", ["ip", "ip6"])
@pytest.mark.parametrize("tables", [("filter",), ("nat",), ("filter", "mangle")])
def test_where_iptables_cannot_show_a_table_all_else_comes_back(cell: FakeHost, family: str, tables: tuple[str, ...]) -> None:
    """Without both tables that deny by default no tunnel is started, but the ways are closed; without another one only it is missing."""
    tool = "ip6tables" if family == "ip6" else "iptables"
    wanted = [line for line in ours(cell) if not any(f"{tool}-nft {table} " in line for table in tables)]
    twin = rebooted(cell)
    twin.native = [item for table in tables for item in of_nftables(family, table, HOOKS[table])]
    said = f"nft list table {family} {tables[0]}"
    open_wide = len(tables) > 1
    rc, _out, err = program(twin, "restore", "--guard")
    assert (rc == 1, said in err) == (open_wide, open_wide)
    assert [rule for rule in twin.rules[4] if rule.priority == 4002 and rule.src == "10.0.0.2"] != []
    assert [route for route in twin.routes if route.dst == "10.0.1.0/24" and route.dev is None] != []
    assert twin.chain(4 if family == "ip6" else 6, "PIC-FWD") != []
    rc, _out, err = program(twin, "restore")
    assert (rc, err.count(said)) == (1, 1)
    assert bool({"wg0", "pic-cellb"} & set(twin.wg)) == (not open_wide)
    if not open_wide:
        assert [line for line in ours(twin) if not any(f"{tool}-nft {table} " in line for table in tables)] == wanted
    rc, out, _err = program(twin, "check")
    assert (rc, said in out) == (3, True)


def test_where_iptables_does_not_work_at_all_the_ways_are_closed(cell: FakeHost) -> None:
    twin = rebooted(cell)
    twin.answers["ip6tables-save",] = Result(3, "", "ip6tables-save: can't initialize")
    rc, _out, err = program(twin, "restore", "--guard")
    assert (rc, "can't initialize" in err) == (1, True)
    assert [rule for rule in twin.rules[4] if rule.priority == 4002 and rule.src == "10.0.0.2"] != []
    assert twin.chain(4, "PIC-FWD") != []


def test_without_conntrack_a_cell_comes_back_all_the_same_and_it_is_said(cell: FakeHost) -> None:
    cell.files[f"{STATE_DIR}/leaving.json"] = (0o600, json.dumps({"flows": ["-f ipv4 -s 10.0.1.0/24 -n"]}))
    twin = rebooted(cell)
    twin.missing.add("conntrack")
    assert (program(twin, "restore", "--guard")[::2], twin.wg) == ((0, ""), {})
    rc, _out, err = program(twin, "restore")
    assert (rc, err) == (1, "pic-cell: The program 'conntrack' is not installed on this host. Install the package 'conntrack'.\n")
    assert sorted(twin.wg) == sorted(TUNNELS)
    assert ours(twin) == ours(cell)
    assert "'conntrack' is not installed" in program(twin, "check")[1]
    # What had to end ends as soon as it can.
    twin.missing.clear()
    assert program(twin, "restore")[0] == 0
    assert ["-D", "-f", "ipv4", "-s", "10.0.1.0/24", "-n"] in twin.ended
    assert program(twin, "check")[0] == 0


def test_without_wg_the_ways_of_devices_stay_as_they_are(cell: FakeHost) -> None:
    cell.missing.add("wg")
    rc, _out, err = program(cell, "restore")
    assert (rc, "'wg' is not installed" in err) == (1, True)
    assert [step for step in cell.steps if step.startswith("ip ")] == []


@pytest.mark.parametrize("left", [None, "", "\0" * 300, "[Interface]\n"], ids=["gone", "empty", "zeros", "cut"])
def test_the_file_of_a_link_that_is_lost_costs_no_preshared_key_while_the_kernel_has_it(cell: FakeHost, left: str | None) -> None:
    """As after a power cut, or somebody's hand. Without the key the other cell would not be heard any more."""
    path = "/etc/wireguard/pic-cellb.conf"
    before, tunnel = cell.read(path), copy.deepcopy(cell.wg["pic-cellb"])
    assert "PresharedKey" in str(before)
    del cell.files[path]
    if left is not None:
        cell.files[path] = (0o600, left)
    assert "preshared key" not in program(cell, "check")[1]
    assert program(cell, "restore")[0] == 0
    assert (cell.wg["pic-cellb"], cell.read(path)) == (tunnel, before)
    assert program(cell, "check") == (0, "", "")


@pytest.mark.parametrize("left", ["", " \n", "\0" * 300], ids=["empty", "blank", "zeros"])
def test_the_devices_file_that_is_lost_costs_no_peer_while_the_kernel_has_it(cell: FakeHost, left: str) -> None:
    peers = copy.deepcopy(cell.wg["wg0"].peers)
    assert len(peers) == 4 and any(peer.psk for peer in peers.values())
    cell.files["/etc/wireguard/wg0.conf"] = (0o600, left)
    assert program(cell, "restore")[0] == 0
    cell.by_hand("systemctl restart wg-quick@wg0")
    assert cell.wg["wg0"].peers == peers


def test_the_route_to_the_devices_that_somebody_has_deleted_comes_back(cell: FakeHost) -> None:
    """As by 'ip route flush dev wg0': the address is there, and no packet finds a device."""
    cell.routes = [route for route in cell.routes if route.dev != "wg0"]
    rc, out, _err = program(cell, "check")
    assert (rc, "missing: 10.0.0.0/24 through wg0" in out, "missing: fd00:a::/64 through wg0" in out) == (3, True, True)
    assert program(cell, "restore")[0] == 0
    assert {route.dst for route in cell.routes if route.dev == "wg0"} >= {"10.0.0.0/24", "fd00:a::/64"}
    assert (program(cell, "check"), program(cell, "restore")) == ((0, "", ""), (0, "", ""))
    # The kernel's own takes its place when the interface is started anew.
    cell.by_hand("systemctl restart wg-quick@wg0")
    assert program(cell, "restore")[0] == 0
    assert [route.proto for route in cell.routes if (route.dev, route.dst) == ("wg0", "10.0.0.0/24")] == [2]
    assert program(cell, "check") == (0, "", "")
