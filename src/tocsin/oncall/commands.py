"""Changing schedules and support hours: checked, recorded in the audit log, known to every node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import Actor
from tocsin.core import configuration, dependents, settings_store
from tocsin.core.errors import Rejected
from tocsin.core.specs import raise_all
from tocsin.oncall import schedules, specs, windows
from tocsin.oncall.models import Schedule, SupportHours
from tocsin.oncall.specs import ScheduleSpec
from tocsin.people.models import Group, User


def schedule_spec(schedule: Schedule, names: Mapping[int, str] | None = None) -> dict[str, Any]:
    """The schedule as YAML and the API write one. `names` has the users' names by id, for whoever shows many."""
    if names is None:
        names = user_names([schedule])
    return {
        "name": schedule.name,
        "group": schedule.group.name,
        "time_zone": schedule.time_zone,
        "shifts": [_written_shift(shift, names) for shift in schedule.definition["shifts"]],
    }


def user_names(schedules: Iterable[Schedule]) -> dict[int, str]:
    """The names of all users who have shifts in any of `schedules`, by id, in one statement."""
    users = frozenset[int]().union(*(_users_of(schedule) for schedule in schedules))
    return dict(User.objects.filter(pk__in=users).values_list("pk", "username"))


def save_schedule(
    spec: Mapping[str, object], *, existing: Schedule | None = None, actor: Actor, now: datetime
) -> Schedule:
    """Makes a schedule, or makes `existing` what the spec says. Raises Rejected that names the place."""
    with transaction.atomic():
        configuration.lock()
        read = specs.read_schedule(spec)
        others = Schedule.objects.exclude(pk=existing.pk) if existing else Schedule.objects.all()
        if others.filter(name__iexact=read.name).exists():
            raise Rejected("name_taken", f'There is a schedule "{read.name}" already.', "name")
        group = _group(read.group)
        assert group is not None
        definition = {"shifts": _shifts_with_ids(read)}
        before = schedule_spec(existing) if existing else None
        schedule = existing or Schedule()
        schedule.name, schedule.group, schedule.definition = read.name, group, definition
        schedule.time_zone = read.time_zone or group.time_zone
        schedule.save()
        _record("schedule", schedule, before, schedule_spec(schedule), actor, now)
    return schedule


def delete_schedule(schedule: Schedule, *, actor: Actor, now: datetime) -> None:
    """Deletes a schedule: its group's role holders are on call again."""
    with transaction.atomic():
        configuration.lock()
        dependents.refuse_deletion("schedule", schedule.pk, schedule.name)
        _record("schedule", schedule, schedule_spec(schedule), None, actor, now)
        schedule.delete()


def support_hours_spec(hours: SupportHours) -> dict[str, Any]:
    """The support hours as YAML and the API write them."""
    spec: dict[str, Any] = {"name": hours.name, "time_zone": hours.time_zone, "windows": hours.windows}
    if hours.group:
        spec["group"] = hours.group.name
    return spec


def save_support_hours(
    spec: Mapping[str, object], *, existing: SupportHours | None = None, actor: Actor, now: datetime
) -> SupportHours:
    """Makes support hours, or makes `existing` what the spec says. Raises Rejected that names the place."""
    with transaction.atomic():
        configuration.lock()
        read = specs.read_support_hours(spec, default_zone=settings_store.get(settings_store.TIME_ZONE))
        others = SupportHours.objects.exclude(pk=existing.pk) if existing else SupportHours.objects.all()
        if others.filter(name__iexact=read.name).exists():
            raise Rejected("name_taken", f'There are support hours "{read.name}" already.', "name")
        before = support_hours_spec(existing) if existing else None
        hours = existing or SupportHours()
        hours.name, hours.group, hours.time_zone = read.name, _group(read.group), read.time_zone
        hours.windows = windows.write(read.windows)
        hours.save()
        _record("support_hours", hours, before, support_hours_spec(hours), actor, now)
    return hours


def delete_support_hours(hours: SupportHours, *, actor: Actor, now: datetime) -> None:
    """Deletes support hours. Raises Rejected ("in_use") while a route needs them."""
    with transaction.atomic():
        configuration.lock()
        dependents.refuse_deletion("support_hours", hours.pk, hours.name)
        _record("support_hours", hours, support_hours_spec(hours), None, actor, now)
        hours.delete()


def needs_user(user_id: int) -> list[str]:
    """The schedules in which that user has shifts, for whoever wants to delete the user."""
    return [f"schedule {schedule.name}" for schedule in Schedule.objects.all() if user_id in _users_of(schedule)]


def needs_group(group_id: int) -> list[str]:
    """The schedules of that group and the support hours it owns, for whoever wants to delete the group."""
    return [
        *(f"schedule {name}" for name in Schedule.objects.filter(group=group_id).values_list("name", flat=True)),
        *(
            f"support hours {name}"
            for name in SupportHours.objects.filter(group=group_id).values_list("name", flat=True)
        ),
    ]


def _users_of(schedule: Schedule) -> frozenset[int]:
    return schedules.load(schedule.name, schedule.time_zone, schedule.definition).users


def _written_shift(stored: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """A shift as people write it, its keys in the order in which they do: the database's JSON has one of its own."""
    kind = "rotate" if "rotate" in stored else "fixed"
    users = [names[user] for user in stored[kind]["users"] if user in names]
    turn = {**stored[kind], "users": users}
    order = ("every", "at", "on", "windows", "users", "roles")
    shift = {"name": stored["name"], kind: {key: turn[key] for key in order if key in turn}}
    return shift | {key: stored[key] for key in ("start", "end") if key in stored}


def _group(name: str | None) -> Group | None:
    if name is None:
        return None
    group = Group.objects.filter(name__iexact=name).first()
    if group is None:
        raise Rejected("not_found", f'group: there is no group "{name}".', "group")
    return group


def _shifts_with_ids(read: ScheduleSpec) -> list[dict[str, Any]]:
    ids = {username.lower(): number for number, username in User.objects.values_list("pk", "username")}
    raise_all(
        Rejected("not_found", f'{shift.place}[{number}]: there is no user "{user}".', f"{shift.place}[{number}]")
        for shift in read.shifts
        for number, user in enumerate(shift.users)
        if user.lower() not in ids
    )
    return [shift.with_users([ids[user.lower()] for user in shift.users]) for shift in read.shifts]


def _record(
    noun: str,
    row: Schedule | SupportHours,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    actor: Actor,
    now: datetime,
) -> None:
    if audit.record_change(
        actor, now=now, object_type=noun, object_id=row.pk, object_name=row.name, before=before, after=after
    ):
        configuration.changed()
