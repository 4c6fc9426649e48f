# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd lets the units of the on-cell program do, as texts. Pure."""

from __future__ import annotations

_SPARE_DESCRIPTORS = 128  # the interpreter's own, the view, the spool, the selector
_BOTH = """\
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
LogRateLimitIntervalSec=60
LogRateLimitBurst=300
"""
_UNPRIVILEGED = """\
CapabilityBoundingSet=
AmbientCapabilities=
PrivateDevices=yes
PrivateUsers=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProcSubset=pid
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"""


def of_root(state_dir: str) -> str:
    """Return the sandbox of what runs as root: it changes the network and a few folders, and loads what iptables needs.

    A container that may not mount ignores what would need that (systemd.exec, "Sandboxing"), and the rest holds. state_dir: the folder of the records.
    """
    return f"""\
{_BOTH}CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_MODULE CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER
ProtectSystem=full
ReadWritePaths=-/etc/wireguard -/etc/systemd -/etc/sysctl.d "-{state_dir}"
ProtectHome=read-only
ProtectControlGroups=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service @module
"""


def of_prober(folder: str) -> str:
    """Return the sandbox of the watcher of exits: it opens connections and writes two files. folder: its runtime folder's name below /run."""
    return f"""\
{_BOTH}DynamicUser=yes
RuntimeDirectory={folder}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=restart
MemoryMax=64M
TasksMax=4
LimitFSIZE=1M
SocketBindDeny=any
{_UNPRIVILEGED}"""


def of_receiver(folder: str, port: int, sockets: int) -> str:
    """Return the sandbox of the receiver. folder: its spool's name below /var/lib. port: the one that it listens on. sockets: how many it may have open."""
    return f"""\
{_BOTH}DynamicUser=yes
StateDirectory={folder}
StateDirectoryMode=0700
MemoryMax={64 + sockets // 64}M
TasksMax=4
LimitNOFILE={descriptors(sockets)}
LimitFSIZE=1M
SocketBindDeny=any
SocketBindAllow=tcp:{port}
{_UNPRIVILEGED}"""


def descriptors(sockets: int) -> int:
    """Return how many files the receiver may have open: a power of two, so that a link more seldom changes its unit."""
    return max(1024, 1 << (sockets + _SPARE_DESCRIPTORS).bit_length())
