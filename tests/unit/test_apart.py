# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnel by which an invitation is redeemed: apart from the host, gone afterwards, and with keys that no message shows."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils import basic

from ansible_collections.pic.cells.plugins.module_utils import module
from ansible_collections.pic.cells.plugins.module_utils.base.command import Host, Result
from ansible_collections.pic.cells.plugins.module_utils.base.errors import CellError, CommandFailed
from ansible_collections.pic.cells.plugins.module_utils.base.names import PAIRING
from ansible_collections.pic.cells.plugins.module_utils.kernel.model import WgPeer
from ansible_collections.pic.cells.plugins.module_utils.program.apart import Tunnel
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key

KEY, PSK = made_key("own"), made_key("preshared")
PEER = WgPeer(made_key("peer"), ["10.0.0.1/32"], "192.0.2.11:51822", 1, PSK)
EXEC = ["ip", "netns", "exec", PAIRING]


class Kernel(Host):
    """A host with namespaces and one interface. native: whether the kernel has WireGuard. late: how often the program in its place is asked in vain."""

    def __init__(self, native: bool = True, late: int = 0) -> None:
        super().__init__("/")
        self.native, self.late = native, late
        self.namespaces: set[str] = set()
        self.place: str | None = None  # of the interface: "" for the host
        self.settings = ""
        self.ways: list[str] = []
        self.forbidden = False  # whether it may have no namespaces

    def run(self, argv: Sequence[str], stdin: str | None = None, ok: Sequence[int] = (0,), timeout: float = 60) -> Result:
        rc, out = self._answer(list(argv), stdin or "")
        if rc not in ok:
            raise CommandFailed(argv, rc, out, stdin)
        return Result(rc, out)

    def _answer(self, argv: list[str], stdin: str) -> tuple[int, str]:
        if argv == ["ip", "netns", "add", PAIRING]:
            assert PAIRING not in self.namespaces
            if self.forbidden:
                return 1, "mount --make-shared /run/netns failed"
            self.namespaces.add(PAIRING)
        elif argv == ["ip", "-n", PAIRING, "link", "delete", "dev", PAIRING]:
            if PAIRING not in self.namespaces:
                return 255, "Cannot open network namespace"
            found, self.place = self.place == PAIRING, None if self.place == PAIRING else self.place
            return (0 if found else 1), ""
        elif argv == ["ip", "netns", "delete", PAIRING]:
            assert self.place != PAIRING  # the kernel would clear it when it comes to it
            found = PAIRING in self.namespaces
            self.namespaces.discard(PAIRING)
            return (0 if found else 1), ""
        elif argv == ["ip", "link", "delete", "dev", PAIRING]:
            found, self.place = self.place == "", None if self.place == "" else self.place
            return (0 if found else 1), ""
        elif argv == ["ip", "link", "add", "dev", PAIRING, "type", "wireguard"] and not self.native:
            return 2, "Error: Unknown device type."
        elif argv in (["ip", "link", "add", "dev", PAIRING, "type", "wireguard"], ["wireguard-go", PAIRING]):
            assert self.place is None
            self.place = ""
        elif argv == ["ip", "link", "set", "dev", PAIRING, "netns", PAIRING]:
            assert self.place == "" and PAIRING in self.namespaces
            self.place = PAIRING
        elif argv == ["wg", "show", PAIRING]:
            there, self.late = self.place is not None, self.late - 1
            return (1 if there == (self.late >= 0) else 0), ""
        elif argv == [*EXEC, "wg", "setconf", PAIRING, "/dev/stdin"]:
            if self.late > 0 or self.place != PAIRING:
                return 1, "Unable to modify interface: Protocol not supported"
            self.settings = stdin
        elif argv == ["ip", "-n", PAIRING, "-batch", "-"]:
            assert self.place == PAIRING
            self.ways += stdin.splitlines()
        elif argv == [*EXEC, "wg", "show", PAIRING, "latest-handshakes"]:
            return 0, f"{PEER.public_key}\t0\n"
        else:
            raise AssertionError(f"the fake kernel does not know: {argv}")
        return 0, ""


@pytest.mark.parametrize("kernel", [Kernel(), Kernel(native=False), Kernel(native=False, late=7)], ids=["kernel", "program", "late program"])
def test_nothing_of_it_is_on_the_host_then_or_afterwards(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with Tunnel(kernel) as tunnel:
        tunnel.be(KEY, "198.18.1.2", PEER)
        assert kernel.place == PAIRING
        assert f"PrivateKey = {KEY}" in kernel.settings and "Endpoint = 192.0.2.11:51822" in kernel.settings
        assert f"route replace 10.0.0.1/32 dev {PAIRING}" in kernel.ways
        assert not tunnel.is_up()
    assert (kernel.namespaces, kernel.place) == (set(), None)


def test_a_host_without_namespaces_says_what_to_do() -> None:
    kernel = Kernel()
    kernel.forbidden = True
    with pytest.raises(CellError, match=r"cannot make one: mount --make-shared /run/netns failed\. Let the other cell redeem"):
        Tunnel(kernel).__enter__()


def test_what_a_killed_run_has_left_is_taken_away() -> None:
    kernel = Kernel()
    Tunnel(kernel).__enter__()
    with Tunnel(kernel):
        assert kernel.place == PAIRING
    assert (kernel.namespaces, kernel.place) == (set(), None)


def test_a_failure_shows_no_key_and_leaves_nothing() -> None:
    kernel, out = Kernel(native=False, late=10**6), io.StringIO()
    given: dict[str, Any] = {"ANSIBLE_MODULE_ARGS": {}}
    with (
        mock.patch.object(basic, "_ANSIBLE_ARGS", json.dumps(given).encode()),
        mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy", create=True),
        mock.patch.object(module, "Host", lambda: kernel),
        mock.patch.object(os, "geteuid", lambda: 0),
        mock.patch.object(time, "sleep", lambda _seconds: None),
        mock.patch.object(basic.AnsibleModule, "log", lambda *_args, **_options: None),
        redirect_stdout(out),
        suppress(SystemExit),
        module.root_host(basic.AnsibleModule(argument_spec={})) as host,
        Tunnel(host) as tunnel,
    ):
        tunnel.be(KEY, "198.18.1.2", PEER)
    said = json.loads(out.getvalue())
    assert said["failed"] and "Protocol not supported" in said["msg"]
    assert KEY not in out.getvalue() and PSK not in out.getvalue()
    assert (kernel.namespaces, kernel.place) == (set(), None)


def test_nothing_is_left_where_ansible_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on dialling with the cell's own key."""
    kernel, handlers = Kernel(), {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    with pytest.raises(SystemExit), Tunnel(kernel):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert signal.SIGHUP in handlers
    assert (kernel.namespaces, kernel.place) == (set(), None)
