"""Detects jumps of the database's clock.

A row stores the clock at the last check, so that one node detects a jump exactly once, after a restart too. Never
changes any other table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock
from tocsin.core.validation import durations

#: A smaller step back is no rollback: clocks are slewed, and a standby that takes over lags by a moment.
MIN_ROLLBACK = timedelta(seconds=5)

#: Smaller rollbacks are not written to alert timelines: a clock that jumps by seconds every minute would fill them.
MIN_REPORTED_ROLLBACK = timedelta(minutes=1)

#: A step ahead by more than this means that the clock is wrong, or that nothing ran for that long. Only a person can
#: tell which.
MIN_JUMP_AHEAD = timedelta(days=1)

#: After a jump ahead, nothing is deleted by its age for this long.
SUSPECT_PERIOD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClockJump:
    """A jump of the clock. `at` is by the clock after the jump; `amount` is negative for a clock rollback."""

    at: datetime
    amount: timedelta

    @property
    def is_rollback(self) -> bool:
        return self.amount < timedelta()

    def is_suspect(self, now: datetime) -> bool:
        """Returns whether the clock may be far ahead of the true time, at `now` by the same clock."""
        return not self.is_rollback and now - self.at < SUSPECT_PERIOD


def detect_jump(seen_at: datetime, now: datetime) -> timedelta:
    """Returns by how much the clock has jumped since it showed `seen_at`, a moment ago; zero if it ran normally."""
    difference = now - seen_at
    return difference if difference < -MIN_ROLLBACK or difference > MIN_JUMP_AHEAD else timedelta()


def _jump_since(seen_at: datetime, now: datetime) -> ClockJump:
    amount = detect_jump(seen_at, now)
    # A test clock is moved ahead on purpose.
    return ClockJump(now, timedelta() if amount > timedelta() and environment.current().test_clock else amount)


def jump_to_store(last: ClockJump | None, jump: ClockJump) -> ClockJump:
    """Returns the jump to store: the new one, unless it only undoes a part of an earlier jump ahead, as an unstable
    clock does. The clock is then still far ahead."""
    if (
        last is None
        or not jump.is_rollback
        or not last.is_suspect(jump.at)
        or last.amount + jump.amount <= MIN_JUMP_AHEAD
    ):
        return jump
    return ClockJump(min(last.at, jump.at), last.amount + jump.amount)


def round_jump(amount: timedelta) -> timedelta:
    """Returns the size of a jump. Checks are seconds apart, so long jumps are rounded to minutes."""
    size = abs(amount)
    return round(size / _MINUTE) * _MINUTE if size >= 5 * _MINUTE else size


def describe_jump(amount: timedelta) -> str:
    """Formats the size of a jump, such as "2 hours"."""
    return durations.describe(round_jump(amount))


_MINUTE = timedelta(minutes=1)


def observe(
    connection: Connection, read_clock: Callable[[Connection], datetime] = clock.database_now
) -> tuple[datetime, ClockJump]:
    """Reads the clock and stores it, and locks the row until the caller's transaction ends.

    Returns the time and the jump since the last check, which is usually zero. Each jump is returned once, so the caller
    must handle its consequences in the same transaction.
    """
    connection.execute(
        "INSERT INTO core_clockseen (id, seen_at) VALUES (1, %s) ON CONFLICT (id) DO NOTHING", (read_clock(connection),)
    )
    row = database.row(connection, "SELECT seen_at FROM core_clockseen WHERE id = 1 FOR NO KEY UPDATE")
    assert row is not None
    # Read after the lock: its previous owner may have stored a later time.
    now = read_clock(connection)
    jump = _jump_since(row["seen_at"], now)
    if jump.amount:
        stored = jump_to_store(last_jump(connection), jump)
        connection.execute(
            "UPDATE core_clockseen SET seen_at = %s, jumped_at = %s, jumped_by = %s WHERE id = 1",
            (now, stored.at, stored.amount),
        )
    elif now > row["seen_at"]:
        connection.execute("UPDATE core_clockseen SET seen_at = %s WHERE id = 1", (now,))
    return now, jump


def last_jump(connection: Connection) -> ClockJump | None:
    """Returns the last known jump of the clock, if any."""
    row = database.row(connection, "SELECT jumped_at, jumped_by FROM core_clockseen WHERE jumped_at IS NOT NULL")
    return None if row is None else ClockJump(row["jumped_at"], row["jumped_by"])


def is_clock_suspect(connection: Connection, now: datetime) -> bool:
    """Returns whether the clock may be far ahead of the true time. Nothing is deleted by its age then."""
    row = database.row(connection, "SELECT seen_at FROM core_clockseen WHERE id = 1")
    if row is not None and _jump_since(row["seen_at"], now).amount > MIN_JUMP_AHEAD:
        # When a node starts, a retention task may run before the task that checks the clock.
        return True
    jump = last_jump(connection)
    return jump is not None and jump.is_suspect(now)
