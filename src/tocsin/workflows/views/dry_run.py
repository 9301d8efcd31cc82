"""Dry run of a workflow against an existing alert: whether and why it would act, and what it would do.

Uses the same decision code; nothing is written or sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace as replace_state

from tocsin.alerts.service import NO_SUCH_ALERT, VisibleAlert
from tocsin.alerts.states import ACTIVE, AlertStatus
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.reasons import AlertRef, Reason
from tocsin.workflows import commands, reasons
from tocsin.workflows.definition import definition, descriptions
from tocsin.workflows.definition.definition import WorkflowAction, WorkflowDefinition
from tocsin.workflows.models import Workflow
from tocsin.workflows.run import actions, loader
from tocsin.workflows.run import context as alert_context
from tocsin.workflows.run.actions import build_action_context
from tocsin.workflows.run.context import WorkflowFacts
from tocsin.workflows.run.engine import OwnerGroup, RunAction, StartActions, WaitUntil, WorkflowProgress, decide
from tocsin.workflows.run.run_store import DueRun
from tocsin.workflows.states import ON_TERMINAL_ALERTS, SLA, ActionKind, TriggerKind

#: The cause shown in a dry run.
CAUSE = reasons.TRIED()


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The result of a dry run."""

    would_act: bool
    #: Why it would or would not act.
    reason: Reason
    #: Whether a terminal alert was evaluated as if just created: active and unassigned.
    as_opened: bool
    #: When the run would be due, for delayed triggers.
    at: datetime | None
    #: Descriptions of the actions, with the users they would reach now.
    actions: tuple[Reason, ...]
    #: The texts it would send, parallel to `actions`; "" if there is none.
    texts: tuple[str, ...]
    #: The alert's values, for authors of conditions.
    values: Mapping[str, Any]

    @property
    def steps(self) -> list[tuple[Reason, str]]:
        """The actions with their texts."""
        return list(zip(self.actions, self.texts, strict=True))


def dry_run(workflow: Workflow, alert: VisibleAlert, now: datetime) -> DryRunResult:
    """Dry run of a stored workflow. Raises Rejected("not_found") if the alert is gone."""
    owner = commands.owner_of(workflow.group)
    return dry_run_definition(definition.load(workflow.definition), workflow.name, alert, now, owner=owner)


def dry_run_definition(
    plan: WorkflowDefinition, name: str, found: VisibleAlert, now: datetime, *, owner: OwnerGroup | None = None
) -> DryRunResult:
    """Dry run of a possibly unsaved workflow, as if its trigger had just fired. Raises as above."""
    with database.transaction() as connection:
        alert = loader.facts(connection, [found.id]).get(found.id)
        if alert is None:
            raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(found.id)), "alert")
        as_opened = alert.state.status not in ACTIVE and plan.trigger.on not in ON_TERMINAL_ALERTS
        if as_opened:
            alert = _as_opened(alert)
        at = _due(plan, alert, now)
        progress = WorkflowProgress(CAUSE, owner=owner)
        step = decide(progress, plan, alert, at)
        if isinstance(step, WaitUntil):
            at = step.until
            step = decide(progress, plan, alert, at)
        run = DueRun(0, 0, found.id, name, True, None, progress)
        context = build_action_context(connection, run, alert, now)
        action_texts = tuple(_describe_action(connection, action, alert, at) for action in plan.actions)
        texts = tuple(_text(context, action) for action in plan.actions)
        values = alert_context.payload(alert, CAUSE, now)
    assert not isinstance(step, RunAction), "a run acts once it has begun"
    return DryRunResult(isinstance(step, StartActions), step.reason, as_opened, at, action_texts, texts, values)


def _as_opened(alert: WorkflowFacts) -> WorkflowFacts:
    """The alert as if nobody had responded yet, with its current fields."""
    state = replace_state(
        alert.state, status=AlertStatus.OPEN, owner_id=None, owner_name="", acknowledged={}, closed_at=None,
        hold_until=None,
    )  # fmt: skip
    return replace(alert, state=state, values={**alert.values, "status": "open", "owner": "", "closed_at": ""})


def _due(plan: WorkflowDefinition, alert: WorkflowFacts, now: datetime) -> datetime:
    """When the run would be due; a dry run does not wait."""
    trigger = plan.trigger
    moment = alert_context.sla_moment(trigger, alert) if trigger.on in SLA else None
    if moment is not None:
        span = timedelta(seconds=trigger.span)
        return moment - span if trigger.on is TriggerKind.BEFORE_SLA else moment + span
    return now


def _describe_action(connection: Connection, action: WorkflowAction, alert: WorkflowFacts, now: datetime) -> Reason:
    """Describes an action with the names of the users it would reach now."""
    ids_by_noun = {
        "users": action.users,
        "groups": action.groups,
        "policies": (action.policy,) if action.policy else (),
        "outbound": (action.outbound,) if action.outbound else (),
    }
    if action.do in (ActionKind.NOTIFY, ActionKind.ADD_RESPONDERS):
        recipients = loader.resolve_recipients(
            connection, action, alert, now, first_only=action.do is ActionKind.ADD_RESPONDERS
        )
        names = loader.names_of(connection, {"users": list(recipients)}).get("users", {})
        recipient_names = tuple(str(names[number]) for number in recipients if number in names)
        if action.do is ActionKind.ADD_RESPONDERS:
            return descriptions.describe_add_responders(recipient_names)
        contacts = (reasons.THE_GROUP_CONTACTS(),) if action.contacts else ()
        return descriptions.describe_notify(action, (*recipient_names, *contacts))
    names_by_noun = loader.names_of(connection, ids_by_noun)
    return descriptions.describe_action(
        action, lambda noun, number: str(names_by_noun.get(noun, {}).get(number, f"#{number}"))
    )


def _text(context: actions.ActionContext, action: WorkflowAction) -> str:
    if action.do is ActionKind.NOTIFY:
        subject = context.text(action.subject or actions.SUBJECT)
        return f"{subject}\n\n{context.text(action.text or actions.TEXT)}"
    if action.do is ActionKind.OPEN_ALERT:
        return "\n\n".join(text for text in (context.text(action.subject), context.text(action.text)) if text)
    return context.text(action.text)
