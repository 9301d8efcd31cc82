"""Tracks problems over time: since when they exist, and when to notify administrators.

One notice when a problem is confirmed and one when it ends, but at most one per hour for the same problem. Pure, except
for `load` and `store_problems`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Ago, Reason, ReasonType, joined, reason_from
from tocsin.notify.enqueue.notices import Notice
from tocsin.notify.rules.delivery_reasons import IS_ADMINISTRATOR
from tocsin.operate.self_check.rules import DetectedProblem

#: A problem is reported if it still exists after this time, at the next self-check; restarts and storms pass by
#: themselves.
CONFIRM_AFTER = timedelta(seconds=20)

#: The minimum interval between two notices about the same problem, however often it comes and goes.
REPEAT_AFTER = timedelta(hours=1)

#: How long ended problems are kept.
PROBLEM_RETENTION = timedelta(days=7)

_START_TITLE = ReasonType("problem.notice_title", "Tocsin: {title}")
_BEGAN = ReasonType("problem.notice_began", "Started {ago}.")
_REMEDY = ReasonType("problem.notice_remedy", "What to do: {remedy}")
_WILL_FOLLOW_UP = ReasonType("problem.notice_follow_up", "Tocsin notifies you when it is resolved.")
_END_TITLE = ReasonType("problem.resolved_notice_title", "Tocsin: resolved: {title}")
_RESOLVED = ReasonType("problem.resolved_notice", "Resolved after {duration}. The problem was: {detail}")


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One problem with its history."""

    id: str
    title: Reason
    detail: Reason
    remedy: Reason
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
    text = joined(
        problem.detail,
        _BEGAN(ago=Ago(now - problem.since)),
        _REMEDY(remedy=problem.remedy),
        _WILL_FOLLOW_UP(),
        separator="\n\n",
    )
    title = _START_TITLE(title=problem.title)
    return Notice(title, text, f"operate:{problem.id}", IS_ADMINISTRATOR(), is_urgent=True)


def _end_notice(problem: ProblemRecord, now: datetime) -> Notice:
    text = _RESOLVED(duration=now - problem.since, detail=problem.detail)
    return Notice(_END_TITLE(title=problem.title), text, f"operate:{problem.id}:over", IS_ADMINISTRATOR())


_REASONS = ("title", "detail", "remedy")
_TIMES = ("since", "seen_at", "ended_at", "notified_at", "last_notified_at")
_COLUMNS = ("id", *(f"{name}_{part}" for name in _REASONS for part in ("code", "data")), *_TIMES)


def load(connection: Connection, *, only_open: bool = False) -> dict[str, ProblemRecord]:
    """The stored problems by id, oldest first."""
    condition = " WHERE ended_at IS NULL" if only_open else ""
    query = database.literal(f"SELECT {', '.join(_COLUMNS)} FROM operate_problem{condition} ORDER BY since, id")
    return {row["id"]: _from_row(row) for row in database.rows(connection, query)}


def _from_row(row: Mapping[str, Any]) -> ProblemRecord:
    title, detail, remedy = (reason_from(row[f"{name}_code"], row[f"{name}_data"]) for name in _REASONS)
    return ProblemRecord(row["id"], title, detail, remedy, *(row[name] for name in _TIMES))


def _to_row(problem: ProblemRecord) -> tuple[object, ...]:
    reasons = [
        value
        for reason in (problem.title, problem.detail, problem.remedy)
        for value in (reason.code, Jsonb(reason.data))
    ]
    return (problem.id, *reasons, *(getattr(problem, name) for name in _TIMES))


_UPSERT = (
    f"INSERT INTO operate_problem ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)


def store_problems(connection: Connection, changed: Sequence[ProblemRecord], now: datetime) -> None:
    """Writes changed problems and deletes long-ended ones."""
    if changed:
        with connection.cursor() as cursor:
            cursor.executemany(database.literal(_UPSERT), [_to_row(problem) for problem in changed])
    connection.execute("DELETE FROM operate_problem WHERE ended_at < %s", (now - PROBLEM_RETENTION,))
