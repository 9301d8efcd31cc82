"""Reports how evenly on-call time and pages are distributed: per user and month, with the difference from an
even share.

Calculated from the schedules as they are now, so that a changed rotation changes past months too. The rest of the
current month counts as planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.alerts.store import is_about
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.validation.inputs import NightHours
from tocsin.notify.states import SANDBOX, DeliveryStatus, Purpose
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks, weekly_windows
from tocsin.oncall.calculation.coverage_checks import OnCallTime
from tocsin.oncall.calculation.final_schedule import GroupPlan
from tocsin.people.sql import join_user, load_users
from tocsin.reports.counted_alerts import NO_FILTER, AlertFilter, Period

# ---------- interruptions
# Reports when each user was paged: by weekday and hour, and how often at night, to reveal an uneven load.
# Hours are those of the user's time zone, and the setting `night_hours` says when it is night there. E-mails and
# sandbox messages interrupt nobody and do not count.


#: How long before its sending a page can have been planned; quiet hours and repeats take days at most.
_PLANNED_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Interruptions:
    """The pages of one user. An alert that paged the user twice counts once, and once in each hour."""

    username: str
    name: str
    #: The number of alerts about which the user was paged, by day or night.
    alerts: int
    #: How many of them at night, and in how many nights.
    at_night: int
    nights: int
    #: The number by (weekday, hour), Monday first: (0, 23) is Monday from 23:00. Hours without a page are absent.
    by_hour: Mapping[tuple[int, int], int]


_INTERRUPTIONS = """
WITH paged AS (
  SELECT d.user_id, d.alert_id, d.sent_at AT TIME ZONE u.time_zone AS local,
         d.sent_at AT TIME ZONE u.time_zone - %(start)s::time::interval AS since_start
  FROM notify_delivery d {paged_user}
  WHERE d.id >= %(first)s AND d.sent_at >= %(since)s AND d.sent_at < %(until)s AND d.purpose = '{page}'
    AND d.status IN ('{sent}', '{delivered}') AND d.channel <> 'email' AND d.provider_name <> '{sandbox}'
    AND d.alert_id IS NOT NULL{filters}
), timed AS MATERIALIZED (
  SELECT user_id, alert_id, since_start::date AS night, date_trunc('hour', local) AS hour,
         since_start::time < %(end)s::time - %(start)s::time::interval AS is_night
  FROM paged
), people AS (
  SELECT user_id, count(*)::int AS alerts, count(*) FILTER (WHERE is_night)::int AS at_night FROM (
    SELECT user_id, alert_id, bool_or(is_night) AS is_night FROM timed GROUP BY 1, 2
  ) a GROUP BY 1
), nights AS (
  SELECT user_id, count(*)::int AS nights FROM (SELECT DISTINCT user_id, night FROM timed WHERE is_night) n GROUP BY 1
), hours AS (
  SELECT user_id, jsonb_agg(jsonb_build_array(weekday, hour, number)) AS by_hour FROM (
    SELECT user_id, extract(isodow FROM hour)::int - 1 AS weekday, extract(hour FROM hour)::int AS hour,
           count(*) AS number
    FROM (SELECT DISTINCT user_id, alert_id, hour FROM timed) d GROUP BY 1, 2, 3
  ) h GROUP BY 1
)
SELECT u.username, u.display_name AS name, p.alerts, p.at_night,
       coalesce(n.nights, 0) AS nights, h.by_hour
FROM people p {counted_user} JOIN hours h ON h.user_id = p.user_id
LEFT JOIN nights n ON n.user_id = p.user_id
ORDER BY at_night DESC, alerts DESC, u.username
"""


def load_interruptions(
    connection: Connection, period: Period, night: NightHours, filters: AlertFilter = NO_FILTER
) -> list[Interruptions]:
    """Everybody paged in the period about the filtered alerts, those most often woken first."""
    conditions = filters.conditions()
    statement = _INTERRUPTIONS.format(
        paged_user=join_user("d.user_id"),
        counted_user=join_user("p.user_id"),
        page=Purpose.PAGE,
        sent=DeliveryStatus.SENT,
        delivered=DeliveryStatus.DELIVERED,
        sandbox=SANDBOX,
        filters=f"\n    AND {is_about('d.alert_id', 'true' + conditions)}" if conditions else "",
    )
    values = {
        "first": ids.first_uuid7(period.since - _PLANNED_BEFORE),
        "since": period.since,
        "until": period.until,
        "start": night.start,
        "end": night.end,
        **filters.parameters(),
    }
    return [
        Interruptions(**{**row, "by_hour": {(weekday, hour): number for weekday, hour, number in row["by_hour"]}})
        for row in database.rows(connection, database.literal(statement), values)
    ]


def total_by_hour(people: Sequence[Interruptions]) -> Mapping[tuple[int, int], int]:
    """The interruptions of all users by (weekday, hour)."""
    total: Counter[tuple[int, int]] = Counter()
    for person in people:
        total.update(person.by_hour)
    return total


#: The largest number of months in one report.
MAX_MONTHS = 12


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
    rows = load_users(connection, users, "username", "time_zone")
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
    end = weekly_windows.next_month(month)
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
        for load in coverage_checks.workloads(plans, period.since, period.until, night, zones, selected.role)
        if load.user_id in users
    ]
    alerts = AlertFilter(group_id=selected.group_id)
    paged = {one.username: (one.alerts, one.at_night) for one in load_interruptions(connection, period, night, alerts)}
    pages = [paged.get(users[load.user_id]["username"], (0, 0)) for load in loads]
    sharing = [load for load in loads if load.even_share.total]
    even_pages = sum(count for count, _at_night in pages) / len(sharing) if sharing else 0.0
    return [
        PersonalLoad(
            users[load.user_id]["username"], load.name, load.time, load.even_share, count, at_night,
            even_pages if load in sharing else 0.0,
        )
        for load, (count, at_night) in zip(loads, pages, strict=True)
    ]  # fmt: skip
