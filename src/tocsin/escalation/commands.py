"""Changes escalation policies, after checking that they can reach somebody; creates alerts by hand, and intervenes in
an alert's escalation: starts another policy, or pages additional responders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Max, Q

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole
from tocsin.alerts import commands, lifecycle, store
from tocsin.alerts.commands import Actor, AlertChange, AlertState, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.service import create_manual_alert
from tocsin.alerts.states import ACTIVE, ALERT_REFERENCE, CommandChannel, EventKind, Priority
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import AlertRef, Person, Reason, ReasonType, as_reason, joined, sentence
from tocsin.core.validation.inputs import rejected_at
from tocsin.escalation import policy as definitions
from tocsin.escalation import reasons
from tocsin.escalation.models import EscalationRun, Policy, PolicyVersion
from tocsin.escalation.policy import (
    POLICY_UNREADABLE,
    RECIPIENTS_ONLY,
    CompiledPolicy,
    PolicyReferences,
    PolicySpec,
)
from tocsin.escalation.run import run_store
from tocsin.escalation.run.run_state import (
    CancelPages,
    RunDecision,
    RunStatus,
    begin_run,
    derive_status,
    end_run,
    from_row,
    with_reminders_of,
)
from tocsin.escalation.run.run_store import load_plans
from tocsin.escalation.run.target_resolution import (
    ContactTarget,
    GroupOnCall,
    ScheduleOnCall,
    TargetContext,
    problem_with_reach,
)
from tocsin.notify.pages import load_recipients, queue_pages
from tocsin.notify.rules.page_planner import NotificationMethod, PageRequest, Recipient
from tocsin.oncall.changes import commands as oncall
from tocsin.oncall.models import Schedule, SupportHours
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, User, find_group, names_check

# ---------- reach
# Checks whether a policy with its recipients can reach anybody at any time, with the current configuration.
# Called while configuration is saved, over Django's connection, so that it sees changes of the same transaction.


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """One use of a policy: by which object, and with which recipients."""

    #: None: the viewer does not see the object.
    name: Reason | None
    users: tuple[int, ...]
    groups: tuple[int, ...]


#: The uses of a policy, by policy id. Asked when a policy changes.
POLICY_USES: Hooks[Callable[[int], Iterable[PolicyUse]]] = Hooks()


def problem_in_use(policy_id: int | None, plan: CompiledPolicy, at: datetime) -> Reason | None:
    """Why a policy would reach nobody, in any of its uses, or by itself when it does not depend on recipients."""
    if all(
        step.group_ids or not (step.roles or step.everybody or step.previous_on_call or step.group_contacts)
        for step in plan.steps
    ):
        return reachability_problem(plan, (), (), at)
    for find_uses in POLICY_USES.of() if policy_id is not None else ():
        for use in find_uses(policy_id or 0):
            if (problem := reachability_problem(plan, use.users, use.groups, at)) is not None:
                if use.name is None:
                    return sentence("For an integration of another group, it would reach no one.")
                return sentence("For {use}: {problem}", use=use.name, problem=problem)
    return None


def reachability_problem(
    plan: CompiledPolicy, recipient_users: Iterable[int], recipient_groups: Iterable[int], at: datetime
) -> Reason | None:
    """Why nobody could ever be reached; None when somebody can.

    A user who has a role at some time by a schedule counts, whether or not they are on call at `at`.
    """
    users, groups = tuple(recipient_users), tuple(recipient_groups)
    if any(step.assignee for step in plan.steps):
        return None  # the assignee comes from the ticket and is not known yet
    refs = definitions.references(plan)
    return problem_with_reach(plan, _load_context(refs.groups | set(groups), refs.schedules), users, groups, at)


def _load_context(group_ids: Iterable[int], schedule_ids: Iterable[int]) -> TargetContext:
    methods: dict[int, list[NotificationMethod]] = {}
    for method in ContactMethod.objects.filter(is_enabled=True, awaits_code=False, user__is_active=True):
        methods.setdefault(method.user_id, []).append(NotificationMethod(method.label, method.channel, method.address))
    active_users = {
        user.pk: Recipient(user.pk, user.display_name, tuple(methods.get(user.pk, ())))
        for user in User.objects.filter(is_active=True)
    }
    schedules = Schedule.objects.filter(pk__in=schedule_ids)
    return TargetContext(
        groups={group.pk: _group_on_call(group) for group in Group.objects.filter(pk__in=group_ids)},
        active_users=active_users,
        schedules={
            one.pk: ScheduleOnCall(one.name, tuple(user for shift in oncall.shifts_of(one) for user in shift.users))
            for one in schedules
        },
        deactivated_names=dict(User.objects.filter(is_active=False).values_list("pk", "display_name")),
    )


def _group_on_call(group: Group) -> GroupOnCall:
    holders: dict[MemberRole, list[int]] = {role: [] for role in MemberRole}
    for schedule in Schedule.objects.filter(group=group):
        for shift in oncall.shifts_of(schedule):
            # A shift without roles gives its users the roles they have in the group, or else primary.
            for role in shift.roles or (MemberRole.PRIMARY,):
                holders[role].extend(shift.users)
    # Where no shift is active, the group's role holders are on call.
    for membership in Membership.objects.filter(group=group):
        for role in map(MemberRole, membership.roles):
            holders[role].append(membership.user_id)
    contacts = tuple(ContactTarget(contact.pk, contact.label) for contact in GroupContact.objects.filter(group=group))
    roles = {role: tuple(users) for role, users in holders.items()}
    members = tuple(Membership.objects.filter(group=group).values_list("user_id", flat=True))
    # Every role holder may also have held the role before, so `previous` equals `roles`.
    return GroupOnCall(group.pk, group.name, roles, contacts, members, roles)


# ---------- deletion guards


_ACTIVE_STATUSES = (RunStatus.ACTIVE, RunStatus.PAUSED)
_MAX_LISTED = 10


def runs_using_group(group_id: int) -> list[Reason]:
    """The alerts whose escalation still looks up roles or users in that group, oldest first."""
    return _alerts(lambda refs: group_id in refs.groups, Q(recipient_groups__contains=[group_id]))


def runs_using_schedule(schedule_id: int) -> list[Reason]:
    """The alerts whose escalation still has a step for that schedule, oldest first."""
    return _alerts(lambda refs: schedule_id in refs.schedules, Q(pk__in=()))


def _alerts(is_using: Callable[[PolicyReferences], bool], recipients: Q) -> list[Reason]:
    active_runs = EscalationRun.objects.filter(status__in=_ACTIVE_STATUSES, mode=PagingMode.PAGE, due_at__isnull=False)
    with database.transaction() as connection:
        plans = load_plans(
            connection, active_runs.exclude(version=None).values_list("version_id", flat=True).distinct()
        )
    version_ids = [version for version, plan in plans.items() if is_using(definitions.references(plan))]
    matches = active_runs.filter(recipients | Q(version__in=version_ids)).order_by("alert_id")
    return [
        ALERT_REFERENCE(alert=AlertRef(number)) for number in matches.values_list("alert_id", flat=True)[:_MAX_LISTED]
    ]


# ---------- commands
# Creates, changes and deletes escalation policies, with validation, versions, audit log and config version.
# A spec has the shape of YAML and the API. The caller checks permissions beforehand.


type NamesById = Mapping[str, Mapping[int, str]]

#: Kinds of objects that others refer to: the model, and the column of the name.
type ReferredObjects = Mapping[str, tuple[Any, str]]

_OBJECTS: ReferredObjects = {
    "users": (User, "username"),
    "groups": (Group, "name"),
    "schedules": (Schedule, "name"),
    "support_hours": (SupportHours, "name"),
    "policies": (Policy, "name"),
}


def visible_ids(objects: ReferredObjects) -> dict[str, Any]:
    """The ids of the objects that the viewer sees, by kind and lower-case name, as the context of a spec."""
    with boundary.as_viewer():
        return {
            kind: {name.lower(): number for number, name in model.objects.values_list("pk", column)}
            for kind, (model, column) in objects.items()
        }


def names_by_id(objects: ReferredObjects, ids: Mapping[str, Set[int]]) -> dict[str, dict[int, str]]:
    """The names of the objects with these ids, by kind and id, in a query for each kind that has any."""
    return {
        kind: dict(model.objects.filter(pk__in=ids[kind]).values_list("pk", column)) if ids[kind] else {}
        for kind, (model, column) in objects.items()
    }


def policy_spec(policy: Policy, names: NamesById | None = None) -> dict[str, Any]:
    """The policy's spec as in YAML and the API. To format many policies, pass `names` from `reference_names`."""
    names_by_kind = names if names is not None else reference_names([policy])
    spec: dict[str, Any] = {"name": policy.name}
    if policy.group is not None:
        spec["group"] = policy.group.name
    plan = readable(policy)
    if plan is None:
        return spec | dict(policy.current_version.definition)  # type: ignore[union-attr]
    return spec | definitions.write_policy(plan, lambda key, number: names_by_kind[key].get(number, f"#{number}"))


def reference_names(policies: Iterable[Policy]) -> dict[str, dict[int, str]]:
    """The names of everything that `policies` refer to, by kind and id, in a fixed number of queries."""
    refs = [references(policy) for policy in policies]
    return names_by_id(_OBJECTS, {kind: {number for one in refs for number in getattr(one, kind)} for kind in _OBJECTS})


def plan_of(policy: Policy) -> CompiledPolicy:
    """The compiled current version of the policy. Raises Rejected("unreadable") if this release does not know it."""
    assert policy.current_version is not None, "a policy has a version from its first moment on"
    try:
        return definitions.load(policy.current_version.definition)
    except Rejected as problem:
        raise Rejected("unreadable", definitions.POLICY_UNREADABLE(policy=policy.name)) from problem


def readable(policy: Policy) -> CompiledPolicy | None:
    """The compiled current version of the policy, or None if this release cannot read it."""
    try:
        return plan_of(policy)
    except Rejected:
        return None


def unreadable(policy: Policy) -> Reason | None:
    """Why this release cannot read the current version, or None if it can."""
    return None if readable(policy) else definitions.POLICY_UNREADABLE(policy=policy.name)


def save_policy(
    spec: Mapping[str, object], *, existing: Policy | None = None, actor: AuditActor, now: datetime
) -> Policy:
    """Creates a policy, or updates `existing` to the spec; changed steps or settings create a new version.

    Active runs keep the version they began with. Raises Rejected with the field of each problem: "circular" for
    policies that hand over to each other, "reaches_nobody" for a policy that could page nobody, unless the spec has
    `anyway: true`.
    """
    with boundary.command():
        settings_store.lock()
        parsed, plan = _read(spec, existing)
        if not parsed.allows_unreachable:
            _refuse_unreachable(plan, existing, actor, now)
        before = policy_spec(existing) if existing else None
        policy = existing or Policy()
        policy.name, policy.group = parsed.name, find_group(parsed.group)
        policy.save()
        _write_version(policy, plan, now)
        audit.record_config_audit("escalation_policy", policy, before, policy_spec(policy), actor=actor, now=now)
    return policy


def check_policy(spec: Mapping[str, object], *, existing: Policy | None = None) -> None:
    """Validates the spec itself as `save_policy` would, without changing anything. Raises Rejected."""
    _read(spec, existing)


def _read(spec: Mapping[str, object], existing: Policy | None) -> tuple[PolicySpec, CompiledPolicy]:
    parsed = PolicySpec.read(spec, check=names_check(Policy, existing), **visible_ids(_OBJECTS))
    plan = parsed.compiled()
    _refuse_circular_handover(plan, existing)
    return parsed, plan


def delete_policy(policy: Policy, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a policy. Active runs finish with their version.

    Raises Rejected("in_use") while an integration uses it.
    """
    with boundary.command():
        settings_store.lock()
        hooks.reject_if_referenced("escalation_policy", policy.pk, policy.name)
        audit.record_config_audit("escalation_policy", policy, policy_spec(policy), None, actor=actor, now=now)
        # An alert created at this moment may start a run with the current version, so that one is kept, used or not.
        versions = [
            number for number in policy.versions.values_list("pk", flat=True) if number != policy.current_version_id
        ]
        policy.delete()
        used = EscalationRun.objects.filter(version__in=versions).values("version")
        PolicyVersion.objects.filter(pk__in=versions).exclude(pk__in=used).delete()


def references(policy: Policy) -> PolicyReferences:
    """What the current version of the policy refers to; empty if it cannot be read."""
    plan = readable(policy)
    return definitions.references(plan) if plan is not None else PolicyReferences()


def _refuse_circular_handover(plan: CompiledPolicy, existing: Policy | None) -> None:
    """Rejects policies that hand over to each other in a circle: their escalation would never end."""
    names: list[str] = []
    next_policy_id = plan.handover_policy_id
    while next_policy_id is not None:
        if existing is not None and next_policy_id == existing.pk:
            path = " → ".join([existing.name, *names, existing.name])
            problem = sentence("the policies hand over in a loop: {policies}.", policies=path)
            raise rejected_at("end.policy", problem, "circular")
        next_policy = Policy.objects.select_related("current_version").get(pk=next_policy_id)
        with boundary.as_viewer():
            is_visible = Policy.objects.filter(pk=next_policy_id).exists()
        names.append(next_policy.name if is_visible else "…")
        next_plan = readable(next_policy)
        next_policy_id = next_plan.handover_policy_id if next_plan is not None else None


def _refuse_unreachable(plan: CompiledPolicy, existing: Policy | None, actor: AuditActor, now: datetime) -> None:
    if actor.via == "yaml" and existing is not None:
        return  # the same import may change what uses the policy; reachability is checked there
    problem = problem_in_use(existing.pk if existing else None, plan, now)
    if problem is not None:
        remedy = sentence("Add a user who can be notified, or save anyway (anyway: true in YAML and the API).")
        raise rejected_at("steps", joined(problem, remedy, separator=" "), "reaches_nobody")


def _write_version(policy: Policy, plan: CompiledPolicy, now: datetime) -> None:
    stored = definitions.store(plan)
    if policy.current_version is not None and policy.current_version.definition == stored:
        return
    last = policy.versions.aggregate(last=Max("number"))["last"] or 0
    policy.current_version = PolicyVersion.objects.create(
        policy=policy, number=last + 1, definition=stored, created_at=now
    )
    policy.save(update_fields=["current_version"])


# ---------- manual escalation
# Manual interventions in an alert's escalation: start another policy, or page additional responders.
# Everything runs in the caller's transaction, which holds the alert's lock.


# ---------- manual alerts


SOURCE = "manual"


@dataclass(frozen=True, slots=True)
class ManualAlert:
    """A problem as a user describes it, and whom to notify."""

    subject: str
    #: None: the policy's default priority, or high without a policy.
    priority: Priority | None = None
    policy: Policy | None = None
    user_ids: tuple[int, ...] = ()
    group_ids: tuple[int, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def open_alert(new: ManualAlert, *, actor: Actor, username: str, via: CommandChannel, now: datetime) -> int:
    """Creates the alert, starts paging as requested, and returns the alert's id.

    Without a policy and recipient users the alert pages nobody.
    """
    paging = _paging(new)
    alert = NewAlert(
        id=0,
        priority=new.priority or _default_priority(new.policy),
        subject=new.subject,
        opened_at=now,
        source=SOURCE,
        source_name=username,
        columns=new.columns,
        tags=new.tags,
        custom=new.custom,
        group_ids=_owners(new),
    )
    reason = reasons.CREATED_BY(actor=actor.person)
    if new.note:
        reason = reasons.CREATED_WITH_NOTE(actor=actor.person, note=new.note.rstrip("."))
    if paging.mode is PagingMode.LOG_ONLY:
        reason = joined(reason, as_reason(paging.reason), separator=" ")
    data = {"note": new.note} if new.note else {}
    event = NewEvent(0, EventKind.OPENED, now, actor, reason, via, data)
    return create_manual_alert(alert, paging, event, now=now)


def open_for_own_groups(actor: Actor, text: str, via: CommandChannel, now: datetime) -> Reason:
    """Opens the alert that a user describes in one line, as the form "New alert" would: by the first policy that the
    user sees, for the user's groups. Returns the answer. Nothing is opened that would page nobody.
    """
    policy = Policy.objects.select_related("current_version").first()
    assert actor.user_id is not None
    user = User.accounts.get(pk=actor.user_id)
    groups = Group.objects.filter(memberships__user=user)
    if policy is None or not groups:
        return reasons.NOT_OPENED_FOR_NOBODY()
    new = ManualAlert(text[:500], policy=policy, group_ids=tuple(group.pk for group in groups))
    alert_id = open_alert(new, actor=actor, username=user.username, via=via, now=now)
    names = tuple(group.name for group in groups)
    return reasons.OPENED_FOR_GROUPS(alert=AlertRef(alert_id), policy=policy.name, groups=names)


def _owners(new: ManualAlert) -> tuple[int, ...]:
    """Returns the groups to which the alert belongs, besides those that it notifies."""
    if new.policy is not None and new.policy.group_id is not None:
        return (new.policy.group_id,)
    limit = boundary.current()
    # Whoever opens an alert must see it.
    return tuple(sorted(limit.groups)) if limit is not None and not new.group_ids else ()


def _paging(new: ManualAlert) -> PagingConfig:
    if new.policy is None and not new.user_ids:
        reason = reasons.MANUAL_WITHOUT_RECIPIENTS()
        return PagingConfig(PagingMode.LOG_ONLY, None, new.user_ids, new.group_ids, reason)
    reason = reasons.MANUAL_BY_POLICY(policy=new.policy.name) if new.policy else reasons.MANUAL_BY_RECIPIENTS()
    version = new.policy.current_version_id if new.policy else None
    return PagingConfig(PagingMode.PAGE, version, new.user_ids, new.group_ids, reason)


def _default_priority(policy: Policy | None) -> Priority:
    if policy is None or policy.current_version is None:
        return Priority.HIGH
    return definitions.load(policy.current_version.definition).default_priority


POLICY_DELETED = ReasonType("policy.deleted", "That escalation policy no longer exists.")
_ALL_ACKNOWLEDGED = ReasonType("alert.acknowledged_by_all", "All of these users have already acknowledged the alert.")
_NOBODY_TO_PAGE = ReasonType("alert.nobody_to_page", "No one to page.")


def start_policy(
    connection: Connection, alert: AlertState, policy_id: int, actor: Actor, via: CommandChannel, now: datetime
) -> Reason:
    """Starts another policy on an active alert at its first step, and ends the current run. Returns the result.

    Roles are looked up in the same recipient groups as before. Raises Rejected("not_found"), Rejected("not_possible")
    for a policy version that cannot be read, or Rejected("already_…") when the alert is not active.
    """
    _require_active(alert, now)
    policy = database.row(
        connection, "SELECT name, current_version_id FROM escalation_policy WHERE id = %s", (policy_id,)
    )
    if policy is None:
        raise Rejected("not_found", POLICY_DELETED())
    current_row = run_store.current_rows(connection, [alert.id]).get(alert.id)
    version = policy["current_version_id"]
    plans = load_plans(connection, {version, *([current_row["version_id"]] if current_row else ())})
    if version not in plans:
        raise Rejected("not_possible", POLICY_UNREADABLE(policy=policy["name"]))
    started = reasons.POLICY_STARTED_BY(actor=actor.person, policy=policy["name"])
    new = begin_run(
        alert.id,
        plans[version],
        PagingMode.PAGE,
        alert.priority,
        now,
        recipient_groups=tuple(current_row["recipient_groups"]) if current_row else (),
        policy_reason=started,
    )
    event = NewEvent(alert.id, EventKind.ESCALATION_STARTED, now, actor, started, via)
    replaced: list[tuple[int | None, RunDecision]] = []
    if current_row is not None and current_row["status"] != RunStatus.TERMINATED:
        old = from_row(current_row, plans.get(current_row["version_id"], RECIPIENTS_ONLY))
        new = with_reminders_of(old, new)
        ended = end_run(old, joined(started, reasons.RUN_REPLACED(), separator=" "))
        run_store.update(connection, {current_row["id"]: ended})
        replaced = [(current_row["id"], RunDecision(ended, cancellations=(CancelPages(None, started),)))]
    new = derive_status(new, alert, now)
    run_store.insert(connection, [run_store.NewRun(alert.id, new, version)])
    store.insert_events(connection, [event])
    run_store.apply_effects(connection, replaced, now)
    paging = PagingConfig(new.mode, version, new.recipient_users, new.recipient_groups, started)
    commands.call_handlers(connection, [AlertChange(alert, alert, (event,), paging=paging)], now)
    database.notify(connection, "runs")
    if new.status is RunStatus.ACTIVE:
        return reasons.POLICY_STARTED(policy=policy["name"])
    return reasons.POLICY_WAITS(policy=policy["name"], why=new.reason)


def add_responders(
    connection: Connection,
    alert: AlertState,
    user_ids: Sequence[int],
    capacities: Mapping[int, Reason],
    actor: Actor,
    via: CommandChannel,
    now: datetime,
) -> Reason:
    """Pages additional users about an active alert at once, by their own notification rules. Returns the result.

    It does not matter whom the alert is assigned to. `capacities` says in which capacity each user is paged. A user who
    acknowledged the alert or is assigned to it is skipped. Raises Rejected when the alert is not active or nobody can
    be paged.
    """
    _require_active(alert, now)
    requested_ids = [user for user in user_ids if user not in alert.acknowledged and user != alert.owner_id]
    if user_ids and not requested_ids:
        raise Rejected("not_possible", _ALL_ACKNOWLEDGED())
    recipients = load_recipients(connection, requested_ids)
    active = [user for user in requested_ids if user in recipients and recipients[user].is_active]
    if not active:
        raise Rejected("not_possible", _NOBODY_TO_PAGE())
    run_row = run_store.current_rows(connection, [alert.id]).get(alert.id)
    person, requests = actor.person, []
    for user in active:
        capacity = capacities.get(user, reasons.NAMED_BY_STEP())
        reason = reasons.RESPONDER_ADDED(actor=person, capacity=capacity)
        run_id, data = run_row["id"] if run_row else None, {"as": str(capacity), "wake": True}
        requests.append(
            PageRequest(alert.id, now, reason, user_id=user, run_id=run_id, data=data, priority=alert.priority)
        )
    queued = queue_pages(connection, requests, now)
    names = {user: recipients[user].name for user in active}
    unreachable_ids = {one.request.user_id for one in queued.unreachable}
    paged = tuple(Person(name, user) for user, name in names.items() if user not in unreachable_ids)
    events = [
        NewEvent(alert.id, EventKind.PAGE_FAILED, now, actor, one.reason, via, {"user_id": one.request.user_id})
        for one in queued.unreachable
    ]
    if paged:
        added = reasons.RESPONDERS_ADDED(actor=person, users=paged)
        events.append(NewEvent(alert.id, EventKind.STEP_FIRED, now, actor, added, via, {"people": sorted(names)}))
    store.insert_events(connection, events)
    if not paged:
        raise Rejected("not_possible", joined(*(as_reason(one.reason) for one in queued.unreachable), separator=" "))
    return reasons.RESPONDERS_PAGED(users=paged)


def _require_active(alert: AlertState, now: datetime) -> None:
    if alert.status not in ACTIVE:
        raise Rejected(f"already_{alert.status}", lifecycle.describe_state(alert, now))
