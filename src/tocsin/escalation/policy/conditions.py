"""Conditions of a policy step on priority, time of day, support hours and tags, and why one does not hold.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term
from tocsin.core.validation.object_reader import NOT_A_CHOICE, ObjectReader
from tocsin.escalation import reasons
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.support_hours import CompiledSupportHours
from tocsin.oncall.calculation.weekly_windows import InvalidTime, Weekday, WeeklyWindow

MAX_CONDITION_TAGS = 20

_EMPTY_CONDITION = ReasonType("policy.condition_empty", "set at least one of priority, during, between and tags.")
_HOURS_NEEDED = ReasonType("policy.support_hours_expected", "must be the name of support hours, or {not: NAME}.")
NO_SUCH_SUPPORT_HOURS = ReasonType("policy.unknown_support_hours", 'there are no support hours "{name}".')
_TAGS_NEEDED = ReasonType("policy.tags_expected", "must be at most {limit} names with a value each.")
_TAG_TEXT_NEEDED = ReasonType("policy.tag_value_expected", "must be text of 1 to 200 characters.")


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """A daily time window in a time zone, on certain weekdays."""

    window: WeeklyWindow
    zone: str
    #: Whether the condition means the time outside the window.
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class StepCondition:
    """A conjunction: every given part must hold; an empty condition always holds."""

    priorities: tuple[Priority, ...] = ()
    #: Id of support hours, and whether the condition means the time outside them.
    hours: int | None = None
    is_outside: bool = False
    between: DailyWindow | None = None
    #: Pairs of tag name and required value; values are compared case-insensitively.
    tags: tuple[tuple[str, str], ...] = ()


def unmet_condition(
    condition: StepCondition,
    priority: Priority,
    tags: Mapping[str, str],
    hours: Mapping[int, CompiledSupportHours],
    at: datetime,
) -> Reason:
    """Why the condition does not hold at `at`, as part of a sentence; `NO_REASON` when it holds.

    Deleted support hours count as fulfilled: one page too many is better than silence.
    """
    if condition.priorities and priority not in condition.priorities:
        priorities = tuple(Term(one) for one in condition.priorities)
        return reasons.ONLY_PRIORITIES(priorities=priorities, priority=Term(priority))
    support_hours = hours.get(condition.hours) if condition.hours is not None else None
    if support_hours is not None and support_hours.is_open(at) is condition.is_outside:
        return (reasons.ONLY_OUTSIDE if condition.is_outside else reasons.ONLY_DURING)(hours=support_hours.name)
    between = condition.between
    if between is not None:
        is_inside = weekly_windows.current((between.window,), ZoneInfo(between.zone), at) is not None
        if is_inside is between.is_outside:
            only = reasons.ONLY_OUTSIDE_WINDOW if between.is_outside else reasons.ONLY_IN_WINDOW
            return only(window=_describe_window(between))
    for name, value in condition.tags:
        actual = tags.get(name, "")
        if actual.casefold() != value.casefold():
            if actual:
                return reasons.ONLY_OTHER_TAG(tag=name, value=value, actual=actual)
            return reasons.ONLY_TAG(tag=name, value=value)
    return NO_REASON


def _describe_window(between: DailyWindow) -> Reason:
    """A window, such as "Mon and Tue 08:00 to 18:00 (Europe/Zurich)"."""
    days = tuple(Term(day.short.capitalize()) for day in Weekday if day.number in between.window.days)
    start, end = weekly_windows.format_time(between.window.start), weekly_windows.format_time(between.window.end)
    if len(days) == len(Weekday):
        return reasons.WINDOW(start=start, end=end, zone=between.zone)
    return reasons.WINDOW_ON_DAYS(days=days, start=start, end=end, zone=between.zone)


def read(spec: ObjectReader, hours: Mapping[str, int]) -> StepCondition:
    """Parses a step's `when`; problems are recorded in `spec`. `hours` maps lower-case names of support hours to
    ids."""
    number, is_outside = _during(spec, hours)
    condition = StepCondition(_priorities(spec), number, is_outside, _between(spec), _tags(spec))
    spec.reject_unknown_keys()
    if condition == StepCondition() and not spec.has("during"):
        spec.add_error("priority", _EMPTY_CONDITION(), "missing")
    return condition


def write(condition: StepCondition, hours_name: Callable[[int], str]) -> dict[str, Any]:
    """Formats a condition so that `read` parses it back."""
    written: dict[str, Any] = {}
    if condition.priorities:
        written["priority"] = [str(priority) for priority in condition.priorities]
    if condition.hours is not None:
        name = hours_name(condition.hours)
        written["during"] = {"not": name} if condition.is_outside else name
    if condition.between is not None:
        (window,) = weekly_windows.write([condition.between.window])
        if len(condition.between.window.days) == len(Weekday):
            del window["days"]
        outside = {"outside": True} if condition.between.is_outside else {}
        written["between"] = {**window, "time_zone": condition.between.zone, **outside}
    if condition.tags:
        written["tags"] = dict(condition.tags)
    return written


def _priorities(spec: ObjectReader) -> tuple[Priority, ...]:
    priorities = []
    for number, text in enumerate(spec.texts("priority")):
        if text in list(Priority):
            priorities.append(Priority(text))
        else:
            spec.add_error(f"priority[{number}]", NOT_A_CHOICE(value=text, choices=tuple(Priority)))
    return tuple(priority for priority in Priority if priority in priorities)


def _during(spec: ObjectReader, ids_by_name: Mapping[str, int]) -> tuple[int | None, bool]:
    if not spec.has("during"):
        return None, False
    raw = spec.raw("during")
    is_outside = isinstance(raw, Mapping)
    name = raw.get("not") if isinstance(raw, Mapping) and set(raw) == {"not"} else raw
    if not isinstance(name, str) or not name.strip():
        spec.add_error("during", _HOURS_NEEDED())
        return None, False
    try:
        return ids_by_name[name.strip().lower()], is_outside
    except KeyError:
        spec.add_error("during", NO_SUCH_SUPPORT_HOURS(name=name), "not_found")
        return None, False


def _between(spec: ObjectReader) -> DailyWindow | None:
    window_spec = spec.nested("between")
    if window_spec is None:
        return None
    days: set[int] = set()
    for number, text in enumerate(window_spec.texts("days")):
        try:
            days.add(weekly_windows.parse_weekday(text).number)
        except InvalidTime as error:
            window_spec.add_error(f"days[{number}]", error.reason)
    daily_window = DailyWindow(
        WeeklyWindow(frozenset(days or range(len(Weekday))), _time(window_spec, "from"), _time(window_spec, "to")),
        window_spec.time_zone(default="UTC"),
        window_spec.boolean("outside", False),
    )
    window_spec.reject_unknown_keys()
    return daily_window


def _time(spec: ObjectReader, key: str) -> int:
    text = spec.text(key, required=True, max_length=10)
    try:
        return weekly_windows.parse_time(text) if text else 0
    except InvalidTime as error:
        spec.add_error(key, error.reason)
        return 0


def _tags(spec: ObjectReader) -> tuple[tuple[str, str], ...]:
    raw = spec.raw("tags", {})
    if not isinstance(raw, Mapping) or len(raw) > MAX_CONDITION_TAGS:
        spec.add_error("tags", _TAGS_NEEDED(limit=MAX_CONDITION_TAGS))
        return ()
    tags = []
    for name, value in raw.items():
        if not isinstance(value, str) or not value.strip() or len(value) > 200 or len(str(name)) > 100:
            spec.add_error(f"tags.{str(name)[:100]}", _TAG_TEXT_NEEDED())
        else:
            tags.append((str(name), value.strip()))
    return tuple(tags)
