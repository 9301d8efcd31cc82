"""An IMAP server with endless responses is aborted."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from tests.doubles.imap import imap_double
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net import imap
from tocsin.core.net.imap import ImapAccount, ImapMailbox, ImapSecurity


@pytest.mark.parametrize("drips_at", ["GREETING", "SELECT", "NOOP", "SEARCH", "(RFC822.SIZE)", "STORE"])
def test_endless_imap_responses_are_aborted(drips_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "DEADLINE", 0.3)
    with imap_double() as double:
        double.receive(b"Subject: yes\n\nYes")
        double.drips_at = drips_at
        account = ImapAccount(
            "127.0.0.1", double.username, double.password, "INBOX", double.port, ImapSecurity.NONE, True
        )
        with pytest.raises(Temporary, match="does not come to an end"):
            _read(account)


def test_oversized_imap_response_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "MAX_SESSION_BYTES", 100_000)
    with imap_double() as double:
        double.receive(b"Subject: yes\n\n" + b"Yes" * 50_000)
        account = ImapAccount(
            "127.0.0.1", double.username, double.password, "INBOX", double.port, ImapSecurity.NONE, True
        )
        with pytest.raises(Temporary, match="does not come to an end"):
            _read(account)
        monkeypatch.undo()
        _read(account)
        assert double.mails[0].is_read


def test_an_exchange_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is kept for long is not at its end by that."""
    with imap_double() as double:
        account = ImapAccount(
            "127.0.0.1", double.username, double.password, "INBOX", double.port, ImapSecurity.NONE, True
        )
        box = ImapMailbox(account)
        double.receive(b"Subject: yes\n\nYes")
        started_at = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: started_at + 3600)
        [(uid, raw)] = list(box.unread(5))
        monkeypatch.setattr(time, "monotonic", lambda: started_at + 7200)
        box.mark_read(uid)
        monkeypatch.setattr(time, "monotonic", lambda: started_at + 10800)
        assert raw.endswith(b"Yes")
        assert str(box.describe()).endswith("has 0 unread emails.")
        box.close()


@pytest.mark.parametrize(
    ("folder", "address", "codes"),
    [
        ("Missing", "127.0.0.1", ["mailbox.no_folder", "mailbox.enter_folder"]),
        ("INBOX", "93.184.216.34", ["mailbox.unencrypted", "mailbox.choose_tls"]),
    ],
)
def test_mailbox_that_cannot_be_opened_says_what_to_enter(
    folder: str, address: str, codes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap, "ip_address", lambda peer: ip_address(address))
    with imap_double() as double:
        account = ImapAccount(
            "127.0.0.1", double.username, double.password, folder, double.port, ImapSecurity.NONE, True
        )
        with pytest.raises(Permanent) as raised:
            _read(account)
    assert [raised.value.reason.code, raised.value.remedy_reason.code] == codes
    assert raised.value.reason["host"] == "127.0.0.1"


def _read(account: ImapAccount) -> None:
    box = ImapMailbox(account)
    try:
        for uid, _raw in box.unread(5):
            box.mark_read(uid)
    finally:
        box.close()
