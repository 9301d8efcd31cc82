"""Failed deliveries are retried, failed over or reported; a sent message is never sent again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from tests.doubles.http import Response
from tests.doubles.ntfy import NtfyDouble, ntfy_double
from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.locks import wait_for_waiters
from tests.support.outbox_harness import OutboxHarness, allow_loopback, provider
from tocsin.alerts import store as alert_rows
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, as_reason, each_of, reason_from_json
from tocsin.notify import notices
from tocsin.notify.dispatch import results
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.dispatch.results import DeliveryFailure, mark_sent, record
from tocsin.notify.dispatch.send import SentDelivery
from tocsin.notify.models import Delivery, Notification, Provider, SandboxMessage
from tocsin.notify.notices import Notice, queue_notice
from tocsin.notify.pages import AlertEnded, cancel_pages, queue_all_clear
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose
from tocsin.people.models import ContactMethod, GroupContact

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def ntfy(monkeypatch: pytest.MonkeyPatch) -> Iterator[NtfyDouble]:
    allow_loopback(monkeypatch)
    with ntfy_double() as double:
        yield double


PUSH = {"label": "Push", "channel": "ntfy", "address": "alice-topic"}


def test_page_is_retried_until_sent_and_reported_after_ten_minutes(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice"), post.user("erin", role="admin")
    alert = post.alert()
    post.page(alert, "alice")
    mail.answers += ["451 4.3.0 try later"] * 6
    tried: list[float] = []
    for second in range(0, 700):
        post.seconds = second
        if Delivery.objects.filter(alert=alert, status="queued", due_at__lte=post.now).exists():
            post.go(second)
            tried.append(second)
    assert tried == [0, 5, 35, 155, 455]
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.attempts, delivery.due_at) == ("queued", 5, post.at(755))
    assert "127.0.0.1 replied: 451 4.3.0 try later" in str(delivery.error)
    assert delivery.reason == page_planner.RETRIED_UNTIL_ANSWERED(count=5)
    (event,) = AlertEvent.objects.filter(alert=alert, kind="page_failed")
    assert str(event.reason).startswith("A page could not be sent to Alice by Email-Official: 127.0.0.1 replied: 451")
    assert mail.mails == [], "the notice to Erin failed too"
    mail.answers.append("451 4.3.0 try later")
    post.go(755)
    # One was refused, the other accepted: so the server works again, and nothing waits for it any more.
    assert post.states(alert) == [("Email-Official", "sent", "SMTP (default)")]
    assert "[Tocsin] A message could not be sent" in mail.subjects
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1


def test_the_wait_between_tries_says_what_it_waits_for(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    mail.answers += ["451 later"]
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.due_at) == ("queued", post.at(5))
    assert delivery.reason == page_planner.RETRIED(count=1)
    post.go(5)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.attempts, delivery.error, delivery.reason) == ("sent", 2, NO_REASON, NO_REASON)


def test_address_that_does_not_exist_is_given_up_at_once(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice"), post.user("erin", role="admin")
    post.page(alert := post.alert(), "alice")
    mail.answer_recipients.append("550 5.1.1 no such mailbox")
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.attempts, delivery.is_permanent) == ("failed", 1, True)
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 1
    assert Notification.objects.filter(purpose="notice").count() == 1


def test_server_error_never_exposes_the_address(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice"), post.user("erin", role="admin")
    post.page(alert := post.alert(), "alice")
    mail.answer_recipients.append("550 5.1.1 <Alice@example.org>: user unknown")
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert delivery.address == "alice@example.org"
    assert "550 5.1.1 <a•••@example.org>: user unknown" in str(delivery.error)
    (event,) = AlertEvent.objects.filter(alert=alert, kind="page_failed")
    assert "alice@example.org" not in f"{event.reason} {event.data}".lower()


def test_administrators_are_notified_once_of_repeated_failures(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("erin", role="admin")
    names = [f"user{number}" for number in range(5)]
    for name in names:
        post.user(name)
    mail.answer_recipients += ["550 no"] * 5
    post.page(post.alert(), *names)
    post.go(0)
    assert AlertEvent.objects.filter(kind="page_failed").count() == 5
    assert Notification.objects.filter(purpose="notice").count() == 1
    mail.answer_recipients += ["550 no"]
    post.page(post.alert("Later"), "user0")
    post.go(20)
    assert Notification.objects.filter(purpose="notice").count() == 1
    mail.answer_recipients += ["550 no"] * 2
    post.page(post.alert("Much later"), "user1")
    post.go(16 * 60)
    assert Notification.objects.filter(purpose="notice").count() == 2


def test_notice_names_only_the_first_of_many_failures(post: OutboxHarness) -> None:
    post.user("erin", role="admin")
    due = DueDelivery(uuid4(), uuid4(), "email", "a@example.org", Purpose.PAGE, post.now, post.now, user_name="Alice")
    failure = DeliveryFailure(due, "Mail", AttemptFailed(FailureKind.PERMANENT, as_reason("550 no")), post.now)
    with database.transaction() as connection:
        results.report_failures(connection, [failure] * (results.MAX_NAMED_FAILURES + 3))
    text = reason_from_json(Notification.objects.get(purpose="notice").data["text"])
    assert [one["more"] for one in each_of(text) if one.code == "notice.more_failures"] == [3]


def test_a_notice_that_fails_makes_no_other_notice(post: OutboxHarness, mail: SmtpDouble) -> None:
    erin = post.user("erin", role="admin")
    mail.answer_recipients.append("550 5.1.1 no such mailbox")
    with database.transaction() as connection:
        queue_notice(connection, Notice(as_reason("Hello"), as_reason("World")), post.now, user_ids=[erin.pk])
    post.go(0)
    post.go(60)
    assert [(d.status, d.reason) for d in post.deliveries()] == [("failed", page_planner.GAVE_UP(count=1))]


def test_a_reminder_that_fails_by_text_comes_by_mail(post: OutboxHarness, mail: SmtpDouble) -> None:
    provider("Swiss", "http_gateway", ["sms"], prefixes="+41", api_base="https://sms.example.org")
    alice = post.user("alice", {"label": "SMS", "channel": "sms", "address": "+4930901820"})
    notice = Notice(
        as_reason("On call in 1 hour"), as_reason("You are primary of Desk."), reason=page_planner.REMINDER_RULE()
    )
    with database.transaction() as connection:
        assert queue_notice(connection, notice, post.now, user_ids=[alice.pk], label="SMS").names
    post.go(0)
    post.go(1)
    assert post.states() == [("SMS", "failed", ""), ("E-mail", "sent", "SMTP (default)")]
    assert (mail.mails[0].to, mail.subjects) == ("alice@example.org", ["[Tocsin] On call in 1 hour"])
    assert "You are primary of Desk." in mail.mails[0].part("plain")
    assert each_of(post.deliveries()[1].notification.reason) == (
        page_planner.REMINDER_RULE(),
        page_planner.EMAILED_INSTEAD(method="SMS"),
    )


def test_the_next_provider_takes_over_at_once(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    provider("First", "ntfy", ["ntfy"], 1, api_base="http://127.0.0.1:9")  # nobody listens on the discard port
    provider("Second", "ntfy", ["ntfy"], 2, api_base=ntfy.url)
    post.user("alice", PUSH)
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.states(alert) == [("Push", "failed", "First"), ("Push", "sent", "Second")]
    first, second = post.deliveries(alert)
    assert first.reason == page_planner.FAILED_OVER(provider="First", next="Second")
    assert second.notification_id == first.notification_id
    assert len(ntfy.messages) == 1
    assert not AlertEvent.objects.filter(kind="page_failed").exists()


def test_page_cancelled_during_failover_is_cancelled_at_next_provider(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    provider("First", "ntfy", ["ntfy"], 1, api_base=ntfy.url)
    provider("Second", "ntfy", ["ntfy"], 2, api_base=ntfy.url)
    ntfy.answers.append(Response(503, takes=0.3))
    post.user("alice", PUSH)
    post.page(alert := post.alert(), "alice")
    box = post.outbox()
    box.run_once()
    with ThreadPoolExecutor(1) as pool:
        # What came of the send waits for this lock, and the cancelling waits for that.
        with database.transaction() as connection:
            connection.execute("SELECT FROM notify_delivery WHERE alert_id = %s FOR NO KEY UPDATE", (alert,))
            wait_for_waiters(1)
            cancelling = pool.submit(cancel, alert, post.now)
            wait_for_waiters(2)
        cancelling.result()
    box.settle()
    post.go(1, box)
    assert ntfy.messages == []
    assert post.states(alert) == [("Push", "failed", "First"), ("Push", "cancelled", "Second")]


def cancel(alert: int, now: datetime) -> None:
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Bob acknowledged it.", now)


def test_recoverable_providers_are_retried_when_all_fail(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    provider("First", "ntfy", ["ntfy"], 1, api_base=ntfy.url)
    provider("Second", "ntfy", ["ntfy"], 2, api_base=ntfy.url)
    ntfy.answers += [Response(503), Response(403), Response(503), Response(200, b'{"id": "m9"}')]
    post.user("alice", PUSH)
    post.page(alert := post.alert(), "alice")
    for second in (0, 5, 35):
        post.go(second)
    assert post.states(alert) == [
        ("Push", "failed", "First"),
        ("Push", "failed", "Second"),
        ("Push", "sent", "First"),
    ]
    assert [d.attempts for d in post.deliveries(alert)] == [1, 1, 2]
    assert post.deliveries(alert)[2].external_id == "m9"


def test_a_provider_that_asks_for_patience_gets_it(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    provider("Only", "ntfy", ["ntfy"], api_base=ntfy.url)
    ntfy.answers.append(Response(429, headers={"Retry-After": "90"}))
    post.user("alice", PUSH)
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.deliveries(alert)[0].due_at == post.at(90)


def test_an_unknown_outcome_is_sent_again_under_the_same_key(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    provider("Only", "ntfy", ["ntfy"], api_base=ntfy.url)
    ntfy.answers.append(Response(hangs_up=True))
    post.user("alice", PUSH)
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.deliveries(alert)[0].reason == page_planner.RETRIED_UNKNOWN(count=1)
    post.go(5)
    keys = [request.headers["idempotency-key"] for request in ntfy.http.requests]
    assert len(keys) == 2
    assert set(keys) == {str(post.deliveries(alert)[0].notification_id)}
    assert post.states(alert) == [("Push", "sent", "Only")]


@pytest.mark.parametrize("waited", [0, 3 * 24 * 3600])
def test_repeat_by_another_provider_has_the_same_message_id(
    post: OutboxHarness, monkeypatch: pytest.MonkeyPatch, waited: int
) -> None:
    allow_loopback(monkeypatch)
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    post.seconds = waited
    with smtp_double() as first, smtp_double() as second:
        for order, double in enumerate((first, second), 1):
            settings = {"host": double.host, "port": double.port, "security": "none", "sender": "t@example.org"}
            provider(f"Mail {order}", "smtp", ["email"], order, **settings)
        handle = first.handle_DATA
        first.answers.append("")

        async def wait_and_die(*arguments: Any) -> str:
            # The answer does not come for longer than the minute that a link is signed with.
            post.seconds = waited + 70
            return await handle(*arguments)

        first.handle_DATA = wait_and_die  # type: ignore[method-assign]
        post.go()
        assert [d.provider_name for d in post.deliveries(alert)] == ["Mail 1", "Mail 2"]
        ids = [double.mails[0].message["Message-ID"] for double in (first, second)]
    assert ids[0] == ids[1]


def test_unconfirmed_mail_is_resent_with_the_same_message_id(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    mail.answers.append("")
    post.page(post.alert(), "alice")
    post.go(0)
    post.go(5)
    ids = [m.message["Message-ID"] for m in mail.mails]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_failing_test_message_is_reported_immediately(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice")
    mail.answers.append("451 later")
    with database.transaction() as connection:
        notices.queue_test(connection, alice.contact_methods.get(), post.now)
    post.go(0)
    (delivery,) = post.deliveries()
    assert delivery.status == "failed"
    assert "451 later" in str(delivery.error)


@pytest.mark.parametrize(
    ("queue", "code"),
    [
        (lambda c, _user, now: notices.queue_test(c, ContactMethod(pk=0), now), "Contact method not found."),
        (
            lambda c, user, now: notices.queue_group_test(c, GroupContact(pk=0), user, now),
            "Contact not found.",
        ),
    ],
)
def test_message_to_a_contact_that_was_deleted_is_rejected(
    post: OutboxHarness, queue: Callable[..., object], code: str
) -> None:
    alice = post.user("alice")
    with database.transaction() as connection, pytest.raises(Rejected) as caught:
        queue(connection, alice, post.now)
    assert (caught.value.code, caught.value.reason.code) == ("not_found", code)


def test_provider_secret_echoed_by_server_is_removed_from_error(
    post: OutboxHarness, ntfy: NtfyDouble, caplog: pytest.LogCaptureFixture
) -> None:
    provider("Only", "ntfy", ["ntfy"], api_base=ntfy.url, secrets={"token": "tk_verysecret"})
    ntfy.answers.append(Response(400, b'{"error": "bad header Bearer tk_verysecret"}'))
    post.user("alice", PUSH), post.user("erin", role="admin")
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert "•••" in str(post.deliveries(alert)[0].error)
    everything = [f"{d.error}{d.reason}" for d in Delivery.objects.all()]
    everything += [str(n.data) for n in Notification.objects.all()]
    everything += [str(e.reason) for e in AlertEvent.objects.all()]
    assert "tk_verysecret" not in " ".join(everything) + caplog.text


# Workers that stop


def _abandoned(post: OutboxHarness, alert: int) -> Delivery:
    """A delivery whose worker was killed in mid-send: still leased, and the lease has run out."""
    Delivery.objects.filter(alert=alert).update(status="sending", attempts=1, provider_name="SMTP (default)")
    with database.transaction() as connection:
        connection.execute(
            "UPDATE notify_delivery SET leased_by = 'killed', lease_until = clock_timestamp() - interval '1 second'"
        )
    return post.deliveries(alert)[0]


def test_delivery_of_killed_worker_is_reclaimed_and_sent(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    _abandoned(post, alert)
    box = post.outbox()
    post.go(0, box)
    assert mail.mails == []
    box.maintain_leases()
    (delivery,) = post.deliveries(alert)
    assert delivery.status == "queued"
    assert delivery.reason == page_planner.RETRIED_WORKER_LOST()
    post.go(1, box)
    assert len(mail.mails) == 1
    assert post.deliveries(alert)[0].attempts == 2


def test_a_lease_that_holds_is_left_alone(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    _abandoned(post, alert)
    with database.transaction() as connection:
        connection.execute("UPDATE notify_delivery SET lease_until = clock_timestamp() + interval '9 seconds'")
    box = post.outbox()
    box.maintain_leases()
    post.go(1, box)
    assert post.deliveries(alert)[0].status == "sending"
    assert mail.mails == []


@pytest.mark.parametrize("back", ["1 hour", "1 day"])
def test_delivery_of_halted_machine_is_reclaimed_despite_clock_rollback(
    post: OutboxHarness, mail: SmtpDouble, back: str
) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    _abandoned(post, alert)
    with database.transaction() as connection:
        connection.execute("UPDATE notify_delivery SET lease_until = clock_timestamp() + %s::interval", (back,))
    box = post.outbox()
    box.maintain_leases()
    post.go(1, box)
    assert len(mail.mails) == 1


def test_what_was_cancelled_meanwhile_does_not_come_back(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    _abandoned(post, alert)
    with database.transaction() as connection:
        cancel_pages(connection, [alert], None, "Bob took it.", post.now)
    box = post.outbox()
    box.maintain_leases()
    post.go(1, box)
    assert mail.mails == []
    assert post.deliveries(alert)[0].reason == page_planner.NOT_RESENT(cause=as_reason("Bob took it."))


@pytest.mark.parametrize("reason", ["", "Bob took it."])
def test_suspended_worker_still_records_its_result(post: OutboxHarness, mail: SmtpDouble, reason: str) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    box, other = post.outbox(), post.outbox()
    original = mail.handle_DATA

    async def halted(*arguments: object) -> str:
        with database.transaction() as connection:
            if reason:
                cancel_pages(connection, [alert], None, reason, post.now)
            connection.execute("UPDATE notify_delivery SET lease_until = clock_timestamp() - interval '1 second'")
        other.maintain_leases()
        return await original(*arguments)  # type: ignore[arg-type]

    mail.handle_DATA = halted  # type: ignore[method-assign,assignment]
    post.go(0, box)
    post.go(30, other)
    (page,) = post.deliveries(alert)
    assert (page.status, len(mail.mails)) == ("sent", 1)
    assert str(page.reason) == (f"It was already being sent when this happened: {reason}" if reason else "")


def test_a_stopped_worker_does_not_send_what_another_sent(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    elapsed = [0.0]
    stopped, other = post.outbox(elapsed=lambda: elapsed[0]), post.outbox()
    jobs = stopped._claim().jobs
    with database.transaction() as connection:
        connection.execute("UPDATE notify_delivery SET lease_until = clock_timestamp() - interval '1 second'")
    other.maintain_leases()
    post.go(1, other)
    assert len(mail.mails) == 1
    elapsed[0] = 120
    stopped.in_flight.start(jobs)
    assert stopped.in_flight.wait_until(lambda running: not running, 10)
    assert len(mail.mails) == 1
    assert post.states(alert) == [("Email-Official", "sent", "SMTP (default)")]


def test_a_stopped_worker_sends_what_nobody_took_over(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    elapsed = [0.0]
    box = post.outbox(elapsed=lambda: elapsed[0])
    jobs = box._claim().jobs
    elapsed[0] = 120
    box.in_flight.start(jobs)
    box.settle()
    assert len(mail.mails) == 1
    assert post.states(alert) == [("Email-Official", "sent", "SMTP (default)")]


def test_delivery_that_kills_five_workers_is_stuck_and_reported(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice"), post.user("erin", role="admin")
    post.page(alert := post.alert(), "alice")
    _abandoned(post, alert)
    Delivery.objects.filter(alert=alert).update(attempts=5, own_failures=4)
    box = post.outbox()
    box.maintain_leases()
    post.go(1, box)
    (delivery,) = post.deliveries(alert)
    assert delivery.status == "failed"
    assert each_of(delivery.reason)[0] == page_planner.STUCK(count=5)
    assert mail.subjects == ["[Tocsin] Internal error while sending a message"]


def test_a_lease_is_renewed_while_sending(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(post.alert(), "alice")
    box = post.outbox()
    seen: list[tuple[datetime, datetime]] = []
    original = mail.handle_DATA

    async def handle(*arguments: object) -> str:
        with database.transaction() as connection:
            connection.execute("UPDATE notify_delivery SET lease_until = clock_timestamp() - interval '1 second'")
        box.maintain_leases()
        with database.transaction() as connection:
            row = connection.execute("SELECT status, lease_until, clock_timestamp() FROM notify_delivery").fetchone()
        assert row is not None
        assert row[0] == "sending"
        seen.append((row[1], row[2]))
        return await original(*arguments)  # type: ignore[arg-type]

    mail.handle_DATA = handle  # type: ignore[method-assign,assignment]
    post.go(0, box)
    ((until, at),) = seen
    assert until - at > timedelta(seconds=9)
    assert len(mail.mails) == 1


def test_unrenderable_delivery_blocks_no_other_and_is_reported(
    post: OutboxHarness, mail: SmtpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tocsin.notify.channels.email import EmailChannel

    original = EmailChannel.render

    def render(self: EmailChannel, message: object) -> object:
        # A fault of our own, as a bug in a channel would be.
        if message.alerts and message.alerts[0].subject == "Poison":  # type: ignore[attr-defined]
            raise ZeroDivisionError("division by zero")
        return original(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(EmailChannel, "render", render)
    post.user("alice"), post.user("bob"), post.user("erin", role="admin")
    poison = post.alert("Poison")
    post.page(poison, "alice")
    post.page(post.alert("Good"), "bob")
    for second in (0, 10, 50, 200, 600):
        post.go(second)
    assert [m.to for m in mail.mails] == ["bob@example.org", "erin@example.org"]
    (delivery,) = post.deliveries(poison)
    assert (delivery.status, delivery.attempts) == ("failed", 5)
    assert str(delivery.error) == "ZeroDivisionError: division by zero"
    assert each_of(delivery.reason)[0] == page_planner.STUCK(count=5)


def test_delivery_of_unknown_channel_fails_and_blocks_no_other(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice"), post.user("bob")
    post.page(post.alert(), "alice", "bob")
    Delivery.objects.filter(user=post.users["alice"]).update(channel="pigeon")
    post.go(0)
    assert [m.to for m in mail.mails] == ["bob@example.org"]
    failed = Delivery.objects.get(user=post.users["alice"])
    assert failed.status == "failed"
    assert failed.error.code == 'Unknown channel "{name}". Choose one of: {channels}.'


def test_provider_with_unreadable_secrets_is_skipped(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    broken = provider("Broken", "ntfy", ["ntfy"], 1, api_base=ntfy.url)
    broken.secrets = "not a token"
    broken.save()
    provider("Works", "ntfy", ["ntfy"], 2, api_base=ntfy.url)
    post.user("alice", PUSH)
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.states(alert) == [("Push", "sent", "Works")]
    assert "Broken" in post.outboxes[0].provider_pool.problems


def test_uncovered_address_falls_back_to_next_contact_method(post: OutboxHarness, mail: SmtpDouble) -> None:
    """It would lie in the sandbox, as sent."""
    provider("Swiss", "http_gateway", ["sms"], prefixes="+41", api_base="https://sms.example.org")
    provider("Broken", "twilio", ["voice"])
    Provider.objects.filter(name="Broken").update(secrets="not a token")
    post.user(
        "alice",
        {"label": "SMS", "channel": "sms", "address": "+4930901820"},
        {"label": "Phone", "channel": "voice", "address": "+4930901820", "wait": "5m"},
        {"label": "Email", "channel": "email", "address": "alice@example.org", "wait": "10m"},
    )
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.states(alert) == [
        ("SMS", "queued", ""), ("Phone", "queued", ""), ("Email", "sent", "SMTP (default)"),
    ]  # fmt: skip
    text, call, _ = post.deliveries(alert)
    assert str(text.error) == "No SMS provider delivers to this address."
    assert str(call.error) == "No Call provider delivers to this address. Broken cannot be used."
    assert AlertEvent.objects.filter(alert=alert, kind="page_failed").count() == 2
    assert not SandboxMessage.objects.exists()


def test_two_simultaneous_failures_advance_only_the_next_contact_method(post: OutboxHarness, mail: SmtpDouble) -> None:
    """They would be two calls at one moment, and none later."""
    provider("Swiss", "http_gateway", ["sms"], prefixes="+41", api_base="https://sms.example.org")
    texts = (
        {"label": "SMS", "channel": "sms", "address": "+4930901820"},
        {"label": "Other SMS", "channel": "sms", "address": "+4930901821"},
    )
    later = {"label": "Email", "channel": "email", "wait": "5m", "repeat": {"times": 1, "every": "5m"}}
    post.user("alice", *texts, {**later, "address": "alice@example.org"})
    # For him it is not late enough in the morning yet, and stays so.
    quiet = {"from": "09:00", "to": "09:30", "let_through": "critical", "methods": ["Email"]}
    post.user(
        "bob",
        *texts,
        {**later, "address": "bob@example.org"},
        time_zone="UTC",
        notification_rules={"quiet_hours": [quiet]},
    )
    post.page(alert := post.alert(), "alice", "bob")
    Alert.objects.update(priority="high")
    for second in (0, 10, 599):
        post.go(second)
    assert [(d.notification.label, d.sent_at) for d in post.deliveries(alert) if d.status == "sent"] == [
        ("Email", post.at(0))
    ]
    post.go(600)
    assert len(mail.mails) == 2


@pytest.mark.usefixtures("sandbox_sends")
def test_fallback_is_not_advanced_into_ending_quiet_hours(post: OutboxHarness, mail: SmtpDouble) -> None:
    provider("Swiss", "http_gateway", ["sms"], prefixes="+41", api_base="https://sms.example.org")
    quiet = {"from": "09:00", "to": "09:20", "let_through": "high", "methods": ["Email"]}
    post.user(
        "bob",
        {"label": "SMS", "channel": "sms", "address": "+4930901820"},
        {"label": "Email", "channel": "email", "wait": "10m", "address": "bob@example.org"},
        {"label": "Push", "channel": "ntfy", "wait": "15m", "address": "bob-topic"},
        time_zone="UTC",
        notification_rules={"quiet_hours": [quiet]},
    )
    post.page(alert := post.alert(), "bob")
    Alert.objects.update(priority="low")
    post.go(0)
    text, letter, push = post.deliveries(alert)
    assert (text.is_exhausted, letter.status, letter.due_at) == (True, "queued", post.at(600))
    assert (push.status, push.sent_at) == ("sent", post.at(0)), "the next way begins that may"
    post.go(600)
    assert len(mail.mails) == 1


# Several workers


def test_two_workers_share_the_work_and_send_nothing_twice(post: OutboxHarness, mail: SmtpDouble) -> None:
    names = [f"user{number}" for number in range(40)]
    for name in names:
        post.user(name)
    post.page(post.alert(), *names)
    boxes: list[DeliveryDispatcher] = [post.outbox(slots=4), post.outbox(slots=4)]

    def run(box: DeliveryDispatcher) -> None:
        while box.run_once():
            pass
        box.settle()

    threads = [threading.Thread(target=run, args=(box,)) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    post.go(1, boxes[0])
    assert sorted(m.to for m in mail.mails) == sorted(f"{name}@example.org" for name in names)
    assert {d.status for d in post.deliveries()} == {"sent"}
    assert {d.attempts for d in post.deliveries()} == {1}


def test_result_sent_during_database_outage_is_recorded_next_run(
    post: OutboxHarness, mail: SmtpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    from psycopg import OperationalError

    post.user("alice")
    post.page(alert := post.alert(), "alice")
    box = post.outbox()
    refused = threading.Event()

    def away(*given: Any) -> None:
        if not refused.is_set():
            refused.set()
            raise OperationalError("the server closed the connection")
        record(*given)

    monkeypatch.setattr("tocsin.notify.dispatch.dispatcher.record", away)
    box.run_once()
    assert refused.wait(10)
    assert post.states(alert)[0][1] == "sending"
    box.run_once()
    assert len(mail.mails) == 1
    assert post.states(alert) == [("Email-Official", "sent", "SMTP (default)")]


@pytest.mark.parametrize(
    ("before", "receipt", "after"), [("delivered", "delivered", "delivered"), ("queued", "", "sent")]
)
def test_partially_recorded_result_keeps_its_earlier_receipt(
    post: OutboxHarness, before: str, receipt: str, after: str
) -> None:
    post.user("alice")
    post.page(alert := post.alert(), "alice")
    page = _abandoned(post, alert)
    with database.transaction() as connection:
        connection.execute("UPDATE notify_delivery SET status = %s, receipt = %s, leased_by = ''", (before, receipt))
        mark_sent(connection, [SentDelivery(page.pk, "", post.now)])
    assert post.deliveries(alert)[0].status == after


def test_people_act_while_pages_leave_and_every_page_ends_well(post: OutboxHarness, mail: SmtpDouble) -> None:
    names = [f"user{number}" for number in range(8)]
    for name in names:
        post.user(name)
    alerts = [post.alert(f"Alert {number}") for number in range(30)]
    with transaction.atomic():
        settings_store.set("bundle_pages", False)
    for alert in alerts:
        post.page(alert, *names)
    boxes = [post.outbox(slots=6), post.outbox(slots=6)]
    problems: list[Exception] = []

    def sends(box: DeliveryDispatcher) -> None:
        try:
            while box.run_once():
                box.maintain_leases()
            box.settle()
        except Exception as problem:  # noqa: BLE001 - told by the test
            problems.append(problem)

    def acts(share: int) -> None:
        try:
            for alert in alerts[share::4]:
                with database.transaction() as connection:
                    alert_rows.lock(connection, [alert])
                    users = [post.users[name].pk for name in names[:4]]
                    cancel_pages(connection, [alert], users, "They acknowledged.", post.now)
                    cancel_pages(connection, [alert], None, "Somebody took it.", post.now)
                    queue_all_clear(connection, [AlertEnded(alert, as_reason("Taken."))], post.now)
        except Exception as problem:  # noqa: BLE001 - told by the test
            problems.append(problem)

    threads = [threading.Thread(target=sends, args=(box,)) for box in boxes]
    threads += [threading.Thread(target=acts, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    post.go(30, boxes[0])
    assert problems == []
    pages = Delivery.objects.filter(purpose="page")
    assert set(pages.values_list("status", flat=True)) <= {"sent", "cancelled"}
    paged = [(m.message["X-Tocsin-Alert"], m.to) for m in mail.mails if m.message["X-Tocsin-Purpose"] == "page"]
    assert len(paged) == len(set(paged)) == pages.filter(status="sent").count()
