"""Schedules, overrides, holiday calendars and support hours as YAML, the API and forms write them. The commands resolve
names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, Field

from tocsin.core.reasons import ReasonType
from tocsin.core.validation.spec import Spec, SpecErrors
from tocsin.core.validation.spec_types import Line, ListOf, Moment, Name, Names, OneOf, OwnedSpec, TimeZone, in_utc
from tocsin.oncall.calculation import holiday_calendars
from tocsin.oncall.calculation.shifts import OnHolidays
from tocsin.oncall.changes.shift_specs import NO_WINDOWS, NOT_AFTER_START, ShiftSpec, WindowSpec
from tocsin.people.member_roles import MemberRole

_NO_SHIFTS = ReasonType("schedule.shifts_missing", "at least one shift is required.")
_CALENDAR_NEEDED = ReasonType(
    "schedule.holiday_calendar_missing", "at least one is required where a shift observes holidays."
)
_COUNTRY_NEEDED = ReasonType("holiday.country_missing", "is required for a region.")
_COUNTRY_OR_DAYS_NEEDED = ReasonType("holiday.country_or_days_missing", "enter a country, days, or both.")
_UNKNOWN_SHIFT = ReasonType("override.unknown_shift", 'no shift named "{shift}" in this schedule.')
_SAME_USER = ReasonType("override.same_user", "must not be the same user.")
_NOT_A_YEARLY_DATE = ReasonType(
    "holiday.not_a_date", '"{value}" is not a date; write it like 2026-12-24, or 12-24 for every year.'
)

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
            errors.add("instead_of", _SAME_USER())

    def resolved(self, zone: str, shifts: Iterable[str], errors: SpecErrors, path: str = "") -> Self:
        """Returns it with times in UTC and the shift as the schedule has it; adds errors below `path`."""
        shift_names = {name.casefold(): name for name in shifts}
        if self.shift and self.shift.casefold() not in shift_names:
            errors.add(f"{path}shift", _UNKNOWN_SHIFT(shift=self.shift), "not_found")
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
            errors.add("shifts", _NO_SHIFTS(), "missing")
        errors.add_duplicates("shifts", (shift.name for shift in self.shifts), "name")
        if not self.holiday_calendars and any(shift.holidays is not OnHolidays.RUN for shift in self.shifts):
            errors.add("holiday_calendars", _CALENDAR_NEEDED(), "missing")


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
            holiday_calendars.parse_custom_day(self.date, self.name)
        except ValueError:
            errors.add("date", _NOT_A_YEARLY_DATE(value=self.date))


class HolidayCalendarSpec(OwnedSpec):
    """A holiday calendar: the public holidays of a country or region, and further days."""

    country: Annotated[str, Field(max_length=2), AfterValidator(str.upper)] = Field(
        default="", description="Country by its ISO 3166-1 code, such as `CH`."
    )
    region: str = Field(default="", max_length=10, description="Region by its ISO 3166-2 code, such as `ZH`.")
    days: ListOf[HolidaySpec] = Field(default=(), description="Further days.")

    def check(self, errors: SpecErrors) -> None:
        if self.country and (problem := holiday_calendars.find_problem(self.country, self.region)):
            errors.add(*problem)
        if self.region and not self.country:
            errors.add("country", _COUNTRY_NEEDED(), "missing")
        errors.add_duplicates("days", (day.date for day in self.days), "date")
        if not self.country and not self.days and not errors.has("days"):
            errors.add("country", _COUNTRY_OR_DAYS_NEEDED(), "missing")


class SupportHoursSpec(OwnedSpec):
    """Support hours."""

    time_zone: TimeZone | None = Field(default=None, description="Time zone. Default: that of the settings.")
    windows: ListOf[WindowSpec] = Field(default=(), description="Weekly windows.")
    holiday_calendars: Names = Field(
        default=(), description="Names of holiday calendars, on whose days there are no support hours."
    )

    def check(self, errors: SpecErrors) -> None:
        if not self.windows:
            errors.add("windows", NO_WINDOWS(), "missing")
