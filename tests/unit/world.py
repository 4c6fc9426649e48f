# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible in miniature: modules run on fake hosts, and the role `cell` carried out task by task as its files say."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import json
import os
import re
import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import yaml
from ansible.module_utils import basic

from ansible_collections.pic.cells.plugins.module_utils import agent
from ansible_collections.pic.cells.plugins.module_utils import module as shared
from ansible_collections.pic.cells.plugins.module_utils.base.times import render_moment
from ansible_collections.pic.cells.plugins.module_utils.parts import claims
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import FILE, FOLDER, Delivery, parse_view, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import cli, exchange, prove, redial, spool
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import Refused, receive, receive_claim
from ansible_collections.pic.cells.plugins.plugin_utils import arguments, endpoints
from ansible_collections.pic.cells.plugins.plugin_utils.answers import judged
from ansible_collections.pic.cells.plugins.plugin_utils.checks import check_inventory
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import secret_of
from ansible_collections.pic.cells.plugins.plugin_utils.job import read_job
from ansible_collections.pic.cells.plugins.plugin_utils.judgement import judge
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import FILES, REFUSE, STEPS, Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.summary import left_out, summary
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key

ROLE = Path(__file__).parents[2] / "roles" / "cell"

REHEARSED = ("identity", "tell", "apply", "push")  # steps that change only what check mode foresees

# by part of the step "apply" the module that does the same alone
PARTS = {"hear": "pic_peer_sync", "rules": "pic_cell_rules", "links": "wg_cell_peer", "routes": "pic_policy_route", "agent": "pic_cell_agent"}

# on the controller, and what executes modules that are not ours
LEFT_OUT = ("pic.cells.pic_cells_check", "pic.cells.cell_base")
# what the system says of itself, and what the role does with ansible.posix.sysctl
FORWARDING = {
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n',
    "/proc/sys/net/ipv4/ip_forward": "1\n",
    "/proc/sys/net/ipv6/conf/all/forwarding": "1\n",
    "/etc/sysctl.d/90-pic-cells.conf": "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\n",
}


Answer = Callable[[str, dict[str, Any]], dict[str, Any]]


def _worked_out_once() -> None:
    """Let all fake hosts share what is the same for all: most of what a module took was to read and judge the on-cell program anew."""
    judged = functools.lru_cache(16)(lambda files, program, judge=agent.is_built_of: judge(dict(files), program))
    mock.patch.multiple(agent, sources=functools.cache(agent.sources), is_built_of=lambda files, program: judged(frozenset(files.items()), program)).start()
    mock.patch.object(cli, "_parser", functools.cache(cli._parser)).start()


_worked_out_once()


def nobody(pushes: Mapping[str, Push]) -> dict[str, Any]:
    """Reach no cell."""
    return dict.fromkeys(pushes)


def call(
    name: str, host: FakeHost, args: Mapping[str, Any], check: bool = False, uid: int = 0, send: Callable[[Mapping[str, Push]], Any] = nobody
) -> dict[str, Any]:
    """Run a module on a fake host through its main(); return what it printed. send: what becomes of pushes through the tunnel."""
    module = importlib.import_module(f"ansible_collections.pic.cells.plugins.modules.{name}")
    text = json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": True}})
    out, warnings = io.StringIO(), []
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(basic, "_ANSIBLE_ARGS", text.encode()))
        stack.enter_context(mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy", create=True))
        stack.enter_context(mock.patch.object(shared, "Host", host.begun))
        stack.enter_context(mock.patch.object(os, "geteuid", lambda: uid))
        stack.enter_context(mock.patch.object(exchange, "send_all", send))
        stack.enter_context(mock.patch.object(prove, "ask", host.ask_exits))
        stack.enter_context(mock.patch.object(prove, "ask_whoami", host.ask_whoami))
        stack.enter_context(mock.patch.object(time, "time", lambda: host.now))
        stack.enter_context(mock.patch.object(time, "sleep", lambda _seconds: None))
        # this machine's syslog is no place for it, and from Python 3.13 on takes no text with a NUL
        stack.enter_context(mock.patch.object(basic.AnsibleModule, "log", lambda *_args, **_options: None))
        stack.enter_context(mock.patch.object(basic.AnsibleModule, "warn", lambda _module, text: warnings.append(text)))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.suppress(SystemExit))
        module.main()
    return {**json.loads(out.getvalue()), "warnings": warnings}


def ask(name: str, *given: Any, instead: Answer | None = None, **options: Any) -> dict[str, Any]:
    """Run a module as call does, and return what Ansible is handed of its answer. instead: makes another one of it."""
    answer = call(name, *given, **options)
    return {"warnings": [], **judged(name, instead(name, answer) if instead else answer)}


def program(host: FakeHost, *words: str, uid: int = 0, send: Callable[[Mapping[str, Push]], Any] = nobody) -> tuple[int, str, str]:
    """Run the on-cell program on a fake host; return exit code, standard output and standard error."""
    out, err, rc = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(cli, "Host", host.begun))
        stack.enter_context(mock.patch.object(exchange, "send_all", send))
        stack.enter_context(mock.patch.object(prove, "ask", host.ask_exits))
        stack.enter_context(mock.patch.object(prove, "ask_whoami", host.ask_whoami))
        stack.enter_context(mock.patch.object(redial, "ask", host.ask_exits))
        stack.enter_context(mock.patch.object(os, "geteuid", lambda: uid))
        stack.enter_context(mock.patch.object(time, "time", lambda: host.now))
        stack.enter_context(mock.patch.object(time, "sleep", lambda _seconds: None))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            rc = cli.main(words)
        except SystemExit as end:  # argparse
            rc = int(end.code or 0)
    return rc, out.getvalue(), err.getvalue()


def passes(push: Push, source: str, origin: FakeHost, host: FakeHost) -> bool:
    """Tell whether the sender's end of a tunnel has the address that it sends from, and WireGuard at the other end lets it in."""
    has = {address.partition("/")[0] for address in origin.links[push.device].addresses} if push.device in origin.links else set()
    key = public_key((origin.read("/var/lib/pic/identity.key") or "").strip())
    peers = [device.peers[key] for device in host.wg.values() if key in device.peers]
    return source in has and any(ip_address(source) in ip_network(network) for peer in peers for network in peer.allowed)


@dataclass
class Task:
    """One task of the role that calls one of our modules. step: of the role, empty where the task is none."""

    module: str
    step: str
    loop: str
    register: str | None
    file: str  # of the role; empty where it is taken whatever the preflight finds


@functools.cache
def role_tasks() -> tuple[Task, ...]:
    """Read the tasks that call our modules, in the role's order."""
    found = []
    for task, file in _tasks("main.yml"):
        module = next((key for key in task if key.startswith("pic.cells.") and key not in LEFT_OUT), None)
        if module is None and "assert" not in "".join(task):
            continue
        step = ""
        if module == "pic.cells.cell_step":
            assert task[module] == {"step": task[module]["step"], "host": "{{ item }}"}, task
            step = task[module]["step"]
            module = arguments.STEPS[step][0]
        found.append(Task(module.rpartition(".")[2] if module else "refuse", step, task.get("loop", "").strip("{} "), task.get("register"), file))
    return tuple(found)


def _tasks(file: str, included: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the tasks of a file of the role and of those that it imports and may include, and by which included file they are taken."""
    for task in yaml.safe_load((ROLE / "tasks" / file).read_text()):
        if "ansible.builtin.include_tasks" in task:
            assert (task["loop"], task["loop_control"], "when" in task) == ("{{ lookup('pic.cells.side', 'role files') }}", {"loop_var": "__cell_file"}, False)
            for name in (REFUSE, *FILES):
                yield from _tasks(f"{name}.yml", name)
        elif "ansible.builtin.import_tasks" in task:
            yield from _tasks(task["ansible.builtin.import_tasks"], included)
        else:
            yield task, included


@functools.cache
def registers() -> frozenset[str]:
    """Return what a run of the role makes the hosts forget before anything else."""
    (begin,) = yaml.safe_load((ROLE / "tasks" / "begin.yml").read_text())
    return frozenset(key for key, value in begin["ansible.builtin.set_fact"].items() if value == {})


def _by_module(module: str, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the result of a module; of one that does the work of several, what each of these would have returned."""
    if "steps" not in result:
        return {module: result}
    diffs = {diff["after_header"]: diff for diff in result["diff"]}
    return {PARTS[step]: {**part, "diff": diffs.get(step), "warnings": result["warnings"]} for step, part in result["steps"].items()}


class Refusal(Exception):
    """The run ended before anything changed."""


@dataclass
class Run:
    """What a run reported: by (host, task number and module) the module's result; and with what it was called."""

    results: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=dict)  # the summary, by host
    registered: dict[str, dict[str, Any]] = field(default_factory=dict)  # by host and name
    due: list[str] = field(default_factory=list)  # what the preflight has found to do
    files: list[str] = field(default_factory=list)  # of the role, which are taken for it

    @property
    def changed(self) -> list[tuple[str, str]]:
        """Return where something changed."""
        return [key for key, result in self.results.items() if result.get("changed")]

    def diffs(self) -> dict[tuple[str, str], Any]:
        """Return all differences that say anything."""
        return {key: result["diff"] for key, result in self.results.items() if result.get("changed")}

    def warnings(self) -> list[str]:
        """Return all warnings as texts."""
        return [warning for result in self.results.values() for warning in result.get("warnings", ())]

    def of(self, host: str, module: str) -> list[dict[str, Any]]:
        """Return the results of one module on one host, in their order."""
        return [result for (where, task), result in self.results.items() if where == host and task.endswith(module)]


class World:
    """Cells on fake hosts, and an inventory that describes them.

    dead: hosts that cannot be reached. ill: hosts that may fail; then they leave the run, and are dead. hostile: what a host's root makes of a module's
    answer, by host.
    """

    def __init__(self, folder: Path, inventory: Mapping[str, dict[str, Any]]) -> None:
        """inventory: variables by host."""
        self.inventory = copy.deepcopy(dict(inventory))
        self.hosts = {host: FakeHost(folder / host, host) for host in inventory}
        self.dead: set[str] = set()
        self.ill: set[str] = set()
        self.hostile: dict[str, Answer] = {}
        self.extra: dict[str, str] = {}  # extra vars that a job does not hold
        self.every_step = False  # whether also steps are taken that have nothing to do
        self.before: Run | None = None  # a play before the next one, in the same call of ansible-playbook
        self.elsewhere: dict[str, FakeHost] = {}  # of other owners, by any name
        for host in self.hosts.values():
            host.dns.update({f"{name}.example.net": [f"192.0.2.{number}"] for number, name in enumerate(inventory, 11)})
            for path, text in FORWARDING.items():
                host.files[path] = (0o644, text)

    def fork(self) -> World:
        """Return a copy that goes its own way."""
        twin = copy.copy(self)
        twin.inventory = copy.deepcopy(self.inventory)
        twin.hosts = {name: host.fork() for name, host in self.hosts.items()}
        twin.dead, twin.ill, twin.hostile = set(self.dead), set(self.ill), dict(self.hostile)
        return twin

    def __getitem__(self, host: str) -> FakeHost:
        return self.hosts[host]

    def record(self, host: str, name: str = "cell_links.json") -> Any:
        """Return one record file of a cell."""
        return json.loads(self[host].read(f"/var/lib/pic/{name}") or "{}")

    def link(self, host: str, name: str) -> dict[str, Any]:
        """Return the record of a link."""
        return next(link for link in self.record(host)["links"] if link["name"] == name)

    def public_key(self, host: str) -> str:
        """Return a cell's public key."""
        return public_key((self[host].read("/var/lib/pic/identity.key") or "").strip())

    def carry(self, sender: str, pushes: Mapping[str, Push]) -> dict[str, Any]:
        """Carry pushes through the tunnels: to the receiver on the other host, and from its spool to root there."""
        return {name: None if sender in self.dead else self._arrive(push, self.hosts.get(sender)) for name, push in pushes.items()}

    def _arrive(self, push: Push, origin: FakeHost | None) -> dict[str, Any] | None:
        address = str(urlsplit(push.url).hostname)
        for name, host in {**self.hosts, **self.elsewhere}.items():
            text = host.read(f"/var/lib/pic/{FOLDER}/{FILE}")
            view = parse_view(text) if text and name not in self.dead else None
            if view is None or address not in {*view.addresses, *(one for link in view.links.values() for one in link.known_as)}:
                continue
            source = next((s for s in push.sources if (":" in s) == (":" in address)), None)
            if source is None or (origin and not passes(push, source, origin, host)):
                return None
            interface = next((str(link.interface) for link in view.links.values() if source in link.address), "eth0")
            delivery = Delivery(interface, source, push.signature or "", push.body)
            claimed = push.path == claims.PATH
            try:
                sender, status, answer = receive_claim(view, delivery, render_moment(host.now)) if claimed else receive(view, delivery)
            except Refused as error:
                return {"status": error.status, "generation": 0, "reason": str(error)}
            if answer["applied"]:
                path = (
                    spool.claim_path(exchange.SPOOL, sender, claims.is_about_networks(push.body))
                    if claimed
                    else spool.path(exchange.SPOOL, sender, answer["generation"])
                )
                host.files[path] = (0o600, render_delivery(delivery))
                exchange.take_in(host, "/var/lib/pic")
            return {"status": status, "ignored": not answer["applied"], **answer}
        return None

    def reset(self) -> None:
        """Forget what all hosts recorded."""
        for host in self.hosts.values():
            host.reset()

    def steps(self) -> dict[str, list[str]]:
        """Return what wrote on each host, where anything did."""
        return {name: host.steps for name, host in self.hosts.items() if host.steps}

    def text(self) -> dict[str, str]:
        """Return the whole state of all hosts."""
        return {name: host.text() for name, host in self.hosts.items()}

    def site(self, *play: str, check: bool = False, job: Mapping[str, Any] | None = None) -> Run:
        """Carry out the role on some hosts (all where none is named)."""
        hosts = all_hosts = list(play or self.hosts)
        run = Run(registered=copy.deepcopy(self.before.registered) if self.before else {host: {} for host in self.hosts})
        hostvars = {host: ChainMap(run.registered[host], variables) for host, variables in self.inventory.items()}
        groups = {"cells": list(self.inventory)}

        def mesh(own: str) -> Mesh:
            variables = {"hostvars": hostvars, "groups": groups, "inventory_hostname": own, "ansible_play_batch": hosts, "ansible_play_hosts_all": all_hosts}
            known = {**variables, **run.registered[own], "__cell_every_step": self.every_step}
            return Mesh(known, lambda value: value, job, lambda: self.extra.get("preshared_key"))

        check_inventory(mesh(hosts[0]))
        for host in hosts:
            run.registered[host].update({**{key: {} for key in registers()}, "__cell_batch": list(hosts)})
        for number, task in enumerate(role_tasks()):
            if task.module == "refuse":
                judged = judge(mesh(hosts[0]))
                for host in hosts:
                    run.registered[host]["__cell_judged"] = judged
                refused = {host: mesh(host).refusals() for host in hosts}
                run.files, run.due = mesh(hosts[0]).role_files(), mesh(hosts[0]).any_due()
                assert any(refused.values()) == (REFUSE in run.files), (refused, run.files)
                if all(refused.values()):
                    raise Refusal(" ".join(refused[hosts[0]]))
                hosts = [host for host in hosts if not refused[host]]
                continue
            heard: dict[str, Any] = {}
            taken = not task.file or task.file in run.files
            for host in hosts:
                items = self._loop(mesh(host), host, task)
                assert taken or not items, f"the run leaves {task.file} out by what the preflight has found, and {task.module} is for {items}"
                if task.step in REHEARSED and not check:
                    self._check_idle(run, mesh(host), task, set(mesh(host).sides(host)) - set(items))
                results = [self._task(run, mesh(host), task, item, check) for item in items]
                for result in results:
                    run.results.update({(str(result["item"]), f"{number:02} {module}"): part for module, part in _by_module(task.module, result).items()})
                heard[host] = {"results": results}
            for host, results in heard.items():
                if taken:
                    run.registered[host][task.register or ""] = results
            hosts = [host for host in hosts if host not in self.dead]
        assert not [sentence for host in hosts if host not in self.dead for sentence in left_out(mesh(host), host)], "a whole run is taken for one that was cut"
        run.said = {host: summary(mesh(host), host, check) for host in hosts if host not in self.dead}
        return run

    def job(self, kind: str, check: bool = False, play: tuple[str, ...] = (), **given: str) -> Run:
        """Carry out a day-2 playbook with extra vars, which are texts."""
        hosts = list(play or self.hosts)
        variables = {"hostvars": self.inventory, "groups": {"cells": list(self.inventory)}, "inventory_hostname": hosts[0], "ansible_play_batch": hosts}
        self.extra = {key: value for key, value in given.items() if key == "preshared_key"}
        try:
            job, _warnings = read_job(Mesh(variables, lambda value: value, None, lambda: self.extra.get("preshared_key")), {"job": kind, **given})
            held = secret_of(given["invitation"]) if "pairing" in job else None
            self.extra.update({"preshared_key": held} if held and not self.extra else {})
            return self.site(job["host"], check=check, job=job)
        finally:
            self.extra = {}

    def _loop(self, mesh: Mesh, host: str, task: Task) -> list[str]:
        """Work out the loops that the role has; a new one has to be added here."""
        known = {
            "lookup('pic.cells.side', 'own')": lambda: mesh.concerned(host),
            "lookup('pic.cells.side', 'invited')": mesh.invited,
            "__cell_outside": lambda: mesh.others(host),
            **{f"lookup('pic.cells.side', '{step}')": functools.partial(mesh.taking, host, step) for step in STEPS},
        }
        return known[task.loop]()

    def _check_idle(self, run: Run, mesh: Mesh, task: Task, idle: Iterable[str]) -> None:
        """Check of hosts that do not take a step of the role that it would change nothing there, and say nothing new."""
        for host in idle:
            if host not in self.dead and host not in self.hostile:
                _module, args = arguments.of_step(mesh, task.step, host, predict=True)
                args.update({"run": {}} if "run" in args else {})  # what comes before is done
                result = call(task.module, self[host], args, check=True)
                said = {key: result.get(key) for key in ("changed", "diff", "warnings", "pending", "msg")}
                warnings = set(result["warnings"]) - set(run.warnings())
                assert not any((result["changed"], warnings, result.get("pending"))), f"{task.module} has something to do on {host}: {said}"

    def _task(self, run: Run, mesh: Mesh, task: Task, item: str, check: bool) -> dict[str, Any]:
        if task.module == "pic_link_invitation":  # the one loop that is not over hosts
            own = str(mesh.own)
            return {**ask(task.module, self[own], {"name": item, "endpoint_port": endpoints.port_of(mesh, own, item)}, check), "item": own}
        if item in self.dead:
            return {"item": item, "unreachable": True}
        run.calls.append((item, *arguments.of_step(mesh, task.step, item, predict=check)))
        hostile = self.hostile.get(item)
        result = ask(task.module, self[item], run.calls[-1][2], check, send=functools.partial(self.carry, item), instead=hostile)
        if result.get("failed") and hostile and item != mesh.own:
            return {**result, "item": item}
        if result.get("failed") and (hostile or item in self.ill):
            self.dead.add(item)
        if item in self.dead:
            return {"item": item, "failed": True}
        assert not result.get("failed"), f"{task.module} on {item}: {result['msg']}"
        shown = json.dumps({key: value for key, value in result.items() if key != "invocation"})
        assert task.module == "pic_link_keys" or not any(secret in shown for secret in self[item].secrets), f"{task.module} on {item} shows a secret"
        return {**result, "item": item}


def lose_key(host: FakeHost) -> None:
    """Remove a cell's key and the interface that holds it, as docs/operating.md does for another key."""
    for path in ("/var/lib/pic/identity.key", "/etc/wireguard/wg0.conf"):
        del host.files[path]
    host.drop_link("wg0")


def device_key(name: str) -> str:
    """Return a device's public key."""
    return made_key(f"device {name}")


WG0 = f"""\
# somebody's own
[Interface]
PrivateKey = {made_key("an older key")}
ListenPort = 51820
Address = 10.0.0.1/24, fd00:a::1/64

[Peer]
# the television
PublicKey = {device_key("television")}
PresharedKey = {made_key("television's preshared key")}
AllowedIPs = 10.0.0.77/32
"""


def furnish(host: FakeHost) -> None:
    """Put in place what others have on a host: docker, another VPN, a wg0 with a peer, rules, routes."""
    host.add_link("docker0", "172.17.0.1/16")
    host.add_link("tun0", "10.77.0.1/24", kind="wireguard")
    for family in (4, 6):
        host.iptables(family, "filter", ":FORWARD DROP [0:0]", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", chains=["DOCKER-USER"])
        host.iptables(family, "filter", '-A INPUT -i wg0 -m comment --comment "pic-peer-phone" -j DROP', "-A INPUT -p tcp --dport 22 -j ACCEPT")
        host.iptables(family, "nat", "-A POSTROUTING ! -o docker0 -j MASQUERADE")
        host.by_hand(f"ip -{family} rule add from all lookup 52 pref 5210")
    host.by_hand("ip -4 route add 100.99.0.0/16 dev tun0 table 52")
    host.by_hand("ip -4 route add 10.55.0.0/16 via 203.0.113.1 dev eth0")
    host.write("/etc/wireguard/wg0.conf", WG0)
    host.by_hand("systemctl enable wg-quick@wg0")
    host.by_hand("systemctl restart wg-quick@wg0")
    host.reset()


def foreign(host: FakeHost) -> list[str]:
    """Return everything on a host that is not ours, in its order."""
    wg0 = rf"dev='wg0'|wg wg0 (?!peer {re.escape(device_key('television'))})|link wg0|wg0\.(conf|service)"
    ours = re.compile(rf"pic-(?!peer)|PIC-|proto=201|/var/lib/pic|{wg0}|unit ")
    return [line for line in re.sub(r"(FORWARD|INPUT|OUTPUT|POSTROUTING) \d+", r"\1", host.text()).splitlines() if not ours.search(line)]


def three_cells() -> dict[str, dict[str, Any]]:
    """Return an inventory: cella's devices leave by cellb and cellc, cellb's by cella; cellc has no IPv6."""
    return {
        "cella": {
            "cell_endpoint": "cella.example.net",
            "cell_networks": ["10.0.0.1/24", "fd00:a::1/64"],
            "cell_services": [
                {"name": "files", "address": ["10.0.0.1", "fd00:a::1"], "port": 443, "protocol": "tcp"},
                {"name": "voice", "address": "10.0.0.3", "port": 5060, "protocol": "udp"},
            ],
            "cell_peers": [
                {"name": "phone", "public_key": device_key("phone"), "addresses": ["10.0.0.2", "fd00:a::2"], "route_via": "cellb"},
                {"name": "tablet", "public_key": device_key("tablet"), "addresses": ["10.0.0.3", "fd00:a::3"], "route_via": "cellc"},
                {"name": "laptop", "public_key": device_key("laptop"), "addresses": ["10.0.0.4", "fd00:a::4"]},
            ],
            "cell_links": [{"name": "cellb", "share": ["files", "voice"], "offer_exit": True}, {"name": "cellc", "share": ["files"]}],
        },
        "cellb": {
            "cell_endpoint": "cellb.example.net",
            "cell_networks": ["10.0.1.1/24", "fd00:b::1/64"],
            "cell_peers": [{"name": "pad", "public_key": device_key("pad"), "addresses": ["10.0.1.2"], "route_via": "cella"}],
            "cell_links": [{"name": "cella", "offer_exit": True}],
        },
        "cellc": {"cell_networks": ["10.0.2.1/24"], "cell_links": [{"name": "cella", "offer_exit": True}]},
    }
