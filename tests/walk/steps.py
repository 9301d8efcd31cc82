"""Everything that may happen next, and how often it does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tests.store.people import ACTOR
from tests.walk import acts, answers, duty, elsewhere, flows, foresight, messages, people, providers, routing
from tests.walk.world import World
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify import pause

type Step = Callable[[World], None]


def change_configuration(world: World) -> None:
    """One change of the configuration; the commands may refuse it."""
    rng = world.rng
    changes: list[Step] = [
        *[lambda world: routing.save_integration(world, rng.choice(routing.INTEGRATIONS))] * 3,
        *[lambda world: routing.save_policy(world, rng.choice(routing.POLICIES))] * 3,
        *[lambda world: people.save_group(world, rng.choice(people.GROUPS))] * 2,
        *[people.change_user] * 4,
        people.replace_user,
        *[people.change_contact_method] * 2,
        people.send_away,
        people.override,
        duty.change_hours,
        duty.change_reminders,
        duty.hand_over,
        duty.ask_to_swap,
        duty.answer_swap,
        duty.take_back,
        duty.save_or_drop_schedule,
        *[flows.change_workflow] * 2,
        routing.save_maintenance,
        routing.end_maintenance,
        acts.set_priority,
    ]
    _unless_refused(rng.choice(changes), world)


def press_a_workflow(world: World) -> None:
    _unless_refused(flows.press_one, world)


def _unless_refused(step: Step, world: World) -> None:
    try:
        step(world)
    except Rejected as refusal:
        world.say(f"  refused: {refusal}")


def pause_or_go_on(world: World) -> None:
    """All paging is paused, or the pause ends."""
    with database.transaction() as connection:
        held = pause.current(connection, world.now)
    if held is not None:
        pause.end(ACTOR, world.now)
        world.say("the pause ends")
    elif world.rng.random() < 0.5:
        pause.start("Core switch", world.now + timedelta(minutes=world.rng.choice([5, 30])), ACTOR, world.now)
        world.say("all paging is paused")


def stand_still(world: World) -> None:
    """Time passes while no worker runs."""
    span = timedelta(seconds=world.rng.choice([1, 5, 10, 30, 60, 60, 180, 300, 300, 600, 1800, 3600, 4 * 3600]))
    world.pass_by(span)
    world.say(f"{span} pass, and no loop turns")


def turn_some_loops(world: World) -> None:
    """A few loops turn once, in any order."""
    chosen = world.rng.sample(sorted(world.loops), world.rng.randint(1, 4))
    for name in chosen:
        world.loops[name]()
    world.say(f"loops: {', '.join(chosen)}")


def live(world: World) -> None:
    """Time passes, and every loop turns when it should."""
    span = timedelta(seconds=world.rng.choice([5, 30, 60, 120, 300, 600, 1800]))
    world.say(f"{span} go by")
    world.live(span)


def die_sending(world: World) -> None:
    """A process ends while it sends; somebody may act before another takes up what it had."""
    count, calls = world.die_sending(), elsewhere.die_calling(world)
    world.say(f"a process ends with {count} messages and {calls} calls on their way")
    if count and world.rng.random() < 0.5:
        acts.act(world)
    world.end_leases()


#: Each with its weight.
STEPS: dict[Step, int] = {
    acts.act: 12,
    answers.answer: 6,
    messages.arrive: 10,
    live: 7,
    turn_some_loops: 5,
    change_configuration: 4,
    press_a_workflow: 1,
    stand_still: 3,
    foresight.see_next: 3,
    pause_or_go_on: 1,
    providers.change_weather: 1,
    providers.report: 2,
    die_sending: 1,
    messages.replay_one: 1,
}

#: After which nothing is due that was not decided.
RESTFUL: frozenset[Step] = frozenset({live})
