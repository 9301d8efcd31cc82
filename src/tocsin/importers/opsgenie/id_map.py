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

    builder: ConfigBuilder
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    #: None: the schedule was not converted, because it is empty.
    schedules: dict[str, str | None] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    #: Policies for single schedules, created for routes that refer to one.
    policy_by_schedule: dict[str, str] = field(default_factory=dict)
    teams: dict[str, JsonObject] = field(default_factory=dict)
    #: The group of a schedule, by the schedule's new name.
    group_by_schedule: dict[str, str] = field(default_factory=dict)
    #: Schedules disabled in Opsgenie.
    disabled_schedules: set[str] = field(default_factory=set)
    escalations: dict[str, JsonObject] = field(default_factory=dict)
    integrations: dict[str, str] = field(default_factory=dict)
    #: Support hours created for routing rules.
    support_hours: dict[str, str] = field(default_factory=dict)

    def find_user(self, reference: object) -> str | None:
        """The username for a reference."""
        document = object_of(reference)
        return _lookup(self.users, document.get("id"), document.get("username"), document.get("name"))

    def find_group(self, reference: object) -> str | None:
        """The group for a reference to a team."""
        document = object_of(reference)
        return _lookup(self.groups, document.get("id"), document.get("name"))


def keys(document: JsonObject, *names: str) -> Iterable[str]:
    """The keys by which a document can be referenced."""
    return [str(document[name]).casefold() for name in ("id", *names) if document.get(name)]


def sort_by_order(documents: Iterable[JsonObject]) -> list[JsonObject]:
    """Sorted by `sort_key`."""

    def sort_key(document: JsonObject) -> int:
        position = document.get("order")
        return position if isinstance(position, int) else 0

    return sorted(documents, key=sort_key)


def resolve[T](names: dict[str, T], reference: object) -> T | None:
    """Resolves a reference by id or name."""
    document = object_of(reference)
    return _lookup(names, document.get("id"), document.get("name"))


def parse_duration(value: object) -> timedelta:
    """Parses `{"timeAmount": 5, "timeUnit": "minutes"}`; the default unit is minutes."""
    document = object_of(value)
    amount = document.get("timeAmount", 0)
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < 1_000_000:
        return timedelta()
    return timedelta(seconds=round(amount * _UNITS.get(str(document.get("timeUnit", "minutes")).lower(), 60)))


def open_windows(restriction: object) -> tuple[WeeklyWindow, ...]:
    """The windows of a `timeRestriction`; empty if there is none. Raises ValueError if it is invalid.

    `time-of-day` applies to every day; `weekday-and-time-of-day` is one span from the start day's time to the end
    day's.
    """
    document = object_of(restriction)
    restrictions = objects_of(document.get("restrictions")) or [object_of(document.get("restriction"))]
    restrictions = [item for item in restrictions if item]
    if not restrictions:
        return ()
    if str(document.get("type")) == "time-of-day":
        windows: list[WeeklyWindow] = []
        for item in restrictions:
            start, end = _minute(item, "start"), _minute(item, "end")
            daily_windows = rotation_converter.daily(
                start % weekly_windows.MINUTES_A_DAY,
                (end - start) % weekly_windows.MINUTES_A_DAY or weekly_windows.MINUTES_A_DAY,
            )
            if not daily_windows:
                return ()
            windows += daily_windows
        return rotation_converter.combine(windows)
    return rotation_converter.combine([_weekday_window(item) for item in restrictions])


def _weekday_window(restriction: JsonObject) -> WeeklyWindow:
    start_day, end_day = (
        weekly_windows.parse_weekday(str(restriction.get("startDay"))).number,
        weekly_windows.parse_weekday(str(restriction.get("endDay"))).number,
    )
    start, end = _minute(restriction, "start"), _minute(restriction, "end")
    length = ((end_day - start_day) * weekly_windows.MINUTES_A_DAY + end - start) % weekly_windows.MINUTES_A_WEEK
    return rotation_converter.window(start_day, start, length or weekly_windows.MINUTES_A_WEEK)


def _minute(restriction: JsonObject, prefix: str) -> int:
    try:
        hour, minute = int(restriction.get(f"{prefix}Hour") or 0), int(restriction.get(f"{prefix}Min") or 0)
    except (TypeError, OverflowError):
        raise ValueError("has a time that is none") from None
    if not (0 <= hour <= 24 and 0 <= minute < 60):
        raise ValueError("has a time that is none")
    return hour * 60 + minute


def _lookup[T](names: dict[str, T], *references: object) -> T | None:
    for candidate in references:
        if candidate and str(candidate).casefold() in names:
            return names[str(candidate).casefold()]
    return None
