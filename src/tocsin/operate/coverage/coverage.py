"""Coverage problems by group: runs `oncall.calculation.coverage_checks` on data from the database. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType, joined, reason_from
from tocsin.notify.registry import address_problem
from tocsin.notify.text.formatting import one_line
from tocsin.oncall import loader
from tocsin.oncall.calculation import coverage_checks
from tocsin.oncall.calculation.coverage_checks import CoverageFinding, CoverageFindingKind
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.operate.finding import limited

_TIMES = ReasonType(
    "coverage.times",
    "From {since} for {duration}.",
    "From {since} for {duration}, {count} times in total.",
)
_OPEN_TIMES = ReasonType(
    "coverage.times_without_end",
    "From {since}, without an end.",
    "From {since}, {count} times in total, the last without an end.",
)
_CALENDAR = ReasonType("coverage.calendar_unread", "The calendar of shift {shift} of {schedule}: {problem}")
_UNKNOWN_NAMES = ReasonType(
    "coverage.calendar_unknown_names", "No user matches {names}: no one is on call for these events."
)

_METHODS = "SELECT user_id, channel, address FROM people_contactmethod WHERE is_enabled AND NOT awaits_code"

#: Limits for listing unknown names: how many, and how long each may be.
_MAX_NAMES = 5
_MAX_NAME_CHARS = 60

_UNREAD = """
SELECT g.id AS group_id, g.name AS "group", s.id AS schedule_id, s.name AS schedule, i.shift, i.error_code,
       i.error_data, i.unknown, i.read_at
FROM oncall_calendarimport i
JOIN oncall_schedule s ON s.id = i.schedule_id
JOIN people_group g ON g.id = s.group_id
WHERE i.error_code <> '' OR i.unknown <> '[]'::jsonb
ORDER BY s.name, i.shift
"""


def coverage_of_groups(
    connection: Connection,
    group_ids: Iterable[int],
    since: datetime,
    ahead: timedelta = coverage_checks.COVERAGE_HORIZON,
) -> dict[int, tuple[GroupPlan, tuple[CoverageFinding, ...]]]:
    """Each group's snapshot and its coverage findings from `since` for `ahead`, the most serious first, by group id."""
    can_be_paged = reachable_user_ids(connection)
    return {
        group_id: (plan, coverage_checks.findings(plan, can_be_paged, since, since + ahead))
        for group_id, plan in loader.plans(connection, group_ids, since).items()
    }


def reachable_user_ids(connection: Connection) -> frozenset[int]:
    """The ids of users with a usable contact method."""
    return frozenset(
        row["user_id"]
        for row in database.rows(connection, _METHODS)
        if address_problem(row["channel"], row["address"]) is None
    )


def describe_finding(finding: CoverageFinding, since: datetime) -> Reason:
    """A finding with its times."""
    text = finding.reason
    if not has_times(finding):
        return text
    start, count = max(finding.since or since, since), max(1, finding.occurrence_count)
    if finding.until is None:
        return joined(text, _OPEN_TIMES(since=start, count=count), separator=" ")
    return joined(text, _TIMES(since=start, duration=finding.until - start, count=count), separator=" ")


def has_times(finding: CoverageFinding) -> bool:
    """Whether the finding has times; a shift that never counts has none."""
    return finding.kind is not CoverageFindingKind.HIDDEN and not (finding.since is None and finding.until is None)


@dataclass(frozen=True, slots=True)
class UnreadCalendar:
    """A shift whose imported calendar could not be read, or only in part.

    `error` is empty without an error; `unknown` are names in the calendar that match no user.
    """

    group_id: int
    group: str
    schedule_id: int
    schedule: str
    shift: str
    error: Reason
    unknown: list[str]
    read_at: datetime | None

    @property
    def reason(self) -> Reason:
        """What is wrong with the calendar."""
        names = limited([one_line(name, _MAX_NAME_CHARS) for name in self.unknown], _MAX_NAMES)
        problem = joined(self.error, *([_UNKNOWN_NAMES(names=names)] if names else []), separator=" ")
        return _CALENDAR(shift=self.shift, schedule=self.schedule, problem=problem)


def unread_calendars(connection: Connection) -> list[UnreadCalendar]:
    """All imported calendars with problems, by schedule."""
    return [
        UnreadCalendar(error=reason_from(row.pop("error_code"), row.pop("error_data")), **row)
        for row in database.rows(connection, _UNREAD)
    ]
