"""Test tokens: their user, integration and lifetime."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.config import crypto
from tocsin.core.errors import Rejected
from tocsin.inbound import ingest_service


def test_test_token_identifies_its_user_and_is_unique(now: datetime) -> None:
    text, made = ingest_service.issue_test_token(7, 42, now)
    assert ingest_service.check_test_token(text, 7, now) == made
    assert made.user_id == 42
    assert ingest_service.issue_test_token(7, 42, now)[1].id != made.id


def test_a_pass_ends_after_a_minute(now: datetime) -> None:
    text, _ = ingest_service.issue_test_token(7, 42, now)
    ingest_service.check_test_token(text, 7, now + timedelta(seconds=59))
    with pytest.raises(Rejected, match="valid for 1 minute and has expired"):
        ingest_service.check_test_token(text, 7, now + timedelta(minutes=1))


def test_a_pass_opens_no_other_integration(now: datetime) -> None:
    text, _ = ingest_service.issue_test_token(7, 42, now)
    with pytest.raises(Rejected, match="another integration"):
        ingest_service.check_test_token(text, 8, now)


def test_a_pass_with_any_character_changed_is_refused(now: datetime) -> None:
    text, _ = ingest_service.issue_test_token(7, 42, now)
    for index, character in enumerate(text.rstrip("=")):
        other = "A" if character != "A" else "B"
        with pytest.raises(Rejected):
            ingest_service.check_test_token(text[:index] + other + text[index + 1 :], 7, now)


@given(st.text(max_size=120) | st.text("abcdefghijklmnopqrstuvwxyz-_=", min_size=60, max_size=90))
def test_whatever_stands_in_its_place_is_refused_and_no_error(text: str) -> None:
    with pytest.raises(Rejected):
        ingest_service.check_test_token(text, 7, datetime.fromisoformat("2026-11-24T09:15:00+00:00"))


def test_a_pass_that_an_older_key_signed_still_counts(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    text, made = ingest_service.issue_test_token(7, 42, now)
    (old,) = crypto.secret_keys()
    monkeypatch.setattr(crypto, "secret_keys", lambda: ("a-newer-key-0123456789abcdef0123456789", old))
    assert ingest_service.check_test_token(text, 7, now) == made
    monkeypatch.setattr(crypto, "secret_keys", lambda: ("a-newer-key-0123456789abcdef0123456789",))
    with pytest.raises(Rejected):
        ingest_service.check_test_token(text, 7, now)
