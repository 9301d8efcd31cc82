"""Parses and formats durations: the short form (`90s`, `5m`, `1h30m`, `1w`) and the form used in sentences. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from tocsin.core.errors import Rejected

#: A longer duration is a typing error: nothing in Tocsin waits for more than ten years.
MAX_DURATION = timedelta(days=3650)

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_WORDS = {"d": "day", "h": "hour", "m": "minute", "s": "second"}
_PARTS = re.compile(r"\s*".join(["", *(rf"(?:(\d{{1,9}})\s*{unit})?" for unit in _UNITS), ""]), re.ASCII)


def parse(text: object, place: str | None = None) -> timedelta:
    """Parses whole numbers with the units w, d, h, m and s, largest first. `0` needs no unit.

    Raises `Rejected("invalid_duration")` for the field `place`.
    """
    written = str(text).strip() if isinstance(text, str | int) and not isinstance(text, bool) else ""
    if written == "0":
        return timedelta()
    matched = _PARTS.fullmatch(written)
    if not written or matched is None:
        raise Rejected("invalid_duration", f"{text!r} is not a duration; write it like 90s, 5m, 1h30m or 1w.", place)
    amounts = zip(matched.groups(), _UNITS.values(), strict=True)
    span = sum((int(amount) * unit for amount, unit in amounts if amount is not None), timedelta())
    if span > MAX_DURATION:
        raise Rejected("invalid_duration", f"{text!r} is too long; the longest is ten years.", place)
    return span


def write(span: timedelta) -> str:
    """Returns the shortest form that `parse` reads as `span`, in whole seconds. Only exact multiples use weeks."""
    seconds = int(span.total_seconds())
    if seconds < 0:
        raise ValueError("a negative span has no written form")
    if seconds == 0:
        return "0m"
    if seconds % 604_800 == 0:
        return f"{seconds // 604_800}w"
    return "".join(f"{amount}{unit}" for amount, unit in _split(seconds))


def describe(span: timedelta) -> str:
    """Formats a duration for a sentence: "5 minutes", "1 hour 30 minutes". At most two units; never negative."""
    parts = _split(max(0, int(span.total_seconds())))[:2]
    return " ".join(f"{amount} {_WORDS[unit]}{'' if amount == 1 else 's'}" for amount, unit in parts) or "0 seconds"


def describe_ago(at: datetime, now: datetime) -> str:
    """Formats how long ago `at` was, for a sentence: "just now", "2 minutes ago"."""
    span = now - at
    if span < timedelta(seconds=5):
        return "just now"
    parts = _split(int(span.total_seconds()))[:1]
    return f"{describe(parts[0][0] * _UNITS[parts[0][1]])} ago"


def _split(seconds: int) -> list[tuple[int, str]]:
    parts = []
    for unit in ("d", "h", "m", "s"):
        amount, seconds = divmod(seconds, int(_UNITS[unit].total_seconds()))
        if amount:
            parts.append((amount, unit))
    return parts
