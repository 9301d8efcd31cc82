"""What the timeline of a run says in states that few runs reach."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from tests.support.escalation_run import ALICE, BOB, DESK, NETWORK, T0, EscalationRun, actor, plan, roster
from tocsin.alerts.commands import Acknowledge, PagingMode
from tocsin.alerts.states import EventKind, Priority
from tocsin.core.reasons import Reason
from tocsin.escalation.run.run_state import raise_priority
from tocsin.escalation.run.target_resolution import TargetFacts, problem_with_reach


def codes(run: EscalationRun, kind: EventKind) -> set[str]:
    """The codes of the run's timeline events of that kind, with those within them."""

    def within(value: object) -> set[str]:
        match value:
            case Reason():
                return {value.code}.union(*(within(inner) for _name, inner in value.params))
            case tuple():
                return set().union(*map(within, value))
            case _:
                return set()

    return set().union(*(within(event.reason) for event in run.events if event.kind is kind))


def test_step_for_everybody_needs_a_group() -> None:
    policy = plan(({"everybody": True}, 0))
    assert problem_with_reach(policy, roster(), (), (), T0) is not None
    run = EscalationRun(policy, groups=()).to(0)
    assert "no recipient group" in codes(run, EventKind.STEP_EMPTY)


def test_assignee_of_the_ticket_without_an_account_is_named() -> None:
    people = replace(roster(), facts={42: TargetFacts({}, None, "Zoe Halo")})
    run = EscalationRun(plan(({"assignee": True}, 0)), people).to(0)
    assert "the ticket is assigned to {assignee}, who is not a user" in codes(run, EventKind.STEP_EMPTY)
    assert any("Zoe Halo" in sentence for sentence in run.sentences(EventKind.STEP_EMPTY))


def test_a_deleted_group_is_counted_without_its_name() -> None:
    people = roster(network=(BOB,))
    people = replace(people, groups={NETWORK: people.groups[NETWORK]})
    policy = plan(("primary", 0), groups_sequential="10m")
    run = EscalationRun(policy, people, groups=(DESK, NETWORK)).to(0)
    assert "policy.group_round" in codes(run, EventKind.STEP_EMPTY) | codes(run, EventKind.STEP_FIRED)


def test_reminder_of_a_dry_run_is_only_noted() -> None:
    policy = plan(("primary", 0), acknowledge={"effect": "stop"})
    run = EscalationRun(policy, mode=PagingMode.DRY_RUN).to(0)
    run.act(Acknowledge(actor=actor(ALICE)))
    run.to(31)
    assert codes(run, EventKind.ACK_REMINDER_SENT) == {"escalation.reminder_sent_in_dry_run"}


def test_responders_of_a_dry_run_would_hear_of_a_priority() -> None:
    run = EscalationRun(plan(("primary", 0), acknowledge={"effect": "stop"}), mode=PagingMode.DRY_RUN).to(0)
    run.act(Acknowledge(actor=actor(ALICE)))
    run.alert = msgspec.structs.replace(run.alert, priority=Priority.CRITICAL)
    run._keep(raise_priority(run._reread(), run.alert, None, run.now))
    assert "escalation.responders_notified_in_dry_run" in codes(run, EventKind.NOTICE_SENT)


def test_expired_acknowledgement_below_the_required_number_continues() -> None:
    policy = plan(("primary", 0), ("secondary", 60), acknowledge={"effect": "stop", "people": 2})
    run = EscalationRun(policy).to(0)
    run.act(Acknowledge(actor=actor(ALICE)))
    run.to(20)
    run.act(Acknowledge(actor=actor(BOB)))
    run.to(36)
    assert "escalation.too_few_acknowledgements" in codes(run, EventKind.ESCALATION_CONTINUED)
