"""Floods are bundled; no integration or hanging provider delays others."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from django.db import transaction

from tests.doubles.http import Response
from tests.doubles.ntfy import NtfyDouble, ntfy_double
from tests.doubles.smtp import SmtpDouble, smtp_double
from tests.support.outbox_harness import OutboxHarness, allow_loopback, changed, provider
from tests.support.variants import first
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert
from tocsin.core import ids
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, as_reason
from tocsin.escalation.reasons import HEADING_NOBODY_ANSWERED
from tocsin.inbound.models import Integration
from tocsin.notify import notices
from tocsin.notify.dispatch import claim
from tocsin.notify.models import Delivery, LastSent
from tocsin.notify.notices import Notice, queue_notice
from tocsin.notify.pages import AlertEnded, queue_all_clear
from tocsin.notify.rules.page_planner import BUNDLED_LATER, HOURLY_LIMIT_REACHED

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def ntfy(monkeypatch: pytest.MonkeyPatch) -> Iterator[NtfyDouble]:
    allow_loopback(monkeypatch)
    with ntfy_double() as double:
        yield double


def test_first_page_leaves_immediately_and_following_pages_are_bundled(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    first = post.alert("First")
    post.page(first, "alice")
    post.go(0)
    later = []
    for second in (1, 2, 3.5):
        post.seconds = second
        later.append(post.alert(f"Later {second}"))
        post.page(later[-1], "alice")
        post.go(second)
    assert len(mail.mails) == 1
    post.go(9.9)
    assert len(mail.mails) == 1
    Alert.objects.filter(pk=later[0]).update(priority="low")
    post.go(10)
    # The most urgent first, as old as they may be.
    assert mail.subjects == [
        f"[P1 Critical] Acme: First (Halo 20817) (Tocsin #{first})",
        f"[P1 Critical] 3 alerts: Acme: Later 2 (Tocsin #{later[1]}) and 2 more",
    ]
    bundle = mail.mails[1]
    for number, second in zip(later, (1, 2, 3.5), strict=True):
        for kind in ("plain", "html"):
            assert f"#{number}" in bundle.part(kind)
            assert f"Acme: Later {second}" in bundle.part(kind)
    assert bundle.message["X-Tocsin-Alert"] == ", ".join(str(number) for number in (*later[1:], later[0]))
    assert bundle.message["Importance"] == "high"
    reasons = [d.reason for d in post.deliveries() if d.alert_id in later]
    assert str(reasons[0]) == f"It was sent in a bundle with #{later[1]} and #{later[2]}."
    assert {d.status for d in post.deliveries()} == {"sent"}


def test_page_after_a_sent_one_waits_without_a_claim(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(post.alert("First"), "alice")
    post.go(0)
    post.seconds = 4
    post.page(post.alert("Later"), "alice")
    (later,) = (d for d in post.deliveries() if d.status == "queued")
    assert (later.due_at, later.reason) == (post.at(10), BUNDLED_LATER())
    post.seconds = 10
    post.page(post.alert("Latest"), "alice")
    assert [d.due_at for d in post.deliveries() if d.status == "queued"] == [post.at(10), post.at(10)]
    post.go(10)
    assert len(mail.mails) == 2


def test_small_claim_takes_whole_bundles_and_leaves_the_rest(post: OutboxHarness, mail: SmtpDouble) -> None:
    names = ("alice", "bob", "carol")
    for name in names:
        post.user(name)
    for number in range(5):
        post.page(post.alert(f"Alert {number}"), *names)
        post.go(0)
    post.seconds = 10
    box, counts = post.outbox(), []
    with database.transaction() as connection:
        box.provider_pool.refresh(connection)
    for _claim in names:
        with database.transaction() as connection:
            claimed = claim.claim(
                connection, box.provider_pool, {}, {}, node=box.node, slots=96, now=post.now, pause=None, most=9
            )
        counts.append([len(job.ids) for job in claimed.jobs])
    assert len(counts[0]) < len(names)
    assert [count for claimed_counts in counts for count in claimed_counts] == [4, 4, 4]


def test_of_several_due_at_once_the_first_leaves_alone(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    numbers = [post.alert(f"Alert {number}") for number in range(4)]
    for number in numbers:
        post.page(number, "alice")
    post.go(0)
    assert mail.subjects == [f"[P1 Critical] Acme: Alert 0 (Halo 20817) (Tocsin #{numbers[0]})"]
    waiting = [d for d in post.deliveries() if d.status == "queued"]
    assert {d.due_at for d in waiting} == {post.at(10)}
    assert all(d.reason == BUNDLED_LATER() for d in waiting)
    post.go(10)
    assert len(mail.mails) == 2
    assert "3 alerts" in mail.subjects[1]


def test_flood_becomes_few_messages_that_name_every_alert(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    numbers = [post.alert(f"Alert {number}") for number in range(120)]
    for number in numbers:
        post.page(number, "alice")
    for second in (0, 10, 20, 30):
        post.go(second)
    assert len(mail.mails) == 2
    named = " ".join(m.part("plain") for m in mail.mails)
    assert all(f"#{number} P1 Critical Acme: Alert" in named for number in numbers)
    # Not more than ten seconds after each was due.
    assert all((d.sent_at - d.queued_at).total_seconds() <= 10 for d in post.deliveries() if d.sent_at)


@pytest.mark.parametrize("channel", first(1, ["sms", "voice", "push", "chat"]))
@pytest.mark.usefixtures("sandbox_sends")
def test_500_alerts_in_a_minute_are_few_texts(post: OutboxHarness, channel: str) -> None:
    from tocsin.notify.models import SandboxMessage

    address = "slack:C012AB3CD" if channel == "chat" else "+41790000001"
    post.user("alice", {"label": "Phone", "channel": channel, "address": address})
    numbers: list[int] = []
    for second in range(60):
        post.seconds = second
        for number in range(second * 25 // 3, (second + 1) * 25 // 3):
            priority = "low" if number % 7 else "high"
            numbers.append(post.alert(f"Host {number} down"))
            Alert.objects.filter(pk=numbers[-1]).update(priority=priority)
            post.page(numbers[-1], "alice")
        post.go(second)
    post.go(60)
    assert len(numbers) == 500
    made = list(SandboxMessage.objects.order_by("id"))
    assert len(made) == 7, "one at once, then one every ten seconds"
    for message in made[1:]:
        text = f"{message.content['subject']} {message.content['text']}"
        count = int(re.search(r"(\d+) alerts", text)[1])  # type: ignore[index]
        shown = [int(number) for number in re.findall(r"Host (\d+)", text)]
        assert count >= 70
        assert re.search(rf"[Aa]nd {count - len(shown)} more", text), text
        # The worst come first.
        assert all(number % 7 == 0 for number in shown[:10])
    assert {d.status for d in post.deliveries()} == {"sent"}
    assert all((d.sent_at - d.queued_at).total_seconds() <= 10 for d in post.deliveries() if d.sent_at)


def test_after_a_quiet_moment_a_page_leaves_at_once_again(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    post.page(post.alert("First"), "alice")
    post.go(0)
    post.seconds = 11
    post.page(post.alert("Second"), "alice")
    post.go(11)
    assert len(mail.mails) == 2


@pytest.mark.usefixtures("sandbox_sends")
def test_people_and_channels_do_not_wait_for_each_other(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user(
        "alice",
        {"label": "Email", "channel": "email", "address": "alice@example.org"},
        {"label": "Private", "channel": "email", "address": "alice@example.net"},
        {"label": "SMS", "channel": "sms", "address": "+41790000001"},
    )
    post.user("bob", {"label": "SMS", "channel": "sms", "address": "+41790000001"})
    alert = post.alert()
    post.page(alert, "alice", "bob")
    post.go(0)
    assert [status for _, status, _ in post.states(alert)] == ["sent"] * 4


def test_what_is_over_is_left_out_of_a_bundle(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    numbers = [post.alert(f"Alert {number}") for number in range(4)]
    for number in numbers:
        post.page(number, "alice")
    post.go(0)
    post.act(numbers[2], Close(actor=post.actor("alice")))
    post.go(10)
    assert f"#{numbers[2]}" not in mail.mails[1].part("plain")
    assert "2 alerts" in mail.subjects[1]


def test_text_message_names_three_alerts_and_counts_the_rest(post: OutboxHarness) -> None:
    from tocsin.notify.models import SandboxMessage

    post.user("alice", {"label": "SMS", "channel": "sms", "address": "+41790000001"})
    numbers = [post.alert(f"Server {number} does not answer any more since this morning") for number in range(9)]
    for number in numbers:
        post.page(number, "alice")
    post.go(0)
    post.go(10)
    texts = [m.content["text"] for m in SandboxMessage.objects.order_by("id")]
    assert len(texts) == 2
    assert [number for number in numbers if f"#{number} " in texts[1]] == numbers[1:4]
    assert "8 alerts: Acme: Server # does not answer any more since this morning. " in texts[1]
    assert " and 5 more. " in texts[1]
    assert re.search(r" https?://\S+/a/[\w-]{30,}$", texts[1]), "the link is personal"


def test_bundling_can_be_switched_off(post: OutboxHarness, mail: SmtpDouble) -> None:
    from django.db import transaction

    with transaction.atomic():
        settings_store.set("bundle_pages", False)
    post.user("alice")
    for number in range(5):
        post.page(post.alert(f"Alert {number}"), "alice")
    post.go(0)
    assert len(mail.mails) == 5
    assert LastSent.objects.count() == 0


def test_failed_first_message_retries_without_bundling_delay(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    provider("First", "ntfy", ["ntfy"], 1, api_base=ntfy.url)
    provider("Second", "ntfy", ["ntfy"], 2, api_base=ntfy.url)
    ntfy.answers.append(Response(500))
    post.user("alice", {"label": "Push", "channel": "ntfy", "address": "alice"})
    post.page(alert := post.alert(), "alice")
    post.go(0)
    assert post.states(alert)[1] == ("Push", "sent", "Second")


def test_a_bundle_that_fails_is_tried_again_together(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    for number in range(3):
        post.page(post.alert(f"Alert {number}"), "alice")
    post.go(0)
    mail.answers.append("451 later")
    post.go(10)
    assert len(mail.mails) == 1
    post.go(15)
    assert len(mail.mails) == 2
    assert "2 alerts" in mail.subjects[1]


def _integration(name: str, now: datetime) -> Integration:
    return Integration.objects.create(
        name=name, kind="api", created_at=now, token_hash=ids.token_hash(name), token=name
    )


def test_a_storm_of_one_integration_does_not_hold_up_another(post: OutboxHarness, mail: SmtpDouble) -> None:
    storm, calm = _integration("Storm", post.start), _integration("Calm", post.start)
    stormy = [f"user{number}" for number in range(60)]
    for name in (*stormy, "calm"):
        post.user(name)
    post.page(post.alert("Storm", storm.pk), *stormy)
    post.page(post.alert("Calm", calm.pk), "calm")
    box = post.outbox(slots=10)
    box.run_once()
    box.settle()
    assert len(mail.mails) < 15
    assert "calm@example.org" in [m.to for m in mail.mails]


@pytest.mark.parametrize("per_minute", [0, 6000])
def test_pages_behind_an_older_storm_leave_in_turn_with_it(
    post: OutboxHarness, monkeypatch: pytest.MonkeyPatch, per_minute: int
) -> None:
    allow_loopback(monkeypatch)
    storm, calm = _integration("Storm", post.start), _integration("Calm", post.start)
    names = [f"user{number}" for number in range(20)]
    for name in names:
        post.user(name)
    with transaction.atomic():
        settings_store.set("bundle_pages", False)
    for number in range(15):
        post.page(post.alert(f"Storm {number}", storm.pk), *names)
    post.seconds = 1
    for number in range(2):
        post.page(post.alert(f"Calm {number}", calm.pk), *names)
    with smtp_double() as mail:
        settings = {"host": mail.host, "port": mail.port, "security": "none", "allow_private": True, "rate": per_minute}
        provider("Mail", "smtp", ["email"], sender="t@example.org", **settings)
        for second in (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7):
            post.go(second)
        places = [place for place, subject in enumerate(mail.subjects) if "Calm" in subject]
    assert len(places) == 40
    # In turn: 80 mails. Of those that were already given to the provider, some arrive in another order.
    assert places[-1] < 120


def test_first_pages_leave_before_others_of_the_same_integration(post: OutboxHarness, mail: SmtpDouble) -> None:
    one = _integration("One", post.start)
    names = [f"user{number}" for number in range(30)]
    for name in names:
        post.user(name)
    old = post.alert("Old", one.pk)
    post.page(old, *names[:20])
    post.seconds = 1
    Delivery.objects.update(is_first=False)
    post.page(post.alert("New", one.pk), *names[20:])
    box = post.outbox(slots=10)
    box.run_once()
    box.settle()
    assert mail.mails
    assert all("New" in subject for subject in mail.subjects)


def test_integration_shares_one_quota_for_first_and_later_pages(post: OutboxHarness, mail: SmtpDouble) -> None:
    storm, calm = _integration("Storm", post.start), _integration("Calm", post.start)
    names = [f"user{number}" for number in range(50)]
    for name in names:
        post.user(name)
    post.page(post.alert("Old storm", storm.pk), *names[:20])
    post.seconds = 1
    post.page(post.alert("Calm", calm.pk), *names[20:30])
    Delivery.objects.update(is_first=False)
    post.page(post.alert("New storm", storm.pk), *names[30:])
    box = post.outbox(slots=10)
    box.run_once()
    box.settle()
    assert sum("Calm" in subject for subject in mail.subjects) >= 3


def test_later_pages_use_no_quota_of_due_pages(post: OutboxHarness, mail: SmtpDouble) -> None:
    later = {"label": "Phone", "channel": "voice", "address": "+41790000001", "wait": "10m"}
    post.user("waits", later)
    for number in range(20):
        post.page(post.alert("Later", _integration(f"Later {number}", post.start).pk), "waits")
    busy = _integration("Busy", post.start)
    names = [f"user{number}" for number in range(15)]
    for name in names:
        post.user(name)
    post.page(post.alert("Busy", busy.pk), *names)
    box = post.outbox(slots=20)
    box.run_once()
    box.settle()
    assert len(mail.mails) >= 15


def test_a_provider_that_hangs_leaves_room_for_the_others(post: OutboxHarness, ntfy: NtfyDouble) -> None:
    event = threading.Event()
    with smtp_double() as mail:
        original = mail.handle_DATA

        async def hangs(*arguments: object) -> str:
            import asyncio

            while not event.is_set():
                await asyncio.sleep(0.01)
            return await original(*arguments)  # type: ignore[arg-type]

        mail.handle_DATA = hangs  # type: ignore[method-assign,assignment]
        provider("Hangs", "smtp", ["email"], host="127.0.0.1", port=mail.port)
        provider("Works", "ntfy", ["ntfy"], api_base=ntfy.url)
        names = [f"user{number}" for number in range(40)]
        for name in names:
            post.user(name)
        post.page(post.alert("Mail"), *names)
        box = post.outbox(slots=20)
        for _ in range(5):
            box.run_once()
        post.user("push", {"label": "Push", "channel": "ntfy", "address": "push-topic"})
        post.page(post.alert("Push"), "push")
        for _ in range(5):
            box.run_once()
        assert box.in_flight.wait_until(lambda jobs: not any(job.provider == "Works" for job in jobs), timeout=10)
        assert len(ntfy.messages) == 1
        assert mail.mails == []
        event.set()
        box.settle()
        post.go(1, box)
        assert len(mail.mails) == 40


def test_all_clears_leave_bundled_too(post: OutboxHarness, mail: SmtpDouble) -> None:
    from tocsin.core.db import database

    post.user("alice")
    numbers = [post.alert(f"Alert {number}") for number in range(5)]
    for number in numbers:
        post.page(number, "alice")
    post.go(0)
    post.go(10)
    mail.mails.clear()
    with database.transaction() as connection:
        over = [
            AlertEnded(number, as_reason(f"Closed by Bob: Alert (#{number}). Nothing to do.")) for number in numbers
        ]
        queue_all_clear(connection, over, post.at(30))
    post.go(30)
    post.go(40)
    assert len(mail.mails) == 2
    assert mail.subjects[1].startswith("All clear for 4 alerts")
    assert all(f"(#{number})" in mail.mails[1].part("plain") for number in numbers[1:])


def test_bundling_pages_are_rescheduled_after_configuration_change(post: OutboxHarness, mail: SmtpDouble) -> None:
    from django.db import transaction

    post.user("alice")
    post.page(post.alert("First"), "alice")
    post.page(post.alert("Second"), "alice")
    post.go(0)
    with transaction.atomic():
        settings_store.set("bundle_pages", False)
    changed()
    post.go(10)
    assert len(mail.mails) == 2


def test_only_one_of_two_nodes_sends_the_first_message(now: datetime) -> None:
    from datetime import timedelta

    from tocsin.core.db import database
    from tocsin.notify.dispatch.claim import apply_limits
    from tocsin.notify.rules.pre_send_check import BundleKey

    alice, bob = BundleKey(1, "email", "a@example.org", "page"), BundleKey(2, "email", "b@example.org", "page")

    def passes(keys: list[BundleKey], at: datetime) -> set[BundleKey]:
        with database.transaction() as connection:
            return apply_limits(connection, keys, [], at)

    assert passes([alice], now) == {alice}
    assert passes([alice, bob], now + timedelta(milliseconds=5)) == {bob}
    assert passes([alice], now + timedelta(seconds=10)) == {alice}


def test_100_exhausted_escalations_are_few_mails_to_a_manager(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("carol")
    numbers = [post.alert(f"Alert {number}") for number in range(60)]
    with database.transaction() as connection:
        for number in numbers:
            notice = Notice(
                as_reason(f"No response: Acme (#{number})"),
                as_reason("Nobody answered."),
                alert_id=number,
                heading=HEADING_NOBODY_ANSWERED(),
            )
            queue_notice(connection, notice, post.now, user_ids=[post.users["carol"].pk])
        queue_notice(
            connection, Notice(as_reason("Disk"), as_reason("It is full.")), post.now, user_ids=[post.users["carol"].pk]
        )
    for second in (0, 10, 20):
        post.go(second)
    assert sorted(mail.subjects) == sorted(
        [
            f"[Tocsin] No response: Acme (#{numbers[0]}) (Tocsin #{numbers[0]})",
            "[Tocsin] Disk",
            f"[Tocsin] No response: 59 alerts (Tocsin #{numbers[1]})",
        ]
    )
    text = " ".join(one.part("plain") for one in mail.mails)
    assert all(f"#{number}" in text for number in numbers)


def test_several_notices_in_one_are_headed_in_their_readers_language(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("dana", language="de")
    numbers = [post.alert(f"Alert {number}") for number in range(3)]
    with database.transaction() as connection:
        for number in numbers:
            notice = Notice(as_reason(f"A (#{number})"), NO_REASON, alert_id=number, heading=HEADING_NOBODY_ANSWERED())
            queue_notice(connection, notice, post.now, user_ids=[post.users["dana"].pk])
    for second in (0, 10):
        post.go(second)
    assert mail.subjects[-1] == f"[Tocsin] Keine Reaktion: 2 Alarme (Tocsin #{numbers[1]})"


def test_what_left_together_names_each_alert_once(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice")
    first, second, third = post.alert("First"), post.alert("Second"), post.alert("Third")
    post.page(first, "alice")
    post.go(0)
    for number in (second, third, second, third):
        post.page(number, "alice")
    post.go(0)
    post.go(10)
    assert {str(d.reason) for d in post.deliveries() if d.alert_id == second} == {
        f"It was sent in a bundle with #{third}."
    }


def test_excess_pages_per_hour_are_bundled_except_critical_ones(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice", notification_rules={"most_per_hour": 2})
    numbers = []
    for minute in range(70):
        post.seconds = minute * 20
        numbers.append(post.alert(f"Alert {minute}"))
        Alert.objects.filter(pk=numbers[-1]).update(priority="high")
        post.page(numbers[-1], "alice")
        post.go()
    assert len(mail.mails) == 2
    waiting = [d for d in post.deliveries() if d.status == "queued"]
    assert len(waiting) == 68
    assert {(d.reason, d.due_at) for d in waiting} == {(HOURLY_LIMIT_REACHED(), post.at(3600))}
    urgent = post.alert("Urgent")
    post.page(urgent, "alice")
    post.go(1500)
    assert len(mail.mails) == 3
    post.go(3600)
    assert len(mail.mails) == 3, "the critical one counts too"
    post.go(3620)
    assert mail.subjects[3] == f"[P2 High] 68 alerts: Acme: Alert # (Tocsin #{numbers[2]}) and 67 more"
    text = mail.mails[3].part("plain")
    assert all(f"#{number} P2 High Acme: Alert" in text for number in numbers[2:])
    assert {d.status for d in post.deliveries()} == {"sent"}


def test_repeated_test_messages_are_rate_limited(post: OutboxHarness, mail: SmtpDouble) -> None:
    alice = post.user("alice")
    method = alice.contact_methods.get()
    for _ in range(10):
        with database.transaction() as connection:
            notices.queue_test(connection, method, post.now)
    with database.transaction() as connection, pytest.raises(Rejected, match="10 tests were sent within 10 minutes"):
        notices.queue_test(connection, method, post.at(599))
    with database.transaction() as connection:
        notices.queue_test(connection, method, post.at(601))


def test_paid_test_messages_have_an_exact_daily_limit(post: OutboxHarness) -> None:
    alice = post.user("alice", {"label": "SMS", "channel": "sms", "address": "+41790000001"}, role="observer")
    method = alice.contact_methods.get()

    def ask(seconds: float) -> bool:
        try:
            with database.transaction() as connection:
                notices.queue_test(connection, method, post.at(seconds))
        except Rejected:
            return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(ask, [0] * 24)) == notices.MAX_TESTS
    assert sum(ask(3600 * hour) for hour in range(1, 23)) == notices.MAX_PAID_TESTS - notices.MAX_TESTS
    assert ask(86_500)
