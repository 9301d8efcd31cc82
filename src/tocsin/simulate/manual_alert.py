"""Previews whom a manually created alert would page. Sends and stores nothing."""

from __future__ import annotations

from datetime import datetime

from tocsin.escalation.actions.manual_alerts import ManualAlert
from tocsin.escalation.changes import commands
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.simulate import reasons
from tocsin.simulate.escalation import SimulatedRun
from tocsin.simulate.policy import HypotheticalAlert, simulate


def preview(manual_alert: ManualAlert, at: datetime) -> SimulatedRun:
    """The pages and timeline if it were created at `at` and nobody responded."""
    if manual_alert.policy is None and not manual_alert.user_ids:
        return SimulatedRun((), (), (reasons.NO_RECIPIENTS(),))
    policy = commands.plan_of(manual_alert.policy) if manual_alert.policy is not None else RECIPIENTS_ONLY
    return simulate(
        policy,
        HypotheticalAlert(manual_alert.user_ids, manual_alert.group_ids, manual_alert.priority, manual_alert.tags),
        at,
    )
