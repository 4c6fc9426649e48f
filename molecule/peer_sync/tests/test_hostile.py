# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the root of another cell says to real Ansible, of the oldest and the current version, and what becomes of it on real cells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import lab
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import render_invitation
from cells import link_record, sh, within
from lab import INTERNET, inside
from packets import address_seen_by, seen_address, snapshot
from playbooks import PROGRAMS, Outcome, call, play

PYTHON = "/root/hostile-python"
# A Python on cellb that runs what Ansible sends, and says something else in each message.
ANSWERS = """#!/usr/bin/python3
import json, subprocess, sys
done = subprocess.run(["/usr/bin/python3", *sys.argv[1:]], stdout=subprocess.PIPE)
try:
    answer = json.loads(done.stdout)
except ValueError:
    answer = None
if isinstance(answer, dict) and not answer.get("failed"):
    for message in (answer.get("payloads") or {{}}).values():
        message.update(json.loads({given!r}))
    print(json.dumps(answer))
else:
    sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""
LINES = "fd00:9::1%1 -j ACCEPT\n-I FORWARD -j ACCEPT"
KEY = "MNh2WeUKqDpqXVVhPtNMJjUTYXrJjuVAsXAyEbnuNHc="

every_core = pytest.mark.parametrize("core", PROGRAMS)


@contextmanager
def hostile(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lets cellb's root say something else to Ansible, in each message. Yields what has to be stated of cellb."""
    text = ANSWERS.format(given=json.dumps(message))
    inside("cellb", "sh", "-c", f"cat >{PYTHON}; chmod 755 {PYTHON}", stdin=text)
    try:
        yield {"cellb": {"ansible_python_interpreter": PYTHON}}
    finally:
        sh("cellb", f"rm {PYTHON}")


def invited(core: str, stated: dict[str, Any] | None = None, **claims: Any) -> Outcome:
    """Links cella with a cell of somebody else's, by an invitation."""
    invitation = {"name": "far", "public_key": KEY, "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"], **claims}
    link = {"name": "far", **(stated or {})}
    links = [{"name": "cellb", "share": ["files", "voice"], "offer_exit": True}, {"name": "cellc"}, link]
    return play("link", core=core, overlay={"cella": {"cell_links": links}}, cell="cella", remote_cell="far", invitation=render_invitation(invitation))


@pytest.fixture
def unmoved() -> Iterator[None]:
    """Nothing on cella has changed afterwards, and it reaches the internet as before."""
    before = snapshot("cella")
    yield
    assert snapshot("cella") == before
    assert address_seen_by(INTERNET[0], "cella") == "198.51.100.11"


@every_core
@pytest.mark.usefixtures("unmoved")
def test_an_address_that_holds_lines_for_iptables_is_refused(core):
    done = invited(core, address=[LINES], networks=["fd00:9::/64"])
    assert done.rc != 0
    assert "address of the invitation of 'far'" in done.message


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("module", ["wg_cell_peer", "pic_cell_rules"])
@pytest.mark.parametrize("option", ["address", "networks"])
def test_a_cell_itself_takes_no_such_address_either(module, option):
    given = {"name": "far", "public_key": KEY, "networks": ["fd00:9::/64"], "address": ["fd00:9::1"], option: [LINES]}
    done = call("cella", module, json.dumps(given))
    assert done.returncode != 0
    assert "FAILED" in done.stdout


@every_core
@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(
    ("stated", "network", "words"),
    [
        ({}, "203.0.113.0/24", "allow_public_networks"),
        ({"allow_public_networks": True}, "192.0.0.0/7", "wider than /8"),
    ],
)
def test_a_network_that_would_draw_the_cells_own_traffic_into_the_link_is_refused(core, stated, network, words):
    done = invited(core, stated, networks=[network], address=[network.replace(".0/", ".77/").partition("/")[0]])
    assert done.rc != 0
    assert words in done.message
    assert network in done.message


@every_core
def test_a_network_that_holds_the_resolver_in_use_is_refused(core):
    sh("cella", "cat /etc/resolv.conf >/root/resolv.conf; echo nameserver 10.9.0.53 >/etc/resolv.conf")
    try:
        done = invited(core)
    finally:
        sh("cella", "cat /root/resolv.conf >/etc/resolv.conf")
    assert done.rc != 0
    assert "The network 10.9.0.0/24 of link 'far' contains 10.9.0.53" in done.message


@every_core
def test_a_cell_has_no_word_for_another_one(core):
    link = link_record("cella", "cellc")
    message = {"from_cell": "cellc", "from_public_key": link["public_key"], "generation": link["remote_generation"] + 9, "exit_offered": False}
    with hostile(message) as overlay:
        done = play("site", core=core, overlay=overlay)
    assert "the answer of cellb is not a valid message from it" in done.text
    assert link_record("cella", "cellc") == link
    assert seen_address("phone-a2", 4) == "198.51.100.13"


@pytest.mark.parametrize(("core", "generation"), list(zip(PROGRAMS, (2**63 - 1, 2**53 - 1))))  # what is no message, and a message that is too far ahead
def test_a_count_that_is_absurd_locks_nobody_out(core, generation):
    before = link_record("cella", "cellb")["remote_generation"]
    with hostile({"generation": generation, "exit_offered": False}) as overlay:
        done = play("site", core=core, overlay=overlay)
        assert done.stats["cellc"]["failures"] == done.stats["cella"]["failures"] == 0, done.message
    assert link_record("cella", "cellb")["remote_generation"] == before
    for offered in ("false", "true"):
        assert play("offer_exit", core=core, cell="cellb", remote_cell="cella", offered=offered).rc == 0
        assert within(5, lambda offered=offered: link_record("cella", "cellb")["remote_exit_offered"] is (offered == "true"))
    assert link_record("cella", "cellb")["remote_generation"] == link_record("cellb", "cella")["generation"]


def test_a_run_afterwards_changes_nothing():
    done = play("site")
    assert (done.rc, done.changed) == (0, dict.fromkeys((cell.name for cell in lab.CELLS), 0)), done.text
