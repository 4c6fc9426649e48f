# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records and keys that somebody has opened to others than root."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Draft, Host
from ansible_collections.pic.cells.plugins.module_utils.base.errors import WriteFailed
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.test_advice import said_in_a_run, told
from ansible_collections.pic.cells.tests.unit.world import World, call, furnish, program

OPENED = ("/var/lib/pic/identity.key", "/var/lib/pic/cell_links.json", "/etc/wireguard/pic-cellb.conf", "/etc/wireguard/wg0.conf")


def opened(host: FakeHost) -> None:
    """Do what people do when something does not work."""
    host.folders["/var/lib/pic"] = 0o777
    for path in OPENED:
        host.files[path] = (0o644, host.files[path][1])
    host.owners["/var/lib/pic/cell.json"] = 1000


@pytest.mark.parametrize("way", ["restore", "site"])
def test_what_is_ours_and_open_to_others_is_said_and_mended(linked: World, way: str) -> None:
    host = linked["cella"]
    opened(host)
    rc, out, _err = program(host, "check")
    assert (rc, host.steps) == (3, [])
    for path in OPENED:
        assert f"missing: {path}: mode 0600, owner root" in out and f"surplus: {path}: mode 0644, owner root" in out
    assert "missing: /var/lib/pic: mode 0700, owner root\n" in out and "surplus: /var/lib/pic/cell.json: mode 0600, owner 1000\n" in out
    if way == "site":
        predicted, done = linked.site(check=True), linked.site()
        assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    else:
        assert program(host, "restore")[0] == 0
    assert [host.access(path) for path in (*OPENED, "/var/lib/pic/cell.json", "/var/lib/pic")] == [(0o600, 0, False)] * 5 + [(0o700, 0, True)]
    linked.reset()
    assert (program(host, "check"), linked.site().changed, host.steps) == ((0, "", ""), [], [])


def test_the_key_of_an_invitation_is_closed_again(linked: World) -> None:
    host, path = linked["cella"], "/var/lib/pic/invitations/far.psk"
    assert not call("pic_link_invitation", host, {"name": "far"}).get("failed")
    host.files[path] = (0o644, host.files[path][1])
    assert program(host, "check")[0] == 3 and program(host, "restore")[0] == 0
    assert host.access(path) == (0o600, 0, False) and program(host, "check")[0] == 0


def test_what_is_closed_further_stays_so_and_what_the_programs_without_privileges_see_is_for_everybody(linked: World) -> None:
    host = linked["cella"]
    host.files["/var/lib/pic/identity.key"] = (0o400, host.files["/var/lib/pic/identity.key"][1])
    for folder, name in (("view", "links.json"), ("exits", "exits.json")):
        assert (host.access(f"/var/lib/pic/{folder}"), host.files[f"/var/lib/pic/{folder}/{name}"][0]) == ((0o755, 0, True), 0o644)
    assert program(host, "check") == (0, "", "")


def test_a_file_of_the_interface_that_was_there_before_is_said_and_left_alone(world: World) -> None:
    host = world["cella"]
    furnish(host)
    path = "/etc/wireguard/wg0.conf"
    host.files[path] = (0o640, host.files[path][1])  # for a group of its owner's choice
    world.site()
    world.reset()
    assert told(host) == []
    host.files[path] = (0o644, host.files[path][1])
    (sentence,) = told(host)
    assert sentence.startswith(f"File {path} has mode 0644") and f"chmod o= {path}" in sentence
    assert said_in_a_run(world, "cella") == [sentence]
    assert host.files[path][0] == 0o644


def test_on_a_real_host_no_link_is_followed(real: Host) -> None:
    real.write("/a/file", "secret", 0o644)
    os.symlink(f"{real.root}/a/file", f"{real.root}/a/link")
    assert (real.access("/a/file"), real.access("/a/link"), real.access("/a/none")) == ((0o644, os.geteuid(), False), None, None)
    with pytest.raises(WriteFailed):
        real.restrict("/a/link", 0o600)
    draft = Draft(real)
    draft.restrict("/a/file", 0o600)
    assert (draft.access("/a/file"), real.access("/a/file")) == ((0o600, 0, False), (0o644, os.geteuid(), False))
    if os.geteuid() == 0:
        real.restrict("/a/file", 0o600)
        real.restrict("/a", 0o700)
        assert (real.access("/a/file"), real.access("/a")) == ((0o600, 0, False), (0o700, 0, True))
