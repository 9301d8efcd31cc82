"""On-call fairness: each user's load by month, with the same figures as in the web interface."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import caller
from tocsin.api.people.groups import GROUPS
from tocsin.api.system.reports import routes
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.oncall.calculation import month_calendar
from tocsin.oncall.calculation.workload import OnCallTime
from tocsin.people.member_roles import MemberRole
from tocsin.reports import fairness
from tocsin.reports.fairness import MAX_MONTHS, FairnessFilter, PersonalLoad


class OnCallHoursSchema(BaseModel):
    """Hours on call, and how many of them at night, on weekends and on holidays."""

    total: float
    night: float
    weekend: float
    holiday: float


class PersonalLoadSchema(BaseModel):
    """One user. An alert that paged the user twice counts once; e-mails and sandbox messages do not count."""

    user: str
    hours: OnCallHoursSchema
    difference: OnCallHoursSchema = Field(
        description="From the even share: the time of each group, divided by the users in its shifts."
    )
    pages: int
    night_pages: int
    pages_difference: float = Field(description="From the average of all users in the month.")


class MonthlyLoadSchema(BaseModel):
    """The users of one month, those with the most hours first."""

    month: str
    people: list[PersonalLoadSchema]


class FairnessResponse(BaseModel):
    """Months begin at midnight in `time_zone`; nights, weekends and holidays are those of the users' zones."""

    time_zone: str
    months: list[MonthlyLoadSchema]


class FairnessParameters(Schema):
    """The months, and what counts."""

    month: str | None = Field(default=None, description="The last month, such as 2026-12; the current one by default.")
    months: int = Field(default=1, ge=1, le=MAX_MONTHS, description="How many months, up to that one.")
    group: str | None = Field(default=None, description="Only the schedules of this group, and pages of its alerts.")
    role: MemberRole | None = Field(default=None, description="Only time in this role.")


@routes.get(
    "/fairness",
    Permission.VIEW_ALERTS,
    answers=FairnessResponse,
    summary="How much each user is on call and paged, by month, and how far that is from an even share",
)
def report_fairness(request: HttpRequest, query: Query[FairnessParameters]) -> dict[str, Any]:
    principal = caller(request)
    zone = ZoneInfo(principal.user.time_zone)
    last = month_calendar.parse_month(query.month) if query.month else principal.now.astimezone(zone).date()
    selected = FairnessFilter(GROUPS.find(query.group).pk if query.group else None, query.role)
    night = settings_store.night_hours()
    with database.transaction() as connection:
        loads = fairness.load_fairness(connection, fairness.months_until(last, query.months), zone, night, selected)
    return {
        "time_zone": zone.key,
        "months": [
            {"month": f"{load.month:%Y-%m}", "people": [_person(person) for person in load.people]} for load in loads
        ],
    }


def _person(person: PersonalLoad) -> dict[str, Any]:
    return {
        "user": person.username,
        "hours": _hours(person.time),
        "difference": _hours(person.difference),
        "pages": person.pages,
        "night_pages": person.night_pages,
        "pages_difference": round(person.pages_difference, 2),
    }


def _hours(time: OnCallTime) -> dict[str, float]:
    return {
        kind: round(getattr(time, kind).total_seconds() / 3600, 2) for kind in ("total", "night", "weekend", "holiday")
    }
