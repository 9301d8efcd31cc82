"""The current time by the database's clock, so that all nodes agree. Read once per request or run and passed down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.validation import inputs

#: A node whose own clock differs by more than this is not ready.
MAX_SKEW = timedelta(seconds=2)

#: How often the difference from the database's clock is measured.
MEASURE_INTERVAL = timedelta(minutes=1)

#: If this machine's clock was set by more than this since the last measurement, the difference is measured at once.
MIN_CLOCK_SET = timedelta(seconds=1)

_lock = threading.Lock()
_skew = timedelta()
_test_offset = timedelta()
_measured_at = float("-inf")
#: This machine's clock minus its monotonic clock at the last measurement, in seconds.
_measured_clock_base = 0.0
#: The database's clock minus this machine's monotonic clock at the last measurement, in seconds.
_database_clock_base: float | None = None


def now() -> datetime:
    """Returns the current time in UTC by the database's clock, plus the jump of a test clock.

    Once measured, it advances by the monotonic clock: if this machine's clock is set two hours ahead, nothing is
    scheduled two hours late until the next measurement.
    """
    if _database_clock_base is None:
        return datetime.now(UTC) + _test_offset
    return datetime.fromtimestamp(_database_clock_base + time.monotonic(), UTC) + _test_offset


def skew() -> timedelta:
    """Returns how far the database's clock is ahead of this machine's, as last measured."""
    return _skew


def test_offset() -> timedelta:
    """Returns how far the test clock has been moved; zero unless `TOCSIN_TEST_CLOCK` is set."""
    return _test_offset


def is_in_sync() -> bool:
    """Returns whether this machine's clock and the database's differ by at most MAX_SKEW."""
    return abs(_skew) <= MAX_SKEW


def measure(connection: Connection) -> None:
    """Measures the difference from the database's clock, and reads the jump of a test clock if one is allowed."""
    global _skew, _test_offset, _measured_at, _measured_clock_base, _database_clock_base
    before = time.monotonic()
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    after = time.monotonic()
    assert row is not None
    # Half of the round trip is the best estimate of when the database read its clock.
    database_base = row[0].timestamp() - (before + after) / 2
    own_base = _clock_base()
    offset = _read_test_offset(connection)
    with _lock:
        _skew, _test_offset, _measured_at = timedelta(seconds=database_base - own_base), offset, after
        _measured_clock_base, _database_clock_base = own_base, database_base


def measure_if_due(connection: Connection) -> None:
    """Measures again if the last measurement is old or this machine's clock was set; always under a test clock."""
    age = time.monotonic() - _measured_at
    was_set = abs(_clock_base() - _measured_clock_base) > MIN_CLOCK_SET.total_seconds()
    if environment.current().test_clock or was_set or age >= MEASURE_INTERVAL.total_seconds():
        measure(connection)


def database_now(connection: Connection) -> datetime:
    """Returns the time read from the database itself, not from the last measurement, plus the jump of a test clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at.astimezone(UTC) + _read_test_offset(connection)


def _read_test_offset(connection: Connection) -> timedelta:
    """Returns the jump of the test clock, if one is allowed."""
    if not environment.current().test_clock:
        return timedelta()
    offset = connection.execute("SELECT seconds FROM core_clockoffset WHERE id = 1").fetchone()
    return timedelta(seconds=offset[0]) if offset else timedelta()


def _clock_base() -> float:
    return time.time() - time.monotonic()


def move(seconds: float) -> None:
    """Moves the test clock of all processes on this database. Raises RuntimeError without `TOCSIN_TEST_CLOCK`."""
    if not environment.current().test_clock:
        raise RuntimeError("The clock only jumps under TOCSIN_TEST_CLOCK=1.")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO core_clockoffset (id, seconds) VALUES (1, %s) "
            "ON CONFLICT (id) DO UPDATE SET seconds = core_clockoffset.seconds + excluded.seconds",
            (seconds,),
        )
        measure(connection)
        database.notify(connection, "clock")


# ---------- clock jump
# Detects jumps of the database's clock.
#
# A row stores the clock at the last check, so that one node detects a jump exactly once, after a restart too. Never
# changes any other table.


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
    return inputs.describe(round_jump(amount))


_MINUTE = timedelta(minutes=1)


def observe(
    connection: Connection, read_clock: Callable[[Connection], datetime] = database_now
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


# ---------- timers
# Times by the database's clock in a table, which its room names. `operate.tasks` moves them after a rollback.


@dataclass(frozen=True, slots=True)
class Timers:
    """Columns of a table with times by the database's clock. Those that lie in the future are moved."""

    table: str
    columns: tuple[str, ...]
    #: The rows whose times nobody chose.
    condition: str = "true"
    #: The columns by which rows are locked, in order.
    key: str = "id"
    #: Columns with arrays of past times.
    histories: tuple[str, ...] = ()

    def __call__(self, connection: Connection, by: timedelta, now: datetime) -> None:
        """Moves the times after `now` earlier by `by`."""
        moved = [f"{column} = {_MOVED.format(time=column)}" for column in self.columns]
        moved += [
            f"{column} = ARRAY(SELECT {_MOVED.format(time='t')} FROM unnest({column}) WITH ORDINALITY AS n(t, place) "
            "ORDER BY place)"
            for column in self.histories
        ]
        ahead = " OR ".join(f"{column} > %(now)s" for column in self.columns)
        statement = (
            f"UPDATE {self.table} SET {', '.join(moved)} WHERE ({self.key}) IN (SELECT {self.key} FROM {self.table} "
            f"WHERE ({ahead}) AND {self.condition} ORDER BY {self.key} FOR NO KEY UPDATE)"
        )
        connection.execute(database.literal(statement), {"by": by, "now": now})


_MOVED = "CASE WHEN {time} > %(now)s THEN {time} - %(by)s ELSE {time} END"
