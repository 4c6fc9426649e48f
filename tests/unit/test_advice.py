# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does outside of our own affairs that keeps a cell from working: where it is said, and that nothing depends on it."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pic.cells.plugins.module_utils.kernel import systemd
from ansible_collections.pic.cells.plugins.module_utils.parts import advice, units
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, call, program


def told(host: FakeHost) -> list[str]:
    """Return the advice on a host that is otherwise as it should be, after having looked at every place where it is said."""
    rc, out, err = program(host, "check", "--json")
    found = json.loads(out)
    assert (rc, found["drift"], err, host.steps) == (0, [], "", [])
    sentences: list[str] = found["advice"]
    lines = [f"warning: {sentence}" for sentence in sentences]
    assert program(host, "check") == (0, "".join(f"{line}\n" for line in lines), "")
    peer = min(json.loads(program(host, "status", "--json")[1])["peers"])
    for words in (("status",), ("explain", peer)):
        out = program(host, *words)[1]
        assert [line for line in out.splitlines() if line.startswith("warning: ")] == lines
    read = call("pic_cell_info", host, {})
    assert (read["advice"], read["warnings"]) == (sentences, sentences)
    assert host.steps == []
    return sentences


def said_in_a_run(world: World, host: str) -> list[str]:
    """Return the advice on a host that a run gives, each sentence as one warning and as something to do."""
    run = world.site()
    assert run.changed == []
    sentences = list(run.of(host, "pic_cell_info")[0]["advice"])
    for sentence in sentences:
        assert run.warnings().count(sentence) == 1
        assert f"next: on {host}: {sentence}" in run.said[host]
    assert ("next: nothing is left to do" in run.said[host]) == (not sentences)
    return sentences


def test_a_host_that_is_as_it_should_be_gets_no_advice(linked: World) -> None:
    for name, host in linked.hosts.items():
        assert (told(host) if name != "cellc" else [], said_in_a_run(linked, name)) == ([], [])


def test_an_uplink_that_is_not_there(linked: World) -> None:
    linked.inventory["cellb"]["cell_uplink"] = "eht0"
    assert "The uplink 'eht0' of cell 'cellb' is not an interface of this host" in "\n".join(linked.site(check=True).warnings())
    linked.site()
    linked.reset()
    sentences = told(linked["cellb"])
    assert [("'eht0'" in sentence, "cell_uplink" in sentence, "eth0" in sentence) for sentence in sentences] == [(True, True, True)]
    assert said_in_a_run(linked, "cellb") == sentences
    linked.inventory["cellb"]["cell_uplink"] = "eth0"
    linked.site()
    linked.reset()
    assert (told(linked["cellb"]), said_in_a_run(linked, "cellb")) == ([], [])


def test_a_host_without_the_packages_gets_no_advice_about_what_could_not_be_read(world: World) -> None:
    host = world["cella"]
    host.missing |= {"ip", "iptables", "ip6tables", "nft", "wg"}
    world.inventory["cella"].update(cell_uplink="eth0")
    run = world.site("cella", check=True)
    assert run.of("cella", "pic_cell_info")[0]["advice"] == []


def test_an_exit_without_a_way_to_the_internet(linked: World) -> None:
    host = linked["cellb"]
    host.routes = [route for route in host.routes if route.dst not in ("0.0.0.0/0", "::/0") or route.table != 254]
    linked.site()
    linked.reset()
    sentences = told(host)
    assert ["Cell 'cellb' offers cella an exit but has no default route" in sentence for sentence in sentences] == [True]
    assert said_in_a_run(linked, "cellb") == sentences


def test_an_exit_with_a_way_in_one_family(linked: World) -> None:
    host = linked["cellb"]
    host.routes = [route for route in host.routes if (route.dst, route.table) != ("::/0", 254)]
    linked.site()
    linked.reset()
    assert told(host) == []


@pytest.mark.parametrize(
    ("flags", "said", "remedy"),
    [
        ([], "is down", "ip link set dev eth0 up"),
        (["UP", "NO-CARRIER"], "has no carrier", "cable"),
    ],
)
def test_an_uplink_that_is_there_and_carries_nothing(linked: World, flags: list[str], said: str, remedy: str) -> None:
    linked.inventory["cellb"]["cell_uplink"] = "eth0"
    linked.site()
    linked.reset()
    host = linked["cellb"]
    host.links["eth0"].flags = flags
    (sentence,) = told(host)
    assert sentence.startswith(f"Interface 'eth0', the uplink of cell 'cellb', {said}") and remedy in sentence
    assert said_in_a_run(linked, "cellb") == [sentence]
    linked.inventory["cella"]["cell_peers"][2]["route_via"] = "direct"
    linked["cella"].links["eth0"].flags = flags
    out = program(linked["cella"], "explain", "laptop")[1]
    assert f"10.0.0.4: dropped: interface eth0 {said}" in out


def test_an_interface_that_is_called_as_links_are_is_said(linked: World) -> None:
    host = linked["cella"]
    host.add_link("pic-cam", "192.168.7.1/24")
    (sentence,) = told(host)
    assert sentence.startswith("Interface 'pic-cam' belongs to no link of cell 'cella'") and "Rename it" in sentence
    assert said_in_a_run(linked, "cella") == [sentence]


@pytest.mark.parametrize("unit", units.RUNNING)
def test_a_unit_of_ours_that_has_ended_is_said(linked: World, unit: str) -> None:
    host = linked["cella"]
    host.active.discard(unit)
    (sentence,) = told(host)
    assert sentence.startswith(f"Unit {unit} is inactive, ") and f"systemctl start {unit}" in sentence
    # A run starts it, which is no advice.
    again = linked.site()
    linked.reset()
    assert (again.of("cella", "pic_cell_info")[0]["advice"], unit in host.active, told(host)) == ([], True, [])


def test_a_unit_that_comes_up_only_to_end_is_said(linked: World) -> None:
    host = linked["cella"]
    host.active.discard(units.WATCH)
    host.failing.add(units.WATCH)
    (sentence,) = told(host)
    assert sentence.startswith(f"Unit {units.WATCH} is activating, ") and f"journalctl -u {units.WATCH}" in sentence


def test_a_unit_that_does_not_start_at_boot_is_said(linked: World) -> None:
    host = linked["cella"]
    del host.files[f"{systemd.SYSTEM}/timers.target.wants/{units.TIMER}"]
    (sentence,) = told(host)
    assert sentence.startswith(f"Unit {units.TIMER} is not enabled") and f"systemctl enable {units.TIMER}" in sentence


def test_a_unit_that_is_not_there_is_said(linked: World) -> None:
    host = linked["cella"]
    del host.files[f"{systemd.SYSTEM}/{units.WATCH}"]
    host.active.discard(units.WATCH)
    (sentence,) = told(host)
    assert sentence.startswith(f"Unit {units.WATCH} is not there, ") and "pic.cells.site" in sentence


@pytest.mark.parametrize("interface", ["wg0", "pic-cellb"])
def test_an_interface_that_does_not_wait_for_the_guard_is_said(linked: World, interface: str) -> None:
    host = linked["cella"]
    del host.files[systemd.drop_in_path(interface)]
    (sentence,) = told(host)
    assert f"'wg-quick@{interface}' does not wait for {units.GUARD}" in sentence and "pic.cells.site" in sentence


def test_units_are_not_asked_for_where_there_are_none(linked: World) -> None:
    host = linked["cella"]
    for path in [path for path in host.files if path.startswith("/run/systemd/")]:
        del host.files[path]
    host.active.clear()
    assert told(host) == []
    assert not any(argv[0] == "systemctl" for argv in host.log)


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_chains_that_iptables_does_not_show_are_named(linked: World, family: str) -> None:
    host = linked["cella"]
    host.native = [{"chain": {"family": family, "table": "nat", "name": "postrouting", "type": "nat", "hook": "postrouting", "prio": 100}}]
    sentences = told(host)
    assert [f"'nft list table {family} nat'" in sentence for sentence in sentences] == [True]
    assert said_in_a_run(linked, "cella") == sentences


def test_a_table_that_iptables_cannot_show_ends_a_run_before_anything_changes(world: World) -> None:
    world["cellb"].native = [{"rule": {"family": "ip6", "table": "nat", "chain": "POSTROUTING", "expr": []}}]
    with pytest.raises(Refusal, match=r"^cellb: Table 'nat' \(IPv6\).*'nft list table ip6 nat'"):
        world.site()
    assert world.steps() == {}


@pytest.mark.parametrize(
    ("rule", "chain", "said"),
    [
        ("-s 192.168.1.0/24 -i eth0 -o wg0 -j ACCEPT", "FORWARD", True),
        ("-i eth0 -o wg0 -p tcp -m tcp --dport 22 -j ACCEPT", "ufw-user-forward", True),
        ("-i eth0 -o wg0 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", "FORWARD", True),
        ("-i eth0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "FORWARD", False),
        ("-i eth0 -o wg0 -m conntrack --ctstate DNAT -j ACCEPT", "FORWARD", False),
        ("-o wg0 -j ACCEPT", "FORWARD", False),
        ("! -i eth0 -o wg0 -j ACCEPT", "FORWARD", False),
        ("-i eth0 -o wg0 -j DROP", "FORWARD", False),
    ],
)
def test_a_rule_that_opens_devices_to_the_uplinks_network_is_told_what_passes(linked: World, rule: str, chain: str, said: bool) -> None:
    host = linked["cella"]
    if chain != "FORWARD":
        host.iptables(4, "filter", f"-A FORWARD -j {chain}", f"-A {chain} {rule}", chains=[chain])
    else:
        host.iptables(4, "filter", f"-A {chain} {rule}")
    sentences = told(host)
    assert [f"'{rule}' of chain '{chain}'" in line and "DNAT" in line for line in sentences] == ([True] if said else [])
    assert said_in_a_run(linked, "cella") == sentences


def test_an_error_in_reading_is_a_sentence_and_keeps_nothing_from_being_said(linked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_situation: advice.Situation) -> list[str]:
        """Say something."""
        raise KeyError("odd")

    monkeypatch.setattr(advice, "SOURCES", (broken, *advice.SOURCES, lambda _situation: ["Something\x1b. Do something."]))
    assert told(linked["cella"]) == ["Say something: this could not be checked (KeyError: 'odd').", "Something\\x1b. Do something."]
    linked["cella"].by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
    assert program(linked["cella"], "restore")[0] == 0
    assert program(linked["cella"], "restore", "--guard") == (0, "", "")
