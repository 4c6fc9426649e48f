# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that a cell needs, and what their packages are called where. Facts of Ansible are not needed for it, so none are gathered."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

PROGRAMS = ("wg", "wg-quick", "ip", "iptables", "ip6tables", "conntrack")
SHAPING = "tc"  # only where an offer has a rate
# Only where the kernel has no WireGuard of its own.
USERSPACE = "wireguard-go"
RELEASE = ("/etc/os-release", "/usr/lib/os-release")  # os-release(5)

# By family, as ID or ID_LIKE of os-release name it. Where USERSPACE is left out, the distribution has no such package, and its kernel has WireGuard.
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "debian": {
        **dict.fromkeys(("wg", "wg-quick"), "wireguard-tools"),
        **dict.fromkeys(("ip", SHAPING), "iproute2"),
        **dict.fromkeys(("iptables", "ip6tables"), "iptables"),
        "conntrack": "conntrack",
        USERSPACE: "wireguard-go",
        "sysctl": "procps",
    },
    "redhat": {
        **dict.fromkeys(("wg", "wg-quick"), "wireguard-tools"),
        "ip": "iproute",
        SHAPING: "iproute-tc",
        **dict.fromkeys(("iptables", "ip6tables"), "iptables-nft"),
        "conntrack": "conntrack-tools",
        "sysctl": "procps-ng",
    },
    "suse": {
        **dict.fromkeys(("wg", "wg-quick"), "wireguard-tools"),
        **dict.fromkeys(("ip", SHAPING), "iproute2"),
        **dict.fromkeys(("iptables", "ip6tables"), "iptables"),
        "conntrack": "conntrack-tools",
        "sysctl": "procps",
    },
    "arch": {
        **dict.fromkeys(("wg", "wg-quick"), "wireguard-tools"),
        **dict.fromkeys(("ip", SHAPING), "iproute2"),
        **dict.fromkeys(("iptables", "ip6tables"), "iptables"),
        "conntrack": "conntrack-tools",
        "sysctl": "procps-ng",
    },
    "alpine": {
        **dict.fromkeys(("wg", "wg-quick"), "wireguard-tools"),
        **dict.fromkeys(("ip", SHAPING), "iproute2"),
        **dict.fromkeys(("iptables", "ip6tables"), "iptables"),
        "conntrack": "conntrack-tools",
        USERSPACE: "wireguard-go",
        "sysctl": "procps",
    },
}
_KNOWN_AS = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "redhat",
    "fedora": "redhat",
    "centos": "redhat",
    "suse": "suse",
    "arch": "arch",
    "alpine": "alpine",
}
# Where package managers that fetch no list by themselves keep theirs, and what a list's name holds.
_LISTS = {"debian": ("/var/lib/apt/lists", "_Packages"), "arch": ("/var/lib/pacman/sync", ".db"), "alpine": ("/var/cache/apk", "APKINDEX")}


class Machine(Protocol):
    """What is asked of a host."""

    def read(self, path: str) -> str | None:
        """Return the text of a file."""

    def list(self, path: str) -> list[str]:
        """Return the names in a folder."""

    def exists(self, path: str) -> bool:
        """Tell whether a path exists."""

    def has(self, tool: str) -> bool:
        """Tell whether a command is installed."""

    def run(self, argv: Sequence[str], *, ok: Sequence[int]) -> Any:
        """Run a command."""


@dataclass(frozen=True)
class System:
    """What a host runs: its name for people, and the family whose package names it has; none where it is not known."""

    name: str
    family: str | None

    def package(self, program: str) -> str | None:
        """Return the package that holds a program, None where this is not known."""
        return FAMILIES[self.family].get(program) if self.family else None

    def packages(self, programs: Iterable[str]) -> list[str]:
        """Return the packages that hold programs, as far as they are known."""
        return sorted({package for package in map(self.package, programs) if package})

    def unknown(self, programs: Iterable[str]) -> list[str]:
        """Return the programs whose package is not known."""
        return [program for program in programs if not self.package(program)]


def system(host: Machine) -> System:
    """Read what a host runs."""
    text = next(filter(None, map(host.read, RELEASE)), "")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    words = {key: _unquoted(fields.get(key, "")) for key in ("ID", "ID_LIKE", "PRETTY_NAME")}
    names = [words["ID"], *words["ID_LIKE"].split()]
    family = next((_KNOWN_AS[name] for name in names if name in _KNOWN_AS), None)
    shown = "".join(letter if letter.isprintable() else "?" for letter in words["PRETTY_NAME"] or words["ID"])
    return System(shown or "a system without /etc/os-release", family)


def unlisted(host: Machine, family: str | None) -> bool:
    """Tell whether a host's package manager has no list of packages yet, and fetches none by itself."""
    if family not in _LISTS:
        return False
    folder, mark = _LISTS[str(family)]
    return not any(mark in name for name in host.list(folder))


def lacking(host: Machine, shaping: bool = False) -> dict[str, Any]:
    """Return which programs a host lacks, and what is known of their packages. shaping: whether a link has, or is to have, a rate."""
    programs = [program for program in (*PROGRAMS, *([SHAPING] if shaping else [])) if not host.has(program)]
    if not host.exists("/sys/module/wireguard") and not host.has(USERSPACE):
        probe = ["modprobe", "--dry-run", "--quiet", "wireguard"]
        if not host.has("modprobe") or host.run(probe, ok=(0, 1)).rc:
            programs.append(USERSPACE)
    known = system(host)
    return {
        "system": known.name,
        "missing_programs": programs,
        "missing": known.packages(programs),
        "unpackaged": known.unknown(programs),
        "unlisted": bool(programs) and unlisted(host, known.family),
    }


def refusal(found: Mapping[str, object], managed: bool) -> str | None:
    """Say which programs have to be installed by hand, where the role does not do so or does not know how. None where it does.

    found: what pic_cell_info returned.
    """
    programs, packages = _texts(found.get("missing_programs")), _texts(found.get("missing"))
    named = f"(packages: {', '.join(packages)})" if packages else ""
    if programs and not managed:
        return f"These programs are missing, and cell_manage_packages is false: {_said(programs)} {named}".rstrip() + ". Install them."
    left = _texts(found.get("unpackaged"))
    if left:
        return (
            f"The collection does not know which packages provide these programs on {str(found.get('system'))!r}: {_said(left)}. Install them, and "
            "set cell_manage_packages: false. "
            "See the page 'Supported systems'."
        )
    return None


def _said(programs: Collection[str]) -> str:
    notes = {"ip": "ip (of iproute2, as busybox's has no -json)", USERSPACE: f"{USERSPACE} (or a kernel with WireGuard)"}
    return ", ".join(notes.get(program, program) for program in programs)


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value.strip("\"'")
