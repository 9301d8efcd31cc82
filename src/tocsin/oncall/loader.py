"""Loads the data that decides who is on call, for many groups at once, over a pool connection.

`on_call` returns the result for a moment. For a timeline, call `final_schedule.timeline(plan(connection, group_id,
since), since, until)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.access import boundary
from tocsin.access.roles import MemberRole
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.oncall.calculation import final_schedule, schedules, weekly_windows
from tocsin.oncall.calculation.final_schedule import Absence, GroupPlan, OnCall, SnapshotMember, SnapshotUser
from tocsin.oncall.calculation.schedules import CompiledOverride, CompiledSchedule, ImportedShifts
from tocsin.oncall.calculation.weekly_windows import CompiledSupportHours, HolidayDays
from tocsin.people.sql import join_user, load_users

_GROUPS = "SELECT id, name FROM people_group WHERE id = ANY(%s)"

_MEMBERS = f"""
SELECT m.group_id, m.user_id, u.display_name AS name, m.roles, m.position, u.is_active
FROM people_membership m {join_user("m.user_id")}
WHERE m.group_id = ANY(%s) ORDER BY m.group_id, m.position, m.id
"""

_SCHEDULES = """
SELECT id, group_id, name, time_zone, definition, holiday_calendars FROM oncall_schedule WHERE group_id = ANY(%s)
ORDER BY name
"""

_OVERRIDES = """
SELECT id, schedule_id, name, user_id, instead_of_id, shift, role, starts_at, ends_at FROM oncall_override
WHERE schedule_id = ANY(%s) AND ends_at > %s ORDER BY id
"""

_IMPORTS = "SELECT schedule_id, shift, spans FROM oncall_calendarimport WHERE schedule_id = ANY(%s)"

_CALENDARS = "SELECT id, name, country, region, days FROM oncall_holidaycalendar WHERE id = ANY(%s) ORDER BY name"

_GROUPS_OF = """
WITH RECURSIVE covers AS (
    SELECT user_id, cover_id FROM people_outofoffice WHERE cover_id IS NOT NULL
    UNION SELECT a.user_id, c.user_id FROM people_outofoffice a JOIN people_outofofficecover c ON c.absence_id = a.id
), concerned AS (
    SELECT unnest(%(users)s::bigint[]) AS id
    UNION SELECT covers.user_id FROM covers JOIN concerned ON concerned.id = covers.cover_id
)
SELECT m.group_id FROM people_membership m JOIN concerned c ON c.id = m.user_id
UNION SELECT s.group_id FROM oncall_schedule s, concerned c
    WHERE jsonb_path_exists(s.definition, '$.shifts[*].*.users[*] ? (@ == $id)', jsonb_build_object('id', c.id))
UNION SELECT s.group_id FROM oncall_override o JOIN concerned c ON c.id = o.user_id
    JOIN oncall_schedule s ON s.id = o.schedule_id
UNION SELECT s.group_id FROM oncall_calendarimport i JOIN oncall_schedule s ON s.id = i.schedule_id, concerned c
    WHERE jsonb_path_exists(i.spans, '$[*][0] ? (@ == $id)', jsonb_build_object('id', c.id))
"""

_ABSENCES = """
SELECT a.user_id, a.starts_at, a.ends_at, a.cover_id, c.covers
FROM people_outofoffice a LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(group_id, user_id) AS covers FROM people_outofofficecover WHERE absence_id = a.id
) c ON true
WHERE a.user_id = ANY(%s) AND a.ends_at > %s ORDER BY a.starts_at, a.id
"""


def on_call(connection: Connection, group_ids: Iterable[int], at: datetime) -> dict[int, tuple[OnCall, ...]]:
    """Returns who is on call in each group at `at`, by group id, without groups that no longer exist.

    Takes at most eight queries, however many groups there are.
    """
    return {group_id: final_schedule.on_call(plan, at) for group_id, plan in plans(connection, group_ids, at).items()}


def plan(connection: Connection, group_id: int, since: datetime) -> GroupPlan | None:
    """Returns everything that decides who is on call in a group from `since` on; None if the group does not exist."""
    return plans(connection, [group_id], since).get(group_id)


def plans(connection: Connection, group_ids: Iterable[int], since: datetime) -> dict[int, GroupPlan]:
    """Returns several groups' plans, by id, without overrides and absences that ended over 400 days before `since`."""
    requested_ids = sorted(set(group_ids))
    if not requested_ids:
        return {}
    earliest = since - final_schedule.HORIZONS[-1]
    names = {row["id"]: row["name"] for row in database.rows(connection, _GROUPS, (requested_ids,))}
    members = _members(connection, requested_ids)
    schedules_by_group = _schedules(connection, requested_ids, earliest)
    user_ids = {member.user_id for group_items in members.values() for member in group_items}
    user_ids |= {
        user for group_items in schedules_by_group.values() for schedule in group_items for user in schedule.users
    }
    absences = _absences(connection, user_ids, earliest)
    users = _users(connection, members, user_ids.union(*(_cover_ids(absence) for absence in absences)))
    return {
        group_id: _plan(
            group_id, name, members.get(group_id, ()), schedules_by_group.get(group_id, ()), absences, users
        )
        for group_id, name in names.items()
    }


def with_schedule(
    connection: Connection, group_plan: GroupPlan, schedule: CompiledSchedule, replaced: int | None, since: datetime
) -> GroupPlan:
    """Returns the plan as it would be with this schedule, in place of the one with the id `replaced`, if any."""
    other_schedules = [one for one in group_plan.schedules if one.id != replaced]
    planned = sorted([*other_schedules, schedule], key=lambda one: one.name)
    user_ids = {member.user_id for member in group_plan.members}.union(*(one.users for one in planned))
    absences = _absences(connection, user_ids, since - final_schedule.HORIZONS[-1])
    users = _users(
        connection, {group_plan.id: group_plan.members}, user_ids.union(*(_cover_ids(absence) for absence in absences))
    )
    return _plan(group_plan.id, group_plan.name, group_plan.members, planned, absences, users)


def on_schedules(
    connection: Connection, schedule_ids: Iterable[int], at: datetime
) -> dict[int, tuple[str, tuple[OnCall, ...]]]:
    """Returns each schedule's name and who is on call by it alone, by schedule id. Deleted ones are left out."""
    requested_ids = sorted(set(schedule_ids))
    if not requested_ids:
        return {}
    rows = database.rows(
        connection, "SELECT id, name, group_id FROM oncall_schedule WHERE id = ANY(%s)", (requested_ids,)
    )
    on_call_by_group = on_call(connection, (row["group_id"] for row in rows), at)
    return {
        row["id"]: (row["name"], tuple(one for one in on_call_by_group[row["group_id"]] if one.schedule == row["name"]))
        for row in rows
    }


def groups_of(connection: Connection, user_ids: Iterable[int]) -> frozenset[int]:
    """Returns the groups in which any of the users may be on call: by a role, a shift, an override, or as cover."""
    rows = database.rows(connection, _GROUPS_OF, {"users": sorted(set(user_ids))})
    return frozenset(row["group_id"] for row in rows)


def groups_with_schedule(connection: Connection) -> frozenset[int]:
    """Returns the groups that have a schedule, within the viewer's boundary."""
    rows = database.rows(connection, "SELECT DISTINCT group_id FROM oncall_schedule")
    group_ids = frozenset(row["group_id"] for row in rows)
    limit = boundary.current()
    return group_ids if limit is None else group_ids & limit.groups


def holiday_calendars(connection: Connection, calendar_ids: Iterable[int]) -> dict[int, HolidayDays]:
    """Returns the holiday calendars with these ids, by id."""
    sorted_ids = sorted(set(calendar_ids))
    if not sorted_ids:
        return {}
    calendars = {
        row["id"]: weekly_windows.load_holiday_calendar(row["name"], row["country"], row["region"], row["days"])
        for row in database.rows(connection, _CALENDARS, (sorted_ids,))
    }
    for days in calendars.values():
        # The first access takes a second. It is better spent here than while a message waits.
        days.holiday_on(datetime.now(UTC).date())
    return calendars


def support_hours(connection: Connection) -> dict[int, CompiledSupportHours]:
    """Returns all support hours by id, for the `during` condition of routes."""
    query = "SELECT id, name, time_zone, windows, holiday_calendars FROM oncall_supporthours"
    rows = list(database.rows(connection, query))
    calendars = holiday_calendars(connection, (number for row in rows for number in row["holiday_calendars"]))
    return {
        row["id"]: CompiledSupportHours(
            row["name"],
            ZoneInfo(row["time_zone"]),
            weekly_windows.load(row["windows"]),
            tuple(calendars[number] for number in row["holiday_calendars"] if number in calendars),
        )
        for row in rows
    }


def _plan(
    group_id: int,
    name: str,
    members: Sequence[SnapshotMember],
    planned: Sequence[CompiledSchedule],
    absences: Sequence[Absence],
    users: Mapping[int, SnapshotUser],
) -> GroupPlan:
    """Returns the group's plan with only the absences that affect it: of its users, and of those who cover."""
    user_ids = {member.user_id for member in members}.union(*(schedule.users for schedule in planned))
    relevant = [absence for absence in absences if absence.user_id in user_ids]
    while covers := {cover for absence in relevant for cover in absence.cover_ids_in(group_id)} - user_ids:
        user_ids |= covers
        relevant += [absence for absence in absences if absence.user_id in covers]
    return GroupPlan(
        group_id,
        name,
        tuple(members),
        tuple(planned),
        {user: users[user] for user in user_ids if user in users},
        tuple(relevant),
    )


def _members(connection: Connection, group_ids: list[int]) -> dict[int, list[SnapshotMember]]:
    members: dict[int, list[SnapshotMember]] = {}
    for row in database.rows(connection, _MEMBERS, (group_ids,)):
        roles = frozenset(MemberRole(role) for role in row["roles"])
        member = SnapshotMember(row["user_id"], row["name"], roles, row["position"], row["is_active"])
        members.setdefault(row["group_id"], []).append(member)
    return members


def _schedules(connection: Connection, group_ids: list[int], earliest: datetime) -> dict[int, list[CompiledSchedule]]:
    rows = list(database.rows(connection, _SCHEDULES, (group_ids,)))
    if not rows:
        return {}
    numbers = [row["id"] for row in rows]
    calendars = holiday_calendars(connection, (number for row in rows for number in row["holiday_calendars"]))
    overrides: dict[int, list[CompiledOverride]] = {}
    for row in database.rows(connection, _OVERRIDES, (numbers, earliest)):
        overrides.setdefault(row["schedule_id"], []).append(_override(row))
    imported: dict[int, dict[str, ImportedShifts]] = {}
    for row in database.rows(connection, _IMPORTS, (numbers,)):
        imported.setdefault(row["schedule_id"], {})[row["shift"]] = imported_spans(row["spans"])
    by_group: dict[int, list[CompiledSchedule]] = {}
    for row in rows:
        loaded = schedules.load(
            row["name"],
            row["time_zone"],
            row["definition"],
            number=row["id"],
            calendars=[calendars[number] for number in row["holiday_calendars"] if number in calendars],
            imported=imported.get(row["id"]),
            overrides=overrides.get(row["id"], ()),
        )
        by_group.setdefault(row["group_id"], []).append(loaded)
    return by_group


def imported_spans(stored: Iterable[Sequence[Any]]) -> ImportedShifts:
    """Converts the imported shifts of a calendar from their stored form."""
    return ImportedShifts(
        tuple((user, schedules.parse_utc(since), schedules.parse_utc(until)) for user, since, until in stored)
    )


def _override(row: Mapping[str, Any]) -> CompiledOverride:
    return CompiledOverride(
        row["id"],
        row["name"],
        row["user_id"],
        row["starts_at"],
        row["ends_at"],
        row["shift"],
        MemberRole(row["role"]) if row["role"] else None,
        row["instead_of_id"],
    )


def _absences(connection: Connection, users: Iterable[int], earliest: datetime) -> list[Absence]:
    """Returns the absences of these users, of those who cover for them, and so on."""
    absences: list[Absence] = []
    loaded_ids: set[int] = set()
    pending_ids = set(users)
    while pending_ids:
        rows = [_absence(row) for row in database.rows(connection, _ABSENCES, (sorted(pending_ids), earliest))]
        absences += rows
        loaded_ids |= pending_ids
        pending_ids = {user for absence in rows for user in _cover_ids(absence)} - loaded_ids
    return absences


def _absence(row: Mapping[str, Any]) -> Absence:
    covers = {int(group): user for group, user in (row["covers"] or {}).items()}
    return Absence(row["user_id"], row["starts_at"], row["ends_at"], row["cover_id"], covers)


def _cover_ids(absence: Absence) -> set[int]:
    return {*absence.cover_ids_by_group.values(), *(() if absence.cover_id is None else (absence.cover_id,))}


def _users(
    connection: Connection, members: Mapping[int, Sequence[SnapshotMember]], user_ids: set[int]
) -> dict[int, SnapshotUser]:
    """Returns the users with these ids, by id."""
    users = {m.user_id: SnapshotUser(m.name, m.is_active) for group_members in members.values() for m in group_members}
    if missing := sorted(user_ids - users.keys()):
        for user_id, row in load_users(connection, missing, "display_name", "is_active").items():
            users[user_id] = SnapshotUser(row["display_name"], row["is_active"])
    return users
