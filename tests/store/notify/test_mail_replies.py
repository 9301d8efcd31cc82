"""Mail replies from a mailbox or posted: applied once, as the recipient, and never from machines."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage

import pytest
from django.test import Client
from psycopg import errors

from tests.doubles.imap import ImapDouble, MailboxMessage, imap_double
from tests.doubles.smtp import Mail, SmtpDouble, smtp_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, outbox_harness, provider
from tests.support.postgres import TAKES_NO_WRITES, in_use
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.db import database
from tocsin.core.reasons import each_of
from tocsin.core.runtime import clock
from tocsin.notify.inbound import mail_parser, mail_replies
from tocsin.notify.inbound.mail_replies import ReplyPoller
from tocsin.notify.models import MailReply
from tocsin.notify.rules.page_planner import BOUNCED, STARTED_EARLY
from tocsin.operate.checks import integrations
from tocsin.operate.finding import HealthFinding
from tocsin.people.models import User

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
SECRET = "forwarded-Mails-S3cret"


@dataclass
class ReplyScenario:
    post: OutboxHarness
    smtp: SmtpDouble
    imap: ImapDouble
    reader: ReplyPoller

    def answer(self, text: str, sender: str = "alice@example.org", **headers: str) -> MailboxMessage:
        """A person answers the last mail, and the answer arrives in the mailbox."""
        return self.imap.receive(self.reply(text, sender, **headers))

    def reply(self, text: str, sender: str = "alice@example.org", **headers: str) -> bytes:
        page = next(m.message for m in reversed(self.smtp.mails) if m.message["X-Tocsin-Purpose"] == "page")
        mail = EmailMessage()
        known = {
            "From": sender, "To": page["Reply-To"] or page["From"], "Subject": f"Re: {page['Subject']}",
            "Message-ID": f"<{len(self.imap.mails)}-{abs(hash(text))}@example.org>",
            "In-Reply-To": page["Message-ID"], "References": page["Message-ID"],
        }  # fmt: skip
        for name, value in {**known, **{name.replace("_", "-"): v for name, v in headers.items()}}.items():
            if value:
                mail[name] = value
        mail.set_content(f"{text}\n\nOn Wed, 25 Nov 2026 at 03:01, Tocsin <t@example.org> wrote:\n> close\n")
        return mail.as_bytes()

    def outcomes(self) -> list[tuple[str, str]]:
        return [(reply.outcome, str(reply.reason)) for reply in MailReply.objects.order_by("id")]


@pytest.fixture
def scenario(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplyScenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    # A child process for each mail takes longer than the rest of a test, and yields the same.
    monkeypatch.setattr(mail_parser, "_SMALL", 1_000_000)
    with outbox_harness(now) as post, smtp_double() as smtp, imap_double() as imap:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        provider("Mail", "smtp", ["email"], host="127.0.0.1", port=smtp.port, sender="Tocsin <t@example.org>")
        settings = {"host": "127.0.0.1", "port": imap.port, "security": "none", "username": imap.username}
        secrets = {"password": imap.password, "post_secret": SECRET}
        provider("Answers", "mail_replies", [], address="alerts@example.org", secrets=secrets, **settings)
        reader = ReplyPoller()
        yield ReplyScenario(post, smtp, imap, reader)
        reader.close()


def paged(scenario: ReplyScenario, *names: str) -> int:
    for name in names:
        scenario.post.user(name)
    alert = scenario.post.alert()
    scenario.post.page(alert, *names)
    scenario.post.go()
    return alert


def test_reply_word_acts_as_recipient_and_result_is_mailed(
    scenario: ReplyScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This one is parsed by a child process.
    monkeypatch.setattr(mail_parser, "_SMALL", 0)
    alert = paged(scenario, "alice")
    page = scenario.smtp.mails[0]
    assert page.message["Reply-To"] == "alerts@example.org"
    assert "Or reply to this email with ack, assign, close or escalate" in page.part("plain")
    mail = scenario.answer("Ack")
    scenario.reader.poll()
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor_id, event.via) == (scenario.post.users["alice"].pk, "email")
    assert mail.is_read
    assert scenario.outcomes() == [("acted", f"You acknowledged alert {alert}.")]
    scenario.post.go(5)
    assert f"You acknowledged alert {alert}." in scenario.smtp.mails[-1].part("plain")
    # The same mail again, by another way, acts no more.
    scenario.imap.receive(mail.data)
    scenario.reader.poll()
    assert MailReply.objects.count() == 1
    assert scenario.imap.logins == 1, "the connection is kept"


def test_several_alerts_are_named_in_one_mail(scenario: ReplyScenario) -> None:
    first = paged(scenario, "alice")
    scenario.post.page(second := scenario.post.alert("Disk full"), "alice")
    scenario.post.go(20)
    scenario.answer(f"ack {first} {second}")
    scenario.reader.poll()
    assert scenario.outcomes() == [("acted", f"You acknowledged alert {first}. You acknowledged alert {second}.")]


def test_anything_else_is_a_reply_on_the_alert(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    scenario.answer("The line is back.\nBut slow.")
    scenario.reader.poll()
    event = AlertEvent.objects.get(kind="replied")
    assert event.data["text"] == "The line is back.\nBut slow."
    mails = len(scenario.smtp.mails)
    scenario.post.go(5)
    assert len(scenario.smtp.mails) == mails, "who writes a line is not answered"


def test_reply_that_asks_for_help_gets_it(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    scenario.answer("help")
    scenario.reader.poll()
    assert MailReply.objects.get().reason.code == "It requested help."
    scenario.post.go(5)
    assert "Your reply about alert" in scenario.smtp.mails[-1].message["Subject"]


def test_reply_of_a_disabled_user_is_refused(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    User.objects.filter(username="alice").update(is_active=False)
    scenario.answer("Ack")
    scenario.reader.poll()
    assert scenario.outcomes() == [("refused", "The user whom the email was for is disabled or deleted.")]


def test_late_reply_gets_a_friendly_explanation(scenario: ReplyScenario) -> None:
    alert = paged(scenario, "alice", "bob")
    scenario.post.act(alert, Close(actor=scenario.post.actor("bob")))
    scenario.post.seconds += 60
    scenario.answer(
        "take", "bob@example.org" if scenario.smtp.mails[-1].to == "bob@example.org" else "alice@example.org"
    )
    scenario.reader.poll()
    (outcome, reason) = scenario.outcomes()[0]
    assert outcome == "refused"
    assert f"Alert {alert} was already closed by Bob 1 minute ago" in reason
    scenario.post.go()
    assert reason in scenario.smtp.mails[-1].part("plain")


def test_foreign_automatic_and_unreferenced_mails_are_ignored_with_reason(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    scenario.post.user("mallory")
    page_id = scenario.smtp.mails[0].message["Message-ID"]
    token = page_id.split(".")[1]
    forged = page_id.replace(token, token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    before = AlertEvent.objects.count()
    scenario.answer("close", "mallory@example.org")
    scenario.answer("close", "stranger@example.net")
    scenario.answer("close again", In_Reply_To="", References="")
    scenario.answer("Close", In_Reply_To=forged, References="")
    scenario.answer("I am away until Monday.", Auto_Submitted="auto-replied")
    scenario.answer("")
    scenario.reader.poll()
    results = [(outcome, reason) for outcome, reason in scenario.outcomes()]
    assert [outcome for outcome, _ in results] == ["refused", "refused", "refused", "refused", "ignored", "refused"]
    for (_, reason), text in zip(
        results,
        ("not an address of Alice", "not an address of Alice", "no signed reference", "not created by",
         "sent automatically", "no text of its own"),
        strict=True,
    ):  # fmt: skip
        assert text in reason
    assert AlertEvent.objects.count() == before
    scenario.post.go(60)
    notices = [mail.to for mail in scenario.smtp.mails if "Your reply about alert" in str(mail.message["Subject"])]
    assert notices == ["alice@example.org"], "strangers hear nothing"
    browser, root = Client(), scenario.post.user("root", role="admin")
    browser.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    shown = browser.get("/providers/mail-replies/?outcome=refused").content.decode()
    assert "stranger@example.net" in shown
    assert "I am away" not in shown
    root.language = "de"
    root.save()
    german = browser.get("/providers/mail-replies/").content.decode()
    for text in ("ist keine Adresse von Alice", "wurde automatisch versendet", "keinen eigenen Text"):
        assert text in german


def bounce_report(mail: Mail, action: str = "failed", headers_only: bool = False) -> bytes:
    """The report of a server that could not deliver a mail (RFC 3464), as Postfix writes one."""
    original = mail.raw.decode().replace("\r\n", "\n")
    kind, inner = "message/rfc822", original
    if headers_only:
        kind, inner = "text/rfc822-headers", original.partition("\n\n")[0] + "\n"
    return (
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.org\nTo: alerts@example.org\nSubject: Undelivered Mail\n"
        f"Auto-Submitted: auto-replied\nMessage-ID: <{action}-{headers_only}@mx>\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        "--b\nContent-Type: text/plain\n\nI am sorry.\n\n"
        "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n"
        f"Final-Recipient: rfc822; {mail.to}\nAction: {action}\nStatus: 5.1.1\n"
        f"Diagnostic-Code: smtp; 550 5.1.1 <{mail.to}>: no such user here\n\n"
        f"--b\nContent-Type: {kind}\n\n{inner}\n--b--\n"
    ).encode()


@pytest.mark.usefixtures("sandbox_sends")
def test_bounced_page_fails_and_the_next_contact_method_begins(scenario: ReplyScenario) -> None:
    mail = {"label": "Email", "channel": "email", "address": "alice@example.org"}
    scenario.post.user("alice", mail, {"label": "Later", "channel": "ntfy", "address": "alice-topic", "wait": "10m"})
    scenario.post.user("root", role="admin")
    numbers = [scenario.post.alert(f"Disk {number}") for number in range(3)]
    for number in numbers:
        scenario.post.page(number, "alice")
    scenario.post.go()
    scenario.post.go(10)
    first, bundle = scenario.smtp.mails
    scenario.imap.receive(bounce_report(first, "delayed"))
    scenario.reader.poll()
    assert {d.status for d in scenario.post.deliveries() if d.channel == "email"} == {"sent"}
    scenario.imap.receive(bounce_report(first))
    scenario.imap.receive(bounce_report(bundle, headers_only=True))
    scenario.reader.poll()
    failed = [d for d in scenario.post.deliveries() if d.channel == "email" and d.purpose == "page"]
    assert {(d.status, d.is_permanent) for d in failed} == {("failed", True)}
    assert len(failed) == 3, "each alert that was named in the bundle"
    assert {d.error for d in failed} == {BOUNCED(error="550 5.1.1 <a•••@example.org>: no such user here")}
    scenario.post.go()
    later = [d for d in scenario.post.deliveries() if d.channel == "ntfy" and d.status == "sent"]
    assert later
    assert all(each_of(d.reason)[0].code == STARTED_EARLY.code for d in later)
    assert AlertEvent.objects.filter(kind="page_failed").count() == 3
    assert [outcome for outcome, _ in scenario.outcomes()] == ["ignored", "acted", "acted"]
    notices = [str(m.message["Subject"]) for m in scenario.smtp.mails if m.to == "root@example.org"]
    assert any("could not be sent" in subject for subject in notices)


def test_a_mail_that_is_older_than_its_reference_is_refused(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    scenario.post.seconds += 8 * 86_400
    scenario.answer("ack")
    scenario.reader.poll()
    assert scenario.outcomes() == [("refused", "It replies to an email that is more than seven days old.")]


def test_posted_mail_requires_the_secret(scenario: ReplyScenario) -> None:
    alert = paged(scenario, "alice")
    raw = scenario.reply("take")

    def post(body: bytes, kind: str, authorization: str) -> int:
        headers = {"Authorization": authorization} if authorization else {}
        return Client().post("/hooks/answers/mail", body, content_type=kind, headers=headers).status_code

    basic = "Basic " + base64.b64encode(f"forwarder:{SECRET}".encode()).decode()
    for wrong in ("", "Bearer guessed", "Basic !!!", "Basic " + base64.b64encode(b"a:b").decode()):
        assert post(raw, "message/rfc822", wrong) == 403
    assert Alert.objects.get(pk=alert).status == "open"
    assert post(raw, "message/rfc822", basic) == 200
    assert Alert.objects.get(pk=alert).status == "assigned"
    form = b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n' + scenario.reply("close") + b"\r\n--x--\r\n"
    assert post(form, "multipart/form-data; boundary=x", f"Bearer {SECRET}") == 200
    assert Alert.objects.get(pk=alert).status == "closed"
    assert post(b"", "message/rfc822", basic) == 400


def test_bounce_of_foreign_mail_fails_nothing(scenario: ReplyScenario) -> None:
    for name in ("alice", "bob"):
        scenario.post.user(name, {"label": "Email", "channel": "email", "address": f"{name}@example.org"})
        scenario.post.page(scenario.post.alert(f"For {name}"), name)
    scenario.post.go()
    hers, his = sorted(scenario.smtp.mails, key=lambda mail: mail.to)
    number, own = str(hers.message["Message-ID"]), str(his.message["Message-ID"])
    forged = f"{number.partition('.')[0]}.{own.partition('.')[2]}"
    scenario.imap.receive(bounce_report(his).replace(own.encode(), forged.encode()))
    scenario.reader.poll()
    assert {d.status for d in scenario.post.deliveries() if d.channel == "email"} == {"sent"}
    assert [outcome for outcome, _ in scenario.outcomes()] == ["ignored"]


def unread_mailboxes() -> list[HealthFinding]:
    with database.transaction() as connection:
        return list(integrations.check_last_poll(connection))


def test_unavailable_mailbox_recovers_and_its_mails_wait(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    scenario.imap.hangs_up = 1
    mail = scenario.answer("ack")
    scenario.reader.poll()
    (finding,) = unread_mailboxes()
    assert (finding.id, finding.about) == ("mailbox.replies_unread", "Answers")
    assert not mail.is_read
    for _ in range(7):
        scenario.reader.poll()
    assert unread_mailboxes() == []
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1


def test_reply_during_read_only_database_applies_afterwards(scenario: ReplyScenario, database: str) -> None:
    paged(scenario, "alice")
    mail = scenario.answer("ack")
    with in_use(f"{database}{TAKES_NO_WRITES}"), pytest.raises(errors.ReadOnlySqlTransaction):
        scenario.reader.poll()
    assert not mail.is_read
    with in_use(database):
        scenario.reader.poll()
        assert AlertEvent.objects.filter(kind="acknowledged").count() == 1
    assert mail.is_read


def test_reply_not_markable_as_read_acts_once_and_is_reported(scenario: ReplyScenario) -> None:
    paged(scenario, "alice")
    scenario.imap.keeps_flags = True
    scenario.answer("ack")
    for _attempt in range(9):
        scenario.reader.poll()
    (finding,) = unread_mailboxes()
    assert "does not allow marking emails as read" in str(finding.detail)
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1
    assert len(scenario.outcomes()) == 1
    scenario.imap.keeps_flags = False
    for _attempt in range(8):
        scenario.reader.poll()
    assert unread_mailboxes() == []
    assert scenario.imap.mails[0].is_read


def test_reply_through_id_rewriting_server_uses_the_tagged_address(scenario: ReplyScenario) -> None:
    from tocsin.notify.models import Provider

    row = Provider.objects.get(name="Answers")
    row.settings = {**row.settings, "tagged": True}
    row.save()
    from tests.support.outbox_harness import changed

    changed()
    paged(scenario, "alice")
    assert str(scenario.smtp.mails[0].message["Reply-To"]).startswith("alerts+")
    scenario.answer("ack", In_Reply_To="<rewritten@server>", References="")
    scenario.reader.poll()
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff",
        b"From: a\x00b@example.org\r\nSubject: \x00\r\n\r\n\x00",
        b"From: =?utf-8?b?/////w==?= <@[>\r\nSubject: =?x?q?\r\nIn-Reply-To: <<<\r\nTo: ;:<\r\n\r\n--",
        b'Content-Type: text/plain; charset=nothing\r\nFrom: "\r\nTo: ;:<\r\n\r\n\xff',
    ],
)
def test_unreadable_mail_blocks_no_reply(scenario: ReplyScenario, garbage: bytes) -> None:
    alert = paged(scenario, "alice")
    scenario.imap.receive(garbage)
    mail = scenario.answer("ack")
    scenario.reader.poll()
    assert mail.is_read
    assert Alert.objects.get(pk=alert).acknowledgements.count() == 1


def test_mail_that_raises_blocks_no_reply(scenario: ReplyScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = paged(scenario, "alice")
    scenario.imap.receive(b"Subject: breaks\r\n\r\nit")
    scenario.answer("ack")
    whole = mail_replies.process_mail

    def failing(provider: str, raw: bytes, now: datetime) -> object:
        if b"breaks" in raw:
            raise KeyError("whatever it is")
        return whole(provider, raw, now)

    monkeypatch.setattr(mail_replies, "process_mail", failing)
    scenario.reader.poll()
    assert Alert.objects.get(pk=alert).acknowledgements.count() == 1


def test_mail_that_times_out_is_processed_by_next_poll(
    scenario: ReplyScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    paged(scenario, "alice")
    held = scenario.answer("ack")
    with monkeypatch.context() as failing:

        def time_out(*_: object) -> None:
            raise errors.QueryCanceled

        failing.setattr(mail_replies, "process_mail", time_out)
        scenario.reader.poll()
    assert not held.is_read
    scenario.reader.poll()
    assert held.is_read
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1


class Killed(BaseException):
    """A process that ends between two statements."""


def test_reply_of_a_killed_parser_is_processed_again(scenario: ReplyScenario, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = paged(scenario, "alice")
    mail, later = scenario.answer("ack"), scenario.answer("The line is back.")
    with monkeypatch.context() as killing:

        def die(*_: object) -> None:
            raise Killed

        killing.setattr(mail_replies, "_outcome", die)
        with pytest.raises(Killed):
            scenario.reader.poll()
    assert (mail.is_read, later.is_read) == (False, False)
    scenario.reader.poll()
    assert (mail.is_read, later.is_read) == (True, True)
    assert Alert.objects.get(pk=alert).acknowledgements.count() == 1
    assert AlertEvent.objects.filter(kind="replied").count() == 1
