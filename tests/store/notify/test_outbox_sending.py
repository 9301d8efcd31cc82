"""Pages are sent once by the planned contact method; cancelled ones give a reason."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.outbox_harness import OutboxHarness, changed, configured
from tocsin.access.audit import AuditActor
from tocsin.alerts.commands import Acknowledge, Assign, Close, Hold, Resume
from tocsin.alerts.models import Alert
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Person, as_reason, each_of
from tocsin.inbound.storage import messages
from tocsin.notify import notices, pause
from tocsin.notify.dispatch import claim
from tocsin.notify.models import Delivery, Notification, SandboxMessage
from tocsin.notify.notices import Notice, queue_notice
from tocsin.notify.pages import (
    AlertEnded,
    ReversedAction,
    cancel_pages,
    queue_ack_reminder,
    queue_all_clear,
    queue_pages,
    release_pages,
    restore_pages,
)
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod, Group, GroupContact
from tocsin.workflows.run.run_store import load_sla_moments

pytestmark = pytest.mark.usefixtures("database")

ADMIN = AuditActor(None, "Erin", "web")


def in_transaction(work: object) -> None:
    with database.transaction() as connection:
        work(connection)  # type: ignore[operator]


def test_a_page_leaves_once_and_says_by_whom_and_when(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    post.go(1)
    post.go(60)
    assert mail.subjects == [f"[P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #{alert})"]
    assert mail.mails[0].to == "alice@example.org"
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.attempts, delivery.provider_name) == ("sent", 1, "SMTP (default)")
    assert (delivery.sent_at, delivery.external_id) == (post.at(1), "Q1")
    assert delivery.lease_until is None


def test_a_page_says_until_when_the_sla_wants_an_answer(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    Alert.objects.filter(pk=alert).update(custom={"respond_by": post.at(12 * 60).isoformat()})
    post.page(alert, "alice")
    with claim.SLA_LOOKUPS.restored():
        claim.SLA_LOOKUPS.register(load_sla_moments)
        post.go(0)
    assert "(in 12 minutes)" in mail.mails[0].part("plain")


@pytest.mark.usefixtures("sandbox_sends")
def test_waits_and_repeats_of_contact_methods_are_kept(post: OutboxHarness) -> None:
    post.user(
        "alice",
        {"label": "Email", "channel": "email", "address": "alice@example.org"},
        {"label": "Phone", "channel": "voice", "address": "+41790000001", "wait": "3m",
         "repeat": {"times": 2, "every": "2m"}},
    )  # fmt: skip
    alert = post.alert()
    post.page(alert, "alice")
    for second in (0, 179, 180, 299, 300, 419, 420):
        post.go(second)
    sent = [(d.notification.label, d.sent_at) for d in post.deliveries(alert)]
    expected = [("Email", 0), ("Phone", 180), ("Phone", 300), ("Phone", 420)]
    assert sent == [(label, post.at(seconds)) for label, seconds in expected]


def test_channel_without_provider_uses_the_sandbox_visibly(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice", {"label": "SMS-Official", "channel": "sms", "address": "+41 79 000 00 01"})
    alert = post.alert(short_text="VPN down, 40 users")
    post.page(alert, "alice")
    post.go(0)
    (sandbox_message,) = SandboxMessage.objects.all()
    assert sandbox_message.content["text"].startswith(
        f"P1 CRITICAL Acme: VPN down, 40 users. Halo 20817. Reply ACK {alert}, ASSIGN {alert}. http"
    )
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.provider_name) == ("sandboxed", "sandbox")
    assert delivery.reason == page_planner.SANDBOXED()
    assert mail.mails == []


def test_sandbox_stores_mail_on_a_connection_used_for_decisions(post: OutboxHarness) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    with database.pool().connection() as connection, messages.short_lock_timeout(connection):
        assert connection.execute("SHOW lock_timeout").fetchone() == (messages.LOCK_TIMEOUT,)
    post.go(0)
    assert post.states(alert) == [("Email-Official", "sandboxed", "sandbox")]


def test_user_without_usable_contact_method_is_reported(post: OutboxHarness) -> None:
    post.user("alice")
    alert = post.alert()
    post.users["alice"].contact_methods.update(is_enabled=False)
    queued = post.page(alert, "alice")
    assert queued.pages == ()
    assert [str(entry.reason) for entry in queued.unreachable] == [
        "Alice was to be paged but cannot be reached: all contact methods are disabled."
    ]


def test_unusable_contact_method_is_recorded_as_failed_with_reason(post: OutboxHarness) -> None:
    post.user("alice")
    post.users["alice"].contact_methods.create(label="Old phone", channel="sms", address="12", position=5)
    alert = post.alert()
    queued = post.page(alert, "alice")
    assert queued.unreachable == ()
    post.go(0)
    assert post.states(alert) == [("Email-Official", "sandboxed", "sandbox"), ("Old phone", "failed", "")]
    assert "not a phone number" in str(post.deliveries(alert)[1].reason)


def test_acknowledging_user_is_not_paged_again(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice"), post.user("bob")
    alert = post.alert()
    post.page(alert, "alice", "bob")
    post.act(alert, Acknowledge(actor=post.actor("alice")))
    post.go(0)
    assert [m.to for m in mail.mails] == ["bob@example.org"]
    cancelled = Delivery.objects.get(status="cancelled")
    assert (str(cancelled.reason), cancelled.ended_at) == ("Alice has acknowledged the alert.", post.now)


def test_owner_is_not_paged_again(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    post.act(alert, Assign(actor=post.actor("alice"), name="Alice", user_id=alice.pk))
    post.go(0)
    assert mail.mails == []
    assert post.deliveries(alert)[0].reason == page_planner.ASSIGNED(user=Person("Alice", post.users["alice"].pk))


def test_closed_alert_pages_no_user(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    post.act(alert, Close(actor=post.actor("alice")))
    post.go(0)
    assert mail.mails == []
    assert post.states(alert) == [("Email-Official", "cancelled", "")]
    assert post.deliveries(alert)[0].reason == page_planner.ALERT_CLOSED()


def test_a_page_follows_its_contact_method_to_another_address(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice", {"label": "Mail", "channel": "email", "address": "old@example.org", "wait": "3m"})
    alert = post.alert()
    post.page(alert, "alice")
    alice.contact_methods.update(address="new@example.org")
    post.go(180)
    assert [sent.to for sent in mail.mails] == ["new@example.org"]


def test_page_by_disabled_contact_method_is_not_sent(post: OutboxHarness, mail: SmtpDouble) -> None:
    first = {"label": "Mail", "channel": "email", "address": "alice@example.org", "wait": "3m"}
    second = {"label": "Other", "channel": "email", "address": "other@example.org", "wait": "9m"}
    alice = post.user("alice", first, second)
    alert = post.alert()
    post.page(alert, "alice")
    alice.contact_methods.filter(label="Mail").update(is_enabled=False)
    post.go(180)
    assert [sent.to for sent in mail.mails] == ["other@example.org"]


def test_page_of_replaced_only_contact_method_uses_the_new_one(post: OutboxHarness, mail: SmtpDouble) -> None:
    repeat = {"times": 1, "every": "5m"}
    alice = post.user(
        "alice", {"label": "SMS", "channel": "sms", "address": "+41790000001", "wait": "3m", "repeat": repeat}
    )
    post.page(alert := post.alert(), "alice")
    alice.contact_methods.all().delete()
    ContactMethod.objects.create(user=alice, label="Mail", channel="email", address="alice@example.org")
    post.go(180)
    assert [sent.to for sent in mail.mails] == ["alice@example.org"]
    first, _repeated = post.deliveries(alert)
    assert (first.status, first.notification.label) == ("sent", "Mail")
    assert each_of(first.notification.reason)[-1] == page_planner.FELL_BACK(method="Mail", previous="SMS")
    post.go(480)
    assert post.deliveries(alert)[1].error.code == page_planner.METHOD_REMOVED.code, "she has been paged"


def test_a_page_is_not_turned_into_quiet_hours(post: OutboxHarness, mail: SmtpDouble) -> None:
    quiet = {"from": "09:00", "to": "10:00", "let_through": "high", "methods": ["Mail"]}
    alice = post.user(
        "alice",
        {"label": "SMS", "channel": "sms", "address": "+41790000001", "wait": "3m"},
        {"label": "Mail", "channel": "email", "address": "alice@example.org"},
        time_zone="UTC",
        notification_rules={"quiet_hours": [quiet]},
    )
    methods = alice.contact_methods
    methods.filter(label="Mail").update(is_enabled=False)
    post.page(alert := post.alert(), "alice")
    Alert.objects.update(priority="low")
    methods.filter(label="SMS").delete()
    methods.update(is_enabled=True)
    post.go(180)
    assert ([page.status for page in post.deliveries(alert)], mail.mails) == (["failed"], [])


def test_page_to_deleted_account_is_cancelled_with_reason(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice", {"label": "SMS", "channel": "sms", "address": "+41790000001", "wait": "5m"})
    post.page(alert := post.alert(), "alice")
    people.delete_user(alice, actor=ADMIN, now=post.now)
    post.go(300)
    (page,) = post.deliveries(alert)
    assert (page.status, page.reason) == ("cancelled", page_planner.RECIPIENT_DELETED())


def test_page_to_group_contact_follows_changes_and_deletion(post: OutboxHarness, mail: SmtpDouble) -> None:
    desk = Group.objects.create(name="Desk")
    moved, group_contact, renamed = (
        GroupContact.objects.create(group=desk, label=label, channel="email", address=f"{label}@example.org")
        for label in ("moved", "gone", "renamed")
    )
    alert = post.alert()
    starts = [
        PageRequest(alert, post.at(180), "Step 1.", group_contact_id=one.pk) for one in (moved, group_contact, renamed)
    ]
    with database.transaction() as connection:
        queue_pages(connection, starts, post.now)
    GroupContact.objects.filter(pk=moved.pk).update(address="new@example.org")
    group_contact.delete(), renamed.delete()
    GroupContact.objects.create(group=desk, label="other", channel="email", address="renamed@example.org")
    post.go(180)
    assert sorted(sent.to for sent in mail.mails) == ["new@example.org", "renamed@example.org"]
    assert post.deliveries(alert)[1].error == page_planner.CONTACT_REMOVED(method="gone")


def test_a_page_waits_for_the_end_of_a_hold(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    post.act(alert, Hold(actor=post.actor("alice"), until=post.at(600)))
    post.go(1)
    (delivery,) = post.deliveries(alert)
    assert (delivery.status, delivery.due_at) == ("queued", post.at(600))
    assert delivery.reason == page_planner.ON_HOLD()
    post.seconds = 60
    post.act(alert, Resume(actor=post.actor("alice")))
    with database.transaction() as connection:
        release_pages(connection, [alert], post.now)
    post.go(61)
    assert len(mail.mails) == 1
    assert post.deliveries(alert)[0].reason == page_planner.WAITED_FOR_HOLD()


def test_manually_escalated_user_is_paged_despite_hold(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.act(alert, Hold(actor=post.actor("alice"), until=post.at(600)))
    post.page(alert, "alice", wake=True)
    post.go(1)
    assert len(mail.mails) == 1


def test_pages_wait_during_pause_with_reason_and_leave_afterwards(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    pause.start("Core switch maintenance", post.at(3600), ADMIN, post.now)
    post.page(alert, "alice")
    post.go(30)
    (delivery,) = post.deliveries(alert)
    assert delivery.status == "queued"
    assert delivery.reason == page_planner.PAUSED(cause="Core switch maintenance")
    assert mail.mails == []
    assert pause.end(ADMIN, post.at(60))
    post.go(61)
    assert len(mail.mails) == 1
    assert post.deliveries(alert)[0].reason == page_planner.WAITED_FOR_PAUSE()


def test_a_pause_ends_by_itself(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    pause.start("Maintenance", post.at(300), ADMIN, post.now)
    post.page(post.alert(), "alice")
    post.go(299)
    assert mail.mails == []
    post.go(300)
    assert len(mail.mails) == 1


def test_a_pause_holds_back_pages_and_nothing_else(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice")
    pause.start("Maintenance", post.at(300), ADMIN, post.now)
    in_transaction(
        lambda c: queue_notice(
            c, Notice(as_reason("Certificate"), as_reason("It ends soon.")), post.now, user_ids=[alice.pk]
        )
    )
    post.go(1)
    assert mail.subjects == ["[Tocsin] Certificate"]


def test_cancelling_keeps_the_rows_with_the_reason(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice, bob = post.user("alice"), post.user("bob")
    alert = post.alert()
    post.page(alert, "alice", "bob")

    def cancel(connection: Connection) -> None:
        cancel_pages(connection, [alert], [alice.pk], "Alice acknowledged by e-mail.", post.now)

    in_transaction(cancel)
    post.go(1)
    assert [m.to for m in mail.mails] == ["bob@example.org"]
    delivery = Delivery.objects.get(user=alice)
    assert (delivery.status, str(delivery.reason), delivery.ended_at) == (
        "cancelled",
        "Alice acknowledged by e-mail.",
        post.at(0),
    )
    assert Delivery.objects.get(user=bob).status == "sent"


def test_page_cancelled_in_transit_is_not_retried_unless_undone(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    box = post.outbox()

    def cancel_in_mid_send(answer: str) -> None:
        in_transaction(lambda c: cancel_pages(c, [alert], None, "Bob acknowledged.", post.now))
        post.seconds += 5

    mail.answers.append("451 try again")
    original = mail.handle_DATA

    async def handle(*arguments: object) -> str:
        cancel_in_mid_send("")
        return await original(*arguments)  # type: ignore[arg-type]

    mail.handle_DATA = handle  # type: ignore[method-assign,assignment]
    post.go(0, box)
    (delivery,) = post.deliveries(alert)
    assert delivery.status == "cancelled"
    assert delivery.reason == page_planner.STOPPED_BEFORE_SENT(cause=as_reason("Bob acknowledged."))
    post.go(30, box)
    assert mail.mails == []
    mail.handle_DATA = original  # type: ignore[method-assign]
    in_transaction(lambda c: restore_pages(c, {alert: ReversedAction(post.at(0), "Bob took that back.")}))
    post.go(31, box)
    assert [m.to for m in mail.mails] == ["alice@example.org"]


def test_page_sent_despite_cancellation_is_marked(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    original = mail.handle_DATA

    async def handle(*arguments: object) -> str:
        in_transaction(lambda c: cancel_pages(c, [alert], None, "Bob acknowledged.", post.now))
        return await original(*arguments)  # type: ignore[arg-type]

    mail.handle_DATA = handle  # type: ignore[method-assign,assignment]
    post.go(0)
    (delivery,) = post.deliveries(alert)
    assert delivery.status == "sent"
    assert str(delivery.reason) == "It was already being sent when this happened: Bob acknowledged."


def test_all_clear_is_sent_once_to_paged_unresponsive_users(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice")
    for name in ("bob", "carol", "dave"):  # carol answers, dave is never paged
        post.user(name)
    alert = post.alert()
    post.page(alert, "alice", "bob", "carol")
    post.go(0)
    mail.mails.clear()
    post.act(alert, Acknowledge(actor=post.actor("carol")))
    sentence = as_reason(f"Assigned to Alice: VPN down (#{alert}). Nothing to do.")
    over = [AlertEnded(alert, sentence, frozenset({alice.pk}))]
    in_transaction(lambda c: queue_all_clear(c, over, post.now))
    post.go(20)
    in_transaction(lambda c: queue_all_clear(c, over, post.now))
    post.go(40)
    assert [m.to for m in mail.mails] == ["bob@example.org"]
    assert str(sentence) in mail.mails[0].part("plain")
    assert mail.subjects == [f"[P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #{alert})"]


def test_user_paged_again_is_informed_again(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    for round_ in range(2):
        post.page(alert, "alice")
        post.go(round_ * 100 + 20)
        in_transaction(lambda c: queue_all_clear(c, [AlertEnded(alert, as_reason("Closed by Bob."))], post.now))
        post.go(round_ * 100 + 40)
    assert Notification.objects.filter(purpose="all_clear").count() == 2


@pytest.mark.usefixtures("sandbox_sends")
def test_an_all_clear_takes_the_quietest_channel_that_was_used(post: OutboxHarness) -> None:
    post.user(
        "alice",
        {"label": "Phone", "channel": "voice", "address": "+41790000001"},
        {"label": "SMS", "channel": "sms", "address": "+41790000001"},
        {"label": "Push", "channel": "ntfy", "address": "alice-topic", "wait": "5m"},
    )
    alert = post.alert()
    post.page(alert, "alice")
    post.go(0)
    in_transaction(lambda c: queue_all_clear(c, [AlertEnded(alert, as_reason("Closed by Bob."))], post.now))
    (clear,) = Notification.objects.filter(purpose="all_clear")
    assert (clear.channel, clear.label) == ("sms", "SMS")


def test_all_clear_for_unsent_page_is_dropped(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    alert = post.alert()
    post.page(alert, "alice")
    mail.answer_recipients.append("550 5.1.1 no such mailbox")
    original = mail.handle_RCPT

    async def handle(*arguments: object) -> str:
        in_transaction(lambda c: queue_all_clear(c, [AlertEnded(alert, as_reason("Closed by Bob."))], post.now))
        return await original(*arguments)  # type: ignore[arg-type]

    mail.handle_RCPT = handle  # type: ignore[method-assign,assignment]
    post.go(0)
    post.go(30)
    clear = Delivery.objects.get(purpose="all_clear")
    assert (clear.status, clear.reason) == ("cancelled", page_planner.PAGE_NOT_SENT())


@pytest.mark.usefixtures("sandbox_sends")
def test_acknowledgement_reminder_uses_undelayed_contact_methods(post: OutboxHarness) -> None:
    alice = post.user(
        "alice",
        {"label": "Email", "channel": "email", "address": "alice@example.org"},
        {"label": "SMS", "channel": "sms", "address": "+41790000001"},
        {"label": "Phone", "channel": "voice", "address": "+41790000001", "wait": "3m"},
    )
    alert = post.alert()
    in_transaction(lambda c: queue_ack_reminder(c, [(alert, alice.pk)], post.now))
    post.go(0)
    assert post.states(alert) == [("Email", "sent", "sandbox"), ("SMS", "sent", "sandbox")]
    text = SandboxMessage.objects.get(channel="sms").content["text"]
    assert text.startswith(f"Still on it, Alice? Acme: VPN down (#{alert}). Reply ACK {alert} within 5 minutes")


def test_acknowledgement_reminder_without_contact_method_says_so(post: OutboxHarness) -> None:
    alice = post.user("alice")
    alice.contact_methods.all().delete()
    with database.transaction() as connection:
        (missed,) = queue_ack_reminder(connection, [(post.alert(), alice.pk)], post.now)
    assert missed.reason.data["cause"] == {"code": "page.no_usable_method", "data": {}}


def test_a_test_message_leaves_by_the_method_it_is_for(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice")
    method = alice.contact_methods.get()
    in_transaction(lambda c: notices.queue_test(c, method, post.now))
    post.go(0)
    assert mail.subjects == ["Tocsin test: Email-Official works"]
    assert mail.mails[0].message["X-Tocsin-Purpose"] == "test"


def test_changed_configuration_applies_to_the_next_run(
    post: OutboxHarness, mail: SmtpDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.user("alice")
    configured(monkeypatch, smtp_url=None)
    post.page(post.alert(), "alice")
    post.go(0)
    assert mail.mails == []
    configured(monkeypatch, smtp_url=mail.url)
    changed()
    post.page(post.alert("Second"), "alice")
    post.go(20)
    assert len(mail.mails) == 1


def test_group_contact_link_acts_for_no_user(post: OutboxHarness, mail: SmtpDouble) -> None:
    from tocsin.notify.rules.page_planner import PageRequest
    from tocsin.people.models import Group, GroupContact

    group = Group.objects.create(name="Service Desk")
    contact = GroupContact.objects.create(group=group, label="Desk list", channel="email", address="desk@example.org")
    alert = post.alert()
    start = PageRequest(alert, post.now, "The desk's list.", group_contact_id=contact.pk)
    in_transaction(lambda c: queue_pages(c, [start], post.now))
    post.go(0)
    (sent,) = mail.mails
    assert sent.to == "desk@example.org"
    assert f"/alerts/{alert}" in sent.part("plain")
    assert "/a/" not in sent.part("plain")


def test_pages_of_a_hundred_alerts_are_queued_list_wise(post: OutboxHarness) -> None:
    alice = post.user("alice")
    numbers = [post.alert(f"Alert {number}") for number in range(20)]
    with database.transaction() as connection:
        from tocsin.notify.rules.page_planner import PageRequest

        starts = [PageRequest(number, post.now, "Because.", alice.pk) for number in numbers]
        queued = queue_pages(connection, starts, post.now)
    assert len(queued.pages) == 20
    assert Delivery.objects.filter(is_first=True).count() == 20
    post.seconds = 5
    post.page(numbers[0], "alice")
    assert Delivery.objects.filter(is_first=True).count() == 20
    assert Delivery.objects.latest("id").due_at - post.start == timedelta(seconds=5)
