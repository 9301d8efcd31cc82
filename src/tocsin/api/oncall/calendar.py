"""The on-call calendar: every group's final schedule by day of a month."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.people.groups import GROUPS
from tocsin.core.db import database
from tocsin.oncall import loader
from tocsin.oncall.calculation import month_calendar, weekly_windows
from tocsin.oncall.calculation.month_calendar import CalendarDay
from tocsin.people.member_roles import MemberRole
from tocsin.people.models import User

routes = AuthorizedRouter("on-call")


class CalendarEntrySchema(BaseModel):
    """One user in a role for a part of the day. `user` is null in a coverage gap."""

    group: str
    role: MemberRole
    user: str | None
    since: datetime
    until: datetime
    schedules: list[str] = Field(description="The schedules that decide; empty where the order of the group does.")
    absent: bool = Field(description="Out of office, and no one covers: still paged.")
    double_roles: list[MemberRole] = Field(description="Other roles that the user has in the group meanwhile.")


class CalendarDaySchema(BaseModel):
    """A day in the caller's time zone."""

    day: date
    holidays: list[str]
    on_call: list[CalendarEntrySchema]


class CalendarResponse(BaseModel):
    """Groups without a schedule, and roles without a shift, are not included: their members are always on call."""

    month: str
    time_zone: str
    days: list[CalendarDaySchema]


class CalendarQuery(Schema):
    """The month, and one group instead of all."""

    month: str | None = Field(default=None, description="Such as 2026-12. The current one, if not given.")
    group: str | None = None


@routes.get(
    "/calendar",
    Permission.VIEW_ALERTS,
    answers=CalendarResponse,
    summary="Who is on call on each day of a month: in every group, or in one",
)
def calendar(request: HttpRequest, query: Query[CalendarQuery]) -> dict[str, Any]:
    principal = caller(request)
    zone = ZoneInfo(principal.user.time_zone)
    today = principal.now.astimezone(zone).date()
    month = month_calendar.parse_month(query.month) if query.month else today.replace(day=1)
    group = GROUPS.find(query.group) if query.group else None
    with database.transaction() as connection:
        group_ids = [group.pk] if group else loader.groups_with_schedule(connection)
        plans = loader.plans(connection, group_ids, weekly_windows.midnight(month, zone))
    days = month_calendar.days_of_month(sorted(plans.values(), key=lambda plan: plan.name), month, zone)
    user_ids = {entry.user_id for day in days for role in day.roles for entry in role.entries if entry.user_id}
    names = dict(User.mentioned.filter(pk__in=user_ids).values_list("pk", "username"))
    return {"month": f"{month:%Y-%m}", "time_zone": zone.key, "days": [_day(day, names) for day in days]}


def _day(day: CalendarDay, names: dict[int, str]) -> dict[str, Any]:
    return {
        "day": day.day,
        "holidays": list(day.holidays),
        "on_call": [
            {
                "group": role.group,
                "role": role.role,
                "user": names.get(entry.user_id) if entry.user_id else None,
                "since": entry.since,
                "until": entry.until,
                "schedules": list(entry.schedules),
                "absent": entry.is_absent,
                "double_roles": list(entry.double_roles),
            }
            for role in day.roles
            for entry in role.entries
        ],
    }
