"""Who is on call in many groups at once: loads members and schedules over one of the pool's connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from tocsin.core import database
from tocsin.core.database import Connection
from tocsin.oncall import duty, schedules, windows
from tocsin.oncall.rota import Member, OnCall
from tocsin.oncall.schedules import Schedule
from tocsin.oncall.support_hours import SupportHours
from tocsin.people.members import MemberRole

_GROUPS = "SELECT id, name FROM people_group WHERE id = ANY(%s)"

_MEMBERS = """
SELECT m.group_id, m.user_id, COALESCE(NULLIF(u.name, ''), u.username) AS name, m.roles, m.position, u.is_active
FROM people_membership m JOIN people_user u ON u.id = m.user_id
WHERE m.group_id = ANY(%s) ORDER BY m.group_id, m.position, m.id
"""

_SCHEDULES = "SELECT group_id, name, time_zone, definition FROM oncall_schedule WHERE group_id = ANY(%s) ORDER BY name"

_PEOPLE = """
SELECT id, COALESCE(NULLIF(name, ''), username) AS name FROM people_user WHERE id = ANY(%s) AND is_active
"""


def on_call(connection: Connection, group_ids: Iterable[int], at: datetime) -> dict[int, tuple[OnCall, ...]]:
    """Who is on call in each of the groups at `at`: by group id; a group that is gone is absent.

    Four statements, however many groups.
    """
    wanted = sorted(set(group_ids))
    if not wanted:
        return {}
    names = {row["id"]: row["name"] for row in database.rows(connection, _GROUPS, (wanted,))}
    members = _members(connection, wanted)
    planned = _schedules(connection, wanted)
    people = _people(connection, planned)
    return {
        group_id: duty.on_call(name, members.get(group_id, ()), planned.get(group_id, ()), people, at)
        for group_id, name in names.items()
    }


def support_hours(connection: Connection) -> dict[int, SupportHours]:
    """All support hours by id, for routes' `during`."""
    query = "SELECT id, name, time_zone, windows FROM oncall_supporthours"
    return {
        row["id"]: SupportHours(row["name"], ZoneInfo(row["time_zone"]), windows.load(row["windows"]))
        for row in database.rows(connection, query)
    }


def _members(connection: Connection, group_ids: list[int]) -> dict[int, list[Member]]:
    found: dict[int, list[Member]] = {}
    for row in database.rows(connection, _MEMBERS, (group_ids,)):
        roles = frozenset(MemberRole(role) for role in row["roles"])
        member = Member(row["user_id"], row["name"], roles, row["position"], row["is_active"])
        found.setdefault(row["group_id"], []).append(member)
    return found


def _schedules(connection: Connection, group_ids: list[int]) -> dict[int, list[Schedule]]:
    found: dict[int, list[Schedule]] = {}
    for row in database.rows(connection, _SCHEDULES, (group_ids,)):
        loaded = schedules.load(row["name"], row["time_zone"], row["definition"])
        found.setdefault(row["group_id"], []).append(loaded)
    return found


def _people(connection: Connection, planned: Mapping[int, list[Schedule]]) -> dict[int, str]:
    users = {user for several in planned.values() for schedule in several for user in schedule.users}
    if not users:
        return {}
    return {row["id"]: row["name"] for row in database.rows(connection, _PEOPLE, (sorted(users),))}
