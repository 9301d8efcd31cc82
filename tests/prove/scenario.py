"""What a scenario is, and how its runs are done: fault, recovery, count, one line each."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.prove import records
from tests.prove.bench import Bench, Fault
from tests.prove.records import Record
from tests.support.installation import Installation

#: Short runs, of which many are counted together: waiting for the last page costs seconds.
GROUP = 20


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of fault. `act` does it and returns when what it broke is whole again, or when pages can be sent."""

    name: str
    world: Callable[[Installation], AbstractContextManager[Bench]]
    act: Callable[[Bench], Fault]
    runs: int = 3
    #: The runs of the ten-minute version; 0: left out there.
    short_runs: int = 1
    group: int = 1
    #: Programs without which it is skipped.
    programs: Sequence[str] = ()
    #: Whether it needs root, for namespaces and file systems of its own.
    needs_root: bool = False

    def missing(self, is_root: bool) -> str:
        """Why it cannot run here, or nothing."""
        if self.needs_root and not is_root:
            return "needs root"
        absent = [program for program in self.programs if shutil.which(program) is None]
        return f"needs {', '.join(absent)}" if absent else ""


def run(scenario: Scenario, configured: Installation, wanted: int, seed: int, *, is_short: bool) -> list[Record]:
    """Does the runs that are missing of those wanted. Returns all of them, those of earlier calls included."""
    done = records.read(scenario.name)
    waiting = range(len(done) + 1, wanted + 1)
    if not waiting:
        return done
    with scenario.world(configured) as bench:
        bench.is_short = is_short
        for start in range(waiting.start, waiting.stop, scenario.group):
            group = [number for number in range(start, start + scenario.group) if number in waiting]
            for record in _run_group(scenario, bench, group, seed):
                records.append(record)
                done.append(record)
    return done


def _run_group(scenario: Scenario, bench: Bench, numbers: list[int], seed: int) -> list[Record]:
    faults: dict[int, Fault] = {}
    for number in numbers:
        bench.senders.run = number
        bench.senders.resume()
        bench.rng = random.Random(f"{seed} {scenario.name} {number}")
        began = time.monotonic()
        # Nothing is broken before pages are sent: each fault meets a node at work.
        bench.wait_until_paging(began)
        faults[number] = scenario.act(bench)
        bench.wait_until_paging(faults[number].at)
    bench.settle(numbers)
    results = []
    for number in numbers:
        fault = faults[number]
        counts = bench.count(number, fault)
        made = records.make_record(scenario.name, number, seed, fault.what, fault.detail, counts)
        seconds = "never" if counts.seconds is None else f"{counts.seconds:.1f} s"
        say(f"{scenario.name} {number}: {fault.what} {fault.detail}: {counts.answered} answered, {seconds}")
        if not counts.is_held:
            say(f"  NOT HELD: {counts}")
            bench.keep_evidence(records.FOLDER / "failures" / f"{scenario.name}-{number}")
        results.append(made)
        bench.finish(number)
    return results


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
