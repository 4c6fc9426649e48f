# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the kernel that a cell keeps: those of the role's file, put back where something has changed them, and files that undo them at boot."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from .command import Host
from .observed import Observed
from .plan import Plan, Run
from .routing import FORWARDING, KEPT, setting, setting_path

# In the order in which systemd-sysctl prefers a folder where two have a file of the same name (sysctl.d(5)).
_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
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
            plan.effects.append(_taken(name, value))
    return plan


def _taken(name: str, value: str) -> Callable[[Observed], None]:
    return lambda seen: seen.host.write(setting_path(name), f"{value}\n")


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


def _files(host: Host) -> Iterator[tuple[str, str | None]]:
    names: dict[str, str] = {}
    for folder in _FOLDERS:
        for name in host.list(folder):
            if name.endswith(".conf"):
                names.setdefault(name, f"{folder}/{name}")
    paths = [path for _name, path in sorted(names.items())]
    if not host.exists("/run/systemd/system"):
        paths.append("/etc/sysctl.conf")  # procps reads it last of all
    with contextlib.suppress(OSError):
        if parse(host.read("/etc/ufw/ufw.conf")).get("ENABLED", "no").lower() == "yes":
            paths.append("/etc/ufw/sysctl.conf")
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, host.read(path)
