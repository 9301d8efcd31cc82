"""Template tags that format durations as table cells of the reports."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tocsin.reports.response_times import DurationStats
from tocsin.web.templatetags.ui_tags import counted

register = template.Library()

_NOBODY = SafeString('<span class="soft">–</span>')


@register.filter
def short_span(value: timedelta | None) -> str:
    """Format a duration in its two largest units: "45 s", "8 min", "4 h 32 min", "2 d 3 h"."""
    if value is None:
        return ""
    minutes = round(value.total_seconds() / 60)
    if minutes == 0:
        return _("%(number)s s") % {"number": max(0, round(value.total_seconds()))}
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    units = ((days, _("%(number)s d")), (hours, _("%(number)s h")), (minutes, _("%(number)s min")))
    parts = [unit % {"number": number} for number, unit in (units[:2] if days else units[1:]) if number]
    return " ".join(parts)


@register.simple_tag
def times_cells(times: DurationStats, alerts: int) -> SafeString:
    """Render three cells: number and share of the alerts, median, 90th percentile."""
    return format_html(
        '<td class="tight right">{} <span class="soft">{}&nbsp;%</span></td><td>{}</td><td>{}</td>',
        counted(times.count),
        round(100 * times.count / alerts) if alerts else 0,
        short_span(times.p50) or _NOBODY,
        short_span(times.p90) or _NOBODY,
    )


@register.simple_tag
def times_cell(times: DurationStats, label: str) -> SafeString:
    """Render one cell with median, 90th percentile and number of alerts, with a label for narrow screens."""
    if not times.count:
        return format_html('<td data-label="{}">{}</td>', label, _NOBODY)
    return format_html(
        '<td data-label="{}">{}<div class="meta">{} · {}</div></td>',
        label,
        short_span(times.p50),
        short_span(times.p90),
        _("%(count)s alerts") % {"count": counted(times.count)},
    )
