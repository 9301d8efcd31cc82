"""The parts of the on-call pages: where a stretch stands and leads, its times and its reasons in words."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.oncall.calculation import weekly_windows
from tocsin.web.oncall import timeline
from tocsin.web.oncall.schedules import describe_shift
from tocsin.web.oncall.timeline_layout import (
    DateRange,
    RowKind,
    TimelineDrawing,
    TimelineRow,
    TimelineSegment,
    TimelineSpan,
)
from tocsin.web.told import told
from tocsin.web.ui.forms import reader_zone

register = template.Library()

#: A row's lanes are so high, in pixels.
LANE = 42


@register.filter
def percent(value: float) -> str:
    """A place for an SVG's attribute, whatever the language."""
    return f"{value:.4f}%"


@register.filter
def lanes(count: int) -> int:
    """The height of so many lanes."""
    return count * LANE


@register.simple_tag
def between(since: datetime | None, until: datetime | None) -> str:
    """ "Mon 30 Nov 09:00 – Mon 7 Dec 09:00", in the reader's zone; a missing end is said."""
    return describe_shift.between(since, until)


@register.simple_tag
def piece_words(row: TimelineRow, piece: TimelineSegment) -> str:
    """All that is to be said of a stretch: who, when, why; what goes before it."""
    when = between(piece.since, piece.until)
    if piece.tone == "gap":
        return _("Nobody is %(role)s, %(when)s") % {"role": describe_shift.role_name(piece.role), "when": when}
    match row.kind:
        case RowKind.WINNER:
            said = [
                f"{piece.text}, {describe_shift.role_name(piece.role)}",
                when,
                *(told(reason) for reason in piece.reasons),
            ]
        case RowKind.SHIFT:
            hidden = [_("Does not count: %(why)s") % {"why": told(piece.reasons[0])}] if piece.reasons else []
            said = [piece.text, when, *hidden]
        case RowKind.OVERRIDES:
            whose = [_("instead of %(name)s") % {"name": piece.reasons[0]}] if piece.reasons else []
            said = [_("Override: %(name)s") % {"name": piece.text}, when, *whose]
        case RowKind.ABSENCES:
            cover = _("%(name)s covers") % {"name": piece.reasons[0]} if piece.reasons else _("nobody covers")
            said = [_("%(name)s is out of office") % {"name": piece.text}, when, cover]
    return ". ".join(said)


@register.simple_tag
def part_of_day(piece: TimelineSegment, day: date) -> str:
    """ "09:00 – 17:00"; "all day" where it reaches over the day on both sides."""
    zone = reader_zone()
    begin, end = weekly_windows.midnight(day, zone), weekly_windows.midnight(day + timedelta(days=1), zone)
    since = piece.since if piece.since and piece.since > begin else None
    until = piece.until if piece.until and piece.until < end else None
    if since is None and until is None:
        return _("all day")
    return f"{_clock(since) if since else '00:00'} – {_clock(until) if until else '24:00'}"


@register.simple_tag
def link_of(row: TimelineRow | None, piece: TimelineSegment, group_id: int, drawn: TimelineDrawing) -> str:
    """Where a stretch leads: to what can be done about it; empty: nowhere. Without a row it is of who is on call."""
    kind = row.kind if row is not None else RowKind.WINNER
    if kind is RowKind.WINNER:
        return timeline.link_to(piece, group_id, drawn.range)
    if kind is RowKind.OVERRIDES and piece.override_id:
        return reverse("override", args=[piece.override_id])
    return ""


@register.filter
def role_name(role: str) -> str:
    """A role as people call it."""
    return describe_shift.role_name(role)


@register.filter
def span_name(span: TimelineSpan) -> str:
    """How much of a timeline is shown, on the button that shows it."""
    return {TimelineSpan.DAY: _("Day"), TimelineSpan.WEEK: _("Week"), TimelineSpan.MONTH: _("Month")}[span]


@register.filter
def range_name(shown: DateRange) -> str:
    """ "30 Nov – 6 Dec 2026", "November 2026", "Monday 30 November 2026"."""
    match shown.span:
        case TimelineSpan.DAY:
            return date_format(shown.first, pgettext("date format", "l j F Y"))
        case TimelineSpan.MONTH:
            return date_format(shown.first, "F Y")
        case TimelineSpan.WEEK:
            last = shown.end - timedelta(days=1)
            begin = date_format(shown.first, pgettext("date format", "j M"))
            return f"{begin} – {date_format(last, pgettext('date format', 'j M Y'))}"


@register.filter
def on_day(day: date) -> str:
    """ "Mon 30 Nov"."""
    return describe_shift.day(day)


@register.filter
def on_day_of_year(day: date) -> str:
    """ "Mon 30 Nov 2026"."""
    return date_format(day, pgettext("date format", "D j M Y"))


@register.filter
def midnights(shown: DateRange) -> str:
    """The moments at which its days begin and it ends, for the script that measures what is dragged."""
    return " ".join(at.isoformat() for at in shown.midnights)


@register.filter
def weekday(day: date) -> str:
    """ "Mon 30"; the first of a month with its name."""
    return date_format(day, pgettext("date format", "j M") if day.day == 1 else pgettext("date format", "D j"))


def _clock(at: datetime) -> str:
    here: time = timezone.localtime(at).time()
    return here.strftime("%H:%M")
