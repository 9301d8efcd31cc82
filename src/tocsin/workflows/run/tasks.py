"""The workflow task: claims due runs, decides them in batches, and executes actions, one per transaction.

An action and its record commit together, so a killed worker loses nothing and repeats nothing. One bad row never stops
the others: it is retried alone, later. After five failures it is stuck, and administrators are notified. Paging never
waits for any of this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from tocsin.alerts import service, store
from tocsin.alerts.commands import NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Batch, BatchRunner, Connection
from tocsin.core.delivery.circuit_breaker import Backoff, doubling
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.reasons import AlertRef, Person, Reason, Term, as_reason, reason_as_json
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.escalation.reasons import RECEIVED_AS_ADMINISTRATOR
from tocsin.notify.notices import Notice, queue_notice, was_noticed
from tocsin.people.sql import load_administrators
from tocsin.workflows import definition, reasons
from tocsin.workflows.definition import MAX_ACTIONS
from tocsin.workflows.run import actions, listener, run_store
from tocsin.workflows.run.engine import EngineStep, FinishRun, RunAction, StartActions, WaitUntil, WorkflowFacts, decide
from tocsin.workflows.run.run_store import DueRun
from tocsin.workflows.states import OUTWARD, WorkflowRunStatus

log = logging.getLogger(__name__)

#: Runs decided per transaction, and runs executed per iteration.
MAX_DECIDED, MAX_EXECUTED = 200, 50

#: Consecutive failures after which a run is stuck.
STUCK_AFTER = 5
_RETRIES = Backoff(doubling(timedelta(seconds=5), timedelta(seconds=40)))

#: The minimum interval between two notices about the same stuck workflow.
STUCK_NOTICE_INTERVAL = timedelta(hours=6)

INTERVAL = timedelta(seconds=1)

#: The topic for live updates of the web.
CHANGED = "workflow-runs"


def workflow_task() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("workflows", lambda: run_once(clock.now()), INTERVAL, frozenset({listener.TOPIC, "clock"}))


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
    context = actions.build_action_context(connection, run, facts, now)
    step: dict[str, object] = {"at": now, "do": decision.action.do}
    limit = definition.load(run.definition).limit
    if decision.action.do in OUTWARD and not run_store.consume(connection, run.workflow_id, limit, now):
        why = run_store.describe_limit(limit)
        _log_on_timeline(connection, context, reasons.ACTION_SKIPPED(workflow=run.name, why=why), now)
        run_store.write_step(connection, run, step | {"result": reason_as_json(why), "failed": True})
        run_store.report_limit(connection, run.workflow_id, run.name, limit, now)
        service.publish_alert_changes(connection, [run.alert_id])
        return
    try:
        with connection.transaction(), listener.at_workflow_depth(run.progress.depth + 1):
            result = actions.perform(context, decision.action)
    except (Rejected, Permanent, Temporary) as problem:
        step |= {"result": reason_as_json(problem.reason), "failed": True}
        action = Term(definition.ACTION_NAMES[decision.action.do])
        reason = reasons.ACTION_FAILED(workflow=run.name, action=action, why=problem.reason)
        _log_on_timeline(connection, context, reason, now)
    else:
        step["result"] = reason_as_json(result.reason)
        if result.call_ids:
            step["calls"] = result.call_ids
        if result.alert_id is not None:
            step["alert"] = result.alert_id
        if not result.is_logged:
            _log_on_timeline(connection, context, _with_actor(run, result.reason), now)
    run_store.write_step(connection, run, step)
    service.publish_alert_changes(connection, [run.alert_id])


def _with_actor(run: DueRun, result: Reason) -> Reason:
    if run.user_name:
        user = Person(run.user_name, run.user_id)
        return reasons.PRESSED_RESULT(user=user, workflow=run.name, result=result)
    return reasons.RESULT(workflow=run.name, result=result)


def _log_on_timeline(connection: Connection, context: actions.ActionContext, reason: Reason, now: datetime) -> None:
    event = NewEvent(
        context.alert_id,
        EventKind.WORKFLOW,
        now,
        context.actor,
        reason,
        CommandChannel.WORKFLOW,
        {"workflow": context.run.workflow_id},
    )
    store.insert_events(connection, [event])


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
            reasons.TITLE_STUCK(workflow=row["name"]),
            reasons.TEXT_STUCK(alert=AlertRef(row["alert_id"]), error=problem),
            about,
            RECEIVED_AS_ADMINISTRATOR(),
        )
        queue_notice(connection, notice, now, user_ids=admins)
