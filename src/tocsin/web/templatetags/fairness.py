"""Template filters of the fairness report: hours, and differences with their sign."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _

register = template.Library()

_HOUR = timedelta(hours=1)


@register.filter
def hours(value: timedelta) -> str:
    """Format a duration in hours: "168 h", "12.5 h"."""
    return _("%(number)s h") % {"number": _number(value / _HOUR)}


@register.filter
def hours_difference(value: timedelta) -> str:
    """Format a difference in hours with its sign: "+12.5 h", "−3 h", "±0"."""
    signed = difference(value / _HOUR)
    return signed if signed == "±0" else _("%(number)s h") % {"number": signed}


@register.filter
def difference(value: float) -> str:
    """Format a difference with its sign, to one decimal."""
    rounded = round(value, 1)
    if not rounded:
        return "±0"
    return f"{'+' if rounded > 0 else '−'}{_number(abs(rounded))}"


@register.simple_tag
def share_of(value: timedelta, longest: timedelta | None) -> str:
    """Return a duration in percent of the longest, for the width of its bar."""
    return f"{100 * value / longest:.1f}" if longest else "0"


def _number(value: float) -> str:
    rounded = round(value, 1)
    return number_format(rounded, 0 if rounded == int(rounded) else 1, use_l10n=True, force_grouping=True)
