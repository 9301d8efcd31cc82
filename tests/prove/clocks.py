"""The clock of the node's machine, or of the database's, is set by libfaketime while both work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from tests.prove.bench import Bench, Fault, short_folder
from tests.prove.scenario import Scenario
from tests.prove.worlds import external
from tests.support.installation import Installation

_LIBRARY = "usr/lib/*/faketime/libfaketime.so.1"
_MACHINES = ("node", "database")
#: By how many seconds a clock is set.
_JUMPS = (-7200, -60, -3, 3, 60, 7200)


@contextmanager
def _faked(configured: Installation) -> Iterator[Bench]:
    """One node and its PostgreSQL, each with a clock that a file sets."""
    with short_folder() as folder:
        files = {machine: folder / machine for machine in _MACHINES}
        for machine in _MACHINES:
            _set(files[machine], 0)
        made: AbstractContextManager[Bench] = external(
            configured,
            node_environment=_environment(files["node"]),
            postgres_environment=_environment(files["database"]),
        )
        with made as bench:
            bench.parts["clocks"] = files
            yield bench


def _environment(file: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(next(Path("/").glob(_LIBRARY))),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }


def _set(file: Path, seconds: int) -> None:
    draft = file.with_suffix(".part")
    draft.write_text(f"{seconds:+d}\n")
    draft.chmod(0o644)
    draft.replace(file)


def _set_clock(machine: str, bench: Bench) -> Fault:
    bench.sleep(0.5, 2.0)
    file = bench.parts["clocks"][machine]
    seconds = bench.rng.choice(_JUMPS)
    at = time.monotonic()
    _set(file, seconds)
    bench.wait_until_paging(at)
    bench.sleep(3.0, 10.0)
    _set(file, 0)
    bench.wait_until_paging(time.monotonic())
    return Fault(f"clock of the {machine} set, and set right", at, f"by {seconds:+d} s")


def _scenario(machine: str, short_runs: int) -> Scenario:
    return Scenario(
        f"{machine}-clock", _faked, partial(_set_clock, machine), runs=6, short_runs=short_runs, files=(_LIBRARY,)
    )


SCENARIOS = [_scenario("node", 1), _scenario("database", 1)]
