"""`python -m tests.prove [SCENARIO…]`: breaks things under load and counts what was lost; `make prove`.

Each run appends a line to build/prove/SCENARIO.jsonl. Runs that are there for this source are not done again, so that
an interrupted proof goes on. The exit code is 1 if a message was lost, opened twice or never paged, if pages were not
sent again, or if more than 1 % were paged twice.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby

import tests.conftest  # noqa: F401 - sets the test environment before Tocsin is imported
from tests.prove import clocks, database, failover, kills, pair, providers, records, standstill
from tests.prove.records import Record
from tests.prove.scenario import Scenario, plan, run, say
from tests.prove.worlds import configured_installation

SCENARIOS: list[Scenario] = [
    *kills.SCENARIOS,
    *database.SCENARIOS,
    *pair.SCENARIOS,
    *failover.SCENARIOS,
    *providers.SCENARIOS,
    *clocks.SCENARIOS,
    *standstill.SCENARIOS,
]

#: Set in the process that has namespaces of its own.
_INSIDE = "TOCSIN_TEST_PROVE_INSIDE"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", metavar="SCENARIO", help=", ".join(one.name for one in SCENARIOS))
    parser.add_argument("--kills", type=int, help="the number of kills")
    parser.add_argument("--runs", type=int, help="the number of runs of every other scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="the ten-minute version, from the start")
    parser.add_argument("--table", action="store_true", help="print the table of the runs so far, and run nothing")
    options = parser.parse_args()
    chosen = [one for one in SCENARIOS if not options.only or one.name in options.only]
    if options.table:
        return _report([record for one in chosen for record in records.read(one.name)])
    if _INSIDE not in os.environ and shutil.which("unshare") and _may_have_namespaces():
        return _run_in_namespaces()
    if options.short:
        records.FOLDER /= "short"
        shutil.rmtree(records.FOLDER, ignore_errors=True)
    results: list[Record] = []
    problems: list[str] = []
    with configured_installation() as configured:
        for _, members in groupby(chosen, lambda one: one.world):
            plans = [plan(one, _runs(one, options)) for one in members if _is_possible(one)]
            done, unfinished = run(plans, configured, options.seed, is_short=options.short)
            results += done
            problems += unfinished
    return _report(results, problems)


def _is_possible(scenario: Scenario) -> bool:
    if missing := scenario.missing(_INSIDE in os.environ):
        say(f"{scenario.name}: skipped, {missing}")
    return not missing


def _runs(scenario: Scenario, options: argparse.Namespace) -> int:
    named = options.kills if scenario.name == "kills" else options.runs
    if named is not None:
        return int(named)
    return scenario.short_runs if options.short else scenario.runs


def _report(results: list[Record], problems: Sequence[str] = ()) -> int:
    say(f"\n{records.machine()}; commit {records.commit()}\n\n{records.table(results)}\n")
    late = [text for one in SCENARIOS for text in one.late(record for record in results if record.scenario == one.name)]
    problems = [*problems, *records.problems(results), *late]
    for problem in problems:
        say(problem)
    say("NOT HELD" if problems else "held")
    return 1 if problems else 0


#: Runs a command where networks, file systems and processes are its own: whatever is left ends with it.
_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def _may_have_namespaces() -> bool:
    """Whether this is root on a machine, or in a container, that allows it."""
    return os.geteuid() == 0 and not subprocess.run([*_NAMESPACES, "true"], check=False, capture_output=True).returncode


def _run_in_namespaces() -> int:
    # A shell is the first process, since it waits for every orphan. A dead postmaster that no process waits for counts
    # as alive.
    shell = ["sh", "-c", 'ip link set lo up; "$@"; exit $?', "prove"]
    command = [*_NAMESPACES, *shell, sys.executable, "-m", "tests.prove", *sys.argv[1:]]
    return subprocess.run(command, env={**os.environ, _INSIDE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
