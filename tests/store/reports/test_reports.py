"""Reports of response times and interruptions. `test_report_figures` compares them with plain computations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from tests.support.people import make_group, make_user
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import AlertStatus, EventKind, Priority
from tocsin.core.db import database as store
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import as_reason
from tocsin.core.validation.inputs import NightHours
from tocsin.escalation.models import EscalationRun
from tocsin.notify.models import Delivery, Notification
from tocsin.oncall.changes.commands import save_schedule
from tocsin.people.models import User
from tocsin.reports import alert_reports, fairness
from tocsin.reports.alert_reports import ResponseStats
from tocsin.reports.counted_alerts import NO_FILTER, AlertFilter, Bucket, GroupBy, GroupedReport, Period
from tocsin.reports.fairness import FairnessFilter

ZURICH = ZoneInfo("Europe/Zurich")
MINUTE = timedelta(minutes=1)
_numbers = count()


def opened(at: datetime, *happened: tuple[EventKind, int], groups: Sequence[int] = (), **fields: object) -> Alert:
    """An alert of that moment, and what happened to it so many minutes later."""
    alert = Alert.objects.create(**{"subject": "VPN down", "opened_at": at, "last_message_at": at, **fields})
    for kind, minutes in happened:
        AlertEvent.objects.create(alert=alert, at=at + minutes * MINUTE, kind=kind, reason=as_reason("so"))
    if groups:
        EscalationRun.objects.create(
            alert=alert, status="ended", mode="page", started_at=at, recipient_groups=list(groups)
        )
    return alert


def closed(at: datetime, minutes: int, **fields: object) -> Alert:
    return opened(at, status=AlertStatus.CLOSED, closed_at=at + minutes * MINUTE, **fields)


def last_week(now: datetime) -> Period:
    return Period.last_days(7, now, ZURICH)


def load_report(
    period: Period, by: GroupBy = GroupBy.GROUP, bucket: Bucket = Bucket.DAY
) -> GroupedReport[ResponseStats]:
    with store.transaction() as connection:
        return alert_reports.load_response_times(connection, period, by, bucket)


def load_stats(period: Period, by: GroupBy) -> dict[str, int]:
    return {row.key: row.alerts for row in load_report(period, by).rows}


def test_response_time_ends_at_first_event_of_affected_alerts(database: str, now: datetime) -> None:
    at = now - timedelta(hours=3)
    for minutes in (1, 2, 3, 4, 100):
        opened(at, (EventKind.ACKNOWLEDGED, minutes), (EventKind.ACKNOWLEDGED, 101))
    opened(at, (EventKind.ASSIGNED, 7))
    closed(at, 30)
    total = load_report(last_week(now)).total
    assert (total.alerts, total.stats.acknowledged.count, total.stats.assigned.count, total.stats.closed.count) == (
        7, 6, 1, 1
    )  # fmt: skip
    assert (total.stats.acknowledged.p50, total.stats.acknowledged.p90) == (3.5 * MINUTE, 53.5 * MINUTE)
    assert total.stats.assigned.p50 == 7 * MINUTE
    assert total.stats.closed.p90 == 30 * MINUTE


def test_alerts_needing_no_answer_are_not_counted(database: str, now: datetime) -> None:
    parent = opened(now - MINUTE)
    opened(now - MINUTE, is_test=True)
    opened(now - MINUTE, dry_run=True)
    opened(now - MINUTE, status=AlertStatus.MERGED, merged_into=parent)
    opened(now - timedelta(days=8))
    opened(now + MINUTE)
    assert load_report(last_week(now)).total.alerts == 1


def test_nothing_has_no_times(database: str, now: datetime) -> None:
    report = load_report(last_week(now), GroupBy.CLIENT)
    assert (report.total.alerts, report.total.stats, report.before.stats) == (0, ResponseStats(), ResponseStats())
    assert [row.alerts for row in report.trend] == [0] * 7
    assert report.rows == []


def test_days_and_hours_use_readers_zone_without_omissions(database: str, now: datetime) -> None:
    # Half past midnight on the 24th in Zürich is the 23rd in London.
    opened(datetime(2026, 11, 23, 23, 30, tzinfo=UTC))
    report = load_report(last_week(now), GroupBy.HOUR)
    assert [row.key for row in report.trend] == [f"2026-11-{day}" for day in range(18, 25)]
    assert [row.key for row in report.trend if row.alerts] == ["2026-11-24"]
    assert len(report.rows) == 24
    assert [row.key for row in report.rows if row.alerts] == ["00"]


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=ZURICH), datetime(2026, 10, 25, tzinfo=ZURICH)])
def test_a_day_on_which_clocks_change_is_one_day(database: str, day: datetime) -> None:
    for hour in (0, 4, 23):
        opened(day.replace(hour=hour, minute=59).astimezone(UTC))
    period = Period.last_days(2, day.replace(hour=23, minute=59, second=59), ZURICH)
    assert [row.alerts for row in load_report(period).trend] == [0, 3]


def test_names_are_ordered_by_frequency_and_priorities_by_urgency(database: str, now: datetime) -> None:
    for client, source, priority in (("Acme", "Halo", "low"), ("Acme", "", "low"), ("", "Halo", "critical")):
        opened(now - MINUTE, client=client, source=source, priority=Priority(priority))
    period = last_week(now)
    assert list(load_stats(period, GroupBy.CLIENT).items()) == [("Acme", 2), ("", 1)]
    assert list(load_stats(period, GroupBy.SOURCE).items()) == [("Halo", 2), ("", 1)]
    assert list(load_stats(period, GroupBy.PRIORITY).items()) == [
        ("critical", 1), ("high", 0), ("medium", 0), ("low", 2)
    ]  # fmt: skip
    assert list(load_stats(period, GroupBy.INTEGRATION).items()) == [("", 3)]


def test_alert_of_two_groups_counts_for_both_and_once_overall(database: str, now: datetime) -> None:
    desk, net = make_group("Desk", now).pk, make_group("Net", now).pk
    opened(now - MINUTE, groups=[desk, net])
    opened(now - MINUTE, groups=[net])
    opened(now - MINUTE)
    report = load_report(last_week(now), GroupBy.GROUP)
    assert {row.key: row.alerts for row in report.rows} == {"Net": 2, "Desk": 1, "": 1}
    assert report.total.alerts == 3


def called(user: User, alert: Alert, at: datetime, **fields: object) -> None:
    number = first_uuid7(at)
    number = type(number)(int=number.int + next(_numbers))
    expected = {"alert": alert, "user": user, "channel": "sms", "address": "+41790000001", "purpose": "page", **fields}
    notification = {key: value for key, value in expected.items() if key in ("alert", "user", "purpose", "channel")}
    Notification.objects.create(id=number, address="+41790000001", created_at=at, **notification)
    Delivery.objects.create(
        **{"id": number, "notification_id": number, "status": "sent", "provider_name": "Twilio", "queued_at": at,
           "due_at": at, "sent_at": at, **expected}
    )  # fmt: skip


def load_people(
    period: Period, night: str = "22:00-07:00", filters: AlertFilter = NO_FILTER
) -> list[fairness.Interruptions]:
    with store.transaction() as connection:
        return fairness.load_interruptions(connection, period, NightHours.parse(night), filters)


def load_nights(period: Period, night: str = "22:00-07:00") -> list[tuple[str, int, int, int]]:
    return [(one.username, one.alerts, one.at_night, one.nights) for one in load_people(period, night)]


def test_night_is_local_to_the_user_and_spans_midnight(database: str, now: datetime) -> None:
    alice, bob = make_user("alice", now, time_zone="Europe/Zurich"), make_user("bob", now, time_zone="Asia/Tokyo")
    first, second = opened(now), opened(now)
    # 23:30 and 06:59 in Zürich are one night; in Tokyo it is day.
    for at in (datetime(2026, 11, 22, 22, 30, tzinfo=UTC), datetime(2026, 11, 23, 5, 59, tzinfo=UTC)):
        called(alice, first, at)
        called(alice, second, at)
        called(bob, first, at)
    called(alice, first, datetime(2026, 11, 23, 6, 0, tzinfo=UTC))
    assert load_nights(last_week(now)) == [("alice", 2, 2, 1), ("bob", 1, 0, 0)]
    assert [at_night for _user, _alerts, at_night, _nights in load_nights(last_week(now), "06:00-07:00")] == [2, 0]
    assert [at_night for _user, _alerts, at_night, _nights in load_nights(last_week(now), "07:00-06:59")] == [2, 1]


@pytest.mark.parametrize(
    "fields",
    [
        {"channel": "email"},
        {"provider_name": "sandbox"},
        {"status": "cancelled", "sent_at": None},
        {"purpose": "all_clear"},
        {"sent_at": datetime(2026, 11, 1, 2, tzinfo=UTC)},
    ],
)
def test_silent_notifications_are_not_counted(database: str, now: datetime, fields: dict[str, object]) -> None:
    called(make_user("alice", now), opened(now), datetime(2026, 11, 23, 2, tzinfo=UTC), **fields)
    assert load_nights(last_week(now)) == []


def test_interruptions_are_counted_by_local_weekday_and_hour(database: str, now: datetime) -> None:
    alice, bob = make_user("alice", now, time_zone="Europe/Zurich"), make_user("bob", now, time_zone="Asia/Tokyo")
    first, second = opened(now, client="Acme"), opened(now)
    # Sunday 23:30 in Zürich, Monday 07:30 in Tokyo.
    late = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
    for at in (late, late + MINUTE, late + 40 * MINUTE):
        called(alice, first, at)
    called(alice, second, late)
    called(bob, first, late)
    people = {one.username: one.by_hour for one in load_people(last_week(now))}
    assert people == {"alice": {(6, 23): 2, (0, 0): 1}, "bob": {(0, 7): 1}}
    assert fairness.total_by_hour(load_people(last_week(now))) == {(6, 23): 2, (0, 0): 1, (0, 7): 1}
    acme = load_people(last_week(now), filters=AlertFilter(client="ACME"))
    assert {one.username: one.by_hour for one in acme} == {"alice": {(6, 23): 1, (0, 0): 1}, "bob": {(0, 7): 1}}


def test_fairness_joins_hours_and_pages_by_month(database: str, now: datetime) -> None:
    alice, bob = make_user("alice", now), make_user("bob", now)
    desk, net = make_group("Desk", now), make_group("Net", now)
    weekly = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice", "bob"], "roles": ["primary"]}
    spec = {"name": "Rota", "group": "Desk", "time_zone": "UTC", "shifts": [
        {"name": "Weekly", "rotate": weekly, "start": "2026-01-05"}]}  # fmt: skip
    save_schedule(spec, actor=COMMAND_LINE, now=now)
    at = datetime(2026, 11, 23, 2, tzinfo=UTC)
    called(alice, opened(now, groups=[desk.pk]), at)
    called(alice, opened(now, groups=[net.pk]), at + 12 * timedelta(hours=1))
    called(bob, opened(now, groups=[desk.pk]), datetime(2026, 10, 2, tzinfo=UTC))

    def load(**selected: int) -> list[fairness.MonthlyLoad]:
        months = fairness.months_until(date(2026, 11, 30), 2)
        with store.transaction() as connection:
            return fairness.load_fairness(
                connection, months, ZoneInfo("UTC"), NightHours.parse("22:00-07:00"), FairnessFilter(**selected)
            )

    october, november = load()
    assert (october.month, november.month) == (date(2026, 10, 1), date(2026, 11, 1))
    assert {one.username: (one.pages, one.night_pages, one.pages_difference) for one in november.people} == {
        "alice": (2, 1, 1.0), "bob": (0, 0, -1.0),
    }  # fmt: skip
    assert sum((one.time.total for one in november.people), timedelta()) == timedelta(days=30)
    assert {one.username: one.pages for one in fairness.total_load([october, november])} == {"alice": 2, "bob": 1}
    assert {one.username: one.pages for one in load(group_id=desk.pk)[1].people} == {"alice": 1, "bob": 0}
    assert [month.people for month in load(group_id=net.pk)] == [[], []]
