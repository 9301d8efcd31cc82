"""Pages that their vendor repeats: receipts are asked for, acknowledgements act as their person, repeats end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from django.test import Client

from tests.doubles.http import Response
from tests.support.outbox_harness import OutboxHarness, allow_loopback, outbox_harness, provider
from tests.support.provider_servers.pushover import OTHER_USER, TOKEN, USER, PushoverDouble, pushover_double
from tocsin.alerts.commands import Acknowledge, Close, Hold
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database
from tocsin.core.reasons import each_of
from tocsin.core.runtime import clock
from tocsin.notify.inbound import receipts
from tocsin.notify.integrations.pushover import callback_token
from tocsin.notify.models import Delivery, OpenReceipt, Provider
from tocsin.notify.pages import alert_tag, cancel_pages
from tocsin.notify.providers.pool import ProviderPool
from tocsin.people.models import User

pytestmark = pytest.mark.usefixtures("database")

BASE = "https://tocsin.example.org"
METHOD = {"label": "Pushover", "channel": "pushover", "address": USER}


@dataclass
class Scenario:
    post: OutboxHarness
    pushover: PushoverDouble
    pool: ProviderPool

    def poll(self, seconds: float, pool: ProviderPool | None = None) -> None:
        """Moves the clock, and asks for what is then due."""
        self.post.seconds = seconds
        receipts.poll(pool or self.pool, lambda: self.post.now)

    def paged(self, *names: str, seconds: float = 0) -> int:
        """Pages these people about a new alert."""
        self.post.page(alert := self.post.alert(), *names)
        self.post.go(seconds)
        return alert

    def cancel(self, alert: int, *names: str) -> None:
        """Escalation stops paging these people; without any, everybody."""
        users = [self.post.users[name].pk for name in names] or None
        with database.transaction() as connection:
            cancel_pages(connection, [alert], users, "Somebody answered.", self.post.now)


@pytest.fixture
def scenario(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    allow_loopback(monkeypatch, base_url=BASE)
    with outbox_harness(now) as post, pushover_double() as pushover:
        monkeypatch.setattr(clock, "now", lambda: post.now)
        pushover.now = lambda: post.now
        provider("Pushover", "pushover", ["pushover"], api_base=pushover.http.url, secrets={"app_token": TOKEN})
        post.user("alice", METHOD)
        pool = ProviderPool()
        yield Scenario(post, pushover, pool)
        pool.close()


def test_urgent_page_is_repeated_and_its_receipt_awaited(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    (message,) = scenario.pushover.messages
    assert (message["priority"], message["retry"], message["expire"]) == (2, 60, 1800)
    assert message["tags"] == alert_tag(alert)
    assert message["callback"] == f"{BASE}/hooks/pushover/{callback_token(TOKEN)}"
    (delivery,) = scenario.post.deliveries(alert)
    assert (delivery.status, delivery.external_id) == ("sent", scenario.pushover.newest)
    assert OpenReceipt.objects.get().standing == [delivery.pk]


def test_page_of_low_priority_has_no_receipt(scenario: Scenario) -> None:
    from tocsin.alerts.models import Alert

    scenario.post.page(alert := scenario.post.alert(), "alice")
    Alert.objects.filter(pk=alert).update(priority="medium")
    scenario.post.go(0)
    assert scenario.pushover.messages[0]["priority"] == 0
    assert not OpenReceipt.objects.exists()


def test_next_page_takes_the_place_of_repeats(scenario: Scenario) -> None:
    scenario.post.user("bob", {**METHOD, "address": OTHER_USER, "repeat": {"times": 1, "every": "5m"}})
    scenario.paged("bob")
    scenario.post.go(300)
    assert [message["expire"] for message in scenario.pushover.messages] == [300, 1800]


def test_receipt_reports_the_delivery(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    scenario.pushover.receipts[scenario.pushover.newest]["last_delivered_at"] = 1
    scenario.poll(1)
    scenario.poll(7)
    (delivery,) = scenario.post.deliveries(alert)
    assert (delivery.status, delivery.receipt, delivery.delivered_at) == ("delivered", "delivered", scenario.post.at(1))
    assert OpenReceipt.objects.exists()


def test_acknowledged_there_is_acknowledged_here_with_the_device(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    scenario.pushover.acknowledge(scenario.pushover.newest, device="iphone")
    scenario.poll(5)
    event = AlertEvent.objects.get(alert=alert, kind="acknowledged")
    assert (event.actor_id, event.via) == (scenario.post.users["alice"].pk, "push")
    assert str(event.reason) == "Alice acknowledged the alert: in Pushover on iphone"
    assert scenario.post.deliveries(alert)[0].receipt == "answered"
    assert not OpenReceipt.objects.exists()
    scenario.poll(60)
    assert len(scenario.pushover.asked) == 1


def test_receipt_is_asked_for_less_often_with_age(scenario: Scenario) -> None:
    scenario.paged("alice")
    for second in range(1, 1800):
        scenario.poll(second)
    assert 80 < len(scenario.pushover.asked) < 120
    scenario.pushover.receipts[scenario.pushover.newest]["expired"] = 1
    scenario.poll(1900)
    assert not OpenReceipt.objects.exists()


def test_receipt_that_never_answers_does_not_hold_up_others(scenario: Scenario) -> None:
    scenario.post.user("bob", {**METHOD, "address": OTHER_USER})
    first, second = scenario.paged("alice"), scenario.paged("bob", seconds=1)
    scenario.pushover.acknowledge(scenario.pushover.newest, OTHER_USER)
    scenario.pushover.receipt_answers.append(Response(hangs_up=True))
    scenario.poll(2)
    assert not AlertEvent.objects.filter(kind="acknowledged").exists()
    scenario.poll(7)
    assert AlertEvent.objects.get(kind="acknowledged").alert_id == second
    assert OpenReceipt.objects.get().delivery == scenario.post.deliveries(first)[0].pk


def test_unknown_receipt_is_forgotten(scenario: Scenario) -> None:
    scenario.paged("alice")
    scenario.pushover.receipts.clear()
    scenario.poll(5)
    assert not OpenReceipt.objects.exists()


def test_wrong_token_keeps_the_receipts(scenario: Scenario) -> None:
    scenario.paged("alice")
    scenario.pushover.receipt_answers.append(Response(401, b'{"status": 0, "token": "invalid", "errors": ["no"]}'))
    scenario.poll(5)
    scenario.poll(60)
    assert len(scenario.pushover.asked) == 1
    scenario.poll(306)
    assert len(scenario.pushover.asked) == 2


def _callback(body: str, token: str = TOKEN) -> int:
    form = "application/x-www-form-urlencoded"
    status: int = Client().post(f"/hooks/pushover/{callback_token(token)}", body, content_type=form).status_code
    return status


def test_callback_that_lies_changes_nothing(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    scenario.poll(1)
    receipt = scenario.pushover.newest
    body = f"receipt={receipt}&acknowledged=1&acknowledged_by={USER}&acknowledged_by_device=iphone"
    assert _callback(body, "another") == 404
    assert _callback(body) == _callback("receipt=unknown") == _callback("receipt=%00") == 200
    scenario.poll(6)
    assert not AlertEvent.objects.filter(alert=alert, kind="acknowledged").exists()
    assert scenario.pushover.asked == [receipt, receipt]


def test_callback_hastens_the_question(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    for second in (1, 400):
        scenario.poll(second)
    scenario.pushover.acknowledge(scenario.pushover.newest)
    scenario.post.seconds = 406
    assert _callback(f"receipt={scenario.pushover.newest}") == 200
    scenario.poll(406)
    assert AlertEvent.objects.filter(alert=alert, kind="acknowledged").exists()


def test_deactivated_person_acknowledges_nothing(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    scenario.pushover.acknowledge(scenario.pushover.newest)
    User.objects.filter(username="alice").update(is_active=False)
    scenario.poll(5)
    scenario.poll(11)
    assert not AlertEvent.objects.filter(alert=alert, kind="acknowledged").exists()
    (delivery,) = scenario.post.deliveries(alert)
    assert "belongs to no active user" in str(delivery.reason)
    assert scenario.pushover.ended == [alert_tag(alert)]
    assert not OpenReceipt.objects.exists()


def test_key_of_somebody_else_acts_as_that_person(scenario: Scenario) -> None:
    """A group key that a provider's owner changed to contain others."""
    bob = scenario.post.user("bob", {**METHOD, "address": OTHER_USER})
    alert = scenario.paged("alice")
    scenario.pushover.acknowledge(scenario.pushover.newest, OTHER_USER)
    scenario.poll(5)
    assert AlertEvent.objects.get(alert=alert, kind="acknowledged").actor_id == bob.pk


def test_observer_acknowledges_nothing(scenario: Scenario) -> None:
    scenario.post.user("bob", {**METHOD, "address": OTHER_USER}, role="observer")
    alert = scenario.paged("bob")
    scenario.pushover.acknowledge(scenario.pushover.newest, OTHER_USER)
    scenario.poll(5)
    assert not AlertEvent.objects.filter(alert=alert, kind="acknowledged").exists()
    assert "changed nothing" in str(scenario.post.deliveries(alert)[0].reason)


def test_closed_alert_ends_all_repeats_by_one_call(scenario: Scenario) -> None:
    scenario.post.user("bob", {**METHOD, "address": OTHER_USER})
    alert = scenario.paged("alice", "bob")
    other = scenario.paged("bob", seconds=11)
    scenario.poll(12)
    scenario.post.act(alert, Close(actor=scenario.post.actor("bob")))
    scenario.cancel(alert)
    scenario.poll(12)
    assert scenario.pushover.ended == [alert_tag(alert)]
    assert [one["canceled"] for one in scenario.pushover.receipts.values()] == [True, True, False]
    scenario.poll(18)
    (left,) = OpenReceipt.objects.all()
    assert Delivery.objects.get(pk=left.delivery).alert_id == other


def test_snoozed_alert_ends_its_repeats(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    scenario.poll(1)
    hold = Hold(actor=scenario.post.actor("alice"), until=scenario.post.at(3600))
    scenario.post.act(alert, hold)
    scenario.poll(7)
    assert scenario.pushover.ended == [alert_tag(alert)]


def test_acknowledgement_after_the_close_is_recorded(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    scenario.poll(1)
    scenario.post.act(alert, Close(actor=scenario.post.actor("alice")))
    scenario.cancel(alert)
    scenario.poll(2)
    scenario.pushover.acknowledge(scenario.pushover.newest)
    scenario.poll(8)
    assert not AlertEvent.objects.filter(alert=alert, kind="acknowledged").exists()
    (delivery,) = scenario.post.deliveries(alert)
    assert delivery.receipt == "answered"
    assert "changed nothing" in str(delivery.reason)
    assert not OpenReceipt.objects.exists()


def test_one_persons_acknowledgement_leaves_the_others_repeats(scenario: Scenario) -> None:
    scenario.post.user("bob", {**METHOD, "address": OTHER_USER})
    alert = scenario.paged("alice", "bob")
    by_user = dict(zip((one["user"] for one in scenario.pushover.messages), scenario.pushover.receipts, strict=True))
    mine, other = by_user[USER], by_user[OTHER_USER]
    scenario.post.act(alert, Acknowledge(actor=scenario.post.actor("alice")))
    scenario.cancel(alert, "alice")
    scenario.poll(6)
    assert scenario.pushover.ended == [mine]
    assert not scenario.pushover.receipts[other]["canceled"]
    scenario.cancel(alert)
    scenario.poll(12)
    assert scenario.pushover.ended == [mine, alert_tag(alert)]


def test_bundle_repeats_until_none_of_its_alerts_needs_anybody(scenario: Scenario) -> None:
    scenario.paged("alice")
    scenario.poll(1)
    for subject in ("Disk full", "Host down"):
        scenario.post.page(scenario.post.alert(subject), "alice")
    scenario.post.go(2)
    scenario.post.go(12)
    bundle = scenario.pushover.messages[-1]
    assert "tags" not in bundle
    first, second = (d.alert_id for d in scenario.post.deliveries()[1:])
    assert first is not None
    assert second is not None
    scenario.cancel(first)
    scenario.poll(18)
    assert scenario.pushover.ended == []
    scenario.pushover.acknowledge(scenario.pushover.newest)
    scenario.poll(24)
    acknowledged = AlertEvent.objects.filter(kind="acknowledged").values_list("alert", flat=True)
    assert sorted(acknowledged) == [first, second]


def test_failed_end_of_repeats_is_tried_again(scenario: Scenario) -> None:
    alert = scenario.paged("alice")
    answer, scenario.pushover.http.answering = scenario.pushover.http.answering, lambda _: Response(503)
    scenario.cancel(alert)
    scenario.poll(1)
    scenario.pushover.http.answering = answer
    assert scenario.pushover.ended == []
    scenario.poll(17)
    assert scenario.pushover.ended == [alert_tag(alert)]


def test_another_node_ends_what_a_killed_one_had_taken(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = scenario.paged("alice")
    scenario.cancel(alert)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(receipts, "_poll_provider", killed)
        with pytest.raises(KeyboardInterrupt):
            scenario.poll(1)
    other = ProviderPool()
    scenario.poll(30, other)
    assert scenario.pushover.ended == []
    scenario.poll(62, other)
    other.close()
    assert scenario.pushover.ended == [alert_tag(alert)]


def test_two_nodes_ask_for_each_receipt_once(scenario: Scenario) -> None:
    for number in range(30):
        scenario.post.user(f"user{number}", {**METHOD, "address": OTHER_USER})
    scenario.paged(*(f"user{number}" for number in range(30)))
    assert OpenReceipt.objects.count() == 30
    other = ProviderPool()
    for pool in (scenario.pool, other, scenario.pool, other):
        scenario.poll(1, pool)
    other.close()
    assert sorted(scenario.pushover.asked) == sorted(scenario.pushover.receipts)


def test_lost_answer_is_covered_by_the_alerts_tag(scenario: Scenario) -> None:
    """The page may have reached the vendor: nothing says so but the tag."""
    scenario.pushover.answers.append(Response(hangs_up=True))
    alert = scenario.paged("alice")
    (row,) = OpenReceipt.objects.all()
    assert row.standing == [row.delivery]
    scenario.cancel(alert)
    scenario.poll(1)
    assert scenario.pushover.ended == [alert_tag(alert)]
    assert not OpenReceipt.objects.exists()


def test_page_cancelled_while_being_sent_is_ended(scenario: Scenario) -> None:
    alert = scenario.post.alert()
    scenario.post.page(alert, "alice")
    answer = scenario.pushover.http.answering

    def late(request):  # type: ignore[no-untyped-def]
        scenario.cancel(alert)
        scenario.pushover.http.answering = answer
        return answer(request)

    scenario.pushover.http.answering = late
    scenario.post.go(0)
    assert OpenReceipt.objects.get().standing == []
    scenario.poll(1)
    assert scenario.pushover.ended == [alert_tag(alert)]


def test_disabled_provider_is_asked_once_it_is_enabled(scenario: Scenario) -> None:
    from tests.support.outbox_harness import changed

    scenario.paged("alice")
    Provider.objects.update(is_enabled=False)
    changed()
    scenario.poll(5)
    assert scenario.pushover.asked == []
    Provider.objects.update(is_enabled=True)
    changed()
    scenario.poll(306)
    assert len(scenario.pushover.asked) == 1
    Provider.objects.all().delete()
    changed()
    scenario.poll(400)
    assert not OpenReceipt.objects.exists()


def test_exhausted_quota_starts_the_next_method_at_once(scenario: Scenario) -> None:
    scenario.pushover.used = scenario.pushover.limit
    email = {"label": "Email", "channel": "email", "address": "bob@example.org", "wait": "10m"}
    scenario.post.user("bob", {**METHOD, "address": OTHER_USER}, email)
    alert = scenario.paged("bob")
    push, mail = scenario.post.deliveries(alert)
    assert (push.status, mail.due_at) == ("queued", scenario.post.at(0))
    assert "no more messages" in str(push.error)


def test_group_key_fails_the_test_with_the_reason(scenario: Scenario) -> None:
    from tests.support.provider_servers.pushover import GROUP
    from tocsin.notify import notices

    bob = scenario.post.user("bob", {**METHOD, "address": GROUP})
    with database.transaction() as connection:
        notices.queue_test(connection, bob.contact_methods.get(), scenario.post.now)
    scenario.post.go(0)
    (delivery,) = scenario.post.deliveries()
    assert delivery.status == "failed"
    assert "key of a group" in str(delivery.error)
    assert scenario.pushover.messages == []


def test_journal_of_a_killed_process_opens_the_receipt(scenario: Scenario) -> None:
    from tocsin.notify.dispatch.results import mark_sent
    from tocsin.notify.dispatch.send import SentDelivery

    scenario.post.page(alert := scenario.post.alert(), "alice")
    (delivery,) = scenario.post.deliveries(alert)
    sent = SentDelivery(delivery.pk, "r" * 30, scenario.post.now, None, (delivery.pk,))
    assert SentDelivery.from_line(sent.line()) == sent
    with database.transaction() as connection:
        mark_sent(connection, [sent])
    row = OpenReceipt.objects.get()
    assert (row.deliveries, row.standing) == ([delivery.pk], [delivery.pk])
    assert row.poll_at - row.sent_at < timedelta(seconds=1)
    assert not [one for one in each_of(delivery.reason) if "answered" in one.code]


def test_quota_is_stored_and_warned_of_at_four_fifths(scenario: Scenario) -> None:
    from tocsin.notify.providers.pool import statuses
    from tocsin.operate.self_check import find_problems, load_inputs

    def problems() -> list[str]:
        with database.transaction() as connection:
            found = find_problems(load_inputs(connection, scenario.post.now))
        return [str(one.detail) for one in found if one.id == "quota_scarce:Pushover" and one.is_warning]

    scenario.pushover.used = 7_998
    scenario.paged("alice")
    quota = statuses(scenario.post.now)["Pushover"].quota
    assert quota is not None
    assert (quota.limit, quota.left) == (10_000, 2_001)
    assert problems() == []
    # A process records a success every ten seconds; another one has its own.
    scenario.post.page(scenario.post.alert(), "alice")
    scenario.post.go(61, scenario.post.outbox())
    (detail,) = problems()
    assert "2,000 messages of 10,000 are left" in detail
    scenario.post.seconds = 40 * 86_400
    assert problems() == [], "a new month has begun"


def test_vendor_is_asked_before_an_address_is_saved(scenario: Scenario) -> None:
    from tests.support.provider_servers.pushover import GROUP
    from tocsin.core.errors import Rejected
    from tocsin.notify.providers.commands import check_address

    check_address("pushover", USER)
    check_address("email", "alice@example.org")
    for address, problem in ((GROUP, "key of a group"), (TOKEN, "knows no user")):
        with pytest.raises(Rejected, match=problem) as caught:
            check_address("pushover", address)
        assert caught.value.field == "address"
    scenario.pushover.http.answering = lambda _: Response(503)
    check_address("pushover", GROUP)
