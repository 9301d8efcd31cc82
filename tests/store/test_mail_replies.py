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

from tests.doubles.imap import Held, ImapDouble, imap_double
from tests.doubles.smtp import Mail, SmtpDouble, smtp_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, outbox_harness, provider
from tests.support.postgres import TAKES_NO_WRITES, in_use
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.runtime import clock
from tocsin.notify.mail_replies import process
from tocsin.notify.mail_replies.poller import ReplyPoller
from tocsin.notify.models import MailReply
from tocsin.web.home import mailbox_warnings

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
SECRET = "forwarded-Mails-S3cret"


@dataclass
class World:
    post: OutboxHarness
    smtp: SmtpDouble
    imap: ImapDouble
    reader: ReplyPoller

    def answer(self, text: str, sender: str = "alice@example.org", **headers: str) -> Held:
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
        return list(MailReply.objects.order_by("id").values_list("outcome", "reason"))


@pytest.fixture
def world(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now) as post, smtp_double() as smtp, imap_double() as imap:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        provider("Mail", "smtp", ["email"], host="127.0.0.1", port=smtp.port, sender="Tocsin <t@example.org>")
        settings = {"host": "127.0.0.1", "port": imap.port, "security": "none", "username": imap.username}
        secrets = {"password": imap.password, "post_secret": SECRET}
        provider("Answers", "mail_replies", [], address="alerts@example.org", secrets=secrets, **settings)
        reader = ReplyPoller()
        yield World(post, smtp, imap, reader)
        reader.close()


def paged(world: World, *names: str) -> int:
    for name in names:
        world.post.user(name)
    alert = world.post.alert()
    world.post.page(alert, *names)
    world.post.go()
    return alert


def test_reply_word_acts_as_recipient_and_result_is_mailed(world: World) -> None:
    alert = paged(world, "alice")
    page = world.smtp.mails[0]
    assert page.message["Reply-To"] == "alerts@example.org"
    assert "Or answer this mail: ack, take, close or escalate" in page.part("plain")
    held = world.answer("Ack")
    world.reader.turn()
    event = AlertEvent.objects.get(kind="acknowledged")
    assert (event.actor_id, event.via) == (world.post.users["alice"].pk, "email")
    assert held.is_read
    assert world.outcomes() == [("acted", f"You acknowledged alert {alert}.")]
    world.post.go(5)
    assert f"You acknowledged alert {alert}." in world.smtp.mails[-1].part("plain")
    # The same mail again, by another way, acts no more.
    world.imap.receive(held.data)
    world.reader.turn()
    assert MailReply.objects.count() == 1
    assert world.imap.logins == 1, "the connection is kept"


def test_several_alerts_are_named_in_one_mail(world: World) -> None:
    first = paged(world, "alice")
    world.post.page(second := world.post.alert("Disk full"), "alice")
    world.post.go(20)
    world.answer(f"ack {first} {second}")
    world.reader.turn()
    assert world.outcomes() == [("acted", f"You acknowledged alert {first}. You acknowledged alert {second}.")]


def test_anything_else_is_a_reply_on_the_alert(world: World) -> None:
    paged(world, "alice")
    world.answer("The line is back.\nBut slow.")
    world.reader.turn()
    event = AlertEvent.objects.get(kind="replied")
    assert event.data["text"] == "The line is back.\nBut slow."
    mails = len(world.smtp.mails)
    world.post.go(5)
    assert len(world.smtp.mails) == mails, "who writes a line is not answered"


def test_late_reply_gets_a_friendly_explanation(world: World) -> None:
    alert = paged(world, "alice", "bob")
    world.post.act(alert, Close(actor=world.post.actor("bob")))
    world.post.seconds += 60
    world.answer("take", "bob@example.org" if world.smtp.mails[-1].to == "bob@example.org" else "alice@example.org")
    world.reader.turn()
    (outcome, reason) = world.outcomes()[0]
    assert outcome == "refused"
    assert f"Alert {alert} was already closed by Bob 1 minute ago" in reason
    world.post.go()
    assert reason in world.smtp.mails[-1].part("plain")


def test_foreign_automatic_and_unreferenced_mails_are_ignored_with_reason(world: World) -> None:
    paged(world, "alice")
    world.post.user("mallory")
    page_id = world.smtp.mails[0].message["Message-ID"]
    token = page_id.split(".")[1]
    forged = page_id.replace(token, token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    before = AlertEvent.objects.count()
    world.answer("close", "mallory@example.org")
    world.answer("close", "stranger@example.net")
    world.answer("close again", In_Reply_To="", References="")
    world.answer("close it", In_Reply_To=forged, References="")
    world.answer("I am away until Monday.", Auto_Submitted="auto-replied")
    world.answer("")
    world.reader.turn()
    found = [(outcome, reason) for outcome, reason in world.outcomes()]
    assert [outcome for outcome, _ in found] == ["refused", "refused", "refused", "refused", "ignored", "refused"]
    for (_, reason), said in zip(
        found,
        ("not one of Alice's own addresses", "not one of Alice's own", "no signed reference", "not made here",
         "sent automatically", "no text of its own"),
        strict=True,
    ):  # fmt: skip
        assert said in reason
    assert AlertEvent.objects.count() == before
    world.post.go(60)
    told = [mail.to for mail in world.smtp.mails if "Your answer" in str(mail.message["Subject"])]
    assert told == ["alice@example.org"], "strangers hear nothing"
    browser, root = Client(), world.post.user("root", role="admin")
    browser.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    shown = browser.get("/providers/mail-replies/?outcome=refused").content.decode()
    assert "stranger@example.net" in shown
    assert "I am away" not in shown
    root.language = "de"
    root.save()
    german = browser.get("/providers/mail-replies/").content.decode()
    for said in ("ist keine von Alices eigenen Adressen", "wurde automatisch versendet", "keinen eigenen Text"):
        assert said in german


def came_back(mail: Mail, action: str = "failed", headers_only: bool = False) -> bytes:
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


def test_bounced_page_fails_and_the_next_contact_method_begins(world: World) -> None:
    mail = {"label": "Email", "channel": "email", "address": "alice@example.org"}
    world.post.user("alice", mail, {"label": "Later", "channel": "ntfy", "address": "alice-topic", "wait": "10m"})
    world.post.user("root", role="admin")
    numbers = [world.post.alert(f"Disk {number}") for number in range(3)]
    for number in numbers:
        world.post.page(number, "alice")
    world.post.go()
    world.post.go(10)
    first, bundle = world.smtp.mails
    world.imap.receive(came_back(first, "delayed"))
    world.reader.turn()
    assert {d.status for d in world.post.deliveries() if d.channel == "email"} == {"sent"}
    world.imap.receive(came_back(first))
    world.imap.receive(came_back(bundle, headers_only=True))
    world.reader.turn()
    failed = [d for d in world.post.deliveries() if d.channel == "email" and d.purpose == "page"]
    assert {(d.status, d.is_permanent) for d in failed} == {("failed", True)}
    assert len(failed) == 3, "each alert that was named in the bundle"
    assert {d.error for d in failed} == {"The mail came back: 550 5.1.1 <a•••@example.org>: no such user here."}
    world.post.go()
    later = [d for d in world.post.deliveries() if d.channel == "ntfy" and d.status == "sent"]
    assert later
    assert all("Brought forward" in d.reason for d in later)
    assert AlertEvent.objects.filter(kind="page_failed").count() == 3
    assert [outcome for outcome, _ in world.outcomes()] == ["ignored", "acted", "acted"]
    told = [str(m.message["Subject"]) for m in world.smtp.mails if m.to == "root@example.org"]
    assert any("could not be sent" in subject for subject in told)


def test_a_mail_that_is_older_than_its_reference_is_refused(world: World) -> None:
    paged(world, "alice")
    world.post.seconds += 8 * 86_400
    world.answer("ack")
    world.reader.turn()
    assert world.outcomes() == [("refused", "It answers a mail that is more than seven days old.")]


def test_posted_mail_requires_the_secret(world: World) -> None:
    alert = paged(world, "alice")
    raw = world.reply("take")

    def post(body: bytes, kind: str, authorization: str) -> int:
        headers = {"Authorization": authorization} if authorization else {}
        return Client().post("/hooks/answers/mail", body, content_type=kind, headers=headers).status_code

    basic = "Basic " + base64.b64encode(f"forwarder:{SECRET}".encode()).decode()
    for wrong in ("", "Bearer guessed", "Basic !!!", "Basic " + base64.b64encode(b"a:b").decode()):
        assert post(raw, "message/rfc822", wrong) == 403
    assert Alert.objects.get(pk=alert).status == "open"
    assert post(raw, "message/rfc822", basic) == 200
    assert Alert.objects.get(pk=alert).status == "assigned"
    form = b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n' + world.reply("close") + b"\r\n--x--\r\n"
    assert post(form, "multipart/form-data; boundary=x", f"Bearer {SECRET}") == 200
    assert Alert.objects.get(pk=alert).status == "closed"
    assert post(b"", "message/rfc822", basic) == 400


def test_bounce_of_foreign_mail_fails_nothing(world: World) -> None:
    for name in ("alice", "bob"):
        world.post.user(name, {"label": "Email", "channel": "email", "address": f"{name}@example.org"})
        world.post.page(world.post.alert(f"For {name}"), name)
    world.post.go()
    hers, his = sorted(world.smtp.mails, key=lambda mail: mail.to)
    number, own = str(hers.message["Message-ID"]), str(his.message["Message-ID"])
    forged = f"{number.partition('.')[0]}.{own.partition('.')[2]}"
    world.imap.receive(came_back(his).replace(own.encode(), forged.encode()))
    world.reader.turn()
    assert {d.status for d in world.post.deliveries() if d.channel == "email"} == {"sent"}
    assert [outcome for outcome, _ in world.outcomes()] == ["ignored"]


def test_unavailable_mailbox_recovers_and_its_mails_wait(world: World) -> None:
    paged(world, "alice")
    world.imap.hangs_up = 1
    held = world.answer("ack")
    world.reader.turn()
    ((text, _url, _is_urgent),) = mailbox_warnings.found()
    assert text.startswith("Answers by mail are not read, Answers: ")
    assert not held.is_read
    for _ in range(7):
        world.reader.turn()
    assert list(mailbox_warnings.found()) == []
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1


def test_reply_during_read_only_database_applies_afterwards(world: World, database: str) -> None:
    paged(world, "alice")
    held = world.answer("ack")
    with in_use(f"{database}{TAKES_NO_WRITES}"), pytest.raises(errors.ReadOnlySqlTransaction):
        world.reader.turn()
    assert not held.is_read
    with in_use(database):
        world.reader.turn()
        assert AlertEvent.objects.filter(kind="acknowledged").count() == 1
    assert held.is_read


def test_reply_not_markable_as_read_acts_once_and_is_reported(world: World) -> None:
    paged(world, "alice")
    world.imap.keeps_flags = True
    world.answer("ack")
    for _turn in range(9):
        world.reader.turn()
    ((text, _url, _is_urgent),) = mailbox_warnings.found()
    assert "does not let its mails be marked as read" in text
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1
    assert len(world.outcomes()) == 1
    world.imap.keeps_flags = False
    for _turn in range(8):
        world.reader.turn()
    assert list(mailbox_warnings.found()) == []
    assert world.imap.mails[0].is_read


def test_reply_through_id_rewriting_server_uses_the_tagged_address(world: World) -> None:
    from tocsin.notify.models import Provider

    row = Provider.objects.get(name="Answers")
    row.settings = {**row.settings, "tagged": True}
    row.save()
    from tests.support.outbox_harness import changed

    changed()
    paged(world, "alice")
    assert str(world.smtp.mails[0].message["Reply-To"]).startswith("alerts+")
    world.answer("ack", In_Reply_To="<rewritten@server>", References="")
    world.reader.turn()
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
def test_unreadable_mail_blocks_no_reply(world: World, garbage: bytes) -> None:
    alert = paged(world, "alice")
    world.imap.receive(garbage)
    held = world.answer("ack")
    world.reader.turn()
    assert held.is_read
    assert Alert.objects.get(pk=alert).acknowledgements.count() == 1


def test_mail_that_raises_blocks_no_reply(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = paged(world, "alice")
    world.imap.receive(b"Subject: breaks\r\n\r\nit")
    world.answer("ack")
    whole = process.take

    def failing(provider: str, raw: bytes, now: datetime) -> object:
        if b"breaks" in raw:
            raise KeyError("whatever it is")
        return whole(provider, raw, now)

    monkeypatch.setattr(process, "take", failing)
    world.reader.turn()
    assert Alert.objects.get(pk=alert).acknowledgements.count() == 1


class Killed(BaseException):
    """A process that ends between two statements."""


def test_reply_of_a_killed_parser_is_processed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = paged(world, "alice")
    held, later = world.answer("ack"), world.answer("The line is back.")
    with monkeypatch.context() as killing:

        def die(*_: object) -> None:
            raise Killed

        killing.setattr(process, "_outcome", die)
        with pytest.raises(Killed):
            world.reader.turn()
    # Started again at once, or read by another node: somebody may still be at it.
    world.reader.turn()
    assert (held.is_read, later.is_read) == (False, True)
    world.post.go(180)
    world.reader.turn()
    assert held.is_read
    assert Alert.objects.get(pk=alert).acknowledgements.count() == 1
    assert AlertEvent.objects.filter(kind="replied").count() == 1
