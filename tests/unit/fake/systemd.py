# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd: our own, and those of WireGuard's interfaces."""

from __future__ import annotations

import re

from ansible_collections.pic.cells.tests.unit.fake.machine import Refused
from ansible_collections.pic.cells.tests.unit.fake.wg import WireGuard

WANTS = "/etc/systemd/system/multi-user.target.wants"


class Systemd(WireGuard):
    """A host with systemctl and journalctl.

    active: units that are. failing: those that come up only to end, again and again. journal: what units have said.
    """

    journal: dict[str, str]

    def boot(self) -> None:
        super().boot()
        self.active: set[str] = set()
        self.failing: set[str] = set()
        for unit in (name for name in self.list(WANTS) if name.startswith("wg-quick@")):
            self.by_hand(f"systemctl restart {unit.removesuffix('.service')}")
        self.active.update(self.list(WANTS.replace("multi-user", "timers")))
        self.active.update(name for name in self.list(WANTS) if name.startswith("pic-cell-") and not name.startswith("pic-cell-restore"))

    def _systemctl(self, words: list[str], stdin: str) -> str:
        if words == ["daemon-reload"]:
            self._step("systemctl daemon-reload", lambda: None)
            return ""
        if words[0] == "restart" and words[1:] in (["pic-cell-serve.service"], ["pic-cell-watch.service"], ["pic-cell-probe.service"]):
            self._step(f"systemctl {' '.join(words)}", lambda: None)
            return ""
        if words[0] == "enable" and words[-1].startswith("pic-cell-"):
            self._step(f"systemctl {' '.join(words)}", lambda: self._enable(words[1:]))
            return ""
        if words[:3] == ["show", "--property=ActiveState", "--value"]:
            return "\n".join("active\n" if unit in self.active else "activating\n" if unit in self.failing else "inactive\n" for unit in words[3:])
        if any("@." in unit for unit in words):
            raise Refused(1, f"Failed to {words[0]} {words[-1]}: Unit name {words[-1]} is missing the instance name.")
        if words[0] == "stop" and all(unit.startswith("pic-cell-") for unit in words[1:]):
            self._step(f"systemctl {' '.join(words)}", lambda: self._stop(words[1:]))
            return ""
        if words[:2] == ["disable", "--now"] and words[-1].startswith("pic-cell-"):
            self._step(f"systemctl {' '.join(words)}", lambda: self._disable(words[2:]))
            return ""
        if words[:2] == ["start", "--no-block"] and words[2].startswith("pic-cell-"):
            self._step(f"systemctl {' '.join(words)}", lambda: None)
            return ""
        if words[0] == "start" and words[1].startswith("pic-cell-") and len(words) == 2:
            self._step(f"systemctl {' '.join(words)}", lambda: self.active.update({words[1]} - self.failing))
            return ""
        words = [word for word in words if word != "--job-mode=ignore-dependencies"]
        if words[0] in ("enable", "restart") and len(words) > 2:
            refused = []
            for unit in words[1:]:  # one that fails keeps none of the others from it
                try:
                    self._systemctl([words[0], unit], "")
                except Refused as refusal:
                    refused.append(refusal)
            if refused:
                raise Refused(refused[0].rc, "".join(refusal.message for refusal in refused))
            return ""
        verb, unit, path = words[0], words[-1], f"{WANTS}/{words[-1]}.service"
        name = unit.partition("@")[2]
        assert unit.startswith("wg-quick@"), unit
        if words == ["enable", unit]:
            self._step(f"systemctl enable {unit}", lambda: self.files.update({path: (0o644, "")}))
        elif words in (["restart", unit], ["disable", "--now", unit]):
            if verb == "disable":
                self._step(f"systemctl disable {unit}", lambda: self.files.pop(path, None))
            try:
                if unit in self.active and name in self.links:  # the unit remains active when somebody has deleted its interface
                    self._wg_quick(["down", name], "")
                if verb == "restart":
                    self._wg_quick(["up", name], "")
            finally:
                if name not in self.links:
                    self.active.discard(unit)
                elif verb == "restart":
                    self.active.add(unit)
        else:
            raise AssertionError(f"the fake host does not know: systemctl {words}")
        return ""

    def _stop(self, names: list[str]) -> None:
        for name in names:
            self.active.discard(name)
            for path, (_mode, text) in list(self.files.items()):  # what requires it stops too
                unit = re.fullmatch(r"/etc/systemd/system/(wg-quick@[^/]+)\.service\.d/[^/]+\.conf", path)
                if unit and f"Requires={name}\n" in text and unit[1] in self.active:
                    self._systemctl(["disable", "--now", unit[1]], "")

    def _disable(self, names: list[str]) -> None:
        for name in names:
            if f"/etc/systemd/system/{name}" not in self.files:
                raise Refused(1, f"Failed to disable unit: Unit file {name} does not exist.")
            self.active.discard(name)
            for path in [path for path in self.files if re.fullmatch(rf"/etc/systemd/system/[^/]+\.wants/{re.escape(name)}", path)]:
                del self.files[path]

    def _enable(self, names: list[str]) -> None:
        for name in names:
            text = self.read(f"/etc/systemd/system/{name}")
            if text is None:
                raise Refused(1, f"Failed to enable unit: Unit file {name} does not exist.")
            for target in (target for line in text.splitlines() if line.startswith("WantedBy=") for target in line.partition("=")[2].split()):
                self.files[f"/etc/systemd/system/{target}.wants/{name}"] = (0o644, "")

    def _journalctl(self, words: list[str], stdin: str) -> str:
        assert words[0] == "-u" and words[2:] == ["-n", "12", "-o", "cat", "--no-pager", "-q"], f"the fake host does not know: journalctl {words}"
        return self.journal.get(words[1], "")
