"""Conditions of a step, and the reason when it is skipped."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.support.escalation_run import BOB, DESK, NAMES, EscalationRun, plan, roster
from tocsin.alerts.states import EventKind, Priority
from tocsin.core.reasons import NO_REASON
from tocsin.escalation.policy import StepConditionSpec, parse, policy_templates, unmet_condition
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import CompiledSupportHours

#: A Tuesday, 10:15 and 23:15 in Zurich.
DAY, NIGHT = datetime(2026, 11, 24, 9, 15, tzinfo=UTC), datetime(2026, 11, 24, 22, 15, tzinfo=UTC)
OFFICE = weekly_windows.load([{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}])
HOURS = {30: CompiledSupportHours("Office", ZoneInfo("Europe/Zurich"), OFFICE)}
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
BETWEEN = {"from": "08:00", "to": "18:00", "days": ["tue"], "time_zone": "Europe/Zurich"}


@pytest.mark.parametrize(
    ("when", "at", "message"),
    [
        ({"priority": ["critical"]}, DAY, "only for critical alerts; this alert's priority is high"),
        ({"priority": ["high", "low"]}, DAY, ""),
        ({"during": "Office"}, DAY, ""),
        ({"during": "Office"}, NIGHT, "only during Office"),
        ({"during": {"not": "Office"}}, DAY, "only outside Office"),
        ({"during": {"not": "Office"}}, NIGHT, ""),
        ({"between": BETWEEN}, DAY, ""),
        ({"between": BETWEEN}, NIGHT, "only Tue 08:00 to 18:00 (Europe/Zurich)"),
        ({"between": {**BETWEEN, "days": DAYS}}, NIGHT, "only 08:00 to 18:00 (Europe/Zurich)"),
        ({"between": {**BETWEEN, "outside": True}}, DAY, "only outside Tue 08:00 to 18:00 (Europe/Zurich)"),
        ({"between": {**BETWEEN, "outside": True}}, NIGHT, ""),
        ({"tags": {"environment": "Production"}}, DAY, ""),
        ({"tags": {"site": "Bern"}}, DAY, "only if site is Bern"),
        ({"tags": {"environment": "test"}}, DAY, "only if environment is test; it is production"),
    ],
)
def test_a_condition_holds_or_says_why_not(when: dict[str, object], at: datetime, message: str) -> None:
    condition = StepConditionSpec.read(when, support_hours={"office": 30}).compiled()
    assert str(unmet_condition(condition, Priority.HIGH, {"environment": "production"}, HOURS, at)) == message


def test_support_hours_that_are_gone_do_not_silence_anybody() -> None:
    condition = StepConditionSpec.read({"during": "Office"}, support_hours={"office": 30}).compiled()
    assert unmet_condition(condition, Priority.HIGH, {}, {}, NIGHT) == NO_REASON


def test_steps_for_day_and_night_stand_side_by_side() -> None:
    day, night = {"when": {"between": BETWEEN}}, {"when": {"between": {**BETWEEN, "outside": True}}}
    for first, second in ((day, night), (night, day)):
        world = EscalationRun(plan(("primary", 0, first), ("primary", 0, second), ("secondary", 5))).to(60)
        assert [(minute, NAMES[user]) for minute, user in world.paged][:2] == [(0, "Alice"), (5, "Bob")]
        assert len(world.sentences(EventKind.STEP_EMPTY)) == 1


def test_skipped_step_costs_no_time_before_first_page() -> None:
    world = EscalationRun(plan(("primary", 0, {"when": {"priority": ["critical"]}}), ("secondary", 30))).to(0)
    assert world.paged == [(0, BOB)]
    assert "is skipped: only for critical alerts" in world.sentences(EventKind.STEP_EMPTY)[0]


@pytest.mark.parametrize("one", policy_templates("Europe/Zurich"), ids=lambda one: one.key)
def test_each_policy_template_pages_users_and_ends_or_repeats(one: object) -> None:
    made = parse(one.spec, {})  # type: ignore[attr-defined]
    people = roster()
    duty = people.groups[DESK]
    object.__setattr__(duty, "members", (1, 2, 3))
    world = EscalationRun(made, people).to(240)
    assert world.paged
