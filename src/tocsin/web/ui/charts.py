"""Charts as SVG, drawn by the server: columns, lines, and a heat map of a week. Pure.

They need no script, print, and take their colours from the style sheet. Sizes along an axis are percentages, so that a
chart is as wide as its place while its texts keep their size. A screen reader hears the title; every page has a table
with the same figures beneath. A pointer shows each point's tooltip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

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
