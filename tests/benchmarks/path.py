# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a packet pays as a cell grows: throughput, small packets and new connections of a device that goes direct, of a routed one, and of a link.

Three network namespaces stand for the device, the cell, and all that is beyond it; plain interfaces have the names of those of WireGuard, whose cryptography
is no matter of rules. Rules and policy rules are those that the engine gives a first start of such a cell. Beside them: the smallest cell, no rules at all, and
the same written flat, which is for links one chain with a rule for each share, and for devices three policy rules each. In a chain the measured link is last.
A forwarded packet is work of the process that sends it, so --by processor tells what it costs, unless the kernel keeps apart what interrupts take
(CONFIG_IRQ_TIME_ACCOUNTING).
Run it as root with the collection on PYTHONPATH (iperf3): python tests/benchmarks/path.py
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ansible_collections.pic.cells.plugins.module_utils.base.command import Result
from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.plugins.module_utils.records.model import Peer, Service, State
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR, Store
from ansible_collections.pic.cells.tests.benchmarks.measure import ROUNDS, SECOND, Comparison, alternately, parser, report
from ansible_collections.pic.cells.tests.benchmarks.namespaces import inside, join, namespace, run, running
from ansible_collections.pic.cells.tests.benchmarks.restore import EACH, large
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

BACKENDS = ("nft", "legacy")
SIZES = {"links": (1, 100, 1000), "devices": (1, 50, 250)}
SHORT = {"links": (100,), "devices": (50,)}
ALONG = {"links": f"links with {EACH} shares each", "devices": "routed devices"}
FLAT = {"links": "one chain", "devices": "three rules a device"}
SECONDS = 1  # of each measurement
DIRECT, LINKED, INTERNET, TRAFFIC, DOOR = "10.0.1.1", "10.1.0.1", "203.0.113.9", 5201, 5202
INTERFACES = ("wg0", "pic-x0", "eth0")
WAYS = ("direct", "routed", "link")
MEASURED = {"throughput": "Gbit", "packets": "thousand", "connections": "thousand"}

# The server ends each connection with a reset, so that neither side keeps it.
SERVER = f"""
import socket, struct
with socket.create_server(("", {DOOR}), backlog=4096) as door:
    door.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    while True:
        door.accept()[0].close()
"""
CLIENT = """
import contextlib, socket, sys, time
source, target, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
count, begin, spent = 0, time.monotonic(), time.process_time()
while time.monotonic() - begin < seconds:
    with socket.socket() as one:
        one.settimeout(5)
        one.bind((source, 0))
        with contextlib.suppress(ConnectionResetError):
            one.connect((target, port))
            one.recv(1)
    count += 1
print(count / 1000, time.monotonic() - begin, time.process_time() - spent)
"""


@dataclass(frozen=True)
class Rules:
    """What is given to iptables-restore, each time one text, and to ip -batch; routes are only those of interfaces that are there."""

    firewall: tuple[str, ...]
    routing: tuple[str, ...]


class Recorder(FakeHost):
    """A fake host that keeps what restore gives to the tools that build IPv4's rules."""

    def __init__(self, root: str) -> None:
        """root: the folder for the lock."""
        super().__init__(root)
        self.firewall: list[str] = []
        self.routing: list[str] = []

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        """Run one command on the fake."""
        if argv[0] == "iptables-restore":
            self.firewall.append(stdin or "")
        if list(argv[:3]) == ["ip", "-4", "-batch"]:
            self.routing += (stdin or "").splitlines()
        return super().run(argv, stdin, ok, timeout)


def state(links: int, routed: int) -> State:
    """Return the records of a cell; the first of its links is the exit of all its routed devices."""
    found = large(links, routed, EACH - 3)
    more = [Service("traffic", [DIRECT], TRAFFIC), Service("datagrams", [DIRECT], TRAFFIC, "udp"), Service("door", [DIRECT], DOOR)]
    for service in more:
        found.cell.services[service.name] = service
        for link in found.links.values():
            link.permissions["inbound"][service.name] = True
    found.peers["phone"] = Peer("phone", made_key("phone"), [DIRECT])
    return found


@functools.cache
def built(links: int, routed: int) -> Rules:
    """Return what the engine makes of such a cell when nothing is there."""
    with tempfile.TemporaryDirectory() as folder:
        host = Recorder(folder)
        for path, text in Store(host).writes(State(), state(links, routed)):
            host.write(path, text)
        host.write(f"{STATE_DIR}/identity.key", made_key("me") + "\n")
        done = restore(host, STATE_DIR)
    assert done.errors == [], done.errors
    there = [line for line in host.routing if re.findall(r" dev (\S+)", line) in ([], *([name] for name in INTERFACES))]
    return Rules(tuple(host.firewall), tuple(there))


def one_chain(links: int, routed: int) -> Rules:
    """Return the rules of shares one after the other, as they are written by hand; policy rules as the engine makes them."""
    found = state(links, routed)
    services = found.cell.services.values()
    lines = [
        f"-A FORWARD -i {link.interface} -s {link.networks[0]} -d {service.addresses[0]} -p {service.protocol} --dport {service.port} -j ACCEPT"
        for link in reversed(found.links.values())
        for service in services
    ]
    lines += ["-A FORWARD -i pic-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "-A FORWARD -i pic-+ -j DROP"]
    text = "\n".join(["*filter", *lines, "COMMIT", "*nat", "-A POSTROUTING -s 10.0.0.0/16 -o eth0 -j MASQUERADE", "COMMIT"])
    return Rules((f"{text}\n",), built(links, routed).routing)


def three_rules(links: int, routed: int) -> Rules:
    """Return the engine's rules, but for the policy rules: three for each device."""
    rules, found = built(links, routed), state(links, routed)
    ways = ("pref 4000 from {} lookup main suppress_prefixlength 7", "pref 4001 from {} lookup 4200", "pref 4002 from {} unreachable")
    flat = [f"rule add {way.format(peer.addresses[0])}" for peer in found.routed for way in ways]
    return Rules(rules.firewall, (*(line for line in rules.routing if not line.startswith("rule ")), *flat))


def arrived(name: str) -> int:
    """Return how many packets have come in by all interfaces of a namespace."""
    links = json.loads(run("ip", "-n", name, "-json", "-s", "link", "show"))
    return sum(link["stats64"]["rx"]["packets"] for link in links if link["ifname"] != "lo")


@dataclass(frozen=True)
class Place:
    """Three namespaces in which packets pass a cell's rules.

    routed: the address of the device that is routed last. by: whose seconds count, the clock's, or those that the processor spends on who sends or receives.
    """

    device: str
    far: str
    routed: str
    by: str

    def way(self, name: str) -> tuple[str, str, str]:
        """Return the namespace that sends, the address it sends from, and the one it sends to."""
        return {
            "direct": (self.device, DIRECT, INTERNET),
            "routed": (self.device, self.routed, INTERNET),
            "link": (self.far, LINKED, DIRECT),
        }[name]

    def throughput(self, way: str) -> float:
        """Return Gbit a second of one TCP connection."""
        found = self._iperf(way)
        return found["sum_received"]["bits_per_second"] / 1e9 / self._share(found, "host_total", "remote_total")

    def packets(self, way: str) -> float:
        """Return how many thousand datagrams of 64 bytes arrive at the interface a second: which of them a busy receiver reads is no matter of rules."""
        receiver = self.device if way == "link" else self.far
        before = arrived(receiver)
        found = self._iperf(way, "-u", "-b", "0", "-l", "64")
        return (arrived(receiver) - before) / 1000 / found["sum"]["seconds"] / self._share(found, "host_total")

    def connections(self, way: str) -> float:
        """Return how many thousand TCP connections are made a second, one after the other."""
        sender, source, target = self.way(way)
        thousands, clock, processor = run(*inside(sender, sys.executable, "-c", CLIENT, source, target, str(DOOR), str(SECONDS))).split()
        return float(thousands) / float({"clock": clock, "processor": processor}[self.by])

    def _share(self, found: dict[str, dict[str, float]], *whose: str) -> float:
        """Return how many seconds count for each of the clock."""
        return sum(found["cpu_utilization_percent"][key] for key in whose) / 100 if self.by == "processor" else 1

    def _iperf(self, way: str, *more: str) -> dict[str, dict[str, float]]:
        sender, source, target = self.way(way)
        argv = inside(sender, "iperf3", "-c", target, "-p", str(TRAFFIC), "-B", source, "-t", str(SECONDS), "-J", *more)
        for _time in range(20):
            answer = json.loads(run(*argv))
            if "error" not in answer:
                found: dict[str, dict[str, float]] = answer["end"]
                return found
            time.sleep(0.1)  # it serves one at a time, and one that has just begun or ended none
        raise RuntimeError(f"{' '.join(argv)}: {answer['error']}")


@contextlib.contextmanager
def place(rules: Rules, backend: str, routed: int, by: str) -> Iterator[Place]:
    """Make the namespaces with a cell's rules, and what answers in them."""
    address = state(1, routed).peers[f"p{routed - 1}"].addresses[0]
    with ExitStack() as stack:
        device, cell, far = (stack.enter_context(namespace(name)) for name in ("device", "cell", "far"))
        join(device, "wg", cell, "wg0")
        join(far, "tunnel", cell, "pic-x0")
        join(far, "uplink", cell, "eth0")
        for where, lines in {
            device: [f"address add {DIRECT}/16 dev wg", f"address add {address}/16 dev wg", "route add default via 10.0.0.1"],
            cell: ["address add 10.0.0.1/16 dev wg0", "address add 10.0.0.1/32 dev pic-x0", "address add 198.51.100.2/24 dev eth0"],
            far: [f"address add {LINKED}/32 dev tunnel", f"address add {INTERNET}/32 dev lo", "address add 198.51.100.1/24 dev uplink"],
        }.items():
            run("ip", "-n", where, "-batch", "-", text="\n".join(lines))
        run("ip", "-n", far, "route", "add", "10.0.0.0/16", "via", "10.0.0.1", "dev", "tunnel", "onlink")
        run("ip", "-n", cell, "route", "add", "default", "via", "198.51.100.1")
        # 2 is what systemd sets
        run(*inside(cell, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=2"))
        for text in rules.firewall:
            run(*inside(cell, f"iptables-{backend}-restore", "--noflush", "-w", "10"), text=text)
        # what wg-quick adds for the link
        own = ["route replace 10.1.0.0/24 dev pic-x0", "route replace default dev pic-x0 table 4200"]
        run("ip", "-n", cell, "-4", "-batch", "-", text="\n".join([*rules.routing, *own]))
        for where, at in ((device, DIRECT), (far, INTERNET)):
            stack.enter_context(running(inside(where, "iperf3", "-s", "-B", at, "-p", str(TRAFFIC))))
            stack.enter_context(running(inside(where, sys.executable, "-c", SERVER)))
        yield Place(device, far, address, by)


def compared(what: str, size: int, backend: str, rounds: int, by: str, ways: Sequence[str] = WAYS) -> list[Comparison]:
    """Measure a cell that has grown, the smallest one, one without rules and the flat form, in turns."""
    links, routed = (size, 1) if what == "links" else (1, size)
    base = f"one {what[:-1]}"
    forms = {
        "no rules": Rules((), ()),
        base: built(1, 1),
        **({"as built": built(links, routed)} if size > 1 else {}),
        FLAT[what]: one_chain(links, routed) if what == "links" else three_rules(links, routed),
    }
    with ExitStack() as stack:
        last = {form: 1 if form in (base, "no rules") else routed for form in forms}
        places = {form: stack.enter_context(place(rules, backend, last[form], by)) for form, rules in forms.items()}
        time.sleep(1)  # until all of them listen
        found = []
        for way in ways:
            for measure, unit in MEASURED.items():
                figures = alternately({form: functools.partial(getattr(at, measure), way) for form, at in places.items()}, rounds)
                table = f"More {what}, iptables-{backend}"
                found.append(Comparison(table, f"{way}, {measure}", f"{unit}/{SECOND[by]}", ALONG[what], base, {str(size): figures}))
        return found


def main() -> None:
    """Measure, and report after each size, since all of them take half an hour."""
    options = parser(__doc__)
    options.add_argument("--backend", choices=BACKENDS, help="one variant of iptables alone")
    options.add_argument("--what", choices=SIZES, help="what grows")
    options.add_argument("--way", choices=WAYS, help="one way of packets alone")
    options.add_argument("--size", type=int, help="one size alone")
    given: argparse.Namespace = options.parse_args()
    backends, ways = ([given.backend] if given.backend else BACKENDS), ([given.way] if given.way else WAYS)
    if given.short:
        backends, ways = backends[:1], ways[:1]
    for what, sizes in (SHORT if given.short else SIZES).items():
        for size in (given.size,) if given.size else sizes:
            for backend in backends if given.what in (None, what) else ():
                report(given, compared(what, size, backend, 1 if given.short else ROUNDS, given.by, ways))


if __name__ == "__main__":
    main()
