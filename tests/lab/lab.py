# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laboratory: three cells, their phones and LANs, and an internet that says whom it sees; podman containers with systemd.

It makes containers and networks named pic-lab-*, and touches no others. Keys and logs lie in .build/lab (or $PIC_LAB_STATE).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("PIC_LAB_STATE") or HERE.parents[1] / ".build" / "lab")
PREFIX = "pic-lab-"
LABEL = "pic.cells.lab"
IMAGE = "localhost/pic-cell-lab"
SHOW = f'{{{{.State.Status}}}} {{{{index .Config.Labels "{LABEL}.release"}}}} {{{{index .Config.Labels "{LABEL}.backend"}}}}'
RELEASES = ("bookworm", "trixie")
BACKENDS = ("nft", "legacy")
# Each scenario has cells of another kind; make matrix runs all of them on every kind.
KINDS = {
    "absent": ("trixie", "nft"),
    "awx": ("trixie", "nft"),
    "default": ("bookworm", "nft"),
    "docs": ("bookworm", "nft"),
    "exit_relay": ("trixie", "legacy"),
    "neighbours": ("trixie", "nft"),
    "peer_sync": ("bookworm", "nft"),
    "prediction": ("bookworm", "legacy"),
    "restore": ("bookworm", "nft"),
    "share": ("bookworm", "legacy"),
    "unlink": ("trixie", "legacy"),
}
# how often a test does again what one time would not prove; make matrix sets it to 20
ROUNDS = int(os.environ.get("PIC_LAB_ROUNDS", "3"))
SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME", "")
# The others damage a cell by hand and look at what it does then: there only a run of Ansible may put anything back.
SELF_REPAIR = ("", "docs", "restore", "peer_sync")
PACKAGES = (
    "python3,systemd,systemd-sysv,dbus,iproute2,iptables,nftables,conntrack,wireguard-tools,wireguard-go,"
    "curl,iputils-ping,procps,ca-certificates,tcpdump,kmod,sudo,openssh-server,docker.io,ufw,openresolv,dnsmasq-base"
)
# neighbours of ours that a test starts where it wants them (neighbours.py)
ASLEEP = ("docker.service", "docker.socket", "containerd.service", "ufw.service")
ADMIN = "admin"  # may become root on the cells
INTERNET = ("203.0.113.200", "2001:db8:ffff::200")
GATEWAY = ("198.51.100.254", "2001:db8:113::254")

# of a command in a container
ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "container=podman")
_inits: dict[str, tuple[int, str]] = {}  # each host's first process, and when it was started

os.environ.setdefault("CONTAINERS_CONF", str(HERE / "containers.conf"))


class LabError(Exception):
    """The lab cannot be brought to the state that was asked for."""


# --- topology ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A network without a way out; `bridge` is this machine's own number in it."""

    v4: str
    v6: str
    bridge: int

    def addresses(self, number: int) -> tuple[str, str]:
        return f"{self.v4}.{number}", f"{self.v6}::{number}"


@dataclass(frozen=True)
class Host:
    """One container. `at` is its number in each of its networks, eth0 first (none: no network); `listens` are the echo server's ports."""

    name: str
    at: dict[str, int]
    listens: tuple[str, ...] = ()
    setup: str = ""
    is_cell: bool = False

    @property
    def container(self) -> str:
        return PREFIX + self.name


@dataclass(frozen=True)
class Phone:
    cell: str
    addresses: tuple[str, str]


NETWORKS = {
    # TEST-NET-2: on a machine that reaches its packages by an address of TEST-NET-3 this network must not hide them
    "inet": Network("198.51.100", "2001:db8:113", 1),
    "lan-a": Network("192.168.77", "fd77", 250),
    "lan-b": Network("192.168.78", "fd78", 250),
}
PHONES = {
    "phone-a1": Phone("cella", ("10.0.0.2", "fd00:a::2")),
    "phone-a2": Phone("cella", ("10.0.0.3", "fd00:a::3")),
    "phone-a3": Phone("cella", ("10.0.0.4", "fd00:a::4")),
    "phone-b1": Phone("cellb", ("10.0.1.2", "fd00:b::2")),
}
# shared "files" and "voice", and an unshared port; SSH is there anyway
CELL_LISTENS = ("tcp:8443", "udp:9002", "tcp:8444")


def default_routes(v4: str, v6: str) -> str:
    return f"ip route replace default via {v4}\nip -6 route replace default via {v6}\n"


# A hardened host as its owner left it: the rules of the collection have to do all the work.
CELL_SETUP = (
    "for name in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$name; done\n"
    + "".join(
        f"{tool}-restore <<END\n*filter\n:INPUT DROP\n:FORWARD DROP\n:OUTPUT ACCEPT\n"
        "-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
        f"-A INPUT -p {icmp} -j ACCEPT\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\nEND\n"
        for tool, icmp in (("iptables", "icmp"), ("ip6tables", "ipv6-icmp"))
    )
    + default_routes(*GATEWAY)
)

HOSTS = {
    host.name: host
    for host in (
        Host("internet", {"inet": 254}, ("tcp:80", "udp:9000", "tcp:81", "udp:9001"), "".join(f"ip address replace {own} dev lo\n" for own in INTERNET)),
        Host("cella", {"inet": 11, "lan-a": 1}, CELL_LISTENS, CELL_SETUP, is_cell=True),
        Host("cellb", {"inet": 12, "lan-b": 1}, CELL_LISTENS, CELL_SETUP, is_cell=True),
        Host("cellc", {"inet": 13}, CELL_LISTENS, CELL_SETUP, is_cell=True),
        Host("lan-a", {"lan-a": 10}, ("tcp:80",), default_routes(*NETWORKS["lan-a"].addresses(1))),
        Host("lan-b", {"lan-b": 10}, ("tcp:80",), default_routes(*NETWORKS["lan-b"].addresses(1))),
        Host("phone-a1", {"inet": 21}),
        Host("phone-a2", {"inet": 22}),
        Host("phone-a3", {"inet": 23}, ("tcp:8445", "udp:9003")),
        Host("phone-b1", {"inet": 24}),
        Host("web", {}, ("tcp:80", "tcp:81")),  # a container of cella's docker: neighbours.py puts it on that bridge
    )
}
CELLS = [host for host in HOSTS.values() if host.is_cell]


# --- commands ------------------------------------------------------------------------------------------------------


def run(argv: Sequence[str], stdin: str | bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(argv, input=data, capture_output=True, check=False)
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.returncode:
        raise LabError(f"{' '.join(argv)} ended with exit code {result.returncode}: {(result.stderr or result.stdout).strip()[-2000:]}")
    return result


def podman(*arguments: str, stdin: str | bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(["podman", *arguments], stdin, check)


def inside(host: str, *argv: str, stdin: str | bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a command in a host's container."""
    return run(entering(host, *argv), stdin, check)


def entering(host: str, *argv: str) -> list[str]:
    """The command that runs another in a host's container: as podman exec does, which takes 0.2 s where this takes a hundredth."""
    pid, since = _inits.get(host, (0, ""))
    if not since or _started(pid) != since:
        shown = podman("inspect", "--format", "{{.State.Pid}}", PREFIX + host, check=False).stdout
        pid = int(shown) if shown.strip().isdigit() else 0
        since = _started(pid)
        _inits[host] = (pid, since)
    if not since:
        return ["podman", "exec", "-i", PREFIX + host, *argv]  # says what is wrong with it
    return ["nsenter", "--target", str(pid), "--all", "env", "-i", *ENVIRONMENT, *argv]


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty where there is none. A number is used again, that time is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


# --- image ---------------------------------------------------------------------------------------------------------


def build_images(releases: Iterable[str] = RELEASES) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(build_image, releases))


def build_image(release: str) -> None:
    """Makes the image from Debian's packages alone, unless podman has it."""
    image, spec = f"{IMAGE}:{release}", digest(PACKAGES)
    known = podman("image", "inspect", "--format", f'{{{{index .Labels "{LABEL}"}}}}', image, check=False)
    if not known.returncode and known.stdout.strip() == spec:
        return
    mirror = debian_mirror()
    print(f"lab: making {image} with debootstrap (a minute)", file=sys.stderr)
    root, log = STATE / f"debootstrap-{release}", STATE / f"debootstrap-{release}.log"
    shutil.rmtree(root, ignore_errors=True)
    try:
        with log.open("w") as output:
            bootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(root), *mirror]
            if subprocess.run(bootstrap, stdout=output, stderr=output, env=with_apt_proxy(), check=False).returncode:
                raise LabError(f"debootstrap failed, see {log}: {log.read_text()[-500:]}")
        (root / "etc/machine-id").write_text("")  # each container its own
        run(["chroot", str(root), "systemctl", "disable", *ASLEEP])
        excludes = [f"--exclude=./{path}/*" for path in ("dev", "proc", "sys", "var/cache/apt", "var/lib/apt/lists")]
        with subprocess.Popen(["tar", "--numeric-owner", *excludes, "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as archive:
            imported = subprocess.run(
                ["podman", "import", "-q", "--change", f"LABEL {LABEL}={spec}", "-", image], stdin=archive.stdout, stdout=subprocess.DEVNULL, check=False
            )
        if imported.returncode or archive.returncode:
            podman("image", "rm", image, check=False)
            raise LabError(f"{root} could not be imported as {image}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def debian_mirror() -> list[str]:
    """Where a Debian machine gets its own release from: that is the mirror that is sure to be reachable. On others debootstrap knows one."""
    system = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    if system["ID"] != "debian":
        return []
    release = system["VERSION_CODENAME"]
    targets = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(ORIGIN) $(REPO_URI)", "Created-By: Packages", "Component: main"]).stdout
    for target in targets.splitlines():
        suite, origin, uri = target.split()
        if suite == release and origin in ("Debian", "$(ORIGIN)"):  # unexpanded: not known before the first apt-get update
            if uri.startswith("mirror+file:"):
                uri = Path(uri[len("mirror+file:") :].replace("//", "/").rstrip("/")).read_text().split()[0]
            return [uri]
    raise LabError(f"apt's sources on this machine name no Debian mirror for {release}")


def with_apt_proxy() -> dict[str, str]:
    """debootstrap asks wget, which does not know apt's proxy."""
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        proxy = run(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"]).stdout.strip()[len("P='") : -1]
        if proxy and proxy != "DIRECT":
            environment[f"{scheme}_proxy"] = proxy
    return environment


# --- networks and containers ---------------------------------------------------------------------------------------


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def make_network(name: str) -> None:
    network = NETWORKS[name]
    argv = ["--internal", "--disable-dns", "--ipv6"]
    for subnet, bridge in zip((f"{network.v4}.0/24", f"{network.v6}::/64"), network.addresses(network.bridge)):
        argv += ["--subnet", subnet, "--gateway", bridge]
    spec = digest(argv)
    known = podman("network", "inspect", PREFIX + name, check=False)
    if not known.returncode:
        if json.loads(known.stdout)[0].get("labels", {}).get(LABEL) == spec:
            return
        podman("network", "rm", "-f", PREFIX + name)
    podman("network", "create", *argv, "--label", f"{LABEL}={spec}", PREFIX + name)


def files_of(host: Host, backend: str) -> dict[str, str]:
    """Units rather than commands from outside, so that `podman restart` is a reboot."""
    setup = "set -e\necho 0 >/proc/sys/net/ipv4/ip_forward\necho 0 >/proc/sys/net/ipv6/conf/all/forwarding\n"
    setup += "for file in /etc/sysctl.d/*.conf; do sysctl --quiet --load $file || true; done\n"  # after a restart, what has been set for good
    if host.is_cell:
        setup += f"id {ADMIN} >/dev/null 2>&1 || useradd --create-home --password '*' {ADMIN}\necho '{ADMIN} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{ADMIN}\n"
        setup += "".join(f"update-alternatives --quiet --set {tool} /usr/sbin/{tool}-{backend}\n" for tool in ("iptables", "ip6tables"))
    files = {
        "usr/local/lib/pic-lab/echo_server.py": (HERE / "echo_server.py").read_text(),
        "usr/local/lib/pic-lab/setup.sh": setup + host.setup,
        "etc/systemd/system/pic-lab-setup.service": (
            "[Unit]\nDescription=The lab's base host\nWants=network-pre.target\nBefore=network-pre.target network.target network-online.target\n"
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh /usr/local/lib/pic-lab/setup.sh\n"
        ),
    }
    if host.is_cell:
        # PAM in a container asks for rights that it does not have
        files["etc/ssh/sshd_config.d/pic-lab.conf"] = "UsePAM no\nAuthorizedKeysFile /etc/ssh/pic-lab.pub\n"
        if SCENARIO:  # it would put back what a test takes away before the test has looked; those that are about it take this file away
            files["etc/systemd/system/pic-cell-watch.service.d/pic-lab.conf"] = "[Service]\nExecStart=\nExecStart=sleep infinity\n"
        if SCENARIO not in SELF_REPAIR:
            for job in ("restore", "replay"):  # what another cell is told makes it repair itself too
                files[f"etc/systemd/system/pic-cell-{job}.service.d/pic-lab.conf"] = "[Service]\nExecStart=\nExecStart=true\n"
        files["etc/ssh/pic-lab.pub"] = (STATE / "keys" / "ssh.pub").read_text()
    if host.listens:
        files["etc/systemd/system/pic-lab-echo.service"] = (
            "[Unit]\nDescription=The lab's services\nAfter=pic-lab-setup.service\n"
            f"[Service]\nExecStart=/usr/bin/python3 /usr/local/lib/pic-lab/echo_server.py serve {' '.join(host.listens)}\nRestart=on-failure\n"
        )
    return files


def tar_of(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
            if path.endswith(".service"):
                link = tarfile.TarInfo(f"etc/systemd/system/multi-user.target.wants/{Path(path).name}")
                link.type, link.linkname = tarfile.SYMTYPE, f"/{path}"
                archive.addfile(link)
    return buffer.getvalue()


def create_argv(host: Host) -> list[str]:
    # SYS_ADMIN: systemd 257 starts no unit with a sandbox without it, as that of peer-sync is
    argv = ["--systemd=always", "--cap-add", "NET_ADMIN,NET_RAW,NET_BROADCAST,SYS_ADMIN", "--security-opt", "unmask=/proc/sys", "--device", "/dev/net/tun"]
    argv += ["--name", host.container, "--hostname", host.name, "--stop-timeout", "5"]
    for index, (name, number) in enumerate(host.at.items()):
        v4, v6 = NETWORKS[name].addresses(number)
        # a fixed MAC: the neighbours' ARP entries outlive a recreated container
        mac = f"02:50:49:43:{list(NETWORKS).index(name):02x}:{number:02x}"
        argv += ["--network", f"{PREFIX}{name}:ip={v4},ip={v6},mac={mac},interface_name=eth{index}"]
    return argv if host.at else [*argv, "--network", "none"]


def make_host(host: Host, release: str, backend: str, fresh: bool = False) -> None:
    """Keeps the container if it is the one asked for and stands; else makes it anew."""
    image = podman("image", "inspect", "--format", "{{.Id}}", f"{IMAGE}:{release}").stdout.strip()
    files = files_of(host, backend)
    spec = digest(create_argv(host), files, image)
    if not fresh and stands(host, spec):
        return
    podman("rm", "-f", "-t", "0", "--ignore", host.container)
    labels = ["--label", f"{LABEL}={spec}", "--label", f"{LABEL}.release={release}", "--label", f"{LABEL}.backend={backend if host.is_cell else '-'}"]
    podman("create", *create_argv(host), *labels, image, "/sbin/init")
    podman("cp", "-", f"{host.container}:/", stdin=tar_of(files))
    podman("start", host.container)


def stands(host: Host, spec: str) -> bool:
    wanted = f"true {spec}"
    known = podman("container", "inspect", "--format", f'{{{{.State.Running}}}} {{{{index .Config.Labels "{LABEL}"}}}}', host.container, check=False)
    return known.stdout.strip() == wanted and not inside(host.name, "systemctl", "is-active", "--quiet", "pic-lab-setup.service", check=False).returncode


def wait_until_running(host: Host, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    state = ""
    while time.monotonic() < end:
        state = inside(host.name, "systemctl", "is-system-running", check=False).stdout.strip()  # --wait can miss the moment, and then waits for ever
        if state == "running":
            return
        if state == "degraded":
            break
        time.sleep(0.2)
    failed = inside(host.name, "sh", "-c", "systemctl --failed --plain --no-legend; journalctl -b -p warning -n 10 --no-pager", check=False).stdout
    raise LabError(f"systemd on {host.name} is {state or 'not answering'!r} instead of running: {failed.strip()}")


def make_hosts(hosts: Iterable[Host], release: str, backend: str, fresh: bool = False) -> None:
    def make(host: Host) -> None:
        existed = not fresh and not podman("container", "exists", host.container, check=False).returncode
        before = podman("container", "inspect", "--format", "{{.Id}}", host.container).stdout if existed else ""
        make_host(host, release if host.is_cell else RELEASES[0], backend, fresh)
        if podman("container", "inspect", "--format", "{{.Id}}", host.container).stdout != before:
            wait_until_running(host)

    with ThreadPoolExecutor(max_workers=5) as pool:
        list(pool.map(make, hosts))


# --- keys and phones --------------------------------------------------------------------------------------------------------


def make_ssh_key() -> None:
    """Makes the key with which Ansible logs in to the cells."""
    private = STATE / "keys" / "ssh"
    if not private.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pic-lab", "-f", str(private)])


def make_phone_key(name: str) -> None:
    private, public = STATE / "keys" / name, STATE / "keys" / f"{name}.pub"
    if private.exists() and public.exists():
        return
    key = inside(name, "wg", "genkey").stdout
    with open(os.open(private, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as output:
        output.write(key)
    public.write_text(inside(name, "wg", "pubkey", stdin=key).stdout)


def connect_phone(name: str) -> str | None:
    """Brings a stock WireGuard client up; returns what is wrong, if anything is."""
    phone = PHONES[name]
    cell_key = inside(phone.cell, "wg", "show", "wg0", "public-key", check=False).stdout.strip()
    if not cell_key:
        return f"{name}: {phone.cell} has no wg0 yet, run pic.cells.site first"
    v4, v6 = phone.addresses
    config = (
        f"[Interface]\nPrivateKey = {(STATE / 'keys' / name).read_text().strip()}\nAddress = {v4}/32, {v6}/128\n\n"
        f"[Peer]\nPublicKey = {cell_key}\nEndpoint = {NETWORKS['inet'].addresses(HOSTS[phone.cell].at['inet'])[0]}:51820\n"
        "AllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 5\n"
    )
    script = """umask 077; cat >/run/wg0.new
        if cmp -s /run/wg0.new /etc/wireguard/wg0.conf && systemctl is-active --quiet wg-quick@wg0; then exit 0; fi
        mv /run/wg0.new /etc/wireguard/wg0.conf; systemctl enable --quiet wg-quick@wg0; systemctl restart wg-quick@wg0"""
    inside(name, "sh", "-c", script, stdin=config)
    for dummy in range(50):
        if not inside(name, "wg", "show", "wg0", "latest-handshakes").stdout.endswith("\t0\n"):
            return None
        time.sleep(0.1)
    return f"{name}: no handshake with {phone.cell} within 5 s"


def disconnect_phone(name: str) -> None:
    inside(name, "sh", "-c", "systemctl disable --quiet --now wg-quick@wg0; rm -f /etc/wireguard/wg0.conf")


# --- subcommands ---------------------------------------------------------------------------------------------------


def up(release: str, backend: str) -> None:
    build_images({release, RELEASES[0]})
    for name in NETWORKS:
        make_network(name)
    make_ssh_key()
    make_hosts(HOSTS.values(), release, backend)
    for name in PHONES:
        make_phone_key(name)


def reset(release: str, backend: str) -> None:
    """The cells as on the first day; whatever else is missing is made too."""
    shutil.rmtree(STATE / "ssh", ignore_errors=True)  # Ansible's open connections
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda cell: podman("rm", "-f", "-t", "0", "--ignore", cell.container), CELLS))
    up(release, backend)
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(disconnect_phone, PHONES))


def kind_of(cell: str) -> tuple[str, str]:
    """Returns which release of Debian a cell has, and which kind of iptables."""
    _state, release, backend = podman("inspect", "--format", SHOW, PREFIX + cell).stdout.split()
    return release, backend


def renew(cell: str) -> None:
    """One cell as on the first day, the others as they are."""
    release, backend = kind_of(cell)
    shutil.rmtree(STATE / "ssh", ignore_errors=True)  # Ansible's open connections
    make_hosts([HOSTS[cell]], release, backend, fresh=True)
    for name, phone in PHONES.items():
        if phone.cell == cell:
            disconnect_phone(name)


@contextmanager
def read_only(cell: str, folder: str) -> Iterator[None]:
    """Lets nothing be written into a folder of a host while the block runs; the host itself may not mount."""
    pid = podman("inspect", "--format", "{{.State.Pid}}", PREFIX + cell).stdout.strip()
    inner = ["nsenter", "--target", pid, "--mount", "--pid"]
    run([*inner, "mount", "--bind", folder, folder])
    try:
        run([*inner, "mount", "--options", "remount,ro,bind", folder])
        yield
    finally:
        run([*inner, "umount", folder])


def down() -> None:
    for listing, remove in (
        (["ps", "-a", "--format", "{{.Names}}"], ["rm", "-f", "-t", "0"]),
        (["network", "ls", "--format", "{{.Name}}"], ["network", "rm"]),
    ):
        names = [name for name in podman(*listing, "--filter", f"label={LABEL}").stdout.split() if name.startswith(PREFIX)]
        if names:
            podman(*remove, *names)


def phones() -> None:
    with ThreadPoolExecutor(max_workers=4) as pool:
        wrong = [text for text in pool.map(connect_phone, PHONES) if text]
    if wrong:
        raise LabError("\n".join(wrong))


def demo() -> None:
    """Asks the internet from every phone at once, and shows whose address it saw."""
    from packets import seen_address  # noqa: PLC0415  (it imports this module)

    exits = {"phone-a1": "cellb", "phone-a2": "cellc", "phone-a3": "cella", "phone-b1": "cella"}
    asked = [(phone, family) for phone in PHONES for family in (4, 6)]
    with ThreadPoolExecutor(len(asked)) as pool:
        seen = dict(zip(asked, pool.map(lambda pair: seen_address(*pair), asked)))
    row = "{:<10}{:<22}{:<16}{:<20}{}".format
    print(row("PHONE", "ROUTE", "SEEN (IPv4)", "SEEN (IPv6)", "CHECK"))
    wrong = 0
    for phone, cell in exits.items():
        expected = NETWORKS["inet"].addresses(HOSTS[cell].at["inet"])
        right = (seen[phone, 4], seen[phone, 6]) == expected
        wrong += not right
        way = "direct" if PHONES[phone].cell == cell else f"via {cell}"
        print(
            row(
                phone,
                f"{PHONES[phone].cell}, {way}",
                str(seen[phone, 4]),
                str(seen[phone, 6]),
                f"address of {cell}" if right else f"WRONG, expected {' and '.join(expected)}",
            )
        )
    print("\nLook around: make demo-shell (HOST=cella, cellb, cellc, phone-a1 ...; there: wg, ip rule, iptables-save). Take it down: make demo-down.")
    if wrong:
        raise LabError(f"{wrong} of {len(exits)} phones were not seen with the address of their exit")


def status() -> None:
    row = "{:<10}{:<10}{:<10}{:<8}{:<16}{}".format
    print(row("HOST", "STATE", "RELEASE", "TABLES", "ADDRESS", "WIREGUARD"))
    for host in HOSTS.values():
        known = podman("container", "inspect", "--format", SHOW, host.container, check=False)
        state, release, backend = known.stdout.split() if not known.returncode else ("absent", "-", "-")
        interfaces = inside(host.name, "wg", "show", "interfaces", check=False).stdout.strip() if state == "running" else ""
        address = next((NETWORKS[network].addresses(number)[0] for network, number in host.at.items()), "-")
        print(row(host.name, state, release, backend, address, interfaces or "-"))


def enter(host: str, command: Sequence[str]) -> None:
    terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    os.execvp("podman", ["podman", "exec", "-i", *terminal, PREFIX + host, *command])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lab.py", description=__doc__)
    commands = parser.add_subparsers(dest="job", required=True)
    commands.add_parser("images", help="make the images that are not there")
    kind = KINDS.get(SCENARIO, (RELEASES[0], BACKENDS[0]))
    for job, text in (("up", "make what is missing or broken"), ("reset", "bring the cells back to their first day")):
        command = commands.add_parser(job, help=text)
        command.add_argument("--cells-release", choices=RELEASES, default=os.environ.get("PIC_LAB_CELLS_RELEASE") or kind[0])
        command.add_argument("--backend", choices=BACKENDS, default=os.environ.get("PIC_LAB_BACKEND") or kind[1])
    commands.add_parser("phones", help="connect the phones to their cells")
    commands.add_parser("demo", help="show with whose address each phone is seen")
    commands.add_parser("status", help="show the hosts")
    commands.add_parser("down", help="remove the lab's containers and networks")
    commands.add_parser("shell", help="a shell on a host").add_argument("host", choices=HOSTS)
    command = commands.add_parser("exec", help="run a command on a host: exec HOST -- COMMAND ...")
    command.add_argument("host", choices=HOSTS)
    command.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.job == "status":
        status()
        return 0
    if options.job in ("shell", "exec"):
        command = ["bash", "-l"] if options.job == "shell" else [word for index, word in enumerate(options.command) if index or word != "--"]
        enter(options.host, command)
    (STATE / "keys").mkdir(parents=True, exist_ok=True, mode=0o700)
    (STATE / ".gitignore").write_text("*\n")
    try:
        with (STATE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would remove each other's containers
            if options.job in ("up", "reset"):
                {"up": up, "reset": reset}[options.job](options.cells_release, options.backend)
            else:
                {"images": build_images, "phones": phones, "demo": demo, "down": down}[options.job]()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
