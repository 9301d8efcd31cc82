"""Compares forecasts with outcomes: the simulation of a message, and the next action of an alert."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.model.system import System
from tocsin.alerts.states import EventKind
from tocsin.core.db import database
from tocsin.core.reasons import reason_from_json
from tocsin.escalation import explain
from tocsin.escalation.explain import NextAction
from tocsin.inbound.models import Integration
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult
from tocsin.notify import pause
from tocsin.simulate import chain
from tocsin.simulate.chain import SimulatedOutcome

#: The simulation knows no delivery IDs and treats every message as timely.
_UNKNOWN = {"message.duplicate_delivery", "message.arrived_late"}

_STEPS = ("step_fired", "step_empty", "escalation_finished")
_PAGED = re.compile(r"\b([A-Z][a-z]+) \(")


@dataclass(frozen=True, slots=True)
class SimulatedMessage:
    """The simulated outcome of a message."""

    outcome: SimulatedOutcome
    is_paused: bool


def simulate(system: System, integration: int, incoming: IncomingMessage) -> SimulatedMessage:
    """Simulates a message at the current time."""
    simulated = chain.simulate(Integration(pk=integration), incoming.raw, "application/json", system.now)
    with database.transaction() as connection:
        return SimulatedMessage(simulated.outcomes[0], pause.current_pause(connection, system.now) is not None)


def compare(system: System, simulated_message: SimulatedMessage, stored: MessageResult) -> None:
    """Records differences to the actual outcome and, for a new alert, to the immediate escalation."""
    simulated_outcome = simulated_message.outcome
    if stored.reason.code in _UNKNOWN:
        return
    # The endpoint may parse malformed input more leniently than `tests.support.ingest` does.
    if simulated_outcome.status == stored.status == "Mapping Failed":
        return
    if (simulated_outcome.status, simulated_outcome.reason) != (stored.status, stored.reason):
        system.contradictions.append(
            f"simulated {simulated_outcome.status}, {simulated_outcome.reason}; it was {stored.status}, {stored.reason}"
        )
    if stored.status != "Mapped Opened" or simulated_message.is_paused:
        return
    system.tasks["escalation"]()
    planned = [str(line.reason) for line in simulated_outcome.timeline[1:] if line.at == system.now]
    results = system.rows(
        "SELECT reason FROM alerts_alertevent WHERE alert_id = %s AND at = %s AND kind = ANY(%s) "
        "ORDER BY id",
        stored.alert_id, system.now, list(_STEPS),
    )  # fmt: skip
    did = [str(reason_from_json(row["reason"])) for row in results]
    if did != [line for line in planned if line in did] or (not did and any("pages" in line for line in planned)):
        system.contradictions.append(f"simulated {planned}, and #{stored.alert_id} did {did}")


def compare_next_steps(system: System) -> None:
    """Forecasts the due actions of all active alerts, runs the escalation and compares."""
    with database.transaction() as connection:
        steps = explain.next_steps(connection, system.alerts(active=True), system.now)
        if pause.current_pause(connection, system.now) is not None:
            return
    due = {alert: step for alert, step in steps.items() if step.at <= system.now}
    newest = system.rows("SELECT coalesce(max(id), 0) AS id FROM alerts_alertevent")[0]["id"]
    system.tasks["escalation"]()
    for alert, step in due.items():
        _compare_next(system, alert, step, newest)
    system.record(f"the forecast actions happen: { {alert: step.summary for alert, step in due.items()} }")


def _compare_next(system: System, alert: int, step: NextAction, newest: int) -> None:
    results = system.rows(
        "SELECT u.name FROM alerts_alertevent e CROSS JOIN LATERAL jsonb_array_elements_text(e.data -> 'people') p "
        "JOIN people_user u ON u.id = p.value::bigint WHERE e.alert_id = %s AND e.id > %s AND e.kind = ANY(%s)",
        alert, newest, [EventKind.STEP_FIRED, EventKind.ASSIGNEE_PAGED],
    )  # fmt: skip
    paged, lines = {row["name"] for row in results}, set(_PAGED.findall(str(step.summary)))
    if "page" in str(step.summary) and paged != lines:
        system.contradictions.append(
            f"#{alert} was forecast to do: {str(step.summary)!r}, and it paged {sorted(paged)}"
        )
