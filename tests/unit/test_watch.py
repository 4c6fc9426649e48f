# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell that hears what is taken away from it: what an event means, when it looks, and what it does then."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base.command import Result
from ansible_collections.pic.cells.plugins.module_utils.kernel.iptables import parse_save
from ansible_collections.pic.cells.plugins.module_utils.parts import units
from ansible_collections.pic.cells.plugins.module_utils.program import pace, watch
from ansible_collections.pic.cells.plugins.module_utils.program.events import Heard, Interest, interest_of, judge, messages, own_part
from ansible_collections.pic.cells.plugins.module_utils.program.listen import Listener
from ansible_collections.pic.cells.plugins.module_utils.program.pace import Pace
from ansible_collections.pic.cells.plugins.module_utils.program.restore import restore
from ansible_collections.pic.cells.plugins.module_utils.program.watch import Watcher
from ansible_collections.pic.cells.plugins.module_utils.records.store import STATE_DIR
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.world import World

RECORDED = Path(__file__).parent / "kernel_events.txt"
JUMPS = {
    (family, table, chain) for family in (4, 6) for table, chain in (("filter", "FORWARD"), ("filter", "INPUT"), ("nat", "POSTROUTING"), ("mangle", "FORWARD"))
}
INTEREST = Interest("wg0", frozenset({"10.1.0.0/24", "10.1.1.0/24"}), frozenset({(4, "filter"), (4, "nat")}), frozenset(JUMPS))


def recorded() -> dict[str, list[bytes]]:
    """Return what the kernel said, by the command that made it say so."""
    said: dict[str, list[bytes]] = {}
    for line in RECORDED.read_text().splitlines():
        if line.startswith("$ "):
            command = line[2:]
        elif not line.startswith("#"):
            said.setdefault(command, []).append(bytes.fromhex(line))
    return said


def heard(command: str, interest: Interest = INTEREST) -> Heard:
    return max(judge(datagram, interest, lambda _number: "pic-x1" if "pic-x1" in command else "eth0") for datagram in recorded()[command])


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        # our chains and jumps
        ("iptables -t filter -D PIC-HOME 1", Heard.LOSS),
        ("iptables -D FORWARD -j PIC-FWD -m comment --comment 'pic-cells 0123456789'", Heard.LOSS),
        ("iptables -I FORWARD -i wg0 -j ACCEPT", Heard.DOUBTFUL),
        ("nft delete table ip filter", Heard.LOSS),
        ("iptables -P FORWARD DROP", Heard.DOUBTFUL),
        # what docker does for each container
        ("iptables -A FORWARD -s 192.0.2.7 -j ACCEPT", Heard.NOTHING),
        ("iptables -D FORWARD -s 192.0.2.7 -j ACCEPT", Heard.NOTHING),
        ("iptables -t nat -A POSTROUTING -s 172.17.0.2 -d 172.17.0.2 -p tcp --dport 80 -j MASQUERADE", Heard.NOTHING),
        ("iptables -N DOCKERX", Heard.NOTHING),
        ("iptables -A DOCKERX -s 172.17.0.2 -j ACCEPT", Heard.NOTHING),
        ("ip link add veth9 type veth peer name veth9p", Heard.NOTHING),
        ("ip link set veth9 up", Heard.NOTHING),
        ("ip link del veth9", Heard.NOTHING),
        # tables of nft's own
        ("nft add table inet other", Heard.NOTHING),
        ("nft delete table inet other", Heard.NOTHING),
        # policy rules and routes
        ("ip rule del pref 4001 from 10.0.1.2", Heard.LOSS),
        ("ip rule add from 192.0.2.1 lookup 77 pref 30000", Heard.DOUBTFUL),
        ("ip -6 rule add from 2001:db8::1 lookup 77 pref 4005", Heard.DOUBTFUL),
        ("ip route del 10.1.1.0/24 dev pic-x1", Heard.LOSS),
        ("ip route replace 10.1.0.0/24 dev eth0", Heard.LOSS),
        ("ip route add 192.0.2.128/25 dev eth0", Heard.NOTHING),
        ("ip route del default", Heard.DOUBTFUL),
        # our interfaces: with them go routes that nobody hears of
        ("ip addr del 10.0.0.1/32 dev pic-x1", Heard.INTERFACE),
        ("ip link set pic-x1 down", Heard.INTERFACE),
        ("ip link del pic-x1", Heard.INTERFACE),
        ("sysctl -qw net.ipv4.ip_forward=0", Heard.FORWARDING),
    ],
)
def test_what_an_event_of_the_kernel_means(command: str, meaning: Heard) -> None:
    found = heard(command)
    # a link of ours loses routes along with it, which may be heard as well
    assert found == meaning or (meaning == Heard.INTERFACE and found == Heard.LOSS)


def test_a_chain_that_a_foreign_rule_before_ours_leads_to_is_listened_to() -> None:
    command = "iptables -A DOCKERX -s 172.17.0.2 -j ACCEPT"
    ahead = Interest("wg0", chains=frozenset({(4, "filter", "DOCKERX")}))
    assert heard(command, ahead) == Heard.DOUBTFUL
    saved = parse_save(
        "*filter\n:FORWARD ACCEPT\n:A -\n:B -\n:C -\n:PIC-FWD -\n"
        '-A FORWARD -s 192.0.2.1 -j A\n-A FORWARD -m comment --comment "pic-cells 0123456789" -j PIC-FWD\n'
        "-A FORWARD -j C\n-A A -g B\n-A B -j A\n-A B -j LOG\nCOMMIT\n"
    )
    assert [(chain, len(rules)) for _table, chain, rules in own_part(saved)] == [("FORWARD", 2), ("PIC-FWD", 0), ("A", 1), ("B", 2)]


def test_what_cannot_be_understood_means_look() -> None:
    datagram = recorded()["ip rule del pref 4001 from 10.0.1.2"][0]
    for end in range(1, len(datagram)):
        assert judge(datagram[:end], INTEREST, lambda _number: "") >= Heard.DOUBTFUL
    assert judge(b"\x10\0\0\0\x02\0\0\0" + bytes(8), INTEREST, lambda _number: "") == Heard.DOUBTFUL  # NLMSG_ERROR
    assert list(messages(b"")) == []


def test_any_bytes_are_judged() -> None:
    for datagrams in recorded().values():
        for datagram in datagrams[:3]:
            for number in range(min(len(datagram), 120)):
                for value in (0, 1, 0x7F, 0xFF):
                    judge(datagram[:number] + bytes([value]) + datagram[number + 1 :], INTEREST, lambda _number: "eth0")


def test_what_concerns_a_cell_follows_from_its_records_and_rules(linked: World) -> None:
    host = linked["cella"]
    host.iptables(4, "filter", "-A SOMEBODY -s 192.0.2.9 -j LOG", "-I FORWARD 1 -j SOMEBODY", chains=["SOMEBODY"])
    done = restore(host, STATE_DIR, predict=True)
    assert done.repairs == []
    assert done.context
    interest = interest_of(done.context)
    assert {(4, "filter", "FORWARD"), (6, "filter", "INPUT"), (4, "nat", "POSTROUTING"), (4, "filter", "SOMEBODY")} <= interest.chains
    assert (4, "filter", "DOCKER") not in interest.chains
    assert {"10.0.1.0/24", "fd00:b::/64"} <= interest.networks
    assert all(interest.is_ours(name) for name in ("wg0", "pic-cellb"))
    assert not any(interest.is_ours(name) for name in ("eth0", "", "wg1"))
    assert not Interest().is_ours("")


# When it looks


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looked(state: Pace, now: float, cost: float = 0.1, found: tuple[str, ...] = ()) -> str | None:
    """Look as soon as that is due; it takes no time."""
    due = state.due()
    assert due is not None and due <= now + 1e-6, due
    state.begin()
    return state.end(now, cost, found)


def test_the_first_look_is_at_once_and_the_next_a_second_later() -> None:
    state = Pace(0.0)
    looked(state, 0.0)
    assert state.due() is None
    state.heard(Heard.NOTHING, 10.0)
    state.heard(Heard.FORWARDING, 10.0)
    assert state.due() is None
    state.heard(Heard.LOSS, 10.0)
    assert state.due() == 10.0
    looked(state, 10.0, found=("a",))
    state.heard(Heard.LOSS, 10.1)
    assert state.due() == 11.0


def test_an_interface_is_given_time_to_come_back() -> None:
    state = Pace(0.0)
    looked(state, 0.0)
    state.heard(Heard.INTERFACE, 10.0)
    assert state.due() == 10.0 + pace.SETTLE
    state.heard(Heard.LOSS, 10.1)
    assert state.due() == 10.1


def test_looks_that_find_nothing_take_one_percent_of_a_core_and_no_loss_waits_for_them() -> None:
    state, now, cost = Pace(0.0), 0.0, 0.1
    looked(state, now, cost)
    looks = 0
    while now < 600:
        now += 0.1
        state.heard(Heard.DOUBTFUL, now)
        due = state.due()
        assert due is not None
        if due <= now:
            looked(state, now, cost)
            looks += 1
    assert looks * cost <= pace.BURST + 600 * pace.SHARE + cost
    assert looks >= 60
    state.heard(Heard.LOSS, now)
    assert state.due() <= now + pace.GAP


def test_a_rival_is_met_less_and_less_often_and_named_once() -> None:
    state, now = Pace(0.0), 0.0
    looked(state, now)
    times, lines = [], []
    while now < 600:
        now += 0.5
        state.heard(Heard.LOSS, now)
        due = state.due()
        assert due is not None
        if due <= now:
            times.append(now)
            lines.append(looked(state, now, found=("missing: FORWARD -j PIC-FWD", "missing: something else")))
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert gaps[:4] == [1.0] * 4
    assert gaps[-1] == pace.LONGEST
    assert len(times) < 30
    assert [line for line in lines if line] == ["missing: FORWARD -j PIC-FWD"]


def test_damages_of_several_kinds_are_no_rival() -> None:
    state, now = Pace(0.0), 0.0
    looked(state, now)
    for number in range(50):
        now += 1.0
        state.heard(Heard.LOSS, now)
        assert looked(state, now, found=(f"missing: {number}",)) is None


def test_a_rival_that_has_ended_is_forgotten() -> None:
    state = Pace(0.0)
    for _time in range(8):
        due = state.due()
        assert due is not None
        looked(state, due, found=("a",))
        state.heard(Heard.LOSS, due)
    looked(state, state.due() or 0.0)
    state.heard(Heard.LOSS, 10_000.0)
    assert looked(state, 10_000.0, found=("a",)) is None
    state.heard(Heard.LOSS, 10_000.5)
    assert state.due() == 10_001.0


# What it does


class Sources:
    """Stands for what can be heard: a test says it."""

    def __init__(self) -> None:
        self.deaf: list[str] = []
        self.said: list[bytes | None] = []
        self.legacy = False
        self.while_looking: list[bytes | None] = []

    def hear(self, seconds: float | None) -> Iterator[bytes | None]:
        said, self.said = self.said, []
        yield from said

    def hear_legacy(self) -> bool:
        had, self.legacy = self.legacy, False
        return had

    def listen_to_legacy(self) -> None:
        """Nothing has to be done for it."""

    def drop(self) -> None:
        self.said = []


class Watched:
    """A watcher on a fake host, whose unit restore is done at once."""

    def __init__(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.clock, self.sources, self.lines, self.starts = host, Clock(), Sources(), [], 0
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)
        monkeypatch.setattr(watch, "_runs", lambda _program: self.busy)
        self.busy = False
        run = host.run

        def running(argv: Any, *more: Any, **options: Any) -> Any:
            if list(argv) == ["systemctl", "--job-mode=ignore-dependencies", "start", units.RESTORE]:
                self.starts += 1
                host.begun()
                restore(host, STATE_DIR)
                self.sources.said += self.sources.while_looking
                argv = ["systemctl", "show", "--property=ActiveState", "--value", units.RESTORE]
            return run(argv, *more, **options)

        monkeypatch.setattr(host, "run", running)
        self.watcher = Watcher(host, STATE_DIR, self.lines.append, self.sources, self.clock)  # type: ignore[arg-type]

    def after(self, seconds: float, *commands: str) -> None:
        """Let time go by after the kernel has said what commands made it say."""
        for command in commands:
            self.sources.said += recorded()[command]
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.watcher.step()
            self.clock.now += 0.05


@pytest.fixture
def watched(linked: World, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return a watcher on a cell that is as it should be, and has looked."""
    found = Watched(linked["cella"], monkeypatch)
    found.after(0.2)
    linked.reset()
    return found


def looks(host: FakeHost) -> int:
    return [argv[0] for argv in host.log].count("iptables-save")


def asked(host: FakeHost) -> list[list[str]]:
    """Return what the host was asked for, but for the bytes of its links, which are counted all the time."""
    return [argv for argv in host.log if list(argv) != ["wg", "show", "all", "transfer"]]


LOST = "ip rule del pref 4001 from 10.0.1.2"


def test_what_is_lost_is_back_at_once_and_the_change_of_its_own_costs_one_more_look(watched: Watched) -> None:
    host = watched.host
    wanted = host.text()
    host.by_hand("ip -4 rule del from 10.0.0.2 lookup 4200 pref 4001 protocol 201")
    watched.sources.while_looking = recorded()["ip -6 rule add from 2001:db8::1 lookup 77 pref 4005"]
    host.reset()
    watched.after(2.0, LOST)
    assert (host.text(), watched.starts) == (wanted, 1)
    watched.sources.while_looking = []
    host.reset()
    watched.after(5.0)
    assert (host.steps, watched.starts, looks(host)) == ([], 1, 0)


def test_what_happens_while_restore_runs_is_not_lost(watched: Watched) -> None:
    host = watched.host
    wanted, run = host.text(), host.run
    host.by_hand("ip -4 rule del from 10.0.0.2 lookup 4200 pref 4001 protocol 201")
    watched.sources.while_looking = recorded()[LOST]
    again = iter([True])

    def rival(argv: Any, *more: Any, **options: Any) -> Any:
        done = run(argv, *more, **options)
        if "start" in argv and next(again, False):
            host.by_hand("ip -4 rule del from 10.0.0.2 unreachable pref 4002 protocol 201")
        return done

    host.run = rival  # type: ignore[method-assign]
    watched.after(3.0, LOST)
    assert (host.text(), watched.starts) == (wanted, 2)


def test_a_restore_that_had_read_before_is_followed_by_another_one(watched: Watched) -> None:
    """A start joins a run that is at work already, which may not have seen the loss; nothing says anything more of it."""
    host = watched.host
    wanted, run = host.text(), host.run
    late = iter([True])

    def joining(argv: Any, *more: Any, **options: Any) -> Any:
        return Result(0, "") if "start" in argv and next(late, False) else run(argv, *more, **options)

    host.run = joining  # type: ignore[method-assign]
    host.by_hand("ip -4 rule del from 10.0.0.2 lookup 4200 pref 4001 protocol 201")
    watched.after(3.0, LOST)
    assert (host.text(), watched.starts) == (wanted, 1)


def test_nothing_is_started_where_nothing_is_missing(watched: Watched) -> None:
    watched.after(20.0, "ip route del default", "iptables -I FORWARD -i wg0 -j ACCEPT", LOST)
    assert (watched.host.steps, watched.starts) == ([], 0)
    assert looks(watched.host) >= 1


def test_what_docker_does_for_a_container_costs_no_look(watched: Watched) -> None:
    host = watched.host
    host.reset()
    for _container in range(20):
        watched.after(
            1.0,
            "ip link add veth9 type veth peer name veth9p",
            "iptables -A DOCKERX -s 172.17.0.2 -j ACCEPT",
            "iptables -t nat -A POSTROUTING -s 172.17.0.2 -d 172.17.0.2 -p tcp --dport 80 -j MASQUERADE",
            "ip link del veth9",
        )
    assert asked(host) == []


def test_a_look_waits_for_wg_quick_but_not_for_ever(watched: Watched) -> None:
    watched.busy = True
    watched.host.reset()
    watched.after(3.0, "ip link set pic-x1 down")
    assert watched.host.log == []
    watched.after(pace.SETTLE + watch.BUSY_AT_MOST)
    assert looks(watched.host) == 1


def test_a_look_waits_for_a_run_that_changes_records_but_not_for_ever(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    host = watched.host
    host.reset()
    changed = time.time()
    monkeypatch.setattr(watch, "_changed_at", lambda _path: changed)
    monkeypatch.setattr(time, "time", lambda: changed + 1)
    watched.after(5.0, LOST)
    assert asked(host) == []
    watched.after(watch.AT_MOST)
    assert looks(host) >= 1


def test_a_missed_event_means_look(watched: Watched) -> None:
    watched.host.reset()
    watched.sources.said = [None]
    watched.after(1.0)
    assert looks(watched.host) == 1


def test_no_name_is_looked_up(watched: Watched) -> None:
    watched.host.now += 10_000
    watched.host.reset()
    watched.after(1.0, LOST)
    assert looks(watched.host) == 1
    assert [argv for argv in watched.host.log if argv[0] == "getent"] == []


@pytest.mark.parametrize("name", ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"])
def test_forwarding_that_is_turned_off_is_put_back_where_the_role_keeps_it(watched: Watched, name: str) -> None:
    host = watched.host
    host.files[f"/proc/sys/{name}"] = (0o644, "0\n")
    watched.after(1.0, "sysctl -qw net.ipv4.ip_forward=0")
    assert (host.read(f"/proc/sys/{name}") or "").strip() == "1"
    assert (watched.starts, watched.lines) == (1, [])


def test_forwarding_that_nothing_of_ours_keeps_is_said_once(watched: Watched) -> None:
    host = watched.host
    del host.files["/etc/sysctl.d/90-pic-cells.conf"]
    host.files["/proc/sys/net/ipv4/ip_forward"] = (0o644, "0\n")
    for _time in range(3):
        watched.after(1.0, "sysctl -qw net.ipv4.ip_forward=0")
    assert watched.lines == [
        "This host no longer forwards packets: net.ipv4.ip_forward is 0. No packet of a device gets through. Set it with: sysctl -w net.ipv4.ip_forward=1"
    ]


def test_iptables_legacy_is_compared_when_it_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, {"cella": {"cell_networks": ["10.0.0.1/24"]}})
    host = world["cella"]
    host.default = "-legacy"
    world.site()
    wanted = host.text()
    found = Watched(host, monkeypatch)
    found.after(1.0)
    host.reset()
    for _time in range(100):
        found.sources.legacy = True  # somebody else's rules
        found.after(0.1)
    assert (found.starts, 8 <= looks(host) <= 12) == (0, True)
    host.tables["-legacy", 4]["filter"].rules["PIC-FWD"].pop()
    found.sources.legacy = True
    found.after(4.0)
    assert (host.text(), found.starts) == (wanted, 1)


def test_a_host_that_is_no_cell_is_said_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Watched(host, monkeypatch)
    for _time in range(3):
        found.after(10.0, LOST)
    assert (len(found.lines), found.starts) == (1, 0)
    assert "is not a cell" in found.lines[0]


def test_without_systemd_it_restores_by_itself_and_looks_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command as the entry of a container is enough."""
    world = World(tmp_path, {"cella": {"cell_networks": ["10.0.0.1/24"]}})
    host = world["cella"]
    host.remove("/run/systemd/system/x")
    world.site()
    wanted = host.text()
    host.boot()
    found = Watched(host, monkeypatch)
    found.after(3.0)
    assert host.text() == wanted
    assert any("wg0" in line for line in found.lines)
    host.by_hand("wg set wg0 listen-port 51999")
    found.after(61.0)
    assert host.text() == wanted


# The kernel


def test_a_real_kernel_is_heard() -> None:
    """Of what needs no rights: the groups of rtnetlink."""
    listener = Listener()
    assert all(isinstance(line, str) for line in listener.deaf)
    began = time.monotonic()
    assert [datagram for datagram in listener.hear(0.05) if datagram is None] == []
    assert time.monotonic() - began < 5
    listener.drop()


def test_the_lock_of_iptables_legacy_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened for reading only, and its file may be deleted and made anew."""
    lock = tmp_path / "xtables.lock"
    monkeypatch.setattr("ansible_collections.pic.cells.plugins.module_utils.program.listen.LEGACY_LOCK", str(lock))
    listener = Listener()
    listener.listen_to_legacy()
    assert not listener.hear_legacy()
    lock.touch()
    for _time in range(2):
        listener.listen_to_legacy()
        assert not listener.hear_legacy()
        os.close(os.open(lock, os.O_RDONLY))
        assert listener.hear_legacy()
        lock.unlink()
        lock.touch()
        listener.hear_legacy()


@pytest.mark.parametrize(("number", "heard_after"), [(errno.ENOBUFS, [None, b"later"]), (errno.EBADF, [None])])
def test_what_there_was_no_room_for_is_known_to_be_missed(number: int, heard_after: list[bytes | None]) -> None:
    listener = Listener()
    ready, writer = socket.socketpair()
    writer.send(b"x")
    answers = iter([OSError(number, "what recv says"), b"later"])

    class Full:
        def recv(self, _size: int) -> bytes:
            answer = next(answers, BlockingIOError())
            if isinstance(answer, Exception):
                raise answer
            return answer

    with ready, writer:
        for handle in list(listener._sockets):
            listener._poll.unregister(handle)
        listener._sockets[ready.fileno()] = Full()  # type: ignore[assignment]
        listener._poll.register(ready)
        assert list(listener.hear(1)) == heard_after
