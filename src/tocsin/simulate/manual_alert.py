"""Whom an alert would page that somebody is about to open by hand. Sends and stores nothing."""

from __future__ import annotations

from datetime import datetime

from tocsin.escalation.actions.manual_alerts import ManualAlert
from tocsin.escalation.changes import commands
from tocsin.escalation.policy.policy import RECIPIENTS_ONLY
from tocsin.simulate.escalation import SimulatedRun
from tocsin.simulate.policy import HypotheticalAlert, simulate

#: What is said of an alert that nobody hears of.
NOBODY = "It has neither an escalation policy nor recipient users, so it pages nobody."


def preview(new: ManualAlert, at: datetime) -> SimulatedRun:
    """Its pages and timeline, were it opened at `at` and nobody acted."""
    if new.policy is None and not new.user_ids:
        return SimulatedRun((), (), (NOBODY,))
    plan = commands.plan_of(new.policy) if new.policy is not None else RECIPIENTS_ONLY
    return simulate(plan, HypotheticalAlert(new.user_ids, new.group_ids, new.priority, new.tags), at)
