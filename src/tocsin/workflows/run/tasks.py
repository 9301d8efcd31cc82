"""The workflow task: claims due runs, decides them in batches, and executes actions, one per transaction.

An action and its record commit together, so a killed worker loses nothing and repeats nothing. One bad row never stops
the others: it is retried alone, later. After five failures it is stuck, and administrators are notified. Paging never
waits for any of this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from tocsin.alerts import service, store
from tocsin.alerts.commands import NewEvent
from tocsin.alerts.states import CommandChannel, EventKind
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.notify.enqueue import queue
from tocsin.notify.enqueue.queue import Notice
from tocsin.workflows.definition import definition
from tocsin.workflows.definition.definition import MAX_ACTIONS
from tocsin.workflows.run import actions, limits, listener, loader, run_store
from tocsin.workflows.run.context import WorkflowFacts
from tocsin.workflows.run.engine import EngineStep, FinishRun, RunAction, StartActions, WaitUntil, decide
from tocsin.workflows.run.run_store import DueRun
from tocsin.workflows.states import OUTWARD, ActionKind, WorkflowRunStatus

log = logging.getLogger(__name__)

#: Runs decided per transaction, and runs executed per iteration.
LOOKS, ACTS = 200, 50

#: Consecutive failures after which a run is stuck.
STUCK_AFTER = 5

#: The minimum interval between two notices about the same stuck workflow.
TELL_AGAIN = timedelta(hours=6)

INTERVAL = timedelta(seconds=1)

#: The topic for live updates of the web.
CHANGED = "workflow-runs"


def loop() -> PeriodicTask:
    """The worker's periodic task."""
    return PeriodicTask("workflows", lambda: turn(clock.now()), INTERVAL, frozenset({listener.TOPIC, "clock"}))


def turn(now: datetime) -> bool:
    """Decides one batch, then executes runs that have started. Returns whether more may be due right away."""
    looked = _look_at_many(now)
    with database.transaction() as connection:
        begun = run_store.due(connection, now, ACTS, is_begun=True)
    for run_id in begun:
        advance(run_id, now)
    return looked or len(begun) >= ACTS


def advance(run_id: int, now: datetime) -> None:
    """Executes a started run as far as possible."""
    try:
        for _ in range(MAX_ACTIONS + 1):
            if not database.retry_once(lambda: _act_once(run_id, now)):
                return
    except Exception as error:  # a row's edge: it is retried later and stops no other
        if database.is_unavailable(error):
            raise
        log.exception("Run %s of a workflow failed.", run_id)
        with database.transaction() as connection:
            _fail(connection, run_id, error, now)


def evaluate_run(run_id: int, now: datetime) -> None:
    """Decides and executes one run immediately, for a manual workflow."""
    try:
        database.retry_once(lambda: _look(now, run_id))
    except Exception as error:  # a row's edge: the periodic task retries it
        if database.is_unavailable(error):
            raise
        log.exception("Run %s of a workflow could not be looked at.", run_id)
        with database.transaction() as connection:
            _fail(connection, run_id, error, now)
    else:
        advance(run_id, now)


def _look_at_many(now: datetime) -> bool:
    try:
        return database.retry_once(lambda: _look(now, None)) > 0
    except Exception as error:  # the task's edge: the batch is split so that only the bad row fails
        if database.is_unavailable(error):
            raise
        log.exception("A batch of workflow runs could not be looked at; each is tried by itself.")
    with database.transaction() as connection:
        ids = run_store.due(connection, now, LOOKS, is_begun=False)
    for run_id in ids:
        try:
            database.retry_once(lambda run_id=run_id: _look(now, run_id))  # type: ignore[misc]
        except Exception as error:
            log.exception("Run %s of a workflow could not be looked at.", run_id)
            with database.transaction() as connection:
                _fail(connection, run_id, error, now)
    return False


def _look(now: datetime, only: int | None) -> int:
    """Decides runs that have not started, in one transaction. Returns their number."""
    with database.transaction() as connection:
        runs = run_store.claim_looking(connection, now, LOOKS, only)
        if not runs:
            return 0
        known = loader.facts(connection, [run.alert_id for run in runs])
        decided: list[tuple[DueRun, FinishRun | WaitUntil | StartActions]] = []
        failed: list[tuple[DueRun, Exception]] = []
        for run in runs:
            try:
                found = _next(run, known, now)
            except Exception as problem:  # noqa: BLE001 - one bad row must not stop the others
                failed.append((run, problem))
            else:
                assert not isinstance(found, RunAction), "a run acts once it has begun"
                decided.append((run, found))
        run_store.write(connection, decided, now)
        for run, error in failed:
            log.error("Run %s of workflow %s could not be decided.", run.id, run.name, exc_info=error)
            _fail(connection, run.id, error, now)
        database.notify(connection, CHANGED)
        return len(runs)


def _next(run: DueRun, known: Mapping[int, WorkflowFacts], now: datetime) -> EngineStep:
    if run.definition is None:
        return FinishRun(WorkflowRunStatus.STOPPED, "The workflow is gone.")
    alert = known.get(run.alert_id)
    if alert is None:
        return FinishRun(WorkflowRunStatus.STOPPED, "The alert is gone.")
    return decide(run.progress, definition.load(run.definition), alert, now, is_enabled=run.is_enabled)


def _act_once(run_id: int, now: datetime) -> bool:
    """Executes a run's next action and records it, in one transaction. Returns whether there may be more."""
    with database.transaction() as connection:
        run = run_store.claim_acting(connection, run_id, now)
        if run is None:
            return False
        # Only actions that change the alert lock it, so that messages for it do not have to wait.
        known = loader.facts(connection, [run.alert_id])
        found = _next(run, known, now)
        if not isinstance(found, RunAction):
            run_store.write(connection, [(run, found)], now)
            database.notify(connection, CHANGED)
            return False
        _do(connection, run, found, known[run.alert_id], now)
        return True


def _do(connection: Connection, run: DueRun, found: RunAction, facts: WorkflowFacts, now: datetime) -> None:
    work = actions.work_for(connection, run, facts, now)
    step: dict[str, object] = {"at": now, "do": found.action.do}
    limit = definition.load(run.definition).limit
    if found.action.do in OUTWARD and not limits.consume(connection, run.workflow_id, limit, now):
        said = limits.describe_limit(limit)
        _tell_timeline(connection, work, f"{run.name} left something out: {said}", now)
        run_store.write_step(connection, run, step | {"said": said[:1].upper() + said[1:], "failed": True})
        limits.report_limit(connection, run.workflow_id, run.name, limit, now)
        service.hint_alerts(connection, [run.alert_id])
        return
    try:
        with connection.transaction(), listener.carrying(run.progress.depth + 1):
            done = actions.perform(work, found.action)
    except (Rejected, Permanent, Temporary) as problem:
        said = problem.detail
        step |= {"said": said, "failed": True}
        _tell_timeline(connection, work, f"{run.name} could not {_verb(found)}: {said}", now)
    else:
        step["said"] = done.said
        if done.calls:
            step["calls"] = done.calls
        if done.alert is not None:
            step["alert"] = done.alert
        if not done.is_told:
            _tell_timeline(connection, work, f"{_by(run)}{done.said}", now)
    run_store.write_step(connection, run, step)
    service.hint_alerts(connection, [run.alert_id])


def _by(run: DueRun) -> str:
    return f"{run.user_name} pressed {run.name}: " if run.user_name else f"Workflow {run.name}: "


def _verb(found: RunAction) -> str:
    return "write on the ticket" if found.action.do is ActionKind.HALO else str(found.action.do).replace("_", " ")


def _tell_timeline(connection: Connection, work: actions.ActionContext, reason: str, now: datetime) -> None:
    event = NewEvent(
        work.alert_id,
        EventKind.WORKFLOW,
        now,
        work.actor,
        reason,
        CommandChannel.WORKFLOW,
        {"workflow": work.run.workflow_id},
    )
    store.insert_events(connection, [event])


def _fail(connection: Connection, run_id: int, error: Exception, now: datetime) -> None:
    """Postpones a failed run and counts the failure.

    After the fifth in a row, or at once if retrying cannot help, the run is stuck and administrators are notified, at
    most once per interval and workflow.
    """
    found = database.row(
        connection,
        "SELECT r.failures, r.workflow_id, r.alert_id, coalesce(w.name, '') AS name FROM workflows_run r "
        "LEFT JOIN workflows_workflow w ON w.id = r.workflow_id WHERE r.id = %s",
        (run_id,),
    )
    if found is None:
        return
    failures = found["failures"] + 1
    said = error.detail if isinstance(error, Rejected | Permanent) else f"{type(error).__name__}: {error}"
    if failures < STUCK_AFTER and not isinstance(error, Rejected | Permanent):
        reason = f"It failed ({failures} of {STUCK_AFTER}) and is tried again: {said}"
        delay = timedelta(seconds=5 * 2 ** (failures - 1))
        run_store.fail(connection, run_id, failures, said, reason, now + delay, now)
        return
    reason = f"Stuck: {said}"
    run_store.fail(connection, run_id, failures, said, reason, None, now)
    admins = queue.administrators(connection)
    about = f"workflow:stuck:{found['workflow_id']}"
    if admins and not queue.was_noticed(connection, admins, about, now, TELL_AGAIN):
        notice = Notice(
            f"The workflow {found['name']} is stuck",
            f"It could not go on for alert {found['alert_id']}: {said}\n\nPaging goes on without it. Mend it under "
            "Workflows, and press Try again in its log.",
            about,
            "You are told because you administer Tocsin.",
        )
        queue.queue_notice(connection, notice, now, user_ids=admins)
