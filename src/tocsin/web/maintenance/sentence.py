"""Describes the times of a maintenance window in the user's language, in the window's own time zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from tocsin.core.validation import durations
from tocsin.inbound.maintenance.recurrence import MonthDay, Repeat, month_day
from tocsin.oncall.calculation.weekly_windows import parse_weekday
from tocsin.web.templatetags.ui_tags import span

#: A Monday, from which weekday names are derived.
_MONDAY = date(2024, 1, 1)


def sentence(times: Mapping[str, Any]) -> str:
    """Describe the stored times, such as "Every Tuesday from 22:00 to 02:00 (Europe/Zurich)"."""
    values = {"zone": times["time_zone"], "when": _describe_days(times)}
    if values["when"] == "":
        start, end = (_moment(datetime.fromisoformat(times[key])) for key in ("starts", "ends"))
        return _("Once, from %(start)s to %(end)s (%(zone)s)") % {**values, "start": start, "end": end}
    if "to" in times:
        text = _("%(when)s from %(start)s to %(end)s (%(zone)s)") % {
            **values,
            "start": times["from"],
            "end": times["to"],
        }
    else:
        text = _("%(when)s from %(start)s for %(span)s (%(zone)s)") % {
            **values,
            "start": times["from"],
            "span": span(durations.parse(times["lasts"])),
        }
    if "first_day" in times:
        text += _(", from %(day)s on") % {"day": _day(date.fromisoformat(times["first_day"]))}
    if "last_day" in times:
        text += _(", until %(day)s") % {"day": _day(date.fromisoformat(times["last_day"]))}
    return text


def _describe_days(times: Mapping[str, Any]) -> str:
    match Repeat(times.get("repeat", "once")):
        case Repeat.ONCE:
            return ""
        case Repeat.DAILY:
            return _("Every day")
        case Repeat.WEEKLY:
            return _("Every %(days)s") % {
                "days": _and([_weekday(parse_weekday(text).number) for text in times["days"]])
            }
        case Repeat.MONTHLY:
            days = _and([_describe_month_day(month_day(str(text))) for text in times["days"]])
            return _("On the %(days)s of each month") % {"days": days}


def _describe_month_day(month_day_rule: MonthDay) -> str:
    if month_day_rule.weekday is None:
        return _("last day") if month_day_rule.number < 0 else _ordinal(month_day_rule.number)
    number = pgettext("weekday of a month", "last") if month_day_rule.number < 0 else _ordinal(month_day_rule.number)
    return f"{number} {_weekday(month_day_rule.weekday)}"


def _ordinal(number: int) -> str:
    endings = {
        1: pgettext("end of an ordinal number", "st"),
        2: pgettext("end of an ordinal number", "nd"),
        3: pgettext("end of an ordinal number", "rd"),
    }
    last = 0 if number in (11, 12, 13) else number % 10
    return f"{number}{endings.get(last) or pgettext('end of an ordinal number', 'th')}"


def _and(texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    return _("%(first)s and %(last)s") % {"first": ", ".join(texts[:-1]), "last": texts[-1]}


def _weekday(number: int) -> str:
    return date_format(_MONDAY.replace(day=1 + number), "l")


def _day(at: date) -> str:
    return date_format(at, pgettext("date format", "D j M Y"))


def _moment(at: datetime) -> str:
    return f"{_day(at)}, {at.strftime('%H:%M')}"
