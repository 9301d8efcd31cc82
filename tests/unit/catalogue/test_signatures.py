"""Signature schemes of individual tools."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from tocsin.catalogue.kinds import glpi, zammad, zendesk

NOW = datetime(2026, 11, 24, 2, 10, tzinfo=UTC)
BODY = '{"title": "Grüße"}'.encode()
AT = "2026-11-24T02:10:30Z"


def signed_by_zendesk(secret: str = "secret", at: str = AT, body: bytes = BODY) -> dict[str, str]:
    digest = hmac.new(secret.encode(), at.encode() + body, hashlib.sha256).digest()
    return {
        "x-zendesk-webhook-signature": base64.b64encode(digest).decode(),
        "x-zendesk-webhook-signature-timestamp": at,
    }


def test_zendesk_signature_is_verified() -> None:
    assert zendesk.is_signed(BODY, signed_by_zendesk(), "secret", NOW)
    assert not zendesk.is_signed(BODY, signed_by_zendesk("another"), "secret", NOW)
    assert not zendesk.is_signed(BODY + b" ", signed_by_zendesk(), "secret", NOW)
    moved = {**signed_by_zendesk(), "x-zendesk-webhook-signature-timestamp": "2026-11-24T02:10:31Z"}
    assert not zendesk.is_signed(BODY, moved, "secret", NOW)


@pytest.mark.parametrize(
    "headers", [{}, {"x-zendesk-webhook-signature": ""}, {"x-zendesk-webhook-signature": "ü" * 44}]
)
def test_a_request_without_zendesks_headers_is_not_signed(headers: dict[str, str]) -> None:
    assert not zendesk.is_signed(BODY, headers, "secret", NOW)


def test_zendesks_signature_is_the_one_that_openssl_computes() -> None:
    # printf %s '2021-03-25T05:09:27Z{}' | openssl dgst -sha256 -hmac SECRET -binary | base64
    headers = {
        "x-zendesk-webhook-signature": "OhyuASlMysBOYZdC/6lrc3gA+Lv49zMKyTnxzdRguy4=",
        "x-zendesk-webhook-signature-timestamp": "2021-03-25T05:09:27Z",
    }
    assert zendesk.is_signed(b"{}", headers, "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==", NOW)


@pytest.mark.parametrize("given", ["sha1={}", "{}"])
def test_zammad_signature_is_verified(given: str) -> None:
    digest = hmac.new(b"secret", BODY, hashlib.sha1).hexdigest()
    assert zammad.is_signed(BODY, {"x-hub-signature": given.format(digest)}, "secret", NOW)
    assert not zammad.is_signed(BODY + b" ", {"x-hub-signature": given.format(digest)}, "secret", NOW)
    assert not zammad.is_signed(BODY, {"x-hub-signature": given.format(digest)}, "another", NOW)


def test_a_request_without_zammads_header_is_not_signed() -> None:
    assert not zammad.is_signed(BODY, {}, "secret", NOW)
    assert not zammad.is_signed(BODY, {"x-hub-signature": "sha1=ü"}, "secret", NOW)


def test_glpi_signature_is_verified() -> None:
    at = "1795486230"
    digest = hmac.new(b"secret", BODY + at.encode(), hashlib.sha256).hexdigest()
    headers = {"x-glpi-signature": digest, "x-glpi-timestamp": at}
    assert glpi.is_signed(BODY, headers, "secret", NOW)
    assert not glpi.is_signed(BODY, headers, "another", NOW)
    assert not glpi.is_signed(BODY + b" ", headers, "secret", NOW)
    assert not glpi.is_signed(BODY, {**headers, "x-glpi-timestamp": "1795486231"}, "secret", NOW)
    assert not glpi.is_signed(BODY, {}, "secret", NOW)


def test_wrapped_glpi_message_is_unchanged() -> None:
    (message,) = glpi.messages({"event": "new", "item": {"id": 1, "team": [{"role": "assigned"}, 7, None]}}, {})
    assert (message["assigned"], message["requester"]) == ("", "")
    assert glpi.messages(message, {}) == [message]
    for other in ({}, {"item": None}, {"item": {"team": "x"}}):
        assert glpi.messages(other, {})[0] is other
