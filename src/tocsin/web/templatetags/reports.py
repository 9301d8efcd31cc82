"""Template tags and charts of the reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from django import template
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tocsin.core.reasons import local_count
from tocsin.reports.alert_reports import DurationStats, SlaCounts

# ---------- charts
# Charts as SVG, drawn by the server: columns, lines, and a heat map of a week. Pure.
#
# They need no script, print, and take their colours from the style sheet. Sizes along an axis are percentages, so that
# a chart is as wide as its place while its texts keep their size. A screen reader hears the title; every page has a
# table with the same figures beneath. A pointer shows each point's tooltip.

#: At most this many labels below a chart; more would touch each other on a phone.
_MAX_LABELS = 6
#: Lines between zero and the top of the scale, about.
_TICKS = 4
#: Shades of a heat map between "none" and the most.
_SHADES = 5

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
#: Distances between lines of a scale of durations, in seconds; beyond them whole multiples of ten days.
_DURATION_STEPS = (
    1, 2, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE,
    _HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 5 * _DAY, 10 * _DAY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """The vertical axis: its largest value, and the distance of its lines."""

    top: float
    step: float

    @property
    def ticks(self) -> list[float]:
        """The values at which lines are drawn, zero first."""
        return [self.step * number for number in range(round(self.top / self.step) + 1)]

    def y(self, value: float) -> str:
        """The place of a value from the top, in percent."""
        return _percent(100 - 100 * min(value, self.top) / self.top)


def number_scale(largest: float) -> Scale:
    """A scale of whole numbers in steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(largest / _TICKS, 1)))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * _TICKS >= largest)
    return _scale(largest, step)


def duration_scale(largest: float) -> Scale:
    """A scale of seconds in steps that a clock has."""
    wanted = largest / _TICKS
    step = next((step for step in _DURATION_STEPS if step >= wanted), 0) or 10 * _DAY * math.ceil(wanted / (10 * _DAY))
    return _scale(largest, step)


def _scale(largest: float, step: float) -> Scale:
    return Scale(step * max(1, math.ceil(largest / step)), step)


@dataclass(frozen=True, slots=True)
class Axes:
    """What surrounds a chart."""

    #: Read aloud, as the name of the chart.
    title: str
    #: Below the chart, for each place along it.
    labels: Sequence[str]
    #: Shown by the pointer, for each place along it.
    tooltips: Sequence[str]
    scale: Scale
    #: Writes the values of the scale.
    text: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or the part of every column in one colour. None is a gap."""

    name: str
    values: Sequence[float | None]


def columns(axes: Axes, series: Sequence[Series]) -> SafeString:
    """A column for each place, with its series on top of each other, the first at the bottom."""
    parts = []
    for place, values in enumerate(zip(*(one.values for one in series), strict=True)):
        height = 0.0
        for number, value in enumerate(values, start=1):
            if value:
                height += value
                x, width = (place + 0.15) / len(axes.labels) * 100, 0.7 / len(axes.labels) * 100
                parts.append((f"series-{number}", _percent(x), axes.scale.y(height), _percent(width),
                              _percent(100 * value / axes.scale.top)))  # fmt: skip
    bars = format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>', parts)
    return _framed(axes, series, bars)


def lines(axes: Axes, series: Sequence[Series]) -> SafeString:
    """A line for each series, interrupted where it has no value."""
    count = len(axes.labels)
    paths, dots = [], []
    for number, one in enumerate(series, start=1):
        points = [(_middle(place, count), value) for place, value in enumerate(one.values)]
        for has_value, run in groupby(points, key=lambda point: point[1] is not None):
            if has_value:
                coordinates = [(x, axes.scale.y(value or 0)) for x, value in run]
                paths.append((f"series-{number}", " ".join(f"{x},{y}".replace("%", "") for x, y in coordinates)))
                dots += [(f"series-{number}", x, y) for x, y in coordinates]
    body = format_html(
        '<svg class="chart-lines" viewBox="0 0 100 100" preserveAspectRatio="none">{}</svg>{}',
        format_html_join("", '<polyline class="{}" points="{}" vector-effect="non-scaling-stroke"/>', paths),
        format_html_join("", '<circle class="{}" cx="{}" cy="{}" r="2.5"/>', dots),
    )
    return _framed(axes, series, body)


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[int, int], int],
    tooltip: Callable[[int, int], str],
    marked: Sequence[bool],
) -> SafeString:
    """A field for each row and column, darker the larger its value. Columns that are `marked` have a bar above."""
    largest = max(values.values(), default=0)
    width, height = 100 / len(columns), 100 / len(rows)

    def field(row: int, column: int) -> tuple[str, ...]:
        shade = math.ceil(_SHADES * values.get((row, column), 0) / largest) if largest else 0
        place = (_percent(column * width), _percent(row * height), _percent(width), _percent(height))
        return (f"heat-{shade}", *place, tooltip(row, column))

    bars = ((_percent(column * width), _percent(width)) for column, is_marked in enumerate(marked) if is_marked)
    fields = (field(row, column) for row in range(len(rows)) for column in range(len(columns)))
    row_labels = ((_percent((place + 0.5) * height), label) for place, label in enumerate(rows))
    column_labels = ((_percent((place + 0.5) * width), label) for place, label in enumerate(columns) if label)
    return format_html(
        '<div class="chart chart-heat"><svg class="chart-plot" role="img" aria-label="{}">{}{}{}{}</svg></div>',
        title,
        format_html_join("", '<rect class="heat-marked" x="{}" y="-9" width="{}" height="5"/>', bars),
        format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>', fields),
        format_html_join("", '<text class="chart-y" x="-8" y="{}" dy=".35em">{}</text>', row_labels),
        format_html_join("", '<text class="chart-x" x="{}" y="100%" dy="17">{}</text>', column_labels),
    )


def _framed(axes: Axes, series: Sequence[Series], body: SafeString) -> SafeString:
    count = len(axes.labels)
    every = math.ceil(count / _MAX_LABELS) or 1
    places = range((count - 1) % every // 2, count, every)
    return format_html(
        '<div class="chart"><svg class="chart-plot" role="img" aria-label="{}">{}{}{}{}</svg></div>{}',
        axes.title,
        format_html_join(
            "",
            '<line class="chart-line" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
            '<text class="chart-y" x="-8" y="{0}" dy=".35em">{1}</text>',
            ((axes.scale.y(value), axes.text(value)) for value in axes.scale.ticks),
        ),
        format_html_join(
            "",
            '<text class="chart-x" x="{}" y="100%" dy="19">{}</text>',
            ((_middle(place, count), axes.labels[place]) for place in places),
        ),
        body,
        format_html_join(
            "",
            '<rect class="chart-hover" x="{}" width="{}" height="100%"><title>{}</title></rect>',
            ((_percent(100 * place / count), _percent(100 / count), text) for place, text in enumerate(axes.tooltips)),
        ),
        _legend(series),
    )


def _legend(series: Sequence[Series]) -> SafeString:
    if len(series) == 1:
        return SafeString("")
    items = ((f"series-{number}", one.name) for number, one in enumerate(series, start=1))
    return format_html('<ul class="chart-legend plain">{}</ul>', format_html_join("", '<li class="{}">{}</li>', items))


def _middle(place: int, count: int) -> str:
    return _percent(100 * (place + 0.5) / count)


def _percent(value: float) -> str:
    return f"{round(value, 2):g}%"


register = template.Library()

_NOBODY = SafeString('<span class="soft">–</span>')


@register.filter
def short_span(value: timedelta | None) -> str:
    """Format a duration in its two largest units: "45 s", "8 min", "4 h 32 min", "2 d 3 h"."""
    if value is None:
        return ""
    seconds = max(0, round(value.total_seconds()))
    if seconds < 60:
        return _("%(number)s s") % {"number": seconds}
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    units = ((days, _("%(number)s d")), (hours, _("%(number)s h")), (minutes, _("%(number)s min")))
    parts = [unit % {"number": number} for number, unit in (units[:2] if days else units[1:]) if number]
    return " ".join(parts)


@register.filter
def whole_number(value: int) -> str:
    return local_count(value)


@register.simple_tag
def tile(title: str, value: str, *, change: float, before: float) -> SafeString:
    """Render a tile with one number and its change, which is neither good nor bad."""
    text = _against(change, before, local_count(round(before)))
    return _tile(title, value, "", text)


@register.simple_tag
def times_tile(title: str, times: DurationStats, before: DurationStats, alerts: int) -> SafeString:
    """Render a tile with the median and 90th percentile of a time. Shorter than before is better."""
    if times.p50 is None:
        return _tile(title, "–", "", "")
    seconds, seconds_before = (one.p50.total_seconds() if one.p50 is not None else 0.0 for one in (times, before))
    share = _("%(percent)s %% of alerts") % {"percent": round(100 * times.count / alerts) if alerts else 0}
    detail = f"{_('median (p50)')} · p90 {short_span(times.p90)} · {share}"
    text = _against(seconds, seconds_before, short_span(before.p50))
    return _tile(title, short_span(times.p50), detail, text, _tone(seconds_before - seconds, seconds_before))


@register.simple_tag
def sla_tile(title: str, counts: SlaCounts, before: SlaCounts) -> SafeString:
    """Render a tile with the share of alerts that kept a target. More than before is better."""
    percent = counts.kept_percent
    if percent is None:
        return _tile(title, "–", _pending(counts), "")
    detail = _("%(kept)s kept, %(breached)s breached") % {"kept": counts.kept, "breached": counts.breached}
    if counts.pending:
        detail = f"{detail}, {_pending(counts)}"
    if before.kept_percent is None:
        return _tile(title, _percent_reports(percent), detail, _nothing_before())
    points = percent - before.kept_percent
    text = _("%(change)s points against %(before)s in the period before") % {
        "change": _signed(points),
        "before": _percent_reports(before.kept_percent),
    }
    return _tile(title, _percent_reports(percent), detail, text, _tone(points, 100))


def alerts_text(number: int) -> str:
    """Return "1 alert" or "1,234 alerts"."""
    return ngettext("%(shown)s alert", "%(shown)s alerts", number) % {"shown": local_count(number)}


@register.simple_tag
def times_cell(times: DurationStats, label: str) -> SafeString:
    """Render one cell with median, 90th percentile and number of alerts, with a label for narrow screens."""
    if not times.count:
        return format_html('<td data-label="{}">{}</td>', label, _NOBODY)
    return format_html(
        '<td data-label="{}">{}<div class="meta">p90 {} · {}</div></td>',
        label,
        short_span(times.p50),
        short_span(times.p90),
        alerts_text(times.count),
    )


@register.simple_tag
def sla_cell(counts: SlaCounts, label: str) -> SafeString:
    """Render one cell with the share of alerts that kept a target, and their numbers."""
    if counts.kept_percent is None:
        return format_html('<td data-label="{}">{}</td>', label, _pending(counts) or _NOBODY)
    numbers = _("%(kept)s kept, %(breached)s breached") % {"kept": counts.kept, "breached": counts.breached}
    return format_html(
        '<td data-label="{}">{}<div class="meta">{}</div></td>', label, _percent_reports(counts.kept_percent), numbers
    )


def _tile(title: str, value: str, detail: str, change: str, tone: str = "") -> SafeString:
    return format_html(
        '<div class="card summary-tile"><dt>{}</dt><dd><strong>{}</strong> <span class="soft">{}</span>'
        '<div class="meta {}">{}</div></dd></div>',
        title,
        value,
        detail,
        tone,
        change,
    )


def _against(value: float, before: float, before_text: str) -> str:
    if not before:
        return _nothing_before()
    percent = _signed(100 * (value - before) / before)
    return _("%(change)s %% against %(before)s in the period before") % {"change": percent, "before": before_text}


def _nothing_before() -> str:
    return _("nothing in the period before")


def _tone(improvement: float, whole: float) -> str:
    """Return the style of a change: good or bad from one percent on."""
    if not whole or abs(improvement) < whole / 100:
        return ""
    return "ok-text" if improvement > 0 else "wait-text"


def _pending(counts: SlaCounts) -> str:
    return _("%(pending)s not due yet") % {"pending": counts.pending} if counts.pending else ""


def _percent_reports(value: float) -> str:
    return f"{round(value)} %"


def _signed(value: float) -> str:
    number = round(value)
    return f"−{-number}" if number < 0 else f"+{number}" if number else "±0"


_FAIRNESS_HOUR = timedelta(hours=1)


@register.filter
def hours(value: timedelta) -> str:
    """Format a duration in hours: "168 h", "12.5 h"."""
    return _("%(number)s h") % {"number": _number(value / _FAIRNESS_HOUR)}


@register.filter
def hours_difference(value: timedelta) -> str:
    """Format a difference in hours with its sign: "+12.5 h", "−3 h", "±0"."""
    signed = difference(value / _FAIRNESS_HOUR)
    return signed if signed == "±0" else _("%(number)s h") % {"number": signed}


@register.filter
def difference(value: float) -> str:
    """Format a difference with its sign, to one decimal."""
    rounded = round(value, 1)
    if not rounded:
        return "±0"
    return f"{'+' if rounded > 0 else '−'}{_number(abs(rounded))}"


@register.simple_tag
def share_of(value: timedelta, longest: timedelta | None) -> str:
    """Return a duration in percent of the longest, for the width of its bar."""
    return f"{100 * value / longest:.1f}" if longest else "0"


def _number(value: float) -> str:
    rounded = round(value, 1)
    return number_format(rounded, 0 if rounded == int(rounded) else 1, use_l10n=True, force_grouping=True)
