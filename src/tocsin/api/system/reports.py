"""Reports: response times and pages at night, with the same figures as in the web interface."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import ScheduleMoment
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.reports import night_load, response_times
from tocsin.reports.period import Period
from tocsin.reports.response_times import DurationStats, GroupBy, ResponseStats

routes = AuthorizedRouter("reports")

#: The period if none is given.
_DEFAULT_PERIOD = timedelta(days=30)


class DurationStatsSchema(BaseModel):
    """The number of alerts to which it happened, and the median and 90th percentile of the time until then in
    seconds."""

    count: int
    median_seconds: float | None
    p90_seconds: float | None


class ResponseTimesSchema(BaseModel):
    """The alerts of one key. `key` is a day, an hour (08) in the caller's time zone, or a name; empty if there
    is none."""

    key: str
    alerts: int
    acknowledged: DurationStatsSchema
    assigned: DurationStatsSchema
    closed: DurationStatsSchema


class ResponseTimesReport(BaseModel):
    """Excludes test alerts, dry-run alerts and alerts that were merged into another."""

    since: datetime
    until: datetime
    all: ResponseTimesSchema = Field(description="All of them, each once.")
    rows: list[ResponseTimesSchema] = Field(description="By the key: of names the 200 most frequent.")


class NightLoadSchema(BaseModel):
    """The pages of one user. An alert that paged the user twice counts once; e-mails and sandbox messages do
    not count."""

    user: str
    alerts: int
    at_night: int = Field(description="Alerts that called in the settings' `night_hours`, where the person lives.")
    nights: int = Field(description="In how many different nights.")


class NightLoadReport(BaseModel):
    """The users who were paged, sorted by alerts at night, most first."""

    since: datetime
    until: datetime
    people: list[NightLoadSchema]


class ReportPeriodQuery(Schema):
    """The period of the report."""

    since: ScheduleMoment | None = Field(default=None, alias="from", description="30 days before `to`, if not given.")
    until: ScheduleMoment | None = Field(default=None, alias="to", description="Now, where it is not given.")


class ResponseTimesQuery(ReportPeriodQuery):
    """The grouping and the period of the report."""

    by: GroupBy = GroupBy.DAY


@routes.get(
    "/answers",
    Permission.VIEW_ALERTS,
    answers=ResponseTimesReport,
    summary="How many alerts opened `from` a moment `to` another, and how quickly they were answered; the last 30 days",
)
def report_answers(request: HttpRequest, query: Query[ResponseTimesQuery]) -> dict[str, Any]:
    period = _period(request, query)
    with database.transaction() as connection:
        report = response_times.load_response_times(connection, period, query.by)
    return {
        "since": period.since,
        "until": period.until,
        "all": _answers(report.total),
        "rows": [_answers(row) for row in report.rows],
    }


@routes.get(
    "/nights",
    Permission.VIEW_ALERTS,
    answers=NightLoadReport,
    summary="Who was called at night, and how often; the last 30 days",
)
def report_nights(request: HttpRequest, query: Query[ReportPeriodQuery]) -> dict[str, Any]:
    period = _period(request, query)
    with database.transaction() as connection:
        loads = night_load.load_nights(connection, period, settings_store.night_hours())
    people = [
        {"user": load.username, "alerts": load.alerts, "at_night": load.at_night, "nights": load.nights}
        for load in loads
    ]
    return {"since": period.since, "until": period.until, "people": people}


def _period(request: HttpRequest, query: ReportPeriodQuery) -> Period:
    principal = caller(request)
    until = query.until or principal.now
    return Period.between(query.since or until - _DEFAULT_PERIOD, until, ZoneInfo(principal.user.time_zone))


def _answers(row: ResponseStats) -> dict[str, Any]:
    return {
        "key": row.key,
        "alerts": row.alerts,
        "acknowledged": _times(row.acknowledged),
        "assigned": _times(row.assigned),
        "closed": _times(row.closed),
    }


def _times(times: DurationStats) -> dict[str, Any]:
    return {"count": times.count, "median_seconds": _seconds(times.p50), "p90_seconds": _seconds(times.p90)}


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 3)
