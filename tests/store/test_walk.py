"""A short walk through everything breaks no promise. `python -m tests.walk` walks further, by hand."""

from __future__ import annotations

from datetime import datetime
from typing import LiteralString

import pytest

from tests.store.escalating import Desk
from tests.walk import promises
from tests.walk.promises import ALWAYS, AT_REST, Broken
from tests.walk.walking import walk
from tests.walk.world import inhabited
from tocsin.core import database as store

SEED = 7
STEPS = 12


def test_a_walk_breaks_no_promise(database: str) -> None:
    with inhabited(SEED) as world:
        try:
            walk(world, STEPS)
        except Broken as found:
            pytest.fail("\n".join([*world.story[-25:], str(found)]))
    assert world.rows("SELECT FROM notify_delivery WHERE purpose = 'page'"), "Nobody was paged: take another seed."


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        ("UPDATE escalation_run SET status = 'ended', due_at = NULL", "one_run_for_each_live_alert"),
        ("UPDATE escalation_run SET due_at = NULL", "nobody_is_forgotten"),
        ("UPDATE escalation_run SET due_at = now() - interval '10 years'", "nothing_due_at_rest"),
        ("UPDATE alerts_alert SET key_hash = '\\x01', holds_key = false", "one_live_alert_a_key"),
        ("UPDATE alerts_alert SET priority = 'low'", "an_event_for_each_change"),
        ("UPDATE notify_notification SET reason = ''", "no_page_without_reason"),
    ],
)
def test_a_row_that_is_wrong_breaks_a_promise(
    database: str, now: datetime, statement: LiteralString, promise: str
) -> None:
    desk = Desk(now)
    with inhabited(SEED) as world:
        desk.open()
        world.settle()
        world.remember()
        promises.hold((*ALWAYS, *AT_REST), world)
        with store.transaction() as connection:
            connection.execute(statement)
        with pytest.raises(Broken) as broken:
            promises.hold((*ALWAYS, *AT_REST), world)
    assert broken.value.promise == promise
