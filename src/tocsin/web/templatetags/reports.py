"""Template tags of the reports: durations, summary tiles with the change since the period before, table cells."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tocsin.core.reasons import local_count
from tocsin.reports.alert_reports import DurationStats, SlaCounts

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
    """Format a number with the thousands separator of the language."""
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
    detail = f"p90 {short_span(times.p90)} · {share}"
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
        return _tile(title, _percent(percent), detail, _nothing_before())
    points = percent - before.kept_percent
    text = _("%(change)s points against %(before)s in the period before") % {
        "change": _signed(points),
        "before": _percent(before.kept_percent),
    }
    return _tile(title, _percent(percent), detail, text, _tone(points, 100))


def alerts_text(number: int) -> str:
    """Return "1 alert" or "1,234 alerts"."""
    return ngettext("%(shown)s alert", "%(shown)s alerts", number) % {"shown": local_count(number)}


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
        alerts_text(times.count),
    )


@register.simple_tag
def sla_cell(counts: SlaCounts, label: str) -> SafeString:
    """Render one cell with the share of alerts that kept a target, and their numbers."""
    if counts.kept_percent is None:
        return format_html('<td data-label="{}">{}</td>', label, _pending(counts) or _NOBODY)
    numbers = _("%(kept)s kept, %(breached)s breached") % {"kept": counts.kept, "breached": counts.breached}
    return format_html(
        '<td data-label="{}">{}<div class="meta">{}</div></td>', label, _percent(counts.kept_percent), numbers
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


def _percent(value: float) -> str:
    return f"{round(value)} %"


def _signed(value: float) -> str:
    number = round(value)
    return f"−{-number}" if number < 0 else f"+{number}" if number else "±0"
