"""Changing escalation policies: checked, recorded in the audit log, known to every node. A version never changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from tocsin.access import audit
from tocsin.access.audit import Actor
from tocsin.core import configuration, dependents
from tocsin.core.errors import Rejected
from tocsin.core.specs import Spec
from tocsin.escalation import policy as policies
from tocsin.escalation.models import Policy, PolicyVersion, Run
from tocsin.escalation.policy import Names, PolicyPlan
from tocsin.escalation.runs import RunStatus
from tocsin.people.models import Group, User


def policy_spec(policy: Policy) -> dict[str, Any]:
    """The policy as YAML and the API write one: its current version."""
    spec: dict[str, Any] = {"name": policy.name}
    if policy.group:
        spec["group"] = policy.group.name
    users = dict(User.objects.values_list("pk", "username"))
    groups = dict(Group.objects.values_list("pk", "name"))
    return spec | policies.write(plan_of(policy), users.__getitem__, groups.__getitem__)


def plan_of(policy: Policy) -> PolicyPlan:
    """The plan of the policy's current version."""
    assert policy.current is not None
    return policies.load(policy.current.definition)


def save_policy(spec: Mapping[str, object], *, existing: Policy | None = None, actor: Actor, now: datetime) -> Policy:
    """Makes a policy, or gives `existing` a new version if its plan differs. Raises Rejected that names the place.

    Runs that are under way keep the version that they were started with.
    """
    with transaction.atomic():
        configuration.lock()
        head = Spec({key: value for key, value in spec.items() if key in ("name", "group")})
        name, group_name = head.name(), head.text("group")
        head.finish()
        others = Policy.objects.exclude(pk=existing.pk) if existing else Policy.objects.all()
        if others.filter(name__iexact=name).exists():
            raise Rejected("name_taken", f'There is an escalation policy "{name}" already.', "name")
        group = _group(group_name)
        plan = policies.parse(_body(spec), _names())
        before = policy_spec(existing) if existing else None
        policy = existing or Policy()
        policy.name, policy.group = name, group
        policy.save()
        _write_version(policy, policies.store(plan), now)
        _record(policy, before, policy_spec(policy), actor, now)
    return policy


def delete_policy(policy: Policy, *, actor: Actor, now: datetime) -> None:
    """Deletes a policy. Raises Rejected ("in_use") while an integration names it or an alert is escalated by it."""
    with transaction.atomic():
        configuration.lock()
        dependents.refuse_deletion("policy", policy.pk, policy.name)
        runs = Run.objects.filter(version__policy=policy)
        going = runs.exclude(status=RunStatus.ENDED).values_list("alert_id", flat=True).first()
        if going is not None:
            raise Rejected("in_use", f"{policy.name} cannot be deleted: alert #{going} is being escalated by it.")
        before = policy_spec(policy)
        # What the runs that are over did is on their alerts' timelines.
        runs.update(version=None)
        Policy.objects.filter(pk=policy.pk).update(current=None)
        _record(policy, before, None, actor, now)
        Policy.objects.get(pk=policy.pk).delete()


def needs_user(user_id: int) -> list[str]:
    """The policies whose steps name that user, for whoever wants to delete the user."""
    return [f"escalation policy {policy.name}" for policy in _current() if user_id in _references(policy)[0]]


def needs_group(group_id: int) -> list[str]:
    """The policies that the group owns or whose steps name it, for whoever wants to delete the group."""
    return [
        f"escalation policy {policy.name}"
        for policy in _current()
        if policy.group_id == group_id or group_id in _references(policy)[1]
    ]


def _current() -> list[Policy]:
    return list(Policy.objects.select_related("current").exclude(current=None))


def _references(policy: Policy) -> tuple[frozenset[int], frozenset[int]]:
    assert policy.current is not None
    return policies.references(policy.current.definition)


def _body(spec: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in spec.items() if key not in ("name", "group") and value is not None}


def _names() -> Names:
    return Names(
        users={username.lower(): number for number, username in User.objects.values_list("pk", "username")},
        groups={name.lower(): number for number, name in Group.objects.values_list("pk", "name")},
    )


def _group(name: str) -> Group | None:
    if not name:
        return None
    group = Group.objects.filter(name__iexact=name).first()
    if group is None:
        raise Rejected("not_found", f'group: there is no group "{name}".', "group")
    return group


def _write_version(policy: Policy, definition: dict[str, Any], now: datetime) -> None:
    if policy.current is not None and policy.current.definition == definition:
        return
    last = policy.versions.order_by("number").last()
    policy.current = PolicyVersion.objects.create(
        policy=policy, number=last.number + 1 if last else 1, definition=definition, created_at=now
    )
    policy.save(update_fields=["current"])


def _record(
    policy: Policy, before: dict[str, Any] | None, after: dict[str, Any] | None, actor: Actor, now: datetime
) -> None:
    if audit.record_change(
        actor,
        now=now,
        object_type="escalation_policy",
        object_id=policy.pk,
        object_name=policy.name,
        before=before,
        after=after,
    ):
        configuration.changed()
