"""Reports how evenly on-call time and pages are distributed: per user and month, with the difference from an
even share.

Calculated from the schedules as they are now, so that a changed rotation changes past months too. The rest of the
current month counts as planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from tocsin.core.config.night_hours import NightHours
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.oncall import loader
from tocsin.oncall.calculation import month_calendar, weekly_windows, workload
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.oncall.calculation.workload import OnCallTime, Workload
from tocsin.people.member_roles import MemberRole
from tocsin.reports import interruptions
from tocsin.reports.counted_alerts import AlertFilter
from tocsin.reports.interruptions import Interruptions
from tocsin.reports.period import Period

#: The largest number of months in one report.
MAX_MONTHS = 12

_USERS = "SELECT id, username, time_zone FROM people_user WHERE id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class FairnessFilter:
    """Only this group, and only this role. None: all."""

    group_id: int | None = None
    role: MemberRole | None = None


@dataclass(frozen=True, slots=True)
class PersonalLoad:
    """One user's load. `even_pages` are the pages of all users in the report, divided by the number of those who have
    an even share of the time; 0 for the others.

    An alert that paged the user several times counts once.
    """

    username: str
    name: str
    time: OnCallTime
    even_share: OnCallTime
    pages: int
    night_pages: int
    even_pages: float

    @property
    def difference(self) -> OnCallTime:
        """What the user has above the even share of the time; negative below it."""
        return self.time - self.even_share

    @property
    def pages_difference(self) -> float:
        """What the user has above the even share of the pages; negative below it."""
        return self.pages - self.even_pages

    def __add__(self, other: PersonalLoad) -> PersonalLoad:
        return PersonalLoad(
            self.username,
            self.name,
            self.time + other.time,
            self.even_share + other.even_share,
            self.pages + other.pages,
            self.night_pages + other.night_pages,
            self.even_pages + other.even_pages,
        )


@dataclass(frozen=True, slots=True)
class MonthlyLoad:
    """The load of each user in one month, the highest first."""

    month: date
    people: Sequence[PersonalLoad]


def months_until(last: date, count: int) -> list[date]:
    """Returns the first days of `count` months, the last of which contains `last`."""
    months = [last.replace(day=1)]
    while len(months) < count:
        months.insert(0, (months[0] - timedelta(days=1)).replace(day=1))
    return months


def load_fairness(
    connection: Connection, months: Sequence[date], zone: ZoneInfo, night: NightHours, selected: FairnessFilter
) -> list[MonthlyLoad]:
    """Returns the load by month, in the order of `months` (their first days); months begin at midnight in `zone`."""
    group_ids = loader.groups_with_schedule(connection)
    if selected.group_id is not None:
        group_ids &= {selected.group_id}
    plans = list(loader.plans(connection, group_ids, weekly_windows.midnight(min(months), zone)).values())
    users = {user for plan in plans for user in plan.users}
    rows = {row["id"]: row for row in database.rows(connection, _USERS, (sorted(users),))}
    return [
        MonthlyLoad(month, _people(connection, plans, _period(month, zone), night, rows, selected)) for month in months
    ]


def total_load(months: Sequence[MonthlyLoad]) -> list[PersonalLoad]:
    """Returns each user's load in all of the months, the highest first."""
    totals: dict[str, PersonalLoad] = {}
    for month in months:
        for person in month.people:
            earlier = totals.get(person.username)
            totals[person.username] = earlier + person if earlier else person
    return sorted(totals.values(), key=lambda load: (-load.time.total, load.name.casefold(), load.username))


def _period(month: date, zone: ZoneInfo) -> Period:
    end = month_calendar.next_month(month)
    return Period(weekly_windows.midnight(month, zone), weekly_windows.midnight(end, zone), zone)


def _people(
    connection: Connection,
    plans: Sequence[GroupPlan],
    period: Period,
    night: NightHours,
    users: Mapping[int, Mapping[str, str]],
    selected: FairnessFilter,
) -> list[PersonalLoad]:
    zones = {user_id: ZoneInfo(row["time_zone"]) for user_id, row in users.items()}
    loads = [
        load
        for load in workload.workloads(plans, period.since, period.until, night, zones, selected.role)
        if load.user_id in users
    ]
    alerts = AlertFilter(group_id=selected.group_id)
    paged = {one.username: one for one in interruptions.load_interruptions(connection, period, night, alerts)}
    pages = [_pages(paged, users[load.user_id]["username"]) for load in loads]
    sharing = [load for load in loads if load.even_share.total]
    even_pages = sum(count for count, _at_night in pages) / len(sharing) if sharing else 0.0
    return [
        _personal_load(load, users[load.user_id]["username"], count, at_night, even_pages if load in sharing else 0.0)
        for load, (count, at_night) in zip(loads, pages, strict=True)
    ]


def _pages(paged: Mapping[str, Interruptions], username: str) -> tuple[int, int]:
    one = paged.get(username)
    return (one.alerts, one.at_night) if one else (0, 0)


def _personal_load(load: Workload, username: str, pages: int, night_pages: int, even_pages: float) -> PersonalLoad:
    return PersonalLoad(username, load.name, load.time, load.even_share, pages, night_pages, even_pages)
