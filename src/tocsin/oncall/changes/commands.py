"""Changes schedules, support hours and holiday calendars: validates, writes the audit log, and makes all nodes reload.

Overrides are changed by `oncall.changes.overrides`, or with a schedule whose spec lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, Text, sentence
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import NO_SUCH_GROUP, NO_SUCH_USER, raise_all, rejected_at
from tocsin.oncall import loader
from tocsin.oncall.calculation import schedules
from tocsin.oncall.calculation.final_schedule import GroupPlan
from tocsin.oncall.calculation.schedules import Shift
from tocsin.oncall.changes import overrides, specs
from tocsin.oncall.changes.specs import HolidayCalendarSpec, ScheduleSpec, SupportHoursSpec
from tocsin.oncall.models import CalendarImport, HolidayCalendar, Schedule, SupportHours
from tocsin.people import addresses
from tocsin.people.changes import out_of_office
from tocsin.people.changes.flat_objects import FlatObject
from tocsin.people.models import Group, User, find_group

# ---------- calendar imports
# Keeps one row for each shift that is imported from an external iCal calendar.
# `oncall.calendars.calendar_import_worker` imports them. The last import stays in force while a calendar cannot be
# read.


def sync_imports(schedule: Schedule, now: datetime) -> None:
    """Creates, updates and deletes the import rows of a schedule, in the caller's transaction.

    A new URL is imported at once, and the data of the old one is deleted. A known URL is imported at once too, because
    the time zone may have changed. Its data stays in force until then, also under a new name of the shift.
    """
    urls_by_shift = specs.in_definition(schedule.definition)
    rows_by_shift = {row.shift: row for row in schedule.imports.all()}
    renamed = {
        addresses.decrypt_if_encrypted(row.url): row for name, row in rows_by_shift.items() if name not in urls_by_shift
    }
    unchanged = {
        name: row
        for name, url in urls_by_shift.items()
        if (row := rows_by_shift[name] if name in rows_by_shift else renamed.pop(url, None)) is not None
        and addresses.decrypt_if_encrypted(row.url) == url
    }
    schedule.imports.exclude(pk__in=[row.pk for row in unchanged.values()]).exclude(shift__in=urls_by_shift).delete()
    for name, row in unchanged.items():
        row.shift, row.due_at = name, now
        row.save(update_fields=["shift", "due_at"])
    for name in urls_by_shift.keys() - unchanged.keys():
        CalendarImport.objects.update_or_create(
            schedule=schedule,
            shift=name,
            defaults={
                "url": specs.seal(urls_by_shift[name]),
                "due_at": now,
                "read_at": None,
                "error": NO_REASON,
                "unknown": [],
                "spans": [],
            },
        )


def schedule_spec(
    schedule: Schedule,
    names: Mapping[int, str] | None = None,
    *,
    calendars: Mapping[int, str] | None = None,
    now: datetime | None = None,
    with_secrets: bool = False,
) -> dict[str, Any]:
    """Returns the schedule in the form of YAML and the API, with current and future overrides.

    `names` and `calendars` are the names of users and holiday calendars by id, for callers that show many schedules.
    `now` defaults to the clock. Full calendar URLs are included only `with_secrets`.
    """
    spec = spec_without_overrides(schedule, names, calendars, with_secrets=with_secrets)
    current = overrides.current(schedule, now or clock.now())
    if current:
        # In the order of creation, which decides between two that overlap.
        spec["overrides"] = [overrides.nested_spec(override) for override in sorted(current, key=lambda one: one.pk)]
    return spec


def schedule_state(schedule: Schedule) -> dict[str, Any]:
    """Returns the spec with full calendar URLs. Only for comparing states, never for display."""
    return schedule_spec(schedule, with_secrets=True)


def spec_without_overrides(
    schedule: Schedule,
    names: Mapping[int, str] | None = None,
    calendars: Mapping[int, str] | None = None,
    *,
    with_secrets: bool = False,
) -> dict[str, Any]:
    """Returns the spec without the overrides, which are separate objects."""
    if names is None:
        names = user_names([schedule])
    spec: dict[str, Any] = {"name": schedule.name, "group": schedule.group.name, "time_zone": schedule.time_zone}
    if schedule.holiday_calendars:
        known = calendar_names() if calendars is None else calendars
        spec["holiday_calendars"] = [known[number] for number in schedule.holiday_calendars if number in known]
    if not schedule.handover_notes:
        spec["handover_notes"] = False
    return spec | {"shifts": [_written_shift(shift, names, with_secrets) for shift in schedule.definition["shifts"]]}


def user_names(rows: Iterable[Schedule], column: str = "username") -> dict[int, str]:
    """Returns the names of all users with shifts in these schedules, by id, in one query."""
    users = frozenset[int]().union(*(users_of(schedule) for schedule in rows))
    return dict(User.objects.filter(pk__in=users).values_list("pk", column))


def calendar_names() -> dict[int, str]:
    return dict(HolidayCalendar.objects.values_list("pk", "name"))


def save_schedule(
    spec: Mapping[str, object], *, existing: Schedule | None = None, actor: AuditActor, now: datetime
) -> Schedule:
    """Creates a schedule, or changes `existing` to match the spec. Without `overrides` in the spec, they stay.

    Raises Rejected, naming the field.
    """
    with boundary.command():
        settings_store.lock()
        before = spec_without_overrides(existing) if existing else None
        urls_before = specs.in_definition(existing.definition) if existing else {}
        read, draft = _validate(spec, existing)
        schedule = existing or Schedule()
        schedule.name, schedule.group, schedule.definition = draft.name, draft.group, draft.definition
        schedule.time_zone, schedule.holiday_calendars = draft.time_zone, draft.holiday_calendars
        schedule.handover_notes = draft.handover_notes
        schedule.save()
        sync_imports(schedule, now)
        if read.overrides is not None:
            overrides.replace_all(schedule, read.overrides, is_new=existing is None, actor=actor, now=now)
        overrides.drop_orphans(schedule, actor=actor, now=now)
        changed_secrets = ["calendar"] if specs.in_definition(schedule.definition) != urls_before else []
        after = spec_without_overrides(schedule)
        audit.record_config_audit("schedule", schedule, before, after, actor=actor, now=now, secrets=changed_secrets)
    return schedule


def check_schedule(spec: Mapping[str, object], *, existing: Schedule | None = None) -> Schedule:
    """Returns the schedule that the spec describes, unsaved. Raises Rejected as `save_schedule` does."""
    return _validate(spec, existing)[1]


def _validate(spec: Mapping[str, object], existing: Schedule | None) -> tuple[ScheduleSpec, Schedule]:
    if existing:
        spec = specs.restore_masked_urls(spec, existing.definition)
    read = specs.read_schedule(spec, zone_of=lambda name: existing.time_zone if existing else _zone_of(name))
    others = Schedule.objects.exclude(pk=existing.pk) if existing else Schedule.objects.all()
    if others.filter(name__iexact=read.name).exists():
        raise Rejected("name_taken", sentence('There is already a schedule "{name}".', name=read.name), "name")
    group = find_group(read.group)
    if group is None:
        raise rejected_at("group", NO_SUCH_GROUP(name=read.group), "not_found")
    users = {
        f"shifts[{index}].{shift.kind}.users[{number}]": user
        for index, shift in enumerate(read.shifts)
        for number, user in enumerate(shift.users)
    }
    calendars = {f"holiday_calendars[{index}]": name for index, name in enumerate(read.holiday_calendars)}
    user_ids = _visible_ids(User.objects.all(), "username", users, NO_SUCH_USER)
    calendar_ids = _visible_ids(HolidayCalendar.objects.all(), "name", calendars, specs.UNKNOWN_CALENDAR)
    return read, Schedule(
        name=read.name,
        group=group,
        time_zone=read.time_zone or group.time_zone,
        definition={"shifts": [shift.stored(user_ids[user.lower()] for user in shift.users) for shift in read.shifts]},
        holiday_calendars=[calendar_ids[name.lower()] for name in read.holiday_calendars],
        handover_notes=read.handover_notes,
    )


def _save_support_hours(
    read: SupportHoursSpec, hours: SupportHours, /, *, before: Mapping[str, Any] | None, now: datetime
) -> Iterator[None]:
    hours.time_zone = read.time_zone or settings_store.get(settings_store.TIME_ZONE)
    yield


SUPPORT_HOURS = FlatObject("support_hours", SupportHours, SupportHoursSpec, own_step=_save_support_hours)
save_support_hours = SUPPORT_HOURS.save

HOLIDAY_CALENDARS = FlatObject("holiday_calendar", HolidayCalendar, HolidayCalendarSpec)
save_holiday_calendar = HOLIDAY_CALENDARS.save


def shifts_of(schedule: Schedule) -> tuple[Shift, ...]:
    """Returns the schedule's shifts with their imported data, for checking who may ever be on call in it."""
    imported = {row.shift: loader.imported_spans(row.spans) for row in schedule.imports.all()}
    return schedules.load(schedule.name, schedule.time_zone, schedule.definition, imported=imported).shifts


def stand_ins_by_user(user_id: int) -> list[Reason]:
    """Returns this user's current and future overrides and covers, which prevent the user's deletion."""
    return [
        *overrides.overrides_using_user(user_id, clock.now()),
        *out_of_office.absences_using_user(user_id, clock.now()),
    ]


def users_of(schedule: Schedule) -> frozenset[int]:
    return frozenset(user for shift in schedule.definition["shifts"] for user in schedules.users_of(shift))


def _zone_of(group: str) -> str:
    row = Group.objects.filter(name__iexact=group).first()
    return row.time_zone if row else "UTC"


def _written_shift(stored: Mapping[str, Any], names: Mapping[int, str], with_secrets: bool) -> dict[str, Any]:
    """Returns a shift as users write it, with its keys in the usual order: jsonb does not keep the order of keys."""
    kind = schedules.kind_of(stored)
    pattern = dict(stored[kind])
    if "users" in pattern:
        pattern["users"] = [names[user] for user in pattern["users"] if user in names]
    if "url" in pattern:
        pattern["url"] = (
            addresses.decrypt_if_encrypted(pattern["url"]) if with_secrets else specs.mask_urls(pattern["url"])
        )
    order = ("every", "at", "on", "move", "windows", "from", "to", "url", "users", "roles")
    shift: dict[str, Any] = {"name": stored["name"]}
    shift |= {key: stored[key] for key in ("layer", "time_zone") if key in stored}
    shift[kind] = {key: pattern[key] for key in order if key in pattern}
    return shift | {key: stored[key] for key in ("start", "end", "holidays") if key in stored}


def _visible_ids(rows: QuerySet[Any], column: str, named: Mapping[str, str], unknown: Text) -> dict[str, int]:
    """Returns the ids of objects by lower-case name. Raises Rejected for the names that none has, by their paths."""
    with boundary.as_viewer():
        ids = {name.lower(): number for number, name in rows.values_list("pk", column)}
    raise_all(
        rejected_at(path, unknown(name=name), "not_found") for path, name in named.items() if name.lower() not in ids
    )
    return ids


# ---------- schedule preview
# Previews a schedule before it is saved: validates its spec as saving does, and adds it to its group's plan.
# Writes nothing.


def plan_with(spec: Mapping[str, object], *, existing: Schedule | None, now: datetime) -> GroupPlan:
    """Returns the group's plan from `now` on, with the schedule as in the spec and its overrides unchanged.

    Raises Rejected, naming the field, as saving it would.
    """
    draft = check_schedule(spec, existing=existing)
    with database.transaction() as connection:
        group_plan = loader.plan(connection, draft.group.pk, now)
        if group_plan is None:
            raise rejected_at("group", NO_SUCH_GROUP(name=draft.group.name), "not_found")
        number = existing.pk if existing else None
        # A schedule that moves to another group keeps its overrides, which are not in that group's plan.
        previous = next((one for one in group_plan.schedules if one.id == number), None)
        calendars = loader.holiday_calendars(connection, draft.holiday_calendars)
        compiled = schedules.load(
            draft.name,
            draft.time_zone,
            draft.definition,
            number=number or 0,
            calendars=[calendars[one] for one in draft.holiday_calendars if one in calendars],
            imported={row.shift: loader.imported_spans(row.spans) for row in existing.imports.all()}
            if existing
            else {},
            overrides=previous.overrides if previous else (),
        )
        return loader.with_schedule(connection, group_plan, compiled, number, now)
