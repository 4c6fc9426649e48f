# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read back of a cell, as numbers in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..base.names import DIRECT
from ..records.codec import as_list
from . import status

Sample = tuple[str, dict[str, str], int]

# Of each metric, in the order of the output: its type, and what it says.
METRICS = {
    "pic_cell_info": ("gauge", "1, with the cell's name; 0 where this host is not a cell."),
    "pic_cell_read_timestamp_seconds": ("gauge", "When the cell was read, by its own clock, which its handshakes go by."),
    "pic_cell_differences": ("gauge", "Differences between the kernel and the records, as pic-cell check lists them."),
    "pic_cell_warnings": ("gauge", "Things on the host that can keep the cell from working, and record files that cannot be read."),
    "pic_cell_expectations_broken": ("gauge", "What the owner expects of the cell (cell_expect) and does not hold."),
    "pic_cell_link_handshake_timestamp_seconds": ("gauge", "The last handshake of a link, in seconds since the epoch; 0: never."),
    "pic_cell_link_receive_bytes_total": ("counter", "Bytes received through a link since its interface was started."),
    "pic_cell_link_transmit_bytes_total": ("counter", "Bytes sent through a link since its interface was started."),
    "pic_cell_link_shares": ("gauge", "Services that this cell shares with the other (direction out), or the other with this one (direction in)."),
    "pic_cell_link_exit_offered": ("gauge", "Whether this cell offers the other an exit (direction out), or the other this one (direction in)."),
    "pic_cell_link_relaying": ("gauge", "Whether devices of the other cell leave through this one."),
    "pic_cell_link_silent": ("gauge", "Whether a link with keepalives has had no handshake for 3 minutes."),
    "pic_cell_link_pending": ("gauge", "Whether a link waits for its public key or networks, or the other cell has not been told the latest state."),
    "pic_cell_device_handshake_timestamp_seconds": ("gauge", "The last handshake of a device, in seconds since the epoch; 0: never."),
    "pic_cell_device_receive_bytes_total": ("counter", "Bytes received from a device since the interface was started."),
    "pic_cell_device_transmit_bytes_total": ("counter", "Bytes sent to a device since the interface was started."),
    "pic_cell_device_internet": ("gauge", "Whether a device has a way to the internet; 0: its exit is not offered, or carries no traffic."),
    "pic_cell_device_silent": ("gauge", "Whether the exit of a device carries no traffic, or the device leaves directly because none does."),
    "pic_cell_device_pending": ("gauge", "Whether a device waits for an offer of its exit."),
    "pic_cell_device_exit_place": (
        "gauge",
        "The place of the exit in use in the device's list, 1 for the best; 0: it leaves directly and has no list.",
    ),
    "pic_cell_exit_up": ("gauge", "Whether an exit is offered and carries traffic, as far as that is known."),
}
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def metrics(info: Mapping[str, Any]) -> list[str]:
    """Return the lines of the text format. info: what Cell.info returned, with `warnings`."""
    found: dict[str, list[str]] = {name: [] for name in METRICS}
    for name, labels, value in _samples(info):
        found[name].append(f"{name}{_labels(labels)} {int(value)}")
    lines = []
    for name, samples in found.items():
        if samples:
            kind, words = METRICS[name]
            lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}", *samples]
    return lines


def _samples(info: Mapping[str, Any]) -> Iterator[Sample]:
    yield "pic_cell_info", {"cell": info["name"]}, bool(info["name"])
    yield "pic_cell_read_timestamp_seconds", {}, info["read_at"]
    yield "pic_cell_differences", {}, len(info["drift"])
    yield "pic_cell_warnings", {}, len(info["advice"]) + len(info["warnings"])
    yield "pic_cell_expectations_broken", {}, len(status.broken(info))
    for name, link in sorted(info["links"].items()):
        yield from _tunnel("link", name, link)
        yield from _conditions("link", name, status.of_link(name, link, status.read_at(info)))
        if link["given_addresses"]:
            continue  # a provider's exit: it shares nothing and is told nothing
        for direction, shared, offered in (("out", "inbound", "exit_offered"), ("in", "outbound", "remote_exit_offered")):
            labels = {"link": name, "direction": direction}
            yield "pic_cell_link_shares", labels, sum(link["permissions"].get(shared, {}).values())
            yield "pic_cell_link_exit_offered", labels, link[offered]
        yield "pic_cell_link_relaying", {"link": name}, status.relays(link)
    for name, peer in sorted(info["peers"].items()):
        yield from _tunnel("device", name, peer)
        yield from _conditions("device", name, status.of_device(name, info))
        exits, used = as_list(peer["route_via"]), peer["exit"] or DIRECT
        yield "pic_cell_device_internet", {"device": name}, status.has_internet(peer, info)
        yield "pic_cell_device_exit_place", {"device": name, "exit": used}, exits.index(used) + 1 if used in exits else 0
    dead = status.down(info, answering=False)
    for name, found in sorted(info["exits"].items()):
        yield "pic_cell_exit_up", {"exit": name}, found["usable"] and name not in dead


def _tunnel(kind: str, name: str, peer: Mapping[str, Any]) -> Iterator[Sample]:
    for metric, key in (("handshake_timestamp_seconds", "last_handshake"), ("receive_bytes_total", "received"), ("transmit_bytes_total", "sent")):
        yield f"pic_cell_{kind}_{metric}", {kind: name}, peer[key]


def _conditions(kind: str, name: str, holding: Iterable[tuple[str, str]]) -> Iterator[Sample]:
    held = {condition for condition, _what in holding}
    for condition in (status.QUIET, status.PENDING):
        yield f"pic_cell_{kind}_{condition}", {kind: name}, condition in held


def _labels(labels: Mapping[str, str]) -> str:
    pairs = [f'{key}="{value.translate(_ESCAPED)}"' for key, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""
