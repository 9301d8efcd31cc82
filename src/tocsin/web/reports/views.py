"""The reports: response times, SLA, noisy sources and interruptions, each with filters, charts and tables."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.core.config import settings_store
from tocsin.core.db.row_security import viewer_transaction
from tocsin.reports import grouped_report, interruptions, noise, response_times, sla
from tocsin.reports.counted_alerts import GroupBy
from tocsin.reports.noise import NoiseBy
from tocsin.web.http.authorization import may_somewhere
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.reports import report_charts
from tocsin.web.reports.query import BUCKETS, GROUPINGS, ReportQuery, choose, groupings, parse_query

#: The newest breaches on the page; the file has more.
_MAX_BREACHES = 50


@require_safe
def response_time_report(request: SignedInRequest) -> HttpResponse:
    """Render MTTA and MTTR: against the period before, their trend, and by person, group, client and others."""
    query = parse_query(request)
    with viewer_transaction() as connection:
        report = response_times.load_response_times(connection, query.period, query.by, query.bucket, query.filters)
    trend = report.trend
    context = {
        **_grouped_context(query, report),
        "alerts_chart": report_charts.alerts_chart(trend, query.bucket),
        "mtta_chart": report_charts.times_chart(
            _("Time to acknowledge (MTTA)"), trend, query.bucket, lambda stats: stats.acknowledged
        ),
        "mttr_chart": report_charts.times_chart(
            _("Time to close (MTTR)"), trend, query.bucket, lambda stats: stats.closed
        ),
    }
    return render_view(request, "reports/response_times.html", {**_frame(request, query), **context})


@require_safe
def sla_report(request: SignedInRequest) -> HttpResponse:
    """Render which alerts kept their SLA and which breached it."""
    query = parse_query(request, GroupBy.CLIENT)
    with viewer_transaction() as connection:
        loaded = sla.load_sla(
            connection, query.period, query.by, query.bucket, query.filters,
            now=request.now, max_breaches=_MAX_BREACHES + 1,
        )  # fmt: skip
    report, breaches = loaded.figures, loaded.breaches
    context = {
        **_grouped_context(query, report),
        "response_chart": report_charts.sla_chart(
            _("Response"), report.trend, query.bucket, lambda stats: stats.response
        ),
        "resolution_chart": report_charts.sla_chart(
            _("Resolution"), report.trend, query.bucket, lambda stats: stats.resolution
        ),
        "breaches": breaches[:_MAX_BREACHES],
        "has_more_breaches": len(breaches) > _MAX_BREACHES,
    }
    return render_view(request, "reports/sla.html", {**_frame(request, query), **context})


@require_safe
def noise_report(request: SignedInRequest) -> HttpResponse:
    """Render the sources of most alerts, each with a link to a grouping rule."""
    query = parse_query(request)
    by = choose(NoiseBy, request.GET.get("by"), NoiseBy.SUBJECT)
    with viewer_transaction() as connection:
        report = noise.load_noise(connection, query.period, by, query.filters)
    context = {
        "report": report,
        "by": by,
        "groupings": [
            (NoiseBy.SUBJECT, _("Subject")),
            (NoiseBy.CLIENT, _("Client")),
            (NoiseBy.INTEGRATION, _("Integration")),
        ],
        "largest": max((source.alerts for source in report.sources), default=0),
        "most": noise.MAX_SOURCES,
        "may_group": may_somewhere(request, Permission.MANAGE_ROUTING),
    }
    return render_view(request, "reports/noise.html", {**_frame(request, query), **context})


@require_safe
def interruption_report(request: SignedInRequest) -> HttpResponse:
    """Render when people were paged, by weekday and hour, and how often at night."""
    query = parse_query(request)
    night = settings_store.night_hours()
    with viewer_transaction() as connection:
        people = interruptions.load_interruptions(connection, query.period, night, query.filters)
    person = next((one for one in people if one.username == request.GET.get("person")), None)
    by_hour = person.by_hour if person else interruptions.total_by_hour(people)
    title = _("Interruptions by hour")
    context = {
        "people": people,
        "person": person,
        "most_at_night": max((one.at_night for one in people), default=0),
        "chart": report_charts.week_chart(title, by_hour, night),
        "hours": [(f"{hour:02}:00", [by_hour.get((day, hour), 0) for day in range(7)]) for hour in range(24)],
        "weekdays": report_charts.weekdays(),
        "night": night,
    }
    return render_view(request, "reports/interruptions.html", {**_frame(request, query), **context})


def _frame(request: SignedInRequest, query: ReportQuery) -> dict[str, Any]:
    """Return the variables of `reports/frame.html`."""
    kept = request.GET.copy()
    for name in ("by", "per", "person"):
        kept.pop(name, None)
    return {
        "query": query,
        "form": query.form,
        "filter_query": kept.urlencode(),
        "whole_query": request.GET.urlencode(),
        "time_zone": request.user.time_zone,
    }


def _grouped_context(query: ReportQuery, report: grouped_report.GroupedReport[Any]) -> dict[str, Any]:
    longest = max((row.alerts for row in report.rows), default=0) or 1
    return {
        "report": report,
        "trend": [(report_charts.bucket_label(row.key, query.bucket), row) for row in reversed(report.trend)],
        "rows": [(_label(row, query.by), round(100 * row.alerts / longest, 1), row) for row in report.rows],
        "groupings": list(groupings().items()),
        "column": GROUPINGS[query.by],
        "buckets": list(BUCKETS.items()),
        "most": grouped_report.MAX_ROWS,
    }


def _label(row: grouped_report.Grouped[Any], by: GroupBy) -> str:
    if by is GroupBy.HOUR:
        return f"{row.key}:00"
    return row.label or (_("No response") if by is GroupBy.PERSON else _("none"))
