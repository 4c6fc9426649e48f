# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a device that a playbook adds, removes or shows: its key, its addresses, the text of its file, and the lines for the inventory.

Raises BadInput, changes nothing. The file itself is for device_files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.names import DIRECT
from ansible_collections.pic.cells.plugins.module_utils.base.networks import parse_address
from ansible_collections.pic.cells.plugins.module_utils.base.wgkeys import GENERATED, check_public_key
from ansible_collections.pic.cells.plugins.module_utils.parts.device_file import Entry, dns_of, free_addresses, render
from ansible_collections.pic.cells.plugins.plugin_utils import schema
from ansible_collections.pic.cells.plugins.plugin_utils.inventory import ADD_DEVICE, REMOVE_DEVICE, ROTATE_KEY, SHOW_DEVICE, as_list, only
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.plugins.plugin_utils.outside import is_misread

NONE = "none"
JOBS = (ADD_DEVICE, REMOVE_DEVICE, SHOW_DEVICE)
INPUTS = ("device", "public_key", "addresses", "dns", "split", "config_dest", "show_qr")
_BY_AWX = ("awx_job_id", "tower_job_id")  # extra vars of each job
_BY_RUNNER = ("AWX_ISOLATED_DATA_DIR", "AWX_PRIVATE_DATA_DIR")  # of ansible-runner, which AWX uses and which keeps what is printed


def read(mesh: Mesh, kind: str, name: str, asked: Mapping[str, Any], via: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Read what is asked for one device: what the job holds of it, and warnings. asked: with booleans read already."""
    if kind == REMOVE_DEVICE:
        return {"item": {"name": name, "state": "absent"}}, []
    if is_misread(name):
        raise BadInput(f"device: {name!r} is a name that YAML reads as a number, a date, a boolean or null. Choose another name.")
    found: dict[str, Any] = {"split": asked.get("split", False), "show_qr": asked.get("show_qr", False)}
    if "public_key" in asked:
        found["public_key"] = check_public_key("public_key", asked["public_key"])
    if "addresses" in asked:
        found["addresses"] = [str(parse_address(text, "addresses")) for text in schema.listed(asked["addresses"])]
    if "dns" in asked:
        texts = schema.listed(asked["dns"])
        found["dns"] = [] if texts == [NONE] else [str(parse_address(text, f"dns (addresses, or {NONE})")) for text in texts]
    if "config_dest" in asked:
        found["config_dest"] = asked["config_dest"]
        if "public_key" in found and kind != SHOW_DEVICE:
            raise BadInput("config_dest is where a private key goes that is made here, but with public_key the device has made its own. Leave out one of them.")
    if kind != SHOW_DEVICE and keeps_output(mesh.extra) and not {"public_key", "config_dest"} & found.keys():
        raise BadInput(
            "This job's output is kept and its files are not, so a private key made here would be lost. Make the key on the device (in the WireGuard app: "
            "add an empty tunnel; elsewhere: wg genkey) and give its public half as public_key. Or give config_dest, a path that outlives the job."
        )
    return {"device": found}, [_unused_exit(name, via)] if found["split"] and any(exit_ != DIRECT for exit_ in via) else []


def _unused_exit(name: str, via: list[str]) -> str:
    exits = ", ".join(exit_ for exit_ in via if exit_ != DIRECT)
    return f"Device {name!r} is routed via {exits}, but with a split tunnel its internet traffic never comes to its cell. For the exit, leave split out."


def keeps_output(extra: Mapping[str, Any]) -> bool:
    """Tell whether what this run prints is kept by AWX or by ansible-runner."""
    return any(name in extra for name in _BY_AWX) or any(os.environ.get(name) for name in _BY_RUNNER)


@dataclass(frozen=True)
class Written:
    """The device's file as it is there already. text: without the key. public_key: that of its private one."""

    path: str
    public_key: str
    addresses: list[str]
    text: str


@dataclass(frozen=True)
class Device:
    """A device as it is going to be. public_key: "(generated)" where it is made in this run."""

    name: str
    public_key: str
    addresses: list[str]
    dns: list[str]
    split: bool
    cell: Entry
    preshared: bool  # whether it has to know a preshared key

    def text(self, private_key: str | None = None) -> str:
        """Return its file. private_key: None for what may be shown."""
        return render(self.cell, self.name, self.addresses, self.dns, self.split, private_key, self.preshared)


def stated(mesh: Mesh, host: str, name: str) -> dict[str, Any]:
    """Return what the inventory states of a device, empty where nothing is or it is absent."""
    peers = (peer for peer in mesh.var(host, "cell_peers") or () if peer["name"] == name and peer.get("state") != "absent")
    return dict(next(peers, {}))


def choose(mesh: Mesh, job: Mapping[str, Any], answer: Mapping[str, Any], written: Written | None) -> Device:
    """Decide on a device's key and addresses. answer: of pic_cell_device. Raises BadInput where what is known of it contradicts itself."""
    host, name, asked = job["host"], job["peer"], job["device"]
    cell, known, planned = _entry(mesh, host, answer), answer["device"] or {}, stated(mesh, host, name)
    if job["job"] == SHOW_DEVICE and not known and not planned:
        raise BadInput(f"Cell {job['cell']!r} has no device {name!r}. Add it (pic.cells.add_device), or correct the name.")
    rotates = job["job"] == ROTATE_KEY
    if rotates and not known:
        raise BadInput(f"Cell {job['cell']!r} has no device {name!r} whose key could be changed. Add it (pic.cells.add_device), or correct the name.")
    if rotates and (known["preshared"] or planned.get("preshared_key")):
        raise BadInput(
            f"Device {name!r} has a preshared key, which no playbook writes into a file. Make both keys yourself, state public_key and preshared_key in "
            "cell_peers, and run pic.cells.site."
        )
    unset = [key for key in _OF_SITE if planned.get(key)]
    if job["job"] == ADD_DEVICE and not known and unset:
        raise BadInput(
            f"The inventory states {', '.join(unset)} for device {name!r} of {job['cell']!r}, which pic.cells.add_device does not set. "
            "Run pic.cells.site, which sets all of it; the item needs the device's public_key and addresses for that."
        )
    sources = (
        ("public_key", asked.get("public_key"), None),
        (f"the file {written.path if written else ''}", *((written.public_key, written.addresses) if written else (None, None))),
        (f"the record of cell {job['cell']!r}", None if rotates else known.get("public_key"), known.get("addresses")),
        ("cell_peers of the inventory", *((None, None) if rotates else (planned.get("public_key"), planned.get("addresses")))),
        ("addresses", None, asked.get("addresses")),
    )
    away = ", move that file away" if written else ""
    remedy = f"Remove the device first (pic.cells.remove_device, and its lines in cell_peers){away}, or correct one of them."
    key = _agreed(f"Device {name!r} has two public keys", [(who, one) for who, one, _addresses in sources], remedy)
    addresses = _agreed(f"Device {name!r} has two sets of addresses", [(who, _sorted(many)) for who, _key, many in sources], remedy)
    if addresses is None:
        addresses = free_addresses(cell.networks, [*answer["taken"], *_stated_elsewhere(mesh, host, name)], cell.cell)
    dns = asked.get("dns")
    dns = dns_of(cell, addresses, asked["split"]) if dns is None else dns
    preshared = bool(known.get("preshared") or planned.get("preshared_key"))
    device = Device(name, key or GENERATED, addresses, dns, asked["split"], cell, preshared)
    device.text()  # refuses a cell that nobody can dial
    return device


def item_of(job: Mapping[str, Any], device: Device) -> dict[str, Any]:
    """Return the device as an item of cell_peers."""
    return only({"name": device.name, "public_key": device.public_key, "addresses": device.addresses, "route_via": job["via_cell"] or None}, *_ITEM)


def inventory_lines(mesh: Mesh, job: Mapping[str, Any], device: Device) -> list[str]:
    """Return the lines for cell_peers; where the inventory has them already, a sentence that says so."""
    host, item = job["host"], item_of(job, device)
    planned = stated(mesh, host, device.name)
    if job["job"] == ROTATE_KEY and planned.get("public_key") != device.public_key:
        return [f"state this key for {device.name} in cell_peers of host {host}:", f"  public_key: {device.public_key}"]
    if job["job"] == ROTATE_KEY or all(
        _sorted(planned.get(key)) == value if key == "addresses" else as_list(planned.get(key)) == as_list(value) for key, value in item.items()
    ):
        return [f"cell_peers of host {host} has {device.name} already"]
    lines = [f"{key}: {value if isinstance(value, str) else _flow(value)}" for key, value in item.items()]
    return [f"add these lines to cell_peers of host {host}:", *(f"{'- ' if not number else '  '}{line}" for number, line in enumerate(lines))]


def _flow(values: list[str]) -> str:
    """Return a list as YAML has it in one line. Single quotes: in what Ansible prints others would need a backslash, and lines are to be copied."""
    return f"[{', '.join(repr(value) if ':' in value else value for value in values)}]"


_ITEM = ("name", "public_key", "addresses", "route_via")
_OF_SITE = ("preshared_key", "route_except", "exit_dns", "networks")  # what else can be stated of a device


def _entry(mesh: Mesh, host: str, answer: Mapping[str, Any]) -> Entry:
    """Return what the cell says of the way in to it, with what the inventory states anew."""
    fields = {key: answer[key] for key in Entry.__dataclass_fields__}
    found = Entry(**{**fields, "cell": mesh.name(host)})
    new = {key: mesh.var(host, f"cell_{key}") for key in ("endpoint", "listen_port", "networks")}
    resolvers = mesh.var(host, "cell_resolver")
    return replace(found, **{key: value for key, value in new.items() if value}, **({"resolvers": resolvers} if resolvers else {}))


def _agreed(what: str, said: list[tuple[str, Any]], remedy: str) -> Any:
    """Return what all who say something say; None where nobody does."""
    given = [(who, value) for who, value in said if value]
    for who, value in given[1:]:
        if value != given[0][1]:
            first, second = (one if isinstance(one, str) else ", ".join(one) for one in (given[0][1], value))
            raise BadInput(f"{what}: {first} in {given[0][0]}, and {second} in {who}. {remedy}")
    return given[0][1] if given else None


def _sorted(addresses: Any) -> list[str] | None:
    """Return addresses in one spelling and order, IPv4 first; None for none."""
    found = [parse_address(text, "addresses") for text in as_list(addresses)]
    return [str(address) for address in sorted(found, key=lambda address: (address.version, int(address)))] or None


def _stated_elsewhere(mesh: Mesh, host: str, name: str) -> list[str]:
    """Return the addresses that the inventory gives to others of this cell."""
    peers = [peer for peer in mesh.var(host, "cell_peers") or () if peer["name"] != name and peer.get("state") != "absent"]
    services = mesh.var(host, "cell_services") or ()
    texts = [text for item in peers for text in as_list(item.get("addresses"))] + [text for item in services for text in as_list(item.get("address"))]
    return [str(parse_address(text, "address")) for text in (*texts, *mesh.addresses(host), *(mesh.var(host, "cell_resolver") or ()))]
