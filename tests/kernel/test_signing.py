"""Signatures hold for one payload, one purpose and the secrets of the ring, and nothing else."""

import hmac
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.signing import KeyRing, canonical_json

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 40


@given(payload=st.binary(max_size=200), purpose=st.text(max_size=20))
def test_what_was_signed_verifies(payload: bytes, purpose: str) -> None:
    keys = KeyRing([NEW])
    assert keys.verify(purpose, payload, keys.sign(purpose, payload))


@given(payload=st.binary(max_size=50), other=st.binary(max_size=50))
def test_another_payload_verifies_only_if_it_is_the_same(payload: bytes, other: bytes) -> None:
    keys = KeyRing([NEW])
    assert keys.verify("artifact", other, keys.sign("artifact", payload)) == (other == payload)


def test_a_signature_is_worth_nothing_for_another_purpose() -> None:
    keys = KeyRing([NEW])
    assert not keys.verify("peer-token", b"x", keys.sign("page-token", b"x"))


def test_the_first_secret_signs_and_all_of_them_verify() -> None:
    before, during, after = KeyRing([OLD]), KeyRing([NEW, OLD]), KeyRing([NEW])
    old = before.sign("artifact", b"x")
    assert during.verify("artifact", b"x", old)
    assert after.verify("artifact", b"x", during.sign("artifact", b"x"))


def test_a_retired_secret_is_told_from_a_forgery() -> None:
    old, forged = KeyRing([OLD]).sign("artifact", b"x"), KeyRing([NEW]).sign("artifact", b"y")
    keys = KeyRing([NEW])
    assert not keys.verify("artifact", b"x", old)
    assert not keys.knows(old)
    assert not keys.verify("artifact", b"x", forged)
    assert keys.knows(forged)


@given(text=st.text(max_size=80))
def test_rubbish_is_no_signature(text: str) -> None:
    assert not KeyRing([NEW]).verify("artifact", b"x", text)


def test_another_installation_cannot_sign_for_this_one() -> None:
    theirs = KeyRing([OTHER]).sign("artifact", b"x")
    mine = KeyRing([NEW]).sign("artifact", b"x")
    pasted = mine.split(".")[0] + "." + theirs.split(".")[1]
    assert not KeyRing([NEW]).verify("artifact", b"x", theirs)
    assert not KeyRing([NEW]).verify("artifact", b"x", pasted)


def test_the_derivation_never_changes_so_that_old_signatures_stay_valid() -> None:
    signature = KeyRing([NEW]).sign("artifact", b"x")
    assert signature == "e4e2613b7221.nUYAGnZ5WxhsKixJr95Jg-hqIBKXD6n6xviwepTE6ak"
    extracted = hmac.digest(b"modelyard/1", NEW.encode(), "sha256")
    key = hmac.digest(extracted, b"sign artifact" + b"\x01", "sha256")
    assert urlsafe_b64encode(hmac.digest(key, b"x", "sha256")).decode() == signature[13:] + "="


@pytest.mark.parametrize("secrets", [[], ["short"], [NEW, "changeme"]])
def test_a_missing_or_short_secret_is_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="secret"):
        KeyRing(secrets)


def test_a_setting_holds_several_secrets() -> None:
    both = KeyRing.from_text(f" {NEW} ,{OLD},")
    assert both.verify("artifact", b"x", KeyRing([OLD]).sign("artifact", b"x"))


def test_one_identity_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    assert canonical_json({"a": "é", "b": 1}) == canonical_json({"b": 1, "a": "é"})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})
