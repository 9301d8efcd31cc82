"""What happens next to alerts: the one timer of each one's run, in one statement for any number of alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tocsin.escalation.models import Run
from tocsin.escalation.runs import RunStatus


@dataclass(frozen=True, slots=True)
class NextStep:
    """When, and what: a sentence."""

    at: datetime
    summary: str


def of(numbers: Sequence[int]) -> dict[int, NextStep]:
    """The next step by alert number; an alert for which nothing is due is absent."""
    runs = Run.objects.filter(alert__in=numbers, due_at__isnull=False).exclude(status=RunStatus.ENDED)
    return {
        alert: NextStep(due_at, reason)
        for alert, due_at, reason in runs.values_list("alert_id", "due_at", "reason")
        if due_at is not None
    }
