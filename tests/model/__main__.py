"""Runs random walks by hand: `python -m tests.model --seed 7 --walks 20 --steps 60`.

Each walk has the next seed. A walk that violates an invariant or raises is printed with its seed and the end of its
history, and the exit code is 1. The same seed and steps reproduce the same history.
"""

from __future__ import annotations

import argparse
import sys
import traceback

import tests.conftest  # noqa: F401 - sets the test environment before Tocsin is imported
from tests.model.invariants import InvariantViolation
from tests.model.runner import run_walk
from tests.model.system import running_system
from tests.support import postgres


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first walk")
    parser.add_argument("--walks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60, help="the number of steps of each walk")
    parser.add_argument("--tail", type=int, default=25, help="the number of last history lines to print")
    options = parser.parse_args()
    failures = 0
    with postgres.running() as server, postgres.DatabasePool(server, postgres.TEMPLATE) as databases:
        for seed in range(options.seed, options.seed + options.walks):
            with databases.lent() as url, postgres.in_use(url):
                failures += not _run(seed, options.steps, options.tail)
    _print(f"{options.walks} walks, {failures} violated an invariant.")
    return 1 if failures else 0


def _run(seed: int, steps: int, tail: int) -> bool:
    """Runs a walk and prints a violation. Returns whether there was none."""
    with running_system(seed) as system:
        try:
            run_walk(system, steps)
        except InvariantViolation as violation:
            problem = str(violation)
        except Exception:  # noqa: BLE001 - an unexpected exception is printed as well
            problem = traceback.format_exc()
        else:
            return True
    _print("\n".join([f"Seed {seed}, the last lines of {len(system.history)}:", *system.history[-tail:], problem, ""]))
    return False


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
