"""Tracks problems over time: since when they exist, and when to notify administrators.

One notice when a problem is confirmed and one when it ends, but at most one per hour for the same problem. Pure, except
for `load`, `keep` and `set_back`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.validation import durations
from tocsin.notify.enqueue.queue import Notice
from tocsin.operate.self_check.rules import DetectedProblem

#: A problem is reported if it still exists after this time, at the next self-check; restarts and storms pass by
#: themselves.
CONFIRM_AFTER = timedelta(seconds=20)

#: The minimum interval between two notices about the same problem, however often it comes and goes.
REPEAT_AFTER = timedelta(hours=1)

#: How long ended problems are kept.
PROBLEM_RETENTION = timedelta(days=7)

_REASON = "You are told because you administer Tocsin."


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One problem with its history."""

    id: str
    title: str
    detail: str
    remedy: str
    since: datetime
    seen_at: datetime
    ended_at: datetime | None = None
    told_at: datetime | None = None
    last_told_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class ProblemUpdate:
    """Rows to write, and notices to send."""

    changed: tuple[ProblemRecord, ...]
    notices: tuple[Notice, ...]


def follow(known: Mapping[str, ProblemRecord], found: Sequence[DetectedProblem], now: datetime) -> ProblemUpdate:
    """Updates the known problems (by id) after a self-check at `now` found these."""
    changed: list[ProblemRecord] = []
    notices: list[Notice] = []
    for one in found:
        problem = _seen(known.get(one.id), one, now)
        if _is_to_be_told(problem, now):
            problem = replace(problem, told_at=now, last_told_at=now)
            notices.append(_begun(problem, now))
        changed.append(problem)
    there = {one.id for one in found}
    for problem in known.values():
        if problem.is_open and problem.id not in there:
            changed.append(replace(problem, ended_at=now))
            if problem.told_at is not None:
                notices.append(_over(problem, now))
    return ProblemUpdate(tuple(changed), tuple(notices))


def _seen(before: ProblemRecord | None, found: DetectedProblem, now: datetime) -> ProblemRecord:
    if before is None or not before.is_open:
        last = before.last_told_at if before else None
        return ProblemRecord(found.id, found.title, found.detail, found.remedy, now, now, last_told_at=last)
    return replace(before, title=found.title, detail=found.detail, remedy=found.remedy, seen_at=now)


def _is_to_be_told(problem: ProblemRecord, now: datetime) -> bool:
    is_quiet = problem.last_told_at is not None and now - problem.last_told_at < REPEAT_AFTER
    return problem.told_at is None and now - problem.since >= CONFIRM_AFTER and not is_quiet


def _begun(problem: ProblemRecord, now: datetime) -> Notice:
    began = durations.describe_ago(problem.since, now)
    text = f"{problem.detail}\n\nIt began {began}.\n\nWhat to do: {problem.remedy}\n\nYou are told when it is over."
    return Notice(f"Tocsin: {problem.title}", text, f"operate:{problem.id}", _REASON)


def _over(problem: ProblemRecord, now: datetime) -> Notice:
    lasted = durations.describe(now - problem.since)
    text = f"It is over; it lasted {lasted}. It was: {problem.detail}"
    return Notice(f"Tocsin: over: {problem.title}", text, f"operate:{problem.id}:over", _REASON)


_COLUMNS = "id, title, detail, remedy, since, seen_at, ended_at, told_at, last_told_at"


def load(connection: Connection, *, only_open: bool = False) -> dict[str, ProblemRecord]:
    """The stored problems by id, oldest first."""
    which = " WHERE ended_at IS NULL" if only_open else ""
    query = database.literal(f"SELECT {_COLUMNS} FROM operate_problem{which} ORDER BY since, id")
    return {row["id"]: ProblemRecord(**row) for row in database.rows(connection, query)}


_KEEP = """
INSERT INTO operate_problem (id, title, detail, remedy, since, seen_at, ended_at, told_at, last_told_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET title = excluded.title, detail = excluded.detail, remedy = excluded.remedy,
  since = excluded.since, seen_at = excluded.seen_at, ended_at = excluded.ended_at, told_at = excluded.told_at,
  last_told_at = excluded.last_told_at
"""


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> None:
    """Repairs the records after a clock rollback by `by`; otherwise no problem would be confirmed until the clock
    caught up.

    Also deletes nodes with a heartbeat in the future: living ones report again.
    """
    for column in ("since", "seen_at", "ended_at", "told_at", "last_told_at"):
        connection.execute(
            database.literal(f"UPDATE operate_problem SET {column} = {column} - %(by)s WHERE {column} > %(now)s"),
            {"by": by, "now": now},
        )
    connection.execute("DELETE FROM operate_node WHERE seen_at > clock_timestamp()")


def keep(connection: Connection, changed: Sequence[ProblemRecord], now: datetime) -> None:
    """Writes changed problems and deletes long-ended ones."""
    if changed:
        with connection.cursor() as cursor:
            cursor.executemany(
                _KEEP,
                [
                    (p.id, p.title, p.detail, p.remedy, p.since, p.seen_at, p.ended_at, p.told_at, p.last_told_at)
                    for p in changed
                ],
            )
    connection.execute("DELETE FROM operate_problem WHERE ended_at < %s", (now - PROBLEM_RETENTION,))
