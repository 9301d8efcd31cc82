"""Template tags of the on-call views: positions of bars, periods, and words of a schedule."""

from __future__ import annotations

from datetime import date, datetime

from django import template
from django.utils.formats import date_format
from django.utils.translation import pgettext

from tocsin.web.oncall import shift_forms
from tocsin.web.oncall.lanes import colour_class

register = template.Library()


@register.filter
def percent(value: float) -> str:
    """Format a position as an SVG percentage, independent of the language's decimal separator."""
    return f"{value:.4f}%"


@register.simple_tag
def period(since: datetime | None, until: datetime | None) -> str:
    """Format a period, such as "Mon 30 Nov 09:00 – Mon 7 Dec 09:00", in the user's zone. An open end is written out."""
    return shift_forms.format_period(since, until)


@register.filter
def role_name(role: str) -> str:
    return shift_forms.role_name(role)


@register.filter
def short_day(day: date) -> str:
    """Format a date as "Mon 30 Nov"."""
    return shift_forms.day(day)


@register.filter
def short_date(day: date) -> str:
    """Format a date as "Mon 30 Nov 2026"."""
    return date_format(day, pgettext("date format", "D j M Y"))


@register.filter
def pixels(levels: int, level: int) -> int:
    """Return the height of so many levels of bars."""
    return levels * level


@register.filter
def colour_of(user_id: int) -> str:
    """Return the CSS class of a user's colour."""
    return colour_class(user_id)
