"""Reports on response times and pages at night."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.http import Http404, HttpResponse
from django.utils.dates import WEEKDAYS, WEEKDAYS_ABBR
from django.utils.formats import date_format, number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.decorators.http import require_safe

from tocsin.access import boundary
from tocsin.access.roles import MemberRole, Permission
from tocsin.alerts.states import Priority
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.base import viewer_transaction
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import local_date
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import NightHours
from tocsin.inbound.models import Integration
from tocsin.notify.models import ClientReport
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.coverage_checks import OnCallTime
from tocsin.people.models import Group
from tocsin.reports import alert_reports, client_month, counted_alerts, fairness
from tocsin.reports.alert_reports import DurationStats, NoiseBy, ResponseStats, SlaCounts, SlaStats
from tocsin.reports.counted_alerts import PUBLIC_GROUPINGS, AlertFilter, Bucket, GroupBy, Grouped, GroupedReport, Period
from tocsin.reports.fairness import FairnessFilter, Interruptions, MonthlyLoad, PersonalLoad
from tocsin.resources.registry import CLIENT_REPORTS
from tocsin.web.http.request import SignedInRequest, download, may_somewhere, render_view, requires
from tocsin.web.templatetags import reports
from tocsin.web.templatetags.reports import Axes, Series, alerts_text, short_span
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import PRIORITIES, DayField, rejections_shown
from tocsin.web.ui.object_list import ObjectList

# ---------- query
# The query string of the reports: period, filters and grouping, which every report and its files share.

#: Selectable periods in days, including today; then those that are not counted in days.
_DAYS = {"7d": 7, "30d": 30, "90d": 90, "365d": 365}
_LAST_MONTH, _CUSTOM = "last_month", "custom"
_DEFAULT = "30d"

#: Grouping → heading of the table's first column.
GROUPINGS = {
    GroupBy.PERSON: gettext_lazy("Person"),
    GroupBy.GROUP: gettext_lazy("Group"),
    GroupBy.CLIENT: gettext_lazy("Client"),
    GroupBy.INTEGRATION: gettext_lazy("Integration"),
    GroupBy.PRIORITY: gettext_lazy("Priority"),
    GroupBy.SOURCE: gettext_lazy("Source"),
    GroupBy.HOUR: gettext_lazy("Hour"),
}

BUCKETS = {Bucket.DAY: gettext_lazy("Day"), Bucket.WEEK: gettext_lazy("Week"), Bucket.MONTH: gettext_lazy("Month")}


class ReportForm(forms.Form):
    """Parses the filters. Those that are unusable are ignored, so that old links keep working."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if GroupBy.GROUP not in groupings():
            del self.fields["group"], self.fields["integration"]

    period = forms.ChoiceField(
        label=gettext_lazy("Period"),
        required=False,
        choices=[
            ("7d", gettext_lazy("Last 7 days")),
            ("30d", gettext_lazy("Last 30 days")),
            ("90d", gettext_lazy("Last 90 days")),
            ("365d", gettext_lazy("Last 365 days")),
            (_LAST_MONTH, gettext_lazy("Last month")),
            (_CUSTOM, gettext_lazy("Custom")),
        ],
    )
    since = DayField(label=gettext_lazy("From"), required=False)
    until = DayField(label=gettext_lazy("To"), required=False)
    group = forms.ModelChoiceField(
        Group.objects.order_by("name"), label=gettext_lazy("Group"), required=False, empty_label=gettext_lazy("All")
    )
    client = forms.CharField(label=gettext_lazy("Client"), required=False, max_length=200)
    integration = forms.ModelChoiceField(
        Integration.objects.only("name").order_by("name"),
        label=gettext_lazy("Integration"),
        required=False,
        empty_label=gettext_lazy("All"),
    )
    priority = forms.ChoiceField(
        label=gettext_lazy("Priority"), required=False, choices=[("", gettext_lazy("All")), *PRIORITIES]
    )


@dataclass(frozen=True, slots=True)
class ReportQuery:
    form: ReportForm
    period: Period
    filters: AlertFilter
    by: GroupBy
    bucket: Bucket

    @property
    def period_label(self) -> str:
        """The selected period in words; the days of a custom one."""
        choice = self.form.cleaned_data.get("period") or _DEFAULT
        if choice == _CUSTOM:
            return f"{local_date(self.period.first_day)} – {local_date(self.period.last_day)}"
        return str(dict(self.form.fields["period"].choices)[choice])  # type: ignore[attr-defined]

    @property
    def filter_count(self) -> int:
        """How many filters are set, the period aside."""
        return sum(bool(self.form.cleaned_data.get(name)) for name in ("group", "client", "integration", "priority"))

    @property
    def file_suffix(self) -> str:
        """The period for a file's name: its first and last day."""
        return f"{self.period.first_day}-{self.period.last_day}"


def parse_query(request: SignedInRequest, default_by: GroupBy = GroupBy.PERSON) -> ReportQuery:
    """Parse the query string. An unusable value falls back to its default; an unusable period is explained in the
    form."""
    form = ReportForm({"period": _DEFAULT} | request.GET.dict())
    form.is_valid()
    values = form.cleaned_data
    period = _period(form, request)
    group, integration, priority = values.get("group"), values.get("integration"), values.get("priority")
    return ReportQuery(
        form,
        period,
        AlertFilter(
            group_id=group.pk if group else None,
            client=values.get("client", ""),
            integration_id=integration.pk if integration else None,
            priority=Priority(priority) if priority else None,
        ),
        _grouping(request.GET.get("by"), default_by),
        choose(Bucket, request.GET.get("per"), period.bucket),
    )


def groupings() -> Mapping[GroupBy, Any]:
    """Return how the viewer may group alerts, each with its heading. People, groups and integrations are internal."""
    limit = boundary.current()
    if limit is None or not limit.clients:
        return GROUPINGS
    return {by: label for by, label in GROUPINGS.items() if by in PUBLIC_GROUPINGS}


def _grouping(text: str | None, default: GroupBy) -> GroupBy:
    by, permitted = choose(GroupBy, text, default), groupings()
    return by if by in permitted else GroupBy.CLIENT


def choose[E: StrEnum](choices: type[E], text: str | None, default: E) -> E:
    """Return the choice of that name, or the default."""
    return next((choice for choice in choices if choice == text), default)


def _period(form: ReportForm, request: SignedInRequest) -> Period:
    zone = ZoneInfo(request.user.time_zone)
    choice, since, until = (form.cleaned_data.get(name) for name in ("period", "since", "until"))
    if choice == _LAST_MONTH:
        return Period.last_month(request.now, zone)
    if choice == _CUSTOM and isinstance(since, date) and isinstance(until, date) and until < since:
        form.add_error("until", _("The last day must not be before the first."))
    elif choice == _CUSTOM and isinstance(since, date) and isinstance(until, date):
        with rejections_shown(form, {"to": "until"}):
            return Period.days(since, until, zone)
    elif choice == _CUSTOM and not form.errors:
        form.add_error("since" if since is None else "until", _("Choose the first and the last day."))
    return Period.last_days(_DAYS.get(choice or "", _DAYS[_DEFAULT]), request.now, zone)


def bucket_label(key: str, bucket: Bucket) -> str:
    """Return the name of a bucket: "Sat 28 Nov 2026", "Week of Mon 23 Nov 2026", "November 2026"."""
    day = date.fromisoformat(key)
    if bucket is Bucket.MONTH:
        return date_format(day, "F Y")
    text = date_format(day, pgettext("date format", "D j M Y"))
    return text if bucket is Bucket.DAY else _("Week of %(day)s") % {"day": text}


def alerts_chart(trend: Sequence[Grouped[ResponseStats]], bucket: Bucket) -> SafeString:
    values = [row.alerts for row in trend]
    tooltips = [f"{bucket_label(row.key, bucket)}: {alerts_text(row.alerts)}" for row in trend]
    scale = reports.number_scale(max(values, default=0))
    axes = Axes(_("Alerts"), _labels(trend, bucket), tooltips, scale, _number)
    return reports.columns(axes, [Series(_("Alerts"), values)])


def times_chart(
    title: str, trend: Sequence[Grouped[ResponseStats]], bucket: Bucket, times: Callable[[ResponseStats], DurationStats]
) -> SafeString:
    """Draw the median and the 90th percentile of a time in each bucket."""
    stats = [times(row.stats) for row in trend]
    p50, p90 = [_seconds(one.p50) for one in stats], [_seconds(one.p90) for one in stats]
    tooltips = [
        f"{bucket_label(row.key, bucket)}: "
        + (f"p50 {short_span(one.p50)}, p90 {short_span(one.p90)}, {alerts_text(one.count)}" if one.count else "–")
        for row, one in zip(trend, stats, strict=True)
    ]
    scale = reports.duration_scale(max((value for value in p90 if value is not None), default=0))
    axes = Axes(title, _labels(trend, bucket), tooltips, scale, _duration)
    return reports.lines(axes, [Series(_("Median (p50)"), p50), Series(_("90th percentile (p90)"), p90)])


def sla_chart(
    title: str, trend: Sequence[Grouped[SlaStats]], bucket: Bucket, target: Callable[[SlaStats], SlaCounts]
) -> SafeString:
    """Draw how many alerts kept and breached a target in each bucket."""
    counts = [target(row.stats) for row in trend]
    tooltips = [
        f"{bucket_label(row.key, bucket)}: "
        + _("%(kept)s kept, %(breached)s breached") % {"kept": one.kept, "breached": one.breached}
        for row, one in zip(trend, counts, strict=True)
    ]
    scale = reports.number_scale(max((one.kept + one.breached for one in counts), default=0))
    axes = Axes(title, _labels(trend, bucket), tooltips, scale, _number)
    series = [Series(_("Kept"), [one.kept for one in counts]), Series(_("Breached"), [one.breached for one in counts])]
    return reports.columns(axes, series)


def week_chart(title: str, by_hour: Mapping[tuple[int, int], int], night: NightHours) -> SafeString:
    """Draw the interruptions of each hour of a week. The hours of the night have another ground."""

    def tooltip(weekday: int, hour: int) -> str:
        return f"{WEEKDAYS[weekday]}, {hour:02}:00: {alerts_text(by_hour.get((weekday, hour), 0))}"

    hours = [f"{hour:02}" if hour % 3 == 0 else "" for hour in range(24)]
    is_night = [night.includes_time(time(hour)) for hour in range(24)]
    return reports.heat_map(title, weekdays(), hours, by_hour, tooltip, is_night)


def weekdays() -> list[str]:
    """Return the short names of the weekdays, Monday first."""
    return [str(WEEKDAYS_ABBR[day]) for day in range(7)]


def _labels[S](trend: Sequence[Grouped[S]], bucket: Bucket) -> list[str]:
    short = "M Y" if bucket is Bucket.MONTH else pgettext("date format", "j M")
    return [date_format(date.fromisoformat(row.key), short) for row in trend]


def _number(value: float) -> str:
    return number_format(round(value), force_grouping=True)


def _duration(seconds: float) -> str:
    if seconds % 60 and seconds > 60:
        return _("%(number)s s") % {"number": round(seconds)}
    return short_span(timedelta(seconds=seconds)) if seconds else "0"


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else max(0.0, span.total_seconds())


#: The newest breaches on the page; the file has more.
_MAX_BREACHES = 50


@require_safe
def response_time_report(request: SignedInRequest) -> HttpResponse:
    """Render MTTA and MTTR: against the period before, their trend, and by person, group, client and others."""
    query = parse_query(request)
    with viewer_transaction() as connection:
        report = alert_reports.load_response_times(connection, query.period, query.by, query.bucket, query.filters)
    trend = report.trend
    context = {
        **_grouped_context(query, report),
        "alerts_chart": alerts_chart(trend, query.bucket),
        "mtta_chart": times_chart(
            _("Time to acknowledge (MTTA)"), trend, query.bucket, lambda stats: stats.acknowledged
        ),
        "mttr_chart": times_chart(_("Time to close (MTTR)"), trend, query.bucket, lambda stats: stats.closed),
    }
    return render_view(request, "reports/response_times.html", {**_frame(request, query), **context})


@require_safe
def sla_report(request: SignedInRequest) -> HttpResponse:
    """Render which alerts kept their SLA and which breached it."""
    query = parse_query(request, GroupBy.CLIENT)
    with viewer_transaction() as connection:
        loaded = alert_reports.load_sla(
            connection, query.period, query.by, query.bucket, query.filters,
            now=request.now, max_breaches=_MAX_BREACHES + 1,
        )  # fmt: skip
    report, breaches = loaded.figures, loaded.breaches
    context = {
        **_grouped_context(query, report),
        "response_chart": sla_chart(_("Response"), report.trend, query.bucket, lambda stats: stats.response),
        "resolution_chart": sla_chart(_("Resolution"), report.trend, query.bucket, lambda stats: stats.resolution),
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
        report = alert_reports.load_noise(connection, query.period, by, query.filters)
    context = {
        "report": report,
        "by": by,
        "groupings": [
            (NoiseBy.SUBJECT, _("Subject")),
            (NoiseBy.CLIENT, _("Client")),
            (NoiseBy.INTEGRATION, _("Integration")),
        ],
        "largest": max((source.alerts for source in report.sources), default=0),
        "most": alert_reports.MAX_SOURCES,
        "may_group": may_somewhere(request, Permission.MANAGE_ROUTING),
    }
    return render_view(request, "reports/noise.html", {**_frame(request, query), **context})


@require_safe
def interruption_report(request: SignedInRequest) -> HttpResponse:
    """Render when people were paged, by weekday and hour, and how often at night."""
    query = parse_query(request)
    night = settings_store.night_hours()
    with viewer_transaction() as connection:
        people = fairness.load_interruptions(connection, query.period, night, query.filters)
    person = next((one for one in people if one.username == request.GET.get("person")), None)
    by_hour = person.by_hour if person else fairness.total_by_hour(people)
    title = _("Interruptions by hour")
    context = {
        "people": people,
        "person": person,
        "most_at_night": max((one.at_night for one in people), default=0),
        "chart": week_chart(title, by_hour, night),
        "hours": [(f"{hour:02}:00", [by_hour.get((day, hour), 0) for day in range(7)]) for hour in range(24)],
        "weekdays": weekdays(),
        "night": night,
    }
    return render_view(request, "reports/interruptions.html", {**_frame(request, query), **context})


def _frame(request: SignedInRequest, query: ReportQuery) -> dict[str, Any]:
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


def _grouped_context(query: ReportQuery, report: counted_alerts.GroupedReport[Any]) -> dict[str, Any]:
    longest = max((row.alerts for row in report.rows), default=0) or 1
    return {
        "report": report,
        "trend": [(bucket_label(row.key, query.bucket), row) for row in reversed(report.trend)],
        "rows": [(_label(row, query.by), round(100 * row.alerts / longest, 1), row) for row in report.rows],
        "groupings": list(groupings().items()),
        "column": GROUPINGS[query.by],
        "buckets": list(BUCKETS.items()),
        "most": counted_alerts.MAX_ROWS,
    }


def _label(row: counted_alerts.Grouped[Any], by: GroupBy) -> str:
    if by is GroupBy.HOUR:
        return f"{row.key}:00"
    return row.label or (_("No response") if by is GroupBy.PERSON else _("none"))


# ---------- client month


@require_safe
def client_report(request: SignedInRequest) -> HttpResponse:
    """Render a client's month, to be printed; without a client, those that had alerts in it."""
    zone = ZoneInfo(request.user.time_zone)
    this_month = request.now.astimezone(zone).date().replace(day=1)
    try:
        month = weekly_windows.parse_month(request.GET.get("month", ""))
    except Rejected:
        month = this_month
        if "month" not in request.GET:
            month = fairness.months_until(this_month, 2)[0]
    period, client = Period.month(month, zone), request.GET.get("client", "").strip()[:200]
    with viewer_transaction() as connection:
        clients = client_month.load_clients(connection, period)
        found = client_month.load(connection, client, period, request.now) if client else None
    names = [name for name, _count in clients]
    context: dict[str, Any] = {
        "client": client,
        "clients": clients,
        "choices": names if not client or client.upper() in map(str.upper, names) else [client, *names],
        "most": client_month.MAX_CLIENTS,
        "month": month,
        "earlier": fairness.months_until(month, 2)[0],
        "later": weekly_windows.next_month(month) if month < this_month else None,
        "is_over": month < this_month,
        "time_zone": zone.key,
        "report": found,
        "may_mail": request.viewer.may(Permission.ADMINISTER),
    }
    if found is not None:
        context["mail"] = ClientReport.objects.filter(client__iexact=client).first() if context["may_mail"] else None
        context["alerts_chart"] = alerts_chart(found.times.trend, Bucket.DAY)
    return render_view(request, "reports/client_month.html", context)


_CLIENT_REPORTS = ObjectList(
    CLIENT_REPORTS,
    rows_template="reports/client_report_rows.html",
    empty_title=gettext_lazy("No monthly emails yet"),
    empty_text=gettext_lazy(
        "On the first of each month, the report on a client's last month is sent to an address by email."
    ),
    icon="mail",
    add_view="new_client_report",
    add_label=gettext_lazy("New monthly email"),
    title=gettext_lazy("Monthly emails"),
    template="reports/client_reports.html",
)


@require_safe
@requires(Permission.ADMINISTER)
def client_report_list(request: SignedInRequest) -> HttpResponse:
    return _CLIENT_REPORTS.render(request, _CLIENT_REPORTS.matching(request))


class ClientReportPage(ObjectPage[ClientReport]):
    """The form of a monthly email."""

    new_title = gettext_lazy("New monthly email")

    def begin(self, request: SignedInRequest) -> dict[str, Any]:
        return {"client": request.GET.get("client", "")[:200], "language": request.user.language or "en"}


edit_client_report = ClientReportPage(_CLIENT_REPORTS)


# ---------- files

_FILES_MAX_BREACHES = 10_000

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
    report = alert_reports.load_response_times(connection, query.period, query.by, query.bucket, query.filters)
    return _grouped(request, query, report, _TIME_COLUMNS, _time_cells)


def _sla(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request, GroupBy.CLIENT)
    report = alert_reports.load_sla(
        connection, query.period, query.by, query.bucket, query.filters, now=request.now
    ).figures
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
        for value in (one.count, _seconds_files(one.p50), _seconds_files(one.p90))
    ]


def _sla_cells(stats: SlaStats) -> list[object]:
    return [value for one in (stats.response, stats.resolution) for value in (one.kept, one.breached, one.pending)]


def _breaches(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request)
    rows = alert_reports.load_breaches(
        connection, query.period, query.filters, now=request.now, limit=_FILES_MAX_BREACHES
    )
    lines = (
        [row.alert_id, row.subject, row.client, row.priority, row.moment.value, row.due_at.isoformat(),
         row.met_at.isoformat() if row.met_at else None]
        for row in rows
    )  # fmt: skip
    return "breaches", _BREACH_COLUMNS, lines


def _noise(connection: Connection, request: SignedInRequest) -> Table:
    query = parse_query(request)
    by = choose(NoiseBy, request.GET.get("by"), NoiseBy.SUBJECT)
    sources = alert_reports.load_noise(connection, query.period, by, query.filters).sources
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
    return fairness.load_interruptions(connection, query.period, settings_store.night_hours(), query.filters)


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
    text = inputs.write_csv([header, *lines])
    return download(text, f"tocsin-{name}-{table}-{period}.csv", "text/csv")


def _seconds_files(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds())


# ---------- fairness

#: Selectable numbers of months, the last of which is the selected one.
MONTH_COUNTS = (1, 3, 6, 12)
_KINDS = ("total", "night", "weekend", "holiday")
#: Columns of the CSV file, named as in the API.
_COLUMNS = (
    "month", "user", "name", *(f"{kind}_{part}" for kind in _KINDS for part in ("hours", "difference")),
    "pages", "night_pages", "pages_difference",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FairnessQuery:
    month: date
    count: int
    role: MemberRole | None
    group: Group | None
    groups: Sequence[Group]

    @property
    def months(self) -> list[date]:
        return fairness.months_until(self.month, self.count)


@require_safe
def report(request: SignedInRequest) -> HttpResponse:
    """Render the load of each user in the selected months, in total and by month."""
    query = _parse_query(request)
    months = _load(request, query)
    people = fairness.total_load(months)
    context = {
        "query": query,
        "month": query.month,
        "earlier": fairness.months_until(query.month, 2)[0],
        "later": weekly_windows.next_month(query.month),
        "first_month": query.months[0],
        "counts": MONTH_COUNTS,
        "roles": list(MemberRole),
        "people": people,
        "longest": max((person.time.total for person in people), default=None),
        "months": months if query.count > 1 else (),
        "rows_by_month": [(person, _hours_by_month(person, months)) for person in people],
        "night": settings_store.night_hours(),
        "time_zone": request.user.time_zone,
    }
    return render_view(request, "reports/fairness.html", context)


@require_safe
def report_csv(request: SignedInRequest) -> HttpResponse:
    """Download the load by user and month as CSV, in hours."""
    query = _parse_query(request)
    lines = [_line(month.month, person) for month in _load(request, query) for person in month.people]
    name = f"tocsin-fairness-{query.month:%Y-%m}-{query.count}-months.csv"
    return download(inputs.write_csv([_COLUMNS, *lines]), name, "text/csv")


def _load(request: SignedInRequest, query: FairnessQuery) -> list[MonthlyLoad]:
    selected = FairnessFilter(query.group.pk if query.group else None, query.role)
    night = settings_store.night_hours()
    with database.transaction() as connection:
        return fairness.load_fairness(connection, query.months, ZoneInfo(request.user.time_zone), night, selected)


def _parse_query(request: SignedInRequest) -> FairnessQuery:
    """Parse the query string. Unknown values fall back to the defaults."""
    try:
        month = weekly_windows.parse_month(request.GET.get("month", ""))
    except Rejected:
        month = request.now.astimezone(ZoneInfo(request.user.time_zone)).date().replace(day=1)
    groups = list(Group.objects.filter(schedules__isnull=False).distinct().order_by("name"))
    return FairnessQuery(
        month,
        next((count for count in MONTH_COUNTS if str(count) == request.GET.get("months")), 1),
        next((role for role in MemberRole if role == request.GET.get("role")), None),
        next((group for group in groups if str(group.pk) == request.GET.get("group")), None),
        groups,
    )


def _hours_by_month(person: PersonalLoad, months: Iterable[MonthlyLoad]) -> list[PersonalLoad | None]:
    return [next((one for one in month.people if one.username == person.username), None) for month in months]


def _line(month: date, person: PersonalLoad) -> list[object]:
    return [
        f"{month:%Y-%m}",
        person.username,
        person.name,
        *(
            value
            for own, difference in zip(_hours(person.time), _hours(person.difference), strict=True)
            for value in (own, difference)
        ),
        person.pages,
        person.night_pages,
        round(person.pages_difference, 2),
    ]


def _hours(time: OnCallTime) -> list[float]:
    return [round(getattr(time, kind).total_seconds() / 3600, 2) for kind in _KINDS]
