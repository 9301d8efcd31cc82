"""Handles waiting and stuck runs when their workflow is edited, in the same transaction.

Runs that still fit continue with the new definition; the others end with a reason.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import takewhile

from django.db.models import F, Q

from tocsin.core.stored_reason import named_columns
from tocsin.workflows import reasons
from tocsin.workflows.definition.definition import WorkflowDefinition
from tocsin.workflows.models import WorkflowRun
from tocsin.workflows.states import SLA, TIMED, WorkflowRunStatus


def settle_runs(workflow_id: int, before: WorkflowDefinition, after: WorkflowDefinition, now: datetime) -> None:
    """Ends runs whose trigger changed, and runs that are past a changed action; adjusts the delay of the others.

    A run stuck at an action continues, since editing that action may have fixed it.
    """
    is_waiting = Q(due_at__isnull=False)
    open_runs = WorkflowRun.objects.filter(is_waiting | Q(status=WorkflowRunStatus.STUCK), workflow=workflow_id)
    undecided, executing = open_runs.filter(started_at__isnull=True), open_runs.filter(started_at__isnull=False)
    if before.trigger.on is not after.trigger.on:
        undecided.update(
            status=WorkflowRunStatus.SKIPPED,
            due_at=None,
            ended_at=now,
            **named_columns("reason", reasons.TRIGGER_CHANGED()),
        )
    elif before.trigger != after.trigger and after.trigger.on in TIMED:
        # SLA targets are looked up again.
        span = timedelta(seconds=after.trigger.span)
        undecided.filter(is_waiting).update(due_at=now if after.trigger.on in SLA else F("created_at") + span)
    pairs = zip(before.actions, after.actions, strict=False)
    unchanged_count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if unchanged_count < len(before.actions):
        executing.filter(step__gt=unchanged_count).update(
            status=WorkflowRunStatus.STOPPED,
            due_at=None,
            ended_at=now,
            **named_columns("reason", reasons.ACTIONS_CHANGED()),
        )
