# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd units around the on-cell program, as texts. Pure."""

from __future__ import annotations

SYSTEM = "/etc/systemd/system"
GUARD, RESTORE, TIMER = "pic-cell-guard.service", "pic-cell-restore.service", "pic-cell-restore.timer"
PERIOD = 60  # seconds from the end of one restore to the next

# What takes rules or routes away when it starts. A unit that is not there is no error in either list.
RIVALS = ("docker.service", "firewalld.service", "netfilter-persistent.service", "nftables.service", "systemd-networkd.service", "ufw.service")

_HEAD = "# Kept by pic.cells.\n"


def files(program: str) -> dict[str, str]:
    """Return the units by path. program: the path of pic-cell."""
    after = " ".join(RIVALS)
    wanted_by = " ".join(("multi-user.target", *RIVALS))
    units = {
        # Never restarted by us: what requires it would be restarted along with it, the tunnels that is.
        GUARD: f"""\
[Unit]
Description=Close all ways of routed devices before WireGuard lets them in
After={after}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} restore --guard
""",
        RESTORE: f"""\
[Unit]
Description=Put back what is missing of this personal internet cell
Wants=network-online.target
After={GUARD} network-online.target {after}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={program} restore
TimeoutStartSec=300

[Install]
# A unit that is started or restarted starts what it wants: what those others have taken away is put back at once.
WantedBy={wanted_by}
""",
        TIMER: f"""\
[Unit]
Description=Put back what is missing of this personal internet cell, every {PERIOD} s

[Timer]
OnActiveSec={PERIOD}
OnUnitInactiveSec={PERIOD}
AccuracySec=1

[Install]
WantedBy=timers.target
""",
    }
    return {f"{SYSTEM}/{name}": _HEAD + text for name, text in units.items()}


def drop_in_path(interface: str) -> str:
    """Return where the unit of an interface of ours is told to wait for the guard."""
    return f"{SYSTEM}/wg-quick@{interface}.service.d/pic-cells.conf"


def drop_in() -> str:
    """Return what keeps an interface from being started while the guard has not succeeded."""
    return f"{_HEAD}[Unit]\nRequires={GUARD}\nAfter={GUARD}\nBefore={RESTORE}\n"


def links() -> list[str]:
    """Return the links that exist where restore and timer are enabled."""
    return [f"{SYSTEM}/{by}.wants/{RESTORE}" for by in ("multi-user.target", *RIVALS)] + [f"{SYSTEM}/timers.target.wants/{TIMER}"]
