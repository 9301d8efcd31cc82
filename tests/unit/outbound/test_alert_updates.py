"""Which alert changes are written to a ticket is decided by data, never by a sentence."""

from __future__ import annotations

from datetime import UTC, datetime

from tocsin.alerts.commands import SYSTEM, AlertChange, AlertState, NewEvent
from tocsin.alerts.states import AlertStatus, CommandChannel, EventKind, Priority
from tocsin.outbound.states import OutboundEvent
from tocsin.outbound.writeback import update_for

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def _events(reason: str, **data: object) -> list[OutboundEvent]:
    alert = AlertState(1, AlertStatus.OPEN, Priority.HIGH, NOW)
    event = NewEvent(
        1, EventKind.STEP_FIRED, NOW, SYSTEM, reason, CommandChannel.POLICY, {"step": 2, "pass": 1, **data}
    )
    return [update.event for update in update_for(AlertChange(alert, alert, (event,)))]


def test_step_named_asked_for_is_written_to_the_ticket() -> None:
    assert _events("Step 2 of 3 (asked for) pages Ann (primary).") == [OutboundEvent.ESCALATE]


def test_requested_step_is_covered_by_the_users_command() -> None:
    assert _events("Step 2 of 3 pages Ann (primary).", requested=True) == []


def test_first_step_of_first_pass_is_not_written() -> None:
    assert _events("Step 1 of 3 pages Ann (primary).", step=1) == []
