"""A client's month: its figures, and the mail on the first of the next month, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.support.people import ACTOR
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.core.config import settings_store
from tocsin.core.db import database as store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import reason_from_json
from tocsin.notify.dispatch import claim
from tocsin.notify.models import ClientReport, Delivery, Notification
from tocsin.notify.notices import CLIENT_REPORTS
from tocsin.reports import client_month
from tocsin.reports.client_month import ClientMonth
from tocsin.reports.counted_alerts import Period

pytestmark = pytest.mark.usefixtures("database")

ZONE = ZoneInfo("Europe/Zurich")
IN_NOVEMBER = datetime(2026, 11, 10, 12, tzinfo=UTC)
#: 00:10 on the first of December in Zurich, still November in UTC.
AFTER_NOVEMBER = datetime(2026, 11, 30, 23, 10, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def zurich(database: str) -> None:
    settings_store.set(settings_store.TIME_ZONE, ZONE.key)


def open_alert(at: datetime, lasts: timedelta | None = None, **fields: object) -> Alert:
    closed: dict[str, object] = {} if lasts is None else {"status": "closed", "closed_at": at + lasts}
    alert = Alert.objects.create(
        **{"subject": "VPN down", "client": "Acme", "opened_at": at, "last_message_at": at, **closed, **fields}
    )
    AlertEvent.objects.create(alert=alert, at=at, kind="opened")
    return alert


def subscribe(**fields: object) -> ClientReport:
    spec = {"client": "Acme", "address": "service@acme.example", **fields}
    return CLIENT_REPORTS.save(spec, actor=ACTOR, now=IN_NOVEMBER)


def report() -> ClientMonth:
    with store.transaction() as connection:
        return client_month.load(connection, "ACME", Period.month(date(2026, 11, 1), ZONE), AFTER_NOVEMBER)


def test_counts_only_the_alerts_of_client_and_month() -> None:
    open_alert(IN_NOVEMBER, HOUR)
    open_alert(IN_NOVEMBER, HOUR, status="cancelled")
    open_alert(IN_NOVEMBER, client="Globex")
    open_alert(IN_NOVEMBER - timedelta(days=30), HOUR)
    found = report()
    assert (found.times.total.alerts, found.times.before.alerts) == (2, 1)
    assert (found.closed, found.false_alarms, found.still_active) == (1, 1, 0)


def test_worst_are_the_five_that_were_open_longest() -> None:
    alerts = [open_alert(IN_NOVEMBER, number * HOUR) for number in range(1, 7)]
    still_open = open_alert(IN_NOVEMBER)
    AlertEvent.objects.create(alert=still_open, at=IN_NOVEMBER + MINUTE, kind="acknowledged", actor_name="Alice")
    AlertEvent.objects.create(alert=still_open, at=IN_NOVEMBER + MINUTE, kind="replied", actor_name="Alice")
    worst = report().worst
    assert [one.alert_id for one in worst] == [still_open.pk, *(one.pk for one in reversed(alerts[2:]))]
    assert [event.kind for event in worst[0].events] == ["opened", "acknowledged"]


def test_report_is_mailed_once_after_the_month_of_the_installation() -> None:
    subscribe()
    open_alert(IN_NOVEMBER, HOUR)
    client_month.mail_due_reports(AFTER_NOVEMBER - 20 * MINUTE)
    assert not Notification.objects.exists()
    with ThreadPoolExecutor(3) as nodes:
        list(nodes.map(client_month.mail_due_reports, [AFTER_NOVEMBER] * 3))
    client_month.mail_due_reports(AFTER_NOVEMBER + timedelta(days=20))
    mail = Notification.objects.get()
    assert (mail.address, mail.user, mail.channel) == ("service@acme.example", None, "email")
    assert str(mail.title) == "Acme: alerts in November 2026"
    assert "1 alert, 0 in the month before" in str(reason_from_json(mail.data["text"]))


def test_mail_has_the_language_of_its_address() -> None:
    subscribe(language="de")
    client_month.mail_due_reports(AFTER_NOVEMBER)
    with store.transaction() as connection:
        (due,) = claim.facts(connection, list(Delivery.objects.values_list("pk", flat=True)))
    assert (due.language, due.time_zone) == ("de", ZONE.key)
    assert reason_from_json(due.data["title"]).localized("de", ZONE) == "Acme: Alarme im November 2026"


def test_outage_of_months_mails_only_the_last() -> None:
    subscribe()
    client_month.mail_due_reports(AFTER_NOVEMBER + timedelta(days=70))
    assert [str(one.title) for one in Notification.objects.all()] == ["Acme: alerts in January 2027"]


def test_disabled_report_is_not_mailed_nor_made_up_for() -> None:
    row = subscribe(enabled=False)
    client_month.mail_due_reports(AFTER_NOVEMBER)
    spec = {"client": "Acme", "address": "service@acme.example"}
    CLIENT_REPORTS.save(spec, existing=row, actor=ACTOR, now=AFTER_NOVEMBER)
    client_month.mail_due_reports(AFTER_NOVEMBER)
    assert not Notification.objects.exists()


def test_clock_rollback_neither_repeats_nor_stops_reports() -> None:
    subscribe()
    client_month.mail_due_reports(AFTER_NOVEMBER + timedelta(days=3000))
    client_month.mail_due_reports(AFTER_NOVEMBER)
    assert Notification.objects.count() == 1
    client_month.mail_due_reports(AFTER_NOVEMBER + timedelta(days=31))
    assert Notification.objects.count() == 2


def test_a_failing_report_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe()
    subscribe(client="Globex", address="it@globex.example")
    load = client_month.load
    monkeypatch.setattr(
        client_month,
        "load",
        lambda connection, client, *rest: load(connection, client, *rest) if client == "Globex" else 1 / 0,
    )
    client_month.mail_due_reports(AFTER_NOVEMBER)
    assert Notification.objects.get().address == "it@globex.example"
    monkeypatch.undo()
    client_month.mail_due_reports(AFTER_NOVEMBER)
    assert Notification.objects.count() == 2


def test_a_client_has_one_report() -> None:
    subscribe()
    with pytest.raises(Rejected, match="already a monthly report"):
        subscribe(client="ACME")
