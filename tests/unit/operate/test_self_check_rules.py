"""The problems that a self-check detects from its inputs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tocsin.core.reasons import Ago, AlertRef, as_reason, each_of
from tocsin.core.runtime.clock import ClockJump
from tocsin.operate import self_check
from tocsin.operate.node_heartbeat import NodeStatus, TaskRun
from tocsin.operate.self_check import CountWithExamples, DetectedProblem, LongestWait, SelfCheckInputs, find_problems

SECOND = timedelta(seconds=1)


def node(*loops: TaskRun, age: timedelta = SECOND, name: str = "pager1") -> NodeStatus:
    return NodeStatus(uuid4(), name, "all", "1.0", datetime(2026, 11, 24, tzinfo=UTC), age, loops)


@pytest.fixture
def well(now: datetime) -> SelfCheckInputs:
    """Everything turns, and what is due is due just now."""
    return SelfCheckInputs(
        now=now,
        nodes=(node(TaskRun("escalation", SECOND, SECOND), TaskRun("retention", 300 * SECOND, 300 * SECOND)),),
        run=LongestWait(42, now - 2 * SECOND),
        page=LongestWait(42, now - 59 * SECOND),
        message=LongestWait(None, now - SECOND),
    )


def ids(found: tuple[DetectedProblem, ...]) -> list[str]:
    return [one.id for one in found]


def test_no_problem_is_reported_while_all_work_is_timely(well: SelfCheckInputs) -> None:
    assert find_problems(well) == ()


def test_an_idle_installation_is_well(now: datetime) -> None:
    assert find_problems(SelfCheckInputs(now=now)) == ()


def test_stalled_task_is_named_with_its_node(
    well: SelfCheckInputs,
) -> None:
    slow = TaskRun("escalation", 62 * SECOND, SECOND)
    (problem,) = find_problems(
        replace(well, nodes=(node(slow), node(TaskRun("escalation", SECOND, SECOND), name="pager2")))
    )
    assert problem.id == "loop_stopped:escalation"
    assert str(problem.detail) == ("The periodic task “escalation” last succeeded on pager1 (1 minute ago).")


def test_infrequent_task_gets_its_own_deadline(well: SelfCheckInputs) -> None:
    seldom = TaskRun("retention", 659 * SECOND, 300 * SECOND)
    assert find_problems(replace(well, nodes=(node(seldom),))) == ()
    assert ids(find_problems(replace(well, nodes=(node(replace(seldom, age=660 * SECOND)),)))) == [
        "loop_stopped:retention"
    ]


def test_tasks_of_stopped_node_are_not_reported(well: SelfCheckInputs) -> None:
    node_status = node(TaskRun("escalation", 600 * SECOND, SECOND), age=600 * SECOND)
    assert find_problems(replace(well, nodes=(node_status, *well.nodes))) == ()


def test_late_run_is_reported_with_its_alert(well: SelfCheckInputs) -> None:
    (problem,) = find_problems(replace(well, run=LongestWait(42, well.now - 60 * SECOND)))
    assert (problem.id, str(problem.detail)) == (
        "runs_late",
        "The escalation of alert #42 has been overdue for 1 minute.",
    )


def test_late_first_page_is_reported_with_its_error(well: SelfCheckInputs) -> None:
    (problem,) = find_problems(
        replace(well, page=LongestWait(7, well.now - 90 * SECOND, as_reason("mail.example.org does not respond.")))
    )
    assert problem.id == "pages_late"
    detail, error = each_of(problem.detail)
    number = self_check.ALERT_NUMBER(alert=AlertRef(7))
    assert detail == self_check.PAGES_LATE_DETAIL(alert=number, ago=Ago(90 * SECOND))
    assert str(error) == "mail.example.org does not respond."


def test_message_undecided_for_a_minute_is_reported(well: SelfCheckInputs) -> None:
    assert ids(find_problems(replace(well, message=LongestWait(None, well.now - 60 * SECOND)))) == ["messages_late"]


def test_forgotten_and_stuck_alerts_are_named_the_first_of_them(well: SelfCheckInputs) -> None:
    problems = find_problems(
        replace(
            well,
            forgotten_alerts=CountWithExamples(7, (1, 2, 3, 4, 5)),
            stuck_alerts=CountWithExamples(1, (9,)),
            lost_deliveries=2,
        )
    )
    assert ids(problems) == ["alerts_forgotten", "runs_stuck", "deliveries_lost"]
    assert str(problems[0].detail) == "Alerts #1, #2, #3, #4, #5 and 2 more are open but have no scheduled action."
    assert str(problems[1].detail) == "The escalation of alert #9 failed five times in a row."
    assert problems[2].detail == self_check.DELIVERIES_LOST_DETAIL(count=2)


def test_every_problem_says_what_to_do(well: SelfCheckInputs) -> None:
    late = well.now - timedelta(hours=1)
    facts = replace(
        well,
        nodes=(node(TaskRun("outbox", timedelta(hours=1), SECOND)),),
        run=LongestWait(1, late),
        page=LongestWait(1, late),
        message=LongestWait(None, late),
        forgotten_alerts=CountWithExamples(1, (1,)),
        stuck_alerts=CountWithExamples(1, (1,)),
        lost_deliveries=1,
    )
    problems = find_problems(facts)
    assert len(problems) == len(set(ids(problems))) == 7
    assert all(str(one.remedy).endswith(".") and str(one.detail).endswith(".") for one in problems)
    assert not any(str(one.title).endswith(".") for one in problems)


def test_clock_rollback_is_reported_for_an_hour_without_stopping_ping(
    well: SelfCheckInputs,
) -> None:
    facts = replace(well, jump=ClockJump(well.now - timedelta(minutes=59), timedelta(hours=-2)))
    (problem,) = find_problems(facts)
    assert (problem.id, problem.is_warning) == ("clock_set_back", True)
    assert problem.detail == self_check.CLOCK_SET_BACK_AND_REPORTED(duration=timedelta(hours=2))
    (little,) = find_problems(replace(well, jump=ClockJump(well.now, timedelta(seconds=-6))))
    assert little.detail == self_check.CLOCK_SET_BACK_DETAIL(duration=timedelta(seconds=6))
    assert find_problems(replace(facts, jump=ClockJump(well.now - timedelta(minutes=60), timedelta(hours=-2)))) == ()


def test_forward_clock_jump_is_reported_while_retention_is_suspended(well: SelfCheckInputs) -> None:
    facts = replace(well, jump=ClockJump(well.now - timedelta(hours=23), timedelta(days=365)))
    (problem,) = find_problems(facts)
    assert (problem.id, problem.is_warning) == ("clock_ahead", True)
    assert problem.detail == self_check.CLOCK_AHEAD_DETAIL(duration=timedelta(days=365))
    assert find_problems(replace(facts, jump=ClockJump(well.now - timedelta(days=1), timedelta(days=365)))) == ()
