# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate of an interface in both directions: what tc says of it, and the plan that leads it there.

What the interface sends waits in a token bucket. The kernel has no queue for what an interface receives, so all of that goes through a device
of its own (ifb) first, with such a bucket too. Policing, fq_codel and cake, which need no such device, are missing in many kernels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.command import Host
from ..base.names import BUCKET_PREFIX, LINK_PREFIX, is_interface
from ..base.rates import bits, render_rate
from .plan import Effect, Plan, Run

TOOL = "tc"
GONE = "*"  # what tc prints of a device that is not there any more
_HANDLE = "5043:"  # tells a bucket of ours from those of others
_LEAST_BURST = 128 * 1024  # bytes; the kernel hands on up to 64 KiB at once
_BURST_SECONDS = 0.01
_LATENCY = "100ms"
_REDIRECT = re.compile(r"mirred \(Egress Redirect to device (\S+)\)")
_FLAGS = frozenset({"BROADCAST", "NOARP"})  # of devices of the type ifb; ip does not show the type with the addresses
_NO_IFB = ("Unknown device type", "Operation not supported")
# The kernel looks for the type of a device before it counts its queues, so nothing is made where there is this type either.
_PROBE = ("ip", "link", "add", "name", BUCKET_PREFIX, "numtxqueues", "65535", "type", "ifb")


Links = Mapping[str, Mapping[str, Any]]  # network interfaces by name, as ip prints them


@dataclass(frozen=True)
class Queue:
    """What tc has for one interface.

    rate: of our bucket, in bits per second; None where there is none. receives: whether what comes in can be filtered.
    target: the device to which a filter sends what comes in.
    """

    rate: int | None = None
    receives: bool = False
    target: str | None = None


@dataclass
class Changes:
    """What changes for interfaces, in the order in which it can be done, and how they are afterwards."""

    made: list[str] = field(default_factory=list)  # for ip
    queued: list[str] = field(default_factory=list)  # for tc
    removed: list[str] = field(default_factory=list)  # for ip
    links: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def bucket_device(interface: str) -> str:
    """Return the device through which goes what an interface of a link receives."""
    return f"{BUCKET_PREFIX}{interface.removeprefix(LINK_PREFIX)}"


def has_device(interface: str, links: Links) -> bool:
    """Tell whether the device for what an interface receives is there."""
    return _is_bucket(bucket_device(interface), links)


def touched(links: Links) -> list[str]:
    """Return the interfaces of links that have a bucket of ours, or may have one, by what ip shows. Costs nothing, so that tc is asked for nothing else."""
    with_device = (f"{LINK_PREFIX}{name.removeprefix(BUCKET_PREFIX)}" for name in links if _is_bucket(name, links))
    with_bucket = (name for name, link in links.items() if name.startswith(LINK_PREFIX) and is_interface(name) and link.get("qdisc") == "tbf")
    return sorted({*with_device, *with_bucket})


def read_queues(host: Host) -> dict[str, Queue]:
    """Read what tc has for each interface; nothing where it is not installed."""
    if not host.has(TOOL):
        return {}
    found: dict[str, Queue] = {}
    for item in host.run_json([TOOL, "-json", "qdisc", "show"]) or []:
        name = str(item.get("dev"))
        queue = found.get(name, Queue())
        if item.get("kind") == "tbf" and item.get("root") and item.get("handle") == _HANDLE:
            found[name] = replace(queue, rate=8 * int(item.get("options", {}).get("rate", 0)))
        elif item.get("kind") == "ingress" and name.startswith(LINK_PREFIX):
            found[name] = replace(queue, receives=True, target=_target(host, name))
    return found


def has_ifb(host: Host) -> bool:
    """Tell whether the kernel can make a device of the type ifb; a module for it is loaded. Nothing is made."""
    if not host.has("ip"):
        return True  # nobody can ask yet
    return not any(words in host.run(_PROBE, ok=(1, 2)).err for words in _NO_IFB)


def change(changes: Changes, interface: str, rate: str | None, links: Links, queues: Mapping[str, Queue], both: bool = True) -> None:
    """Add what leads an interface to a rate, None for no limit. both: whether what it receives can be limited too."""
    wanted, seen = None if rate is None else bits(rate), queues.get(interface, Queue())
    received = _change_received(changes, interface, wanted if both else None, links, queues)
    if interface in links and seen.rate != wanted:
        changes.queued.append(f"qdisc del dev {interface} root" if wanted is None else _bucket(interface, wanted))
    changes.queues[interface] = replace(changes.queues.get(interface, seen), rate=wanted)
    changes.before += _words(interface, seen.rate, received)
    changes.after += _words(interface, wanted, wanted if both else None)


def _change_received(changes: Changes, interface: str, wanted: int | None, links: Links, queues: Mapping[str, Queue]) -> int | None:
    """Add what leads to a rate of what an interface receives. Returns the rate that it has, None where it is not limited."""
    device, seen = bucket_device(interface), queues.get(interface, Queue())
    there = _is_bucket(device, links)
    up, rate = there and "UP" in links[device].get("flags", ()), queues.get(device, Queue()).rate if there else None
    if wanted is None:
        # A filter that leads to a device that is gone drops all, so it ends before its device does.
        if interface in links and seen.receives and (seen.target in (device, GONE) or (there and seen.target is None)):
            changes.queued.append(f"qdisc del dev {interface} ingress")
            changes.queues[interface] = replace(seen, receives=False, target=None)
        changes.removed += [f"link del dev {device}"] if there else []
        changes.links[device] = None
    else:
        changes.made += [] if there else [f"link add name {device} type ifb"]
        changes.made += [] if up else [f"link set dev {device} up"]
        changes.queued += [] if rate == wanted else [_bucket(device, wanted)]
        if not there or seen.target != device:
            changes.queued += [f"qdisc del dev {interface} ingress"] if seen.receives else []
            changes.queued += [f"qdisc add dev {interface} ingress", _filter(interface, device)]
        changes.links[device] = {"ifname": device, "flags": [*sorted(_FLAGS), "UP", "LOWER_UP"]}
        changes.queues.update({device: Queue(wanted), interface: replace(seen, receives=True, target=device)})
    return rate if up and seen.target == device else None


def plan_changes(changes: Changes) -> Plan:
    """Plan the commands for changes: a device before what leads to it, and its end after that of what led to it."""
    plan = Plan()
    for program, lines in (("ip", changes.made), (TOOL, changes.queued), ("ip", changes.removed)):
        if lines:
            plan.steps.append(Run((program, "-batch", "-"), "".join(f"{line}\n" for line in lines)))
    if plan:
        plan.describe(changes.before, changes.after)
        plan.effects += [
            Effect("links", lambda links, _items: _changed_links(links, changes)),
            Effect("queues", lambda queues, _items: {**queues, **changes.queues}),
        ]
    return plan


def plan_removal(links: Links) -> Plan:
    """Plan the end of all devices of ours for what links receive; the interfaces of the links are gone."""
    devices = sorted(name for name in links if _is_bucket(name, links))
    plan = plan_changes(Changes(removed=[f"link del dev {name}" for name in devices], links=dict.fromkeys(devices)))
    plan.effects = plan.effects[:1]
    plan.describe([f"{name}: there" for name in devices], [])
    return plan


def _is_bucket(name: str, links: Links) -> bool:
    return name.startswith(BUCKET_PREFIX) and is_interface(name) and _FLAGS.issubset(links.get(name, {}).get("flags", ()))


def _target(host: Host, interface: str) -> str | None:
    found = _REDIRECT.search(host.run([TOOL, "filter", "show", "dev", interface, "parent", "ffff:"]).out)
    return found[1] if found else None


def _bucket(device: str, rate: int) -> str:
    burst = max(_LEAST_BURST, int(rate / 8 * _BURST_SECONDS))
    return f"qdisc replace dev {device} root handle {_HANDLE} tbf rate {render_rate(rate)} burst {burst} latency {_LATENCY}"


def _filter(interface: str, device: str) -> str:
    return f"filter add dev {interface} parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev {device}"


def _changed_links(links: Mapping[str, dict[str, Any]], changes: Changes) -> dict[str, dict[str, Any]]:
    """Return the interfaces as they are afterwards; of those with a bucket ip shows that."""
    found = {**links, **{name: link for name, link in changes.links.items() if link is not None}}
    for name, link in changes.links.items():
        if link is None:
            found.pop(name, None)
    for name, queue in changes.queues.items():
        if name in found:
            found[name] = {**found[name], "qdisc": "noqueue" if queue.rate is None else "tbf"}
    return found


def _words(interface: str, sent: int | None, received: int | None) -> list[str]:
    lines = [] if sent is None else [f"{interface}: sends at most {render_rate(sent)}"]
    return lines if received is None else [*lines, f"{interface}: receives at most {render_rate(received)}"]
