# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the kernel that a cell keeps: those of the role's file, put back where something has changed them, and files that undo ours at boot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from ..base.command import Host
from ..base.networks import FORWARDING
from .plan import Plan, Run, Write
from .routing import KEPT, NETWORKD, forwards, setting, setting_path

# In the order in which systemd-sysctl prefers a folder where two have a file of the same name (sysctl.d(5)).
_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
_NETWORKD = tuple(f"{folder}/systemd/networkd.conf.d" for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
_ALIASES = {"net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward"}


def parse(text: str | None) -> dict[str, str]:
    """Read a file of settings, by sysctl's names with dots as they stand; a later one counts."""
    found = {}
    for line in (text or "").splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if equals and not name.startswith(("#", ";")):
            found[name.lstrip("-").strip()] = value
    return found


def kept(host: Host) -> dict[str, str]:
    """Return what the role's file keeps of the settings that are ours to put back."""
    return {name: value for name, value in parse(host.read(KEPT)).items() if name in FORWARDING.values() or name.endswith("/accept_ra")}


def plan_settings(host: Host) -> Plan:
    """Plan to put back the settings that the role's file keeps and the kernel has otherwise. What the kernel does not have is left out."""
    plan = Plan()
    for name, value in kept(host).items():
        found = setting(host, name)
        if found not in (None, value):
            plan.steps.append(Run(("sysctl", "-q", "-w", f"{name}={value}")))
            plan.describe([f"{name}: {found}"], [f"{name}: {value}"])
            devices = host.list("/proc/sys/net/ipv4/conf") if name == FORWARDING[4] else []  # the kernel sets it for each of them
            plan.effects += [Write(setting_path(changed), f"{value}\n") for changed in (name, *map(forwards, devices))]
    return plan


def unkept(host: Host) -> Iterator[tuple[str, str, str]]:
    """Yield file, setting and value of what turns forwarding off at the next boot: files that are read after the role's."""
    found: dict[str, tuple[str, str]] = {}
    for path, text in _files(host):
        for name, value in parse(text).items():
            plain = name.replace("/", ".")
            found[_ALIASES.get(plain, plain)] = path, value
    for name in FORWARDING.values():
        path, value = found.get(name, ("", "1"))
        if value == "0":
            yield path, name, value


def unmanaged(host: Host) -> Iterator[tuple[str, str, str]]:
    """Yield file, setting and value of what lets systemd-networkd delete rules and routes of ours all the same: files that are read after ours."""
    found: dict[str, tuple[str, str]] = {}
    for path in _by_name(host, _NETWORKD):
        with contextlib.suppress(OSError):
            found.update({name: (path, value) for name, value in parse(host.read(path)).items() if name in parse(host.read(NETWORKD))})
    for name, (path, value) in found.items():
        if value.lower() in ("yes", "y", "true", "t", "on", "1"):
            yield path, name, value


def _by_name(host: Host, folders: Iterable[str]) -> list[str]:
    """Return the files of folders in the order in which systemd reads them; of two with one name that in the first folder counts."""
    names: dict[str, str] = {}
    for folder in folders:
        for name in host.list(folder):
            if name.endswith(".conf"):
                names.setdefault(name, f"{folder}/{name}")
    return [path for _name, path in sorted(names.items())]


def _files(host: Host) -> Iterator[tuple[str, str | None]]:
    """Yield the files that set the kernel up at boot, with their texts, in the order in which they are read."""
    paths = _by_name(host, _FOLDERS)
    if not host.exists("/run/systemd/system"):
        paths.append("/etc/sysctl.conf")  # procps reads it last of all
    with contextlib.suppress(OSError):
        if parse(host.read("/etc/ufw/ufw.conf")).get("ENABLED", "no").lower() == "yes":
            paths.append("/etc/ufw/sysctl.conf")
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, host.read(path)
