"""Creates, changes and deletes escalation policies, with validation, versions, audit log and config version.

A spec has the shape of YAML and the API. The caller checks permissions beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Max, QuerySet

from tocsin.access import boundary, config_audit
from tocsin.access.audit import AuditActor
from tocsin.core import object_hooks
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, joined
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.escalation.changes import reachability
from tocsin.escalation.models import EscalationRun, Policy, PolicyVersion
from tocsin.escalation.policy import policy as definitions
from tocsin.escalation.policy.policy import CompiledPolicy, PolicyReferences, PolicySpec
from tocsin.escalation.policy.steps import PolicyNames
from tocsin.oncall.models import Schedule, SupportHours
from tocsin.people.models import Group, User
from tocsin.people.name_lookup import find_group, names_check

_CIRCULAR = ReasonType("policy.circular", "the policies hand over in a loop: {policies}.")
_SAVE_ANYWAY = ReasonType(
    "policy.save_anyway", "Add a user who can be notified, or save anyway (anyway: true in YAML and the API)."
)

type NamesById = Mapping[str, Mapping[int, str]]


def policy_spec(policy: Policy, names: NamesById | None = None) -> dict[str, Any]:
    """The policy's spec as in YAML and the API. To format many policies, pass `names` from `names_of`."""
    names_by_kind = names if names is not None else reference_names([policy])
    spec: dict[str, Any] = {"name": policy.name}
    if policy.group is not None:
        spec["group"] = policy.group.name
    plan = readable(policy)
    if plan is None:
        return spec | dict(policy.current_version.definition)  # type: ignore[union-attr]
    return spec | definitions.write(plan, lambda key, number: names_by_kind[key].get(number, f"#{number}"))


def reference_names(policies: Iterable[Policy]) -> dict[str, dict[int, str]]:
    """The names of everything that `policies` refer to, by kind and id, in a fixed number of queries."""
    refs = [references(policy) for policy in policies]
    return {
        "users": _names_by_id(User.objects.all(), {n for names in refs for n in names.users}, "username"),
        "groups": _names_by_id(Group.objects.all(), {n for names in refs for n in names.groups}),
        "schedules": _names_by_id(Schedule.objects.all(), {n for names in refs for n in names.schedules}),
        "support_hours": _names_by_id(SupportHours.objects.all(), {n for names in refs for n in names.support_hours}),
        "policies": _names_by_id(Policy.objects.all(), {n for names in refs for n in names.policies}),
    }


def _names_by_id(rows: QuerySet[Any], ids: set[int], by: str = "name") -> dict[int, str]:
    return dict(rows.filter(pk__in=ids).values_list("pk", by)) if ids else {}


def plan_of(policy: Policy) -> CompiledPolicy:
    """The compiled current version of the policy. Raises Rejected("unreadable") if this release does not know it."""
    assert policy.current_version is not None, "a policy has a version from its first moment on"
    try:
        return definitions.load(policy.current_version.definition)
    except Rejected as problem:
        raise Rejected("unreadable", definitions.POLICY_UNREADABLE(policy=policy.name)) from problem


def readable(policy: Policy) -> CompiledPolicy | None:
    """The compiled current version of the policy, or None if this release cannot read it."""
    return None if unreadable(policy) else plan_of(policy)


def unreadable(policy: Policy) -> Reason | None:
    """Why this release cannot read the current version, or None if it can."""
    try:
        plan_of(policy)
    except Rejected as rejected:
        return rejected.reason
    return None


def save_policy(
    spec: Mapping[str, object], *, existing: Policy | None = None, actor: AuditActor, now: datetime
) -> Policy:
    """Creates a policy, or updates `existing` to the spec; changed steps or settings create a new version.

    Active runs keep the version they began with. Raises Rejected with the field of each problem: "circular" for
    policies that hand over to each other, "reaches_nobody" for a policy that could page nobody, unless the spec has
    `anyway: true`.
    """
    with boundary.command():
        config_version.lock()
        name, group, plan, allows_unreachable = _read(spec, existing)
        if not allows_unreachable:
            _refuse_unreachable(plan, existing, actor, now)
        before = policy_spec(existing) if existing else None
        policy = existing or Policy()
        policy.name, policy.group = name, group
        policy.save()
        _write_version(policy, plan, now)
        config_audit.record("escalation_policy", policy, before, policy_spec(policy), actor=actor, now=now)
    return policy


def check_policy(spec: Mapping[str, object], *, existing: Policy | None = None) -> None:
    """Validates the spec itself as `save_policy` would, without changing anything. Raises Rejected."""
    _read(spec, existing)


def _read(spec: Mapping[str, object], existing: Policy | None) -> tuple[str, Group | None, CompiledPolicy, bool]:
    """Parses the spec into name, owning group, compiled policy, and whether it may reach nobody
    (`allows_unreachable`)."""
    names, check = _names(), names_check(Policy, existing)
    parsed = PolicySpec.read(spec, check=check, **names.context)
    plan = parsed.compiled(names)
    _refuse_circular_handover(plan, existing)
    return parsed.name, find_group(parsed.group), plan, parsed.allows_unreachable


def delete_policy(policy: Policy, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a policy. Active runs finish with their version.

    Raises Rejected("in_use") while an integration uses it.
    """
    with boundary.command():
        config_version.lock()
        object_hooks.reject_if_referenced("escalation_policy", policy.pk, policy.name)
        config_audit.record("escalation_policy", policy, policy_spec(policy), None, actor=actor, now=now)
        # An alert created at this moment may start a run with the current version, so that one is kept, used or not.
        versions = [
            number for number in policy.versions.values_list("pk", flat=True) if number != policy.current_version_id
        ]
        policy.delete()
        used = EscalationRun.objects.filter(version__in=versions).values("version")
        PolicyVersion.objects.filter(pk__in=versions).exclude(pk__in=used).delete()


def policies_using_user(user_id: int) -> list[Reason]:
    """The policies with a step for that user, which block the user's deletion."""
    return _policies_using(lambda policy, names: user_id in names.users)


def policies_using_group(group_id: int) -> list[Reason]:
    """The policies that have a step for that group or are owned by it, which block the group's deletion."""
    return _policies_using(lambda policy, names: policy.group_id == group_id or group_id in names.groups)


def policies_using_schedule(schedule_id: int) -> list[Reason]:
    """The policies with a step for that schedule, which block its deletion."""
    return _policies_using(lambda policy, names: schedule_id in names.schedules)


def policies_using_support_hours(hours_id: int) -> list[Reason]:
    """The policies with a step during or outside those support hours, which block their deletion."""
    return _policies_using(lambda policy, names: hours_id in names.support_hours)


def policies_using_policy(policy_id: int) -> list[Reason]:
    """The policies that hand over to that policy, which block its deletion."""
    return _policies_using(lambda policy, names: policy_id in names.policies)


def _policies_using(is_using: Callable[[Policy, PolicyReferences], bool]) -> list[Reason]:
    return [
        object_hooks.POLICY(name=policy.name)
        for policy in Policy.objects.select_related("current_version")
        if is_using(policy, references(policy))
    ]


def references(policy: Policy) -> PolicyReferences:
    """What the current version of the policy refers to; empty if it cannot be read."""
    plan = readable(policy)
    return definitions.references(plan) if plan is not None else PolicyReferences()


def _names() -> PolicyNames:
    def ids(rows: QuerySet[Any], by: str = "name") -> dict[str, int]:
        return {name.lower(): number for number, name in rows.values_list("pk", by)}

    with boundary.as_viewer():
        return PolicyNames(
            users=ids(User.objects.all(), "username"),
            groups=ids(Group.objects.all()),
            schedules=ids(Schedule.objects.all()),
            support_hours=ids(SupportHours.objects.all()),
            policies=ids(Policy.objects.all()),
        )


def _refuse_circular_handover(plan: CompiledPolicy, existing: Policy | None) -> None:
    """Rejects policies that hand over to each other in a circle: their escalation would never end."""
    names: list[str] = []
    next_policy_id = plan.handover_policy_id
    while next_policy_id is not None:
        if existing is not None and next_policy_id == existing.pk:
            path = " → ".join([existing.name, *names, existing.name])
            problem = AT_PATH(path="end.policy", problem=_CIRCULAR(policies=path))
            raise Rejected("circular", problem, "end.policy")
        next_policy = Policy.objects.select_related("current_version").get(pk=next_policy_id)
        with boundary.as_viewer():
            is_visible = Policy.objects.filter(pk=next_policy_id).exists()
        names.append(next_policy.name if is_visible else "…")
        next_plan = readable(next_policy)
        next_policy_id = next_plan.handover_policy_id if next_plan is not None else None


def _refuse_unreachable(plan: CompiledPolicy, existing: Policy | None, actor: AuditActor, now: datetime) -> None:
    if actor.via == "yaml" and existing is not None:
        return  # the same import may change what uses the policy; reachability is checked there
    problem = reachability.problem_in_use(existing.pk if existing else None, plan, now)
    if problem is not None:
        reason = AT_PATH(path="steps", problem=joined(problem, _SAVE_ANYWAY(), separator=" "))
        raise Rejected("reaches_nobody", reason, "steps")


def _write_version(policy: Policy, plan: CompiledPolicy, now: datetime) -> None:
    stored = definitions.store(plan)
    if policy.current_version is not None and policy.current_version.definition == stored:
        return
    last = policy.versions.aggregate(last=Max("number"))["last"] or 0
    policy.current_version = PolicyVersion.objects.create(
        policy=policy, number=last + 1, definition=stored, created_at=now
    )
    policy.save(update_fields=["current_version"])
