"""Conditions of a policy step on priority, time of day, support hours and tags, and why one does not hold.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo

from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors, is_unstorable, reading_context
from tocsin.core.validation.spec_types import Parsed, TimeZone, list_of_choices
from tocsin.escalation import reasons
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.support_hours import CompiledSupportHours
from tocsin.oncall.calculation.weekly_windows import Weekday, WeeklyWindow

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


def _during(value: object) -> tuple[str, bool]:
    """Returns a name, and whether the time outside is meant."""
    name = value.get("not") if isinstance(value, Mapping) and set(value) == {"not"} else value
    if not isinstance(name, str) or not name.strip() or is_unstorable(name):
        raise InvalidValue(_HOURS_NEEDED())
    return name.strip(), isinstance(value, Mapping)


def _resolve_during(named: tuple[str, bool], info: ValidationInfo) -> tuple[int, bool]:
    name, is_outside = named
    try:
        return reading_context(info)["support_hours"][name.lower()], is_outside
    except KeyError:
        raise InvalidValue(NO_SUCH_SUPPORT_HOURS(name=name), "not_found") from None


def _tags(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or len(value) > MAX_CONDITION_TAGS:
        raise InvalidValue(_TAGS_NEEDED(limit=MAX_CONDITION_TAGS))
    tags, errors = [], SpecErrors()
    for name, text in value.items():
        is_text = isinstance(text, str) and text.strip() and not is_unstorable(text)
        if not is_text or len(text) > 200 or len(str(name)) > 100:
            errors.add(str(name)[:100], _TAG_TEXT_NEEDED())
        else:
            tags.append((str(name), text.strip()))
    if errors:
        raise InvalidValue(errors)
    return tuple(tags)


_Priorities = Annotated[
    tuple[Priority, ...],
    list_of_choices(Priority),
    AfterValidator(lambda priorities: tuple(priority for priority in Priority if priority in priorities)),
]
_HOURS = {"type": "string", "minLength": 1, "maxLength": 200}
_During = Annotated[
    tuple[int, bool],
    Parsed(_during, {"anyOf": [_HOURS, {"type": "object", "properties": {"not": _HOURS}, "required": ["not"]}]}),
    AfterValidator(_resolve_during),
]
_Tags = Annotated[
    tuple[tuple[str, str], ...],
    Parsed(
        _tags,
        {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200},
            "maxProperties": MAX_CONDITION_TAGS,
        },
    ),
]


class BetweenSpec(Spec):
    """A time of day, on some weekdays."""

    days: weekly_windows.WeekdayNumbers = Field(default=(), description="Days. Default: every day.")
    start: weekly_windows.TimeOfDay = Field(alias="from", description="Start, such as `08:00`.")
    end: weekly_windows.TimeOfDay = Field(
        alias="to", description="End, such as `18:00`; on the next day if it is not after the start."
    )
    time_zone: TimeZone = Field(default="UTC", description="Time zone of `from` and `to`.")
    is_outside: bool = Field(default=False, alias="outside", description="Whether the time outside is meant.")

    def compiled(self) -> DailyWindow:
        """The window with its time zone."""
        days = frozenset(self.days or range(len(Weekday)))
        return DailyWindow(WeeklyWindow(days, self.start, self.end), self.time_zone, self.is_outside)


class StepConditionSpec(Spec):
    """A condition: everything that is given must hold. Its context has the ids of `support_hours` by name."""

    during: _During | None = Field(
        default=None, description="Name of support hours, or `{not: NAME}` for the time outside them."
    )
    priority: _Priorities = Field(default=(), description="Priorities of the alert.")
    between: BetweenSpec | None = Field(default=None, description="Time of day.")
    tags: _Tags = Field(default=(), description="Tags of the alert by name, with the required value of each.")

    def check(self, errors: SpecErrors) -> None:
        if not errors and not (self.during or self.priority or self.between or self.tags):
            errors.add("priority", _EMPTY_CONDITION(), "missing")

    def compiled(self) -> StepCondition:
        """The condition with ids."""
        hours, is_outside = self.during or (None, False)
        between = self.between.compiled() if self.between else None
        return StepCondition(self.priority, hours, is_outside, between, self.tags)


def write(condition: StepCondition, hours_name: Callable[[int], str]) -> dict[str, Any]:
    """Formats a condition so that `StepConditionSpec` reads it back."""
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
