# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall of a cell: written beside others' rules and rivals, flows that end with what allowed them, who reaches what."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Result
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.machine import Killed
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.world import World, call, furnish, three_cells


def test_a_jump_behind_a_foreign_rule_that_could_decide_goes_before_it(linked: World) -> None:
    linked["cella"].iptables(4, "filter", "-I FORWARD 1 -i wg0 -j DROP")
    linked.site("cella")
    assert linked["cella"].chain(4, "FORWARD") == ["-j PIC-FWD", "-i wg0 -j DROP"]


VOICE = ["-D", "-f", "ipv4", "-p", "udp", "-s", "10.0.1.0/24", "--orig-dst", "10.0.0.3", "--orig-port-dst", "5060"]


@pytest.mark.parametrize("kill", [False, True], ids=["failing", "killed"])
def test_flows_of_a_revoked_share_end_at_whatever_step_a_run_has_ended(linked: World, kill: bool) -> None:
    args = {"name": "cellb", "share": ["files"]}
    done = linked["cella"].fork()
    call("pic_cell_rules", done, args)
    assert VOICE in done.ended
    for step in range(1, len(done.steps) + 1):
        host = linked["cella"].fork()
        host.fail_at, host.fails, host.kill = step, 99, kill
        with pytest.raises(Killed) if kill else contextlib.nullcontext():
            call("pic_cell_rules", host, args)
        host.fail_at = None
        call("pic_cell_rules", host, {"cells": []} if step > 2 else args)
        assert VOICE in host.ended, done.steps[step - 1]
        assert host.text() == done.text()


@pytest.mark.parametrize("change", [{"port": 5061}, {"address": "10.0.0.4"}, {"protocol": "tcp"}, {"state": "absent"}])
def test_flows_of_a_shared_service_that_moves_or_goes_end(linked: World, change: dict[str, Any]) -> None:
    linked.inventory["cella"]["cell_services"][1].update(change)
    if "state" in change:
        linked.inventory["cella"]["cell_links"][0]["share"] = ["files"]
    linked.site()
    assert VOICE in linked["cella"].ended
    guard = "-s 10.0.0.3 -p udp -m udp --sport 5060 -m conntrack --ctstate NEW -j DROP"
    assert guard in linked["cella"].chain(4, "PIC-GUARD"), "its server still sends from there"
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})


class Rival(FakeHost):
    """A host on which somebody puts back all rules of before, some times, just after they were changed."""

    def prepare(self, times: int) -> None:
        """Remember the rules as they are now."""
        self.times, self.kept = times, copy.deepcopy(self.tables)

    def run(self, argv: Sequence[str], *args: Any, **more: Any) -> Result:
        """Run a command, and undo it."""
        result = super().run(argv, *args, **more)
        if argv[0].endswith("-restore") and self.times:
            self.times -= 1
            self.tables = copy.deepcopy(self.kept)
        return result


@pytest.mark.parametrize(("times", "ends_well"), [(1, True), (2, True), (50, False)])
def test_rules_that_a_rival_takes_back_are_written_again_within_bounds(linked: World, times: int, ends_well: bool) -> None:
    host = linked["cella"]
    vars(twin := Rival(host.root)).update(vars(host.fork()))
    twin.prepare(times)
    result = call("pic_cell_rules", twin, {"name": "cellb", "share": ["voice"]})
    assert bool(result.get("failed")) != ends_well
    if ends_well:
        call("pic_cell_rules", host, {"name": "cellb", "share": ["voice"]})
        assert twin.text() == host.text()
    else:
        assert "other software undid it" in result["msg"]


def test_a_restore_that_a_rival_has_outrun_is_planned_anew(linked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = linked["cella"]
    host.iptables(4, "filter", "-I FORWARD 1 -j DROP")
    run = host.run

    def outrun(argv: Sequence[str], *args: Any, **more: Any) -> Result:
        if argv[0] == "iptables-restore":
            host.tables["-nft", 4]["filter"].rules["FORWARD"].clear()  # the jump that is to be moved is not there any more
        return run(argv, *args, **more)

    monkeypatch.setattr(host, "run", outrun)
    assert not call("pic_cell_rules", host, {"cells": []}).get("failed")
    assert host.chain(4, "FORWARD") == ["-j PIC-FWD"]


@pytest.mark.parametrize(("fails", "ends_well"), [(1, True), (3, True), (99, False)])
@pytest.mark.parametrize(
    ("code", "words"),
    [(4, "Another app is currently holding the xtables lock."), (124, "not finished within 60 s"), (1, "iptables-restore: line 9 failed")],
    ids=["locked", "slow", "failing"],
)
def test_a_restore_that_fails_is_tried_again_within_bounds_and_then_shown(
    linked: World, monkeypatch: pytest.MonkeyPatch, code: int, words: str, fails: int, ends_well: bool
) -> None:
    host, tries = linked["cella"], []
    run = host.run

    def failing(argv: Sequence[str], stdin: str | None = None, **more: Any) -> Result:
        if argv[0] == "iptables-restore":
            assert argv[1:] == ("--noflush", "-w", "10"), "it does not wait for the lock, or for ever"
            tries.append(stdin)
            if len(tries) <= fails:
                raise CommandFailed(argv, code, words, stdin)
        return run(argv, stdin, **more)

    monkeypatch.setattr(host, "run", failing)
    result = call("pic_cell_rules", host, {"name": "cellb", "share": ["voice"]})
    assert bool(result.get("failed")) != ends_well
    assert len(tries) == min(fails + 1, 4)
    if not ends_well:
        assert f"exit code {code}: {words}" in result["msg"]
        assert (result["cmd"][0], result["rc"], result["stdin"]) == ("iptables-restore", code, tries[0])
        assert "*filter\n:PIC-S-cellb" in result["stdin"]


@pytest.mark.parametrize("module", ["pic_cell_rules", "pic_policy_route"])
def test_rules_that_cannot_be_read_are_not_taken_for_none(linked: World, module: str) -> None:
    host = linked["cella"]
    hidden = "".join(f"# Table `{table}' is incompatible, use 'nft' tool.\n" for table in ("filter", "mangle"))
    host.answers["iptables-save",] = Result(0, "", hidden)
    args = {"pic_cell_rules": {"name": "cellb", "share": []}, "pic_policy_route": {"peer": "laptop", "via_cell": "cellb"}}
    result = call(module, host, args[module])
    assert result["failed"]
    assert "iptables-save does not show" in result["msg"] and "nft list table ip filter" in result["msg"]
    assert host.steps == []


@pytest.mark.parametrize("legacy", [False, True])
def test_after_a_switch_of_the_iptables_variant_our_rules_are_in_the_new_one_alone(linked: World, legacy: bool) -> None:
    host = linked["cella"]
    if legacy:
        host.default = "-legacy"
        linked.site()
        host.default = "-nft"
    else:
        host.default = "-legacy"
    host.iptables(4, "filter", "-A INPUT -i lo -j ACCEPT")
    predicted, done = linked.site(check=True), linked.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    for family in (4, 6):
        for variant, used in (("-nft", legacy), ("-legacy", not legacy)):
            chains = {chain for table in host.tables[variant, family].values() for chain in table.rules}
            assert any(chain.startswith("PIC-") for chain in chains) == used, (family, variant)
    assert linked.site().changed == []


def test_the_guard_stops_what_is_invalid_too(linked: World) -> None:
    assert linked["cella"].chain(4, "PIC-GUARD")[0] == "-p tcp -m conntrack --ctstate INVALID -j DROP"


def test_an_admin_network_reaches_the_cell_but_not_its_api(linked: World) -> None:
    linked.inventory["cella"]["cell_admin_networks"] = ["10.0.1.0/24"]
    linked.site()
    assert linked["cella"].chain(4, "PIC-I-cellb") == [
        "-s 10.0.1.1 -d 10.0.0.1 -p tcp -m tcp --dport 8088 -j ACCEPT",
        "-d 10.0.0.1 -p tcp -m tcp --dport 8088 -j DROP",
        "-s 10.0.1.0/24 -j ACCEPT",
        "-g PIC-S-cellb",
    ]
    assert linked["cella"].chain(4, "PIC-S-cellb")[-1] == "-j DROP"


def test_only_own_devices_reach_a_link_on_the_devices_interface(linked: World) -> None:
    linked.inventory["cella"]["cell_links"][0].update(interface="wg0")
    linked.site()
    path = linked["cella"].chain(4, "PIC-PATH")
    accepted = path.index("-i wg0 -o wg0 -d 10.0.1.0/24 -s 10.0.0.0/24 -j ACCEPT")
    assert path.index("-o wg0 -d 10.0.1.0/24 -j DROP") > accepted
    assert "-o pic-+ -j DROP" in path


def test_the_cell_hears_the_answers_to_what_it_asks_over_a_link_on_the_devices_interface(linked: World) -> None:
    linked.inventory["cella"]["cell_links"][0].update(interface="wg0")
    linked.site()
    rules = linked["cella"].chain(4, "PIC-IN")
    answers = rules.index("-i wg0 -s 10.0.1.0/24 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    assert answers < rules.index("-i wg0 -s 10.0.1.0/24 -g PIC-I-cellb")


def test_over_the_devices_interface_a_linked_cell_cannot_send_in_the_name_of_others(world: World) -> None:
    """As its exit it has 0.0.0.0/0 there: WireGuard takes any address from it that no other peer has."""
    host = world["cella"]
    furnish(host)
    world.inventory["cella"]["cell_links"][0].update(interface="wg0")
    world.site()
    assert "0.0.0.0/0" in host.wg["wg0"].peers[world.public_key("cellb")].allowed
    others = sorted(network for key, peer in host.wg["wg0"].peers.items() if key != world.public_key("cellb") for network in peer.allowed if ":" not in network)
    assert len(others) > 1, "somebody else's peer is on it too"
    senders = host.chain(4, "PIC-SENDER")
    assert sorted(senders[:-1]) == sorted(f"-s {network} -j RETURN" for network in [*others, "10.0.1.0/24"])
    assert senders[-1] == "-g PIC-BACK"
    path, to_cell = host.chain(4, "PIC-PATH"), host.chain(4, "PIC-IN")
    assert path.index("-i wg0 -j PIC-SENDER") < path.index("-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    assert to_cell.index("-i wg0 -j PIC-SENDER") < to_cell.index("-i wg0 -s 10.0.1.0/24 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")
    world.inventory["cella"]["cell_links"][0]["interface"] = "pic-cellb"
    world.site()
    assert "PIC-SENDER" not in host.text()


def test_a_routed_packet_passes_a_bounded_number_of_rules(tmp_path: Path) -> None:
    inventory = three_cells()
    inventory["cella"]["cell_peers"] = [
        {"name": f"p{number}", "public_key": made_key(f"p{number}"), "addresses": [f"10.0.0.{number}"], "route_via": "cellb"} for number in range(2, 202)
    ]
    world = World(tmp_path, inventory)
    world.site()
    rules = world["cella"].tables["-nft", 4]["filter"].rules
    chains = [chain for chain in rules if chain.startswith("PIC-R")]
    assert max(len(rules[chain]) for chain in chains) <= 16
    leaves = [rule[1] for chain in chains for rule in rules[chain] if rule[-1] == "PIC-HOME"]
    assert sorted(leaves) == sorted(f"10.0.0.{number}/32" for number in range(2, 202))
