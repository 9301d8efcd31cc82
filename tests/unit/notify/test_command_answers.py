"""Answers to one command about several alerts."""

from __future__ import annotations

import pytest

from tocsin.alerts.states import CommandKind
from tocsin.core.reasons import Reason, each_of
from tocsin.notify.inbound.responder_actions import OFFERED
from tocsin.notify.text.formatting import ask_which_alert, bulk_result


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (CommandKind.ACKNOWLEDGE, "You acknowledged {count} alert."),
        (CommandKind.ASSIGN, "{count} alert is assigned to you."),
        (CommandKind.ESCALATE, "You escalated {count} alert."),
        (CommandKind.CLOSE, "You closed {count} alert."),
        (CommandKind.REPLY, "You added a note to {count} alert."),
    ],
)
def test_bulk_result_counts_done_and_rejected_alerts(kind: CommandKind, code: str) -> None:
    assert bulk_result(kind, 2, 0) == Reason(code, (("count", 2),))
    done, rejected = each_of(bulk_result(kind, 1, 3))
    assert (done.code, done["count"]) == (code, 1)
    assert (rejected.code, rejected["count"]) == ("{count} alert could not be changed. Open it to see why.", 3)


def test_every_offered_command_has_a_bulk_result() -> None:
    assert all(bulk_result(kind, 2, 0) for kind in OFFERED)


def test_question_which_alert_lists_six_and_counts_the_rest() -> None:
    answer = ask_which_alert(CommandKind.ACKNOWLEDGE, range(1, 10))
    assert str(answer) == ("9 alerts are open for you: #1, #2, #3, #4, #5, #6 and 3 more. Send ACK 1, or ACK ALL.")
    assert ask_which_alert(CommandKind.REPLY, [1, 2]).code == "{count} alert is open for you: {alerts}. Send {command}."
