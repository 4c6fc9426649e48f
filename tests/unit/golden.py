# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the first run of `site` makes of three hosts, as text that a person reads in a diff: golden/<cell>/<part>.txt.

After a change that is meant to be seen on a cell: python -m ansible_collections.pic.cells.tests.unit.golden
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.ip import FAMILIES
from ansible_collections.pic.cells.tests.unit.world import World, three_cells

FOLDER = Path(__file__).parent / "golden"
_SECRET = re.compile(r"(PrivateKey = |PresharedKey = ).*")
_PROGRAM = "/usr/local/lib/pic-cells/pic-cell.pyz"  # the engine itself, which changes with each line of it


def first_run(folder: Path) -> World:
    """Return the three cells after their first run."""
    world = World(folder, three_cells())
    world.site()
    return world


def parts(host: FakeHost) -> dict[str, str]:
    """Return what stands on a host, by part: rules, routing, WireGuard, files, and the steps that have led there."""
    shown = {f"iptables.v{family}": host.by_hand(f"{tool}-save") for family, tool in zip(FAMILIES, ("iptables", "ip6tables"))}
    shown["iptables.v4"], shown["iptables.v6"] = (re.sub(r"^# (?:Generated|Completed).*\n", "", text, flags=re.MULTILINE) for text in shown.values())
    rules = [f"ipv{family} rule: {_words(rule.show())}" for family in FAMILIES for rule in host.rules[family]]
    shown["routing"] = "".join([*rules, *sorted(f"ipv{route.family} route: {_words(route.show())}" for route in host.routes)])
    tunnels = [f"{name}: {link.kind}, {'up' if link.up else 'down'}, MTU {link.mtu}, {', '.join(link.addresses)}\n" for name, link in host.links.items()]
    for name, device in host.wg.items():
        for key, peer in device.peers.items():
            tunnels.append(
                f"{name}: peer {key} at {peer.endpoint}, keepalive {peer.keepalive}, {'with' if peer.psk else 'no'} key, {', '.join(peer.allowed)}\n"
            )
    files = {name: text for name, (_mode, text) in host.files.items() if name.startswith("/etc/wireguard/")}
    shown["wireguard"] = "".join(sorted(tunnels)) + _texts(host, files)
    shown["records"] = _texts(host, (name for name in host.files if name.startswith("/var/lib/pic/") and not name.endswith(".key")))
    shown["units"] = _texts(host, (name for name in host.files if name.startswith(("/etc/systemd/", "/etc/sysctl.d/", "/usr/local/")) and name != _PROGRAM))
    shown["steps"] = "".join(f"{step}\n" for step in host.steps)
    return {name: _SECRET.sub(r"\1(not shown)", text).replace(sys.executable, "python3") for name, text in shown.items()}


def _words(shown: Mapping[str, object]) -> str:
    return " ".join(f"{key} {value}" for key, value in shown.items()) + "\n"


def _texts(host: FakeHost, names: Iterable[str]) -> str:
    return "".join(f"--- {name} {host.files[name][0]:04o}\n{host.files[name][1]}" for name in sorted(names))


def main() -> None:
    """Write all golden texts anew."""
    with tempfile.TemporaryDirectory() as folder:
        world = first_run(Path(folder))
    for cell in three_cells():
        (FOLDER / cell).mkdir(parents=True, exist_ok=True)
        for part, text in parts(world[cell]).items():
            (FOLDER / cell / f"{part}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
