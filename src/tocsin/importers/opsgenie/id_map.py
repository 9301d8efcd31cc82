"""Maps Opsgenie's ids and names to new names, and parses its durations and time restrictions. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from tocsin.importers import rotation_converter
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow

_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


@dataclass(slots=True)
class OpsgenieIdMap:
    """New names by Opsgenie id and by Opsgenie name."""

    draft: ConfigBuilder
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    #: None: the schedule was not converted, because it is empty.
    schedules: dict[str, str | None] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    #: Policies for single schedules, created for routes that refer to one.
    by_schedule: dict[str, str] = field(default_factory=dict)
    teams: dict[str, JsonObject] = field(default_factory=dict)
    #: The group of a schedule, by the schedule's new name.
    group_of: dict[str, str] = field(default_factory=dict)
    #: Schedules disabled in Opsgenie.
    off: set[str] = field(default_factory=set)
    escalations: dict[str, JsonObject] = field(default_factory=dict)
    integrations: dict[str, str] = field(default_factory=dict)
    #: Support hours created for routing rules.
    hours: dict[str, str] = field(default_factory=dict)

    def user(self, reference: object) -> str | None:
        """The username for a reference."""
        held = object_of(reference)
        return _found(self.users, held.get("id"), held.get("username"), held.get("name"))

    def group(self, reference: object) -> str | None:
        """The group for a reference to a team."""
        held = object_of(reference)
        return _found(self.groups, held.get("id"), held.get("name"))


def keys(document: JsonObject, *names: str) -> Iterable[str]:
    """The keys by which a document can be referenced."""
    return [str(document[name]).casefold() for name in ("id", *names) if document.get(name)]


def in_order(several: Iterable[JsonObject]) -> list[JsonObject]:
    """Sorted by `order`."""

    def order(document: JsonObject) -> int:
        held = document.get("order")
        return held if isinstance(held, int) else 0

    return sorted(several, key=order)


def found[T](known: dict[str, T], reference: object) -> T | None:
    """Resolves a reference by id or name."""
    held = object_of(reference)
    return _found(known, held.get("id"), held.get("name"))


def span(value: object) -> timedelta:
    """Parses `{"timeAmount": 5, "timeUnit": "minutes"}`; the default unit is minutes."""
    held = object_of(value)
    amount = held.get("timeAmount", 0)
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < 1_000_000:
        return timedelta()
    return timedelta(seconds=round(amount * _UNITS.get(str(held.get("timeUnit", "minutes")).lower(), 60)))


def open_windows(restriction: object) -> tuple[WeeklyWindow, ...]:
    """The windows of a `timeRestriction`; empty if there is none. Raises ValueError if it is invalid.

    `time-of-day` applies to every day; `weekday-and-time-of-day` is one span from the start day's time to the end
    day's.
    """
    held = object_of(restriction)
    several = objects_of(held.get("restrictions")) or [object_of(held.get("restriction"))]
    several = [one for one in several if one]
    if not several:
        return ()
    if str(held.get("type")) == "time-of-day":
        opened: list[WeeklyWindow] = []
        for one in several:
            start, end = _minute(one, "start"), _minute(one, "end")
            each = rotation_converter.daily(
                start % weekly_windows.MINUTES_A_DAY,
                (end - start) % weekly_windows.MINUTES_A_DAY or weekly_windows.MINUTES_A_DAY,
            )
            if not each:
                return ()
            opened += each
        return rotation_converter.combine(opened)
    return rotation_converter.combine([_across(one) for one in several])


def _across(one: JsonObject) -> WeeklyWindow:
    start_day, end_day = (
        weekly_windows.day(str(one.get("startDay"))).number,
        weekly_windows.day(str(one.get("endDay"))).number,
    )
    start, end = _minute(one, "start"), _minute(one, "end")
    length = ((end_day - start_day) * weekly_windows.MINUTES_A_DAY + end - start) % weekly_windows.MINUTES_A_WEEK
    return rotation_converter.window(start_day, start, length or weekly_windows.MINUTES_A_WEEK)


def _minute(one: JsonObject, which: str) -> int:
    try:
        hour, minute = int(one.get(f"{which}Hour") or 0), int(one.get(f"{which}Min") or 0)
    except (TypeError, OverflowError):
        raise ValueError("has a time that is none") from None
    if not (0 <= hour <= 24 and 0 <= minute < 60):
        raise ValueError("has a time that is none")
    return hour * 60 + minute


def _found[T](known: dict[str, T], *wanted: object) -> T | None:
    for one in wanted:
        if one and str(one).casefold() in known:
            return known[str(one).casefold()]
    return None
