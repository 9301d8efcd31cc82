"""Reachability of a policy, checked before it is saved on an integration."""

from __future__ import annotations

from dataclasses import replace

from tests.support.escalation_run import ALICE, CAROL, DESK, ERIN, T0, plan, roster
from tocsin.escalation import reasons
from tocsin.escalation.policy import RECIPIENTS_ONLY
from tocsin.escalation.run.target_resolution import TargetContext, leads, problem_with_reach


def test_policy_reaching_a_user_in_any_step_is_valid() -> None:
    policy = plan(("lead", 0), ("primary", 5))
    assert problem_with_reach(policy, roster(lead=()), (), (DESK,), T0) is None


def test_unreachable_policy_gives_a_reason() -> None:
    policy = plan(("primary", 0), ("secondary", 5))
    problem = problem_with_reach(policy, roster(primary=(), offsets={2: ()}), (), (DESK,), T0)
    assert str(problem) == (
        "No one would be notified: no primary on call in Desk; Bob has no enabled contact method; no other "
        "secondary on call in Desk."
    )


def test_roles_without_groups_reach_no_user() -> None:
    assert str(problem_with_reach(plan(("primary", 0)), roster(), (), (), T0)) == (
        "No one would be notified: no group has a primary."
    )


def test_without_a_policy_only_recipient_users_are_reached() -> None:
    assert problem_with_reach(RECIPIENTS_ONLY, roster(), (ALICE,), (), T0) is None
    problem = problem_with_reach(RECIPIENTS_ONLY, roster(), (), (DESK,), T0)
    assert problem == reasons.REACHES_NOBODY(notes=reasons.NO_TARGETS())


def test_an_unknown_group_contact_is_named() -> None:
    policy = plan(({"group_contacts": ["Pager list"]}, 0))
    assert str(problem_with_reach(policy, roster(), (), (DESK,), T0)) == (
        "No one would be notified: no group has a contact Pager list."
    )


def test_available_managers_precede_administrators() -> None:
    assert leads((DESK,), roster()) == (CAROL,)
    assert leads((DESK,), roster(lead=(77,))) == (ERIN,)
    assert leads((), TargetContext()) == ()


def test_deleted_groups_and_users_are_reported() -> None:
    whole = roster()
    target_context = replace(whole, groups={}, active_users={}, deactivated_names={ALICE: "Alice"})
    steps = plan(("primary", 0), ({"everybody": True}, 5), ({"users": ["alice", "bob"]}, 5))
    assert str(problem_with_reach(steps, target_context, (), (DESK,), T0)) == (
        "No one would be notified: a group of this step no longer exists; Alice is deactivated;"
        " a user of this step no longer exists."
    )
