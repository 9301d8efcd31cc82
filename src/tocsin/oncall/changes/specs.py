"""Schedules, overrides, holiday calendars and support hours as YAML, the API and forms write them. The commands resolve
names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tocsin.access.roles import MemberRole
from tocsin.core.config import crypto
from tocsin.core.errors import Permanent
from tocsin.core.net import egress
from tocsin.core.reasons import Text, joined, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import NOT_TEXT, REQUIRED, InvalidTime, format_time, parse_time
from tocsin.core.validation.spec import (
    Duration,
    InForm,
    InvalidValue,
    Line,
    ListOf,
    Moment,
    Name,
    Names,
    OneOf,
    OwnedSpec,
    Parsed,
    Reference,
    Spec,
    SpecErrors,
    TimeOfDay,
    TimeZone,
    at_most,
    in_utc,
    list_of,
    list_of_choices,
    parse_duration,
)
from tocsin.oncall.calculation import schedules, weekly_windows
from tocsin.oncall.calculation.schedules import MonthInterval, OnHolidays
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow
from tocsin.people import addresses

# ---------- calendar urls
# The URLs of external calendars. A URL gives access, so it is stored sealed, and only its host is shown.
# Equal URLs are stored as equal texts, until the secret key changes.


MAX_URL_LENGTH = 2000

#: Shown for a URL that no known key decrypts.
UNREADABLE = f"https://{crypto.MASK_SUFFIX}"


def seal(url: str) -> str:
    return addresses.encrypt_address(urlsplit(url).scheme.lower(), url, max_bytes=4 * MAX_URL_LENGTH)


def mask_urls(stored: str) -> str:
    """Returns the masked form of a stored URL, which is all that anybody sees, including the user who entered it."""
    url = addresses.decrypt_if_encrypted(stored)
    return UNREADABLE if addresses.is_encrypted(url) else crypto.mask_url(url)


def in_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """Returns the URLs in a schedule's stored definition, in clear, by the shift's name."""
    return {
        shift["name"]: addresses.decrypt_if_encrypted(shift["calendar"]["url"])
        for shift in definition.get("shifts", ())
        if "calendar" in shift
    }


def restore_masked_urls(spec: Mapping[str, object], definition: Mapping[str, Any]) -> dict[str, object]:
    """Returns the spec with masked URLs replaced by the stored ones: that of the same shift, or for a renamed shift the
    only one with that masked form."""
    stored, shifts = in_definition(definition), spec.get("shifts")
    if not stored or not isinstance(shifts, list | tuple):
        return dict(spec)
    return {**spec, "shifts": [_restore_url(shift, stored) for shift in shifts]}


def _restore_url(shift: object, stored: Mapping[str, str]) -> object:
    calendar = shift.get("calendar") if isinstance(shift, Mapping) else None
    if not isinstance(shift, Mapping) or not isinstance(calendar, Mapping):
        return shift
    urls = set(_matching(calendar.get("url"), str(shift.get("name")), stored))
    return {**shift, "calendar": {**calendar, "url": urls.pop()}} if len(urls) == 1 else shift


def _matching(masked_url: object, name: str, stored: Mapping[str, str]) -> Iterator[str]:
    """Yields the stored URLs that `masked_url` may be the masked form of."""
    matches = {key: url for key, url in stored.items() if masked_url == crypto.mask_url(url)}
    yield from [matches[name]] if name in matches else matches.values()


# ---------- shift specs
# Shifts of a schedule and weekly windows as YAML, the API and forms write them.


#: Minimum and maximum interval between handoffs of a rotation.
MIN_HANDOFF_INTERVAL = timedelta(hours=1)
MAX_HANDOFF_INTERVAL = timedelta(days=366)
MAX_LAYERS = 100
MAX_MONTHS = 24
MAX_WEEKS = 52
_WEEK = timedelta(weeks=1)

NOT_AFTER_START = Text("must be after from.")
NO_WINDOWS = Text("at least one window is required.")
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?", re.ASCII)


# --- Types of fields -----------------------------------------------------------------------------------------------


def _day_or_local(text: str) -> str:
    """Returns a date or local time as stored."""
    try:
        if _LOCAL.fullmatch(text):
            return datetime.fromisoformat(text).isoformat(timespec="minutes")
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidValue(
            sentence('"{value}" is not a date; write it like 2026-01-05, or 2026-01-05T09:00.', value=text)
        ) from None


def _local(text: str) -> str:
    """Returns a local time as stored."""
    with suppress(ValueError):
        if _LOCAL.fullmatch(text):
            return datetime.fromisoformat(text).isoformat(timespec="minutes")
    raise InvalidValue(sentence('"{value}" is not a local time; write it like 2026-12-24T17:00.', value=text))


def _handoff_interval(value: object) -> timedelta | MonthInterval:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,3}\s+months?\s*", value):
        interval = schedules.parse_handoff_interval(" ".join(value.split()))
        if isinstance(interval, MonthInterval) and 1 <= interval.count <= MAX_MONTHS:
            return interval
        raise InvalidValue(sentence("must be 1 to {limit} months.", limit=MAX_MONTHS))
    every = parse_duration(value, MAX_HANDOFF_INTERVAL)
    if every < MIN_HANDOFF_INTERVAL:
        raise InvalidValue(sentence("must be at least {minimum}.", minimum=MIN_HANDOFF_INTERVAL))
    return every


def _handoff_day(value: object) -> str | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidValue(NOT_TEXT())
    return str(weekly_windows.parse_weekday(value.strip()))


def _calendar_url(url: str) -> str:
    url = re.sub(r"^webcals?://", "https://", url, flags=re.IGNORECASE)
    try:
        egress.check_url(url)
    except Permanent as error:
        raise InvalidValue(joined(error.reason, error.remedy_reason, separator=" ")) from None
    if crypto.is_masked(url):
        raise InvalidValue(sentence("is masked; enter the full URL."))
    return url


_ROLES = (*MemberRole, schedules.OWN_ROLES)

ShiftRoles = Annotated[tuple[str, ...], list_of_choices(_ROLES)]

_DayOrLocal = Annotated[str, Field(max_length=40), AfterValidator(_day_or_local)]
_Local = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_local)]
_HandoffInterval = Annotated[
    timedelta | MonthInterval,
    Parsed(_handoff_interval, {"type": "string", "pattern": rf"{inputs.PATTERN}|^[0-9]+ months?$"}),
]
_HandoffDay = Annotated[
    str | int,
    Parsed(
        _handoff_day,
        {"anyOf": [{"enum": weekly_windows.WEEKDAY_TEXTS}, {"type": "integer", "minimum": 1, "maximum": 31}]},
    ),
]


# --- Shifts --------------------------------------------------------------------------------------------------------


class WindowSpec(Spec):
    """A weekly window: from a time of day to another on some days, or continuously from `fri 17:00` to `mon 08:00`."""

    days: weekly_windows.WeekdayNumbers = Field(default=(), description="Days on which the window begins.")
    start: str = Field(
        min_length=1, max_length=200, alias="from", description="Start: `08:00`, or without `days`, `fri 17:00`."
    )
    end: str = Field(
        min_length=1,
        max_length=200,
        alias="to",
        description="End: `18:00`, which is on the next day if it is not after the start; or `mon 08:00`.",
    )

    @property
    def window(self) -> WeeklyWindow:
        """The window. Raises InvalidTime."""
        if self._is_continuous:
            return weekly_windows.parse_multi_day_window(self.start, self.end)
        start, end = parse_time(self.start), parse_time(self.end)
        return WeeklyWindow(frozenset(self.days), start, end)

    @property
    def _is_continuous(self) -> bool:
        has_letter = any(character.isalpha() for character in self.start + self.end)
        return has_letter and "days" not in self.given_keys

    def to_column(self) -> dict[str, Any]:
        return weekly_windows.write([self.window])[0]

    def check(self, errors: SpecErrors) -> None:
        is_continuous = self._is_continuous
        if not self.days and not is_continuous:
            errors.add("days", sentence("at least one day is required, such as [mon, tue]."), "missing")
        for key, text in (("from", self.start), ("to", self.end)):
            try:
                if is_continuous:
                    weekly_windows.parse_multi_day_window(text, text)
                else:
                    parse_time(text)
            except InvalidTime as error:
                errors.add(key, error.reason)
        if errors.has("from", "to") or is_continuous:
            return
        if self.window.start == weekly_windows.MINUTES_A_DAY:
            errors.add("from", sentence("must be before 24:00; write 00:00 on the next day."))
        elif self.window.start == self.window.end:
            errors.add("to", sentence("is the same as from; a whole day is 00:00 to 24:00."))


class RotateSpec(Spec):
    """A rotation: its users take turns."""

    every: _HandoffInterval = Field(
        default=_WEEK, description="Interval between handoffs: a duration such as `1w`, or months such as `1 month`."
    )
    at: TimeOfDay = Field(description="Local time of the handoffs, such as `09:00`.")
    on: _HandoffDay | None = Field(
        default=None,
        description="Day of the handoffs: a weekday for whole weeks; for months, a day of the month or the first such "
        "weekday.",
    )
    move: int = Field(
        default=1, ge=1, le=1000, description="Number of positions by which the users move on at each handoff."
    )
    windows: ListOf[WindowSpec] | None = Field(
        default=None, description="Weekly windows in which the shift runs. Default: always."
    )
    users: Names = Field(default=(), description="Usernames, in the order of the rotation.")
    roles: ShiftRoles = Field(
        default=(),
        description="Roles: the first user has the first of them, and so on; `own`: those in the group. Default: "
        "`primary`.",
    )

    def check(self, errors: SpecErrors) -> None:
        if isinstance(self.on, int):
            if not isinstance(self.every, MonthInterval):
                errors.add("on", NOT_TEXT())
            elif not 1 <= self.on <= 31:
                errors.add("on", sentence("must be a day of the month from 1 to 31."))
        elif self.on is not None and isinstance(self.every, timedelta) and self.every % _WEEK:
            errors.add("on", sentence("requires that every is whole weeks or months."))
        if self.windows is not None and not self.windows:
            errors.add("windows", NO_WINDOWS(), "missing")
        _check_users_and_roles(self, errors)
        if len(self.roles) > len(self.users) > 0:
            errors.add(
                "roles",
                sentence(
                    "{roles} roles require at least as many users; there are {users}.",
                    roles=len(self.roles),
                    users=len(self.users),
                ),
            )

    def stored(self) -> dict[str, Any]:
        stored: dict[str, Any] = {
            "every": _months(self.every)
            if isinstance(self.every, MonthInterval)
            else inputs.write_duration(self.every),
            "at": format_time(self.at),
        }
        if self.on is not None:
            stored["on"] = self.on
        if self.move != 1:
            stored["move"] = self.move
        if self.windows is not None:
            stored["windows"] = [window.to_column() for window in self.windows]
        return stored | {"roles": _stored_roles(self.roles)}


class FixedSpec(Spec):
    """Users who are on call together: in weekly windows, or for one period, which may repeat."""

    users: Names = Field(default=(), description="Usernames.")
    roles: ShiftRoles = Field(
        default=(), description="Roles that each user has; `own`: those in the group. Default: `primary`."
    )
    every: Annotated[Duration, at_most(MAX_WEEKS * _WEEK)] | None = Field(
        default=None, description="Interval at which the windows or the period repeat, in whole weeks. Default: `1w`."
    )
    start: _Local | None = Field(
        default=None, alias="from", description="Start of a single period, in local time, such as `2026-12-24T17:00`."
    )
    end: _Local | None = Field(default=None, alias="to", description="End of a single period, in local time.")
    windows: ListOf[WindowSpec] = Field(default=(), description="Weekly windows, unless there is a single period.")

    @property
    def is_period(self) -> bool:
        """Whether it is one period instead of weekly windows."""
        return not self.given_keys.isdisjoint(("from", "to"))

    def check(self, errors: SpecErrors) -> None:
        _check_users_and_roles(self, errors)
        if self.every is not None and (not self.every or self.every % _WEEK):
            errors.add("every", sentence("must be whole weeks, such as 2w."))
        if not self.is_period:
            if not self.windows:
                errors.add("windows", NO_WINDOWS(), "missing")
            return
        if "windows" in self.given_keys:
            errors.add("windows", sentence("enter either windows, or from and to."))
        for key, text in (("from", self.start), ("to", self.end)):
            if text is None:
                errors.add(key, REQUIRED(), "missing")
        if self.start is not None and self.end is not None:
            length = datetime.fromisoformat(self.end) - datetime.fromisoformat(self.start)
            if length <= timedelta():
                errors.add("to", NOT_AFTER_START())
            elif self.every is not None and length > self.every:
                errors.add("every", sentence("must not be shorter than the period."))

    def stored(self) -> dict[str, Any]:
        stored: dict[str, Any] = {} if self.every is None else {"every": inputs.write_duration(self.every)}
        windows = [window.to_column() for window in self.windows]
        stored |= {"from": self.start, "to": self.end} if self.is_period else {"windows": windows}
        return stored | {"roles": _stored_roles(self.roles)}


class CalendarSpec(Spec):
    """A calendar whose events name the users."""

    url: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_calendar_url)] = Field(
        description="Address of an iCalendar file."
    )
    roles: ShiftRoles = Field(
        default=(), description="Roles that each user has; `own`: those in the group. Default: `primary`."
    )

    def check(self, errors: SpecErrors) -> None:
        _check_roles(self.roles, errors)

    def stored(self) -> dict[str, Any]:
        return {"url": seal(self.url), "roles": _stored_roles(self.roles)}


def _check_users_and_roles(pattern: RotateSpec | FixedSpec, errors: SpecErrors) -> None:
    if not pattern.users:
        errors.add("users", sentence("at least one user is required."), "missing")
    _check_roles(pattern.roles, errors)


def _check_roles(roles: tuple[str, ...], errors: SpecErrors) -> None:
    if schedules.OWN_ROLES in roles and len(roles) > 1:
        errors.add(f"roles[{roles.index(schedules.OWN_ROLES)}]", sentence("own cannot be combined with other roles."))


def _stored_roles(roles: tuple[str, ...]) -> list[str]:
    return [str(role) for role in roles] or [str(MemberRole.PRIMARY)]


def _months(every: MonthInterval) -> str:
    return f"{every.count} month{'s' if every.count > 1 else ''}"


class ShiftSpec(Spec):
    """A shift of a schedule: exactly one of `rotate`, `fixed` and `calendar`."""

    name: Annotated[Line, Field(min_length=1, max_length=100)] = Field(description="Name, unique in the schedule.")
    layer: int = Field(default=1, ge=1, le=MAX_LAYERS, description="Layer: a shift overrides those of lower layers.")
    time_zone: TimeZone | None = Field(default=None, description="Time zone. Default: that of the schedule.")
    holidays: Annotated[OnHolidays, OneOf()] = Field(
        default=OnHolidays.RUN, description="Whether the shift runs on holidays, is skipped, or runs only then."
    )
    start: _DayOrLocal = Field(
        default="",
        description="First day, such as `2026-01-05`, or local time. A rotation requires a day: its handoffs are "
        "counted from it.",
    )
    end: _DayOrLocal = Field(default="", description="Last day, or local time of the end. Default: none.")
    rotate: RotateSpec | None = Field(default=None, description="Users who take turns.")
    fixed: FixedSpec | None = Field(default=None, description="Users who are on call in weekly windows or one period.")
    calendar: CalendarSpec | None = Field(default=None, description="Users whom a calendar's events name.")

    @property
    def kind(self) -> str:
        return next(kind for kind in schedules.KINDS if getattr(self, kind) is not None)

    @property
    def users(self) -> tuple[str, ...]:
        return self.rotate.users if self.rotate else self.fixed.users if self.fixed else ()

    def check(self, errors: SpecErrors) -> None:
        kinds = [kind for kind in schedules.KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            errors.add(
                kinds[-1] if kinds else "rotate",
                sentence("exactly one of rotate, fixed and calendar is required."),
                "invalid" if kinds else "missing",
            )
        elif self.rotate and len(self.start) != len("2026-01-05"):
            errors.add(
                "start",
                sentence("is required: the day from which handoffs are counted, such as 2026-01-05."),
                "missing",
            )
        elif self.fixed and not self.fixed.is_period and not self.start and (self.fixed.every or _WEEK) > _WEEK:
            errors.add("fixed.every", sentence("requires the shift's start: the weeks are counted from it."), "missing")
        if self.start and self.end and _last_moment(self.end) <= datetime.fromisoformat(self.start):
            errors.add("end", sentence("must not be before start."))

    def stored(self, user_ids: Iterable[int]) -> dict[str, Any]:
        stored: dict[str, Any] = {"name": self.name}
        if self.layer != 1:
            stored["layer"] = self.layer
        if self.time_zone is not None:
            stored["time_zone"] = self.time_zone
        if self.holidays is not OnHolidays.RUN:
            stored["holidays"] = str(self.holidays)
        pattern = getattr(self, self.kind).stored()
        stored[self.kind] = pattern if self.calendar else {**pattern, "users": list(user_ids)}
        return stored | {key: text for key, text in (("start", self.start), ("end", self.end)) if text}


def _last_moment(end: str) -> datetime:
    end_at = datetime.fromisoformat(end)
    return end_at + timedelta(days=1) if len(end) == len("2026-01-05") else end_at


UNKNOWN_CALENDAR = Text('no holiday calendar named "{name}".')
#: The model of holiday calendars, as a kind of `Reference`.
CALENDAR = "oncall.HolidayCalendar"

_GroupName = Annotated[str, Field(max_length=200)]


class OverrideSpec(Spec):
    """An override. Times without an offset are local in the schedule, which `resolved` applies."""

    role: Annotated[str, OneOf(("", *MemberRole))] = Field(default="", description="Role. Default: every role.")
    shift: str = Field(default="", max_length=200, description="Name of the shift. Default: every shift.")
    starts_at: Moment = Field(alias="from", description="Start, local in the time zone of the schedule.")
    ends_at: Moment = Field(alias="to", description="End.")
    name: Annotated[Line, Field(max_length=100)] = Field(default="", description="Name, for display.")
    user: str = Field(min_length=1, max_length=200, description="Username of the user who is on call.")
    instead_of: str = Field(
        default="", max_length=200, description="Username of the user who is replaced. Default: everyone."
    )

    def check(self, errors: SpecErrors) -> None:
        if self.instead_of and self.instead_of.casefold() == self.user.casefold():
            errors.add("instead_of", sentence("must not be the same user."))

    def resolved(self, zone: str, shifts: Iterable[str], errors: SpecErrors, path: str = "") -> Self:
        """Returns it with times in UTC and the shift as the schedule has it; adds errors below `path`."""
        shift_names = {name.casefold(): name for name in shifts}
        if self.shift and self.shift.casefold() not in shift_names:
            errors.add(
                f"{path}shift", sentence('no shift named "{shift}" in this schedule.', shift=self.shift), "not_found"
            )
        if errors.has(f"{path}from", f"{path}to"):
            return self
        starts_at, ends_at = in_utc(self.starts_at, zone), in_utc(self.ends_at, zone)
        if ends_at <= starts_at:
            errors.add(f"{path}to", NOT_AFTER_START())
        shift = shift_names.get(self.shift.casefold(), "")
        return self.model_copy(update={"starts_at": starts_at, "ends_at": ends_at, "shift": shift})


class ScheduleOverrideSpec(OverrideSpec):
    """An override, with its schedule."""

    schedule: str = Field(min_length=1, max_length=200, description="Name of the schedule.")


class ScheduleSpec(Spec):
    """A schedule: who is on call in its group. Without `overrides`, these stay unchanged."""

    group: _GroupName = Field(min_length=1, description="Name of the group.")
    time_zone: TimeZone | None = Field(default=None, description="Time zone. Default: that of the group.")
    shifts: ListOf[ShiftSpec] = Field(default=(), description="Shifts.")
    name: Name = Field(description="Unique name.")
    holiday_calendars: Names = Field(default=(), description="Names of the holiday calendars that shifts observe.")
    handover_notes: bool = Field(
        default=True,
        description="Whether a handover note is emailed to the outgoing and the incoming user when the shift changes.",
    )
    overrides: ListOf[OverrideSpec] | None = Field(
        default=None,
        description="Current and future overrides. Of two that overlap, the later applies. Default: unchanged.",
    )

    def check(self, errors: SpecErrors) -> None:
        if not self.shifts:
            errors.add("shifts", sentence("at least one shift is required."), "missing")
        errors.add_duplicates("shifts", (shift.name for shift in self.shifts), "name")
        if not self.holiday_calendars and any(shift.holidays is not OnHolidays.RUN for shift in self.shifts):
            errors.add(
                "holiday_calendars", sentence("at least one is required where a shift observes holidays."), "missing"
            )


def read_schedule(value: object, zone_of: Callable[[str], str] = lambda _group: "UTC") -> ScheduleSpec:
    """Parses a schedule. `zone_of` returns a group's time zone, for overrides.

    Raises Rejected, or RejectedAll, naming each field.
    """
    overrides: list[OverrideSpec] = []

    def resolve(spec: ScheduleSpec, errors: SpecErrors) -> None:
        zone, names = spec.time_zone or zone_of(spec.group), [shift.name for shift in spec.shifts]
        for index, override in enumerate(spec.overrides or ()):
            overrides.append(override.resolved(zone, names, errors, f"overrides[{index}]."))

    spec = ScheduleSpec.read(value, check=resolve)
    return spec if spec.overrides is None else spec.model_copy(update={"overrides": tuple(overrides)})


# --- Holiday calendars and support hours ---------------------------------------------------------------------------


class HolidaySpec(Spec):
    """A day of a holiday calendar."""

    date: str = Field(
        min_length=1, max_length=200, description="Date, such as `2026-12-24`, or `12-24` for every year."
    )
    name: Annotated[Line, Field(min_length=1, max_length=100)] = Field(description="Name of the holiday.")

    def check(self, errors: SpecErrors) -> None:
        try:
            weekly_windows.parse_custom_day(self.date, self.name)
        except ValueError:
            errors.add(
                "date",
                sentence(
                    '"{value}" is not a date; write it like 2026-12-24, or 12-24 for every year.', value=self.date
                ),
            )


class HolidayCalendarSpec(OwnedSpec):
    """A holiday calendar: the public holidays of a country or region, and further days."""

    country: Annotated[str, Field(max_length=2), AfterValidator(str.upper), InForm(_("Country"))] = Field(
        default="", description="Country by its ISO 3166-1 code, such as `CH`."
    )
    region: Annotated[str, InForm(_("Region"), _("ISO 3166-2 code without the country, such as ZH, BY or CA."))] = (
        Field(default="", max_length=10, description="Region by its ISO 3166-2 code, such as `ZH`.")
    )
    days: ListOf[HolidaySpec] = Field(default=(), description="Further days.")

    def check(self, errors: SpecErrors) -> None:
        if self.country and (problem := weekly_windows.find_problem(self.country, self.region)):
            errors.add(*problem)
        if self.region and not self.country:
            errors.add("country", sentence("is required for a region."), "missing")
        errors.add_duplicates("days", (day.date for day in self.days), "date")
        if not self.country and not self.days and not errors.has("days"):
            errors.add("country", sentence("enter a country, days, or both."), "missing")


class SupportHoursSpec(OwnedSpec):
    """Support hours."""

    time_zone: Annotated[TimeZone | None, InForm(_("Time zone"), widget="zone", is_required=True)] = Field(
        default=None, description="Time zone. Default: that of the settings."
    )
    windows: Annotated[
        ListOf[WindowSpec],
        InForm(_("Open"), _("An end time before the start is on the next day."), is_required=True),
    ] = Field(default=(), description="Weekly windows.")
    holiday_calendars: Annotated[
        tuple[int, ...],
        list_of(str, {}),
        Reference(CALENDAR, UNKNOWN_CALENDAR),
        InForm(_("Closed on holidays of"), widget="checkboxes"),
    ] = Field(default=(), description="Names of holiday calendars, on whose days there are no support hours.")

    def check(self, errors: SpecErrors) -> None:
        if not self.windows:
            errors.add("windows", NO_WINDOWS(), "missing")
