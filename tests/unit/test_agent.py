# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The on-cell program as one file, and how it is installed."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils.base.command import Host
from ansible_collections.pic.cells.plugins.module_utils.compiled import PROGRAM, head
from ansible_collections.pic.cells.plugins.module_utils.kernel import systemd
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import CONNECTIONS
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key
from ansible_collections.pic.cells.tests.unit.test_imports import imported, modules
from ansible_collections.pic.cells.tests.unit.world import World, call, lose_key, three_cells

ENGINE = Path(agent.__file__).parent
VIEW = "/var/lib/pic/view/links.json"
PUSH = {"from_cell": "cellb", "generation": 700, "permissions": {"outbound": {}}, "exit_offered": True, "use_as_exit_relay": False}


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def test_the_program_is_the_same_whoever_makes_it() -> None:
    files = agent.sources()
    assert agent.build(files) == agent.build(dict(reversed(files.items())))
    assert agent.is_built_of(files, text(agent.build(files)))
    ours = {str(path.relative_to(ENGINE).with_suffix("")) for path in ENGINE.rglob("*.py")}
    redeeming = {"program/redeem", "program/apart"}
    adopting = {"adopt", "parts/adoptable", "parts/adoptable_links", "kernel/wglabels"}
    alone = {"module", "options", "alone", "rekey", "backup", "ways", "confirm", "parts/invitation", "base/tokens", "__init__", *redeeming, *adopting}
    steps = {path for path in ours if path.startswith("steps/")}
    assert set(files) == ours - alone - steps


def test_whatever_ansible_sends_along_is_the_whole_program(tmp_path: Path) -> None:
    """Ansible sends what the module's imports lead to, in a zip file; a file that none of them names would be missing on the cell."""
    known, names = modules(), {"module_utils.agent"}
    while more := {other for name in names for other in imported(name, known)} - names:
        names |= more
    folders = {name.rpartition(".")[0] for name in names}
    assert {name.removeprefix("module_utils.").replace(".", "/") for name in (names | folders) - {"module_utils"}} == {
        name.removesuffix("/__init__") for name in agent.sources()
    }
    archive = tmp_path / "sent.zip"
    with zipfile.ZipFile(archive, "w") as sent:
        for package in ("one", "one/two"):
            sent.writestr(f"{package}/__init__.py", "")
        for name in (*agent.sources(), "module"):
            sent.write(ENGINE / f"{name}.py", f"one/two/{name}.py")
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); from one.two.agent import build, sources; sys.stdout.buffer.write(build(sources()))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert agent.is_built_of(agent.sources(), text(made.stdout))


def test_the_program_knows_its_own_sources(tmp_path: Path) -> None:
    """It lies there compiled, too."""
    program = tmp_path / "pic-cell.pyz"
    program.write_bytes(agent.build(agent.sources()))
    code = f"import sys; sys.path.insert(0, {str(program)!r}); from pic_cells.agent import build, sources; sys.stdout.buffer.write(build(sources()))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert agent.is_built_of(agent.sources(), text(made.stdout))


@pytest.mark.parametrize("module", ["pic_cell_info", "pic_cell_apply", "wg_cell"])
def test_a_module_reads_nothing_that_only_the_program_needs(module: str) -> None:
    """Python compiles anew whatever an execution reads of what Ansible has sent."""
    code = f"import sys; import ansible_collections.pic.cells.plugins.modules.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    needed = {"restore", "spool", "receiver", "requests", "uplink"} if module != "wg_cell" else {"restore"}
    assert {name.rpartition(".")[2] for name in loaded if ".module_utils.program." in name} == needed


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: data.replace(b"Comes last in a run", b"Comes first in a run", 1), id="a source"),
        pytest.param(lambda data: data[: len(data) // 2], id="half of it"),
        pytest.param(lambda data: data.replace(agent._PYTHON, b"x" * len(agent._PYTHON)), id="another Python"),
        pytest.param(lambda data: b"", id="nothing"),
        pytest.param(lambda _data: agent.build({**agent.sources(), "more": b""}), id="one file more"),
        pytest.param(lambda _data: agent.build({name: data for name, data in agent.sources().items() if name != "cell"}), id="one file less"),
        pytest.param(lambda data: data.replace(head(agent.sources()["cell"]), head(b""), 1), id="what is compiled of another source"),
        pytest.param(lambda data: data.replace(importlib.util.MAGIC_NUMBER, b"\0" * 4), id="what is compiled"),
    ],
)
def test_what_is_not_the_program_is_written_anew(linked: World, spoil: Callable[[bytes], bytes]) -> None:
    host = linked["cella"]
    whole = agent.build(agent.sources())
    spoilt = spoil(whole)
    assert spoilt != whole
    host.files[PROGRAM] = (0o755, text(spoilt))
    host.reset()
    assert call("pic_cell_agent", host, {})["changed"]
    assert agent.is_built_of(agent.sources(), host.files[PROGRAM][1])
    assert f"write {PROGRAM}" in host.steps


def test_a_run_that_only_predicts_compiles_nothing_and_predicts_the_same(linked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    linked["cella"].files.pop(PROGRAM)
    twin = linked["cella"].fork()

    def compiles(*_given: object) -> bytes:
        raise AssertionError("compiled")

    with monkeypatch.context() as patch:
        patch.setattr(agent, "_compiled", compiles)
        predicted = call("pic_cell_agent", twin, {}, check=True)
    done = call("pic_cell_agent", linked["cella"], {})
    assert done["changed"] and predicted["diff"] == done["diff"]
    assert agent.is_built_of(agent.sources(), linked["cella"].files[PROGRAM][1])


@pytest.mark.parametrize("version", ["this", "another"])
def test_python_takes_what_is_compiled_and_another_version_of_it_the_source(tmp_path: Path, version: str) -> None:
    path = tmp_path / "pic-cell.pyz"
    with zipfile.ZipFile(io.BytesIO(agent.build(agent.sources()))) as made, zipfile.ZipFile(path, "w") as program:
        for name in made.namelist():
            data = made.read(name)
            program.writestr(name, b"\0\0\r\n" + data[4:] if version == "another" and name.endswith("c") else data)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pic_cells.cell; print(pic_cells.cell.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{path}/pic_cells/cell.py{'c' if version == 'this' else ''}"


def test_the_program_runs(tmp_path: Path, real: Host) -> None:
    """As a file of its own, without the collection, with nothing but Python."""
    real.write("/pic-cell.pyz", agent.build(agent.sources()).decode("utf-8", "surrogateescape"), 0o755)
    path = tmp_path / "pic-cell.pyz"
    assert agent.is_built_of(agent.sources(), text(path.read_bytes()))
    assert real.read("/pic-cell.pyz") == path.read_bytes().decode("utf-8", "surrogateescape")
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-I", str(path), "--help"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exit codes" in done.stdout
    done = subprocess.run([str(path), "--state-dir", str(tmp_path / "none"), "restore"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("pic-cell: This ")


def test_it_is_installed_with_its_units(linked: World) -> None:
    host = linked["cella"]
    assert host.files[PROGRAM][0] == 0o755
    assert agent.is_built_of(agent.sources(), host.files[PROGRAM][1])
    mode, launcher = host.files[agent.LAUNCHER]
    assert (mode, launcher.splitlines()[2]) == (0o755, f"python={sys.executable}")
    assert set(units.RUNNING) <= host.active
    for path in (
        *units.files(agent.LAUNCHER, "/state", "/view", "/exits", "/spool", 8088, 2),
        *units.links(),
        *map(systemd.drop_in_path, ("wg0", "pic-cellb", "pic-cellc")),
    ):
        assert host.exists(path), path
    assert host.read(systemd.drop_in_path("wg0")) == units.drop_in()


def test_an_interface_that_waits_for_a_name_keeps_nothing_else_waiting_for_long(linked: World) -> None:
    """Debian's wg-quick@ asks a dead resolver for ever (WG_ENDPOINT_RESOLUTION_RETRIES=infinity), without a limit of time."""
    for name in ("wg0", "pic-cellb", "pic-cellc"):
        settings = dict(line.split("=", 1) for line in (linked["cella"].read(systemd.drop_in_path(name)) or "").splitlines() if "=" in line)
        assert settings["Environment"] == "WG_ENDPOINT_RESOLUTION_RETRIES=2"
        assert int(settings["TimeoutStartSec"]) <= 60


def test_the_start_of_an_interface_of_ours_brings_restore_after_it(linked: World) -> None:
    """Its file may put rules before ours when it starts (PostUp = iptables -I FORWARD ...)."""
    for name in ("wg0", "pic-cellb", "pic-cellc"):
        lines = (linked["cella"].read(systemd.drop_in_path(name)) or "").splitlines()
        assert {f"Wants={units.RESTORE}", f"Before={units.RESTORE}"} <= set(lines)


def test_a_reload_of_what_deletes_rules_brings_restore_after_it(linked: World) -> None:
    """WantedBy is for starts; a reload is passed on to a unit that is there. It needs no file of theirs."""
    host = linked["cella"]
    lines = (host.read(f"{systemd.SYSTEM}/{units.RELOADS}") or "").splitlines()
    rivals = " ".join(units.RIVALS)
    assert {f"ReloadPropagatedFrom={rivals}", f"After={rivals}", f"ExecReload=systemctl start --no-block {units.RESTORE}", "RemainAfterExit=yes"} <= set(lines)
    assert units.RELOADS in host.active


def test_a_host_without_systemd_gets_the_program_alone(tmp_path: Path) -> None:
    world = World(tmp_path, three_cells())
    for host in world.hosts.values():
        host.remove("/run/systemd/system/x")
    world.site()
    assert [path for path in world["cella"].files if "systemd" in path] == []
    assert world["cella"].exists(agent.LAUNCHER)


def test_another_folder_for_the_records(linked: World) -> None:
    linked.inventory["cella"]["cell_state_dir"] = "/srv/cells"
    linked.site()
    assert '--state-dir /srv/cells "$@"' in linked["cella"].files[agent.LAUNCHER][1]


def test_what_is_missing_is_installed_again_and_no_more(linked: World) -> None:
    host = linked["cella"]
    cases = {
        PROGRAM: [f"write {PROGRAM}", *(f"systemctl restart {unit}" for unit in units.RESTARTED)],
        f"{systemd.SYSTEM}/{units.SERVE}": [f"write {systemd.SYSTEM}/{units.SERVE}", "systemctl daemon-reload", f"systemctl restart {units.SERVE}"],
        f"{systemd.SYSTEM}/{units.WATCH}": [f"write {systemd.SYSTEM}/{units.WATCH}", "systemctl daemon-reload", f"systemctl restart {units.WATCH}"],
        f"{systemd.SYSTEM}/{units.PROBE}": [f"write {systemd.SYSTEM}/{units.PROBE}", "systemctl daemon-reload", f"systemctl restart {units.PROBE}"],
        VIEW: [f"write {VIEW}"],
        f"{systemd.SYSTEM}/{units.GUARD}": [f"write {systemd.SYSTEM}/{units.GUARD}", "systemctl daemon-reload"],
        f"{systemd.SYSTEM}/docker.service.wants/{units.RESTORE}": [f"systemctl enable {' '.join(units.ENABLED)}"],
    }
    for path, steps in cases.items():
        del host.files[path]
        host.reset()
        predicted = call("pic_cell_agent", host, {}, check=True)
        assert host.steps == []
        result = call("pic_cell_agent", host, {})
        assert (host.steps, result["diff"], result["changed"]) == (steps, predicted["diff"], True)
        assert not call("pic_cell_agent", host, {})["changed"]
    host.active.remove(units.TIMER)
    assert call("pic_cell_agent", host, {})["diff"] == {"before": f"{units.TIMER}: not running\n", "after": f"{units.TIMER}: running\n"}


def test_the_receiver_may_open_a_socket_for_each_link_and_address() -> None:
    def limit(sockets: int) -> int:
        unit = units.files("/pic-cell", "/state", "/view", "/exits", "/var/lib/spool", 8088, sockets)[f"{systemd.SYSTEM}/{units.SERVE}"]
        return int(re.findall(r"^LimitNOFILE=(\d+)$", unit, re.M)[0])

    assert limit(6 + CONNECTIONS) == 1024
    for links in (512, 1000, 5000):
        assert limit(2 * links + CONNECTIONS) > 2 * links + CONNECTIONS + 100


@pytest.mark.parametrize("unit", [units.GUARD, units.RESTORE, units.APPLY, units.REPLAY, units.SERVE, units.PROBE, units.SWITCH])
def test_each_unit_has_a_sandbox_and_a_bounded_journal(unit: str) -> None:
    text = units.files("/pic-cell", "/srv/cells", "/view", "/exits", "/var/lib/spool", 8088, 300)[f"{systemd.SYSTEM}/{unit}"]
    for line in ("NoNewPrivileges=yes", "LogRateLimitBurst=300", "RestrictNamespaces=yes"):
        assert f"\n{line}\n" in text
    assert re.search(r"^SystemCallFilter=@system-service", text, re.M)
    assert re.search(r"^CapabilityBoundingSet=", text, re.M)
    assert ("SocketBindAllow=tcp:8088" in text) == (unit == units.SERVE)


def test_the_receiver_has_nothing_that_it_does_not_need() -> None:
    """L1: who breaks into it is nobody, listens at no other port, and calls nothing that changes the machine."""
    text = units.files("/pic-cell", "/srv/cells", "/view", "/exits", "/var/lib/spool", 8088, 300)[f"{systemd.SYSTEM}/{units.SERVE}"]
    lines = text.splitlines()
    for line in (
        *("DynamicUser=yes", "CapabilityBoundingSet=", "AmbientCapabilities=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateUsers=yes"),
        *("RestrictAddressFamilies=AF_INET AF_INET6", "SystemCallFilter=~@privileged @resources", "StateDirectoryMode=0700", "LimitFSIZE=1M", "TasksMax=4"),
    ):
        assert line in lines
    assert [line for line in lines if line.startswith("SocketBind")] == ["SocketBindDeny=any", "SocketBindAllow=tcp:8088"]
    assert [line for line in lines if line.startswith("MemoryMax=")]


@pytest.mark.parametrize(
    ("module", "args"),
    [
        ("pic_cell_rules", {"name": "cellb", "offer_exit": False}),
        ("pic_peer_sync", {"received": [PUSH]}),
        ("wg_cell_peer", {"name": "cellb", "preshared_key": made_key("a preshared key")}),
        ("wg_cell_peer", {"name": "cellb", "state": "absent"}),
        ("wg_cell", {"cell": {"sync_port": 8089}}),
    ],
)
def test_the_receiver_knows_at_once_what_a_module_has_changed(linked: World, module: str, args: dict[str, Any]) -> None:
    host = linked["cella"]
    if "received" in args:
        args = {"received": [{**PUSH, "from_public_key": linked.public_key("cellb")}]}
    seen = host.read(VIEW)
    assert call(module, host, args)["changed"]
    assert host.read(VIEW) != seen
    left = "state" in args or "sync_port" in args.get("cell", {})
    assert not call("pic_cell_agent", host, {})["changed"] or left, "only the units are left to it: of a link's interface, and the one that allows a port"


def test_the_receiver_knows_the_preshared_key_that_a_way_brings_along(linked: World) -> None:
    """An invitation's key waits in a file of its own until a tunnel is planned anew, as that of an exit is."""
    host, conf = linked["cella"], "/etc/wireguard/pic-cellb.conf"
    host.write(conf, "".join(line for line in (host.read(conf) or "").splitlines(True) if "PresharedKey" not in line))
    call("pic_policy_route", host, {"peer": "phone", "via_cell": "direct"})
    call("pic_cell_agent", host, {})
    assert call("pic_link_invitation", host, {"name": "cellb"})["key_file"]
    seen = host.read(VIEW)
    call("pic_policy_route", host, {"peer": "phone", "via_cell": "cellb"})
    assert "PresharedKey" in (host.read(conf) or "")
    assert host.read(VIEW) != seen


def test_the_receiver_is_not_told_a_key_that_nobody_keeps(linked: World) -> None:
    host = linked["cella"]
    for path in ("/var/lib/pic/identity.key", *(path for path in list(host.files) if path.startswith("/etc/wireguard/"))):
        del host.files[path]
    host.wg.clear()
    assert call("pic_cell_rules", host, {"name": "cellb", "offer_exit": False})["changed"]
    assert not call("pic_cell_rules", host, {"name": "cellb", "offer_exit": False})["changed"]


def test_a_cells_new_key_is_known_to_its_receiver_and_predicted(linked: World) -> None:
    host = linked["cella"]
    lose_key(host)
    predicted, done = linked.fork().site(check=True), linked.site()
    assert (predicted.changed, predicted.diffs()) == (done.changed, done.diffs())
    assert linked.public_key("cella") in (host.read(VIEW) or "")


def test_no_view_is_made_for_a_receiver_that_is_not_there(world: World) -> None:
    host = world["cella"]
    assert call("wg_cell", host, {"cell": {"name": "cella", "networks": ["10.0.0.1/24"]}})["changed"]
    assert not host.exists(VIEW)


def test_a_receiver_that_cannot_come_up_is_named_and_not_started_by_each_run(world: World) -> None:
    """A container may lack the right to make its sandbox."""
    world["cella"].failing.add(units.SERVE)
    assert world.site().of("cella", "pic_cell_agent")[0]["changed"]
    for check in (True, False):
        again = world.site(check=check)
        assert again.changed == []
        assert [warning for warning in again.warnings() if f"journalctl -u {units.SERVE}" in warning] != []


def test_an_unlinked_cell_leaves_no_unit_that_waits_for_the_guard(linked: World) -> None:
    linked.job("unlink", cell="cella", remote_cell="cellb")
    assert not linked["cella"].exists(systemd.drop_in_path("pic-cellb"))
    assert linked["cella"].exists(systemd.drop_in_path("pic-cellc"))
