"""Waiting pages are rescheduled when the user changes the rules that delay them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from tests.doubles.smtp import SmtpDouble
from tests.support.outbox_harness import OutboxHarness
from tests.support.people import ACTOR
from tocsin.alerts.models import Alert
from tocsin.alerts.states import Priority
from tocsin.core.db import database
from tocsin.core.reasons import REASON_TYPES, Text
from tocsin.notify import pause
from tocsin.notify.dispatch import dispatcher
from tocsin.notify.models import Delivery
from tocsin.notify.pages import queue_pages, release_pages
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import PageRequest
from tocsin.people.changes import users as people
from tocsin.people.models import User

pytestmark = pytest.mark.usefixtures("database")

#: The test begins at 09:15 UTC.
QUIET = {"from": "09:00", "to": "10:00", "let_through": "high"}
MAIL = {"label": "Mail", "channel": "email", "address": "alice@example.org"}
LATER = {"label": "Work", "channel": "email", "address": "alice.work@example.org", "wait": "10m"}


def wish(post: OutboxHarness, **rules: Any) -> None:
    people.save_notification_rules(User.objects.get(username="alice"), rules, actor=ACTOR, now=post.now)


def quietly_paged(post: OutboxHarness) -> int:
    """Alice is paged in her quiet hours."""
    alice = post.user("alice", MAIL, LATER, time_zone="UTC", notification_rules={"quiet_hours": [QUIET]})
    alert = post.alert()
    Alert.objects.update(priority="low")
    start = PageRequest(alert, post.now, "Alice is primary.", alice.pk, priority=Priority.LOW)
    with database.transaction() as connection:
        queue_pages(connection, [start], post.now)
    post.go(60)
    assert {d.due_at for d in post.deliveries(alert)} == {post.at(45 * 60)}
    return alert


def test_page_waiting_for_quiet_hours_leaves_when_they_are_removed(post: OutboxHarness, mail: SmtpDouble) -> None:
    alert = quietly_paged(post)
    wish(post)
    post.go()
    assert post.states(alert) == [("Mail", "sent", "SMTP (default)"), ("Work", "queued", "")]
    post.go(599)
    assert len(mail.mails) == 1, "its own wait holds all the same"
    post.go(600)
    assert post.states(alert)[1] == ("Work", "sent", "SMTP (default)")


def test_page_waits_for_changed_quiet_hours_with_reason(post: OutboxHarness, mail: SmtpDouble) -> None:
    alert = quietly_paged(post)
    wish(post, quiet_hours=[{**QUIET, "to": "09:45", "methods": ["Mail"]}])
    post.go()
    page = post.deliveries(alert)[0]
    assert (page.status, page.due_at) == ("queued", post.at(30 * 60))
    assert page.reason == page_planner.IN_QUIET_HOURS()
    post.go(600)
    assert [m.to for m in mail.mails] == ["alice.work@example.org"]
    post.go(30 * 60)
    assert post.deliveries(alert)[0].reason == page_planner.WAITED_FOR_QUIET_HOURS()


def test_page_waiting_for_quiet_hours_respects_extended_ones(post: OutboxHarness, mail: SmtpDouble) -> None:
    quietly_paged(post)
    wish(post, quiet_hours=[{**QUIET, "to": "11:00"}])
    post.go(45 * 60)
    assert mail.mails == []
    post.go(105 * 60)
    assert len(mail.mails) == 2


def test_what_else_waits_for_its_time_stays_where_it_is(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice", LATER)
    post.page(alert := post.alert(), "alice")
    wish(post, most_per_hour=5)
    assert post.deliveries(alert)[0].due_at == post.at(600)


def test_pages_over_hourly_limit_leave_when_it_is_removed(post: OutboxHarness, mail: SmtpDouble) -> None:
    post.user("alice", MAIL, notification_rules={"most_per_hour": 1})
    for subject in ("One", "Two"):
        alert = post.alert(subject)
        Alert.objects.update(priority="high")
        post.page(alert, "alice")
        post.go(post.seconds + 20)
    assert len(mail.mails) == 1
    wish(post)
    post.go()
    assert len(mail.mails) == 2


def test_unknown_time_zone_of_one_user_delays_no_pages(post: OutboxHarness, mail: SmtpDouble) -> None:
    quietly_paged(post)
    User.objects.update(time_zone="Mars/Base")
    post.user("bob")
    post.seconds = 45 * 60
    post.page(post.alert("Printer"), "bob")
    post.go()
    assert "bob@example.org" in [m.to for m in mail.mails]


def reword(monkeypatch: pytest.MonkeyPatch, kind: Text) -> None:
    """Another wording of the same code, as after an upgrade."""
    other = copy(kind)
    object.__setattr__(other, "template", "Reworded.")
    monkeypatch.setitem(REASON_TYPES, kind.code, other)


def release_hold(alert: int, user: int, now: datetime) -> None:
    with database.transaction() as connection:
        release_pages(connection, [alert], now)


def change_providers(alert: int, user: int, now: datetime) -> None:
    with transaction.atomic():
        pause.reschedule_providers(now)


def change_user(alert: int, user: int, now: datetime) -> None:
    with transaction.atomic():
        pause.reschedule_user(user, now)


@pytest.mark.parametrize(
    ("kind", "release"),
    [
        (page_planner.ON_HOLD, release_hold),
        (page_planner.RATE_LIMITED, change_providers),
        (page_planner.HOURLY_LIMIT_REACHED, change_providers),
        (page_planner.PAUSED, change_providers),
        (page_planner.PAUSED_BY, change_providers),
        (page_planner.STARTED_EARLY, change_providers),
        (page_planner.HOURLY_LIMIT_REACHED, change_user),
    ],
)
def test_reworded_reason_releases_the_same_deliveries(
    post: OutboxHarness,
    monkeypatch: pytest.MonkeyPatch,
    kind: Text,
    release: Callable[[int, int, datetime], None],
) -> None:
    alice = post.user("alice", LATER)
    post.page(alert := post.alert(), "alice")
    Delivery.objects.update(reason=kind(**dict.fromkeys(kind.names, "x")))
    reword(monkeypatch, kind)
    assert str(post.deliveries(alert)[0].reason) == "Reworded."
    release(alert, alice.pk, post.now)
    assert post.deliveries(alert)[0].due_at == post.now


def test_reworded_hold_still_keeps_its_end_after_clock_rollback(
    post: OutboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.user("alice", LATER)
    post.page(alert := post.alert(), "alice")
    Delivery.objects.update(reason=page_planner.ON_HOLD())
    reword(monkeypatch, page_planner.ON_HOLD)
    with database.transaction() as connection:
        assert dispatcher.correct_after_rollback(connection, timedelta(minutes=5), post.now) == 0
    assert post.deliveries(alert)[0].due_at == post.at(600)
