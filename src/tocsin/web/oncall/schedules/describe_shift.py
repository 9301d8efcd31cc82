"""Describes stored shifts in sentences. Pure except for the user's language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from tocsin.core.validation import durations
from tocsin.oncall.calculation import schedules, weekly_windows
from tocsin.oncall.calculation.shifts import MonthInterval, OnHolidays
from tocsin.people.member_roles import MemberRole

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class ShiftLine:
    """A shift in a list."""

    name: str
    #: None if all shifts are in one layer.
    layer: int | None
    text: str


def lines(definition: Mapping[str, Any], names: Mapping[int, str]) -> list[ShiftLine]:
    """Return the shifts of a schedule definition, highest layer first. `names` is {user id: display name}."""
    stored = sorted(definition["shifts"], key=lambda shift: -shift.get("layer", 1))
    several = len({shift.get("layer", 1) for shift in stored}) > 1
    return [ShiftLine(shift["name"], shift.get("layer", 1) if several else None, say(shift, names)) for shift in stored]


def say(stored: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Describe a shift, such as "Alice, then Bob: each week on Monday at 09:00. primary, then secondary. From 5 January
    2026" with a final full stop."""
    kind = schedules.kind_of(stored)
    held = stored[kind]
    users = [names.get(user, "?") for user in held.get("users", ())]
    match kind:
        case "rotate":
            said = [_rotation(held, users)]
        case "fixed":
            said = [_fixed(held, users)]
        case _:
            said = [_("Whoever an iCal calendar names.")]
    said.append(_roles(held["roles"], in_turn=kind == "rotate"))
    if "time_zone" in stored:
        said.append(_("In %(zone)s.") % {"zone": stored["time_zone"]})
    if stored.get("holidays") == OnHolidays.SKIP:
        said.append(_("Not on holidays."))
    elif stored.get("holidays") == OnHolidays.ONLY:
        said.append(_("Only on holidays."))
    if "start" in stored:
        said.append(_("From %(day)s.") % {"day": _day(stored["start"])})
    if "end" in stored:
        said.append(_("Until %(day)s.") % {"day": _day(stored["end"])})
    return " ".join(said)


def role_name(role: str) -> str:
    """Return the translated name of a group role."""
    words = {
        MemberRole.PRIMARY: _("primary"),
        MemberRole.SECONDARY: _("secondary"),
        MemberRole.MANAGER: _("manager"),
    }
    return words.get(MemberRole(role), role) if role in list(MemberRole) else role


def _rotation(held: Mapping[str, Any], users: list[str]) -> str:
    who = _(", then ").join(users) or _("Nobody")
    when = _every(held)
    move = held.get("move", 1)
    if move != 1:
        when = f"{when}, " + ngettext("%(count)d place on each time", "%(count)d places on each time", move) % {
            "count": move
        }
    if "windows" in held:
        when = f"{when}; " + _("only %(windows)s") % {"windows": windows_in_words(held["windows"])}
    return f"{who}: {when}."


def _every(held: Mapping[str, Any]) -> str:
    every, at, on = schedules.step(held["every"]), held["at"], held.get("on")
    if isinstance(every, MonthInterval):
        often = ngettext("each month", "every %(count)d months", every.count) % {"count": every.count}
        if isinstance(on, str):
            often = _("%(often)s on the first %(day)s") % {"often": often, "day": _long_day(on)}
        elif on:
            often = _("%(often)s on day %(day)s") % {"often": often, "day": on}
    elif every % timedelta(weeks=1) == timedelta():
        count = every // timedelta(weeks=1)
        often = ngettext("each week", "every %(count)d weeks", count) % {"count": count}
        if on:
            often = _("%(often)s on %(day)s") % {"often": often, "day": _long_day(on)}
    elif every == timedelta(days=1):
        often = _("each day")
    elif every == timedelta(hours=1):
        often = _("each hour")
    else:
        often = _("every %(span)s") % {"span": durations.describe(every)}
    return _("%(often)s at %(time)s") % {"often": often, "time": at}


def _fixed(held: Mapping[str, Any], users: list[str]) -> str:
    who = ", ".join(users) or _("Nobody")
    if "windows" in held:
        when = windows_in_words(held["windows"])
    else:
        when = f"{_moment(held['from'])} – {_moment(held['to'])}"
    if "every" in held:
        count = durations.parse(held["every"]) // timedelta(weeks=1)
        when = f"{when}, " + ngettext("each week", "every %(count)d weeks", count) % {"count": count}
    return f"{who}: {when}."


def windows_in_words(stored: Iterable[Mapping[str, Any]]) -> str:
    """Describe weekly windows in spec form, such as "Mon–Fri 08:00–18:00, Sat 09:00–12:00"."""
    return ", ".join(_window(window) for window in stored)


def _window(window: Mapping[str, Any]) -> str:
    if "days" not in window:
        (first, begins), (last, ends) = (str(window[key]).split(" ") for key in ("from", "to"))
        return f"{_short_day(first)} {begins} – {_short_day(last)} {ends}"
    if window["from"] == "00:00" and window["to"] == "24:00":
        return _days(window["days"])
    return f"{_days(window['days'])} {window['from']}–{window['to']}"


def _days(days: list[str]) -> str:
    """Describe a set of weekdays, such as "Mon–Fri", "Sat, Sun" or "every day". Three or more in a row become a
    range."""
    numbers = [DAYS.index(day) for day in days]
    if len(numbers) == len(DAYS):
        return _("every day")
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = [
        [f"{_short_day(DAYS[run[0]])}–{_short_day(DAYS[run[-1]])}"]
        if len(run) > 2
        else [_short_day(DAYS[number]) for number in run]
        for run in runs
    ]
    return ", ".join(text for several in said for text in several)


def _roles(roles: list[str], *, in_turn: bool) -> str:
    if roles == [schedules.OWN]:
        return _("Each in their own role.")
    said = [role_name(role) for role in roles]
    text = _(", then ").join(said) if in_turn else ", ".join(said)
    return f"{text[:1].upper()}{text[1:]}."


def _monday_plus(day: str) -> date:
    return date(2024, 1, 1 + weekly_windows.day(day).number)  # 1 January 2024 was a Monday


def _short_day(day: str) -> str:
    return date_format(_monday_plus(day), "D")


def _long_day(day: str) -> str:
    return date_format(_monday_plus(day), "l")


def _day(text: str) -> str:
    found = datetime.fromisoformat(text)
    return date_format(found, pgettext("date format", "j M Y")) if len(text) == len("2026-01-05") else _moment(text)


def _moment(text: str) -> str:
    found = datetime.fromisoformat(text)
    return f"{date_format(found, pgettext('date format', 'D j M Y'))} {found:%H:%M}"


def day(at: date) -> str:
    """Format a date as "Mon 30 Nov", in the language's own format."""
    return date_format(at, pgettext("date format", "D j M"))


def between(since: datetime | None, until: datetime | None) -> str:
    """Format a period, such as "Mon 30 Nov 09:00 – Mon 7 Dec 09:00", in the user's zone. An open end is written out."""
    return f"{_at(since, _('always so far'))} – {_at(until, _('no end known'))}"


def _at(at: datetime | None, missing: str) -> str:
    if at is None:
        return missing
    here = timezone.localtime(at)
    return f"{day(here)} {here.strftime('%H:%M')}"
