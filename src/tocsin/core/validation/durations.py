"""Parses and formats durations: the short form (`90s`, `5m`, `1h30m`, `1w`) and the form used in sentences. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from tocsin.core import locale_format
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

#: A longer duration is a typing error: nothing in Tocsin waits for more than ten years.
MAX_DURATION = timedelta(days=3650)

_NOT_A_DURATION = ReasonType(
    "duration.not_a_duration", '"{text}" is not a duration. Use a format like 90s, 5m, 1h30m or 1w.'
)
_TOO_LONG = ReasonType("duration.too_long", '"{text}" is too long. A duration can be ten years at most.')

_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_PARTS = re.compile(r"\s*".join(["", *(rf"(?:(\d{{1,9}})\s*{unit})?" for unit in _UNITS), ""]), re.ASCII)

#: For a JSON schema, what `parse` reads.
PATTERN = r"^\s*(0|" + r"\s*".join(rf"([0-9]{{1,9}}\s*{unit})?" for unit in _UNITS) + r")\s*$"


#: Formats a duration for a sentence, in English.
describe = locale_format.english_duration


def parse(text: object, path: str | None = None) -> timedelta:
    """Parses whole numbers with the units w, d, h, m and s, largest first. `0` needs no unit.

    Raises `Rejected("invalid_duration")` for the field `path`.
    """
    stripped = str(text).strip() if isinstance(text, str | int) and not isinstance(text, bool) else ""
    if stripped == "0":
        return timedelta()
    match = _PARTS.fullmatch(stripped)
    if not stripped or match is None:
        raise Rejected("invalid_duration", _NOT_A_DURATION(text=str(text)), path)
    amounts = zip(match.groups(), _UNITS.values(), strict=True)
    seconds = sum(int(amount) * int(unit.total_seconds()) for amount, unit in amounts if amount is not None)
    if seconds > MAX_DURATION.total_seconds():
        raise Rejected("invalid_duration", _TOO_LONG(text=stripped), path)
    return timedelta(seconds=seconds)


def write(duration: timedelta) -> str:
    """Returns the shortest form that `parse` reads as `duration`, in whole seconds. Only exact multiples use weeks."""
    seconds = int(duration.total_seconds())
    if seconds < 0:
        raise ValueError("a negative span has no written form")
    if seconds == 0:
        return "0m"
    if seconds % 604_800 == 0:
        return f"{seconds // 604_800}w"
    return "".join(f"{amount}{unit}" for amount, unit in locale_format.split_seconds(seconds))
