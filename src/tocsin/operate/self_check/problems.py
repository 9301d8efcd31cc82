"""Tracks problems over time: since when they exist, and when to notify administrators.

One notice when a problem is confirmed and one when it ends, but at most one per hour for the same problem. Pure, except
for `load`, `store_problems` and `set_back`.
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
    notified_at: datetime | None = None
    last_notified_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class ProblemUpdate:
    """Rows to write, and notices to send."""

    changed: tuple[ProblemRecord, ...]
    notices: tuple[Notice, ...]


def update_problems(
    known_problems: Mapping[str, ProblemRecord], detected: Sequence[DetectedProblem], now: datetime
) -> ProblemUpdate:
    """Updates the known problems (by id) after a self-check at `now` found these."""
    changed: list[ProblemRecord] = []
    notices: list[Notice] = []
    for detected_problem in detected:
        problem = _merge(known_problems.get(detected_problem.id), detected_problem, now)
        if _should_notify(problem, now):
            problem = replace(problem, notified_at=now, last_notified_at=now)
            notices.append(_start_notice(problem, now))
        changed.append(problem)
    detected_ids = {detected_problem.id for detected_problem in detected}
    for problem in known_problems.values():
        if problem.is_open and problem.id not in detected_ids:
            changed.append(replace(problem, ended_at=now))
            if problem.notified_at is not None:
                notices.append(_end_notice(problem, now))
    return ProblemUpdate(tuple(changed), tuple(notices))


def _merge(previous: ProblemRecord | None, detected: DetectedProblem, now: datetime) -> ProblemRecord:
    if previous is None or not previous.is_open:
        last_notified_at = previous.last_notified_at if previous else None
        return ProblemRecord(
            detected.id, detected.title, detected.detail, detected.remedy, now, now, last_notified_at=last_notified_at
        )
    return replace(previous, title=detected.title, detail=detected.detail, remedy=detected.remedy, seen_at=now)


def _should_notify(problem: ProblemRecord, now: datetime) -> bool:
    is_muted = problem.last_notified_at is not None and now - problem.last_notified_at < REPEAT_AFTER
    return problem.notified_at is None and now - problem.since >= CONFIRM_AFTER and not is_muted


def _start_notice(problem: ProblemRecord, now: datetime) -> Notice:
    ago_text = durations.describe_ago(problem.since, now)
    text = f"{problem.detail}\n\nIt began {ago_text}.\n\nWhat to do: {problem.remedy}\n\nYou are told when it is over."
    return Notice(f"Tocsin: {problem.title}", text, f"operate:{problem.id}", _REASON)


def _end_notice(problem: ProblemRecord, now: datetime) -> Notice:
    duration_text = durations.describe(now - problem.since)
    text = f"It is over; it lasted {duration_text}. It was: {problem.detail}"
    return Notice(f"Tocsin: over: {problem.title}", text, f"operate:{problem.id}:over", _REASON)


_COLUMNS = "id, title, detail, remedy, since, seen_at, ended_at, notified_at, last_notified_at"


def load(connection: Connection, *, only_open: bool = False) -> dict[str, ProblemRecord]:
    """The stored problems by id, oldest first."""
    condition = " WHERE ended_at IS NULL" if only_open else ""
    query = database.literal(f"SELECT {_COLUMNS} FROM operate_problem{condition} ORDER BY since, id")
    return {row["id"]: ProblemRecord(**row) for row in database.rows(connection, query)}


_UPSERT = """
INSERT INTO operate_problem (id, title, detail, remedy, since, seen_at, ended_at, notified_at, last_notified_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET title = excluded.title, detail = excluded.detail, remedy = excluded.remedy,
  since = excluded.since, seen_at = excluded.seen_at, ended_at = excluded.ended_at, notified_at = excluded.notified_at,
  last_notified_at = excluded.last_notified_at
"""


def correct_after_rollback(connection: Connection, by: timedelta, now: datetime) -> None:
    """Repairs the records after a clock rollback by `by`; otherwise no problem would be confirmed until the clock
    caught up.

    Also deletes nodes with a heartbeat in the future: living ones report again.
    """
    for column in ("since", "seen_at", "ended_at", "notified_at", "last_notified_at"):
        connection.execute(
            database.literal(f"UPDATE operate_problem SET {column} = {column} - %(by)s WHERE {column} > %(now)s"),
            {"by": by, "now": now},
        )
    connection.execute("DELETE FROM operate_node WHERE seen_at > clock_timestamp()")


def store_problems(connection: Connection, changed: Sequence[ProblemRecord], now: datetime) -> None:
    """Writes changed problems and deletes long-ended ones."""
    if changed:
        with connection.cursor() as cursor:
            cursor.executemany(
                _UPSERT,
                [
                    (
                        p.id,
                        p.title,
                        p.detail,
                        p.remedy,
                        p.since,
                        p.seen_at,
                        p.ended_at,
                        p.notified_at,
                        p.last_notified_at,
                    )
                    for p in changed
                ],
            )
    connection.execute("DELETE FROM operate_problem WHERE ended_at < %s", (now - PROBLEM_RETENTION,))
