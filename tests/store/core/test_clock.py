"""The current time follows the database's clock, whatever happens to this machine's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from tocsin.core.db import database
from tocsin.core.runtime import clock

pytestmark = pytest.mark.usefixtures("database")


class TwoHoursAhead(datetime):
    """This machine's clock after somebody set it."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(hours=2)


def test_setting_this_machines_clock_moves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    with database.connect(name="test") as connection:
        clock.measure(connection)
        monkeypatch.setattr(clock, "datetime", TwoHoursAhead)
        assert abs(clock.now() - clock.database_now(connection)) < timedelta(seconds=5)


def test_skew_is_the_difference_from_this_machines_clock() -> None:
    with database.connect(name="test") as connection:
        clock.measure(connection)
    assert abs(clock.now() - (datetime.now(UTC) + clock.skew())) < timedelta(milliseconds=50)
