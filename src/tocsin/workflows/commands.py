"""Creates, changes and deletes workflows, and runs manual ones. Specs are validated and changes audited.

A spec has the shape of YAML and the API: `{name, group, enabled, order, trigger, start, stop, actions}`. The caller
checks permissions beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from django.db.models import F, Max, Q

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.alerts.service import NO_SUCH_ALERT, VisibleAlert
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import AlertRef, Person, Reason, sentence
from tocsin.core.validation.spec import SpecErrors
from tocsin.escalation.commands import ReferredObjects, names_by_id, visible_ids
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import NameOf
from tocsin.outbound.models import OutboundIntegration
from tocsin.people import permissions
from tocsin.people.models import Group, User, find_group, names_check
from tocsin.people.permissions import Viewer
from tocsin.workflows import definition as definitions
from tocsin.workflows import reasons
from tocsin.workflows.definition import (
    SLA,
    TIMED,
    TriggerKind,
    WorkflowDefinition,
    WorkflowDefinitionSpec,
    WorkflowRunStatus,
    WorkflowSpec,
)
from tocsin.workflows.models import Workflow, WorkflowRun
from tocsin.workflows.run import listener, run_store, tasks
from tocsin.workflows.run.engine import FinishRun, OwnerGroup, WorkflowProgress, decide

# ---------- definition changes
# Handles waiting and stuck runs when their workflow is edited, in the same transaction.
# Runs that still fit continue with the new definition; the others end with a reason.


def settle_runs(workflow_id: int, before: WorkflowDefinition, after: WorkflowDefinition, now: datetime) -> None:
    """Ends runs whose trigger changed, and runs that are past a changed action; adjusts the delay of the others.

    A run stuck at an action continues, since editing that action may have fixed it.
    """
    is_waiting = Q(due_at__isnull=False)
    open_runs = WorkflowRun.objects.filter(is_waiting | Q(status=WorkflowRunStatus.STUCK), workflow=workflow_id)
    undecided, executing = open_runs.filter(started_at__isnull=True), open_runs.filter(started_at__isnull=False)
    if before.trigger.on is not after.trigger.on:
        undecided.update(status=WorkflowRunStatus.SKIPPED, due_at=None, ended_at=now, reason=reasons.TRIGGER_CHANGED())
    elif before.trigger != after.trigger and after.trigger.on in TIMED:
        # SLA targets are looked up again.
        span = timedelta(seconds=after.trigger.span)
        undecided.filter(is_waiting).update(due_at=now if after.trigger.on in SLA else F("created_at") + span)
    pairs = zip(before.actions, after.actions, strict=False)
    unchanged_count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if unchanged_count < len(before.actions):
        executing.filter(step__gt=unchanged_count).update(
            status=WorkflowRunStatus.STOPPED, due_at=None, ended_at=now, reason=reasons.ACTIONS_CHANGED()
        )


type WorkflowNamesById = Mapping[str, Mapping[int, str]]

_OBJECTS: ReferredObjects = {
    "users": (User, "username"),
    "groups": (Group, "name"),
    "policies": (Policy, "name"),
    "outbound": (OutboundIntegration, "name"),
}


def workflow_spec(workflow: Workflow, names: WorkflowNamesById | None = None) -> dict[str, Any]:
    """The workflow's spec as in YAML and the API; an unreadable workflow is returned as stored.

    To format many workflows, pass `names` from `names_of`.
    """
    spec: dict[str, Any] = {"name": workflow.name}
    if workflow.group is not None:
        spec["group"] = workflow.group.name
    if not workflow.is_enabled:
        spec["enabled"] = False
    spec["order"] = workflow.position
    definition = readable(workflow)
    if definition is None:
        return spec | (workflow.definition if isinstance(workflow.definition, dict) else {})
    return spec | definitions.write(definition, naming(names_of([workflow]) if names is None else names))


def naming(names: WorkflowNamesById) -> NameOf:
    """The names of objects by their kind and id; `#` and the id for one that is missing."""
    return lambda kind, number: str(names.get(kind, {}).get(number, f"#{number}"))


def owner_of(group: Group | None) -> OwnerGroup | None:
    return None if group is None else OwnerGroup(group.pk, group.name)


def readable(workflow: Workflow) -> WorkflowDefinition | None:
    """Its definition, or None if this release cannot read it."""
    try:
        return definitions.load(workflow.definition)
    except Rejected:
        return None


def unreadable(workflow: Workflow) -> Reason | None:
    """Why this release cannot read its definition, or None if it can."""
    try:
        definitions.load(workflow.definition)
    except Rejected as rejected:
        return rejected.reason
    return None


def names_of(workflows: Iterable[Workflow], *, use_display_names: bool = False) -> dict[str, dict[int, str]]:
    """The names of everything the workflows refer to, by noun and id, in a fixed number of queries.

    Users appear by username, or by display name with `use_display_names`.
    """
    refs = [references(workflow) for workflow in workflows]
    objects = {**_OBJECTS, "users": (User, "display_name")} if use_display_names else _OBJECTS
    return names_by_id(objects, {kind: {number for one in refs for number in one.get(kind, ())} for kind in objects})


def references(workflow: Workflow) -> Mapping[str, frozenset[int]]:
    """The ids of everything it refers to, by kind; empty if it cannot be read."""
    definition = readable(workflow)
    return definitions.references(definition) if definition is not None else {}


def read_definition(spec: object) -> WorkflowDefinition:
    """Parses the definition of a workflow without its name and other properties. Raises Rejected with each field."""
    return WorkflowDefinitionSpec.read(spec, **_context()).compiled()


def save_workflow(
    spec: Mapping[str, object], *, existing: Workflow | None = None, actor: AuditActor, now: datetime
) -> Workflow:
    """Creates a workflow, or updates `existing` to the spec.

    Waiting runs continue with the new definition, or end if they no longer fit. New references to outbound integrations
    that the actor may not change are rejected. Raises Rejected with the field of each problem.
    """
    with boundary.command():
        settings_store.lock()
        parsed = _read(spec, existing, permissions.viewer_of(actor))
        plan = parsed.compiled()
        last = Workflow.objects.aggregate(last=Max("position"))["last"] or 0
        position = existing.position if existing else last + 1
        before = workflow_spec(existing) if existing else None
        previous_definition = readable(existing) if existing else None
        row = existing or Workflow(created_at=now)
        row.name, row.group, row.is_enabled = parsed.name, find_group(parsed.group), parsed.is_enabled
        row.position = position if parsed.position is None else parsed.position
        row.trigger, row.definition = str(plan.trigger.on), definitions.to_stored(plan)
        row.save()
        if previous_definition is not None:
            settle_runs(row.pk, previous_definition, plan, now)
        audit.record_config_audit("workflow", row, before, workflow_spec(row), actor=actor, now=now)
    listener.re_evaluate()
    return row


def _read(value: Mapping[str, object], existing: Workflow | None, viewer: Viewer | None) -> WorkflowSpec:
    names_are_valid = names_check(Workflow, existing)
    previous = references(existing).get("outbound", frozenset()) if existing else frozenset()

    def check(spec: WorkflowSpec, errors: SpecErrors) -> None:
        names_are_valid(spec, errors)
        new_ids = {action.outbound for action in spec.actions if action.outbound is not None} - previous
        rows: dict[Any, OutboundIntegration] = {
            row.pk: row for row in OutboundIntegration.objects.filter(pk__in=new_ids)
        }
        for index, action in enumerate(spec.actions):
            row = rows.get(action.outbound or 0)
            if row is not None and viewer is not None and not viewer.may(Permission.MANAGE_ROUTING, row.group_id):
                errors.add(
                    f"actions[{index}].outbound",
                    sentence(
                        'only administrators and managers of the group that owns "{integration}" can use it in a '
                        "workflow.",
                        integration=row.name,
                    ),
                    "forbidden",
                )

    return WorkflowSpec.read(value, check=check, **_context())


def delete_workflow(workflow: Workflow, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a workflow with its runs. Waiting actions are not executed."""
    with boundary.command():
        settings_store.lock()
        audit.record_config_audit("workflow", workflow, workflow_spec(workflow), None, actor=actor, now=now)
        workflow.delete()
    listener.re_evaluate()


def set_enabled(workflow: Workflow, is_enabled: bool, *, actor: AuditActor, now: datetime) -> None:
    """Enables or disables a workflow. Runs that become due while it is disabled end."""
    with boundary.command():
        settings_store.lock()
        before = workflow_spec(workflow)
        workflow.is_enabled = is_enabled
        workflow.save(update_fields=["is_enabled"])
        audit.record_config_audit("workflow", workflow, before, workflow_spec(workflow), actor=actor, now=now)
    listener.re_evaluate()


def move(workflow: Workflow, by: int, *, actor: AuditActor, now: datetime) -> None:
    """Moves a workflow by some positions (negative: up) among all workflows and renumbers the others."""
    with boundary.command():
        settings_store.lock()
        rows = list(Workflow.objects.select_related("group"))
        order = [row.pk for row in rows]
        at = order.index(workflow.pk)
        to = min(max(at + by, 0), len(order) - 1)
        order.insert(to, order.pop(at))
        rows_by_id = {row.pk: row for row in rows}
        for place, number in enumerate(order, start=1):
            row = rows_by_id[number]
            if row.position != place:
                before = workflow_spec(row)
                row.position = place
                row.save(update_fields=["position"])
                audit.record_config_audit("workflow", row, before, workflow_spec(row), actor=actor, now=now)
    listener.re_evaluate()


def run_manual_workflow(workflow: Workflow, found: VisibleAlert, user: User, via: str, *, now: datetime) -> WorkflowRun:
    """Runs a manual workflow on an alert immediately, for a user. The outbox sends queued calls shortly after.

    Raises Rejected("not_found"), or Rejected("not_possible") with the reason why it does nothing on this alert.
    """
    plan = definitions.load(workflow.definition)
    if plan.trigger.on is not TriggerKind.MANUAL:
        raise Rejected(
            "not_possible", sentence("{workflow} has no button: it runs automatically.", workflow=workflow.name)
        )
    with database.transaction() as connection:
        alert = run_store.facts(connection, [found.id]).get(found.id)
        if alert is None:
            raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(found.id)), "alert")
        cause = reasons.PRESSED(user=Person(user.display_name, user.pk), workflow=workflow.name)
        progress = WorkflowProgress(cause, owner=owner_of(workflow.group))
        decision = decide(progress, plan, alert, now, is_enabled=workflow.is_enabled)
        if isinstance(decision, FinishRun):
            raise Rejected("not_possible", decision.reason, "alert")
        row = connection.execute(
            "INSERT INTO workflows_run (workflow_id, alert_id, status, cause, user_id, user_name, "
            "via, created_at, due_at) VALUES (%s, %s, 'waiting', %s, %s, %s, %s, %s, %s) RETURNING id",
            (workflow.pk, found.id, cause, user.pk, user.display_name, via, now, now),
        ).fetchone()
        assert row is not None
        # No hint: the run is executed here, and the periodic task picks it up only if this process stops in between.
    tasks.evaluate_run(row[0], now)
    return WorkflowRun.objects.get(pk=row[0])


def try_again(run: WorkflowRun, *, actor: AuditActor, now: datetime) -> None:
    """Makes a stuck run continue where it stopped. Raises Rejected if it is not stuck."""
    with boundary.command():
        changed = WorkflowRun.objects.filter(pk=run.pk, status=WorkflowRunStatus.STUCK).update(
            status=WorkflowRunStatus.WAITING, due_at=now, ended_at=None, failures=0
        )
        if not changed:
            raise Rejected("not_possible", sentence("Only a stuck run can be retried."))
        _record_verb(actor, "try_again", run, now)


def abandon(run: WorkflowRun, *, actor: AuditActor, now: datetime) -> None:
    """Ends a stuck or waiting run. Raises Rejected if it has already ended."""
    with boundary.command():
        reason = reasons.ENDED_BY(actor=Person(actor.name, actor.user_id))
        changed = WorkflowRun.objects.filter(
            pk=run.pk, status__in=[WorkflowRunStatus.STUCK, WorkflowRunStatus.WAITING]
        ).update(status=WorkflowRunStatus.STOPPED, due_at=None, ended_at=now, reason=reason)
        if not changed:
            raise Rejected("not_possible", sentence("The run has already ended."))
        _record_verb(actor, "end", run, now)


def _record_verb(actor: AuditActor, verb: str, run: WorkflowRun, now: datetime) -> None:
    audit.record(
        actor, verb, now=now, object_type="workflow_run", object_id=run.pk,
        object_name=f"{run.workflow.name}, alert {run.alert_id}", group_id=run.workflow.group_id,
    )  # fmt: skip


def _context() -> dict[str, Any]:
    with boundary.as_viewer():
        kinds = dict(OutboundIntegration.objects.values_list("pk", "kind"))
    return {**visible_ids(_OBJECTS), "outbound_kinds": kinds}
