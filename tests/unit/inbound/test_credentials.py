"""Credentials that an integration requires in addition to its URL."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from tocsin.core.errors import Rejected
from tocsin.core.net.imap import ImapSecurity
from tocsin.inbound.admin.secrets import mailbox_account
from tocsin.inbound.config.compiled_integration import ADDRESS, Credentials, CredentialStatus

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NETWORKS = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("address", "proof"),
    [
        ("192.0.2.7", CredentialStatus.VALID),
        ("::ffff:192.0.2.7", CredentialStatus.VALID),
        ("2001:db8::1", CredentialStatus.VALID),
        ("198.51.100.1", CredentialStatus.INVALID),
        ("", CredentialStatus.INVALID),
        (None, CredentialStatus.INVALID),
        ("not an address", CredentialStatus.INVALID),
    ],
)
def test_only_addresses_of_the_networks_may_send(address: str | None, proof: CredentialStatus) -> None:
    credentials = Credentials(networks=NETWORKS)
    assert credentials.are_required
    assert credentials.check({}, b"", address=address) == {ADDRESS: proof}


def test_senders_own_scheme_replaces_the_plain_signature() -> None:
    credentials = Credentials(signature_header="X-Sign", signature_secret="s")

    def is_signed(body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> bool:
        return headers["x-sign"] == f"{secret}:{body.decode()}:{now:%Y}"

    assert credentials.check({"x-sign": "s:b:2026"}, b"b", is_signed=is_signed, now=NOW) == {
        "x-sign": CredentialStatus.VALID
    }
    assert credentials.check({"x-sign": "s:c:2026"}, b"b", is_signed=is_signed, now=NOW) == {
        "x-sign": CredentialStatus.INVALID
    }
    assert credentials.check({}, b"b", is_signed=is_signed, now=NOW) == {"x-sign": CredentialStatus.MISSING}


SIGNED_WITH_TIME = Credentials(signature_header="X-Sign", signature_secret="s", timestamp_header="X-Time")


def signed(time: str, body: bytes, mark: str = ":") -> dict[str, str]:
    digest = hmac.new(b"s", f"{time}{mark}".encode() + body, hashlib.sha256).hexdigest()
    return {"x-sign": digest, "x-time": time}


@pytest.mark.parametrize("mark", [":", "."])
@pytest.mark.parametrize("late", [-299, 0, 299])
def test_signature_covers_a_fresh_time(mark: str, late: int) -> None:
    at = NOW - timedelta(seconds=late)
    for time in (str(int(at.timestamp())), str(int(at.timestamp()) * 1000), at.isoformat()):
        proofs = SIGNED_WITH_TIME.check(signed(time, b"body", mark), b"body", now=NOW)
        assert proofs == {"x-sign": CredentialStatus.VALID, "x-time": CredentialStatus.VALID}


@pytest.mark.parametrize("late", [-301, 301, 86_400])
def test_recorded_request_is_refused_later(late: int) -> None:
    time = str(int((NOW - timedelta(seconds=late)).timestamp()))
    proofs = SIGNED_WITH_TIME.check(signed(time, b"body"), b"body", now=NOW)
    assert proofs == {"x-sign": CredentialStatus.VALID, "x-time": CredentialStatus.INVALID}


def test_time_cannot_be_changed_or_left_out() -> None:
    recorded = signed(str(int(NOW.timestamp()) - 600), b"body")
    fresh = {**recorded, "x-time": str(int(NOW.timestamp()))}
    assert SIGNED_WITH_TIME.check(fresh, b"body", now=NOW)["x-sign"] is CredentialStatus.INVALID
    plain = {"x-sign": hmac.new(b"s", b"body", hashlib.sha256).hexdigest()}
    assert SIGNED_WITH_TIME.check(plain, b"body", now=NOW) == {
        "x-sign": CredentialStatus.INVALID,
        "x-time": CredentialStatus.MISSING,
    }


@pytest.mark.parametrize("time", ["", "soon", "9" * 13, "1" * 40, "2026-11-24T00:00:00", "-1", "１７", "\u0661"])
def test_unreadable_time_is_refused(time: str) -> None:
    assert (
        SIGNED_WITH_TIME.check({"x-sign": "", "x-time": time}, b"body", now=NOW)["x-time"] is CredentialStatus.INVALID
    )


def test_a_mailbox_is_read_from_its_address() -> None:
    box = mailbox_account("imaps://alerts%40acme.example@mail.acme.example/Alerts/Prod", "sesame")
    assert (box.username, box.host, box.port_used, box.folder, box.security) == (
        "alerts@acme.example",
        "mail.acme.example",
        993,
        "Alerts/Prod",
        ImapSecurity.TLS,
    )
    assert mailbox_account("imap://a@h", "").folder == "INBOX"
    for wrong in ("https://a@h", "imaps://h/INBOX", "imaps://a:secret@h", "imaps://a@h:port", ""):
        with pytest.raises(Rejected):
            mailbox_account(wrong, "")
