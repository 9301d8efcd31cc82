"""Escalation policies are validated, versioned, audited and protected while referenced."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core import hooks
from tocsin.core.errors import Rejected
from tocsin.core.models import ConfigVersion
from tocsin.escalation.commands import (
    delete_policy,
    plan_of,
    policy_spec,
    reference_names,
    save_policy,
)
from tocsin.escalation.models import Policy, PolicyVersion
from tocsin.inbound.admin.commands import save_integration
from tocsin.people.models import ContactMethod, Group, User

#: Somebody at a page; whoever applies YAML changes several things at once.
WEB = AuditActor(None, "Test", "web")

STANDARD: dict[str, Any] = {
    "name": "Standard",
    "default_priority": "high",
    "acknowledge": {"effect": "stop", "timeout": "30m"},
    "steps": [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"users": ["alice"], "roles": ["secondary"], "groups": ["Service Desk"]}, "after": "90s"},
    ],
}


@pytest.fixture(autouse=True)
def _people(database: str, now: datetime) -> None:
    make_user("alice", now)
    make_group("Service Desk", now, ["alice"])


def test_saved_policy_reads_back_as_written(now: datetime) -> None:
    policy = save_policy(STANDARD, actor=ACTOR, now=now)
    assert policy_spec(Policy.objects.get(pk=policy.pk)) == {
        **STANDARD,
        "steps": [STANDARD["steps"][0], {**STANDARD["steps"][1], "after": "1m30s"}],
    }


def test_saving_the_same_again_makes_no_version_and_no_entry(now: datetime) -> None:
    policy = save_policy(STANDARD, actor=ACTOR, now=now)
    entries, config = AuditEntry.objects.count(), ConfigVersion.objects.get().version
    save_policy(policy_spec(policy), existing=policy, actor=ACTOR, now=now)
    assert policy.versions.count() == 1
    assert (AuditEntry.objects.count(), ConfigVersion.objects.get().version) == (entries, config)


def test_changed_policy_gets_new_version_and_keeps_the_old(now: datetime) -> None:
    policy = save_policy(STANDARD, actor=ACTOR, now=now)
    first = policy.versions.get()
    save_policy({**STANDARD, "end_after": "10m"}, existing=policy, actor=ACTOR, now=now)
    assert [version.number for version in policy.versions.order_by("number")] == [1, 2]
    assert policy.versions.get(number=1).definition == first.definition
    assert plan_of(Policy.objects.get(pk=policy.pk)).final_action_after.total_seconds() == 600
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.before, entry.after) == ("update", {}, {"end_after": "10m"})


def test_renaming_user_or_group_creates_no_policy_version(now: datetime) -> None:
    policy = save_policy(STANDARD, actor=ACTOR, now=now)
    User.objects.filter(username="alice").update(username="alicia")
    Group.objects.filter(name="Service Desk").update(name="Desk")
    renamed = policy_spec(policy)
    assert renamed["steps"][1]["notify"] == {"roles": ["secondary"], "users": ["alicia"], "groups": ["Desk"]}
    save_policy(renamed, existing=policy, actor=ACTOR, now=now)
    assert policy.versions.count() == 1


def test_every_policy_problem_is_reported_with_its_location(now: datetime) -> None:
    save_policy(STANDARD, actor=ACTOR, now=now)
    bad = {"name": "STANDARD", "group": "HR", "steps": [{"notify": {"users": ["nobody"]}}], "colour": "red"}
    with pytest.raises(Rejected) as refused:
        save_policy(bad, actor=ACTOR, now=now)
    assert set(refused.value.fields) == {"name", "group", "steps[0].notify.users[0]", "colour"}
    assert Policy.objects.count() == 1


def test_a_policy_that_is_needed_is_not_deleted(now: datetime) -> None:
    policy = save_policy(STANDARD, actor=ACTOR, now=now)

    def ask(number: int) -> list[str]:
        return ["integration HaloITSM"] if number == policy.pk else []

    with hooks.REFERENCES.restored():
        hooks.REFERENCES.register(ask, "escalation_policy")
        with pytest.raises(Rejected, match="integration HaloITSM"):
            delete_policy(policy, actor=ACTOR, now=now)
    assert Policy.objects.count() == 1


def test_deleting_unused_policy_leaves_only_its_last_version(now: datetime) -> None:
    policy = save_policy(STANDARD, actor=ACTOR, now=now)
    policy = save_policy({**STANDARD, "end_after": "9m"}, existing=policy, actor=ACTOR, now=now)
    delete_policy(policy, actor=ACTOR, now=now)
    assert (Policy.objects.count(), PolicyVersion.objects.count()) == (0, 1)
    assert AuditEntry.objects.latest("id").action == "delete"


def test_users_and_groups_know_the_policies_that_need_them(now: datetime) -> None:
    owned = make_group("Network", now)
    policy = save_policy({**STANDARD, "group": "Network"}, actor=ACTOR, now=now)
    names = reference_names([policy])
    (alice,), (desk,) = names["users"], names["groups"]
    assert (
        hooks.references_to("user", alice)
        == hooks.references_to("group", desk)
        == hooks.references_to("group", owned.pk)
        == [hooks.POLICY(name="Standard")]
    )
    assert hooks.references_to("user", alice + 1) == []


def test_policies_that_hand_over_in_a_circle_are_refused(now: datetime) -> None:
    first = save_policy(STANDARD, actor=ACTOR, now=now)
    second = save_policy({**STANDARD, "name": "Second", "end": _to("Standard")}, actor=ACTOR, now=now)
    for policy, to, method in (
        (first, "Second", "Standard → Second → Standard"),
        (second, "Second", "Second → Second"),
    ):
        with pytest.raises(Rejected, match=method) as refused:
            save_policy({**STANDARD, "name": policy.name, "end": _to(to)}, existing=policy, actor=ACTOR, now=now)
        assert (refused.value.code, refused.value.field) == ("circular", "end.policy")
    assert hooks.references_to("escalation_policy", first.pk) == [hooks.POLICY(name="Second")]


def _to(name: str) -> dict[str, str]:
    return {"then": "hand_over", "policy": name}


def test_policy_that_pages_no_user_requires_confirmation(now: datetime) -> None:
    ContactMethod.objects.update(is_enabled=False)
    alone = {"name": "Alone", "steps": [{"notify": {"users": ["alice"]}, "after": "0m"}]}
    with pytest.raises(Rejected, match="alice has no enabled contact method") as refused:
        save_policy(alone, actor=ACTOR, now=now)
    assert (refused.value.code, refused.value.field) == ("reaches_nobody", "steps")
    saved = save_policy({**alone, "anyway": True}, actor=ACTOR, now=now)
    assert "anyway" not in policy_spec(saved)
    # Whom roles are looked up in is known where the policy is used.
    save_policy({**STANDARD, "steps": STANDARD["steps"][:1]}, actor=ACTOR, now=now)


def test_policy_in_use_cannot_become_unreachable(now: datetime) -> None:
    policy = save_policy({**STANDARD, "steps": STANDARD["steps"][:1]}, actor=ACTOR, now=now)
    spec = {"name": "Door", "kind": "api", "escalation_policy": "Standard", "recipients": {"groups": ["Service Desk"]}}
    save_integration(spec, actor=ACTOR, now=now)
    manager = [{"notify": {"roles": ["lead"]}, "after": "0m"}]
    with pytest.raises(
        Rejected, match="For integration Door: No one would be notified: no lead on call in Service Desk"
    ):
        save_policy({**STANDARD, "steps": manager}, existing=policy, actor=WEB, now=now)
