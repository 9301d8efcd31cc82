"""Properties of every policy, target context and command history."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.escalation_run import ALICE, BOB, CAROL, NAMES, T0, EscalationRun, actor, minutes, roster
from tests.support.hypothesis_profiles import examples
from tests.unit.escalation.test_policy_definition import plans
from tocsin.alerts.commands import (
    Acknowledge,
    Assign,
    Cancel,
    Close,
    Command,
    Escalate,
    Hold,
    Reopen,
    Reply,
    Resume,
    Unacknowledge,
    Unassign,
    Undo,
)
from tocsin.alerts.states import ACTIVE
from tocsin.core.errors import Rejected
from tocsin.escalation.policy import CompiledPolicy, PolicyStep
from tocsin.escalation.run.engine import advance
from tocsin.escalation.run.run_state import ActivePause, RunStatus
from tocsin.escalation.run.target_resolution import TargetContext
from tocsin.notify.rules.page_planner import USER_RULES

PEOPLE = st.lists(st.sampled_from(sorted(NAMES)), unique=True, max_size=3).map(tuple)
ROSTERS: st.SearchStrategy[TargetContext] = st.builds(
    lambda primary, secondary, lead, offsets: roster(primary=primary, secondary=secondary, lead=lead, offsets=offsets),
    PEOPLE,
    PEOPLE,
    PEOPLE,
    st.dictionaries(
        st.sampled_from(sorted(NAMES)), st.lists(st.integers(min_value=0, max_value=600), max_size=3).map(tuple)
    ),
)


def commands(world: EscalationRun) -> list[Command]:
    who = [actor(user) for user in (ALICE, BOB, CAROL)]
    return [
        *(Acknowledge(actor=person) for person in who),
        Unacknowledge(actor=who[0]),
        Assign(actor=who[0], user_id=ALICE, name="Alice"),
        Assign(actor=who[1], name="Vendor"),
        Unassign(actor=who[1]),
        Escalate(actor=who[2]),
        Reply(actor=who[0], text="hm"),
        Hold(actor=who[1], until=world.now + minutes(7)),
        Resume(actor=who[1]),
        Close(actor=who[1]),
        Cancel(actor=who[1]),
        Reopen(actor=who[2]),
        *(Undo(actor=person) for person in who),
    ]


def check(world: EscalationRun) -> None:
    """What must hold between any two acts."""
    run = world.run
    assert run.reason
    if run.status in (RunStatus.ACTIVE, RunStatus.PAUSED):
        assert run.due_at is not None, "a run at work has a timer"
    if world.alert.status not in ACTIVE:
        assert (run.status, run.due_at) == (RunStatus.TERMINATED, None)
    elif world.alert.is_owned and world.alert.status == "assigned" and run.progress.escalate_requested_at is None:
        assert (run.status, run.due_at) == (RunStatus.STOPPED, None)
    elif run.due_at is None:
        assert run.status in (RunStatus.EXHAUSTED, RunStatus.STOPPED)
        assert not world.alert.acknowledged, "an acknowledgement always has its timeout"


@examples(100)
@given(plans(), ROSTERS, st.data())
def test_active_alert_always_has_timer_or_reason_in_forward_time(
    policy: CompiledPolicy, people: TargetContext, data: st.DataObject
) -> None:
    world = EscalationRun(policy, people, users=(CAROL,))
    for _ in range(data.draw(st.integers(min_value=1, max_value=12))):
        before = world.run
        seconds = data.draw(st.integers(min_value=0, max_value=7200))
        if data.draw(st.booleans()):
            world.to(world.minute + seconds / 60)
        else:
            world.at(world.minute + seconds / 60)
        check(world)
        try:
            world.act(data.draw(st.sampled_from(commands(world))))
        except Rejected:
            continue
        check(world)
        assert world.run.started_at >= before.started_at
        assert world.run.started_at <= world.now
    assert [minute for minute, _user in world.paged] == sorted(minute for minute, _user in world.paged)
    for step_at in (world.run.progress.last_step_at, world.run.progress.exhausted_at):
        assert step_at is None or step_at <= world.now


@examples(100)
@given(plans(ends=True), ROSTERS, st.sampled_from([ALICE, BOB, CAROL]), st.integers(min_value=0, max_value=3600))
def test_acknowledging_user_is_never_paged_again_while_acknowledged(
    policy: CompiledPolicy, people: TargetContext, user: int, seconds: int
) -> None:
    world = EscalationRun(replace(policy, acknowledge_timeout=timedelta(days=300)), people, users=(CAROL,))
    world.to(seconds / 60)
    world.act(Acknowledge(actor=actor(user)))
    paged = len(world.paged)
    world.to(world.minute + 60 * 24)
    assert user not in [who for _minute, who in world.paged[paged:]]


@examples(100)
@given(plans(ends=True), ROSTERS)
def test_unanswered_run_always_exhausts_with_bounded_pages(policy: CompiledPolicy, people: TargetContext) -> None:
    world = EscalationRun(policy, people, users=(CAROL,))
    world.to(60 * 24 * 365)
    assert world.run.status is RunStatus.EXHAUSTED
    assert len(world.told) <= 2
    everyone = len(NAMES)
    assert len(world.paged) <= everyone * len(policy.steps) * (policy.repeat_times + 1)
    instants = [(minute, who) for minute, who in world.paged]
    assert len(instants) == len(set(instants)), "nobody twice at one moment"


@examples(100)
@given(plans(ends=True), st.data())
def test_late_runs_page_the_same_users_in_order(policy: CompiledPolicy, data: st.DataObject) -> None:
    """With pages that leave at once, so that nobody's being busy depends on the delay."""
    people = data.draw(
        st.builds(lambda primary, secondary: roster(primary=primary, secondary=secondary), PEOPLE, PEOPLE)
    )
    # Without conditions on the time of day and further tries, whose people are busy, which a delay may change.
    steps = (
        replace(step, after=step.after + minutes(1), when=None, delivery_override=USER_RULES) for step in policy.steps
    )
    spaced = replace(policy, steps=tuple(steps))
    prompt = EscalationRun(spaced, people).to(60 * 24 * 365)
    late = EscalationRun(spaced, people)
    while late.run.due_at is not None:
        late.now = late.run.due_at + timedelta(seconds=data.draw(st.integers(min_value=0, max_value=40_000)))
        late.run_once()
    assert late.users() == prompt.users()
    assert [send_notice.notice_reason for _minute, send_notice in late.told] == [
        send_notice.notice_reason for _minute, send_notice in prompt.told
    ]


@examples(100)
@given(plans(ends=True), ROSTERS, st.lists(st.integers(min_value=0, max_value=20_000), max_size=8))
def test_intermediate_runs_change_nothing(policy: CompiledPolicy, people: TargetContext, seconds: list[int]) -> None:
    often, rarely = EscalationRun(policy, people, users=(CAROL,)), EscalationRun(policy, people, users=(CAROL,))
    for second in sorted(seconds):
        often.to(second / 60)
        again = advance(often.run, often.alert, often.roster, often.now)
        assert (again.run, again.events, again.pages) == (often.run, (), ())
    often.to(600)
    rarely.to(600)
    assert (often.paged, often.run) == (rarely.paged, rarely.run)


@examples(100)
@given(plans(ends=True), ROSTERS, st.integers(min_value=0, max_value=600), st.integers(min_value=1, max_value=7200))
def test_pause_of_all_paging_pages_no_user(
    policy: CompiledPolicy, people: TargetContext, start: int, length: int
) -> None:
    world = EscalationRun(policy, people).to(start / 60)
    world.pause = ActivePause(world.now + timedelta(seconds=length), "maintenance")
    before = len(world.paged)
    until = (world.pause.until - T0) / minutes(1)
    world.to(until - 1 / 600)
    assert len(world.paged) == before
    world.to(60 * 24 * 365)
    assert world.run.status is RunStatus.EXHAUSTED


def test_50_empty_steps_are_decided_in_one_run() -> None:
    policy = CompiledPolicy(steps=tuple(PolicyStep(after=minutes(5), user_ids=(99,)) for _ in range(50)))
    world = EscalationRun(policy).to(5)
    assert world.run.due_at == T0 + minutes(10)
    assert len(world.told) == 1
