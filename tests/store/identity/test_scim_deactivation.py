"""Deactivating somebody by SCIM while a page is out: the next step fires, and managers learn of empty shifts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import psycopg
import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.people import ACTOR
from tests.support.scim import scim_client
from tocsin.core.db.database import CHANNEL
from tocsin.core.reasons import reason_from_json
from tocsin.escalation import tasks
from tocsin.notify.models import Notification
from tocsin.oncall.changes import commands as oncall
from tocsin.operate import coverage


@pytest.fixture
def desk(database: str, now: datetime) -> Iterator[EscalationHarness]:
    with escalation_enabled():
        yield EscalationHarness(now)


def test_a_page_moves_on_within_five_seconds(desk: EscalationHarness, database: str) -> None:
    rotate = {"every": "1w", "at": "09:00", "users": ["alice"]}
    shifts = [{"name": "Weekly", "start": "2026-01-05", "rotate": rotate}]
    oncall.save_schedule({"name": "Plan", "group": "Service Desk", "shifts": shifts}, actor=ACTOR, now=desk.at(0))
    alert = desk.open()
    desk.run_until(0)
    assert {who for who, *_ in desk.pages(alert)} == {"alice"}
    client = scim_client()
    [alice] = client.find('userName eq "alice"')
    with psycopg.connect(database, autocommit=True) as listening:
        listening.execute(f"LISTEN {CHANNEL}")
        answer = client.patch(f"/Users/{alice['id']}", {"op": "Replace", "path": "active", "value": "False"})
        assert (answer.status, answer.body["active"]) == (200, False)
        hints = {hint.payload for hint in listening.notifies(timeout=5, stop_after=1)}
    woken = (tasks.deactivated_users_task(), coverage.deactivation_mail_task())
    assert all(hints & task.topics for task in woken), "both run at once, and not after their interval"
    tasks.release_deactivated_users(desk.at(0.05))
    desk.run_until(0.05)
    assert desk.pages(alert)[-1][:3] == ("bob", "email", 0.05)
    coverage.run_once(desk.at(0.05))
    notice = Notification.objects.get(purpose="notice", data__about__startswith="deactivated:")
    assert notice.user == desk.users["carol"], "the group's lead"
    assert f"/groups/{desk.group.pk}/reassign/?role=primary" in str(reason_from_json(notice.data["text"]))
