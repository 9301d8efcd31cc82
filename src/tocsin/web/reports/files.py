"""The tables of the reports as CSV. Columns are named as in the API, and times are in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from django.http import Http404, HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.core.config import settings_store
from tocsin.core.db.database import Connection
from tocsin.core.db.row_security import viewer_transaction
from tocsin.core.validation import csv_text
from tocsin.reports import interruptions, noise, response_times, sla
from tocsin.reports.counted_alerts import GroupBy
from tocsin.reports.grouped_report import Grouped, GroupedReport
from tocsin.reports.interruptions import Interruptions
from tocsin.reports.noise import NoiseBy
from tocsin.reports.response_times import ResponseStats
from tocsin.reports.sla import SlaStats
from tocsin.web.http.request import SignedInRequest
from tocsin.web.reports.query import ReportQuery, choose, parse_query

_MAX_BREACHES = 10_000

#: A table's name in the file, its header and its rows.
type Table = tuple[str, Sequence[str], Iterable[Sequence[object]]]

_TIMES = ("acknowledged", "assigned", "closed")
_TIME_COLUMNS = [f"{name}_{part}" for name in _TIMES for part in ("count", "p50_seconds", "p90_seconds")]
_SLA_COLUMNS = [
    f"{target}_{outcome}" for target in ("response", "resolution") for outcome in ("kept", "breached", "pending")
]
_BREACH_COLUMNS = ["alert", "subject", "client", "priority", "target", "due_at", "met_at"]
_NOISE_COLUMNS = ["integration", "key", "alerts", "auto_closed", "acknowledged"]


def _response_times(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request)
    report = response_times.load_response_times(connection, query.period, query.by, query.bucket, query.filters)
    return _grouped(request, query, report, _TIME_COLUMNS, _time_cells)


def _sla(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request, GroupBy.CLIENT)
    report = sla.load_sla(connection, query.period, query.by, query.bucket, query.filters, now=request.now).figures
    return _grouped(request, query, report, _SLA_COLUMNS, _sla_cells)


def _grouped[S](
    request: SignedInRequest,
    query: ReportQuery,
    report: GroupedReport[S],
    columns: Sequence[str],
    cells: Callable[[S], Sequence[object]],
) -> Table:
    """The rows by key, or with `?trend` the buckets."""
    is_trend = "trend" in request.GET
    key = query.bucket.value if is_trend else query.by.value
    rows: Sequence[Grouped[S]] = report.trend if is_trend else report.rows
    return f"by-{key}", [key, "alerts", *columns], ([row.key, row.alerts, *cells(row.stats)] for row in rows)


def _time_cells(stats: ResponseStats) -> list[object]:
    return [
        value
        for one in (stats.acknowledged, stats.assigned, stats.closed)
        for value in (one.count, _seconds(one.p50), _seconds(one.p90))
    ]


def _sla_cells(stats: SlaStats) -> list[object]:
    return [value for one in (stats.response, stats.resolution) for value in (one.kept, one.breached, one.pending)]


def _breaches(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request)
    rows = sla.load_breaches(connection, query.period, query.filters, now=request.now, limit=_MAX_BREACHES)
    lines = (
        [row.alert_id, row.subject, row.client, row.priority, row.moment.value, row.due_at.isoformat(),
         row.met_at.isoformat() if row.met_at else None]
        for row in rows
    )  # fmt: skip
    return "breaches", _BREACH_COLUMNS, lines


def _noise(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request)
    by = choose(NoiseBy, request.GET.get("by"), NoiseBy.SUBJECT)
    sources = noise.load_noise(connection, query.period, by, query.filters).sources
    lines = ([one.integration, one.key, one.alerts, one.auto_closed, one.acknowledged] for one in sources)
    return f"by-{by}", _NOISE_COLUMNS, lines


def _interruptions(connection: Connection, request: SignedInRequest) -> Table:
    lines = (
        [person.username, person.name, weekday + 1, hour, number]
        for person in _people(connection, request)
        for (weekday, hour), number in sorted(person.by_hour.items())
    )
    return "by-hour", ["user", "name", "weekday", "hour", "alerts"], lines


def _nights(connection: Connection, request: SignedInRequest) -> Table:
    lines = ([one.username, one.name, one.alerts, one.at_night, one.nights] for one in _people(connection, request))
    return "by-person", ["user", "name", "alerts", "at_night", "nights"], lines


def _people(connection: Connection, request: SignedInRequest) -> list[Interruptions]:
    query = parse_query(request)
    return interruptions.load_interruptions(connection, query.period, settings_store.night_hours(), query.filters)


_TABLES: Mapping[str, Callable[[Connection, SignedInRequest], Table]] = {
    "response-times": _response_times,
    "sla": _sla,
    "sla-breaches": _breaches,
    "noise": _noise,
    "interruptions": _interruptions,
    "nights": _nights,
}


#: The tables of client observers.
_CLIENT_TABLES = frozenset({"response-times", "sla", "sla-breaches"})


@require_safe
def report_file(request: SignedInRequest, name: str) -> HttpResponse:
    """Download a table of a report as CSV."""
    limit = boundary.current()
    if name not in (_CLIENT_TABLES if limit is not None and limit.clients else _TABLES):
        raise Http404
    with viewer_transaction() as connection:
        table, header, lines = _TABLES[name](connection, request)
    period = parse_query(request).file_suffix
    response = HttpResponse(csv_text.write([header, *lines]), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="tocsin-{name}-{table}-{period}.csv"'
    return response


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds())
