# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam itself, on this machine: commands and files below a folder of the test's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import command
from ansible_collections.pic.cells.plugins.module_utils.base.command import UNANSWERED, Draft, Host, Result
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CommandFailed, ToolMissing, WriteFailed
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store


def test_a_command_gets_its_input_and_the_c_locale_and_no_shell(real: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert real.run(["cat"], stdin="secret").out == "secret"
    assert real.run(["printenv", "LC_ALL"]).out == "C\n"
    assert real.run(["printf", "%s", "$(id); *"]).out == "$(id); *"


def test_a_command_that_fails_says_how(real: Host) -> None:
    with pytest.raises(CommandFailed, match=r"exit code 2: .*nowhere") as error:
        real.run(["ls", "/nowhere"], stdin="given")
    assert (error.value.argv, error.value.rc, error.value.stdin) == (["ls", "/nowhere"], 2, "given")
    assert real.run(["false"], ok=(0, 1)).rc == 1


def test_a_command_that_hangs_is_ended(real: Host) -> None:
    with pytest.raises(CommandFailed, match=r"not finished within 0\.1 s"):
        real.run(["sleep", "5"], timeout=0.1)


@pytest.mark.parametrize(("each", "asked"), [(4.9, UNANSWERED), (0.1, 5)])
def test_who_answers_slowly_is_asked_no_more_often_than_who_does_not(real: Host, monkeypatch: pytest.MonkeyPatch, each: float, asked: int) -> None:
    clock = [0.0]

    def run(argv: list[str], **_options: object) -> Result:
        clock[0] += each
        return Result(0, "192.0.2.1 STREAM\n")

    monkeypatch.setattr(command.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(real, "run", run)
    assert [real.lookup("slow.example.net") for _time in range(5)] == [*["192.0.2.1"] * asked, *[None] * (5 - asked)]


def test_a_command_that_is_not_there_is_named_with_its_package(real: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(command, "SYSTEM_PATH", "")
    with pytest.raises(ToolMissing, match=r"'wg-quick' is not installed on this host\. Install it\."):
        real.run(["wg-quick", "up", "wg0"])
    for release, package in (("ID=ubuntu", "conntrack"), ("ID=fedora", "conntrack-tools")):
        real.write("/etc/os-release", f"{release}\n")
        with pytest.raises(ToolMissing, match=f"'conntrack' is not installed.*'{package}'"):
            real.run(["conntrack", "-L"])


def test_a_draft_is_read_back_and_nothing_is_written(real: Host) -> None:
    real.write("/etc/a", "old")
    real.write("/etc/b", "old")
    draft = Draft(real)
    draft.write("/etc/a", "new")
    draft.write("/etc/c", "new")
    draft.remove("/etc/b")
    assert (draft.read("/etc/a"), draft.read("/etc/b"), draft.exists("/etc/b"), draft.list("/etc")) == ("new", None, False, ["a", "c"])
    assert (real.read("/etc/a"), real.read("/etc/b"), real.list("/etc")) == ("old", "old", ["a", "b"])


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_is_whole_or_as_before_and_for_its_mode_alone(real: Host, tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(umask)
    try:
        real.write("/etc/wireguard/pic-a.conf", "old")
        monkeypatch.setattr(os, "replace", mock.Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(WriteFailed, match=r"^/etc/wireguard/pic-a\.conf cannot be written: No space left on device\. Free some space"):
            real.write("/etc/wireguard/pic-a.conf", "new")
    finally:
        os.umask(old)
    assert real.read("/etc/wireguard/pic-a.conf") == "old"
    assert [path.name for path in (tmp_path / "etc/wireguard").iterdir()] == ["pic-a.conf"], "something was left behind"
    assert (tmp_path / "etc/wireguard/pic-a.conf").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/wireguard").stat().st_mode & 0o777 == 0o700


def test_what_everybody_may_read_is_in_a_folder_that_everybody_may_enter(real: Host, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        real.write("/etc/systemd/networkd.conf.d/a.conf", "text", 0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "etc/systemd/networkd.conf.d").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/systemd/networkd.conf.d/a.conf").stat().st_mode & 0o777 == 0o644


def test_records_of_no_encoding_at_all_are_set_aside_byte_by_byte(real: Host, tmp_path: Path) -> None:
    broken = b'{"name": "cella"\xff\xfe\0'
    (tmp_path / "var/lib/pic").mkdir(parents=True)
    (tmp_path / "var/lib/pic/cell.json").write_bytes(broken)
    store = Store(real)
    state = store.load()
    assert len(store.warnings) == 1
    changed = state.copy()
    changed.cell.name = "cellb"
    for path, text in store.writes(state, changed):
        real.write(path, text)
    assert (tmp_path / "var/lib/pic/cell.json.corrupt").read_bytes() == broken
    assert store.load().cell.name == "cellb"


def test_a_write_that_is_killed_half_way_leaves_the_old_file_and_the_next_one_nothing_else(real: Host, tmp_path: Path) -> None:
    real.write("/var/lib/pic/cell.json", "old")
    number = os.fork()
    if number == 0:
        with mock.patch.object(os, "fsync", lambda _handle: os.kill(os.getpid(), signal.SIGKILL)):
            real.write("/var/lib/pic/cell.json", "half of wh")
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGKILL
    assert real.read("/var/lib/pic/cell.json") == "old"
    real.write("/var/lib/pic/cell.json", "new")
    assert [(path.name, path.read_text()) for path in (tmp_path / "var/lib/pic").iterdir()] == [("cell.json", "new")]


def test_what_others_have_a_part_in_keeps_owner_mode_and_place(real: Host, tmp_path: Path) -> None:
    """A link to it is followed, and no moment comes at which more people may read it."""
    kept = tmp_path / "srv/wg0.conf"
    kept.parent.mkdir()
    kept.write_text("old")
    kept.chmod(0o640)
    owner = (1, 33) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(kept, *owner)
    (tmp_path / "etc/wireguard").mkdir(parents=True)
    (tmp_path / "etc/wireguard/wg0.conf").symlink_to("../../srv/wg0.conf")
    widest = 0

    def watched(handle: int, _real: Callable[[int], None] = os.fsync) -> None:
        nonlocal widest
        widest |= os.fstat(handle).st_mode & 0o777 if not os.path.isdir(f"/proc/self/fd/{handle}") else 0
        _real(handle)

    with mock.patch.object(os, "fsync", watched):
        real.write("/etc/wireguard/wg0.conf", "new", None)
    assert (tmp_path / "etc/wireguard/wg0.conf").is_symlink()
    found = kept.stat()
    assert (kept.read_text(), found.st_mode & 0o777, (found.st_uid, found.st_gid)) == ("new", 0o640, owner)
    assert widest == 0o640
    real.write("/etc/wireguard/wg1.conf", "new", None)
    assert (tmp_path / "etc/wireguard/wg1.conf").stat().st_mode & 0o777 == 0o600


def test_a_file_that_somebody_has_put_there_to_be_written_to_is_not(real: Host, tmp_path: Path) -> None:
    real.write("/srv/wg0.conf", "old")
    trap = tmp_path / "srv/.wg0.conf.new"
    trap.write_text("")
    with trap.open() as theirs:
        real.write("/srv/wg0.conf", "a key", None)
        assert theirs.read() == ""
    assert (tmp_path / "srv/wg0.conf").read_text() == "a key"


def test_a_path_with_a_nul_leads_to_no_file(real: Host) -> None:
    assert real.read_foreign("/root/v\0pn.conf", 10) is None
