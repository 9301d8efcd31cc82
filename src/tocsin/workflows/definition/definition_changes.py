"""What becomes of the runs that wait, or are stuck, when their workflow is changed: those that still fit go on by what
it is now, the others end and say so. Inside the transaction of the change."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import takewhile

from django.db.models import F, Q

from tocsin.workflows.definition.definition import WorkflowDefinition
from tocsin.workflows.models import Run
from tocsin.workflows.states import SLA, TIMED, WorkflowRunStatus


def settle(workflow_id: int, before: WorkflowDefinition, after: WorkflowDefinition, now: datetime) -> None:
    """Ends the runs that wait for what the workflow waits for no more, and those that are past what was changed among
    its actions; has the others wait as long as it says now. One that is stuck at an action may have been mended by
    changing just that one."""
    is_waiting = Q(due_at__isnull=False)
    left = Run.objects.filter(is_waiting | Q(status=WorkflowRunStatus.STUCK), workflow=workflow_id)
    looking, acting = left.filter(begun_at__isnull=True), left.filter(begun_at__isnull=False)
    if before.trigger.on is not after.trigger.on:
        looking.update(
            status=WorkflowRunStatus.SKIPPED,
            due_at=None,
            ended_at=now,
            reason="The workflow was changed, and waits for something else since.",
        )
    elif before.trigger != after.trigger and after.trigger.on in TIMED:
        # An SLA moment is looked up anew.
        span = timedelta(seconds=after.trigger.span)
        looking.filter(is_waiting).update(due_at=now if after.trigger.on in SLA else F("created_at") + span)
    pairs = zip(before.actions, after.actions, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if same < len(before.actions):
        acting.filter(step__gt=same).update(
            status=WorkflowRunStatus.STOPPED,
            due_at=None,
            ended_at=now,
            reason="The workflow was changed while it waited: what was left of it is not done.",
        )
