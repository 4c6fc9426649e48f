# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role makes of the hosts of a run: which steps are due, batches and plays, and hosts that are not there."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.summary import left_out
from ansible_collections.pic.cells.tests.unit.runs import executed
from ansible_collections.pic.cells.tests.unit.world import ROLE, World, registers


def test_a_run_that_changes_nothing_only_reads(linked: World) -> None:
    assert executed(linked.site()) == {"cella": [], "cellb": [], "cellc": []}
    job = linked.job("route_peer", cell="cella", peer="tablet", via_cell="cellc")
    assert [at for at, _module, _args in job.calls] == ["cella", "cellc"]
    assert {module for _at, module, _args in linked.site("cella").calls} == {"pic_cell_info"}, "cells outside the limit are handed what they know"


def test_what_two_variants_of_iptables_mean_is_said_without_taking_a_step_for_it(linked: World) -> None:
    linked["cella"].by_hand("iptables-legacy-restore --noflush -w 10", "*filter\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n")
    run = linked.site()
    assert ["in addition to those of" in warning for warning in run.warnings()] == [True]
    assert (run.due, executed(run)["cella"]) == ([], [])


def test_the_preflight_tells_what_anybody_has_to_do(linked: World) -> None:
    assert linked.site().due == []
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    assert linked.site().due == ["apply"]
    linked["cellb"].write("/proc/sys/net/ipv4/ip_forward", "0\n")
    assert linked.site().due == ["unforwarded"]
    assert linked.job("share", cell="cella", remote_cell="cellb", services="files,voice").due == ["unforwarded"]


def test_only_the_files_of_the_role_are_taken_in_which_a_host_may_have_something_to_do(linked: World) -> None:
    assert linked.site().files == []
    later = ["sync", "apply", "push"]
    linked["cellb"].write("/proc/sys/net/ipv4/ip_forward", "0\n")
    assert linked.site().files == ["base", *later]
    linked["cellb"].write("/proc/sys/net/ipv4/ip_forward", "1\n")
    assert linked.job("share", cell="cella", remote_cell="cellb", services="files").files == later
    assert linked.job("link", cell="cella", remote_cell="friend", invitation="new").files == ["identity", "keys", *later, "invite"]


def test_only_the_steps_that_have_something_to_do_are_taken(linked: World) -> None:
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    for check in (True, False):
        assert executed(linked.site(check=check)) == {"cella": ["pic_cell_apply"], "cellb": [], "cellc": []}
    linked.inventory["cella"]["cell_links"][0]["share"] = ["voice"]
    for check in (True, False):
        assert executed(linked.site(check=check)) == {
            "cella": ["pic_peer_sync", "pic_cell_apply", "pic_peer_sync"],
            "cellb": ["pic_cell_apply"],
            "cellc": [],
        }
    withdrawn = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    assert executed(withdrawn) == {
        "cella": ["pic_peer_sync", "pic_cell_apply", "pic_peer_sync"],
        "cellb": ["pic_peer_sync", "pic_cell_apply", "pic_peer_sync"],
        "cellc": [],
    }


@pytest.mark.parametrize("check", [True, False])
def test_a_step_is_given_what_other_cells_say_only_where_they_are_heard(linked: World, check: bool) -> None:
    linked.inventory["cella"]["cell_links"][0]["share"] = ["voice"]
    calls = linked.site(check=check).calls
    given = [(host, module, bool(arguments["run"]["received"])) for host, module, arguments in calls if module != "pic_cell_info"]
    assert given == [
        *(("cella", "pic_peer_sync", False), ("cella", "pic_cell_apply", True), ("cellb", "pic_cell_apply", True)),
        ("cella", "pic_peer_sync", check),
    ]


def test_what_an_earlier_batch_has_read_of_its_own_cell_is_older_than_what_the_next_one_reads() -> None:
    hostvars = {
        "cella": {"__cell_read": {"results": [{"item": "cella", "name": "of before"}]}},
        "cellb": {"__cell_read": {"results": [{"item": "cellb"}]}, "__cell_others": {"results": [{"item": "cella", "name": "of now"}]}},
    }
    variables = {"hostvars": hostvars, "groups": {"cells": list(hostvars)}, "ansible_play_batch": ["cellb"], "ansible_play_hosts_all": list(hostvars)}
    assert Mesh(variables, lambda value: value).read("cella")["name"] == "of now"


def test_a_host_that_was_away_in_an_earlier_batch_is_away_until_it_answers() -> None:
    hostvars = {
        "cella": {"__cell_others": {"results": [{"item": "cellb", "unreachable": True}]}},
        "cellb": {"__cell_read": {"results": [{"item": "cellb", "name": "cellb"}]}},
        "cellc": {},
    }
    variables = {"hostvars": hostvars, "groups": {"cells": list(hostvars)}, "ansible_play_hosts_all": list(hostvars)}
    away = {batch: Mesh({**variables, "ansible_play_batch": [batch]}, lambda value: value).unreachable() for batch in ("cellb", "cellc")}
    assert away == {"cellb": set(), "cellc": {"cellb"}}


FOUND = {"base": ("missing", "advertised", "unforwarded"), "identity": ("identity",), "keys": ("keys", "identity"), "pair": ("pair",), "invite": ("invited",)}


@pytest.mark.parametrize(("file", "found"), [(file, word) for file, words in FOUND.items() for word in words])
def test_a_file_is_taken_for_each_of_its_findings(file: str, found: str) -> None:
    judged = {"__cell_judged": {"due": {"cella": [], "cellb": [found]}}}
    variables = {"hostvars": {}, "registers": {"cella": judged}, "inventory_hostname": "cella", "ansible_play_batch": ["cella", "cellb"]}
    files = Mesh(variables, lambda value: value).role_files()
    assert file in files and [name for name in files if name not in FOUND] == ["sync", "apply", "push"]


@pytest.mark.parametrize(
    ("due", "included"),
    [({"cella": [], "cellb": ["rules"]}, True), ({"cella": [], "cellb": []}, False), ({"cella": ["rules"]}, True), ({"cella": []}, False)],
)
def test_the_steps_are_taken_where_any_host_has_something_to_do(due: dict[str, list[str]], included: bool) -> None:
    """A host may have come to the steps without a preflight: where a condition of the user's leaves that out, or a rescue goes on."""
    registers = {host: {"__cell_judged": {"due": due}} for host in due}
    variables = {"hostvars": {}, "registers": registers, "inventory_hostname": next(iter(due)), "ansible_play_batch": ["cella", "cellb"]}
    assert (Mesh(variables, lambda value: value).any_due() != []) is included


@pytest.mark.parametrize("register", ["__cell_identity", "__cell_built", "__cell_handed", "__cell_applied", "__cell_pushed"])
def test_nothing_is_said_of_a_run_that_was_cut_in_the_middle_of_its_steps(linked: World, register: str) -> None:
    linked.every_step = True
    registers = linked.site().registered
    variables = {"groups": {"cells": list(linked.inventory)}, "inventory_hostname": "cella", "ansible_play_batch": list(linked.inventory)}
    mesh = {"hostvars": linked.inventory, "registers": registers, **variables}
    assert left_out(Mesh(mesh, lambda value: value), "cella") == []
    registers["cella"][register] = {}
    assert "parts of this run were left out" in left_out(Mesh(mesh, lambda value: value), "cella")[0]


def test_what_an_earlier_play_of_the_same_call_has_read_is_not_taken_for_news(linked: World) -> None:
    linked.before = linked.site()
    for offered in ("no", "yes"):
        linked.before = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered=offered)
        assert linked.link("cella", "cellb")["remote_exit_offered"] == linked.link("cella", "cellb")["exit_relay_active"] == (offered == "yes")
        assert linked.link("cellb", "cella")["remote_exit_relay_active"] == (offered == "yes")
    linked["cella"].tables["-nft", 4]["filter"].rules["PIC-S-cellb"].clear()
    linked.before = linked.site("cella")
    assert executed(linked.before)["cella"] == ["pic_cell_apply"]
    linked.before = None
    assert linked.site().changed == []


@pytest.mark.parametrize(("offered", "order"), [("no", ["cella", "cellb"]), ("yes", ["cellb", "cella"])])
def test_an_exit_is_ready_before_it_is_used_and_left_before_it_ends(linked: World, offered: str, order: list[str]) -> None:
    if offered == "yes":
        linked.job("offer_exit", cell="cellb", remote_cell="cella", offered="no")
    run = linked.job("offer_exit", cell="cellb", remote_cell="cella", offered=offered)
    assert [host for host, module, _args in run.calls if module == "pic_cell_apply"] == order


def test_what_an_earlier_play_of_the_same_call_has_done_is_neither_done_nor_news(linked: World) -> None:
    """From the day-2 play cella has what cellb said in it: that it had nothing left to do."""
    del linked.inventory["cella"]["cell_links"][0]["share"]
    linked.before = linked.job("share", cell="cella", remote_cell="cellb", services="files")
    assert linked.before.registered["cella"]["__cell_applied"]["results"]
    assert linked.site().said["cella"] == ["nothing changed on cella", "next: nothing is left to do"]
    linked.inventory["cellb"]["cell_links"][0]["keepalive"] = 7
    assert executed(linked.site()) == {"cella": [], "cellb": ["pic_cell_apply"], "cellc": []}


def test_each_register_is_forgotten_by_the_next_play() -> None:
    role, playbooks = ROLE / "tasks", ROLE.parents[1] / "playbooks"
    used = {name for path in (*role.glob("*.yml"), *playbooks.glob("*.yml")) for name in re.findall(r"register: (__cell_\w+)", path.read_text())}
    others = {"__cell_checked", "__cell_entry", "__cell_found", "__cell_kept", "__cell_proof", "__cell_put_back", "__cell_rekeyed", "__cell_stated"}
    others |= {"__cell_status", "__cell_uninstalled"}
    assert registers() | others == used
    summing_up = [path for path in playbooks.glob("*.yml") if "'summary'" in path.read_text()]
    assert len(summing_up) == 2
    assert all("tasks_from: begin" in path.read_text().partition("'summary'")[0] for path in summing_up)


def test_a_cell_outside_the_limit_is_not_spoken_for(linked: World) -> None:
    links = linked.record("cella")
    next(link for link in links["links"] if link["name"] == "cellb")["remote_generation"] = 0
    linked["cella"].write("/var/lib/pic/cell_links.json", json.dumps(links))
    assert linked.site("cella").of("cella", "pic_peer_sync") == []
    assert linked.link("cella", "cellb")["remote_generation"] == 0
    linked.site("cella", "cellb")
    assert linked.link("cella", "cellb")["remote_generation"] > 0


def test_a_cell_that_fails_before_it_could_tell_is_not_spoken_for(linked: World) -> None:
    linked.inventory["cellb"]["cell_services"] = [{"name": "wiki", "address": ["10.0.1.1"], "port": 80, "protocol": "tcp"}]
    linked.inventory["cellb"]["cell_links"][0]["share"] = ["wiki"]
    linked.ill, linked["cellb"].fail_at, linked["cellb"].fails = {"cellb"}, 1, 99
    linked.site()
    assert "wiki" not in linked.link("cella", "cellb")["permissions"]["outbound"]
    linked.ill, linked.dead, linked["cellb"].fail_at = set(), set(), None
    linked.site()
    assert linked.link("cella", "cellb")["permissions"]["outbound"]["wiki"]


@pytest.mark.parametrize("missing", ["cellb", "cellc"])
def test_a_cell_outside_the_limit_loses_nothing(linked: World, missing: str) -> None:
    before = linked.text()
    linked.site(*(name for name in linked.hosts if name != missing))
    assert linked.text() == before


def test_a_cell_outside_the_limit_is_told_once(linked: World) -> None:
    linked.inventory["cellb"]["cell_links"].append({"name": "cellc"})
    linked.site()
    linked.inventory["cella"]["cell_links"][0]["share"] = []
    linked.inventory["cellb"]["cell_links"].pop()
    linked.inventory["cellc"]["cell_links"][0]["offer_exit"] = True
    predicted, done = (linked.site("cella", "cellc", check=check) for check in (True, False))
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert len([call for call in done.calls if call[0] == "cellb" and call[1] == "pic_peer_sync"]) == 1
    assert linked.link("cellb", "cella")["permissions"]["outbound"] == {}


def test_an_unreachable_cell_loses_nothing_and_the_rest_converges(linked: World) -> None:
    linked.dead = {"cellb"}
    before = {name: linked[name].text() for name in ("cella", "cellb")}
    linked.inventory["cellc"]["cell_networks"] = ["10.0.2.1/24", "fd00:c::1/64"]
    linked.site()
    assert linked["cellb"].text() == before["cellb"]
    assert "fd00:c::/64" in linked["cella"].text()
    assert "pic-cellb" in linked["cella"].wg
    linked.dead = set()
    linked.site()
    linked.reset()
    assert (linked.site().changed, linked.steps()) == ([], {})
