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

from tocsin.core.locale_format import local_duration
from tocsin.core.validation import durations
from tocsin.oncall.calculation import schedules, weekly_windows
from tocsin.oncall.calculation.shifts import MonthInterval, OnHolidays
from tocsin.people.member_roles import MemberRole

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: The weekly windows in spec form that leave nothing out.
ALWAYS = [{"days": [*DAYS], "from": "00:00", "to": "24:00"}]


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
    return [
        ShiftLine(shift["name"], shift.get("layer", 1) if several else None, describe(shift, names)) for shift in stored
    ]


def describe(stored: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Describe a shift, such as "Alice, then Bob: each week on Monday at 09:00. primary, then secondary. From 5 January
    2026" with a final full stop."""
    kind = schedules.kind_of(stored)
    details = stored[kind]
    users = [names.get(user, "?") for user in details.get("users", ())]
    match kind:
        case "rotate":
            parts = [_rotation(details, users)]
        case "fixed":
            parts = [_fixed(details, users)]
        case _:
            parts = [_("From an iCal calendar.")]
    parts.append(_roles(details["roles"], is_sequence=kind == "rotate"))
    if "time_zone" in stored:
        parts.append(_("In %(zone)s.") % {"zone": stored["time_zone"]})
    if stored.get("holidays") == OnHolidays.SKIP:
        parts.append(_("Not on holidays."))
    elif stored.get("holidays") == OnHolidays.ONLY:
        parts.append(_("Only on holidays."))
    if "start" in stored:
        parts.append(_("From %(day)s.") % {"day": _day(stored["start"])})
    if "end" in stored:
        parts.append(_("Until %(day)s.") % {"day": _day(stored["end"])})
    return " ".join(parts)


def role_name(role: str) -> str:
    """Return the translated name of a group role."""
    words = {
        MemberRole.PRIMARY: _("primary"),
        MemberRole.SECONDARY: _("secondary"),
        MemberRole.MANAGER: _("manager"),
    }
    return words.get(MemberRole(role), role) if role in list(MemberRole) else role


def _rotation(details: Mapping[str, Any], users: list[str]) -> str:
    names = _(", then ").join(users) or _("No one")
    timing = _every(details)
    move = details.get("move", 1)
    if move != 1:
        timing = f"{timing}, " + ngettext("rotation step %(count)d", "rotation step %(count)d", move) % {"count": move}
    if "windows" in details:
        timing = f"{timing}; " + _("only %(windows)s") % {"windows": describe_windows(details["windows"])}
    return f"{names}: {timing}."


def _every(details: Mapping[str, Any]) -> str:
    every, at, on = schedules.parse_handoff_interval(details["every"]), details["at"], details.get("on")
    if isinstance(every, MonthInterval):
        interval = ngettext("every month", "every %(count)d months", every.count) % {"count": every.count}
        if isinstance(on, str):
            interval = _("%(often)s on the first %(day)s") % {"often": interval, "day": _long_day(on)}
        elif on:
            interval = _("%(often)s on day %(day)s") % {"often": interval, "day": on}
    elif every % timedelta(weeks=1) == timedelta():
        count = every // timedelta(weeks=1)
        interval = ngettext("every week", "every %(count)d weeks", count) % {"count": count}
        if on:
            interval = _("%(often)s on %(day)s") % {"often": interval, "day": _long_day(on)}
    elif every == timedelta(days=1):
        interval = _("every day")
    elif every == timedelta(hours=1):
        interval = _("every hour")
    else:
        interval = _("every %(span)s") % {"span": local_duration(every)}
    return _("%(often)s at %(time)s") % {"often": interval, "time": at}


def _fixed(details: Mapping[str, Any], users: list[str]) -> str:
    names = ", ".join(users) or _("No one")
    if "windows" in details:
        timing = describe_windows(details["windows"])
    else:
        timing = f"{_moment(details['from'])} – {_moment(details['to'])}"
    if "every" in details:
        count = durations.parse(details["every"]) // timedelta(weeks=1)
        timing = f"{timing}, " + ngettext("every week", "every %(count)d weeks", count) % {"count": count}
    return f"{names}: {timing}."


def describe_windows(stored: Iterable[Mapping[str, Any]]) -> str:
    """Describe weekly windows in spec form, such as "Mon–Fri 08:00–18:00, Sat 09:00–12:00"."""
    windows = list(stored)
    return _("24/7") if windows == ALWAYS else ", ".join(map(_window, windows))


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
    labels = [
        [f"{_short_day(DAYS[run[0]])}–{_short_day(DAYS[run[-1]])}"]
        if len(run) > 2
        else [_short_day(DAYS[number]) for number in run]
        for run in runs
    ]
    return ", ".join(text for run_labels in labels for text in run_labels)


def _roles(roles: list[str], *, is_sequence: bool) -> str:
    if roles == [schedules.OWN_ROLES]:
        return _("Everyone in their own role.")
    names = [role_name(role) for role in roles]
    text = _(", then ").join(names) if is_sequence else ", ".join(names)
    return f"{text[:1].upper()}{text[1:]}."


def _date_of_weekday(day: str) -> date:
    return date(2024, 1, 1 + weekly_windows.parse_weekday(day).number)  # 1 January 2024 was a Monday


def _short_day(day: str) -> str:
    return date_format(_date_of_weekday(day), "D")


def _long_day(day: str) -> str:
    return date_format(_date_of_weekday(day), "l")


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return date_format(moment, pgettext("date format", "j M Y")) if len(text) == len("2026-01-05") else _moment(text)


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{date_format(moment, pgettext('date format', 'D j M Y'))} {moment:%H:%M}"


def day(at: date) -> str:
    """Format a date as "Mon 30 Nov", in the language's own format."""
    return date_format(at, pgettext("date format", "D j M"))


def format_period(since: datetime | None, until: datetime | None) -> str:
    """Format a period, such as "Mon 30 Nov 09:00 – Mon 7 Dec 09:00", in the user's zone. An open end is written out."""
    return f"{_moment_or(since, _('no start date'))} – {_moment_or(until, _('no end date'))}"


def _moment_or(at: datetime | None, missing: str) -> str:
    if at is None:
        return missing
    local_time = timezone.localtime(at)
    return f"{day(local_time)} {local_time.strftime('%H:%M')}"
