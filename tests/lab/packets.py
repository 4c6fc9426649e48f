# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests ask of the lab's packets. Hosts are called as in the inventory ("phone-a1", "cella").

Every call is bounded in time, and raises LabError if it could not be made: "no packet" never means "no tcpdump".
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from types import TracebackType

from lab import INTERNET, LabError, entering, inside

TOOL = ("python3", "/usr/local/lib/pic-lab/echo_server.py")
CURL_NO_ANSWER = {7, 28, 52, 56}  # refused or unreachable, time is up, empty reply, reset

# `podman exec` leaves its process behind when it is killed: the process has to watch its stdin.
SNIFF = """
timeout "$1" tcpdump --immediate-mode -nn -tt -l -c "$2" -i "$3" "$4" 2>/run/pic-lab-sniff.$$ &
until grep -q "listening on" /run/pic-lab-sniff.$$; do kill -0 $! 2>/dev/null || { cat /run/pic-lab-sniff.$$ >&2; exit 1; }; sleep 0.02; done
echo listening
read -r end
kill $! 2>/dev/null
wait
rm -f /run/pic-lab-sniff.$$
"""

SNAPSHOT = """
part() { echo "@@@ $1"; shift; "$@" 2>/dev/null; }
part iptables iptables-save
part ip6tables ip6tables-save
for tool in iptables ip6tables; do part $tool-nft $tool-nft-save; done
[ ! -s /proc/net/ip_tables_names ] || part iptables-legacy iptables-legacy-save
[ ! -s /proc/net/ip6_tables_names ] || part ip6tables-legacy ip6tables-legacy-save
part rules ip rule
part rules6 ip -6 rule
part routes ip route show table all
part routes6 ip -6 route show table all
for name in $(wg show interfaces); do part "wg $name" wg showconf "$name"; done
for name in /var/lib/pic/*.json; do [ -e "$name" ] && part "$name" cat "$name"; done
exit 0
"""
# what differs from one call to the next with nothing changed, and what must not be printed
NOISE = (
    (re.compile(r"^# (Generated|Completed) .*\n", re.M), ""),
    (re.compile(r"^(:\S+ \S+) \[\d+:\d+\]$", re.M), r"\1"),
    (re.compile(r" expires \d+sec"), ""),
    (re.compile(r" linkdown\b"), ""),  # of a bridge, for as long as its first port is learning
    (re.compile(r"^(PrivateKey|PresharedKey) = .*$", re.M), r"\1 = (hidden)"),
    (re.compile(r'("(?:private_key|preshared_key|hmac_key)": )"[^"]*"'), r'\1"(hidden)"'),
)


def seen_address(phone: str, family: int) -> str | None:
    """The address that the internet sees when the phone asks it over IPv4 or IPv6 (`family` 4 or 6); None: no answer within 3 s."""
    return address_seen_by(INTERNET[0] if family == 4 else f"[{INTERNET[1]}]", phone)


def address_seen_by(server: str, client: str) -> str | None:
    """The address that a server (host or host:port, IPv6 in brackets) sees when the client asks it; None: no answer within 3 s."""
    result = inside(client, "curl", "-s", "-g", "--noproxy", "*", "--max-time", "3", f"http://{server}/", check=False)
    if result.returncode in CURL_NO_ANSWER:
        return None
    if result.returncode:
        raise LabError(f"curl on {client} ended with exit code {result.returncode}: {result.stderr.strip()}")
    return result.stdout.strip()


def reaches(host: str, address: str, port: int, proto: str = "tcp") -> bool:
    """Whether a new TCP connection, or a datagram and its answer, succeeds within 2 s."""
    result = inside(host, *TOOL, "probe", proto, address, str(port), check=False)
    if result.returncode not in (0, 1) or result.stderr:
        raise LabError(f"probe on {host} ended with exit code {result.returncode}: {result.stderr.strip()}")
    return result.returncode == 0


def snapshot(cell: str) -> dict[str, str]:
    """The cell's state as texts that are equal if nothing has changed; keys are hidden."""
    texts: dict[str, str] = {}
    for part in inside(cell, "sh", "-c", SNAPSHOT).stdout.split("@@@ ")[1:]:
        name, text = part.split("\n", 1)
        for pattern, replacement in NOISE:
            text = pattern.sub(replacement, text)
        if name.startswith("wg "):
            interface, *peers = text.strip().split("\n\n")
            text = "\n\n".join([interface, *sorted(peers)])  # wireguard-go lists them in any order
        texts[name] = text
    return texts


class Attached:
    """A process in a container that ends when its stdin does."""

    def __init__(self, host: str, *argv: str) -> None:
        self.host, self.argv = host, argv

    def start(self) -> None:
        self.process = subprocess.Popen(entering(self.host, *self.argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self) -> tuple[str, str]:
        return self.process.communicate(timeout=10)


class Sniffer(Attached):
    """Captures on an interface while the `with` block runs; then `lines` holds one line per packet.

    with Sniffer("cella", "eth0", "host 203.0.113.200") as uplink: ...
    assert uplink.lines == []
    """

    def __init__(self, host: str, interface: str, bpf: str, limit: int = 1000, seconds: int = 120) -> None:
        super().__init__(host, "sh", "-c", SNIFF, "sh", str(seconds), str(limit), interface, bpf)
        self.lines: list[str] = []
        self.seconds = seconds

    def __enter__(self) -> Sniffer:
        self.start()
        self.end = time.monotonic() + self.seconds
        for line in self.process.stdout or ():
            if line == "listening\n":
                return self
            self.lines.append(line.rstrip())  # a packet was quicker
        raise LabError(f"tcpdump on {self.host} does not listen: {self.stop()[1].strip()}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        late = time.monotonic() > self.end
        time.sleep(0.3)  # what is still on its way
        self.lines += [line for line in self.stop()[0].splitlines() if line]
        if late and kind is None:
            raise LabError(f"the capture on {self.host} ended after {self.seconds} s, before the test did")


class Stream(Attached):
    """A live flow from a server to a host, 20 packets a second both ways for UDP; it runs for up to 300 s. TCP connects again when it has to.

    with Stream("phone-b1", "10.0.0.1", 8443, "tcp") as flow: ...; assert flow.last_packet_age() < 0.5
    """

    def __init__(self, host: str, address: str, port: int, proto: str = "tcp") -> None:
        super().__init__(host, *TOOL, "follow", proto, address, str(port))
        self.last = 0.0
        self.longest = 0.0  # seconds between two packets
        self.connections = 0
        self.first = threading.Event()

    def __enter__(self) -> Stream:
        self.start()
        threading.Thread(target=self.read, daemon=True).start()
        if not self.first.wait(5):
            self.close()
            raise LabError(f"no packet of {' '.join(self.argv[-3:])} came to {self.host} within 5 s")
        return self

    def read(self) -> None:
        for line in self.process.stdout or ():
            if line == "connected\n":
                self.connections += 1
                continue
            now = time.monotonic()
            self.longest = max(self.longest, now - self.last) if self.last else 0.0
            self.last = now
            self.first.set()

    def undisturbed(self) -> bool:
        """Tell whether packets still come, over the first connection."""
        return self.last_packet_age() < 0.5 and self.connections <= 1

    def last_packet_age(self) -> float:
        """Seconds since the last packet came."""
        return time.monotonic() - self.last

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(timeout=10)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
