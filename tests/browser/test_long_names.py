"""Long single-word names never cause horizontal scrolling."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.test_every_page import SMALLEST, sign_in
from tests.support import service_desk
from tests.support.browser import visitor
from tests.support.server_process import serve
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.runtime import clock
from tocsin.escalation.commands import save_policy
from tocsin.oncall.changes.commands import save_schedule
from tocsin.people.changes import groups
from tocsin.people.models import User

pytestmark = pytest.mark.browser

LONG = "W" * 60


def test_long_single_word_name_never_causes_horizontal_scrolling(
    browser: Browser, database: str, tmp_path: Path
) -> None:
    service_desk.set_up()
    how = {"actor": COMMAND_LINE, "now": clock.now()}
    User.objects.filter(username="alice").update(name=LONG)
    members = [{"user": "alice", "roles": ["primary"]}]
    group = groups.save_group({"name": LONG, "members": members}, **how)
    policy = save_policy({"name": LONG, "steps": [{"notify": {"roles": ["primary"], "groups": [LONG]}}]}, **how)
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["alice"], "roles": ["primary"]}
    shift = {"name": LONG, "rotate": rotate, "start": "2026-01-05"}
    schedule = save_schedule({"name": LONG, "group": LONG, "shifts": [shift]}, **how)
    paths = (
        f"/groups/{group.pk}/", f"/groups/{group.pk}/edit/", f"/groups/{group.pk}/delete/", f"/policies/{policy.pk}/",
        f"/policies/{policy.pk}/edit/", f"/on-call/groups/{group.pk}/", f"/on-call/schedules/{schedule.pk}/edit/",
        "/on-call/", "/users/", "/wall/", "/",
    )  # fmt: skip
    with serve(tmp_path, database) as running, visitor(browser, running.url, width=SMALLEST) as alice:
        sign_in(alice, "alice")
        for path in paths:
            alice.open(path)
            alice.check_width()
            with alice.narrowed(320):
                alice.check_width(f"{path} at 320")
        assert not alice.problems, "\n".join(alice.problems)
