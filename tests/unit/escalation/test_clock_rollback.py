"""A clock rollback keeps the same pages at the same real time, and never delays them."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.escalation_run import ALICE, CAROL, T0, EscalationRun, actor, minutes, plan
from tests.support.hypothesis_profiles import examples
from tests.unit.escalation.test_engine_properties import ROSTERS, commands
from tests.unit.escalation.test_policy_definition import plans
from tocsin.alerts.commands import Acknowledge, Hold
from tocsin.core.errors import Rejected
from tocsin.escalation.policy import CompiledPolicy
from tocsin.escalation.run.run_state import ActivePause
from tocsin.escalation.run.target_resolution import TargetContext
from tocsin.escalation.tasks import shift_acknowledgements, shift_earlier


def set_back(world: EscalationRun, by: timedelta) -> EscalationRun:
    """Sets the world's clock back, and mends what waits."""
    world.now -= by
    pause = world.pause if world.pause is not None and world.pause.until > world.now else None
    world.run = shift_earlier(world._reread(), world.alert, by, world.now, pause)
    world.alert = shift_acknowledgements(world.alert, by, world.now)
    return world


def test_a_step_comes_when_it_was_to_come() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 10))).to(4)
    set_back(world, minutes(120))
    assert world.run.due_at == T0 + minutes(10 - 120)


def test_hold_end_is_absolute_but_following_step_is_shifted() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 10))).to(4)
    world.act(Hold(actor=actor(ALICE), until=T0 + minutes(60)))
    set_back(world, minutes(120))
    assert world.run.due_at == T0 + minutes(60)
    assert world.run.progress.step_due_at == T0 + minutes(10 - 120)


def test_the_end_of_a_pause_is_a_real_moment() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 10)))
    world.pause = ActivePause(T0 + minutes(60), "Core switch")
    world.to(4)
    set_back(world, minutes(120))
    assert world.run.due_at == T0 + minutes(60)


def test_unanswered_reminder_still_has_five_minutes_after_clock_rollback() -> None:
    world = EscalationRun(plan(("primary", 0), ("secondary", 10))).to(1)
    world.act(Acknowledge(actor=actor(ALICE)))
    world.to(33)
    assert world.asked == [(31, ALICE)]
    # By a clock that was ahead before she acknowledged, and by one that went ahead afterwards.
    for by in (120, 10):
        other = EscalationRun(plan(("primary", 0), ("secondary", 10))).to(1)
        other.act(Acknowledge(actor=actor(ALICE)))
        other.to(33)
        set_back(other, minutes(by))
        assert other.run.due_at == T0 + minutes(36 - by)
        other.to(36 - by)
        assert other.asked == [(31, ALICE)]
        assert not other.alert.acknowledged


@examples(60)
@given(plans(), ROSTERS, st.data())
def test_clock_rollback_yields_the_same_pages_as_correct_clock(
    policy: CompiledPolicy, people: TargetContext, data: st.DataObject
) -> None:
    worlds = [EscalationRun(policy, people, users=(CAROL,)) for _ in range(2)]
    for _ in range(data.draw(st.integers(min_value=1, max_value=8))):
        seconds = data.draw(st.integers(min_value=0, max_value=7200))
        which = data.draw(st.integers(min_value=0, max_value=len(commands(worlds[0])) - 1))
        for world in worlds:
            world.to(world.minute + seconds / 60)
            command = commands(world)[which]
            if not isinstance(command, Hold):
                try:
                    world.act(command)
                except Rejected:
                    continue
    right, wrong = worlds
    # Whole weeks: the condition `between` of a step depends on the weekday and the hour. Winter time holds throughout.
    by = timedelta(weeks=data.draw(st.integers(min_value=1, max_value=3)))
    remaining = len(right.paged)
    set_back(wrong, by)
    for world in worlds:
        world.to(world.minute + 24 * 60)
    assert [(round((minutes(at) + by).total_seconds()), user) for at, user in wrong.paged[remaining:]] == [
        (round(minutes(at).total_seconds()), user) for at, user in right.paged[remaining:]
    ]


@examples(60)
@given(plans(), ROSTERS, st.data())
def test_clock_rollback_of_any_size_delays_nothing(
    policy: CompiledPolicy, people: TargetContext, data: st.DataObject
) -> None:
    world = EscalationRun(policy, people, users=(CAROL,))
    for _ in range(data.draw(st.integers(min_value=1, max_value=8))):
        world.to(world.minute + data.draw(st.integers(min_value=0, max_value=7200)) / 60)
        try:
            world.act(data.draw(st.sampled_from(commands(world))))
        except Rejected:
            continue
    before, answered = world.run, dict(world.run.progress.ack_reminder_sent_at)
    set_back(world, timedelta(seconds=data.draw(st.integers(min_value=5, max_value=20_000))))
    assert (world.run.due_at is None) == (before.due_at is None)
    assert world.run.due_at is None or before.due_at is None or world.run.due_at <= before.due_at
    assert world.run.status == before.status or before.status in ("paused", "active")
    assert world.run.progress.ack_reminder_sent_at.keys() <= answered.keys()
