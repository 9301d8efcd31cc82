"""Executes one action of a run, in the transaction that records it. Sends nothing: messages are queued in the
outboxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never

from tocsin.alerts import service, store
from tocsin.alerts.change_handlers import PagingConfig, PagingMode
from tocsin.alerts.commands import Actor, AlertState, Close, Command, Escalate, Hold, NewEvent, Reply
from tocsin.alerts.new_alert import AlertCreation, NewAlert
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.escalation.actions import manual_escalation
from tocsin.escalation.policy.policy import load as load_policy
from tocsin.notify.enqueue.notices import queue_notices
from tocsin.notify.enqueue.queue import Notice
from tocsin.outbound import templates
from tocsin.outbound.delivery import calls
from tocsin.workflows.definition.definition import WorkflowAction
from tocsin.workflows.definition.descriptions import listed
from tocsin.workflows.run import context as alert_context
from tocsin.workflows.run import loader
from tocsin.workflows.run.context import WorkflowFacts
from tocsin.workflows.run.run_store import DueRun
from tocsin.workflows.states import ActionKind

#: The default subject and text of a notification.
SUBJECT = "<workflow>: <subject>"
TEXT = "<what>\n\n<subject>\nClient: <client>\nState: <status>, priority <priority>\nWith: <owner>\n<url>"

#: The source name of an alert created by a workflow.
SOURCE = "workflow"


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The result of an action: a sentence, and what it created."""

    text: str
    #: Ids of queued calls.
    call_ids: tuple[int, ...] = ()
    #: Id of a created alert.
    alert_id: int | None = None
    #: Whether the alert's timeline already contains it.
    is_logged: bool = False


@dataclass(frozen=True, slots=True)
class ActionContext:
    """The context in which an action is executed."""

    connection: Connection
    run: DueRun
    facts: WorkflowFacts
    now: datetime
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alert_id(self) -> int:
        return self.run.alert_id

    @property
    def actor(self) -> Actor:
        """The acting user who pressed the button, or the workflow."""
        if self.run.user_id is not None:
            return Actor(ActorKind.USER, self.run.user_name, self.run.user_id)
        return Actor(ActorKind.SYSTEM, f"Workflow {self.run.name}")

    @property
    def note(self) -> str:
        """The note on commands from a manual workflow."""
        return f"by the button {self.run.name}" if self.run.user_id is not None else ""

    def lock_alert(self) -> AlertState:
        """The alert's current state, locked until the transaction ends."""
        store.lock(self.connection, [self.alert_id])
        alert = store.load(self.connection, [self.alert_id]).get(self.alert_id)
        if alert is None:
            raise Rejected("not_found", f"There is no alert {self.alert_id}.")
        return alert

    def text(self, template: str) -> str:
        """Renders a template with the alert's values."""
        return templates.render(template, self.values).strip()


def build_action_context(connection: Connection, run: DueRun, facts: WorkflowFacts, now: datetime) -> ActionContext:
    """The context for a run's actions."""
    values = {
        **alert_context.payload(facts, run.progress.cause, now),
        "workflow": run.name,
        "who": run.user_name or facts.responder_names,
        "acknowledged_by": listed(one.name for one in facts.state.acknowledged.values())
        if facts.responder_names
        else "",
        "owner": facts.state.owner_name or "nobody",
    }
    return ActionContext(connection, run, facts, now, values)


def perform(context: ActionContext, action: WorkflowAction) -> ActionResult:
    """Executes an action. Raises Rejected with the reason if that fails; the caller must then roll back."""
    connection, now, actor = context.connection, context.now, context.actor
    match action.do:
        case ActionKind.NOTIFY:
            return _notify(context, action)
        case ActionKind.START_POLICY:
            _record_paging_cause(context)
            sentence = manual_escalation.start_policy(
                connection, context.lock_alert(), action.policy or 0, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(sentence, is_logged=True)
        case ActionKind.ADD_RESPONDERS:
            recipients = loader.resolve_recipients(connection, action, context.facts, now, first_only=True)
            if not recipients:
                raise Rejected("not_possible", "Nobody has that role now.")
            sentence = manual_escalation.add_responders(
                connection, context.lock_alert(), list(recipients), recipients, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(sentence, is_logged=True)
        case ActionKind.ESCALATE:
            _record_paging_cause(context)
            return _command(context, Escalate(actor=actor, via=CommandChannel.WORKFLOW, note=context.note))
        case ActionKind.SET_PRIORITY:
            _record_paging_cause(context)
            priority = action.priority or Priority.HIGH
            answer = service.set_priority_within(
                connection, context.alert_id, priority, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(str(answer), is_logged=True)
        case ActionKind.SET_TAGS:
            tags = {name: context.text(text)[:200] for name, text in action.tags.items()}
            answer = service.set_tags_within(
                connection, context.alert_id, tags, action.remove, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(str(answer), is_logged=True)
        case ActionKind.HOLD:
            until = now + timedelta(seconds=action.span)
            return _command(context, Hold(actor=actor, via=CommandChannel.WORKFLOW, until=until, note=context.note))
        case ActionKind.CLOSE:
            note = context.text(action.text)[:2000] or context.note
            return _command(context, Close(actor=actor, via=CommandChannel.WORKFLOW, note=note))
        case ActionKind.REPLY:
            return _command(
                context,
                Reply(actor=actor, via=CommandChannel.WORKFLOW, text=context.text(action.text), note=context.note),
            )
        case ActionKind.CALL:
            return _call(context, action)
        case ActionKind.HALO:
            # The lock preserves the order of writes about one alert.
            store.lock(connection, [context.alert_id])
            number = calls.write_on_ticket(
                connection, context.alert_id, now, note=context.text(action.text), status=action.status,
                is_public=action.public, user_id=context.run.user_id,
            )  # fmt: skip
            return ActionResult("To be written on the ticket.", call_ids=(number,))
        case ActionKind.OPEN_ALERT:
            return _open(context, action)
        case ActionKind.WAIT:
            return ActionResult("Waited.", is_logged=True)
        case _:
            assert_never(action.do)


def _command(context: ActionContext, command: Command) -> ActionResult:
    outcome = service.apply_command_within(context.connection, context.alert_id, command, context.now)
    return ActionResult(str(outcome.answer), is_logged=True)


def _notify(context: ActionContext, action: WorkflowAction) -> ActionResult:
    recipients = loader.resolve_recipients(context.connection, action, context.facts, context.now)
    subject = context.text(action.subject or SUBJECT) or context.run.name
    notice = Notice(
        " ".join(subject.split())[:300],
        context.text(action.text or TEXT),
        about=f"workflow:{context.run.workflow_id}:{context.alert_id}",
        reason=f"The workflow {context.run.name} tells you.",
        alert_id=context.alert_id,
    )
    contacts = action.groups if action.contacts else ()
    result = queue_notices(
        context.connection, notice, context.now, user_ids=list(recipients), label=action.by, contacts_of=contacts
    )
    missed = f" Not told: {'; '.join(result.missed)}." if result.missed else ""
    if not result.names:
        raise Rejected("not_possible", missed.strip() or "There is nobody to tell.")
    return ActionResult(f"Told {listed(result.names)}{f' by {action.by}' if action.by else ''}.{missed}")


def _call(context: ActionContext, action: WorkflowAction) -> ActionResult:
    extra_values = {"workflow": context.run.name, "what": context.run.progress.cause, "who": context.values["who"]}
    integration = database.row(
        context.connection,
        "SELECT name, is_enabled FROM outbound_outboundintegration WHERE id = %s",
        (action.outbound,),
    )
    if integration is not None and not integration["is_enabled"]:
        raise Rejected("not_possible", f"{integration['name']} is not in use.")
    store.lock(context.connection, [context.alert_id])
    numbers = calls.call_for_alerts(
        context.connection,
        action.outbound or 0,
        [context.alert_id],
        context.now,
        reason=f"{context.run.name}, for alert {context.alert_id}",
        extra_values=extra_values,
    )
    name = integration["name"] if integration is not None else "the outbound integration"
    return ActionResult(f"To be called: {name}.", call_ids=tuple(numbers))


_POLICY = """
SELECT p.name, v.id, v.definition
FROM escalation_policy p JOIN escalation_policyversion v ON v.id = p.current_version_id
WHERE p.id = %s
"""


def _open(context: ActionContext, action: WorkflowAction) -> ActionResult:
    """Creates another alert for the same client that pages by a policy, pages users, or pages nobody."""
    connection, now = context.connection, context.now
    (number,) = store.new_ids(connection, 1)
    version, priority, paging_text = None, action.priority, ""
    if action.policy is not None:
        policy = database.row(connection, _POLICY, (action.policy,))
        if policy is None:
            raise Rejected("not_found", "That escalation policy is gone.")
        version, paging_text = policy["id"], f", to page by the policy {policy['name']}"
        priority = priority or load_policy(policy["definition"]).default_priority
    is_paging = version is not None or bool(action.users)
    reason = (
        f"Workflow {context.run.name} opened it{paging_text or (', to page the users it names' if is_paging else '')}."
    )
    paging = PagingConfig(PagingMode.PAGE if is_paging else PagingMode.LOG_ONLY, version, action.users, (), reason)
    values = context.facts.values
    alert = NewAlert(
        id=number,
        priority=priority or context.facts.state.priority,
        subject=" ".join(context.text(action.subject).split())[:300] or context.run.name,
        opened_at=now,
        source=SOURCE,
        source_name=context.run.name,
        columns={
            "long_text": context.text(action.text),
            **{name: str(values.get(name) or "") for name in ("client", "site", "team", "requester")},
        },
        tags=context.facts.tags,
        custom={"because_of_alert": str(context.alert_id)},
    )
    sentence = f"{reason} It is because of alert {context.alert_id}."
    event = NewEvent(
        number, EventKind.OPENED, now, context.actor, sentence, CommandChannel.WORKFLOW, {"alert": context.alert_id}
    )
    connection.execute(
        "INSERT INTO workflows_origin (alert_id, depth, paging_depth) VALUES (%s, %s, 0)",
        (number, context.run.progress.depth + 1),
    )
    service.create_alerts(connection, [AlertCreation(alert, paging, event)], now)
    service.publish_alert_changes(connection, [number])
    return ActionResult(f"Opened alert {number}: {alert.subject}.", alert_id=number)


def _record_paging_cause(context: ActionContext) -> None:
    """Records that the alert's further escalation may be caused by this workflow."""
    context.connection.execute(
        "INSERT INTO workflows_origin (alert_id, depth, paging_depth) VALUES (%(alert)s, 0, %(depth)s) "
        "ON CONFLICT (alert_id) DO UPDATE SET paging_depth = greatest(workflows_origin.paging_depth, %(depth)s)",
        {"alert": context.alert_id, "depth": context.run.progress.depth + 1},
    )
