"""Moments and spans as the reader sees them: in the reader's time zone and language."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _

from tocsin.core.runtime import clock


def say_moment(at: datetime, now: datetime) -> str:
    """ "just now", "6 min ago", "in 2 h", "3 d ago". The browser's script says the same words."""
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


def say_left(span: timedelta) -> str:
    """ "2:10", "1:02:10"; "now" when it is over. The browser's script says the same."""
    seconds = int(span.total_seconds())
    if seconds <= 0:
        return _("now")
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours >= 48:
        return _("%(days)s days") % {"days": hours // 24}
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def exact(local: datetime) -> str:
    """The moment in full, with its zone."""
    return f"{say_date(local)}, {local.strftime('%H:%M:%S')} {local.tzname()}"


def say_date(local: datetime) -> str:
    """ "Sat 5 Dec 2026"."""
    return _date_in(get_language(), local.date())


@lru_cache(maxsize=1_000)
def _date_in(_language: str | None, day: date) -> str:
    """Many moments of a page are of one day, and Django takes its time over a date."""
    return date_format(day, pgettext("date format", "D j M Y"))


def say_short(local: datetime) -> str:
    """ "09:00" today, "Mon 09:00" within a week, else "7 Dec 09:00"."""
    days = (local.date() - timezone.localtime(clock.now()).date()).days
    day = "" if days == 0 else f"{date_format(local, 'D' if -7 < days < 7 else pgettext('date format', 'j M'))} "
    return f"{day}{local.strftime('%H:%M')}"


def say_day(local: datetime) -> str:
    """ "Today", "Yesterday", else the date."""
    today: date = timezone.localtime(clock.now()).date()
    if local.date() == today:
        return _("Today")
    if local.date() == today - timedelta(days=1):
        return _("Yesterday")
    return say_date(local)
