# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab relies on while it has no container yet."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.pic.cells.tests.lab import lab


def test_a_container_is_entered_after_its_dead_first_process_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """podman says "running" of containers that were killed together with what watched over them."""
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    known = {"pid": dead.pid}
    monkeypatch.setattr(lab, "podman", lambda *argv, **kwargs: subprocess.CompletedProcess(argv, 0, f"{known['pid']}\n", ""))
    monkeypatch.setattr(lab, "_inits", {})
    lab.entering("cella", "true")
    known["pid"] = os.getpid()
    assert str(os.getpid()) in lab.entering("cella", "true")


def test_a_number_that_another_process_has_now_is_not_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends leaves its number to others."""
    monkeypatch.setattr(lab, "podman", lambda *argv, **kwargs: subprocess.CompletedProcess(argv, 0, "0\n", ""))
    monkeypatch.setattr(lab, "_inits", {"cella": (os.getpid(), "1")})
    assert lab.entering("cella", "true")[0] == "podman"
