"""Previews whom a manually created alert would page. Sends and stores nothing."""

from __future__ import annotations

from datetime import datetime

from tocsin.escalation.actions.manual_alerts import ManualAlert
from tocsin.escalation.changes import commands
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.simulate.escalation import SimulatedRun
from tocsin.simulate.policy import HypotheticalAlert, simulate

#: The note for an alert that pages nobody.
NOBODY = "It has neither an escalation policy nor recipient users, so it pages nobody."


def preview(new: ManualAlert, at: datetime) -> SimulatedRun:
    """The pages and timeline if it were created at `at` and nobody responded."""
    if new.policy is None and not new.user_ids:
        return SimulatedRun((), (), (NOBODY,))
    plan = commands.plan_of(new.policy) if new.policy is not None else RECIPIENTS_ONLY
    return simulate(plan, HypotheticalAlert(new.user_ids, new.group_ids, new.priority, new.tags), at)
