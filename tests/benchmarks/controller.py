# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pic.cells.site costs the controller, for cells that are all linked with each other (mesh) and for cells in a ring.

Run it with the collection on PYTHONPATH: python tests/benchmarks/controller.py [--json FILE]

computed: what the collection itself computes in a run, task by task as the role has them, each host with a view of its own as in a process of Ansible's;
seconds of the processor and the most memory. Plain dictionaries stand in for Ansible's variables, and of many hosts some are taken for all.

played: ansible-playbook runs the whole site with cells that answer every module at once, beside a play of as many ping tasks as modules were
executed. "ours" is what of the processor's time the collection's own plugins have taken.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pic.cells.plugins.plugin_utils import arguments, summary
from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import FIXED, KNOWN
from ansible_collections.pic.cells.plugins.plugin_utils.judgement import judge
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.participants import JUDGED
from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, SECOND, Comparison, parser, report
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

COMPUTED = ("mesh:50", "mesh:100", "mesh:200", "ring:250", "ring:500", "ring:1000")
PLAYED = ("mesh:3", "ring:20")
STATES = ("first run", "no change")
DUE = ["identity", "tell", "hear", "note", "rules", "links", "routes", "agent"]  # all that a cell can say to be due
SAMPLE = 8  # hosts that stand for all
FORKS = 2
# The role's steps in its order, with their registers.
STEPS = {
    "identity": "__cell_identity",
    "keys": "__cell_keys",
    "pair": "__cell_paired",
    "tell": "__cell_built",
    "hand": "__cell_handed",
    "apply": "__cell_applied",
    "push": "__cell_pushed",
}
ONCE = (FIXED, KNOWN, JUDGED)  # the registers of tasks that one host takes for all of them
# What stands in for Python on a cell: it finds the step, or else the module's name, in what it is to execute, and prints the answer that lies there for it.
CELL = """\
#!/bin/sh
found=$(grep -aoE '"step": "[a-z]*|(plugins|ansible)[./]modules[./][a-z_]*')
step=$(echo "$found" | sed -n 's/"step": "//p')
exec cat {folder}/{name}.${{step:-$(echo "$found" | sed -n '1s/.*[./]//p')}}.json
"""
Shape = tuple[str, int]


def inventory(shape: Shape) -> dict[str, dict[str, Any]]:
    """Return the variables of hosts, each linked with all others or with its neighbours; each shares a service and offers an exit."""
    kind, cells = shape
    names = [f"cell{number:04}" for number in range(cells)]
    others = {
        name: [other for other in names if other != name] if kind == "mesh" else [names[number - 1], names[(number + 1) % cells]]
        for number, name in enumerate(names)
    }
    return {
        name: {
            "cell_networks": [f"10.{number // 250}.{number % 250}.1/24", f"fd00:{number:x}::1/64"],
            "cell_endpoint": f"{name}.example.net",
            "cell_services": [{"name": "files", "address": f"10.{number // 250}.{number % 250}.1", "port": 443, "protocol": "tcp"}],
            "cell_peers": [{"name": "phone", "public_key": made_key(f"phone of {name}"), "addresses": [f"10.{number // 250}.{number % 250}.2"]}],
            "cell_links": [{"name": other, "share": ["files"], "offer_exit": True} for other in dict.fromkeys(others[name])],
        }
        for number, name in enumerate(names)
    }


def linked(stated: dict[str, dict[str, Any]], name: str) -> list[str]:
    """Return the hosts that a host is linked with."""
    return [item["name"] for item in stated[name]["cell_links"]]


def answers(stated: dict[str, dict[str, Any]], name: str, again: bool) -> dict[str, dict[str, Any]]:
    """Return what a cell answers to each module, where nothing is on it yet and each step has something to do, or where all is as it is stated."""
    others = linked(stated, name)
    port = {other: 51821 + number for number, other in enumerate(others)}
    key, pairs = made_key(name), {other: "-".join(sorted((name, other))) for other in others}
    payload = {"from_cell": name, "from_public_key": key, "generation": 1, "exit_offered": True, "use_as_exit_relay": False}
    payloads = {other: {**payload, "permissions": {"outbound": {"files": True}}} for other in others}

    def link(other: str) -> dict[str, Any]:
        dialled = f"{other}.example.net:{51821 + linked(stated, other).index(name)}"
        tunnel = {"public_key": made_key(other), "interface": f"pic-{other}", "listen_port": port[other], "endpoint": dialled}
        told = {"generation": 1, "remote_generation": 1, "pending_push": False, "exit_offered": True, "remote_exit_offered": True}
        permissions = {"inbound": {"files": True}, "outbound": {"files": True}}
        return {"name": other, "preshared_key_id": pairs[other], "permissions": permissions, **tunnel, **told}

    links = {other: link(other) for other in others}
    lists = ("networks", "rules", "policy_rules", "routes", "refusals", "drift", "missing_programs", "unpackaged", "advertised", "unforwarded", "missing")
    read: dict[str, Any] = {"name": "", "public_key": None, "read_at": 0, "due": DUE, "unlisted": False, "system": "Debian"}
    read.update({"links": {}, "peers": {}, "exits": {}, "payloads": {}, **{kind: [] for kind in lists}})
    if again:
        read.update(name=name, public_key=key, due=[], links=links, payloads=payloads)
    heard = {other: {"status": "ok", "generation": 1} for other in others}
    parts: dict[str, dict[str, Any]] = {
        "hear": {"answers": heard},
        "rules": {"shares": {}},
        "links": {"pending": [], "public_key": key, "links": links},
        "routes": {"pending": []},
        "agent": {"program": "/usr/local/bin/pic-cell"},
    }
    said: dict[str, dict[str, Any]] = {
        "ping": {"ping": "pong"},
        "pic_cell_info": read,
        "wg_cell": {"public_key": key, "generated": True, "links": {other: {"name": other, "listen_port": port[other]} for other in others}},
        "pic_link_keys": {"preshared_keys": {other: made_key(pairs[other]) for other in others}},
        "pic_peer_sync": {"payloads": payloads, "answers": heard},
        "pic_cell_apply": {"steps": {part: {"changed": True, **answer} for part, answer in parts.items()}, "announced": []},
    }
    return {module: {"changed": module not in ("ping", "pic_cell_info"), **answer} for module, answer in said.items()}


class Run:
    """A run of the role, as far as the collection itself computes something in it."""

    def __init__(self, shape: Shape, again: bool) -> None:
        """again: whether all is as it is stated already."""
        self.stated, self.again = inventory(shape), again
        self.hosts = list(self.stated)
        self.answers = {host: answers(self.stated, host, again) for host in self.hosts}
        self.registers: dict[str, dict[str, Any]] = {host: {"__cell_batch": self.hosts} for host in self.hosts}

    def mesh(self, own: str) -> Mesh:
        """Return what a process of Ansible's for a host begins with."""
        hosts = {"ansible_play_batch": self.hosts, "ansible_play_hosts_all": self.hosts}
        known = {"hostvars": self.stated, "groups": {"cells": self.hosts}, "inventory_hostname": own, "registers": self.registers, **hosts}
        return Mesh(known, lambda value: value)

    def tasks(self) -> Iterator[tuple[str, str, Callable[[str], Any]]]:
        """Yield the tasks: a name, its register, which is in ONCE where one host takes it for all, and what it computes for a host."""
        yield "fix what is stated", FIXED, lambda host: {"stated": self.stated}
        yield "check the inventory", KNOWN, self._check
        yield "read", "__cell_read", lambda host: self._executed(self.mesh(host), host, "read")
        yield "read others", "__cell_others", lambda host: {"results": self.mesh(host).others(host)}
        yield "judge", JUDGED, lambda host: judge(self.mesh(host))
        yield "which files", "__cell_included", lambda host: self.mesh(host).role_files()
        if not self.again:
            for step, register in STEPS.items():
                yield step, register, functools.partial(self._step, step)
        yield "summary", "__cell_said", lambda host: (summary.left_out(self.mesh(host), host), summary.summary(self.mesh(host), host))

    def _check(self, host: str) -> dict[str, Any]:
        mesh = self.mesh(host)
        return {"warnings": check_inventory(mesh), "cells": mesh.cells()}

    def _step(self, step: str, host: str) -> dict[str, Any]:
        taken = self.mesh(host).taking(host, step)
        return {"results": [result for other in taken for result in self._executed(self.mesh(host), other, step)["results"]]}

    def _executed(self, mesh: Mesh, host: str, step: str) -> dict[str, Any]:
        module, _arguments = arguments.of_step(mesh, step, host)
        return {"results": [{"item": host, **judged(module, self.answers[host][module])}]}

    def _stand_in(self, task: str, host: str) -> dict[str, Any]:
        """Return what a task has for a host that is not looked at."""
        module, _arguments = arguments.STEPS.get(task, ("", None))
        return {"results": [{"item": host, **self.answers[host][module]}] if module and task not in ("pair", "hand") else []}

    def go(self, measured: Callable[[str, int, Callable[[], Any]], Any], look_at: int) -> None:
        """Take all tasks. measured: is given a task's name, for how many hosts the call stands, and the call. look_at: how many hosts are looked at."""
        hosts = self.hosts[:: max(1, len(self.hosts) // look_at)]
        for task, register, compute in self.tasks():
            if register in ONCE:
                found = dict.fromkeys(self.hosts, measured(task, 1, functools.partial(compute, hosts[0])))
            else:
                looked = {host: measured(task, len(self.hosts) // len(hosts), functools.partial(compute, host)) for host in hosts}
                found = {host: looked[host] if host in looked else self._stand_in(task, host) for host in self.hosts}
            for host in self.hosts:
                self.registers[host][register] = found[host]


def computed(shape: Shape, again: bool) -> dict[str, float]:
    """Return seconds of the processor by task."""
    found: dict[str, float] = {}

    def measured(name: str, times: int, call: Callable[[], Any]) -> Any:
        begin = time.process_time()
        value = call()
        found[name] = found.get(name, 0.0) + (time.process_time() - begin) * times
        return value

    run = Run(shape, again)
    run.go(measured, SAMPLE)
    return found


# Notes what each process of Ansible's has spent, and what of it in the collection's own plugins: without what Ansible does to execute a module.
METER = '''
"""Measure."""

import atexit
import functools
import os
import time

from ansible.executor.process.worker import WorkerProcess
from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

spent, depth, main = [0.0], [0], os.getpid()


def note(*words):
    with open(os.environ["METER"], "a", encoding="ascii") as file:
        print(*words, file=file)


def meter(kind, name, sign):
    inner = getattr(kind, name)

    @functools.wraps(inner)
    def found(self, *words, **options):
        if depth[0] == (1 if sign > 0 else 0):
            return inner(self, *words, **options)
        depth[0] += sign
        begin = time.process_time()
        try:
            return inner(self, *words, **options)
        finally:
            depth[0] -= sign
            spent[0] += sign * (time.process_time() - begin)

    setattr(kind, name, found)


def run(self, inner=WorkerProcess._run):
    begin = time.process_time()
    if self._task._role:
        from ansible_collections.pic.cells.plugins.action.pic_cells_check import ActionModule
        from ansible_collections.pic.cells.plugins.lookup.side import LookupModule
        from ansible_collections.pic.cells.plugins.plugin_utils.asked import Asked

        for kind in (ActionModule, LookupModule, Asked):
            meter(kind, "run", 1)
        meter(ActionBase, "_execute_module", -1)
        spent[0] = time.process_time() - begin
    try:
        inner(self)
    finally:
        note(spent[0], time.process_time(), self._task.get_name())


WorkerProcess._run = run


class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "meter"
'''


class Controller:
    """A folder with all that ansible-playbook needs to run the collection with cells that answer at once."""

    def __init__(self, folder: Path, shape: Shape, again: bool, tree: Path) -> None:
        """tree: of this repository."""
        self.folder = folder
        stated = inventory(shape)
        (folder / "ansible_collections" / "pic").mkdir(parents=True)
        (folder / "ansible_collections" / "pic" / "cells").symlink_to(tree.resolve())
        for host in stated:
            said = answers(stated, host, again)
            steps = {step: module for step, (module, _arguments) in arguments.STEPS.items() if module in said}
            for asked, module in {**dict.fromkeys(said), **steps}.items():
                (folder / f"{host}.{asked}.json").write_text(json.dumps(said[module or asked]))
            python = folder / f"{host}-python"
            python.write_text(CELL.format(folder=folder, name=host))
            python.chmod(0o755)
        hosts = {host: {**stated[host], "ansible_connection": "local", "ansible_python_interpreter": f"{folder}/{host}-python"} for host in stated}
        (folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"children": {"cells": {"hosts": hosts}}}}))
        (folder / "meter").mkdir()
        (folder / "meter" / "meter.py").write_text(METER)
        (folder / "ansible.cfg").write_text(
            f"[defaults]\nforks = {FORKS}\npipelining = true\nlocal_tmp = {folder}/tmp\ncallback_plugins = {folder}/meter\ncallbacks_enabled = meter\n"
        )

    def play(self, playbook: str) -> dict[str, float]:
        """Run a playbook; return seconds of the clock and of the processor, those that are ours, and the most memory in MiB."""
        meter = self.folder / "meter.txt"
        meter.unlink(missing_ok=True)
        around = {"ANSIBLE_COLLECTIONS_PATH": str(self.folder), "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        around.update(PYTHONPATH=str(self.folder), METER=str(meter), ANSIBLE_HOME=str(self.folder / "home"))
        begin, spent = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.folder / "inventory.yml"), playbook]
        done = subprocess.run(argv, env={**os.environ, **around}, capture_output=True, text=True, check=False)
        wall, total = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{playbook} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        processor = total.ru_utime + total.ru_stime - spent.ru_utime - spent.ru_stime
        ours = sum(float(line.split()[0]) for line in meter.read_text().splitlines())
        return {"clock": wall, "processor": processor, "ours": ours, "memory": total.ru_maxrss / 1024}

    def pings(self, executions: int) -> str:
        """Write a playbook of as many ping tasks as a site executes modules on a cell; return its path."""
        file = self.folder / "pings.yml"
        tasks = [{"ansible.builtin.ping": {}} for _number in range(executions)]
        file.write_text(yaml.safe_dump([{"hosts": "cells", "gather_facts": False, "tasks": tasks}]))
        return str(file)


def played(shape: Shape, again: bool, tree: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what the site costs, and what as many pings do, on cells of a shape."""
    with tempfile.TemporaryDirectory() as folder:
        controller = Controller(Path(folder), shape, again, tree)
        yield "site", controller.play("pic.cells.site")
        yield "pings", controller.play(controller.pings(1 if again else 6))


def shape_of(text: str) -> Shape:
    """Read a shape, like mesh:50."""
    kind, _colon, cells = text.partition(":")
    return kind, int(cells)


def in_a_process(shape: str, again: bool) -> tuple[dict[str, float], float]:
    """Compute in a process of its own; return the seconds of each task, and the most memory in MiB."""
    script = f"from {__spec__.name if __spec__ else 'controller'} import *; import json; found = computed(shape_of({shape!r}), {again})"
    script += "; print(json.dumps([found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, check=True)
    found, memory = json.loads(done.stdout)
    return found, memory


def compute(given: argparse.Namespace) -> Iterator[Comparison]:
    """Yield what is computed, and the memory for it."""
    for state in STATES:
        found: dict[str, Comparison] = {}
        for shape in given.compute[: 1 if given.short else None]:
            for _round in range(1 if given.short else ROUNDS):
                tasks, memory = in_a_process(shape, state == STATES[1])
                figures = {state: (sum(tasks.values()), SECOND["processor"]), f"{state}, memory": (memory, "MiB")}
                figures.update({f"{state}, {task}": (spent, SECOND["processor"]) for task, spent in tasks.items() if given.tasks})
                for title, (figure, unit) in figures.items():
                    comparison = found.setdefault(title, Comparison("The controller", title, unit, "cells", None))
                    comparison.points.setdefault(shape, {}).setdefault("computed", []).append(figure)
        yield from found.values()


def play(given: argparse.Namespace) -> Iterator[Comparison]:
    """Yield what whole runs take, beside as many pings."""
    for state in STATES:
        found = {kind: Comparison("The controller, pic.cells.site", f"{state}, {kind}", "s", "cells", "pings") for kind in ("clock", "processor")}
        for shape in given.play[: 1 if given.short else None]:
            for _round in range(1 if given.short else ROUNDS):
                for way, figures in played(shape_of(shape), state == STATES[1], given.tree):
                    for kind, comparison in found.items():
                        comparison.points.setdefault(shape, {}).setdefault(way, []).append(figures[kind])
        yield from found.values()


def main() -> None:
    """Print the tables."""
    options = parser(__doc__)
    options.add_argument("--compute", nargs="*", default=COMPUTED, metavar="SHAPE", help=f"by default {' '.join(COMPUTED)}")
    options.add_argument("--play", nargs="*", default=PLAYED, metavar="SHAPE", help=f"by default {' '.join(PLAYED)}")
    options.add_argument("--tasks", action="store_true", help="say it task by task as well")
    options.add_argument("--tree", type=Path, default=Path(__file__).parents[2], help="another tree of this repository, to play")
    given = options.parse_args()
    report(given, [*compute(given), *play(given)])


if __name__ == "__main__":
    main()
