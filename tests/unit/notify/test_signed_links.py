from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.notify.text import signed_links

NUMBERS = st.integers(min_value=0, max_value=2**63 - 1)
NOW = datetime.fromisoformat("2026-11-24T09:15:00+00:00")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    original = environment.current()

    def be(*names: str) -> None:
        changed = replace(original, secret_keys=names)
        monkeypatch.setattr(environment, "current", lambda: changed)

    return be


@pytest.mark.parametrize("token", ["", "a", "====", "nonsense", "ä" * 40, "A" * 5000, "\x00", "AAAA.BBBB", "../../etc"])
def test_what_is_not_a_token_is_rejected(token: str, now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        signed_links.verify(token, now)
    assert caught.value.code == "invalid_link"


@given(NUMBERS, NUMBERS)
def test_a_token_names_its_alert_and_person(alert: int, user: int) -> None:
    assert signed_links.verify(signed_links.sign(alert, user, NOW), NOW) == (alert, user)


@given(NUMBERS, NUMBERS, st.data())
def test_a_token_with_one_bit_changed_is_rejected(alert: int, user: int, data: st.DataObject) -> None:
    token = signed_links.sign(alert, user, NOW)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(Rejected):
        signed_links.verify(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode(), NOW)


def test_a_token_is_valid_for_seven_days_and_no_longer(now: datetime) -> None:
    token = signed_links.sign(42, 7, now)
    assert signed_links.verify(token, now + timedelta(days=7) - timedelta(seconds=1)) == (42, 7)
    with pytest.raises(Rejected) as caught:
        signed_links.verify(token, now + timedelta(days=7, minutes=1))
    assert caught.value.code == "expired_link"


def test_a_token_is_short_and_safe_in_an_address(now: datetime) -> None:
    token = signed_links.sign(123_456, 789, now)
    assert len(token) <= 36
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_link_token_survives_key_rotation_but_not_removal(keys: Callable[..., None], now: datetime) -> None:
    keys("the-old-key-0123456789abcdef0123456789")
    token = signed_links.sign(42, 7, now)
    keys("the-new-key-0123456789abcdef0123456789", "the-old-key-0123456789abcdef0123456789")
    assert signed_links.verify(token, now) == (42, 7)
    keys("the-new-key-0123456789abcdef0123456789")
    with pytest.raises(Rejected):
        signed_links.verify(token, now)
