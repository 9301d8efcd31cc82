"""Simulates a policy for an alert created at a given time if nobody responds, for the web and the API.

Sends and stores nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tocsin.alerts.change_handlers import PagingMode
from tocsin.alerts.commands import AlertState
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.db import database
from tocsin.core.reasons import Term
from tocsin.escalation.policy.policy import CompiledPolicy
from tocsin.escalation.run import target_loader
from tocsin.escalation.run.run_status import begin_run
from tocsin.simulate import reasons
from tocsin.simulate.escalation import NEW_ALERT, SimulatedRun, play


@dataclass(frozen=True, slots=True)
class HypotheticalAlert:
    """The simulated alert: recipients, priority, and the data for conditions."""

    recipient_users: tuple[int, ...] = ()
    recipient_groups: tuple[int, ...] = ()
    priority: Priority | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The assignee of the ticket, as the source would name it.
    source_agent: str = ""


def simulate(policy: CompiledPolicy, hypothetical: HypotheticalAlert, at: datetime) -> SimulatedRun:
    """The pages, timeline and stages of an alert created at `at`."""
    priority = hypothetical.priority or policy.default_priority
    run = begin_run(
        NEW_ALERT,
        policy,
        PagingMode.PAGE,
        priority,
        at,
        recipient_users=hypothetical.recipient_users,
        recipient_groups=hypothetical.recipient_groups,
    )
    alert = AlertState(NEW_ALERT, AlertStatus.OPEN, priority, at)
    with database.transaction() as connection:
        facts = target_loader.build_facts(connection, hypothetical.tags, hypothetical.source_agent)
        return play(connection, run, alert, facts, reasons.ALERT_CREATED(priority=Term(priority)))
