"""Finds the alerts that page through a group or schedule right now, which block its deletion."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Q

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.reasons import ALERT_REFERENCE
from tocsin.core.db import database
from tocsin.core.reasons import AlertRef, Reason
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.policy.policy import PolicyReferences, references
from tocsin.escalation.policy.policy_cache import load_plans
from tocsin.escalation.run.run_state import RunStatus

_ACTIVE_STATUSES = (RunStatus.ACTIVE, RunStatus.PAUSED)
_MAX_LISTED = 10


def runs_using_group(group_id: int) -> list[Reason]:
    """The alerts whose escalation still looks up roles or users in that group, oldest first."""
    return _alerts(lambda names: group_id in names.groups, Q(recipient_groups__contains=[group_id]))


def runs_using_schedule(schedule_id: int) -> list[Reason]:
    """The alerts whose escalation still has a step for that schedule, oldest first."""
    return _alerts(lambda names: schedule_id in names.schedules, Q())


def _alerts(is_using: Callable[[PolicyReferences], bool], recipients: Q) -> list[Reason]:
    active_runs = EscalationRun.objects.filter(status__in=_ACTIVE_STATUSES, mode=PagingMode.PAGE, due_at__isnull=False)
    with database.transaction() as connection:
        plans = load_plans(
            connection, active_runs.exclude(version=None).values_list("version_id", flat=True).distinct()
        )
    version_ids = [version for version, plan in plans.items() if is_using(references(plan))]
    if not version_ids and not recipients:
        return []
    matches = active_runs.filter(recipients | Q(version__in=version_ids) if recipients else Q(version__in=version_ids))
    numbers = matches.order_by("alert_id").values_list("alert_id", flat=True)[:_MAX_LISTED]
    return [ALERT_REFERENCE(alert=AlertRef(number)) for number in numbers]
