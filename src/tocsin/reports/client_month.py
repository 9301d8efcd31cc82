"""A client's month on one sheet: how many alerts, how quickly they were answered, whether they kept their SLA, and what
was done about the worst. Shown, printed, and mailed on the first of the next month.

It says what people outside of the organisation may read: no names of users, no texts of a timeline. Mailing it marks it
as reported and queues the mail in one transaction: each month is mailed once, whichever node does it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, Term, Text, joined, sentence, translatable
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify import notices
from tocsin.notify.notices import Notice
from tocsin.reports import alert_reports, counted_alerts, handover
from tocsin.reports.alert_reports import (
    DurationStats,
    PublicEvent,
    ResponseReport,
    SlaCounts,
    SlaStats,
    public_timeline,
)
from tocsin.reports.counted_alerts import AlertFilter, Bucket, GroupBy, Grouped, GroupedReport, Period
from tocsin.reports.handover import FactLine, FactSection

log = logging.getLogger(__name__)

MAX_CLIENTS = 200
MAX_WORST = 5

MAILING_INTERVAL = timedelta(minutes=5)
#: Each reads two months of alerts, and the transaction of all of them should be short.
BATCH = 5


@dataclass(frozen=True, slots=True)
class WorstAlert:
    """One of the alerts that were open the longest, with its public timeline."""

    alert_id: int
    subject: str
    priority: str
    status: AlertStatus
    opened_at: datetime
    closed_at: datetime | None
    #: How long it was open, or has been until now.
    duration: timedelta
    events: Sequence[PublicEvent]


@dataclass(frozen=True, slots=True)
class ClientMonth:
    """The report on the alerts of a client that were opened in a month."""

    client: str
    period: Period
    #: By priority, and each day of the month.
    times: ResponseReport
    sla: GroupedReport[SlaStats]
    outcomes: Mapping[AlertStatus, int]
    worst: Sequence[WorstAlert]

    @property
    def closed(self) -> int:
        return self.outcomes.get(AlertStatus.CLOSED, 0)

    @property
    def false_alarms(self) -> int:
        return self.outcomes.get(AlertStatus.CANCELLED, 0)

    @property
    def still_active(self) -> int:
        return sum(self.outcomes.get(status, 0) for status in ACTIVE)


_CLIENTS = """
SELECT max(client) AS client, count(*)::int AS alerts FROM counted WHERE client <> '' GROUP BY upper(client)
ORDER BY alerts DESC, client LIMIT %(limit)s
"""

_OUTCOMES = "SELECT status, count(*)::int AS alerts FROM counted GROUP BY status"

_WORST = """
SELECT id, subject, priority, status, opened_at, closed_at, coalesce(closed_at, %(now)s) - opened_at AS duration
FROM counted WHERE status <> 'cancelled' ORDER BY duration DESC, id LIMIT %(limit)s
"""

_EVENTS = "SELECT alert_id, at, kind FROM alerts_alertevent WHERE alert_id = ANY(%s) AND kind = ANY(%s) ORDER BY at, id"


def load_clients(connection: Connection, period: Period) -> list[tuple[str, int]]:
    """Returns the clients with alerts in the period, each with their number, those with most first."""
    statement = counted_alerts.with_counted_alerts(counted_alerts.NO_FILTER) + _CLIENTS
    values = counted_alerts.parameters(period, counted_alerts.NO_FILTER) | {"limit": MAX_CLIENTS}
    rows = database.rows(connection, database.literal(statement), values)
    return [(row["client"], row["alerts"]) for row in rows]


def load(connection: Connection, client: str, period: Period, now: datetime) -> ClientMonth:
    filters = AlertFilter(client=client)
    times = alert_reports.load_response_times(connection, period, GroupBy.PRIORITY, Bucket.DAY, filters)
    sla = alert_reports.load_sla(connection, period, GroupBy.PRIORITY, Bucket.MONTH, filters, now=now).figures
    counted = counted_alerts.with_counted_alerts(filters, ", a.subject")
    values = counted_alerts.parameters(period, filters) | {"now": now, "limit": MAX_WORST}
    outcomes = database.rows(connection, database.literal(counted + _OUTCOMES), values)
    worst = database.rows(connection, database.literal(counted + _WORST), values)
    events: dict[int, list[tuple[datetime, str]]] = {row["id"]: [] for row in worst}
    for row in database.rows(connection, _EVENTS, (list(events), list(alert_reports.PUBLIC_EVENTS))) if worst else ():
        events[row["alert_id"]].append((row["at"], row["kind"]))
    return ClientMonth(
        client,
        period,
        times,
        sla,
        {AlertStatus(row["status"]): row["alerts"] for row in outcomes},
        [_worst(row, events[row["id"]]) for row in worst],
    )


def _worst(row: Mapping[str, Any], events: Sequence[tuple[datetime, str]]) -> WorstAlert:
    return WorstAlert(
        row["id"],
        row["subject"],
        row["priority"],
        AlertStatus(row["status"]),
        row["opened_at"],
        row["closed_at"],
        row["duration"],
        public_timeline(events),
    )


# ---------- as text
# The same report as reasons, which the mail renders in the language of its reader.

_MONTHS = (
    translatable("January"), translatable("February"), translatable("March"), translatable("April"),
    translatable("May"), translatable("June"), translatable("July"), translatable("August"),
    translatable("September"), translatable("October"), translatable("November"), translatable("December"),
)  # fmt: skip

_ALERTS = Text("{count} alert, {before} in the month before", "{count} alerts, {before} in the month before")
_BY_PRIORITY = Text("{priority}: {number}")
_DURATIONS = Text("Median (p50) {p50}, 90th percentile (p90) {p90}")
_SLA = Text("{percent} %: {kept} kept, {breached} breached")
_EVENT = Text("{event} {at}")


def month_name(first: date) -> Reason:
    return sentence("{month} {year}", month=Term(_MONTHS[first.month - 1]), year=str(first.year))


def sections(report: ClientMonth) -> tuple[FactSection, ...]:
    total, before = report.times.total, report.times.before
    found = [
        FactSection(
            _ALERTS(count=total.alerts, before=before.alerts),
            _lines(*(_by_priority(row) for row in report.times.rows if row.alerts)),
        )
    ]
    optional = {
        sentence("Time to acknowledge"): _durations(total.stats.acknowledged),
        sentence("Time to close"): _durations(total.stats.closed),
        sentence("SLA: response"): _kept(report.sla.total.stats.response),
        sentence("SLA: resolution"): _kept(report.sla.total.stats.resolution),
    }
    found += [FactSection(title, _lines(line)) for title, line in optional.items() if line]
    if total.alerts:
        found.append(FactSection(sentence("What was done"), _lines(*handover.outcomes(report.outcomes))))
    if report.worst:
        title = sentence("The alerts that were open the longest")
        found.append(FactSection(title, _lines(*map(_as_line, report.worst))))
    return tuple(found)


def _lines(*reasons: Reason) -> tuple[FactLine, ...]:
    return tuple(map(FactLine, reasons))


def _by_priority(row: Grouped[Any]) -> Reason:
    return _BY_PRIORITY(priority=Term(row.key), number=row.alerts)


def _durations(times: DurationStats) -> Reason | None:
    if times.p50 is None or times.p90 is None:
        return None
    return _DURATIONS(p50=_whole_seconds(times.p50), p90=_whole_seconds(times.p90))


def _kept(counts: SlaCounts) -> Reason | None:
    percent = counts.kept_percent
    return None if percent is None else _SLA(percent=round(percent), kept=counts.kept, breached=counts.breached)


def _as_line(alert: WorstAlert) -> Reason:
    duration = _whole_seconds(alert.duration)
    facts: dict[str, Any] = {"subject": alert.subject, "priority": Term(alert.priority), "duration": duration}
    events = joined(*(_EVENT(event=Term(one.label), at=one.at) for one in alert.events), separator=", ")
    if alert.closed_at is None:
        return sentence("{subject} ({priority}), open for {duration} so far: {events}", events=events, **facts)
    return sentence("{subject} ({priority}), open for {duration}: {events}", events=events, **facts)


def _whole_seconds(span: timedelta) -> timedelta:
    return timedelta(seconds=round(span.total_seconds()))


# ---------- mail


def client_report_task() -> PeriodicTask:
    return PeriodicTask(
        "client reports", lambda: mail_due_reports(clock.now()), MAILING_INTERVAL, frozenset({"config"})
    )


def mail_due_reports(now: datetime) -> bool:
    """Mails the report of the last month to each address that has not got it. Returns True if there may be more.

    After an outage over several months, only the last is reported.
    """
    with database.transaction() as connection:
        zone = settings_store.load(connection)[settings_store.TIME_ZONE.name]
        month = notices.first_of_month(now, zone)
        claimed = notices.claim_due_reports(connection, month, BATCH)
        done = sum(_mail_in_savepoint(connection, row, zone, month, now) for row in claimed)
    return done == BATCH


def _mail_in_savepoint(connection: Connection, row: Mapping[str, Any], zone: str, month: date, now: datetime) -> bool:
    try:
        with connection.transaction():
            if row["is_due"]:
                report = load(connection, row["client"], Period.last_month(now, ZoneInfo(zone)), now)
                notices.queue_to_addresses(connection, notice(report, zone), [notices.as_target(row)], zone, now)
            notices.mark_reported(connection, row["id"], month)
    except Exception as error:  # tried again at the next run; the others are mailed
        if database.is_unavailable(error):
            raise
        log.exception("The monthly report on a client (%s) cannot be mailed.", row["id"])
        return False
    return True


def notice(report: ClientMonth, zone: str) -> Notice:
    counted = sentence("Counted are the alerts that were opened in the month. Times are in {zone}.", zone=zone)
    return Notice(
        title=sentence("{client}: alerts in {month}", client=report.client, month=month_name(report.period.first_day)),
        text=joined(handover.as_text(sections(report)), counted, separator="\n\n"),
        about=f"client_report:{report.client}",
        reason=sentence("An administrator has set up this monthly report for your address."),
    )
