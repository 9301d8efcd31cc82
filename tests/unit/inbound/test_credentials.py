"""What an integration may ask of its senders beside the URL."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from tocsin.inbound.credentials import ADDRESS, Credentials, Proof
from tocsin.inbound.mail import mailboxes

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NETWORKS = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("address", "proof"),
    [
        ("192.0.2.7", Proof.VALID),
        ("::ffff:192.0.2.7", Proof.VALID),
        ("2001:db8::1", Proof.VALID),
        ("198.51.100.1", Proof.INVALID),
        ("", Proof.INVALID),
        (None, Proof.INVALID),
        ("not an address", Proof.INVALID),
    ],
)
def test_only_addresses_of_the_networks_may_send(address: str | None, proof: Proof) -> None:
    asked = Credentials(networks=NETWORKS)
    assert asked.are_asked
    assert asked.check({}, b"", address=address) == {ADDRESS: proof}


def test_a_senders_own_scheme_takes_the_place_of_the_plain_signature() -> None:
    asked = Credentials(signature_header="X-Sign", signature_secret="s")

    def is_signed(body: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> bool:
        return headers["x-sign"] == f"{secret}:{body.decode()}:{now:%Y}"

    assert asked.check({"x-sign": "s:b:2026"}, b"b", is_signed=is_signed, now=NOW) == {"x-sign": Proof.VALID}
    assert asked.check({"x-sign": "s:c:2026"}, b"b", is_signed=is_signed, now=NOW) == {"x-sign": Proof.INVALID}
    assert asked.check({}, b"b", is_signed=is_signed, now=NOW) == {"x-sign": Proof.MISSING}


def test_a_mailbox_is_read_from_its_address() -> None:
    box = mailboxes.read("imaps://alerts%40acme.example@mail.acme.example/Alerts/Prod")
    assert (box.user, box.host, box.port, box.folder, box.is_tls) == (
        "alerts@acme.example",
        "mail.acme.example",
        993,
        "Alerts/Prod",
        True,
    )
    assert mailboxes.read("imap://a@h").folder == "INBOX"
    for wrong in ("https://a@h", "imaps://h/INBOX", "imaps://a:secret@h", "imaps://a@h:port", ""):
        assert mailboxes.problem_with(wrong)
