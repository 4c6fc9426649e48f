# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import GENERATED
from ansible_collections.pic.cells.plugins.plugin_utils import device_files, devices, known, outside
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import ROTATE_KEY, SHOW_DEVICE
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh

_READ = "__cell_entry"  # the register of pic_cell_device
_STEPS = ("plan", "make", "show")


class ActionModule(ActionBase):
    """Decide on a device's key, addresses and file; make them; show them. The private key is in the file alone, and what is returned goes on to the cell."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the job with what is decided, or fail with one sentence."""
        result = super().run(tmp, task_vars)
        _validated, given = self.validate_argument_spec(argument_spec={"step": {"type": "str", "required": True, "choices": list(_STEPS)}})
        variables = task_vars or {}
        mesh = Mesh(known.without_facts(variables), self._templar.template)
        mesh.job = job = mesh.checked
        # An inventory can have a group of the name that the playbooks give to the one host of a job, and not every key is a device's.
        if mesh.own != job.get("host") or "device" not in job:
            return {**result, "changed": False, "job": job, "lines": []}
        try:
            found = _Work(mesh, job, self._place(variables["hostvars"], job), bool(self._task.check_mode)).carry_out(given["step"])
        except BadInput as error:
            return outside.refused(result, error)
        return {**result, "changed": False, **outside.plain(found, "The device")}

    @staticmethod
    def _place(hostvars: Any, job: dict[str, Any]) -> str | None:
        """Return where the device's file is, or is going to be; None where there is no such place and no need for one."""
        stated, name = job["device"].get("config_dest"), job["peer"]
        place = device_files.place(stated, name) if stated else device_files.default_place(hostvars, job["host"], f"{name}.conf")
        if job["job"] == SHOW_DEVICE or "public_key" in job["device"]:
            return place
        if place is None:
            raise BadInput(f"The inventory of host {job['host']!r} is in no file, beside which that of {name!r} could be. Give config_dest, a path.")
        device_files.check_apart(hostvars, place)
        return place


class _Work:
    """One step for one device."""

    def __init__(self, mesh: Mesh, job: dict[str, Any], path: str | None, check: bool) -> None:
        self.mesh, self.job, self.path, self.check = mesh, job, path or "", check
        self.asked = job["device"]
        self.answer = mesh.register(mesh.own, _READ)
        self._look()

    def _look(self) -> None:
        """Decide by what is on the disk now."""
        self.written = None if "public_key" in self.asked else device_files.look(self.path)
        self.device = devices.choose(self.mesh, self.job, self.answer, self.written)

    def carry_out(self, step: str) -> dict[str, Any]:
        """Return what the step has found and done. Raises BadInput."""
        if step == "plan":
            if self.written and self.job["job"] == ROTATE_KEY:
                raise BadInput(
                    f"{self.path} is there already, with a key of before, and is never overwritten. Move it and its pictures away, or give another config_dest."
                )
            return {"job": self._decided(), "warnings": self._warnings()}
        return self._make() if step == "make" else {"job": self.job, "lines": self._lines(), "warnings": self._shown()}

    @property
    def _makes(self) -> bool:
        """Tell whether a key is to be made: nobody knows one of the device."""
        return self.device.public_key == GENERATED

    @property
    def _fits(self) -> bool:
        """Tell whether a QR code can hold the device's file."""
        return device_files.fits(self.written.text if self.written else device_files.without_key(self.device.text()))

    def _decided(self) -> dict[str, Any]:
        if self._makes:
            device_files.check_place(self.path)
        elif self.written and device_files.missing_images(self.path):
            device_files.check_qr()
        return {**self.job, "item": devices.item_of(self.job, self.device)}

    def _make(self) -> dict[str, Any]:
        """Make what is not there yet."""
        makes = self._makes or bool(self.written and device_files.missing_images(self.path))
        if makes and not self.check:
            if self._makes:
                device_files.make(self.path, self.device.text)
                self._look()
            device_files.make_images(self.path)
        return {"job": self._decided(), "changed": makes}

    def _warnings(self) -> list[str]:
        found: list[str] = []
        if self.written and not self.answer["device"]:
            found.append(
                f"The file {self.path} is there already, and device {self.device.name!r} gets the key that is in it. If that file is of a device that was lost "
                "or removed, run pic.cells.remove_device, delete the file and its pictures, and add it again."
            )
        if self.written and self.written.text != device_files.without_key(self.device.text()):
            found.append(
                f"The file {self.path} is there already and is never overwritten, but what device {self.device.name!r} needs to know is otherwise now. "
                "pic.cells.show_device prints it; change the file by hand, or move it away and add the device anew after pic.cells.remove_device."
            )
        if "public_key" not in self.asked and (self._makes or self.written) and not self._fits:
            found.append(f"The file of device {self.device.name!r} is too large for a QR code, so none is made. Bring {self.path} itself to the device.")
        return found

    def _lines(self) -> list[str]:
        """Return what a person has to know at the end."""
        adds = self.job["job"] != SHOW_DEVICE
        lines = devices.inventory_lines(self.mesh, self.job, self.device) if adds else []
        if not adds or "public_key" in self.asked:
            lines += [f"the file of {self.device.name}, without its private key:", *self.device.text().splitlines()]
        if self.written:
            codes = f" (as QR codes: {', '.join(device_files.images(self.path))})" if self._fits else ""
            lines.append(f"{self.device.name} gets this file, which nobody else may see: {self.path}{codes}")
        elif self._makes and adds:
            lines.append(f"the key of {self.device.name} would be made in {self.path}")
        elif adds and "public_key" not in self.asked:
            lines.append(f"{self.device.name} has its private key already; it is not in {self.path}")
        return lines

    def _shown(self) -> list[str]:
        """Draw the QR code where that is asked for and can be; say how to go on where it cannot."""
        if not self.asked["show_qr"]:
            return []
        if devices.keeps_output(self.mesh.extra):
            return [f"The QR code of {self.device.name!r} holds its private key and is not shown, since what this job prints is kept. See {self.path}."]
        if self.written is None:
            return [f"There is no QR code of {self.device.name!r} to show, since its file is not there ({self.path or 'give config_dest'})."]
        device_files.check_qr()
        if not self._fits:
            return [f"There is no QR code of {self.device.name!r} to show, since {self.path} is too large for one."]
        if device_files.show(self.path):
            return []
        return [f"The QR code of {self.device.name!r} is not shown, since the output of this run is no terminal. See {device_files.images(self.path)[-1]}."]
