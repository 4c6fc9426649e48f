# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd units around the on-cell program, as texts, and what systemd says of them."""

from __future__ import annotations

from ..base import texts
from ..base.command import Host
from ..base.names import check_state_dir
from ..kernel.systemd import SYSTEM, wants_path
from .sandbox import of_prober, of_receiver, of_root
from .verdicts import CHANGED, RUNTIME

GUARD, RESTORE, TIMER = "pic-cell-guard.service", "pic-cell-restore.service", "pic-cell-restore.timer"
SERVE, APPLY_PATH, APPLY = "pic-cell-serve.service", "pic-cell-apply.path", "pic-cell-apply.service"
REPLAY, REPLAY_TIMER = "pic-cell-replay.service", "pic-cell-replay.timer"
WATCH, RELOADS = "pic-cell-watch.service", "pic-cell-reloads.service"
REDIAL = "pic-cell-redial@.service"
PROBE, SWITCH_PATH, SWITCH = "pic-cell-probe.service", "pic-cell-switch.path", "pic-cell-switch.service"
ENABLED = (RESTORE, TIMER, SERVE, APPLY_PATH, REPLAY_TIMER, RELOADS, WATCH, SWITCH_PATH, PROBE)
RUNNING = (TIMER, SERVE, APPLY_PATH, REPLAY_TIMER, RELOADS, WATCH, SWITCH_PATH, PROBE)
RESTARTED = (SERVE, WATCH, PROBE)  # when the program is another one
VIEW = "/run/pic-cell-view"  # where the receiver sees the folder that root keeps for it
EXITS = "/run/pic-cell-exits"  # where the watcher of exits does
PERIOD = 60  # seconds from the end of one restore to the next
# Debian's wg-quick@ asks for a name for ever, and all that is ordered after it waits. A link without its endpoint is started by restore.
ASKS_AGAIN, START_LIMIT = 2, 45  # times, seconds
PAUSE = 1  # seconds after which root takes over again what linked cells tell: each time it looks at the whole cell

# What takes rules or routes away when it starts. A unit that is not there is no error in either list.
RIVALS = ("docker.service", "firewalld.service", "netfilter-persistent.service", "nftables.service", "systemd-networkd.service", "ufw.service")

_HEAD = "# Kept by pic.cells.\n"
_PRIVATE = "/var/lib/private"  # where the folders of dynamic users really are (systemd.exec, DynamicUser=)


def files(program: str, state_dir: str, view: str, exits: str, spool: str, port: int, sockets: int) -> dict[str, str]:
    """Return the units by path.

    program: the path of pic-cell. state_dir: the folder of the records. view: the folder that the receiver may read. exits: the one that the watcher of exits
    may read. spool: the one that the receiver may write. port: the one that it listens on. sockets: how many it may have open.
    """
    program, state_dir, view, exits, spool = (texts.path(path) for path in (program, check_state_dir(state_dir), view, exits, spool))
    root, receiver = of_root(state_dir), of_receiver(spool.rpartition("/")[2], port, sockets)
    after, changed = " ".join(RIVALS), f"/run/private/{RUNTIME}/{CHANGED}"
    wanted_by = " ".join(("multi-user.target", *RIVALS))
    units = {
        # Never restarted by us: what requires it would be restarted along with it, the tunnels that is.
        GUARD: f"""\
[Unit]
Description=Set up the kill switch of routed devices before WireGuard lets them in
After={after}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} restore --guard
{root}""",
        RESTORE: f"""\
[Unit]
Description=Restore whatever is missing from this personal internet cell
Wants=network-online.target
After={GUARD} network-online.target {after}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={program} restore
TimeoutStartSec=300
{root}
[Install]
# A unit that is started or restarted starts what it wants: what those others have taken away is put back at once.
WantedBy={wanted_by}
""",
        WATCH: f"""\
[Unit]
Description=Watch for anything that is removed from this personal internet cell
After={RESTORE}
StartLimitIntervalSec=0

[Service]
ExecStart={program} watch
Restart=always
RestartSec=5
OOMScoreAdjust=500
MemoryMax=256M
TasksMax=16
{root}
[Install]
WantedBy=multi-user.target
""",
        # A reload starts nothing, but it is passed on: this unit is there to be told, and no unit of others has to be changed for it.
        RELOADS: f"""\
[Unit]
Description=Restore this personal internet cell after other software has reloaded its rules
After={after}
ReloadPropagatedFrom={after}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true
ExecReload=systemctl start --no-block {RESTORE}

[Install]
WantedBy=multi-user.target
""",
        TIMER: f"""\
[Unit]
Description=Restore whatever is missing from this personal internet cell, every {PERIOD} s

[Timer]
OnActiveSec={PERIOD}
OnUnitInactiveSec={PERIOD}
AccuracySec=1

[Install]
WantedBy=timers.target
""",
        # The folders of its user are private to it, and the records' folder to root: what it is let see is bound into its own file system.
        SERVE: f"""\
[Unit]
Description=Receive what linked cells tell this personal internet cell
After={RESTORE}
StartLimitIntervalSec=0

[Service]
ExecStart={program} serve --view {VIEW} --spool {spool}
Restart=always
RestartSec=5
BindReadOnlyPaths="{view}":{VIEW}
{receiver}
[Install]
WantedBy=multi-user.target
""",
        APPLY_PATH: f"""\
[Unit]
Description=Notice that linked cells have told this personal internet cell something

[Path]
DirectoryNotEmpty={_PRIVATE}/{spool.rpartition("/")[2]}

[Install]
WantedBy=multi-user.target
""",
        APPLY: f"""\
[Unit]
Description=Apply what linked cells have told this personal internet cell
After={RESTORE}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={program} apply
TimeoutStartSec=300
ExecStartPost=/bin/sleep {PAUSE}
{root}""",
        PROBE: f"""\
[Unit]
Description=Watch whether the exits of this personal internet cell's devices work
After={RESTORE}
StartLimitIntervalSec=0

[Service]
ExecStart={program} probe --view {EXITS} --verdict /run/{RUNTIME}
Restart=always
RestartSec=5
BindReadOnlyPaths="{exits}":{EXITS}
{of_prober(RUNTIME)}
[Install]
WantedBy=multi-user.target
""",
        # Looked at again when the service is done: what changes meanwhile is not missed.
        SWITCH_PATH: f"""\
[Unit]
Description=Notice that an exit of this personal internet cell's devices works no more, or again

[Path]
PathExists={changed}
Unit={SWITCH}

[Install]
WantedBy=multi-user.target
""",
        SWITCH: f"""\
[Unit]
Description=Let devices of this personal internet cell leave by an exit that works
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStartPre=-/bin/rm -rf {changed}
ExecStart={program} restore --exits
TimeoutStartSec=300
ExecStartPost=/bin/sleep {PAUSE}
{root}""",
        # An instance is an interface, and %i is its name as it was given.
        REDIAL: f"""\
[Unit]
Description=Dial linked cells of this personal internet cell anew
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={program} redial -- %i
TimeoutStartSec=300
{root}""",
        REPLAY: f"""\
[Unit]
Description=Tell linked cells what they do not know yet of this personal internet cell
After={RESTORE}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={program} replay --attempts 4
TimeoutStartSec=300
{root}""",
        REPLAY_TIMER: f"""\
[Unit]
Description=Tell linked cells what they do not know yet of this personal internet cell, every {PERIOD} s

[Timer]
OnActiveSec=10
OnUnitInactiveSec={PERIOD - 20}
RandomizedDelaySec=10
AccuracySec=1

[Install]
WantedBy=timers.target
""",
    }
    return {f"{SYSTEM}/{name}": _HEAD + text for name, text in units.items()}


def drop_in() -> str:
    """Return what keeps an interface from being started while the guard has not succeeded, and from keeping others waiting; its start brings restore."""
    return f"""\
{_HEAD}[Unit]
Requires={GUARD}
After={GUARD}
# What the interface's own file does when it starts may come before our rules.
Wants={RESTORE}
Before={RESTORE}

[Service]
Environment=WG_ENDPOINT_RESOLUTION_RETRIES={ASKS_AGAIN}
TimeoutStartSec={START_LIMIT}
"""


def links(*names: str) -> list[str]:
    """Return the links that exist where units that start by themselves are enabled. names: of those units; all where none is named."""
    targets = {RESTORE: ("multi-user.target", *RIVALS), TIMER: ("timers.target",), REPLAY_TIMER: ("timers.target",)}
    return [wants_path(unit, by) for unit in names or ENABLED for by in targets.get(unit, ("multi-user.target",))]


def states(host: Host) -> dict[str, str]:
    """Return what systemd says of each unit that is to run: "active" where it does."""
    return dict(zip(RUNNING, host.run(["systemctl", "show", "--property=ActiveState", "--value", *RUNNING]).out.split()))
