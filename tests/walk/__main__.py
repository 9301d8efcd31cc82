"""Walks by hand, for as long as one likes: `python -m tests.walk --seed 7 --walks 20 --steps 60`.

Each walk has the next seed. One that breaks a promise, or breaks off, is told with its seed and the last lines of its
story; then the exit code is 1. The same seed and steps tell the same story again.
"""

from __future__ import annotations

import argparse
import sys
import traceback

import tests.conftest  # noqa: F401 - the environment of the tests, before anything of Tocsin is read
from tests import postgres
from tests.walk.promises import Broken
from tests.walk.walking import walk
from tests.walk.world import inhabited


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.walk", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first walk")
    parser.add_argument("--walks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60, help="of each walk")
    parser.add_argument("--tail", type=int, default=25, help="so many last lines of a broken walk's story")
    options = parser.parse_args()
    broken = 0
    with postgres.running() as server, postgres.DatabasePool(server, postgres.TEMPLATE) as databases:
        for seed in range(options.seed, options.seed + options.walks):
            with databases.lent() as url, postgres.in_use(url):
                broken += not _walked(seed, options.steps, options.tail)
    _tell(f"{options.walks} walks, {broken} broke a promise.")
    return 1 if broken else 0


def _walked(seed: int, steps: int, tail: int) -> bool:
    """Walks, and tells what broke. Whether nothing did."""
    with inhabited(seed) as world:
        try:
            walk(world, steps)
        except Broken as found:
            what = str(found)
        except Exception:  # noqa: BLE001 - a walk's edge: what breaks off is told as well
            what = traceback.format_exc()
        else:
            return True
    _tell("\n".join([f"Seed {seed}, the last lines of {len(world.story)}:", *world.story[-tail:], what, ""]))
    return False


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
