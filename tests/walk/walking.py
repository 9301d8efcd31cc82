"""One walk: a world, so many steps, and the promises after each."""

from __future__ import annotations

from datetime import timedelta

from tests.walk import duty, elsewhere, flows, people, promises, providers, routing
from tests.walk.promises import ALWAYS, AT_REST, AT_THE_END
from tests.walk.steps import RESTFUL, STEPS
from tests.walk.world import World

#: At the end everything that waits has its time.
LAST = timedelta(hours=2)


def walk(world: World, steps: int) -> None:
    """Raises Broken as soon as a promise does not hold; `world.story` says what led to it."""
    providers.settle_in(world)
    people.settle_in(world)
    duty.settle_in(world)
    routing.settle_in(world)
    elsewhere.settle_in(world)
    flows.settle_in(world)
    for _ in range(steps):
        world.remember()
        step = world.rng.choices(list(STEPS), list(STEPS.values()))[0]
        step(world)
        promises.hold(ALWAYS, world)
        if step in RESTFUL:
            promises.hold(AT_REST, world)
    world.remember()
    world.say(f"{LAST} go by, and it is over")
    world.live(LAST)
    promises.hold((*ALWAYS, *AT_REST, *AT_THE_END), world)
