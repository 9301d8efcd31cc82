"""Parses and validates schedules, overrides, holiday calendars and support hours. The commands resolve names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.core.config import secret_urls
from tocsin.core.errors import Permanent
from tocsin.core.net import egress
from tocsin.core.reasons import ReasonType, joined
from tocsin.core.validation import durations
from tocsin.core.validation.object_reader import DURATION_TOO_SHORT, NOT_A_CHOICE, NOT_AFTER_FROM, ObjectReader
from tocsin.core.validation.spec import NOT_A_MOMENT, TOO_FAR
from tocsin.oncall.calculation import holiday_calendars, schedules, weekly_windows
from tocsin.oncall.calculation.shifts import MonthInterval, OnHolidays
from tocsin.oncall.calculation.weekly_windows import InvalidTime, WeeklyWindow
from tocsin.oncall.changes import calendar_urls
from tocsin.people.member_roles import MemberRole

#: Minimum and maximum interval between handoffs of a rotation.
MIN_HANDOFF_INTERVAL = timedelta(hours=1)
MAX_HANDOFF_INTERVAL = timedelta(days=366)
MAX_LAYERS = 100
MAX_MONTHS = 24
MAX_WEEKS = 52
_WEEK = timedelta(weeks=1)

_NO_SHIFTS = ReasonType("schedule.shifts_missing", "at least one shift is required.")
_CALENDAR_NEEDED = ReasonType(
    "schedule.holiday_calendar_missing", "at least one is required where a shift observes holidays."
)
_COUNTRY_NEEDED = ReasonType("holiday.country_missing", "is required for a region.")
_COUNTRY_OR_DAYS_NEEDED = ReasonType("holiday.country_or_days_missing", "enter a country, days, or both.")
_DUPLICATE = ReasonType("schedule.duplicate_name", '"{name}" occurs twice.')
_UNKNOWN_SHIFT = ReasonType("override.unknown_shift", 'there is no shift "{shift}" in this schedule.')
_SAME_USER = ReasonType("override.same_user", "is the same person as user.")
_NOT_A_YEARLY_DATE = ReasonType(
    "holiday.not_a_date", '"{value}" is not a date; write it like 2026-12-24, or 12-24 for every year.'
)
_NO_WINDOWS = ReasonType("shift.windows_missing", "at least one window is required.")
_NO_DAYS = ReasonType("shift.days_missing", "at least one day is required, such as [mon, tue].")
_BEGINS_AT_24 = ReasonType("shift.window_begins_at_24", "must be before 24:00; write 00:00 on the next day.")
_EMPTY_WINDOW = ReasonType("shift.window_empty", "is the same as from; a whole day is 00:00 to 24:00.")
_NO_PATTERN = ReasonType("shift.pattern_missing", "exactly one of rotate, fixed and calendar is required.")
_START_NEEDED = ReasonType(
    "shift.start_missing", "is required: the day from which handoffs are counted, such as 2026-01-05."
)
_END_BEFORE_START = ReasonType("shift.end_before_start", "must not be before start.")
_TOO_FEW_USERS = ReasonType("shift.too_few_users", "{roles} roles require at least as many users; there are {users}.")
_MONTHS_RANGE = ReasonType("shift.months_out_of_range", "must be 1 to {limit} months.")
_NOT_A_MONTH_DAY = ReasonType("shift.not_a_month_day", "must be a day of the month from 1 to 31.")
_WEEKDAY_UNEXPECTED = ReasonType("shift.weekday_unexpected", "requires that every is whole weeks or months.")
_NOT_WHOLE_WEEKS = ReasonType("shift.not_whole_weeks", "must be whole weeks, such as 2w.")
_WEEKS_NEED_START = ReasonType(
    "shift.weeks_without_start", "requires the shift's start: the weeks are counted from it."
)
_WINDOWS_OR_SPAN = ReasonType("shift.windows_and_span", "enter either windows, or from and to.")
_OVERLAPPING_PERIOD = ReasonType("shift.period_overlaps", "must not be shorter than the period.")
_MASKED_URL = ReasonType("shift.url_masked", "is masked; enter the full URL.")
_NO_USERS = ReasonType("shift.users_missing", "at least one user is required.")
_OWN_ROLES_ALONE = ReasonType(
    "shift.own_roles_combined", "own cannot be combined: each user then has their roles in the group."
)
_NOT_A_DATE = ReasonType("time.not_a_date", '"{value}" is not a date; write it like 2026-01-05, or 2026-01-05T09:00.')
_NOT_A_LOCAL_TIME = ReasonType(
    "time.not_a_local_time", '"{value}" is not a local time; write it like 2026-12-24T17:00.'
)
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ShiftSpec:
    """A shift in its stored form but with users by name, and the place of these names in the spec."""

    stored: dict[str, Any]
    users: tuple[str, ...]
    users_path: str

    def with_users(self, ids: list[int]) -> dict[str, Any]:
        """Returns the stored form with users by id."""
        kind = schedules.kind_of(self.stored)
        if kind == "calendar":
            return self.stored
        return {**self.stored, kind: {**self.stored[kind], "users": ids}}


@dataclass(frozen=True, slots=True)
class OverrideSpec:
    """An override with users by username. `place` is the prefix of its keys in error messages."""

    name: str
    user: str
    starts_at: datetime
    ends_at: datetime
    shift: str
    role: MemberRole | None
    instead_of: str | None
    path_prefix: str


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule. `time_zone` is None to use the group's; `overrides` is None to leave them unchanged."""

    name: str
    group: str
    time_zone: str | None
    shifts: tuple[ShiftSpec, ...]
    holiday_calendars: tuple[str, ...] = ()
    overrides: tuple[OverrideSpec, ...] | None = None


@dataclass(frozen=True, slots=True)
class SupportHoursSpec:
    """Support hours. `group` is the name of the owning group, or None."""

    name: str
    group: str | None
    time_zone: str
    windows: tuple[WeeklyWindow, ...]
    holiday_calendars: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HolidayCalendarSpec:
    """A holiday calendar. `group` is the name of the owning group, or None; `days` are in their stored form."""

    name: str
    group: str | None
    country: str
    region: str
    days: tuple[dict[str, str], ...]


def read_schedule(value: object, zone_of: Callable[[str], str] = lambda _group: "UTC") -> ScheduleSpec:
    """Parses a schedule. `zone_of` returns a group's time zone, for overrides.

    Raises Rejected, or RejectedAll, naming each field.
    """
    spec = ObjectReader(value)
    group = spec.text("group", required=True)
    zone = spec.time_zone() if spec.has("time_zone") else None
    shifts = tuple(_shift(shift) for shift in spec.nested_list("shifts"))
    schedule = ScheduleSpec(
        name=spec.name(),
        group=group,
        time_zone=zone,
        shifts=shifts,
        holiday_calendars=spec.texts("holiday_calendars"),
        overrides=_overrides(spec, zone or zone_of(group), shifts) if spec.has("overrides") else None,
    )
    if not schedule.shifts:
        spec.add_error("shifts", _NO_SHIFTS(), "missing")
    refuse_duplicates(spec, "shifts", [shift.stored["name"] for shift in shifts], ".name")
    if not schedule.holiday_calendars and any("holidays" in shift.stored for shift in shifts):
        spec.add_error("holiday_calendars", _CALENDAR_NEEDED(), "missing")
    spec.finish()
    return schedule


def read_override(value: object, zone: str, shifts: Iterable[str]) -> OverrideSpec:
    """Parses an override without its schedule. Times without a zone are local in `zone`. Raises Rejected."""
    spec = ObjectReader(value)
    override = _override(spec, zone, tuple(shifts))
    spec.raise_errors()
    return override


def read_holiday_calendar(value: object) -> HolidayCalendarSpec:
    """Parses a holiday calendar. Raises Rejected, or RejectedAll, naming each field."""
    spec = ObjectReader(value)
    country, region = spec.text("country", max_length=2).upper(), spec.text("region", max_length=10)
    if country and (problem := holiday_calendars.find_problem(country, region)):
        spec.add_error(*problem)
    if region and not country:
        spec.add_error("country", _COUNTRY_NEEDED(), "missing")
    days = tuple(_custom_day(day) for day in spec.nested_list("days"))
    refuse_duplicates(spec, "days", [day["date"] for day in days], ".date")
    if not country and not days:
        spec.add_error("country", _COUNTRY_OR_DAYS_NEEDED(), "missing")
    read = HolidayCalendarSpec(
        name=spec.name(), group=spec.text("group") or None, country=country, region=region, days=days
    )
    spec.finish()
    return read


def read_support_hours(value: object, default_zone: str) -> SupportHoursSpec:
    """Parses support hours. Raises Rejected, or RejectedAll, naming each field."""
    spec = ObjectReader(value)
    hours = SupportHoursSpec(
        name=spec.name(),
        group=spec.text("group") or None,
        time_zone=spec.time_zone(default=default_zone),
        windows=_windows(spec),
        holiday_calendars=spec.texts("holiday_calendars"),
    )
    spec.finish()
    return hours


def refuse_duplicates(spec: ObjectReader, key: str, names: Iterable[str], field: str = "") -> None:
    """Records an error for each duplicate in a list, ignoring case."""
    seen_names: set[str] = set()
    for number, name in enumerate(names):
        if name and name.casefold() in seen_names:
            spec.add_error(f"{key}[{number}]{field}", _DUPLICATE(name=name), "name_taken")
        seen_names.add(name.casefold())


def read_moment(spec: ObjectReader, key: str, zone: str) -> datetime:
    """Reads a required time, with an offset or Z, or local in `zone`. Returns it in UTC."""
    text = spec.text(key, required=True, max_length=40)
    if text:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            parsed = None
        if parsed is None or len(text) < len("2026-01-05T09:00"):
            spec.add_error(key, NOT_A_MOMENT(value=text))
        elif not 1970 < parsed.year < 2200:
            spec.add_error(key, TOO_FAR(value=text))
        elif parsed.tzinfo is None:
            return weekly_windows.instant(parsed, ZoneInfo(zone))
        else:
            return parsed.astimezone(UTC)
    return datetime(1970, 1, 1, tzinfo=UTC)


def write_moment(at: datetime) -> str:
    """Formats a time in a form that `moment` reads."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _overrides(spec: ObjectReader, zone: str, shifts: Iterable[ShiftSpec]) -> tuple[OverrideSpec, ...]:
    names = tuple(shift.stored["name"] for shift in shifts)
    return tuple(_override(override, zone, names) for override in spec.nested_list("overrides"))


def _override(spec: ObjectReader, zone: str, shifts: tuple[str, ...]) -> OverrideSpec:
    role = spec.text("role")
    if role and role not in list(MemberRole):
        spec.add_error("role", NOT_A_CHOICE(value=role, choices=tuple(MemberRole)))
        role = ""
    shift = spec.text("shift")
    shift_names = {name.casefold(): name for name in shifts}
    if shift and shift.casefold() not in shift_names:
        spec.add_error("shift", _UNKNOWN_SHIFT(shift=shift), "not_found")
    starts_at, ends_at = read_moment(spec, "from", zone), read_moment(spec, "to", zone)
    if spec.has("from") and spec.has("to") and ends_at <= starts_at:
        spec.add_error("to", NOT_AFTER_FROM())
    override = OverrideSpec(
        name=spec.line("name", max_length=100),
        user=spec.text("user", required=True),
        starts_at=starts_at,
        ends_at=ends_at,
        shift=shift_names.get(shift.casefold(), ""),
        role=MemberRole(role) if role else None,
        instead_of=spec.text("instead_of") or None,
        path_prefix=spec.path("user").removesuffix("user"),
    )
    if override.instead_of and override.instead_of.casefold() == override.user.casefold():
        spec.add_error("instead_of", _SAME_USER())
    spec.reject_unknown_keys()
    return override


def _custom_day(spec: ObjectReader) -> dict[str, str]:
    text, name = spec.text("date", required=True), spec.line("name", required=True, max_length=100)
    if text:
        try:
            holiday_calendars.parse_custom_day(text, name)
        except ValueError:
            spec.add_error("date", _NOT_A_YEARLY_DATE(value=text))
    spec.reject_unknown_keys()
    return {"date": text, "name": name}


def _windows(spec: ObjectReader) -> tuple[WeeklyWindow, ...]:
    windows = tuple(_window(window) for window in spec.nested_list("windows"))
    if not windows:
        spec.add_error("windows", _NO_WINDOWS(), "missing")
    return windows


def _window(spec: ObjectReader) -> WeeklyWindow:
    if not spec.has("days") and any(character.isalpha() for character in f"{spec.raw('from')}{spec.raw('to')}"):
        return _window_across(spec)
    days = set()
    for number, text in enumerate(spec.texts("days")):
        try:
            days.add(weekly_windows.parse_weekday(text).number)
        except InvalidTime as error:
            spec.add_error(f"days[{number}]", error.reason)
    if not days and not spec.raw("days"):
        spec.add_error("days", _NO_DAYS(), "missing")
    window = WeeklyWindow(frozenset(days), _time(spec, "from"), _time(spec, "to"))
    if window.start == weekly_windows.MINUTES_A_DAY:
        spec.add_error("from", _BEGINS_AT_24())
    elif window.start == window.end and spec.has("from") and spec.has("to"):
        spec.add_error("to", _EMPTY_WINDOW())
    spec.reject_unknown_keys()
    return window


def _window_across(spec: ObjectReader) -> WeeklyWindow:
    """Reads one continuous window over several days: from `fri 17:00` to `mon 08:00`."""
    start_text, end_text = spec.text("from", required=True), spec.text("to", required=True)
    window = WeeklyWindow(frozenset({0}), 0, weekly_windows.MINUTES_A_DAY)
    for key, text in (("from", start_text), ("to", end_text)):
        try:
            weekly_windows.parse_multi_day_window(text, text)
        except InvalidTime as error:
            spec.add_error(key, error.reason)
            break
    else:
        window = weekly_windows.parse_multi_day_window(start_text, end_text)
    spec.reject_unknown_keys()
    return window


def _time(spec: ObjectReader, key: str) -> int:
    text = spec.text(key, required=True)
    if text:
        try:
            return weekly_windows.parse_time(text)
        except InvalidTime as error:
            spec.add_error(key, error.reason)
    return 0


def _shift(spec: ObjectReader) -> ShiftSpec:
    stored: dict[str, Any] = {"name": spec.line("name", required=True, max_length=100)}
    layer = spec.integer("layer", 1, minimum=1, maximum=MAX_LAYERS)
    if layer != 1:
        stored["layer"] = layer
    if spec.has("time_zone"):
        stored["time_zone"] = spec.time_zone()
    on_holidays = spec.one_of("holidays", OnHolidays, OnHolidays.RUN)
    if on_holidays is not OnHolidays.RUN:
        stored["holidays"] = str(on_holidays)
    start, end = _day_or_local(spec, "start"), _day_or_local(spec, "end")
    kinds = {kind: pattern_spec for kind in schedules.KINDS if (pattern_spec := spec.nested(kind)) is not None}
    users: tuple[str, ...] = ()
    if len(kinds) != 1:
        code = "invalid" if kinds else "missing"
        spec.add_error(list(kinds)[-1] if kinds else "rotate", _NO_PATTERN(), code)
        return ShiftSpec(stored | {"rotate": {}}, (), spec.path("users"))
    kind, pattern_spec = kinds.popitem()
    match kind:
        case "rotate":
            has_start = start is not None and len(start) == len("2026-01-05")
            if not has_start and (start is not None or not spec.has("start")):
                spec.add_error("start", _START_NEEDED(), "missing")
            users, stored[kind] = _rotation(pattern_spec, start)
        case "fixed":
            users, stored[kind] = _fixed(pattern_spec, start)
        case _:
            stored[kind] = _calendar(pattern_spec)
    if start is not None and end is not None and _last_moment(end) <= datetime.fromisoformat(start):
        spec.add_error("end", _END_BEFORE_START())
    spec.reject_unknown_keys()
    stored |= {key: text for key, text in (("start", start), ("end", end)) if text is not None}
    return ShiftSpec(stored, users, pattern_spec.path("users"))


def _rotation(spec: ObjectReader, start: str | None) -> tuple[tuple[str, ...], dict[str, Any]]:
    every = _handoff_interval(spec)
    stored: dict[str, Any] = {
        "every": durations.write(every) if isinstance(every, timedelta) else _months(every),
        "at": weekly_windows.format_time(_time(spec, "at")),
    }
    if spec.has("on") and (on := _handoff_day(spec, every)) is not None:
        stored["on"] = on
    move = spec.integer("move", 1, minimum=1, maximum=1000)
    if move != 1:
        stored["move"] = move
    if spec.has("windows"):
        stored["windows"] = weekly_windows.write(_windows(spec))
    users, roles = _users_and_roles(spec)
    if len(roles) > len(users) > 0:
        spec.add_error("roles", _TOO_FEW_USERS(roles=len(roles), users=len(users)))
    spec.reject_unknown_keys()
    return users, stored | {"roles": roles}


def _handoff_interval(spec: ObjectReader) -> timedelta | MonthInterval:
    """Reads the interval between handoffs."""
    text = spec.raw("every")
    if isinstance(text, str) and re.fullmatch(r"\s*\d{1,3}\s+months?\s*", text):
        interval = schedules.parse_handoff_interval(" ".join(text.split()))
        if isinstance(interval, MonthInterval) and 1 <= interval.count <= MAX_MONTHS:
            return interval
        spec.add_error("every", _MONTHS_RANGE(limit=MAX_MONTHS))
        return MonthInterval(1)
    every = spec.duration("every", _WEEK, maximum=MAX_HANDOFF_INTERVAL)
    if every < MIN_HANDOFF_INTERVAL:
        spec.add_error("every", DURATION_TOO_SHORT(minimum=MIN_HANDOFF_INTERVAL))
        return _WEEK
    return every


def _months(every: MonthInterval) -> str:
    return f"{every.count} month{'s' if every.count > 1 else ''}"


def _handoff_day(spec: ObjectReader, every: timedelta | MonthInterval) -> str | int | None:
    """Reads the handoff day: for whole weeks a weekday; for months a day of the month, or its first such weekday."""
    value = spec.raw("on")
    if isinstance(every, MonthInterval) and isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= 31:
            return value
        spec.add_error("on", _NOT_A_MONTH_DAY())
        return None
    try:
        weekday = str(weekly_windows.parse_weekday(spec.text("on")))
    except InvalidTime as error:
        spec.add_error("on", error.reason)
        return None
    if isinstance(every, timedelta) and every % _WEEK:
        spec.add_error("on", _WEEKDAY_UNEXPECTED())
    return weekday


def _fixed(spec: ObjectReader, start: str | None) -> tuple[tuple[str, ...], dict[str, Any]]:
    users, roles = _users_and_roles(spec)
    stored: dict[str, Any] = {}
    every = None
    if spec.has("every"):
        every = spec.duration("every", _WEEK, maximum=MAX_WEEKS * _WEEK)
        if not every or every % _WEEK:
            spec.add_error("every", _NOT_WHOLE_WEEKS())
            every = None
        else:
            stored["every"] = durations.write(every)
    if spec.has("from") or spec.has("to"):
        stored |= _span(spec, every)
    else:
        stored["windows"] = weekly_windows.write(_windows(spec))
        if every is not None and every > _WEEK and start is None:
            spec.add_error("every", _WEEKS_NEED_START(), "missing")
    spec.reject_unknown_keys()
    return users, stored | {"roles": roles}


def _span(spec: ObjectReader, every: timedelta | None) -> dict[str, str]:
    """Reads one period between two local times."""
    if spec.has("windows"):
        spec.add_error("windows", _WINDOWS_OR_SPAN())
    begin, end = _local(spec, "from"), _local(spec, "to")
    if begin is None or end is None:
        return {"from": "2026-01-01T00:00", "to": "2026-01-01T01:00"}
    if end <= begin:
        spec.add_error("to", NOT_AFTER_FROM())
    elif every is not None and end - begin > every:
        spec.add_error("every", _OVERLAPPING_PERIOD())
    return {"from": begin.isoformat(timespec="minutes"), "to": end.isoformat(timespec="minutes")}


def _calendar(spec: ObjectReader) -> dict[str, Any]:
    url = spec.text("url", required=True, max_length=2000)
    if url:
        url = re.sub(r"^webcals?://", "https://", url, flags=re.IGNORECASE)
        try:
            egress.check_url(url)
        except Permanent as error:
            spec.add_error("url", joined(error.reason, error.remedy_reason, separator=" "))
        if secret_urls.is_masked(url):
            spec.add_error("url", _MASKED_URL())
    stored = {"url": calendar_urls.seal(url) if url else "", "roles": _roles(spec)}
    spec.reject_unknown_keys()
    return stored


def _users_and_roles(spec: ObjectReader) -> tuple[tuple[str, ...], list[str]]:
    users = spec.texts("users")
    if not users and not spec.raw("users"):
        spec.add_error("users", _NO_USERS(), "missing")
    return users, _roles(spec)


def _roles(spec: ObjectReader) -> list[str]:
    roles = []
    role_names = spec.texts("roles")
    for number, role in enumerate(role_names):
        if role in list(MemberRole) or (role == schedules.OWN_ROLES and len(role_names) == 1):
            roles.append(role)
        elif role == schedules.OWN_ROLES:
            spec.add_error(f"roles[{number}]", _OWN_ROLES_ALONE())
        else:
            choices = (*MemberRole, schedules.OWN_ROLES)
            spec.add_error(f"roles[{number}]", NOT_A_CHOICE(value=role, choices=choices))
    return roles or [str(MemberRole.PRIMARY)]


def _day_or_local(spec: ObjectReader, key: str) -> str | None:
    """Reads an optional date or local time, and returns it as stored."""
    if not spec.has(key):
        return None
    text = spec.text(key, max_length=40)
    try:
        if _LOCAL.fullmatch(text):
            return datetime.fromisoformat(text).isoformat(timespec="minutes")
        return date.fromisoformat(text).isoformat()
    except ValueError:
        if text or isinstance(spec.raw(key), str):
            spec.add_error(key, _NOT_A_DATE(value=text))
        return None


def _last_moment(end: str) -> datetime:
    end_at = datetime.fromisoformat(end)
    return end_at + timedelta(days=1) if len(end) == len("2026-01-05") else end_at


def _local(spec: ObjectReader, key: str) -> datetime | None:
    """Reads a required local time."""
    text = spec.text(key, required=True, max_length=40)
    try:
        if _LOCAL.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    if text:
        spec.add_error(key, _NOT_A_LOCAL_TIME(value=text))
    return None
