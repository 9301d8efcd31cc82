"""All possible steps with their weights."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tests.model import (
    external_system,
    forecasts,
    messages,
    on_call,
    operations,
    people,
    providers,
    replies,
    routing,
    workflows,
)
from tests.model.system import System
from tests.support.people import ACTOR
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify import pause

type Step = Callable[[System], None]


def change_configuration(system: System) -> None:
    """Makes one change of the configuration; the commands may reject it."""
    rng = system.rng
    changes: list[Step] = [
        *[lambda system: routing.save_integration(system, rng.choice(routing.INTEGRATIONS))] * 3,
        *[lambda system: routing.save_policy(system, rng.choice(routing.POLICIES))] * 3,
        *[lambda system: people.save_group(system, rng.choice(people.GROUPS))] * 2,
        *[people.change_user] * 4,
        people.replace_user,
        *[people.change_contact_method] * 2,
        people.add_absence,
        people.override,
        on_call.change_hours,
        on_call.change_reminders,
        on_call.hand_over,
        on_call.ask_to_swap,
        on_call.answer_swap,
        on_call.take_back,
        on_call.save_or_drop_schedule,
        *[workflows.change_workflow] * 2,
        routing.save_maintenance,
        routing.end_maintenance,
        operations.set_priority,
    ]
    _record_rejection(rng.choice(changes), system)


def press_workflow_button(system: System) -> None:
    _record_rejection(workflows.press_button, system)


def _record_rejection(step: Step, system: System) -> None:
    try:
        step(system)
    except Rejected as rejection:
        system.record(f"  rejected: {rejection}")


def toggle_pause(system: System) -> None:
    """Pauses all paging, or ends the pause."""
    with database.transaction() as connection:
        current_pause = pause.current_pause(connection, system.now)
    if current_pause is not None:
        pause.end(ACTOR, system.now)
        system.record("the pause ends")
    elif system.rng.random() < 0.5:
        pause.start("Core switch", system.now + timedelta(minutes=system.rng.choice([5, 30])), ACTOR, system.now)
        system.record("all paging is paused")


def skip_time(system: System) -> None:
    """Advances the clock while no worker runs."""
    span = timedelta(seconds=system.rng.choice([1, 5, 10, 30, 60, 60, 180, 300, 300, 600, 1800, 3600, 4 * 3600]))
    system.advance(span)
    system.record(f"{span} pass without tasks")


def run_some_tasks(system: System) -> None:
    """Runs a few tasks once, in any order."""
    chosen = system.rng.sample(sorted(system.tasks), system.rng.randint(1, 4))
    for name in chosen:
        system.tasks[name]()
    system.record(f"tasks: {', '.join(chosen)}")


def run_tasks(system: System) -> None:
    """Advances the clock and runs every task on time."""
    span = timedelta(seconds=system.rng.choice([5, 30, 60, 120, 300, 600, 1800]))
    system.record(f"{span} pass")
    system.run_for(span)


def crash_while_sending(system: System) -> None:
    """A process crashes while it sends. A user may act before another process reclaims its work."""
    count, calls = system.crash_while_sending(), external_system.crash_while_calling(system)
    system.record(f"a process crashes with {count} messages and {calls} calls in transit")
    if count and system.rng.random() < 0.5:
        operations.run_command(system)
    system.expire_leases()


#: The steps with their weights.
STEPS: dict[Step, int] = {
    operations.run_command: 12,
    replies.reply: 6,
    messages.arrive: 10,
    run_tasks: 7,
    run_some_tasks: 5,
    change_configuration: 4,
    press_workflow_button: 1,
    skip_time: 3,
    forecasts.compare_next_steps: 3,
    toggle_pause: 1,
    providers.change_provider: 1,
    providers.report: 2,
    crash_while_sending: 1,
    messages.replay_one: 1,
}

#: The steps that leave no due work.
IDLE_AFTER: frozenset[Step] = frozenset({run_tasks})
