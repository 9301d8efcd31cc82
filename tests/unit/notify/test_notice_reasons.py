"""Notices that only some states cause: a shift that begins now, long lists of problems."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from tocsin.access.roles import MemberRole
from tocsin.core.reasons import as_reason
from tocsin.notify import notices

NOW = datetime.fromisoformat("2026-11-24T09:15:00+00:00")


def test_reminder_of_a_shift_that_begins_now_says_so() -> None:
    assignment = SimpleNamespace(
        role=MemberRole.PRIMARY, since=NOW + timedelta(seconds=5), until=None, reason=as_reason("Weekly")
    )
    notice = notices._notice("Service Desk", cast(Any, assignment), NOW)
    assert (cast(Any, notice.title).code, cast(Any, notice.text).code) == (
        "On call now: {role} of {group}", "You are {role} of {group} from {start}: {reason}.",
    )  # fmt: skip
