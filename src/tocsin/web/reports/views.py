"""Reports: response times, grouped by day, source and other keys, and pages at night per user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.decorators.http import require_safe

from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.validation import csv_text
from tocsin.reports import night_load, response_times
from tocsin.reports.period import Period
from tocsin.reports.response_times import DurationStats, GroupBy, ResponseStats
from tocsin.web.http.request import SignedInRequest, render_view

#: Selectable periods in days, including today.
SPANS = (7, 30, 90, 365)
_DEFAULT_DAYS = 30

#: Grouping of the table → heading of its first column.
TABLES = {
    GroupBy.DAY: gettext_lazy("Day"),
    GroupBy.HOUR: gettext_lazy("Hour"),
    GroupBy.SOURCE: gettext_lazy("Source"),
    GroupBy.INTEGRATION: gettext_lazy("Integration"),
    GroupBy.GROUP: gettext_lazy("Group"),
    GroupBy.CLIENT: gettext_lazy("Client"),
    GroupBy.PRIORITY: gettext_lazy("Priority"),
}
#: Columns of the CSV file, named as in the API.
_RESPONSE_COLUMNS = (
    "alerts",
    *(f"{what}_{part}" for what in ("acknowledged", "assigned", "closed")
      for part in ("count", "median_seconds", "p90_seconds")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One row: its label, its statistics, and the length of its bar or column in percent of the longest."""

    label: str
    stats: ResponseStats
    length: float
    #: Top of the column in percent, because SVG coordinates grow downwards.
    top: float


@require_safe
def reports(request: SignedInRequest) -> HttpResponse:
    """Render the statistics of a period as a chart and a table."""
    days, group_by, period = _parse_query(request)
    night = settings_store.night_hours()
    with database.transaction() as connection:
        report = response_times.load_response_times(connection, period, group_by)
        people = night_load.load_nights(connection, period, night)
    rows = _rows(report.rows, group_by)
    context = {
        "days": days,
        "spans": SPANS,
        "by": group_by,
        "tables": list(TABLES.items()),
        "column": TABLES[group_by],
        "together": report.total,
        # Days and hours are drawn as columns; names, of which there may be many, as horizontal bars.
        "columns": rows if group_by in (GroupBy.DAY, GroupBy.HOUR) else (),
        # The newest day comes first.
        "rows": rows[::-1] if group_by is GroupBy.DAY else rows,
        "most": response_times.MAX_ROWS,
        "people": people,
        "most_at_night": max((person.at_night for person in people), default=0),
        "time_zone": request.user.time_zone,
        "night": night,
    }
    return render_view(request, "reports/reports.html", context)


@require_safe
def response_times_csv(request: SignedInRequest) -> HttpResponse:
    """Download the table as CSV, with times in seconds."""
    days, group_by, period = _parse_query(request)
    with database.transaction() as connection:
        stats = response_times.load_response_times(connection, period, group_by).rows
    lines = ([row.key, row.alerts, *_numbers((row.acknowledged, row.assigned, row.closed))] for row in stats)
    return _file(f"alerts-by-{group_by}-{days}-days", [group_by.value, *_RESPONSE_COLUMNS], lines)


@require_safe
def nights_csv(request: SignedInRequest) -> HttpResponse:
    """Download the pages at night per user as CSV."""
    days, _group_by, period = _parse_query(request)
    with database.transaction() as connection:
        loads = night_load.load_nights(connection, period, settings_store.night_hours())
    lines = ([load.username, load.name, load.alerts, load.at_night, load.nights] for load in loads)
    return _file(f"nights-{days}-days", ["user", "name", "alerts", "at_night", "nights"], lines)


def _parse_query(request: SignedInRequest) -> tuple[int, GroupBy, Period]:
    """Parse the query string. Unknown values fall back to the defaults."""
    days = next((span for span in SPANS if str(span) == request.GET.get("days")), _DEFAULT_DAYS)
    group_by = next((key for key in GroupBy if key == request.GET.get("by")), GroupBy.DAY)
    return days, group_by, Period.last_days(days, request.now, ZoneInfo(request.user.time_zone))


def _rows(stats: Sequence[ResponseStats], group_by: GroupBy) -> list[ReportRow]:
    longest = max((row.alerts for row in stats), default=0) or 1
    lengths = [round(100 * row.alerts / longest, 1) for row in stats]
    return [
        ReportRow(_label(row.key, group_by), row, length, 100 - length) for row, length in zip(stats, lengths,
        strict=True)
    ]  # fmt: skip


def _label(key: str, group_by: GroupBy) -> str:
    match group_by:
        case GroupBy.DAY:
            return date_format(date.fromisoformat(key), pgettext("date format", "D j M Y"))
        case GroupBy.HOUR:
            return f"{key}:00"
        case GroupBy.PRIORITY:
            return key
        case _:
            return key or _("none")


def _numbers(durations: Iterable[DurationStats]) -> list[object]:
    return [
        value for duration in durations for value in (duration.count, _seconds(duration.p50), _seconds(duration.p90))
    ]


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds())


def _file(name: str, header: Sequence[str], lines: Iterable[Sequence[object]]) -> HttpResponse:
    response = HttpResponse(csv_text.write([header, *lines]), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="tocsin-{name}.csv"'
    return response
