"""`kill -9` at a random moment: of the node, of PostgreSQL, of both, and of a node that starts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tests.prove.bench import Bench, Fault
from tests.prove.scenario import GROUP, Scenario
from tests.prove.worlds import embedded, kill_postgres

#: Seconds under load before a kill, and of a start that is interrupted.
_LOAD = (0.1, 1.5)
_START = (0.0, 3.0)


def _kill_node(bench: Bench) -> str:
    bench.node.kill()
    bench.start_node()
    return ""


def _kill_postgres(bench: Bench) -> str:
    """The postmaster alone, every process of the server, or one that serves a connection."""
    postmaster = bench.installation.postgres_pid
    chosen = bench.rng.choice(("postmaster", "all", "one backend"))
    with suppress(ProcessLookupError):
        if chosen == "all":
            kill_postgres(postmaster)
        elif chosen == "postmaster":
            os.kill(postmaster, signal.SIGKILL)
        else:
            (backend,) = bench.installation.rows(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
                "ORDER BY random() LIMIT 1"
            )
            os.kill(backend["pid"], signal.SIGKILL)
    return chosen


def _kill_both(bench: Bench) -> str:
    postmaster = bench.installation.postgres_pid
    first = bench.rng.choice(("node", "PostgreSQL"))
    if first == "node":
        bench.node.kill()
    kill_postgres(postmaster)
    if first == "PostgreSQL":
        bench.sleep(0.0, 0.3)
        bench.node.kill()
    bench.start_node()
    return f"{first} first"


def _kill_during_start(bench: Bench) -> str:
    bench.node.kill()
    if with_postgres := bench.rng.random() < 0.5:
        kill_postgres(bench.installation.postgres_pid)
    bench.start_node()
    seconds = bench.sleep(*_START)
    if bench.rng.random() < 0.3:
        with suppress(FileNotFoundError, ProcessLookupError, IndexError, ValueError):
            kill_postgres(bench.installation.postgres_pid)
    bench.node.kill()
    bench.start_node()
    return f"{seconds:.2f} s after its start{', PostgreSQL killed before' if with_postgres else ''}"


_KINDS: Mapping[str, Callable[[Bench], str]] = {
    "kill -9 of the node": _kill_node,
    "kill -9 of PostgreSQL": _kill_postgres,
    "kill -9 of both": _kill_both,
    "kill -9 during start": _kill_during_start,
}


def _kill(bench: Bench) -> Fault:
    bench.sleep(*_LOAD)
    what = bench.rng.choice(tuple(_KINDS))
    at = time.monotonic()
    detail = _KINDS[what](bench)
    return Fault(what, at, detail)


SCENARIOS = [Scenario("kills", embedded, _kill, runs=100, short_runs=60, group=GROUP)]
