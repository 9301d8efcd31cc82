"""The workflow task: claims due runs, decides them in batches, and executes actions, one per transaction.

An action and its record commit together, so a killed worker loses nothing and repeats nothing. One bad row never stops
the others: it is retried alone, later. After five failures it is stuck, and administrators are notified. Paging never
waits for any of this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, assert_never

from tocsin.alerts import service, store
from tocsin.alerts.commands import (
    Actor,
    AlertCreation,
    AlertState,
    Close,
    Command,
    Escalate,
    Hold,
    NewAlert,
    NewEvent,
    PagingConfig,
    PagingMode,
    Reply,
)
from tocsin.alerts.service import NO_SUCH_ALERT, FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel, EventKind, Priority
from tocsin.core.db import database
from tocsin.core.db.database import Batch, BatchRunner, Connection
from tocsin.core.delivery.circuit_breaker import Backoff, doubling
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import (
    NO_REASON,
    AlertRef,
    Person,
    Reason,
    ReasonType,
    Term,
    as_reason,
    joined,
    reason_as_json,
    sentence,
)
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.core.validation import inputs
from tocsin.escalation import commands
from tocsin.escalation.commands import POLICY_DELETED
from tocsin.escalation.policy import load as load_policy
from tocsin.escalation.reasons import RECEIVED_AS_ADMINISTRATOR
from tocsin.notify.notices import Notice, queue_notice, was_noticed
from tocsin.notify.text.formatting import listed
from tocsin.outbound.delivery import queue
from tocsin.people.sql import load_administrators
from tocsin.workflows import definition, reasons
from tocsin.workflows.definition import MAX_ACTIONS, OUTWARD, ActionKind, WorkflowAction, WorkflowRunStatus
from tocsin.workflows.run import engine as alert_context
from tocsin.workflows.run import listener, run_store
from tocsin.workflows.run.engine import EngineStep, FinishRun, RunAction, StartActions, WaitUntil, WorkflowFacts, decide
from tocsin.workflows.run.run_store import DueRun

log = logging.getLogger(__name__)

# ---------- actions
# Executes one action of a run, in the transaction that records it. Sends nothing: messages are queued in the
# outboxes.


SUBJECT = "<workflow>: <subject>"
TEXT = "<what>\n\n<subject>\nClient: <client>\nState: <status>, priority <priority>\nWith: <owner>\n<url>"

_NOBODY_HAS_ROLE = ReasonType("workflow.nobody_has_role", "No one has this role now.")
_NOBODY_TO_NOTIFY = ReasonType("workflow.nobody_to_notify", "No one to notify.")
_INTEGRATION_DISABLED = ReasonType("workflow.integration_disabled", "{integration} is disabled.")

SOURCE = "workflow"


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The result of an action, and what it created."""

    reason: Reason
    call_ids: tuple[int, ...] = ()
    alert_id: int | None = None
    #: Whether the alert's timeline already contains it.
    is_logged: bool = False


@dataclass(frozen=True)
class ActionContext:
    connection: Connection
    run: DueRun
    facts: WorkflowFacts
    now: datetime

    @cached_property
    def values(self) -> dict[str, Any]:
        """The values of the texts' fields by name."""
        acknowledged, responders = self.facts.state.acknowledged.values(), self.facts.responder_names
        return {
            **alert_context.payload(self.facts, self.run.progress.cause, self.now),
            "workflow": self.run.name,
            "who": self.run.user_name or responders,
            "acknowledged_by": listed([one.name for one in acknowledged] or ["nobody"]) if responders else "",
            "owner": self.facts.state.owner_name or "nobody",
        }

    @property
    def alert_id(self) -> int:
        return self.run.alert_id

    @property
    def alert(self) -> FoundAlert:
        """The alert of the run. Whoever pressed a button has found it."""
        return FoundAlert.by_tocsin(self.run.alert_id)

    @property
    def actor(self) -> Actor:
        """The acting user who pressed the button, or the workflow."""
        if self.run.user_id is not None:
            return Actor(ActorKind.USER, self.run.user_name, self.run.user_id)
        return Actor(ActorKind.SYSTEM, f"Workflow {self.run.name}")

    @property
    def note(self) -> Reason:
        """The note on commands from a manual workflow."""
        return reasons.BUTTON_NOTE(workflow=self.run.name) if self.run.user_id is not None else NO_REASON

    def lock_alert(self) -> AlertState:
        """The alert's current state, locked until the transaction ends."""
        store.lock(self.connection, [self.alert_id])
        alert = store.load(self.connection, [self.alert_id]).get(self.alert_id)
        if alert is None:
            raise Rejected("not_found", NO_SUCH_ALERT(alert=AlertRef(self.alert_id)))
        return alert

    def text(self, template: str) -> str:
        return inputs.render(template, self.values).strip()


#: Actions after which the alert's escalation may go on because of the workflow.
_PAGING = frozenset({ActionKind.START_POLICY, ActionKind.ESCALATE, ActionKind.SET_PRIORITY})


def perform(context: ActionContext, action: WorkflowAction) -> ActionResult:
    """Executes an action. Raises Rejected with the reason if that fails; the caller must then roll back."""
    connection, now, actor, via = context.connection, context.now, context.actor, CommandChannel.WORKFLOW
    if action.do in _PAGING:
        connection.execute(
            "INSERT INTO workflows_origin (alert_id, depth, paging_depth) VALUES (%(alert)s, 0, %(depth)s) "
            "ON CONFLICT (alert_id) DO UPDATE SET paging_depth = greatest(workflows_origin.paging_depth, %(depth)s)",
            {"alert": context.alert_id, "depth": context.run.progress.depth + 1},
        )
    match action.do:
        case ActionKind.NOTIFY:
            return _notify(context, action)
        case ActionKind.CALL:
            return _call(context, action)
        case ActionKind.OPEN_ALERT:
            return _open(context, action)
        case ActionKind.HALO:
            # The lock preserves the order of writes about one alert.
            store.lock(connection, [context.alert_id])
            number = queue.write_on_ticket(
                connection, context.alert_id, now, note=context.text(action.text), status=action.status,
                is_public=action.public, user_id=context.run.user_id,
            )  # fmt: skip
            return ActionResult(reasons.NOTE_QUEUED(), call_ids=(number,))
        case ActionKind.START_POLICY:
            answer = commands.start_policy(connection, context.lock_alert(), action.policy or 0, actor, via, now)
        case ActionKind.ADD_RESPONDERS:
            recipients = run_store.resolve_recipients(connection, action, context.facts, now, first_only=True)
            if not recipients:
                raise Rejected("not_possible", _NOBODY_HAS_ROLE())
            answer = commands.add_responders(
                connection, context.lock_alert(), list(recipients), recipients, actor, via, now
            )
        case ActionKind.ESCALATE:
            answer = _command(context, Escalate(actor=actor, via=via, note=context.note))
        case ActionKind.SET_PRIORITY:
            priority = action.priority or Priority.HIGH
            answer = service.set_priority_within(connection, context.alert, priority, actor, via, now)
        case ActionKind.SET_TAGS:
            tags = {name: context.text(text)[:200] for name, text in action.tags.items()}
            answer = service.set_tags_within(connection, context.alert, tags, action.remove, actor, via, now)
        case ActionKind.HOLD:
            until = now + timedelta(seconds=action.span)
            answer = _command(context, Hold(actor=actor, via=via, until=until, note=context.note))
        case ActionKind.CLOSE:
            note = context.text(action.text)[:2000] or context.note
            answer = _command(context, Close(actor=actor, via=via, note=note))
        case ActionKind.REPLY:
            answer = _command(context, Reply(actor=actor, via=via, text=context.text(action.text), note=context.note))
        case ActionKind.WAIT:
            raise ValueError("The engine itself waits: `decide` returns WaitUntil.")
        case _:
            assert_never(action.do)
    return ActionResult(answer, is_logged=True)


def _command(context: ActionContext, command: Command) -> Reason:
    return service.apply_command_within(context.connection, context.alert, command, context.now).answer


def _notify(context: ActionContext, action: WorkflowAction) -> ActionResult:
    recipients = run_store.resolve_recipients(context.connection, action, context.facts, context.now)
    subject = context.text(action.subject or SUBJECT) or context.run.name
    notice = Notice(
        as_reason(" ".join(subject.split())[:300]),
        as_reason(context.text(action.text or TEXT)),
        about=f"workflow:{context.run.workflow_id}:{context.alert_id}",
        reason=sentence("You receive this from the workflow {workflow}.", workflow=context.run.name),
        alert_id=context.alert_id,
    )
    contacts = action.groups if action.contacts else ()
    result = queue_notice(
        context.connection, notice, context.now, user_ids=list(recipients), label=action.by, contacts_of=contacts
    )
    missed = reasons.NOT_NOTIFIED(missed=joined(*map(as_reason, result.missed))) if result.missed else NO_REASON
    if not result.names:
        raise Rejected("not_possible", missed or _NOBODY_TO_NOTIFY())
    names = tuple(result.names)
    notified = (
        reasons.NOTIFIED_BY(recipients=names, method=action.by) if action.by else reasons.NOTIFIED(recipients=names)
    )
    return ActionResult(joined(notified, missed, separator=" "))


def _call(context: ActionContext, action: WorkflowAction) -> ActionResult:
    extra_values = {"workflow": context.run.name, "what": str(context.run.progress.cause), "who": context.values["who"]}
    integration = database.row(
        context.connection,
        "SELECT name, is_enabled FROM outbound_outboundintegration WHERE id = %s",
        (action.outbound,),
    )
    if integration is not None and not integration["is_enabled"]:
        raise Rejected("not_possible", _INTEGRATION_DISABLED(integration=integration["name"]))
    store.lock(context.connection, [context.alert_id])
    numbers = queue.call_for_alerts(
        context.connection,
        action.outbound or 0,
        [context.alert_id],
        context.now,
        reason=reasons.CALL_FOR_ALERT(workflow=context.run.name, alert=AlertRef(context.alert_id)),
        extra_values=extra_values,
    )
    name = integration["name"] if integration is not None else f"#{action.outbound}"
    return ActionResult(reasons.CALL_QUEUED(integration=name), call_ids=tuple(numbers))


_POLICY = """
SELECT p.name, v.id, v.definition
FROM escalation_policy p JOIN escalation_policyversion v ON v.id = p.current_version_id
WHERE p.id = %s
"""


def _open(context: ActionContext, action: WorkflowAction) -> ActionResult:
    """Creates another alert for the same client that pages by a policy, pages users, or pages nobody."""
    connection, now = context.connection, context.now
    (number,) = store.new_ids(connection, 1)
    version, priority = None, action.priority
    reason = (reasons.CREATED_FOR_USERS if action.users else reasons.CREATED)(workflow=context.run.name)
    if action.policy is not None:
        policy = database.row(connection, _POLICY, (action.policy,))
        if policy is None:
            raise Rejected("not_found", POLICY_DELETED())
        version = policy["id"]
        reason = reasons.CREATED_FOR_POLICY(workflow=context.run.name, policy=policy["name"])
        priority = priority or load_policy(policy["definition"]).default_priority
    is_paging = version is not None or bool(action.users)
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
    opened = joined(reason, reasons.BECAUSE_OF(alert=AlertRef(context.alert_id)), separator=" ")
    event = NewEvent(
        number, EventKind.OPENED, now, context.actor, opened, CommandChannel.WORKFLOW, {"alert": context.alert_id}
    )
    connection.execute(
        "INSERT INTO workflows_origin (alert_id, depth, paging_depth) VALUES (%s, %s, 0)",
        (number, context.run.progress.depth + 1),
    )
    service.create_alerts(connection, [AlertCreation(alert, paging, event)], now)
    service.publish_alert_changes(connection, [number])
    created = reasons.ALERT_CREATED(alert=AlertRef(number), subject=alert.subject)
    return ActionResult(created, alert_id=number)


#: Runs decided per transaction, and runs executed per iteration.
MAX_DECIDED, MAX_EXECUTED = 200, 50

STUCK_AFTER = 5
_RETRIES = Backoff(doubling(timedelta(seconds=5), timedelta(seconds=40)))

#: The minimum interval between two notices about the same stuck workflow.
STUCK_NOTICE_INTERVAL = timedelta(hours=6)

INTERVAL = timedelta(seconds=1)

#: The topic for live updates of the web.
CHANGED = "workflow-runs"


def workflow_task() -> PeriodicTask:
    topics = frozenset({listener.TOPIC, "clock"})
    return PeriodicTask("workflows", lambda: run_once(clock.now()), INTERVAL, topics, due=run_store.IS_DUE)


def run_once(now: datetime) -> bool:
    """Decides one batch, then executes runs that have started. Returns whether more may be due right away."""
    has_more = _decide_batch(now)
    with database.transaction() as connection:
        started_ids = run_store.due(connection, now, MAX_EXECUTED, is_started=True)
    for run_id in started_ids:
        advance(run_id, now)
    return has_more or len(started_ids) >= MAX_EXECUTED


def advance(run_id: int, now: datetime) -> None:
    """Executes a started run as far as possible."""
    try:
        for _ in range(MAX_ACTIONS + 1):
            if not database.retry_once(lambda: _execute_next(run_id, now)):
                return
    except Exception as error:  # a row's edge: it is retried later and stops no other
        if database.is_unavailable(error):
            raise
        _fail_alone(now, run_id, error)


def evaluate_run(run_id: int, now: datetime) -> None:
    """Decides and executes one run immediately, for a manual workflow."""
    _decide_batch(now, [run_id])
    advance(run_id, now)


_BATCHES = BatchRunner[int]("A batch of workflow runs", MAX_DECIDED, MAX_DECIDED)


def _decide_batch(now: datetime, run_ids: Sequence[int] = ()) -> bool:
    return _BATCHES.run(partial(_decide_runs, now), partial(_fail_alone, now), run_ids)


def _fail_alone(now: datetime, run_id: int, error: Exception) -> None:
    log.error("Run %s of a workflow failed.", run_id, exc_info=error)
    with database.transaction() as connection:
        _fail(connection, run_id, error, now)


def _decide_runs(now: datetime, batch: Batch[int]) -> bool:
    """Decides runs that have not started, in one transaction. Returns whether there were any."""
    with database.transaction() as connection:
        runs = run_store.claim_undecided(connection, now, batch.limit, batch.keys)
        batch.keys = [run.id for run in runs]
        if not runs:
            return False
        facts_by_alert = run_store.facts(connection, [run.alert_id for run in runs])
        decided: list[tuple[DueRun, FinishRun | WaitUntil | StartActions]] = []
        failed: list[tuple[DueRun, Exception]] = []
        for run in runs:
            try:
                decision = _next(run, facts_by_alert, now)
            except Exception as problem:  # noqa: BLE001 - one bad row must not stop the others
                failed.append((run, problem))
            else:
                assert not isinstance(decision, RunAction), "a run acts once it has begun"
                decided.append((run, decision))
        run_store.write(connection, decided, now)
        for run, error in failed:
            log.error("Run %s of workflow %s could not be decided.", run.id, run.name, exc_info=error)
            _fail(connection, run.id, error, now)
        database.notify(connection, CHANGED)
        return True


def _next(run: DueRun, facts_by_alert: Mapping[int, WorkflowFacts], now: datetime) -> EngineStep:
    if run.definition is None:
        return FinishRun(WorkflowRunStatus.STOPPED, reasons.DELETED())
    alert = facts_by_alert.get(run.alert_id)
    if alert is None:
        return FinishRun(WorkflowRunStatus.STOPPED, reasons.ALERT_DELETED())
    return decide(run.progress, definition.load(run.definition), alert, now, is_enabled=run.is_enabled)


def _execute_next(run_id: int, now: datetime) -> bool:
    """Executes a run's next action and records it, in one transaction. Returns whether there may be more."""
    with database.transaction() as connection:
        run = run_store.claim_started(connection, run_id, now)
        if run is None:
            return False
        # Only actions that change the alert lock it, so that messages for it do not have to wait.
        facts_by_alert = run_store.facts(connection, [run.alert_id])
        decision = _next(run, facts_by_alert, now)
        if not isinstance(decision, RunAction):
            run_store.write(connection, [(run, decision)], now)
            database.notify(connection, CHANGED)
            return False
        _execute(connection, run, decision, facts_by_alert[run.alert_id], now)
        return True


def _execute(connection: Connection, run: DueRun, decision: RunAction, facts: WorkflowFacts, now: datetime) -> None:
    context = ActionContext(connection, run, facts, now)
    step: dict[str, object] = {"at": now, "do": decision.action.do}
    limit = definition.load(run.definition).limit
    if decision.action.do in OUTWARD and not run_store.consume(connection, run.workflow_id, limit, now):
        why = run_store.describe_limit(limit)
        _log_on_timeline(context, reasons.ACTION_SKIPPED(workflow=run.name, why=why))
        run_store.write_step(connection, run, step | {"result": reason_as_json(why), "failed": True})
        run_store.report_limit(connection, run.workflow_id, run.name, limit, now)
        service.publish_alert_changes(connection, [run.alert_id])
        return
    try:
        with connection.transaction(), listener.at_workflow_depth(run.progress.depth + 1):
            result = perform(context, decision.action)
    except (Rejected, Permanent, Temporary) as problem:
        step |= {"result": reason_as_json(problem.reason), "failed": True}
        action = Term(definition.ACTION_NAMES[decision.action.do])
        reason = reasons.ACTION_FAILED(workflow=run.name, action=action, why=problem.reason)
        _log_on_timeline(context, reason)
    else:
        step["result"] = reason_as_json(result.reason)
        if result.call_ids:
            step["calls"] = result.call_ids
        if result.alert_id is not None:
            step["alert"] = result.alert_id
        if not result.is_logged:
            _log_on_timeline(context, _with_actor(run, result.reason))
    run_store.write_step(connection, run, step)
    service.publish_alert_changes(connection, [run.alert_id])


def _with_actor(run: DueRun, result: Reason) -> Reason:
    if run.user_name:
        user = Person(run.user_name, run.user_id)
        return reasons.PRESSED_RESULT(user=user, workflow=run.name, result=result)
    return reasons.RESULT(workflow=run.name, result=result)


def _log_on_timeline(context: ActionContext, reason: Reason) -> None:
    data = {"workflow": context.run.workflow_id}
    event = NewEvent(
        context.alert_id, EventKind.WORKFLOW, context.now, context.actor, reason, CommandChannel.WORKFLOW, data
    )
    store.insert_events(context.connection, [event])


def _fail(connection: Connection, run_id: int, error: Exception, now: datetime) -> None:
    """Postpones a failed run and counts the failure.

    After the fifth in a row, or at once if retrying cannot help, the run is stuck and administrators are notified, at
    most once per interval and workflow.
    """
    row = database.row(
        connection,
        "SELECT r.failures, r.workflow_id, r.alert_id, coalesce(w.name, '') AS name FROM workflows_run r "
        "LEFT JOIN workflows_workflow w ON w.id = r.workflow_id WHERE r.id = %s",
        (run_id,),
    )
    if row is None:
        return
    failures = row["failures"] + 1
    problem = error.reason if isinstance(error, Rejected | Permanent) else as_reason(f"{type(error).__name__}: {error}")
    if failures < STUCK_AFTER and not isinstance(error, Rejected | Permanent):
        reason = reasons.RETRIED(failures=failures, limit=STUCK_AFTER, error=problem)
        run_store.fail(connection, run_id, failures, str(problem), reason, now + _RETRIES.delay(failures), now)
        return
    run_store.fail(connection, run_id, failures, str(problem), reasons.STUCK(error=problem), None, now)
    admins = load_administrators(connection)
    about = f"workflow:stuck:{row['workflow_id']}"
    if admins and not was_noticed(connection, admins, about, now, STUCK_NOTICE_INTERVAL):
        notice = Notice(
            sentence("Workflow {workflow} is stuck", workflow=row["name"]),
            sentence(
                "It could not continue for alert {alert}: {error}\n\nPaging continues without it. Fix it under "
                "Workflows, and press Try again in its log.",
                alert=AlertRef(row["alert_id"]),
                error=problem,
            ),
            about,
            RECEIVED_AS_ADMINISTRATOR(),
        )
        queue_notice(connection, notice, now, user_ids=admins)
