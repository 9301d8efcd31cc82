"""What Tocsin says will happen, beside what then happens: the simulator for a message, and "What happens next"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.walk.world import World
from tocsin.core.db import database
from tocsin.escalation.actions import next_steps
from tocsin.escalation.actions.forecast import NextAction
from tocsin.inbound.storage.messages import IncomingMessage, MessageResult
from tocsin.notify import pause
from tocsin.simulate import chain
from tocsin.simulate.chain import SimulatedOutcome

#: The simulator knows no delivery ids, and tries a message out as if it were in time.
_UNKNOWN = ("same delivery", "arrived late")

_STEPS = ("step_fired", "step_empty", "escalation_finished")
_PAGED = re.compile(r"\b([A-Z][a-z]+) \(")


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the simulator says of a message."""

    outcome: SimulatedOutcome
    is_paused: bool


def simulate(world: World, door: int, incoming: IncomingMessage) -> Foreseen:
    """Tries a message out, now."""
    simulated = chain.simulate(door, incoming.raw, "application/json", world.now)
    with database.transaction() as connection:
        return Foreseen(simulated.outcomes[0], pause.current(connection, world.now) is not None)


def compare(world: World, foreseen: Foreseen, stored: MessageResult) -> None:
    """Notes where the message did otherwise; of a new alert also what its escalation does at once."""
    said = foreseen.outcome
    if any(words in stored.reason for words in _UNKNOWN):
        return
    # The door itself may read what is broken more leniently than `tests.store.ingest` does.
    if said.status == stored.status == "Mapping Failed":
        return
    if (said.status, said.reason) != (stored.status, stored.reason):
        world.contradictions.append(
            f"simulated {said.status}, {said.reason!r}; it was {stored.status}, {stored.reason!r}"
        )
    if stored.status != "Mapped Opened" or foreseen.is_paused:
        return
    world.loops["escalation"]()
    planned = [line.text for line in said.timeline[1:] if line.at == world.now]
    found = world.rows(
        "SELECT reason FROM alerts_alertevent WHERE alert_id = %s AND at = %s AND kind = ANY(%s) ORDER BY id",
        stored.alert_id, world.now, list(_STEPS),
    )  # fmt: skip
    did = [row["reason"] for row in found]
    if did != [line for line in planned if line in did] or (not did and any("pages" in line for line in planned)):
        world.contradictions.append(f"simulated {planned}, and #{stored.alert_id} did {did}")


def see_next(world: World) -> None:
    """Looks at what is next for all alerts whose time has come, and lets it happen."""
    with database.transaction() as connection:
        steps = next_steps.next_steps(connection, world.alerts(live=True), world.now)
        if pause.current(connection, world.now) is not None:
            return
    due = {alert: step for alert, step in steps.items() if step.at <= world.now}
    newest = world.rows("SELECT coalesce(max(id), 0) AS id FROM alerts_alertevent")[0]["id"]
    world.loops["escalation"]()
    for alert, step in due.items():
        _compare_next(world, alert, step, newest)
    world.say(f"what was next happens: { {alert: step.summary for alert, step in due.items()} }")


def _compare_next(world: World, alert: int, step: NextAction, newest: int) -> None:
    found = world.rows(
        "SELECT u.name FROM alerts_alertevent e CROSS JOIN LATERAL jsonb_array_elements_text(e.data -> 'people') p "
        "JOIN people_user u ON u.id = p.value::bigint WHERE e.alert_id = %s AND e.id > %s AND e.kind = 'step_fired'",
        alert, newest,
    )  # fmt: skip
    paged, said = {row["name"] for row in found}, set(_PAGED.findall(step.summary))
    if "page" in step.summary and paged != said:
        world.contradictions.append(f"#{alert} was to do next: {step.summary!r}, and it paged {sorted(paged)}")
