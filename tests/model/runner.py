"""One random walk: a system, a number of steps, and a check of the invariants after each."""

from __future__ import annotations

from datetime import timedelta

from tests.model import external_system, invariants, on_call, people, providers, routing, workflows
from tests.model.invariants import ALWAYS, AT_END, WHEN_IDLE
from tests.model.steps import IDLE_AFTER, STEPS
from tests.model.system import System

#: The time at the end in which everything pending becomes due.
FINAL_SPAN = timedelta(hours=2)


def run_walk(system: System, steps: int) -> None:
    """Raises InvariantViolation at the first violated invariant; `system.history` shows what led to it."""
    providers.set_up(system)
    people.set_up(system)
    on_call.set_up(system)
    routing.set_up(system)
    external_system.set_up(system)
    workflows.set_up(system)
    for _ in range(steps):
        system.begin_step()
        step = system.rng.choices(list(STEPS), list(STEPS.values()))[0]
        step(system)
        invariants.check(ALWAYS, system)
        if step in IDLE_AFTER:
            invariants.check(WHEN_IDLE, system)
    system.begin_step()
    system.record(f"{FINAL_SPAN} pass, and the walk ends")
    system.run_for(FINAL_SPAN)
    invariants.check((*ALWAYS, *WHEN_IDLE, *AT_END), system)
