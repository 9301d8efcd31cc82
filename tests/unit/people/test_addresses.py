"""Address formats of each channel, and their masked display."""

from __future__ import annotations

import pytest

from tocsin.core.errors import Rejected
from tocsin.notify.integrations.ntfy import NtfyChannel
from tocsin.people import addresses


@pytest.mark.parametrize(
    ("channel", "address", "part"),
    [
        ("email", "alice", "not an email address"),
        ("email", "alice@example.org\nBcc: bob@example.org", "no line breaks"),
        ("voice", "+0790000001", "country code"),
        ("sms", "+4179", "country code"),
        ("sms", "+41790000001123456789", "country code"),
        ("ntfy", "two words", "not a topic"),
        ("ntfy", "https://user:pass@ntfy.example.org/topic", "must not contain a user name or password"),
        ("ntfy", "https://ntfy.example.org/", "not a topic"),
        ("ntfy", "http://[::1", "is not a valid URL"),
        ("pigeon", "loft 7", "not a channel. The channels are"),
        ("email", "a" * 500 + "@example.org", "at most 500"),
    ],
)
def test_unusable_address_is_rejected_with_a_reason(channel: str, address: str, part: str) -> None:
    with pytest.raises(Rejected, match=part):
        addresses.validate_address(channel, address)


@pytest.mark.parametrize(
    ("channel", "typed", "stored"),
    [
        ("email", " alice@example.org ", "alice@example.org"),
        ("sms", "+41 79 000 00 01", "+41790000001"),
        ("voice", "0041 (79) 000-00-01", "+41790000001"),
        ("ntfy", "alice_phone", "alice_phone"),
        ("ntfy", "https://ntfy.example.org/alice_phone", "https://ntfy.example.org/alice_phone"),
    ],
)
def test_an_address_is_stored_in_one_form(channel: str, typed: str, stored: str) -> None:
    assert addresses.validate_address(channel, typed) == stored


@pytest.mark.parametrize(
    ("channel", "address", "shown"),
    [
        ("sms", "+41790000001", "+41 79 ••• 01"),
        ("voice", "+13125550142", "+1 31 ••• 42"),
        ("sms", "+420601123456", "+420 60 ••• 56"),
        ("email", "alice@example.org", "a•••@example.org"),
        ("ntfy", "alice_phone", "a•••"),
        ("ntfy", "https://ntfy.example.org/alice_phone", "https://ntfy.example.org/•••"),
        ("new", "", "•••"),
    ],
)
def test_a_masked_address_hides_its_telling_part(channel: str, address: str, shown: str) -> None:
    assert addresses.mask(channel, address) == shown


def test_a_channel_from_elsewhere_brings_its_own_check(monkeypatch: pytest.MonkeyPatch) -> None:
    class RoomChannel(NtfyChannel):
        name = "room"

        def normalize_address(self, text: str) -> str:
            if not text.startswith("#"):
                raise ValueError("A room begins with #.")
            return text.lower()

    monkeypatch.setattr(addresses, "_channels", dict(addresses._channels))
    addresses.register(RoomChannel())
    assert addresses.validate_address("room", "#Ops") == "#ops"
    with pytest.raises(Rejected, match="begins with #"):
        addresses.validate_address("room", "ops")


def test_address_that_is_too_long_to_encrypt_is_rejected() -> None:
    with pytest.raises(Rejected) as rejected:
        addresses.encrypt_address("gotify", "x" * 9, max_bytes=8)
    assert (rejected.value.reason.code, rejected.value.reason.data) == (
        "The address must have at most {maximum} characters.",
        {"maximum": 8},
    )
