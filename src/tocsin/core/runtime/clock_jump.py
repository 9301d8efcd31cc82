"""What the database's clock showed when somebody last looked, as a row: so that one that was set is noticed, once, by
whichever node looks first, and after a restart too. Never changes anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.runtime import clock
from tocsin.core.validation import durations

#: Less is no jump: clocks are slewed, and a server that takes over is a moment behind.
MIN_ROLLBACK = timedelta(seconds=5)

#: By less back, no alert's timeline says so: a clock that is set back by seconds each minute would fill all of them.
REPORT_FROM = timedelta(minutes=1)

#: So far ahead at once, the clock is wrong or nothing ran for as long; which of the two, only a person knows.
MIN_JUMP_AHEAD = timedelta(days=1)

#: After that, nothing is removed by its age for so long.
DOUBT_PERIOD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClockJump:
    """That the clock jumped: `at` is by the clock after that. `by` is less than nothing where it was set back."""

    at: datetime
    by: timedelta

    @property
    def is_back(self) -> bool:
        return self.by < timedelta()

    def is_doubted(self, now: datetime) -> bool:
        """Whether the clock may be far ahead of the time, as of `now` by the same clock."""
        return not self.is_back and now - self.at < DOUBT_PERIOD


def jumped(seen_at: datetime, now: datetime) -> timedelta:
    """By how much the clock has jumped that showed `seen_at` a moment ago; nothing where it goes on as clocks do."""
    apart = now - seen_at
    return apart if apart < -MIN_ROLLBACK or apart > MIN_JUMP_AHEAD else timedelta()


def _since(seen_at: datetime, now: datetime) -> ClockJump:
    by = jumped(seen_at, now)
    # A test clock is moved ahead on purpose.
    return ClockJump(now, timedelta() if by > timedelta() and environment.current().test_clock else by)


def remembered(last: ClockJump | None, jump: ClockJump) -> ClockJump:
    """The jump that is known from now on: the new one; but a clock that is far ahead is so still where it is set back
    by a part of that, as by the seconds of one that wobbles."""
    if last is None or not jump.is_back or not last.is_doubted(jump.at) or last.by + jump.by <= MIN_JUMP_AHEAD:
        return jump
    return ClockJump(min(last.at, jump.at), last.by + jump.by)


def say_jump(by: timedelta) -> str:
    """How far it jumped, ahead or back, in a sentence: "2 hours". Looks are seconds apart, so what is long is said in
    whole minutes."""
    far = abs(by)
    return durations.say(round(far / _MINUTE) * _MINUTE if far >= 5 * _MINUTE else far)


_MINUTE = timedelta(minutes=1)


def look(
    connection: Connection, read: Callable[[Connection], datetime] = clock.of_database
) -> tuple[datetime, ClockJump]:
    """Reads the clock and keeps what it shows, with the row locked until the caller's transaction ends.

    Returns that moment and the jump since the last look: by nothing, mostly. A jump is returned once: whoever is told
    of it mends what follows from it in the same transaction.
    """
    connection.execute(
        "INSERT INTO core_clockseen (id, seen_at) VALUES (1, %s) ON CONFLICT (id) DO NOTHING", (read(connection),)
    )
    row = database.row(connection, "SELECT seen_at FROM core_clockseen WHERE id = 1 FOR NO KEY UPDATE")
    assert row is not None
    # After the lock: whoever had it may have looked since.
    now = read(connection)
    jump = _since(row["seen_at"], now)
    if jump.by:
        kept = remembered(last_jump(connection), jump)
        connection.execute(
            "UPDATE core_clockseen SET seen_at = %s, jumped_at = %s, jumped_by = %s WHERE id = 1",
            (now, kept.at, kept.by),
        )
    elif now > row["seen_at"]:
        connection.execute("UPDATE core_clockseen SET seen_at = %s WHERE id = 1", (now,))
    return now, jump


def last_jump(connection: Connection) -> ClockJump | None:
    """The last time that the clock jumped, as far as is known."""
    row = database.row(connection, "SELECT jumped_at, jumped_by FROM core_clockseen WHERE jumped_at IS NOT NULL")
    return None if row is None else ClockJump(row["jumped_at"], row["jumped_by"])


def is_doubted(connection: Connection, now: datetime) -> bool:
    """Whether the clock may be far ahead of the time: nothing is removed by its age then."""
    row = database.row(connection, "SELECT seen_at FROM core_clockseen WHERE id = 1")
    if row is not None and _since(row["seen_at"], now).by > MIN_JUMP_AHEAD:
        # Where a node starts, what removes may turn before what looks at the clock.
        return True
    jump = last_jump(connection)
    return jump is not None and jump.is_doubted(now)
