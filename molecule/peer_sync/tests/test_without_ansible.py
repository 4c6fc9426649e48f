# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell that no run reaches: it is told at once, or as soon as it hears again, and is deaf to everybody else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import lab
from cells import link_record, may_use, sh, switched_off, within
from lab import CELLS, INTERNET, inside
from packets import Sniffer, reaches, seen_address, snapshot
from playbooks import INVENTORY, play

API = "/api/cells/peer-sync/permissions"
OWN = {"cella": "10.0.0.1", "cellb": "10.0.1.1", "cellc": "10.0.2.1"}
EXIT_OF_B = "198.51.100.12"
VOICE = 9002
PERIOD = 60  # seconds: the timer of pic-cell-replay
AT_ONCE = 4  # seconds: root takes over what has come, and then pauses

# Says on a host what it is told to, by a device and from an address of that host; prints what comes back.
SAY = """
import json, socket, sys, time
given = json.load(sys.stdin)
sock = socket.socket(socket.AF_INET6 if ":" in given["to"] else socket.AF_INET, socket.SOCK_STREAM)
sock.settimeout(given["wait"])
try:
    if given["device"]:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, given["device"].encode())
    if given["source"]:
        sock.bind((given["source"], 0))
    sock.connect((given["to"], 8088))
    data = given["head"].encode() + given["body"].encode()
    for number in range(0, len(data), given["step"]):
        sock.sendall(data[number:number + given["step"]])
        time.sleep(given["pause"])
    answer = b""
    while True:
        more = sock.recv(4096)
        if not more:
            break
        answer += more
except OSError as error:
    answer = locals().get("answer", b"") or str(error).encode()
print(answer.decode(errors="replace"))
"""
# Signs as the sending cell does: prints the signature of a body with the key that the link's file leads to.
SIGN = """
import base64, hashlib, hmac, json, re, sys
given = json.load(sys.stdin)
secret = re.search(r"PresharedKey = (\\S+)", open(f"/etc/wireguard/{given['device']}.conf").read())[1]
use = "\\n".join(["pic.cells peer-sync v2 push", *given["keys"]])
key = hmac.new(base64.b64decode(secret), use.encode(), hashlib.sha256).digest()
print(hmac.new(key, given["body"].encode(), hashlib.sha256).hexdigest())
"""
# Idle connections, and garbage on more of them, until its input ends.
CROWD = """
import os, select, socket, sys, time
idle = []
for number in range(200):
    sock = socket.socket()
    sock.settimeout(2)
    sock.connect((sys.argv[1], 8088))
    idle.append(sock)
print("there", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    try:
        with socket.create_connection((sys.argv[1], 8088), 1) as sock:
            sock.sendall(os.urandom(20000))
    except OSError:
        pass
"""
CURL = "curl -s -o /dev/null -w '%{{http_code}} %{{time_total}}' --max-time 5 --interface pic-cellb -H 'X-Pic-Cells-Signature: {}' --data-binary @- "
CURL += f"http://{OWN['cellb']}:8088{API}"


@pytest.fixture(scope="module")
def without_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns an inventory in which cellb is somebody else's: no run can reach it but through the tunnel."""
    inventory = yaml.safe_load(INVENTORY.read_text())
    del inventory["cells"]["hosts"]["cellb"]
    path = tmp_path_factory.mktemp("inventory") / "without_b.yml"
    path.write_text(yaml.safe_dump(inventory))
    return path


def share(inventory: Path, services: str) -> Any:
    """Lets cella share services with cellb, from an inventory that has no cellb."""
    done = play("share", inventory=inventory, cell="cella", remote_cell="cellb", services=services)
    assert done.rc == 0, done.text
    assert "cellb" not in {host for host, _task, _result in done.results}
    return done


# Said at once


@pytest.fixture(scope="module", autouse=True)
def as_stated() -> None:
    """Brings the cells to what the inventory states, whatever was done before."""
    assert play("site").rc == 0
    lab.phones()


def test_a_share_is_known_to_the_other_cell_at_once_without_ansible(without_b):
    share(without_b, "files")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files"})
    share(without_b, "files,voice")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files", "voice"})
    assert reaches("phone-b1", OWN["cella"], VOICE, "udp")


def test_an_offer_and_its_use_are_told_at_once_and_carried_out_by_themselves(without_b):
    assert seen_address("phone-b1", 4) == "198.51.100.11"
    done = play("offer_exit", inventory=without_b, cell="cella", remote_cell="cellb", offered="false")
    assert done.rc == 0, done.text
    assert within(AT_ONCE, lambda: link_record("cellb", "cella")["remote_exit_offered"] is False)
    assert within(AT_ONCE + 3, lambda: link_record("cella", "cellb")["remote_exit_relay_active"] is False)
    with Sniffer("cellb", "eth0", f"dst host {INTERNET[0]} or dst host {INTERNET[1]}") as uplink:
        assert (seen_address("phone-b1", 4), seen_address("phone-b1", 6)) == (None, None)
    assert uplink.lines == []
    assert "cell cella offers no exit now" in sh("cellb", "pic-cell explain phone-b1")
    assert play("offer_exit", inventory=without_b, cell="cella", remote_cell="cellb", offered="true").rc == 0
    assert within(AT_ONCE, lambda: link_record("cellb", "cella")["remote_exit_offered"] is True)
    assert within(10, lambda: seen_address("phone-b1", 4) == "198.51.100.11")


def test_the_end_of_an_exits_use_is_told_at_once(without_b):
    assert link_record("cellb", "cella")["remote_exit_relay_active"] is True
    assert play("route_peer", inventory=without_b, cell="cella", peer="phone-a1", via_cell="direct").rc == 0
    assert within(AT_ONCE, lambda: link_record("cellb", "cella")["remote_exit_relay_active"] is False)
    assert play("route_peer", inventory=without_b, cell="cella", peer="phone-a1", via_cell="cellb").rc == 0
    assert within(AT_ONCE, lambda: link_record("cellb", "cella")["remote_exit_relay_active"] is True)
    assert within(10, lambda: seen_address("phone-a1", 4) == EXIT_OF_B)


# Not reached


def test_a_receiver_that_hangs_fails_no_run_and_is_told_within_a_period(without_b):
    sh("cellb", "systemctl kill --signal=STOP pic-cell-serve")
    share(without_b, "files")
    share(without_b, "voice")
    assert (link_record("cella", "cellb")["pending_push"], link_record("cella", "cellb")["last_push_error"]) == (True, "not reached")
    sh("cellb", "systemctl kill --signal=CONT pic-cell-serve")
    # It may find what was said meanwhile; that cella was not answered is told again all the same.
    assert within(PERIOD, lambda: link_record("cella", "cellb")["pending_push"] is False)
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"voice"})
    assert within(AT_ONCE, lambda: link_record("cellb", "cella")["remote_generation"] == link_record("cella", "cellb")["generation"])
    share(without_b, "files,voice")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files", "voice"})


def test_the_playbook_replay_tells_what_was_not_told(without_b):
    sh("cella", "systemctl stop pic-cell-replay.timer")
    sh("cellb", "systemctl stop pic-cell-serve")
    share(without_b, "voice")
    sh("cellb", "systemctl start pic-cell-serve")
    assert within(10, lambda: "8088" in sh("cellb", "ss -ltn"))
    assert play("replay", inventory=without_b).rc == 0
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"voice"})
    sh("cella", "systemctl start pic-cell-replay.timer")
    share(without_b, "files,voice")


def test_a_cell_that_has_forgotten_its_generation_is_heard_again(without_b):
    sh("cella", 'sed -i \'s/"generation": [0-9]*/"generation": 0/; s/"minted": "[0-9a-f]*"/"minted": null/\' /var/lib/pic/cell_links.json')
    assert link_record("cella", "cellb")["generation"] == 0
    share(without_b, "voice")
    assert within(AT_ONCE + 3, lambda: may_use("cellb", "cella") == {"voice"})
    share(without_b, "files,voice")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files", "voice"})


# Others who speak up


def payload(**changes: Any) -> str:
    """Returns what cella would tell cellb next."""
    link, back = link_record("cella", "cellb"), link_record("cellb", "cella")
    message = {
        "from_cell": "cella",
        "from_public_key": back["public_key"],
        "generation": back["remote_generation"] + 1,
        "permissions": {"outbound": dict.fromkeys(link["permissions"]["inbound"], True)},
        "exit_offered": True,
        "use_as_exit_relay": True,
    }
    return json.dumps({**message, **changes})


def signature(body: str) -> str:
    keys = [link_record("cellb", "cella")["public_key"], link_record("cella", "cellb")["public_key"]]
    return inside("cella", "python3", "-c", SIGN, stdin=json.dumps({"device": "pic-cellb", "keys": keys, "body": body})).stdout.strip()


def say(body: str, host: str = "cella", **more: Any) -> str:
    """Sends a body as cella's own push unless told otherwise; returns the answer, or the error."""
    signed = more.pop("signed", None)
    lines = [f"POST {API} HTTP/1.1", f"Content-Length: {more.pop('length', len(body))}"]
    lines += [f"X-Pic-Cells-Signature: {signature(body) if signed is None else signed}"] if signed != "" else []
    given = {"device": "pic-cellb", "source": OWN["cella"], "to": OWN["cellb"], "body": body, "wait": 8, "step": 1 << 20, "pause": 0}
    given["head"] = "".join(f"{line}\r\n" for line in [*lines, *more.pop("headers", ()), ""])
    return inside(host, "python3", "-c", SAY, stdin=json.dumps({**given, **more})).stdout


def status(answer: str) -> int | None:
    return int(answer.split()[1]) if answer.startswith("HTTP/1.1 ") else None


@pytest.fixture
def unmoved() -> Iterator[None]:
    """Nothing on cellb has changed afterwards, and its receiver is the same process and hears an honest push."""
    settled = snapshot("cellb")
    receiver = sh("cellb", "systemctl show -p MainPID pic-cell-serve")
    yield
    time.sleep(1)
    assert snapshot("cellb") == settled
    assert sh("cellb", "systemctl show -p MainPID pic-cell-serve") == receiver
    assert status(say(payload(generation=1))) == 200


def test_what_the_tests_say_in_cellas_name_would_count(without_b):
    assert status(say(payload(permissions={"outbound": {"camera": True}}))) == 200
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"camera"})
    share(without_b, "files")
    share(without_b, "files,voice")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files", "voice"})


@pytest.mark.usefixtures("unmoved")
def test_a_phone_of_the_linked_cell_is_not_heard():
    body = payload(exit_offered=False)
    answer = say(body, host="phone-a3", device="", source="10.0.0.4", signed=signature(body), wait=3)
    assert status(answer) in (None, 403)


@pytest.mark.usefixtures("unmoved")
def test_a_phone_of_the_cell_itself_and_its_lan_are_not_heard():
    body = payload(exit_offered=False)
    assert status(say(body, host="phone-b1", device="", source="", signed=signature(body), wait=3)) in (None, 403)
    sh("lan-b", f"ip address add {OWN['cella']}/32 dev lo")
    try:
        assert status(say(body, host="lan-b", device="", source=OWN["cella"], signed=signature(body), wait=3)) is None
    finally:
        sh("lan-b", f"ip address del {OWN['cella']}/32 dev lo")


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(
    "how",
    [
        {"signed": ""},
        {"signed": "0" * 64},
        {"changes": {"from_public_key": "x"}},
        {"changes": {"from_cell": "cellc"}},
        {"changes": {"from_cell": "nobody"}},
    ],
    ids=["unsigned", "wrong signature", "wrong key", "another cell's name", "a cell that is not linked"],
)
def test_what_is_not_the_linked_cells_own_is_refused(how):
    assert status(say(payload(exit_offered=False, **how.get("changes", {})), **({"signed": how["signed"]} if "signed" in how else {}))) == 403


def test_a_replay_is_answered_and_ignored(without_b):
    body = payload(permissions={"outbound": {"files": True}})
    signed = signature(body)
    assert '"applied": true' in say(body, signed=signed)
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files"})
    share(without_b, "voice")
    share(without_b, "files,voice")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files", "voice"})
    answer = say(body, signed=signed)
    assert status(answer) == 200
    assert '"applied": false' in answer
    time.sleep(1)
    assert may_use("cellb", "cella") == {"files", "voice"}


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(
    ("body", "more", "wanted"),
    [
        ("x" * 70000, {}, {413, None}),
        ("{}", {"length": 70000}, {413}),
        ("{}", {"length": 10}, {408, None}),
        ("{}", {"length": 1}, {400}),
        ("0\r\n\r\n", {"headers": ["Transfer-Encoding: chunked"]}, {411}),
        ("[" * 60000, {}, {400}),
        ("[]", {}, {400}),
        ("{}", {"headers": ["X: " + "x" * 9000]}, {431}),
        ("{}", {"step": 1, "pause": 0.1}, {408, None}),
    ],
    ids=["oversize", "oversize told", "too little", "too much", "chunked", "deep", "no object", "headers", "slow"],
)
def test_what_is_no_push_is_refused(body, more, wanted):
    assert status(say(body, signed="", **more)) in wanted


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("more", [{"shares": ["files"]}, {"permissions": {"outbound": {}, "inbound": {"files": True}}}, {"networks": ["0.0.0.0/0"]}])
def test_a_push_that_reaches_for_more_is_refused(more):
    assert status(say(payload(**more))) == 400


def test_a_wish_after_the_offer_was_withdrawn_is_refused_and_the_rest_applies(without_b):
    told = link_record("cella", "cellb")["generation"]
    done = play("offer_exit", "--limit", "cellb", cell="cellb", remote_cell="cella", offered="false")
    assert done.rc == 0, done.text
    assert within(AT_ONCE + 3, lambda: link_record("cella", "cellb")["remote_exit_offered"] is False)
    assert within(AT_ONCE + 3, lambda: link_record("cellb", "cella")["remote_exit_relay_active"] is False)
    # cella answers the withdrawal by a push of its own, with the generation that the next line would take.
    assert within(AT_ONCE + 3, lambda: link_record("cellb", "cella")["remote_generation"] > told)
    assert status(say(payload(permissions={"outbound": {}}))) == 409
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == set())
    assert link_record("cellb", "cella")["remote_exit_relay_active"] is False
    assert seen_address("phone-a1", 4) is None
    share(without_b, "files")  # has the generation that was said in cella's name
    share(without_b, "files,voice")
    assert within(AT_ONCE, lambda: may_use("cellb", "cella") == {"files", "voice"})
    assert play("offer_exit", "--limit", "cellb", cell="cellb", remote_cell="cella", offered="true").rc == 0
    assert within(10, lambda: seen_address("phone-a1", 4) == EXIT_OF_B)


def test_among_200_idle_connections_and_garbage_an_honest_push_is_answered_within_a_second():
    crowd = subprocess.Popen(lab.entering("cella", "python3", "-c", CROWD, OWN["cellb"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "there\n"
        body = payload(generation=1)
        signed = signature(body)
        for _time in range(5):
            said = inside("cella", "sh", "-c", CURL.format(signed), stdin=body)
            code, seconds = said.stdout.split()
            assert code == "200"
            assert float(seconds) < 1
        resident = int(sh("cellb", "sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$(systemctl show -p MainPID --value pic-cell-serve)/status"))
        assert resident < 64 * 1024
    finally:
        assert crowd.stdin is not None
        with contextlib.suppress(OSError):
            crowd.stdin.close()
        crowd.wait(timeout=20)


# Keys


def test_every_link_has_one_preshared_key_that_both_ends_have_and_nobody_else():
    keys = {}
    for cell, links in (("cella", ("cellb", "cellc")), ("cellb", ("cella",)), ("cellc", ("cella",))):
        for other in links:
            keys[cell, other] = sh(cell, f"wg show pic-{other} preshared-keys").split()[1]
    assert keys["cella", "cellb"] == keys["cellb", "cella"] != "(none)"
    assert keys["cella", "cellc"] == keys["cellc", "cella"] != "(none)"
    assert keys["cella", "cellb"] != keys["cella", "cellc"]
    for cell in ("cella", "cellb", "cellc"):
        assert not any(key in sh(cell, "cat /var/lib/pic/*.json /var/lib/pic/view/*; journalctl --no-pager") for key in keys.values())


def test_a_preshared_key_is_made_on_neither_cell_while_one_is_off():
    for cell, other in (("cella", "cellc"), ("cellc", "cella")):
        sh(cell, f"sed -i /PresharedKey/d /etc/wireguard/pic-{other}.conf; wg set pic-{other} peer $(wg show pic-{other} peers) preshared-key /dev/null")
    with switched_off("cellc"):
        assert play("site", ansible_ssh_retries="0", ansible_ssh_timeout="3").stats["cella"]["failures"] == 0
        assert sh("cella", "wg show pic-cellc preshared-keys").split()[1] == "(none)"
    assert play("site").rc == 0
    assert sh("cella", "wg show pic-cellc preshared-keys").split()[1] == sh("cellc", "wg show pic-cella preshared-keys").split()[1] != "(none)"


def test_a_run_afterwards_changes_nothing():
    done = play("site")
    assert (done.rc, done.changed) == (0, dict.fromkeys((cell.name for cell in CELLS), 0)), done.text
