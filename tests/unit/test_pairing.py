# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two owners and one invitation: one run each links their cells, whatever of it is lost, and it can be made to mean nothing else."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ansible_collections.pic.cells.plugins.module_utils.base import tokens
from ansible_collections.pic.cells.plugins.module_utils.base.errors import BadInput
from ansible_collections.pic.cells.plugins.module_utils.base.times import render_moment
from ansible_collections.pic.cells.plugins.module_utils.kernel.model import WgPeer
from ansible_collections.pic.cells.plugins.module_utils.parts import claims, peer_sync, signing
from ansible_collections.pic.cells.plugins.module_utils.parts.peer_sync import Push
from ansible_collections.pic.cells.plugins.module_utils.parts.visible import FILE, FOLDER, Delivery, parse_view, render_delivery
from ansible_collections.pic.cells.plugins.module_utils.program import exchange, redeem, spool
from ansible_collections.pic.cells.plugins.module_utils.program.receiver import receive, receive_claim
from ansible_collections.pic.cells.plugins.module_utils.program.requests import Refused
from ansible_collections.pic.cells.plugins.module_utils.records.store import Store
from ansible_collections.pic.cells.plugins.plugin_utils.invitation import read_pairing
from ansible_collections.pic.cells.tests.unit.fake.host import FakeHost
from ansible_collections.pic.cells.tests.unit.fake.wg import made_key, public_key
from ansible_collections.pic.cells.tests.unit.prepared import prepared
from ansible_collections.pic.cells.tests.unit.world import Refusal, World, program

STATE = "/var/lib/pic"
DAY = 24 * 3600


class Wire:
    """The internet between both cells, and the tunnel of who redeems. lost: what of the next attempts is lost on the way, in their order."""

    def __init__(self, inviting: FakeHost) -> None:
        self.inviting, self.lost = inviting, list[str]()
        self.changed: Callable[[bytes], bytes] = lambda body: body
        self.claims: list[bytes] = []

    def interface(self, key: str, peer: WgPeer) -> str | None:
        """Return the interface of the inviting cell that answers who has this private key, as WireGuard would."""
        for name, device in self.inviting.wg.items():
            known = device.peers.get(public_key(key))
            if known and known.psk == peer.preshared_key and device.private and public_key(device.private) == peer.public_key:
                return name
        return None

    def tunnel(self, _host: object) -> Tunnel:
        return Tunnel(self)


class Tunnel:
    """What redeem is given in place of a tunnel of the kernel."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.through = wire, None

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def be(self, private_key: str, source: str, peer: WgPeer) -> None:
        self.through = self.wire.interface(private_key, peer)

    def is_up(self) -> bool:
        return self.through is not None

    def send(self, push: Push) -> dict[str, Any] | None:
        lost = self.wire.lost.pop(0) if self.wire.lost else ""
        if self.through is None or lost == "question":
            return None
        host, body = self.wire.inviting, self.wire.changed(push.body)
        self.wire.claims.append(body)
        delivery = Delivery(self.through, push.sources[0], push.signature or "", body)
        view = parse_view(host.read(f"{STATE}/{FOLDER}/{FILE}") or "")
        try:
            name, status, answer = receive_claim(view, delivery, render_moment(host.now))
        except Refused as error:
            return {"status": error.status, "generation": 0, "reason": str(error)}
        if answer["applied"]:
            host.files[spool.claim_path(exchange.SPOOL, name)] = (0o600, render_delivery(delivery))
            exchange.take_in(host, STATE)
        return None if lost == "answer" else {"status": status, "generation": 0, "reason": answer["reason"]}


@prepared
def mine(tmp_path: Path) -> World:
    world = World(
        tmp_path / "mine", {"cella": {"cell_endpoint": "cella.example.net", "cell_networks": ["10.0.0.1/24", "fd00:a::1/64"], "cell_services": SERVICES}}
    )
    world.site()
    return world


SERVICES = [{"name": "files", "address": "10.0.0.1", "port": 443, "protocol": "tcp"}]


@prepared
def theirs(tmp_path: Path) -> World:
    world = World(tmp_path / "theirs", {"far": {"cell_networks": ["10.9.0.1/24"]}})
    world["far"].dns.update({"cella.example.net": ["192.0.2.11"]})
    world.site()
    return world


@pytest.fixture
def wire(mine: World) -> Iterator[Wire]:
    found = Wire(mine["cella"])
    with mock.patch.object(redeem, "Tunnel", found.tunnel):
        yield found


def invite(mine: World, **given: str) -> tuple[str, str, str]:
    """Invite, and return what the run printed: the token, the secret, and both in one."""
    run = mine.job("link", cell="cella", remote_cell="far", invitation="new", **given)
    (made,) = run.of("cella", "pic_link_invitation")
    host = mine["cella"]
    return made["token"], (host.read(made["key_file"]) or "").strip(), (host.read(made["token_file"]) or "").strip()


def accept(theirs: World, token: str, secret: str = "", **given: str) -> Any:
    return theirs.job("link", cell="far", remote_cell="cella", invitation=token, **({"preshared_key": secret} if secret else {}), **given)


def test_one_run_each_links_two_cells(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine, services="files")
    run = accept(theirs, token, secret, offered="true")
    assert run.said["far"][-1] == "next: nothing is left to do"
    here, there = mine.link("cella", "far"), theirs.link("far", "cella")
    assert (here["public_key"], there["public_key"]) == (theirs.public_key("far"), mine.public_key("cella"))
    assert (here["networks"], there["networks"]) == (["10.9.0.0/24"], ["10.0.0.0/24", "fd00:a::/64"])
    assert "invited_until" not in here
    one, two = mine["cella"].wg["pic-far"].peers, theirs["far"].wg["pic-cella"].peers
    assert list(one) == [theirs.public_key("far")]
    assert one[theirs.public_key("far")].psk == two[mine.public_key("cella")].psk
    assert one[theirs.public_key("far")].psk not in (None, secret)
    assert not mine["cella"].list(f"{STATE}/invitations") and not theirs["far"].list(f"{STATE}/invitations")


def test_one_word_is_enough(mine: World, theirs: World, wire: Wire) -> None:
    _token, _secret, whole = invite(mine)
    run = accept(theirs, whole)
    (said,) = run.registered["far"]["__cell_paired"]["results"]
    assert said["redeemed"] is True
    code = next(line for line in run.said["far"] if line.startswith("code of the invitation: ")).rpartition(" ")[2]
    assert code == tokens.code(tokens.parse_token(whole.partition("-")[2]) or {})
    assert run.said["far"][-1].startswith("next: compare this code with the owner of cella")
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")


def test_the_second_run_of_each_changes_nothing(mine: World, theirs: World, wire: Wire) -> None:
    first = invite(mine)
    mine.reset()
    assert invite(mine) == first
    assert mine.steps() == {}
    accept(theirs, first[0], first[1])
    for world in (mine, theirs):
        world.site()
        world.reset()
    assert accept(theirs, first[0], first[1]).changed == []
    assert mine.site().changed == []
    assert (mine.steps(), theirs.steps()) == ({}, {})


@pytest.mark.parametrize("lost", [["question"], ["answer"], ["question", "answer"], ["answer", "question"]])
def test_whatever_is_lost_on_the_way_the_cells_are_linked(mine: World, theirs: World, wire: Wire, lost: list[str]) -> None:
    token, secret, _whole = invite(mine)
    wire.lost = lost
    accept(theirs, token, secret)
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")


def test_a_run_that_ended_after_the_other_cell_knew_goes_on_where_it_was(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    with mock.patch.object(redeem, "_answers", side_effect=BadInput("killed")), pytest.raises(AssertionError, match="killed"):
        accept(theirs, token, secret)
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")
    accept(theirs, token, secret)
    (peer,) = theirs["far"].wg["pic-cella"].peers.values()
    assert peer.psk == mine["cella"].wg["pic-far"].peers[theirs.public_key("far")].psk


def test_check_mode_says_what_the_runs_do(mine: World, theirs: World, wire: Wire) -> None:
    predicted = mine.job("link", cell="cella", remote_cell="far", invitation="new", check=True)
    assert mine.record("cella", "cell_links.json").get("links", []) == []
    token, secret, _whole = invite(mine)
    (made,) = predicted.of("cella", "pic_link_invitation")
    assert made["changed"] and made["token"] == "" and "pic-far" in json.dumps(made["diff"])
    foreseen = accept(theirs, token, secret, check=True)
    assert ("far", "pic_link_pair") in [(host, task[3:]) for host, task in foreseen.changed]
    assert not wire.claims


def test_who_is_invited_reaches_the_port_of_peer_sync_and_nothing_else(mine: World, wire: Wire) -> None:
    invite(mine, services="files", offered="true")
    link = mine.link("cella", "far")["invitation"]
    (source,) = link["address"]
    inside = [line for line in mine["cella"].text().splitlines() if "-j ACCEPT" in line and re.search(r"PIC-[ILS]-far", line)]
    assert inside
    assert all(f"-s {source}" in line and "--dport 8088" in line for line in inside), inside
    assert mine["cella"].wg["pic-far"].peers[link["public_key"]].allowed == [f"{source}/32"]


@pytest.mark.parametrize("at", [DAY - 60, DAY + 61])
def test_an_invitation_is_over_after_a_day(mine: World, theirs: World, wire: Wire, at: int) -> None:
    token, secret, _whole = invite(mine)
    mine["cella"].now += at
    program(mine["cella"], "restore")
    program(mine["cella"], "restore")
    if at < DAY:
        accept(theirs, token, secret)
        assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")
        return
    assert (mine.link("cella", "far")["public_key"], "pic-far" in mine["cella"].wg) == (None, False)
    assert mine["cella"].list(f"{STATE}/invitations") == []
    with pytest.raises(AssertionError, match="is over or was withdrawn"):  # a controller whose clock is wrong
        accept(theirs, token, secret)
    assert invite(mine)[0] != token


def test_an_invitation_that_is_over_is_refused_before_the_other_cell_is_asked(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    with mock.patch("time.time", lambda: mine["cella"].now + DAY + 1), pytest.raises(BadInput, match="was good until"):
        accept(theirs, token, secret)


def test_a_used_invitation_is_of_no_use_to_anybody_else(mine: World, theirs: World, wire: Wire, tmp_path: Path) -> None:
    token, secret, _whole = invite(mine)
    accept(theirs, token, secret)
    third = World(tmp_path / "third", {"far": {"cell_networks": ["10.8.0.1/24"]}})
    third["far"].dns.update({"cella.example.net": ["192.0.2.11"]})
    third["far"].name = "another"
    third.site()
    with pytest.raises(AssertionError, match="redeemed by somebody else, is over or was withdrawn, or that cell cannot be reached"):
        accept(third, token, secret)
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")


def test_an_unlinked_invitation_is_withdrawn(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    mine.job("unlink", cell="cella", remote_cell="far")
    assert mine["cella"].list(f"{STATE}/invitations") == []
    with pytest.raises(AssertionError, match="was withdrawn"):
        accept(theirs, token, secret)


def test_a_site_run_in_between_leaves_an_invitation_alone(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    mine.inventory["cella"]["cell_links"] = [{"name": "far", "networks": ["10.9.0.0/24"], "share": ["files"]}]
    mine.site()
    program(mine["cella"], "restore")
    accept(theirs, token, secret)
    assert mine.link("cella", "far")["networks"] == ["10.9.0.0/24"]


def test_an_invitation_of_the_other_kind_takes_its_place(mine: World, theirs: World, wire: Wire) -> None:
    """Where the inviting cell cannot be reached the owners can still tell each other."""
    invite(mine)
    theirs.inventory["far"]["cell_endpoint"] = ""
    told = theirs.job("link", cell="far", remote_cell="cella", invitation="new").of("far", "pic_link_invitation")[0]
    assert told["token"] == ""
    mine.job("link", cell="cella", remote_cell="far", invitation=tokens.render_token(tokens.TOLD, told["invitation"]), preshared_key=made_key("agreed"))
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")
    assert "invited_until" not in mine.link("cella", "far")


def claim(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps({**json.loads(body), **changes}, sort_keys=True).encode()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"networks": ["8.8.8.0/24"]}, "neither private"),
        ({"networks": ["10.9.0.0/24", "0.0.0.0/0"]}, "is the whole"),
        ({"networks": ["10.0.0.0/8"]}, "wider than /16"),
        ({"networks": ["172.16.0.0/12"]}, "wider than /16"),
        ({"networks": ["fd00::/32"]}, "wider than /48"),
        ({"networks": ["10.0.0.0/24"], "address": ["10.0.0.9"], "api_url": None}, "cannot be those of a link there"),
        ({"networks": [f"10.9.{n}.0/24" for n in range(9)]}, "1 to 8"),
        ({"networks": []}, "1 to 8"),
        ({"networks": "10.9.0.0/24"}, "1 to 8"),
        ({"networks": [7]}, "networks of the claim"),
        ({"address": ["10.8.0.1"], "api_url": None}, "in none of its networks"),
        ({"api_url": "http://192.0.2.1:80"}, "at none of its addresses"),
        ({"api_url": "http://10.9.0.1:8088/\r\nHost: x"}, "api_url"),
        ({"name": "else"}, "The invitation is for cell 'far'"),
        ({"name": "x" * 70000}, "Cell"),
        ({"name": "../../etc"}, "Cell"),
        ({"endpoint": "10.9.0.1:51821; id"}, "endpoint"),
        ({"endpoint": "10.9.0.1:51821"}, "cannot be those of a link there"),
        ({"public_key": made_key("x")[:-2]}, "not a WireGuard key"),
        ({"preshared_key": "short"}, "preshared key"),
        ({"preshared_key": None}, "preshared key"),
        ({"more": 1}, "exactly the fields"),
    ],
)
def test_what_an_invitation_does_not_allow_is_refused_with_the_reason(mine: World, theirs: World, wire: Wire, changes: dict[str, Any], sentence: str) -> None:
    token, secret, _whole = invite(mine)
    before = mine["cella"].text()
    change = claim(**changes)

    def send(tunnel: Tunnel, push: Push) -> dict[str, Any] | None:
        key = signing.claim_key(secret, public_key(claims.one_time_key(secret)), mine.public_key("cella")) or ""
        body = change(push.body)
        return original(tunnel, replace(push, body=body, signature=signing.sign_push(key, body)))

    original = Tunnel.send
    with mock.patch.object(Tunnel, "send", send), pytest.raises(AssertionError, match="refuses this invitation: ") as told:
        accept(theirs, token, secret)
    assert sentence in str(told.value) and secret not in str(told.value)
    after = mine["cella"].text()
    kept = [line for line in before.splitlines() if line.startswith(("wg ", "rule", "link ")) or "PIC-" in line]
    assert [line for line in after.splitlines() if line.startswith(("wg ", "rule", "link ")) or "PIC-" in line] == kept
    accept(theirs, token, secret)  # what is wrong can be put right
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")


def test_an_unsigned_claim_and_one_from_elsewhere_are_forbidden(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    wire.changed = claim(networks=["10.7.0.0/24"], address=["10.7.0.1"], api_url=None)
    with pytest.raises(AssertionError, match="does not answer"):
        accept(theirs, token, secret)
    assert (len(wire.claims) > 1, mine.link("cella", "far")["public_key"]) == (True, None)
    view = parse_view(mine["cella"].read(f"{STATE}/{FOLDER}/{FILE}") or "")
    for interface, source in (("pic-far", "10.9.0.1"), ("eth0", mine.link("cella", "far")["invitation"]["address"][0])):
        with pytest.raises(Refused):
            receive_claim(view, Delivery(interface, source, "", b"{}"), render_moment(mine["cella"].now))


def test_root_judges_what_a_taken_over_receiver_hands_over(mine: World, theirs: World, wire: Wire) -> None:
    invite(mine)
    (source,) = mine.link("cella", "far")["invitation"]["address"]
    body = claims.render_claim({"name": "far", "public_key": made_key("evil"), "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"]}, made_key("evil psk"))
    view = parse_view(mine["cella"].read(f"{STATE}/{FOLDER}/{FILE}") or "")
    before = mine["cella"].text()
    # All that the receiver has been given.
    keys = [key for key in (view.push_keys["far"], view.answer_keys["far"]) if key]
    for signature in ("", "00" * 32, *(signing.sign_push(key, body) for key in keys)):
        mine["cella"].files[spool.claim_path(exchange.SPOOL, "far")] = (0o600, render_delivery(Delivery("pic-far", source, signature, body)))
        exchange.take_in(mine["cella"], STATE)
        assert mine["cella"].text() == before


def test_an_older_version_reads_a_link_that_nobody_has_redeemed_as_one_without_a_key(mine: World) -> None:
    """After a downgrade nobody would end it, or keep the shares from whoever has the invitation."""
    invite(mine, services="files", offered="true")
    link = mine.link("cella", "far")
    assert (link["public_key"], link["networks"], link["address"], link["remote_api_url"]) == (None, [], [], None)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda token, secret: (token[:-3], secret), "incomplete, or was changed"),
        (lambda token, secret: (token, ""), "needs its secret"),
        (lambda token, secret: (token, made_key("another")), "do not belong together"),
        (lambda token, secret: (remade(token, endpoint="evil.example.net:51821"), secret), "do not belong together"),
        (lambda token, secret: (remade(token, public_key=made_key("evil")), secret), "do not belong together"),
        (lambda token, secret: (remade(token, **{"for": "other"}), secret), "is for cell 'other', but cell=far"),
        (lambda token, secret: (remade(token, source=7), secret), "incomplete, or was changed"),
        (lambda token, secret: (remade(token, until="never"), secret), "until of The invitation"),
    ],
)
def test_a_token_that_is_not_what_was_made_is_refused_in_one_sentence(
    mine: World, theirs: World, wire: Wire, spoil: Callable[[str, str], tuple[str, str]], sentence: str
) -> None:
    token, secret, _whole = invite(mine)
    theirs.reset()
    with pytest.raises(BadInput, match=re.escape(sentence)):
        accept(theirs, *spoil(token, secret))
    assert theirs.steps() == {}


def remade(token: str, **changes: Any) -> str:
    said = tokens.parse_token(token.partition("-")[2])
    assert said is not None
    return tokens.render_token(tokens.REDEEMED, {**said, **changes})


def test_codes_of_two_tokens_differ(mine: World) -> None:
    token, _secret, whole = invite(mine)
    other = remade(whole, public_key=made_key("evil"), secret=made_key("evil secret"))
    said = [tokens.parse_token(text.partition("-")[2]) or {} for text in (token, whole, other)]
    assert tokens.code(said[0]) == tokens.code(said[1]) != tokens.code(said[2])
    assert read_pairing(token, "far", said[1]["secret"]) == {"source": said[0]["source"]}


@pytest.mark.parametrize(
    "endpoint",
    [
        *("127.0.0.1:22", "localhost:5000", "[::1]:9", "0.0.0.0:1", "224.0.0.1:9"),
        *("10.0.0.1:51820", "10.0.0.77:1", "zoned.example:9", "nowhere.example:9"),
    ],
)
def test_an_endpoint_that_leads_to_no_other_host_is_refused_and_ends_nothing(mine: World, theirs: World, wire: Wire, endpoint: str) -> None:
    _token, secret, _whole = invite(mine)
    mine["cella"].dns.update({"localhost": ["127.0.0.1"], "zoned.example": ["fe80::1%2"]})
    theirs.inventory["far"]["cell_endpoint"] = ""
    change = claim(endpoint=endpoint)
    body = change(claims.render_claim({"name": "far", "public_key": made_key("f"), "networks": ["10.9.0.0/24"], "address": ["10.9.0.1"]}, made_key("p")))
    key = signing.claim_key(secret, public_key(claims.one_time_key(secret)), mine.public_key("cella")) or ""
    (source,) = mine.link("cella", "far")["invitation"]["address"]
    delivery = Delivery("pic-far", source, signing.sign_push(key, body), body)
    mine["cella"].files[spool.claim_path(exchange.SPOOL, "far")] = (0o600, render_delivery(delivery))
    exchange.take_in(mine["cella"], STATE)
    assert mine["cella"].list(exchange.SPOOL) == []
    link = mine.link("cella", "far")
    assert link["public_key"] is None
    assert "cannot be those of a link there" in link["judged_claim"][1]
    assert program(mine["cella"], "restore")[0] == 0


def test_what_a_claim_collides_with_is_for_the_owner_of_the_cell_alone(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    mine["cella"].add_link("secret0", "10.9.0.9/24")
    with pytest.raises(AssertionError, match="cannot be those of a link there") as told:
        accept(theirs, token, secret)
    assert "secret0" not in str(told.value)


@pytest.mark.parametrize("admin", ["10.9.0.0/24", "10.9.0.7/32", "10.0.0.0/8"])
def test_nobody_claims_what_the_cell_is_managed_from(mine: World, theirs: World, wire: Wire, admin: str) -> None:
    mine.inventory["cella"]["cell_admin_networks"] = [admin]
    mine.site()
    token, secret, _whole = invite(mine)
    with pytest.raises(AssertionError, match="cannot be those of a link there"):
        accept(theirs, token, secret)
    assert mine.link("cella", "far")["public_key"] is None


def test_nobody_who_invites_claims_what_the_cell_is_managed_from(mine: World, theirs: World, wire: Wire) -> None:
    theirs.inventory["far"]["cell_admin_networks"] = ["10.0.0.0/24"]
    theirs.site()
    token, secret, _whole = invite(mine)
    with pytest.raises(BadInput, match=r"overlaps 10\.0\.0\.0/24, from where this cell is managed"):
        accept(theirs, token, secret)


@pytest.mark.parametrize("admins", [["nonsense"], [7], "10.0.0.0/24 ", ["fd00::/8"], [None], [["10.0.0.0/24"]]])
def test_what_the_owner_has_mistyped_of_it_is_no_traceback(mine: World, theirs: World, wire: Wire, admins: Any) -> None:
    token, secret, _whole = invite(mine)
    theirs.inventory["far"]["cell_admin_networks"] = admins
    try:
        accept(theirs, token, secret)
    except (BadInput, AssertionError) as error:
        assert "admin_networks" in str(error), error


def test_a_cell_whose_first_network_is_of_ipv6_is_asked_by_that(tmp_path: Path) -> None:
    cell = {"cell_endpoint": "cella.example.net", "cell_networks": ["fd00:a::1/64", "10.0.0.1/24"]}
    world = World(tmp_path, {"cella": cell})
    world.site()
    said = tokens.parse_token(invite(world)[0].partition("-")[2]) or {}
    assert said["api_url"].startswith("http://[fd00:a::1]") and ":" in said["source"]


def test_two_invitations_have_addresses_of_their_own(mine: World) -> None:
    mine.job("link", cell="cella", remote_cell="far", invitation="new")
    mine.job("link", cell="cella", remote_cell="other", invitation="new")
    links = [mine.link("cella", name)["invitation"]["address"] for name in ("far", "other")]
    assert links[0] != links[1]
    with mock.patch.object(claims.zlib, "crc32", lambda _name: 7):
        first = claims.temporary_address("a", 4, ())
        assert claims.temporary_address("b", 4, {first}) != first


def test_a_word_with_a_secret_that_is_redeemed_by_nobody_is_refused(mine: World, theirs: World) -> None:
    """Whoever changes the word on its way cannot make a run that prints no code to compare."""
    said = {"name": "cella", "public_key": made_key("evil"), "networks": ["10.0.0.0/24"], "address": ["10.0.0.1"], "endpoint": "192.0.2.66:51821"}
    for value in (tokens.render_token(tokens.TOLD, {**said, "secret": made_key("s")}), json.dumps({**said, "secret": made_key("s")})):
        with pytest.raises(BadInput, match="incomplete, or was changed"):
            accept(theirs, value)
    run = accept(theirs, tokens.render_token(tokens.TOLD, said))
    assert f"code of the invitation: {tokens.code(said)}" in run.said["far"]


def test_a_key_that_is_stated_for_the_link_leaves_the_invitation_alone(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    mine.inventory["cella"]["cell_links"] = [{"name": "far", "preshared_key": made_key("stated")}]
    mine.site()
    accept(theirs, token, secret)
    assert mine.link("cella", "far")["public_key"] == theirs.public_key("far")


def test_a_key_without_networks_ends_an_invitation(mine: World, wire: Wire) -> None:
    invite(mine, services="files")
    mine.inventory["cella"]["cell_links"] = [{"name": "far", "public_key": made_key("told")}]
    mine.site()
    link = mine.link("cella", "far")
    assert (link["networks"], link["address"], "invitation" in link) == ([], [], False)


@pytest.mark.parametrize("until", ["garbage", 7, "2026-12-01\n"])
def test_a_record_with_an_invitation_that_is_none_is_not_read(mine: World, until: Any) -> None:
    invite(mine)
    path = f"{STATE}/cell_links.json"
    record = json.loads(mine["cella"].read(path) or "")
    record["links"][0]["invitation"]["invited_until"] = until
    mine["cella"].files[path] = (0o600, json.dumps(record))
    rc, said, _errors = program(mine["cella"], "check")
    assert rc == 3
    assert "cell_links.json" in said


def test_what_is_expected_of_a_link_waits_until_its_invitation_is_redeemed(mine: World, theirs: World, wire: Wire) -> None:
    mine.inventory["cella"]["cell_expect"] = [{"from": "far", "to": "files@cella"}]
    token, secret, _whole = invite(mine, services="files")
    mine.site()
    assert program(mine["cella"], "check")[0] == 0
    accept(theirs, token, secret)
    assert program(mine["cella"], "check")[0] == 0
    with pytest.raises(Refusal, match="far to files@cella is allowed"):
        mine.job("share", cell="cella", remote_cell="far", services="none")


def test_who_is_invited_can_say_nothing_but_its_claim(mine: World) -> None:
    """The key of the invitation signs pushes too; a wish for the exit, or a share, in one counts for nothing."""
    _token, secret, _whole = invite(mine, services="files", offered="true")
    once, (source,) = public_key(claims.one_time_key(secret)), mine.link("cella", "far")["invitation"]["address"]
    said = {"from_cell": "far", "from_public_key": once, "generation": 1, "permissions": {"outbound": {}}, "exit_offered": True, "use_as_exit_relay": True}
    body = peer_sync.render_push(said)
    signature = signing.sign_push(signing.push_key(secret, once, mine.public_key("cella")) or "", body)
    delivery, before = Delivery("pic-far", source, signature, body), mine["cella"].text()
    with pytest.raises(Refused):
        receive(parse_view(mine["cella"].read(f"{STATE}/{FOLDER}/{FILE}") or ""), delivery)
    mine["cella"].files[spool.path(exchange.SPOOL, "far", 1)] = (0o600, render_delivery(delivery))
    exchange.take_in(mine["cella"], STATE)
    assert mine["cella"].text() == before


def test_a_cell_is_repaired_while_the_other_one_is_waited_for(mine: World, theirs: World, wire: Wire) -> None:
    token, secret, _whole = invite(mine)
    locked = []
    with mock.patch.object(Tunnel, "__enter__", lambda tunnel: locked.append(is_locked(theirs["far"])) or tunnel):
        accept(theirs, token, secret)
    assert locked == [False]


def is_locked(host: FakeHost) -> bool:
    """Tell whether somebody works on the cell of a host."""
    done = threading.Event()

    def take() -> None:
        with Store(host, STATE).lock(create=False):
            done.set()

    threading.Thread(target=take, daemon=True).start()
    return not done.wait(2)
