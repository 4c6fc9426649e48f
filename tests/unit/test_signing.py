# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of pushes and answers."""

from __future__ import annotations

import base64
import hmac

from ansible_collections.pic.cells.plugins.module_utils.parts import signing

PSK = base64.b64encode(b"k" * 32).decode()
USES = (signing.push_key, signing.answer_key)


def test_a_key_comes_from_the_preshared_key_and_both_ends() -> None:
    assert signing.push_key(PSK, "A", "B") == hmac.new(b"k" * 32, b"pic.cells peer-sync v2 push\nA\nB", "sha256").hexdigest()
    assert [use(None, "A", "B") for use in USES] == [None, None]


def test_each_direction_and_each_use_has_a_key_of_its_own() -> None:
    assert len({use(PSK, *ends) for use in USES for ends in (("A", "B"), ("B", "A"), ("A", "C"))}) == 6


def test_a_signature_of_a_push_is_of_its_body() -> None:
    key = signing.push_key(PSK, "A", "B") or ""
    signature = signing.sign_push(key, b"body")
    assert signing.check_push(key, b"body", signature) is True
    assert [signing.check_push(key, b"body", other) for other in ("", "\xff\udcff", signature.upper())] == [False, False, False]
    assert signing.check_push(key, b"bodY", signature) is False
    assert signing.check_push(signing.push_key(PSK, "B", "A"), b"body", signature) is False
    assert signing.check_push(None, b"body", signature) is None


def test_a_signature_of_an_answer_is_good_for_one_push_and_one_status() -> None:
    key = signing.answer_key(PSK, "A", "B") or ""
    signature = signing.sign_answer(key, b"push", 200, b"answer")
    assert signing.check_answer(key, b"push", 200, b"answer", signature) is True
    for push, status, answer in ((b"pusH", 200, b"answer"), (b"push", 409, b"answer"), (b"push", 200, b"answeR")):
        assert signing.check_answer(key, push, status, answer, signature) is False
    assert signing.check_answer(None, b"push", 200, b"answer", "") is None
