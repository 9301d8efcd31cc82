"""Formats moments and durations in the user's time zone and language."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _

from tocsin.core.runtime import clock


def format_moment(at: datetime, now: datetime) -> str:
    """Return a relative time: "just now", "6 min ago", "in 2 h", "3 d ago". The browser script uses the same
    wording."""
    seconds = int((now - at).total_seconds())
    if abs(seconds) < 45:
        return _("just now") if seconds > -10 else _("in a moment")
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        amount = round(abs(seconds) / length)
        if amount >= 1 and abs(seconds) >= length * 0.75:
            text = f"{amount} {_unit(name)}"
            return _("%(span)s ago") % {"span": text} if seconds > 0 else _("in %(span)s") % {"span": text}
    return _("just now")


def _unit(name: str) -> str:
    match name:
        case "d":
            return pgettext("unit of days", "d")
        case "h":
            return pgettext("unit of hours", "h")
        case _:
            return pgettext("unit of minutes", "min")


def format_time_left(span: timedelta) -> str:
    """Return the remaining time, such as "2:10" or "1:02:10"; "now" once it has elapsed. The browser script matches
    this."""
    seconds = int(span.total_seconds())
    if seconds <= 0:
        return _("now")
    hours, remainder = divmod(seconds, 3600)
    minutes, seconds_left = divmod(remainder, 60)
    if hours >= 48:
        return _("%(days)s days") % {"days": hours // 24}
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"


def format_exact(local: datetime) -> str:
    """Return the full date and time with the zone."""
    return f"{format_date(local)}, {local.strftime('%H:%M:%S')} {local.tzname()}"


def format_date(local: datetime) -> str:
    """Return a date such as "Sat 5 Dec 2026"."""
    return _date_in(get_language(), local.date())


@lru_cache(maxsize=1_000)
def _date_in(_language: str | None, day: date) -> str:
    """Cached, because many moments in one view share a date and Django's date_format is slow."""
    return date_format(day, pgettext("date format", "D j M Y"))


def format_short(local: datetime) -> str:
    """Return "09:00" for today, "Mon 09:00" within a week, else "7 Dec 09:00"."""
    days = (local.date() - timezone.localtime(clock.now()).date()).days
    day = "" if days == 0 else f"{date_format(local, 'D' if -7 < days < 7 else pgettext('date format', 'j M'))} "
    return f"{day}{local.strftime('%H:%M')}"


def format_day(local: datetime) -> str:
    """Return "Today", "Yesterday", or the date."""
    today: date = timezone.localtime(clock.now()).date()
    if local.date() == today:
        return _("Today")
    if local.date() == today - timedelta(days=1):
        return _("Yesterday")
    return format_date(local)
