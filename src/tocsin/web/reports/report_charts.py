"""The charts of the reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta

from django.utils.dates import WEEKDAYS, WEEKDAYS_ABBR
from django.utils.formats import date_format, number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.core.config.night_hours import NightHours
from tocsin.reports.grouped_report import Grouped
from tocsin.reports.period import Bucket
from tocsin.reports.response_times import DurationStats, ResponseStats
from tocsin.reports.sla import SlaCounts, SlaStats
from tocsin.web.templatetags.reports import alerts_text, short_span
from tocsin.web.ui import charts
from tocsin.web.ui.charts import Axes, Series


def bucket_label(key: str, bucket: Bucket) -> str:
    """Return the name of a bucket: "Sat 28 Nov 2026", "Week of Mon 23 Nov 2026", "November 2026"."""
    day = date.fromisoformat(key)
    if bucket is Bucket.MONTH:
        return date_format(day, "F Y")
    text = date_format(day, pgettext("date format", "D j M Y"))
    return text if bucket is Bucket.DAY else _("Week of %(day)s") % {"day": text}


def alerts_chart(trend: Sequence[Grouped[ResponseStats]], bucket: Bucket) -> SafeString:
    """Draw the number of alerts in each bucket."""
    values = [row.alerts for row in trend]
    tooltips = [f"{bucket_label(row.key, bucket)}: {alerts_text(row.alerts)}" for row in trend]
    scale = charts.number_scale(max(values, default=0))
    axes = Axes(_("Alerts"), _labels(trend, bucket), tooltips, scale, _number)
    return charts.columns(axes, [Series(_("Alerts"), values)])


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
    scale = charts.duration_scale(max((value for value in p90 if value is not None), default=0))
    axes = Axes(title, _labels(trend, bucket), tooltips, scale, _duration)
    return charts.lines(axes, [Series("p50", p50), Series("p90", p90)])


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
    scale = charts.number_scale(max((one.kept + one.breached for one in counts), default=0))
    axes = Axes(title, _labels(trend, bucket), tooltips, scale, _number)
    series = [Series(_("Kept"), [one.kept for one in counts]), Series(_("Breached"), [one.breached for one in counts])]
    return charts.columns(axes, series)


def week_chart(title: str, by_hour: Mapping[tuple[int, int], int], night: NightHours) -> SafeString:
    """Draw the interruptions of each hour of a week. The hours of the night have another ground."""

    def tooltip(weekday: int, hour: int) -> str:
        return f"{WEEKDAYS[weekday]}, {hour:02}:00: {alerts_text(by_hour.get((weekday, hour), 0))}"

    hours = [f"{hour:02}" if hour % 3 == 0 else "" for hour in range(24)]
    is_night = [night.includes_time(time(hour)) for hour in range(24)]
    return charts.heat_map(title, weekdays(), hours, by_hour, tooltip, is_night)


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
