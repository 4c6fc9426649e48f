# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long pic.cells.site takes for a cell with links, shares and devices, beside a playbook that does the same by loops over Ansible's own modules.

Both run with the real ansible-playbook and a local connection, each in a sandbox of its own: a network namespace, where what is written to the machine's
folders is written elsewhere. The ordinary way makes interfaces, addresses, routes, peers and rules; it keeps nothing for a reboot, and removes nothing.
Run it as root with the collection on PYTHONPATH (wireguard-tools, iptables, conntrack): python tests/benchmarks/ordinary.py
"""

from __future__ import annotations

import functools
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, SECOND, Comparison, alternately, parser, report
from ansible_collections.pic.cells.tests.benchmarks.namespaces import sandbox
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

SIZES, SHORT, EACH = (1, 5, 20), (1,), 10
OURS, THEIRS = "pic.cells.site", "loops"
RUNS = ("first run", "again")
KEY = "/root/benchmark.key"

# The ordinary way, as it is found in many repositories. links, services, devices: lists of dictionaries; add: what makes an interface.
PLAYBOOK = f"""
- hosts: cells
  gather_facts: false
  tasks:
    - ansible.builtin.shell: umask 077; wg genkey >{KEY}
      args: {{creates: {KEY}}}
    - ansible.builtin.command: "{{{{ add }}}} {{{{ item }}}}"
      args: {{creates: "/sys/class/net/{{{{ item }}}}"}}
      loop: "{{{{ ['wg0'] + links | map(attribute='interface') }}}}"
    - ansible.builtin.command: wg set wg0 private-key {KEY} listen-port 51820
    - ansible.builtin.command: wg set wg0 peer {{{{ item.public_key }}}} allowed-ips {{{{ item.addresses[0] }}}}/32
      loop: "{{{{ devices }}}}"
    - ansible.builtin.command: >-
        wg set {{{{ item.interface }}}} private-key {KEY} listen-port {{{{ item.listen_port }}}}
        peer {{{{ item.public_key }}}} endpoint {{{{ item.endpoint }}}} allowed-ips {{{{ item.networks[0] }}}} persistent-keepalive 10
      loop: "{{{{ links }}}}"
    - ansible.builtin.command: ip address replace {{{{ item.address }}}} dev {{{{ item.interface }}}}
      loop: "{{{{ [{{'interface': 'wg0', 'address': '10.0.0.1/16'}}] + links | map('combine', {{'address': '10.0.0.1/32'}}) }}}}"
    - ansible.builtin.command: ip link set {{{{ item }}}} up
      loop: "{{{{ ['wg0'] + links | map(attribute='interface') }}}}"
    - ansible.builtin.command: ip route replace {{{{ item.networks[0] }}}} dev {{{{ item.interface }}}}
      loop: "{{{{ links }}}}"
    - ansible.builtin.iptables:
        chain: INPUT
        in_interface: "{{{{ item.0.interface }}}}"
        source: "{{{{ item.0.networks[0] }}}}"
        destination: "{{{{ item.1.address }}}}"
        protocol: "{{{{ item.1.protocol }}}}"
        destination_port: "{{{{ item.1.port }}}}"
        jump: ACCEPT
      loop: "{{{{ links | product(services) }}}}"
    - ansible.builtin.iptables:
        chain: "{{{{ item }}}}"
        in_interface: pic-+
        ctstate: [ESTABLISHED, RELATED]
        jump: ACCEPT
      loop: [INPUT, FORWARD]
    - ansible.builtin.iptables: {{chain: "{{{{ item }}}}", in_interface: pic-+, jump: DROP}}
      loop: [INPUT, FORWARD]
    - ansible.builtin.iptables: {{table: nat, chain: POSTROUTING, source: 10.0.0.0/16, out_interface: eth0, jump: MASQUERADE}}
"""


def stated(links: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the variables of a cell with so many links and devices: ours, and those of the ordinary way."""
    services = [{"name": f"s{number}", "address": "10.0.0.1", "port": 1000 + number, "protocol": "tcp"} for number in range(EACH)]
    devices = [{"name": f"p{number}", "public_key": made_key(f"p{number}"), "addresses": [f"10.0.0.{number + 2}"]} for number in range(links)]
    others = [
        {
            "name": f"x{number}",
            "interface": f"pic-x{number}",
            "listen_port": 51821 + number,
            "public_key": made_key(f"x{number}"),
            "networks": [f"10.1.{number}.0/24"],
            "endpoint": f"192.0.2.9:{number + 1}",
        }
        for number in range(links)
    ]
    shared = [{**link, "address": [f"10.1.{number}.1"], "share": [service["name"] for service in services]} for number, link in enumerate(others)]
    ours = {"cell_networks": ["10.0.0.1/16"], "cell_services": services, "cell_peers": devices, "cell_links": shared, "cell_endpoint": "192.0.2.1"}
    add = "ip link add type wireguard name" if Path("/sys/module/wireguard").exists() else "wireguard-go"
    return ours, {"links": others, "services": services, "devices": devices, "add": add}


def play(within: Callable[..., list[str]], folder: Path, way: str, by: str) -> float:
    """Run one of the two in its sandbox; return how long it took. by: whose seconds count."""
    playbook = OURS if way == OURS else str(folder / "playbook.yml")
    argv = within(str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / f"{way}.yml"), playbook)
    around = {**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_HOME": "/root/.ansible", "ANSIBLE_NOCOLOR": "1"}
    begin, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, env=around, capture_output=True, text=True, check=False)
    end, total = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not re.search(r"failed=0", done.stdout):
        raise RuntimeError(f"{way}: exit code {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return end - begin if by == "clock" else total.ru_utime + total.ru_stime - spent.ru_utime - spent.ru_stime


def compared(links: int, rounds: int, by: str) -> list[Comparison]:
    """Measure both ways for a cell with so many links: the first run, and one that has nothing to do."""
    found: dict[str, dict[str, list[float]]] = {run: {OURS: [], THEIRS: []} for run in RUNS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ansible.cfg").write_text("[defaults]\n[connection]\npipelining = true\n")
        (folder / "playbook.yml").write_text(PLAYBOOK)
        for way, values in zip((OURS, THEIRS), stated(links)):
            host = {**values, "ansible_connection": "local", "ansible_python_interpreter": sys.executable}
            (folder / f"{way}.yml").write_text(yaml.safe_dump({"cells": {"hosts": {"me": host}}}))
        for _round in range(rounds):
            with sandbox() as one, sandbox() as other:
                ways = {way: functools.partial(play, within, folder, way, by) for way, within in ((OURS, one), (THEIRS, other))}
                for run in RUNS:
                    for way, figures in alternately(ways, 1).items():
                        found[run][way] += figures
    along = f"links with {EACH} shares each"
    return [Comparison("The ordinary way", run, SECOND[by], along, OURS, {str(links): figures}) for run, figures in found.items()]


def main() -> None:
    """Measure, and report after each size."""
    options = parser(__doc__)
    options.add_argument("--size", type=int, help="one number of links alone")
    options.add_argument("--rounds", type=int, help="how often each is measured")
    given = options.parse_args()
    for links in (given.size,) if given.size else SHORT if given.short else SIZES:
        report(given, compared(links, given.rounds or (1 if given.short else ROUNDS), given.by))


if __name__ == "__main__":
    main()
