"""What a scenario is, and how its runs are done: fault, recovery, count, one line each."""

from __future__ import annotations

import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

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
    #: Limits in seconds: until pages are sent again, and from a message to its page, for 95 % of them and for all.
    max_seconds: float | None = None
    max_page_p95: float | None = None
    max_page: float | None = None
    #: Programs without which it is skipped.
    programs: Sequence[str] = ()
    #: The same for files, as patterns below the root.
    files: Sequence[str] = ()
    #: Whether it needs root, for namespaces and file systems of its own.
    needs_root: bool = False

    def missing(self, is_root: bool) -> str:
        """Why it cannot run here, or nothing."""
        if self.needs_root and not is_root:
            return "needs root"
        absent = [program for program in self.programs if shutil.which(program) is None]
        absent += [file for file in self.files if not any(Path("/").glob(file))]
        return f"needs {', '.join(absent)}" if absent else ""

    def late(self, records: Iterable[Record]) -> list[str]:
        """The runs in which pages were later than the limits, one sentence each."""
        return [
            f"{self.name} run {record.run} ({record.what}): {meaning} took {value:.1f} s, more than {limit:.0f} s"
            for record in records
            for meaning, value, limit in (
                ("the first page", record.counts.seconds, self.max_seconds),
                ("95 % of the pages", record.counts.page_p95, self.max_page_p95),
                ("the last page", record.counts.page_max, self.max_page),
            )
            if value is not None and limit is not None and value > limit
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which runs of a scenario are there, and which are to be done."""

    scenario: Scenario
    done: list[Record]
    waiting: Sequence[int]


def plan(scenario: Scenario, wanted: int) -> Plan:
    """Runs that this source did in an earlier call are not done again."""
    done = records.read(scenario.name)
    return Plan(scenario, done, range(len(done) + 1, wanted + 1))


def run(
    plans: Sequence[Plan], configured: Installation, seed: int, *, is_short: bool
) -> tuple[list[Record], list[str]]:
    """Does the runs that wait, of scenarios of one world. Returns every record, earlier ones included, and one sentence
    for each scenario that could not be finished."""
    results = [record for one in plans for record in one.done]
    problems: list[str] = []
    waiting = [one for one in plans if one.waiting]
    while waiting:
        first = waiting[0]
        try:
            with first.scenario.world(configured) as bench:
                bench.is_short = is_short
                while waiting:
                    first = waiting.pop(0)
                    for record in _run_all(first, bench, seed):
                        records.append(record)
                        results.append(record)
        except Exception as error:  # noqa: BLE001 - the next scenario begins in a new world
            problems.append(f"{first.scenario.name} could not be finished: {error!r}")
            say(f"{problems[-1]}\n{traceback.format_exc()}")
            if waiting[:1] == [first]:
                break  # Its world does not start.
    return results, problems


def _run_all(one: Plan, bench: Bench, seed: int) -> Iterator[Record]:
    scenario = one.scenario
    for start in range(0, len(one.waiting), scenario.group):
        numbers = one.waiting[start : start + scenario.group]
        faults: dict[int, Fault] = {}
        for number in numbers:
            bench.rng = random.Random(f"{seed} {scenario.name} {number}")
            # Nothing is broken before pages are sent: each fault meets a node at work.
            bench.begin_run(number)
            faults[number] = scenario.act(bench)
            bench.wait_until_paging(faults[number].at)
        bench.settle(numbers)
        for number in numbers:
            yield _record(scenario, bench, number, faults[number], seed)
            bench.finish(number)


def _record(scenario: Scenario, bench: Bench, number: int, fault: Fault, seed: int) -> Record:
    counts = bench.count(number, fault)
    seconds = "never" if counts.seconds is None else f"{counts.seconds:.1f} s"
    say(f"{scenario.name} {number}: {fault.what}, {fault.detail}: {counts.answered} answered, {seconds}")
    if not counts.is_held:
        say(f"  NOT HELD: {counts}")
        bench.keep_evidence(records.FOLDER / "failures" / f"{scenario.name}-{number}")
    return records.make_record(scenario.name, number, seed, fault.what, fault.detail, counts)


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
