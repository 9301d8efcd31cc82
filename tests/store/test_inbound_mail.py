"""Mails that open and close alerts, by the built-in listener or a mailbox, with attachments."""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
from django.test import Client

from tests.doubles.imap import ImapDouble, imap_double
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, make_integration
from tests.support.integrations import InboundServer, inbound_server, rows
from tests.support.outbox_harness import allow_loopback
from tocsin.access import audit
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.models import MailboxTrouble
from tocsin.core.net.imap import MailboxReader
from tocsin.core.runtime import clock
from tocsin.inbound import email
from tocsin.inbound.admin import secrets
from tocsin.inbound.email import SmtpListener
from tocsin.inbound.models import Integration, RefusedSender
from tocsin.operate.checks import integrations
from tocsin.web import home


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


@pytest.fixture
def desk() -> EscalationHarness:
    return EscalationHarness(NOW)


@pytest.fixture
def integration(desk: EscalationHarness) -> Integration:
    made = make_integration("Mails", "email", policy=desk.policy, settings={"mailbox": "Alerts"})
    made.recipient_groups.add(desk.group)
    settings_store.bump()
    return made


@pytest.fixture
def listener(node: InboundServer, integration: Integration) -> Iterator[SmtpListener]:
    made = SmtpListener(node.app.service, lambda: "127.0.0.1:0")
    made.start()
    end = time.monotonic() + 10
    while made.address is None and time.monotonic() < end:
        pass
    assert made.address is not None
    yield made
    made.stop(10)


def mail(subject: str = "VPN is down", number: int = 1, **headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Bob <bob@acme.example>", "alerts@t.example", subject
    made["Message-ID"] = f"<{number}@acme.example>"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content("Nobody can work.")
    return made


@pytest.fixture
def send(listener: SmtpListener) -> Callable[..., None]:
    def send(message: EmailMessage | bytes, *to: str) -> None:
        assert listener.address is not None
        with smtplib.SMTP(*listener.address, timeout=20) as client:
            raw = message if isinstance(message, bytes) else message.as_bytes(policy=SMTP)
            client.sendmail("bob@acme.example", to or ("alerts@t.example",), raw)

    return send


def test_mail_opens_alert_by_mailbox_name_and_token(
    send: Callable[..., None], integration: Integration, client: Client, desk: EscalationHarness
) -> None:
    message = mail()
    message.add_attachment(b"\x89PNG-bytes", maintype="image", subtype="png", filename="screen.png")
    send(message)
    alert = Alert.objects.get()
    assert (alert.subject, alert.long_text, alert.requester) == ("VPN is down", "Nobody can work.", "Bob")
    (row,) = rows()
    assert row.content_type == "message/rfc822"
    assert alert.custom["attachments"].endswith(f"/inbound-log/{row.pk}/attachments/0")
    send(message)
    assert (Alert.objects.count(), rows()[1].reason.code == "message.duplicate_delivery") == (1, True)
    send(mail(number=2), f"{secrets.token_of(integration).upper()}@anything.example")
    assert Alert.objects.count() == 2

    client.force_login(desk.users["alice"])
    link = f"/inbound-log/{row.pk}/attachments/0"
    file = client.get(link)
    assert (file.status_code, file.content) == (200, b"\x89PNG-bytes")
    assert file["Content-Disposition"] == 'attachment; filename="screen.png"'
    assert file["X-Content-Type-Options"] == "nosniff"
    assert client.get(link[:-1] + "1").status_code == 404
    client.logout()
    assert client.get(link).status_code == 302


def test_one_mailbox_serves_several_integrations_with_open_and_close_rules(
    send: Callable[..., None], integration: Integration
) -> None:
    make_integration(
        "Nagios",
        "email",
        settings={"mailbox": "alerts"},
        definition={
            "mapping": {"source_id": {"path": "subject", "pattern": r"/(\w+)$"}},
            "rules": {
                "open": {"field": "subject", "operator": "contains", "value": "PROBLEM"},
                "close": {"field": "subject", "operator": "contains", "value": "RECOVERY"},
            },
        },
    )
    send(mail("PROBLEM /web1", 1), "alerts+prod@t.example", "ALERTS@t.example")
    send(mail("RECOVERY /web1", 2))
    nagios = Alert.objects.get(integration__name="Nagios")
    assert (nagios.source_id, nagios.status) == ("web1", "closed")
    assert Alert.objects.filter(integration=integration).count() == 2


def test_no_mail_is_relayed_and_automatic_replies_open_nothing(
    send: Callable[..., None], listener: SmtpListener
) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        send(mail(), "somebody@elsewhere.example")
    assert caught.value.recipients["somebody@elsewhere.example"][0] == 550
    send(mail("Out of office", Auto_Submitted="auto-replied"))
    assert (rows()[0].status, Alert.objects.count()) == ("Mapped Ignored", 0)
    send(mail("Re: VPN is down (Tocsin #7)", 2))
    assert Alert.objects.count() == 0


def test_invalid_mail_is_kept_and_reported(send: Callable[..., None]) -> None:
    send(b"\r\nno header lines\r\n")
    send(b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 300 + b"--b--\r\n")
    assert [row.status for row in rows()] == ["Mapped Opened", "Mapping Failed"]
    assert "more than 200 parts" in str(rows()[1].reason)
    assert "could not be parsed" in Alert.objects.latest("pk").subject


def test_a_large_mail_is_kept_without_what_is_attached(send: Callable[..., None]) -> None:
    message = mail()
    message.add_attachment(b"x" * 5_500_000, maintype="application", subtype="zip", filename="logs.zip")
    send(message)
    (row,) = rows()
    assert row.status == "Mapped Opened"
    assert len(bytes(row.raw)) < 10_000


def test_integration_may_restrict_mail_to_named_networks(
    send: Callable[..., None], integration: Integration, node: InboundServer
) -> None:
    secrets.put_credentials(integration, {"addresses": ["192.0.2.0/24"]})
    integration.save()
    settings_store.bump()
    node.registry.refresh()
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(mail())
    node.app.service.refused_requests.write(clock.now())
    refused = RefusedSender.objects.get(integration=integration)
    assert (refused.address, str(refused.reason)) == ("127.0.0.1", "127.0.0.1 may not send here")
    secrets.put_credentials(integration, {"addresses": ["127.0.0.0/8"]})
    integration.save()
    settings_store.bump()
    node.registry.refresh()
    send(mail())
    assert rows()[0].headers == {"sender's address": "present, valid"}


def test_unusable_imap_listen_address_is_replaced_by_the_previous(
    node: InboundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(email, "_SETTING_POLL_SECONDS", 0.01)
    good, bad = "127.0.0.1:0", "192.0.2.1:2525"
    expected, looked = [good], threading.Semaphore(0)

    def listen() -> str:
        looked.release()
        return expected[0]

    made = SmtpListener(node.app.service, listen)
    made.start()
    try:
        for place, is_open in ((good, True), (bad, False), (good, True)):
            expected[0] = place
            while looked.acquire(blocking=False):
                pass
            # Each look begins when what the one before it asked for is done.
            for _ in range(3):
                assert looked.acquire(timeout=10)
            assert (made.address is not None) is is_open
    finally:
        made.stop(10)


# --- a mailbox that is read


@pytest.fixture
def box(integration: Integration, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImapDouble]:
    allow_loopback(monkeypatch)
    with imap_double() as double:
        address = f"imap://tocsin%40example.org@127.0.0.1:{double.port}/INBOX"
        secrets.put_credentials(integration, {"imap": {"mailbox": address, "password": double.password}})
        integration.save()
        settings_store.bump()
        yield double


def test_unread_mails_of_a_mailbox_become_messages_once(box: ImapDouble, node: InboundServer) -> None:
    box.receive(mail().as_bytes())
    box.receive(mail("Second", 2).as_bytes())
    email.poll_all(node.registry)
    assert [alert.subject for alert in Alert.objects.order_by("pk")] == ["VPN is down", "Second"]
    assert all(one.is_read for one in box.mails)
    email.poll_all(node.registry)
    assert len(rows()) == 2
    # Somebody marked it as unread: the same mail is the same delivery.
    box.mails[0].is_read = False
    email.poll_all(node.registry)
    assert Alert.objects.count() == 2


def test_a_mailbox_is_tried_without_reading_it(box: ImapDouble) -> None:
    held_mail = box.receive(mail().as_bytes())
    address = f"imap://tocsin%40example.org@127.0.0.1:{box.port}/INBOX"
    reason = email.check_mailbox(address, box.password)
    assert "has 1 unread email." in str(reason)
    assert not held_mail.is_read
    assert rows() == []
    with pytest.raises(Permanent):
        email.check_mailbox(address, "wrong")
    assert list(integrations.check_mailboxes()) == []
    away = make_integration("Away", "email")
    secrets.put_credentials(away, {"imap": {"mailbox": "imaps://a@127.0.0.1:1/INBOX", "password": "sesame"}})
    away.save()
    (finding,) = integrations.check_mailboxes()
    assert (finding.id, finding.about) == ("mailbox.refuses", "Away")
    assert "sesame" not in str(finding.detail)
    for none in ("", "nonsense"):
        with pytest.raises(Rejected):
            email.check_mailbox(none, "x")


def test_unavailable_mailbox_blocks_no_other_and_loses_nothing(
    box: ImapDouble, node: InboundServer, caplog: pytest.LogCaptureFixture
) -> None:
    away = make_integration("Away", "email")
    secrets.put_credentials(away, {"imap": {"mailbox": "imaps://a@127.0.0.1:1/INBOX", "password": "sesame"}})
    away.save()
    settings_store.bump()
    box.receive(mail().as_bytes())
    box.hangs_up = 1
    email.poll_all(node.registry)
    assert Alert.objects.count() == 0
    email.poll_all(node.registry)
    assert Alert.objects.count() == 1
    assert "The mailbox of Away cannot be read" in caplog.text
    assert "sesame" not in caplog.text


def test_mail_not_markable_as_read_is_processed_once_and_reported(box: ImapDouble, node: InboundServer) -> None:
    """Those without an id of their own too, and those behind it all the same."""
    box.keeps_flags = True
    plain = b"Subject: One\r\nFrom: a@b.example\r\n\r\nIt burns.\r\n"
    box.receive(plain)
    box.receive(plain.replace(b"One", b"Two"))
    for _attempt in range(2):
        email.poll_all(node.registry)
        assert [alert.subject for alert in Alert.objects.order_by("pk")] == ["One", "Two"]
        trouble = MailboxTrouble.objects.get(reads=MailboxReader.INBOUND)
        assert "as read" in str(trouble.reason)
        assert "You may not change flags here" in str(trouble.reason)
    box.receive(plain.replace(b"One", b"Three"))
    email.poll_all(node.registry)
    assert Alert.objects.count() == 3
    box.keeps_flags = False
    email.poll_all(node.registry)
    assert all(held_mail.is_read for held_mail in box.mails)
    assert Alert.objects.count() == 3
    assert not MailboxTrouble.objects.filter(reads=MailboxReader.INBOUND).exists()


def test_undecidable_mail_is_kept_and_blocks_no_later_mail(box: ImapDouble, node: InboundServer) -> None:
    with database.connect(name="test") as connection:
        connection.execute("ALTER TABLE alerts_alert ADD CONSTRAINT no_poison CHECK (subject <> 'poison')")
    box.receive(mail("poison").as_bytes())
    box.receive(mail("Second", 2).as_bytes())
    email.poll_all(node.registry)
    assert [row.status for row in rows()] == ["Mapping Failed", "Mapped Opened"]
    assert "Processing failed: CheckViolation" in str(rows()[0].reason)
    assert all(held_mail.is_read for held_mail in box.mails)


def test_unexpected_mailbox_error_is_recorded_and_mail_stays_unread(box: ImapDouble, node: InboundServer) -> None:
    with database.connect(name="test") as connection:
        connection.execute("ALTER TABLE inbound_inboundmessage ADD CONSTRAINT no_message CHECK (status = '')")
    box.receive(mail().as_bytes())
    email.poll_all(node.registry)
    problem = MailboxTrouble.objects.get(reads=MailboxReader.INBOUND)
    assert problem.reason.code == "An unexpected error occurred; see the log for details."
    assert not box.mails[0].is_read


def test_mail_too_large_to_read_is_reported(box: ImapDouble, node: InboundServer) -> None:
    box.receive(b"Subject: Large\r\n\r\n" + b" " * 10 * 1024**2)
    email.poll_all(node.registry)
    (row,) = rows()
    assert (row.status, row.reason.code) == (
        "Mapping Failed",
        "The email is over {maximum} MiB: read it in the mailbox.",
    )


def test_mail_deleted_before_reading_is_ignored(box: ImapDouble, node: InboundServer) -> None:
    box.receive(mail().as_bytes()).is_gone = True
    box.receive(mail("Second", 2).as_bytes())
    email.poll_all(node.registry)
    assert [alert.subject for alert in Alert.objects.all()] == ["Second"]
    assert len(rows()) == 1


def test_malformed_mail_blocks_no_later_mail(box: ImapDouble, node: InboundServer) -> None:
    box.receive(b"Subject: =?utf-8?b?abcde?=\r\nFrom: a@b.example\r\n\r\nIt burns.\r\n")
    box.receive(mail().as_bytes())
    email.poll_all(node.registry)
    assert rows()[0].subject == "=?utf-8?b?abcde?="
    assert Alert.objects.count() == 2
    assert all(held_mail.is_read for held_mail in box.mails)


def test_home_says_which_mailbox_cannot_be_read_until_it_can(box: ImapDouble, node: InboundServer) -> None:
    box.hangs_up = 1
    email.poll_all(node.registry)
    (warning,) = (one for one in home.find_warnings(clock.now()) if "mailbox" in one.text)
    assert warning.text.startswith("Can't read the mailbox of Mails: ")
    assert warning.url.endswith("/security/")
    assert warning.is_urgent
    email.poll_all(node.registry)
    assert not any("mailbox" in one.text for one in home.find_warnings(clock.now()))


def test_mail_listen_address_is_a_validated_setting() -> None:
    assert audit.change_settings({"mail_listen": "[::1]:2525"}, actor=COMMAND_LINE, now=clock.now())
    for wrong in ("2525", "localhost:smtp", "host:70000", ":25"):
        with pytest.raises(Rejected) as caught:
            audit.change_settings({"mail_listen": wrong}, actor=COMMAND_LINE, now=clock.now())
        assert caught.value.field == "mail_listen"


def complete(credentials: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    return secrets.complete_credentials(secrets.CredentialsSpec.read(credentials, "credentials"), stored)


@pytest.mark.parametrize(
    "mailbox",
    ["imaps://a@evil.example/INBOX", "imap+starttls://a@mail.example/INBOX", "imaps://a@mail.example:1993/INBOX"],
)
def test_a_mailboxs_password_does_not_follow_it_to_another_server(mailbox: str) -> None:
    known = {"imap": {"mailbox": "imaps://a@mail.example/INBOX", "password": "sesame"}}
    with pytest.raises(Rejected, match="password: enter the secret again: the address has changed"):
        complete({"imap": {"mailbox": mailbox}}, known)
    anew = {"imap": {"mailbox": mailbox, "password": "another"}}
    assert complete(anew, known) == anew
    folder = {"imap": {"mailbox": "imaps://a@mail.example/Alerts"}}
    assert complete(folder, known)["imap"]["password"] == "sesame"
