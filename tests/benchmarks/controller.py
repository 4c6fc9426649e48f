# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the controller takes to put together what one cell's modules are given, and to check the inventory, in full meshes of several sizes.

Plain dictionaries stand in for Ansible's variables, as they are after the preflight: of a first run, where every step is due, and of a run without change.
Run it with the collection on PYTHONPATH: python tests/benchmarks/controller.py [another tree of this repository, to compare with]

It also runs pic.cells.site with ansible-core, for cells that answer every module at once and have every step to do; with --site=CELLS that alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, Comparison, parser, report
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

try:
    from ansible_collections.pic.cells.plugins.plugin_utils import arguments
    from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
except ImportError:  # a tree from before there were such files
    arguments = None
    from ansible_collections.pic.cells.plugins.plugin_utils.statement import check_inventory

SIZES = (10, 40, 80, 200)
SITES = (3, 10, 40)
OTHER = "the other tree"
DUE = ["identity", "tell", "hear", "note", "rules", "links", "routes", "agent"]  # all that a cell can say to be due
FORKS = 2
# What stands in for Python on a cell: it finds the module's name in what it is to execute, and prints the answer that lies there for it.
CELL = """\
#!/bin/sh
exec cat {folder}/{name}.$(grep -ao 'plugins[./]modules[./][a-z_]*' | head -n 1 | sed 's/.*[./]//').json
"""


def inventory(cells: int) -> dict[str, dict[str, Any]]:
    """Return the variables of hosts that are all linked with each other; each shares a service and offers an exit."""
    names = [f"cell{number:03}" for number in range(cells)]
    return {
        name: {
            "cell_networks": [f"10.{number}.0.1/24", f"fd00:{number:x}::1/64"],
            "cell_endpoint": f"{name}.example.net",
            "cell_services": [{"name": "files", "address": f"10.{number}.0.1", "port": 443, "protocol": "tcp"}],
            "cell_peers": [{"name": "phone", "public_key": made_key(f"phone of {name}"), "addresses": [f"10.{number}.0.2"]}],
            "cell_links": [{"name": other, "share": ["files"], "offer_exit": True} for other in names if other != name],
        }
        for number, name in enumerate(names)
    }


def answers(stated: dict[str, dict[str, Any]], linked: bool) -> dict[str, dict[str, Any]]:
    """Return what the preflight has read on each host. linked: whether all is as it is stated already."""
    keys = {name: made_key(name) for name in stated}
    port = {name: {other: 51821 + number for number, other in enumerate(stated) if other != name} for name in stated}

    def link(name: str, other: str) -> dict[str, Any]:
        tunnel = {"public_key": keys[other], "listen_port": port[name][other], "endpoint": f"{other}.example.net:{port[other][name]}"}
        told = {"generation": 1, "remote_generation": 1, "pending_push": False, "exit_offered": True, "remote_exit_offered": True}
        permissions = {"inbound": {"files": True}, "outbound": {"files": True}}
        return {"name": other, "preshared_key_id": "-".join(sorted((name, other))), "permissions": permissions, **tunnel, **told}

    def payload(name: str) -> dict[str, Any]:
        offer = {"exit_offered": True, "use_as_exit_relay": False, "permissions": {"outbound": {"files": True}}}
        return {"from_cell": name, "from_public_key": keys[name], "generation": 1, **offer}

    found = {}
    for name in stated:
        others = [other for other in stated if other != name] if linked else []
        found[name] = {
            "name": name,
            "public_key": keys[name],
            "refusals": [],
            "due": [] if linked else DUE,
            "peers": {},
            "missing": [],
            "links": {other: link(name, other) for other in others},
            "payloads": {other: payload(name) for other in others},
        }
    return found


def mesh(stated: dict[str, dict[str, Any]], read: dict[str, dict[str, Any]]) -> Mesh:
    """Return what the controller knows after the preflight, on the first host."""
    hosts = list(stated)
    registers = {host: {"__cell_batch": hosts, "__cell_read": {"results": [{"item": host, **read[host]}]}} for host in hosts}
    names = {"hostvars": stated, "groups": {"cells": hosts}, "inventory_hostname": hosts[0], "ansible_play_batch": hosts, "ansible_play_hosts_all": hosts}
    return Mesh({**names, "registers": registers}, lambda value: value)


def measured(cells: int) -> dict[str, Any]:
    """Return seconds of the processor for one side and one check of the inventory, and a digest of what came out."""
    stated = inventory(cells)
    found: dict[str, Any] = {}
    for state in ("first run", "no change"):
        seen = mesh(stated, answers(stated, state == "no change"))
        begin = time.process_time()
        side = arguments.side(seen, seen.hosts[0]) if arguments else seen.side(seen.hosts[0])
        found[f"side, {state}"] = time.process_time() - begin
        found[f"digest, {state}"] = hashlib.sha256(json.dumps(side, sort_keys=True).encode()).hexdigest()[:12]
        seen = mesh(stated, answers(stated, state == "no change"))
        begin = time.process_time()
        due = seen.due(seen.hosts[0])
        found[f"due, {state}"] = time.process_time() - begin
        found[f"digest of due, {state}"] = ",".join(due)
    begin = time.process_time()
    check_inventory(mesh(stated, answers(stated, False)))
    found["check of the inventory"] = time.process_time() - begin
    return found


def in_tree(tree: Path, cells: int) -> dict[str, Any]:
    """Measure another tree, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ansible_collections" / "pic").mkdir(parents=True)
        (Path(folder) / "ansible_collections" / "pic" / "cells").symlink_to(tree.resolve())
        argv = [sys.executable, __file__, f"--cells={cells}"]
        done = subprocess.run(argv, env={**os.environ, "PYTHONPATH": folder}, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_cell(folder: Path, name: str, stated: dict[str, dict[str, Any]]) -> None:
    """Write down what a cell answers to each module, where nothing is on it yet and every step has something to do."""
    others = [other for other in stated if other != name]
    key = made_key(name)
    links = {other: {"name": other, "interface": f"pic-{other}", "listen_port": 51821 + number} for number, other in enumerate(others)}
    message = {"from_cell": name, "from_public_key": key, "generation": 1, "exit_offered": True, "use_as_exit_relay": False}
    payload = {**message, "permissions": {"outbound": {"files": True}}}
    empty = ("networks", "rules", "policy_rules", "routes", "refusals", "drift", "missing_programs", "unpackaged", "advertised", "unforwarded", "missing")
    read: dict[str, Any] = {"name": "", "public_key": None, "read_at": 0, "due": DUE, "unlisted": False, "system": "Debian"}
    read.update({"links": {}, "peers": {}, "payloads": {}, "exits": {}, **{key: [] for key in empty}})
    said: dict[str, dict[str, Any]] = {
        "pic_cell_info": read,
        "wg_cell": {"public_key": key, "generated": True, "links": links},
        "pic_link_keys": {"preshared_keys": {other: made_key("-".join(sorted((name, other)))) for other in others}},
        "pic_peer_sync": {
            "payloads": dict.fromkeys(others, payload),
            "answers": {other: {"status": "ok", "generation": 1} for other in others},
        },
    }
    parts: dict[str, dict[str, Any]] = {
        "hear": {"answers": said["pic_peer_sync"]["answers"]},
        "rules": {"shares": {}},
        "links": {"pending": [], "public_key": key, "links": links},
        "routes": {"pending": []},
        "agent": {"program": "/usr/local/bin/pic-cell"},
    }
    said["pic_cell_apply"] = {"steps": {part: {"changed": True, **answer} for part, answer in parts.items()}}
    for module, answer in said.items():
        (folder / f"{name}.{module}.json").write_text(json.dumps({"changed": module != "pic_cell_info", **answer}))
    python = folder / f"{name}-python"
    python.write_text(CELL.format(folder=folder, name=name))
    python.chmod(0o755)


def site(cells: int, tree: Path) -> tuple[float, float]:
    """Run pic.cells.site of a tree; return how long it took, of the clock and of the processor."""
    stated = inventory(cells)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ansible_collections" / "pic").mkdir(parents=True)
        (folder / "ansible_collections" / "pic" / "cells").symlink_to(tree.resolve())
        for host in stated:
            write_cell(folder, host, stated)
        hosts = {host: {**stated[host], "ansible_connection": "local", "ansible_python_interpreter": f"{folder}/{host}-python"} for host in stated}
        (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"children": {"cells": {"hosts": hosts}}}}))
        (folder / "ansible.cfg").write_text(f"[defaults]\nforks = {FORKS}\npipelining = true\nlocal_tmp = {folder}/tmp\n")
        around = {"ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PYTHONPATH": str(folder)}
        begin, spent = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "inventory.yml"), "pic.cells.site"]
        done = subprocess.run(argv, env={**os.environ, **around}, capture_output=True, text=True, check=False)
        wall, total = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = total.ru_utime + total.ru_stime - spent.ru_utime - spent.ru_stime
    if done.returncode:
        raise RuntimeError(f"{cells} cells: exit code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return wall, processor


def assembled(given: argparse.Namespace) -> list[Comparison]:
    """Measure what is put together in full meshes of several sizes, in this tree and beside it in another one."""
    base = OTHER if given.trees else None
    found: dict[str, Comparison] = {}
    for cells in SIZES[: 1 if given.short else None]:
        for _round in range(1 if given.short else ROUNDS):
            mine = measured(cells)
            theirs = in_tree(given.trees[0], cells) if given.trees else mine
            for what, value in mine.items():
                if isinstance(value, float):
                    ways = found.setdefault(what, Comparison("The controller", what, "s", "cells", base)).points.setdefault(str(cells), {})
                    for way, figure in {"this tree": value, **({OTHER: theirs[what]} if base else {})}.items():
                        ways.setdefault(way, []).append(figure)
                elif value != theirs[what]:
                    sys.exit(f"The two trees differ ({what}): {value} and {theirs[what]}.")
    return list(found.values())


def sites(given: argparse.Namespace) -> list[Comparison]:
    """Measure pic.cells.site with ansible-core, of this tree or of those that are given."""
    found = [Comparison("The controller, pic.cells.site", what, "s", "cells", None) for what in ("of the clock", "of the processor")]
    for cells in (given.site,) if given.site else SITES[: 1 if given.short else None]:
        for tree in given.trees or [Path(__file__).parents[2]]:
            for comparison, seconds in zip(found, site(cells, tree)):
                comparison.points.setdefault(str(cells), {})["site" if not given.trees else str(tree)] = [seconds]
    return found


def main() -> None:
    """Print the figures, beside those of the other tree where one is given."""
    options = parser(__doc__)
    options.add_argument("trees", nargs="*", type=Path, metavar="TREE", help="another tree of this repository, to compare with")
    options.add_argument("--cells", type=int, help="print what one size gives, as JSON")
    options.add_argument("--site", type=int, metavar="CELLS", help="pic.cells.site alone, for so many cells")
    given = options.parse_args()
    if given.cells:
        print(json.dumps(measured(given.cells)))
        return
    report(given, [*([] if given.site else assembled(given)), *(sites(given) if given.site or not given.trees else [])])


if __name__ == "__main__":
    main()
