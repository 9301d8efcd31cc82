"""The current time by the database's clock, so that all nodes agree. Read once per request or run and passed down."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection

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
