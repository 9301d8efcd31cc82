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
from tocsin.workflows.run import context as known
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

    said: str
    #: Ids of queued calls.
    calls: tuple[int, ...] = ()
    #: Id of a created alert.
    alert: int | None = None
    #: Whether the alert's timeline already contains it.
    is_told: bool = False


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

    def locked(self) -> AlertState:
        """The alert's current state, locked until the transaction ends."""
        store.lock(self.connection, [self.alert_id])
        found = store.load(self.connection, [self.alert_id]).get(self.alert_id)
        if found is None:
            raise Rejected("not_found", f"There is no alert {self.alert_id}.")
        return found

    def text(self, template: str) -> str:
        """Renders a template with the alert's values."""
        return templates.render(template, self.values).strip()


def work_for(connection: Connection, run: DueRun, facts: WorkflowFacts, now: datetime) -> ActionContext:
    """The context for a run's actions."""
    values = {
        **known.payload(facts, run.progress.cause, now),
        "workflow": run.name,
        "who": run.user_name or facts.who,
        "acknowledged_by": listed(one.name for one in facts.state.acknowledged.values()) if facts.who else "",
        "owner": facts.state.owner_name or "nobody",
    }
    return ActionContext(connection, run, facts, now, values)


def perform(work: ActionContext, action: WorkflowAction) -> ActionResult:
    """Executes an action. Raises Rejected with the reason if that fails; the caller must then roll back."""
    connection, now, actor = work.connection, work.now, work.actor
    match action.do:
        case ActionKind.NOTIFY:
            return _notify(work, action)
        case ActionKind.START_POLICY:
            _sets_paging_going(work)
            said = manual_escalation.start_policy(
                connection, work.locked(), action.policy or 0, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(said, is_told=True)
        case ActionKind.ADD_RESPONDERS:
            people = loader.people(connection, action, work.facts, now, first_only=True)
            if not people:
                raise Rejected("not_possible", "Nobody has that role now.")
            said = manual_escalation.add_responders(
                connection, work.locked(), list(people), people, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(said, is_told=True)
        case ActionKind.ESCALATE:
            _sets_paging_going(work)
            return _command(work, Escalate(actor=actor, via=CommandChannel.WORKFLOW, note=work.note))
        case ActionKind.SET_PRIORITY:
            _sets_paging_going(work)
            wanted = action.priority or Priority.HIGH
            said = service.set_priority_within(connection, work.alert_id, wanted, actor, CommandChannel.WORKFLOW, now)
            return ActionResult(said, is_told=True)
        case ActionKind.SET_TAGS:
            tags = {name: work.text(text)[:200] for name, text in action.tags.items()}
            said = service.set_tags_within(
                connection, work.alert_id, tags, action.remove, actor, CommandChannel.WORKFLOW, now
            )
            return ActionResult(said, is_told=True)
        case ActionKind.HOLD:
            until = now + timedelta(seconds=action.span)
            return _command(work, Hold(actor=actor, via=CommandChannel.WORKFLOW, until=until, note=work.note))
        case ActionKind.CLOSE:
            note = work.text(action.text)[:2000] or work.note
            return _command(work, Close(actor=actor, via=CommandChannel.WORKFLOW, note=note))
        case ActionKind.REPLY:
            return _command(
                work, Reply(actor=actor, via=CommandChannel.WORKFLOW, text=work.text(action.text), note=work.note)
            )
        case ActionKind.CALL:
            return _call(work, action)
        case ActionKind.HALO:
            # The lock preserves the order of writes about one alert.
            store.lock(connection, [work.alert_id])
            number = calls.write_on_ticket(
                connection, work.alert_id, now, note=work.text(action.text), status=action.status,
                is_public=action.public, who_id=work.run.user_id,
            )  # fmt: skip
            return ActionResult("To be written on the ticket.", calls=(number,))
        case ActionKind.OPEN_ALERT:
            return _open(work, action)
        case ActionKind.WAIT:
            return ActionResult("Waited.", is_told=True)
        case _:
            assert_never(action.do)


def _command(work: ActionContext, command: Command) -> ActionResult:
    outcome = service.apply_command_within(work.connection, work.alert_id, command, work.now)
    return ActionResult(outcome.sentence, is_told=True)


def _notify(work: ActionContext, action: WorkflowAction) -> ActionResult:
    people = loader.people(work.connection, action, work.facts, work.now)
    subject = work.text(action.subject or SUBJECT) or work.run.name
    notice = Notice(
        " ".join(subject.split())[:300],
        work.text(action.text or TEXT),
        about=f"workflow:{work.run.workflow_id}:{work.alert_id}",
        reason=f"The workflow {work.run.name} tells you.",
        alert_id=work.alert_id,
    )
    contacts = action.groups if action.contacts else ()
    told = queue_notices(
        work.connection, notice, work.now, user_ids=list(people), label=action.by, contacts_of=contacts
    )
    missed = f" Not told: {'; '.join(told.missed)}." if told.missed else ""
    if not told.names:
        raise Rejected("not_possible", missed.strip() or "There is nobody to tell.")
    return ActionResult(f"Told {listed(told.names)}{f' by {action.by}' if action.by else ''}.{missed}")


def _call(work: ActionContext, action: WorkflowAction) -> ActionResult:
    more = {"workflow": work.run.name, "what": work.run.progress.cause, "who": work.values["who"]}
    found = database.row(
        work.connection, "SELECT name, is_enabled FROM outbound_outboundintegration WHERE id = %s", (action.outbound,)
    )
    if found is not None and not found["is_enabled"]:
        raise Rejected("not_possible", f"{found['name']} is not in use.")
    store.lock(work.connection, [work.alert_id])
    numbers = calls.call_for_alerts(
        work.connection,
        action.outbound or 0,
        [work.alert_id],
        work.now,
        reason=f"{work.run.name}, for alert {work.alert_id}",
        more=more,
    )
    name = found["name"] if found is not None else "the outbound integration"
    return ActionResult(f"To be called: {name}.", calls=tuple(numbers))


_POLICY = """
SELECT p.name, v.id, v.definition
FROM escalation_policy p JOIN escalation_policyversion v ON v.id = p.current_version_id
WHERE p.id = %s
"""


def _open(work: ActionContext, action: WorkflowAction) -> ActionResult:
    """Creates another alert for the same client that pages by a policy, pages users, or pages nobody."""
    connection, now = work.connection, work.now
    (number,) = store.new_ids(connection, 1)
    version, priority, by = None, action.priority, ""
    if action.policy is not None:
        policy = database.row(connection, _POLICY, (action.policy,))
        if policy is None:
            raise Rejected("not_found", "That escalation policy is gone.")
        version, by = policy["id"], f", to page by the policy {policy['name']}"
        priority = priority or load_policy(policy["definition"]).default_priority
    pages = version is not None or bool(action.users)
    reason = f"Workflow {work.run.name} opened it{by or (', to page the users it names' if pages else '')}."
    paging = PagingConfig(PagingMode.PAGE if pages else PagingMode.RECORD, version, action.users, (), reason)
    values = work.facts.values
    alert = NewAlert(
        id=number,
        priority=priority or work.facts.state.priority,
        subject=" ".join(work.text(action.subject).split())[:300] or work.run.name,
        opened_at=now,
        source=SOURCE,
        source_name=work.run.name,
        columns={
            "long_text": work.text(action.text),
            **{name: str(values.get(name) or "") for name in ("client", "site", "team", "requester")},
        },
        tags=work.facts.tags,
        custom={"because_of_alert": str(work.alert_id)},
    )
    said = f"{reason} It is because of alert {work.alert_id}."
    event = NewEvent(number, EventKind.OPENED, now, work.actor, said, CommandChannel.WORKFLOW, {"alert": work.alert_id})
    connection.execute(
        "INSERT INTO workflows_origin (alert_id, depth, paging_depth) VALUES (%s, %s, 0)",
        (number, work.run.progress.depth + 1),
    )
    service.open_alerts(connection, [AlertCreation(alert, paging, event)], now)
    service.hint_alerts(connection, [number])
    return ActionResult(f"Opened alert {number}: {alert.subject}.", alert=number)


def _sets_paging_going(work: ActionContext) -> None:
    """Records that the alert's further escalation may be caused by this workflow."""
    work.connection.execute(
        "INSERT INTO workflows_origin (alert_id, depth, paging_depth) VALUES (%(alert)s, 0, %(depth)s) "
        "ON CONFLICT (alert_id) DO UPDATE SET paging_depth = greatest(workflows_origin.paging_depth, %(depth)s)",
        {"alert": work.alert_id, "depth": work.run.progress.depth + 1},
    )
