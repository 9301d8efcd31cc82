"""What a policy alone would do for an alert that opened at an instant, if nobody acted: for its page and its API. Sends
and stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.db import database
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.run import target_loader
from tocsin.escalation.run.run_status import begin
from tocsin.simulate.escalation import NEW_ALERT, SimulatedRun, play


@dataclass(frozen=True, slots=True)
class HypotheticalAlert:
    """The alert that is supposed to open: for whom, how urgent, and what its conditions look at."""

    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    priority: Priority | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    #: Whom the ticket is with, as the source would give it.
    source_agent: str = ""


def simulate(plan: CompiledPolicy, supposed: HypotheticalAlert, at: datetime) -> SimulatedRun:
    """The pages, the timeline and its stages from an opening at `at` on."""
    priority = supposed.priority or plan.default_priority
    run = begin(
        NEW_ALERT,
        plan,
        PagingMode.PAGE,
        priority,
        at,
        recipient_users=supposed.recipient_users,
        recipient_groups=supposed.recipient_groups,
    )
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, priority, at)
    with database.transaction() as connection:
        facts = target_loader.facts_of(connection, supposed.tags, supposed.source_agent)
        return play(connection, run, alert, facts, f"An alert opens, {priority}.")
