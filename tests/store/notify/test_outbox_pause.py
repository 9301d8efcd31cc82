"""All paging can be paused for a limited time with a reason."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.support.people import make_user
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person
from tocsin.notify import pause
from tocsin.notify.models import Pause
from tocsin.notify.pause import CurrentPause
from tocsin.notify.rules.page_planner import PAUSED_BY

pytestmark = pytest.mark.usefixtures("database")

NOBODY = AuditActor(None, "Erin", "web")
HOUR = timedelta(hours=1)


def current(at: datetime) -> CurrentPause | None:
    with database.transaction() as connection:
        return pause.current_pause(connection, at)


@pytest.mark.parametrize(
    ("reason", "hours", "field"),
    [("", 1, "reason"), (" \n ", 1, "reason"), ("x" * 501, 1, "reason"), ("Why", 0, "until"), ("Why", -1, "until"),
     ("Why", 24 * 7 + 1, "until")],
)  # fmt: skip
def test_pause_requires_reason_and_end_within_a_week(reason: str, hours: int, field: str, now: datetime) -> None:
    with pytest.raises(Rejected) as caught:
        pause.start(reason, now + hours * HOUR, NOBODY, now)
    assert caught.value.field == field
    assert current(now) is None


def test_a_pause_holds_until_its_end(now: datetime) -> None:
    erin = make_user("erin", now, name="Erin", role="admin")
    pause.start("Core switch.", now + HOUR, AuditActor.from_user(erin, "web", limits=None), now)
    current_pause = current(now)
    assert current_pause is not None
    assert (current_pause.reason, current_pause.until, current_pause.by) == ("Core switch", now + HOUR, "Erin")
    assert current_pause.wait_reason == PAUSED_BY(user=Person("Erin", erin.pk), cause="Core switch")
    assert current(now - timedelta(seconds=1)) is None
    assert current(now + HOUR - timedelta(seconds=1)) is not None
    assert current(now + HOUR) is None


def test_a_new_pause_takes_the_place_of_the_old(now: datetime) -> None:
    pause.start("First", now + HOUR, NOBODY, now)
    pause.start("Second", now + 2 * HOUR, NOBODY, now + timedelta(minutes=1))
    current_pause = current(now + timedelta(minutes=2))
    assert current_pause is not None
    assert current_pause.reason == "Second"
    assert Pause.objects.filter(ended_at=None).count() == 1


def test_a_pause_can_be_ended_early_once(now: datetime) -> None:
    pause.start("Why", now + HOUR, NOBODY, now)
    assert pause.end(NOBODY, now + timedelta(minutes=1))
    assert current(now + timedelta(minutes=1)) is None
    assert not pause.end(NOBODY, now + timedelta(minutes=2))
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["pause", "end_pause"]
