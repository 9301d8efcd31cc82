"""Reports: response times, SLA, noisy sources and interruptions, with the same figures as in the web interface."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access import boundary
from tocsin.access.roles import MemberRole, Permission
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.api.alerts import PublicEventSchema
from tocsin.api.errors import show
from tocsin.api.framework.auth import AuthorizedRouter, ScheduleMoment, caller
from tocsin.api.framework.resources import ApiResource, register
from tocsin.api.users import GROUPS
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.base import viewer_transaction
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.coverage_checks import OnCallTime
from tocsin.reports import alert_reports, client_month, fairness
from tocsin.reports.alert_reports import DurationStats, NoiseBy, ResponseStats, SlaStats
from tocsin.reports.counted_alerts import PUBLIC_GROUPINGS, AlertFilter, Bucket, GroupBy, Grouped, GroupedReport, Period
from tocsin.reports.fairness import MAX_MONTHS, FairnessFilter, Interruptions, PersonalLoad
from tocsin.resources import registry
from tocsin.workflows.definition import SlaMoment

routes = AuthorizedRouter("reports")

#: The period if none is given.
_DEFAULT_PERIOD = timedelta(days=30)
_MAX_BREACHES = 10_000


class DurationStatsSchema(BaseModel):
    """The number of alerts to which it happened, and the median and 90th percentile of the time until then in
    seconds."""

    count: int
    p50_seconds: float | None
    p90_seconds: float | None


class ResponseTimesSchema(BaseModel):
    """The alerts of one key. `key` is the first day of a bucket, an hour (08) in the caller's time zone, a username, or
    a name; empty if there is none."""

    key: str
    alerts: int
    acknowledged: DurationStatsSchema = Field(description="Until the first acknowledgement or assignment: MTTA.")
    assigned: DurationStatsSchema
    closed: DurationStatsSchema = Field(description="MTTR.")


class SlaCountsSchema(BaseModel):
    """How many alerts kept a target, breached it, or are not due yet."""

    kept: int
    breached: int
    pending: int


class SlaSchema(BaseModel):
    """The alerts of one key that have an SLA."""

    key: str
    alerts: int
    response: SlaCountsSchema
    resolution: SlaCountsSchema


class GroupedReportSchema[Row](BaseModel):
    """Excludes test alerts, dry-run alerts and alerts that were merged into another."""

    since: datetime
    until: datetime
    all: Row = Field(description="All of them, each once.")
    before: Row = Field(description="The period of the same length before; for whole months as many months.")
    trend: list[Row] = Field(description="By bucket, the first day of each as `key`.")
    rows: list[Row] = Field(description="By the key: of names the 200 most frequent.")


class SlaBreachSchema(BaseModel):
    """A target that an alert breached. `met_at` is null as long as it is not met."""

    alert: int
    subject: str
    client: str
    priority: Priority
    target: SlaMoment
    due_at: datetime
    met_at: datetime | None


class SlaBreachReport(BaseModel):
    """The breaches, the latest due time first."""

    since: datetime
    until: datetime
    items: list[SlaBreachSchema]


class NoisySourceSchema(BaseModel):
    """Alerts of one integration with one subject, whose numbers are replaced by #, or of one client."""

    integration: str | None
    key: str
    alerts: int
    auto_closed: int = Field(description="Closed by the source within 5 minutes, before anybody responded.")
    acknowledged: int
    grouping: str = Field(description="A template for the integration's `grouping.by`, which would join most of them.")


class NoiseReportSchema(BaseModel):
    """The noisiest sources, at most 50."""

    since: datetime
    until: datetime
    alerts: int = Field(description="All alerts of the period.")
    sources: list[NoisySourceSchema]


class HourSchema(BaseModel):
    """The alerts that paged a user in one hour of the week, in the user's time zone."""

    weekday: int = Field(ge=1, le=7, description="1 is Monday.")
    hour: int = Field(ge=0, le=23)
    alerts: int


class InterruptionsSchema(BaseModel):
    """The pages of one user. An alert that paged the user twice counts once, and once in each hour; e-mails and sandbox
    messages do not count."""

    user: str
    alerts: int
    at_night: int = Field(description="Alerts that paged in the settings' `night_hours`, where the person lives.")
    nights: int = Field(description="In how many different nights.")
    hours: list[HourSchema]


class InterruptionReport(BaseModel):
    """The users who were paged, sorted by alerts at night, most first."""

    since: datetime
    until: datetime
    people: list[InterruptionsSchema]


class ReportFilters(Schema):
    """The period of a report, and the alerts that it covers."""

    since: ScheduleMoment | None = Field(default=None, alias="from", description="30 days before `to`, if not given.")
    until: ScheduleMoment | None = Field(default=None, alias="to", description="Now, where it is not given.")
    group: str | None = Field(default=None, description="A group that one of the escalations notified.")
    client: str | None = None
    integration: str | None = None
    priority: Priority | None = None


class GroupedReportFilters(ReportFilters):
    """The grouping, the buckets, the period and the alerts of a report."""

    by: GroupBy = GroupBy.PERSON
    per: Bucket | None = Field(default=None, description="Days for a month, weeks for half a year, else months.")


class SlaBreachFilters(ReportFilters):
    limit: int = Field(default=200, ge=1, le=_MAX_BREACHES, description="How many at most.")


class NoiseFilters(ReportFilters):
    by: NoiseBy = NoiseBy.SUBJECT


@routes.get(
    "/response-times",
    Permission.VIEW_ALERTS,
    answers=GroupedReportSchema[ResponseTimesSchema],
    public=True,
    summary="How many alerts opened `from` a moment `to` another, and how quickly they were answered; the last 30 days",
)
def report_response_times(request: HttpRequest, query: Query[GroupedReportFilters]) -> dict[str, Any]:
    period, filters = _period(request, query), _filters(query)
    bucket = query.per or period.bucket
    with viewer_transaction() as connection:
        report = alert_reports.load_response_times(connection, period, _grouping(query), bucket, filters)
    return _show_grouped(period, report, _show_times)


@routes.get(
    "/sla",
    Permission.VIEW_ALERTS,
    answers=GroupedReportSchema[SlaSchema],
    public=True,
    summary="How many alerts kept and breached their SLA; the last 30 days",
)
def report_sla(request: HttpRequest, query: Query[GroupedReportFilters]) -> dict[str, Any]:
    period, filters = _period(request, query), _filters(query)
    bucket = query.per or period.bucket
    with viewer_transaction() as connection:
        report = alert_reports.load_sla(
            connection, period, _grouping(query), bucket, filters, now=caller(request).now
        ).figures
    return _show_grouped(period, report, _show_sla)


@routes.get(
    "/sla-breaches",
    Permission.VIEW_ALERTS,
    answers=SlaBreachReport,
    public=True,
    summary="The alerts that breached their SLA; the last 30 days",
)
def report_sla_breaches(request: HttpRequest, query: Query[SlaBreachFilters]) -> dict[str, Any]:
    period, filters = _period(request, query), _filters(query)
    with viewer_transaction() as connection:
        breaches = alert_reports.load_breaches(connection, period, filters, now=caller(request).now, limit=query.limit)
    items = [show(SlaBreachSchema, one, alert=one.alert_id, target=one.moment) for one in breaches]
    return {"since": period.since, "until": period.until, "items": items}


@routes.get(
    "/noise",
    Permission.VIEW_ALERTS,
    answers=NoiseReportSchema,
    summary="The sources of most alerts, and how many no one had to answer; the last 30 days",
)
def report_noise(request: HttpRequest, query: Query[NoiseFilters]) -> dict[str, Any]:
    period = _period(request, query)
    with viewer_transaction() as connection:
        report = alert_reports.load_noise(connection, period, query.by, _filters(query))
    sources = [show(NoisySourceSchema, one, integration=one.integration or None) for one in report.sources]
    return {"since": period.since, "until": period.until, "alerts": report.alerts, "sources": sources}


@routes.get(
    "/interruptions",
    Permission.VIEW_ALERTS,
    answers=InterruptionReport,
    summary="Who was paged at which hours, and how often at night; the last 30 days",
)
def report_interruptions(request: HttpRequest, query: Query[ReportFilters]) -> dict[str, Any]:
    period, filters = _period(request, query), _filters(query)
    with viewer_transaction() as connection:
        people = fairness.load_interruptions(connection, period, settings_store.night_hours(), filters)
    return {"since": period.since, "until": period.until, "people": [_show_person(person) for person in people]}


def _grouping(query: GroupedReportFilters) -> GroupBy:
    """Return the requested grouping; for client observers, by client instead of by something internal."""
    limit = boundary.current()
    is_internal = limit is not None and limit.clients and query.by not in PUBLIC_GROUPINGS
    return GroupBy.CLIENT if is_internal else query.by


def _period(request: HttpRequest, query: ReportFilters) -> Period:
    principal = caller(request)
    until = query.until or principal.now
    return Period.between(query.since or until - _DEFAULT_PERIOD, until, ZoneInfo(principal.user.time_zone))


def _filters(query: ReportFilters) -> AlertFilter:
    group = registry.GROUPS.resolve(query.group, "group").pk if query.group else None
    integration = registry.INTEGRATIONS.resolve(query.integration, "integration").pk if query.integration else None
    return AlertFilter(group, query.client or "", integration, query.priority)


def _show_grouped[S](
    period: Period, report: GroupedReport[S], show_stats: Callable[[S], dict[str, Any]]
) -> dict[str, Any]:
    def row(grouped: Grouped[S]) -> dict[str, Any]:
        return {"key": grouped.key, "alerts": grouped.alerts, **show_stats(grouped.stats)}

    return {
        "since": period.since,
        "until": period.until,
        "all": row(report.total),
        "before": row(report.before),
        "trend": [row(grouped) for grouped in report.trend],
        "rows": [row(grouped) for grouped in report.rows],
    }


def _show_times(stats: ResponseStats) -> dict[str, Any]:
    def times(one: DurationStats) -> dict[str, Any]:
        return {"count": one.count, "p50_seconds": _seconds(one.p50), "p90_seconds": _seconds(one.p90)}

    return {name: times(getattr(stats, name)) for name in ("acknowledged", "assigned", "closed")}


def _show_sla(stats: SlaStats) -> dict[str, Any]:
    return {name: show(SlaCountsSchema, getattr(stats, name)) for name in ("response", "resolution")}


def _show_person(person: Interruptions) -> dict[str, Any]:
    hours = [
        {"weekday": weekday + 1, "hour": hour, "alerts": number}
        for (weekday, hour), number in sorted(person.by_hour.items())
    ]
    return show(InterruptionsSchema, person, user=person.username, hours=hours)


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 3)


# ---------- client month
# A client's month, as the page and the mail have it, and the addresses to which it is mailed.


class WorstAlertSchema(BaseModel):
    """One of the five alerts that were open the longest."""

    alert: int
    subject: str
    priority: Priority
    status: AlertStatus
    opened_at: datetime
    closed_at: datetime | None
    events: list[PublicEventSchema]


class ClientMonthSchema(BaseModel):
    """The alerts of a client that were opened in a month. Excludes test, dry-run and merged alerts."""

    client: str
    month: str
    response_times: ResponseTimesSchema
    priorities: list[ResponseTimesSchema]
    before: ResponseTimesSchema = Field(description="The month before.")
    sla: SlaSchema
    closed: int
    false_alarms: int
    still_active: int
    worst: list[WorstAlertSchema]


class ClientMonthParameters(Schema):
    client: str = Field(min_length=1, max_length=200, description="Name of the client; case does not matter.")
    month: str | None = Field(default=None, description="The month, such as 2026-11; the last one by default.")


@routes.get(
    "/client-month",
    Permission.VIEW_ALERTS,
    answers=ClientMonthSchema,
    public=True,
    summary="A client's month: counts, response times, SLA and the alerts that were open the longest",
)
def report_client_month(request: HttpRequest, query: Query[ClientMonthParameters]) -> dict[str, Any]:
    principal = caller(request)
    zone = ZoneInfo(principal.user.time_zone)
    period = Period.last_month(principal.now, zone)
    if query.month:
        period = Period.month(weekly_windows.parse_month(query.month), zone)
    with viewer_transaction() as connection:
        report = client_month.load(connection, query.client, period, principal.now)
    times = _show_grouped(period, report.times, _show_times)
    return {
        "client": report.client,
        "month": f"{period.first_day:%Y-%m}",
        "response_times": times["all"],
        "priorities": times["rows"],
        "before": times["before"],
        "sla": _show_grouped(period, report.sla, _show_sla)["all"],
        "closed": report.closed,
        "false_alarms": report.false_alarms,
        "still_active": report.still_active,
        "worst": [
            show(WorstAlertSchema, one, alert=one.alert_id, events=[show(PublicEventSchema, e) for e in one.events])
            for one in report.worst
        ],
    }


CLIENT_REPORTS = ApiResource(registry.CLIENT_REPORTS, filters={"enabled": (bool, "is_enabled")})
client_reports_routes = register(CLIENT_REPORTS).routes


# ---------- fairness
# On-call fairness: each user's load by month, with the same figures as in the web interface.


class OnCallHoursSchema(BaseModel):
    """Hours on call, and how many of them at night, on weekends and on holidays."""

    total: float
    night: float
    weekend: float
    holiday: float


class PersonalLoadSchema(BaseModel):
    """One user. An alert that paged the user twice counts once; e-mails and sandbox messages do not count."""

    user: str
    hours: OnCallHoursSchema
    difference: OnCallHoursSchema = Field(
        description="From the even share: the time of each group, divided by the users in its shifts."
    )
    pages: int
    night_pages: int
    pages_difference: float = Field(description="From the average of all users in the month.")


class MonthlyLoadSchema(BaseModel):
    """The users of one month, those with the most hours first."""

    month: str
    people: list[PersonalLoadSchema]


class FairnessResponse(BaseModel):
    """Months begin at midnight in `time_zone`; nights, weekends and holidays are those of the users' zones."""

    time_zone: str
    months: list[MonthlyLoadSchema]


class FairnessParameters(Schema):
    """The months, and what counts."""

    month: str | None = Field(default=None, description="The last month, such as 2026-12; the current one by default.")
    months: int = Field(default=1, ge=1, le=MAX_MONTHS, description="How many months, up to that one.")
    group: str | None = Field(default=None, description="Only the schedules of this group, and pages of its alerts.")
    role: MemberRole | None = Field(default=None, description="Only time in this role.")


@routes.get(
    "/fairness",
    Permission.VIEW_ALERTS,
    answers=FairnessResponse,
    summary="How much each user is on call and paged, by month, and how far that is from an even share",
)
def report_fairness(request: HttpRequest, query: Query[FairnessParameters]) -> dict[str, Any]:
    principal = caller(request)
    zone = ZoneInfo(principal.user.time_zone)
    last = weekly_windows.parse_month(query.month) if query.month else principal.now.astimezone(zone).date()
    selected = FairnessFilter(GROUPS.find(query.group).pk if query.group else None, query.role)
    night = settings_store.night_hours()
    with database.transaction() as connection:
        loads = fairness.load_fairness(connection, fairness.months_until(last, query.months), zone, night, selected)
    return {
        "time_zone": zone.key,
        "months": [
            {"month": f"{load.month:%Y-%m}", "people": [_person(person) for person in load.people]} for load in loads
        ],
    }


def _person(person: PersonalLoad) -> dict[str, Any]:
    return show(
        PersonalLoadSchema,
        person,
        user=person.username,
        hours=_hours(person.time),
        difference=_hours(person.difference),
        pages_difference=round(person.pages_difference, 2),
    )


def _hours(time: OnCallTime) -> dict[str, float]:
    return {
        kind: round(getattr(time, kind).total_seconds() / 3600, 2) for kind in ("total", "night", "weekend", "holiday")
    }
