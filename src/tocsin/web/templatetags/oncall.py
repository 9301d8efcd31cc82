"""Template tags of the on-call views: the position, link, times and reasons of a timeline segment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.month_calendar import CalendarEntry
from tocsin.web.oncall import shift_forms, timeline
from tocsin.web.oncall.timeline import DateRange, RowKind, TimelineDrawing, TimelineRow, TimelineSegment, TimelineSpan
from tocsin.web.ui.forms import user_zone

register = template.Library()

#: Height of one lane of a row, in pixels.
LANE = 42


@register.filter
def percent(value: float) -> str:
    """Format a position as an SVG percentage, independent of the language's decimal separator."""
    return f"{value:.4f}%"


@register.filter
def lanes(count: int) -> int:
    """Return the height of `count` lanes in pixels."""
    return count * LANE


@register.simple_tag
def period(since: datetime | None, until: datetime | None) -> str:
    """Format a period, such as "Mon 30 Nov 09:00 – Mon 7 Dec 09:00", in the user's zone. An open end is written out."""
    return shift_forms.format_period(since, until)


@register.simple_tag
def describe_segment(row: TimelineRow, segment: TimelineSegment) -> str:
    """Describe a timeline segment in full: user, period, reasons and what takes precedence over it."""
    times = period(segment.since, segment.until)
    if segment.tone == "gap":
        return _("No %(role)s on call, %(when)s") % {"role": shift_forms.role_name(segment.role), "when": times}
    match row.kind:
        case RowKind.FINAL:
            parts = [
                f"{segment.text}, {shift_forms.role_name(segment.role)}",
                times,
                *(reason.localized() for reason in segment.reasons),
            ]
        case RowKind.SHIFT:
            hidden_reason = [_("Ignored: %(why)s") % {"why": segment.reasons[0].localized()}] if segment.reasons else []
            parts = [segment.text, times, *hidden_reason]
        case RowKind.OVERRIDES:
            replaced = [_("instead of %(name)s") % {"name": segment.other_person}] if segment.other_person else []
            parts = [_("Override: %(name)s") % {"name": segment.text}, times, *replaced]
        case RowKind.ABSENCES:
            name = segment.other_person
            cover = _("covered by %(name)s") % {"name": name} if name else _("no cover")
            parts = [_("%(name)s is out of office") % {"name": segment.text}, times, cover]
    return ". ".join(parts)


@register.simple_tag
def part_of_day(segment: TimelineSegment | CalendarEntry, day: date) -> str:
    """Format the part of `day` that a segment covers, such as "09:00 – 17:00", or "all day" if it extends beyond both
    ends."""
    zone = user_zone()
    begin, end = weekly_windows.midnight(day, zone), weekly_windows.midnight(day + timedelta(days=1), zone)
    since = segment.since if segment.since and segment.since > begin else None
    until = segment.until if segment.until and segment.until < end else None
    if since is None and until is None:
        return _("all day")
    return f"{_clock(since) if since else '00:00'} – {_clock(until) if until else '24:00'}"


@register.simple_tag
def segment_url(row: TimelineRow | None, segment: TimelineSegment, group_id: int, layout: TimelineDrawing) -> str:
    """Return the URL of the action for a segment, or "". Without a row the segment belongs to the final schedule."""
    kind = row.kind if row is not None else RowKind.FINAL
    if kind is RowKind.FINAL:
        return timeline.segment_url(segment, group_id, layout.range)
    if kind is RowKind.OVERRIDES and segment.override_id:
        return reverse("override", args=[segment.override_id])
    return ""


@register.filter
def role_name(role: str) -> str:
    return shift_forms.role_name(role)


@register.filter
def span_name(span: TimelineSpan) -> str:
    """Return the label of the button that selects a timeline span."""
    return {TimelineSpan.DAY: _("Day"), TimelineSpan.WEEK: _("Week"), TimelineSpan.MONTH: _("Month")}[span]


@register.filter
def range_name(date_range: DateRange) -> str:
    """Format a date range: "30 Nov – 6 Dec 2026", "November 2026" or "Monday 30 November 2026"."""
    match date_range.span:
        case TimelineSpan.DAY:
            return date_format(date_range.first, pgettext("date format", "l j F Y"))
        case TimelineSpan.MONTH:
            return date_format(date_range.first, "F Y")
        case TimelineSpan.WEEK:
            last = date_range.end - timedelta(days=1)
            begin = date_format(date_range.first, pgettext("date format", "j M"))
            return f"{begin} – {date_format(last, pgettext('date format', 'j M Y'))}"


@register.filter
def short_day(day: date) -> str:
    """Format a date as "Mon 30 Nov"."""
    return shift_forms.day(day)


@register.filter
def short_date(day: date) -> str:
    """Format a date as "Mon 30 Nov 2026"."""
    return date_format(day, pgettext("date format", "D j M Y"))


@register.filter
def colour_in(user_id: int, colours: Mapping[int, str]) -> str:
    """Return the CSS class of a user; `colours` is {user id: class}."""
    return colours.get(user_id, "")


@register.filter
def midnights(date_range: DateRange) -> str:
    """Return the range's day boundaries as ISO times; the drag script uses them to convert pixels to times."""
    return " ".join(at.isoformat() for at in date_range.midnights)


@register.filter
def weekday(day: date) -> str:
    """Format a day as "Mon 30", or with the month's name on the first of a month."""
    return date_format(day, pgettext("date format", "j M") if day.day == 1 else pgettext("date format", "D j"))


def _clock(at: datetime) -> str:
    local_time: time = timezone.localtime(at).time()
    return local_time.strftime("%H:%M")
