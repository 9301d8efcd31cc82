"""`python -m tests.fuzz [TARGET…] --seconds N`: mutates inputs until the time is up; `make fuzz`.

First comes every input of the corpus. A finding is shrunk, printed, and written to build/fuzz; once mended, it belongs
into tests/fuzz/corpus. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tests.conftest  # noqa: F401 - sets the test environment before Tocsin is imported
from tests.fuzz.inputs import Input, write
from tests.fuzz.targets import AT, TARGETS, Target
from tests.prove.scenario import say
from tests.support import postgres
from tests.support.vendor_callbacks import make_people

FINDINGS = Path("build/fuzz")

#: Inputs beyond that are cut: what is long is tested elsewhere.
MAX_BYTES = 65_536

#: Seconds of processor time that one input may take.
MAX_SECONDS = 5.0

#: Inputs between two changes of the seed.
_ROUND = 100


@dataclass
class Run:
    """One target's run: what was tried, and the smallest input that failed."""

    target: Target
    deadline: float
    count: int = 0
    slowest: float = 0.0
    failing: Input | None = None
    problem: str = ""
    seeds: list[Input] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edits = _edits(self.target.tokens)

    def check(self, case: Input) -> None:
        """Runs the target on one input. Raises whatever is a finding."""
        started_at = time.thread_time()
        try:
            self.target.run(case)
            seconds = time.thread_time() - started_at
            self.slowest = max(self.slowest, seconds)
            assert seconds < MAX_SECONDS, f"it took {seconds:.1f} s"
        except Exception:
            self.failing, self.problem = case, traceback.format_exc()
            raise
        self.count += 1

    def fuzz(self, seed: int) -> bool:
        """Tries the corpus, then mutations until the deadline. Returns False at the first finding."""
        corpus = self.target.corpus()
        self.seeds = [*corpus.values(), *self.target.seeds()]
        try:
            for case in corpus.values():
                self.check(case)
            while time.monotonic() < self.deadline:
                self._round(seed)
                seed += 1
        except Exception:  # noqa: BLE001 - `check` has kept it
            return False
        return True

    def _round(self, seed: int) -> None:
        @hypothesis.seed(seed)
        @settings(
            max_examples=_ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False,
        )  # fmt: skip
        @given(st.integers(0, len(self.seeds) - 1), self.edits)
        def one(index: int, edits: list[Edit]) -> None:
            self.check(_mutated(self.seeds[index], edits, self.seeds))

        one()


#: What to do, where, with how many bytes, and what to put in.
type Edit = tuple[str, int, int, bytes]

_EDITS = ("insert", "replace", "delete", "repeat", "splice")


def _edits(tokens: Sequence[bytes]) -> st.SearchStrategy[list[Edit]]:
    piece = st.sampled_from(tokens) | st.binary(max_size=8)
    edit = st.tuples(st.sampled_from(_EDITS), st.integers(0, MAX_BYTES), st.integers(0, 40), piece)
    return st.lists(edit, max_size=6)


def _mutated(seed: Input, edits: Sequence[Edit], seeds: Sequence[Input]) -> Input:
    body = seed.body
    for kind, place, length, piece in edits:
        at = place % (len(body) + 1)
        before, cut, after = body[:at], body[at : at + length], body[at + length :]
        match kind:
            case "insert":
                body = before + piece + cut + after
            case "replace":
                body = before + piece + after
            case "delete":
                body = before + after
            case "repeat":
                body = before + cut * (2 + place % 50) + after
            case "splice":
                other = seeds[place % len(seeds)].body
                body = before + other[length * 10 : length * 10 + 200] + after
    return Input(seed.variant, body[:MAX_BYTES])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    names = [target.name for target in TARGETS]
    parser.add_argument("only", nargs="*", metavar="TARGET", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=3_600, help="for all targets together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = [target for target in TARGETS if not options.only or target.name in options.only]
    # What is broken on purpose is logged.
    logging.disable(logging.CRITICAL)
    with ExitStack() as stack:
        if any(target.needs_database for target in chosen):
            server = stack.enter_context(postgres.running())
            stack.enter_context(postgres.in_use(server.make("fuzz", postgres.TEMPLATE)))
            make_people(AT)
        say(f"seed {options.seed}")
        results = [_run(target, options.seconds / len(chosen), options.seed) for target in chosen]
    return 0 if all(results) else 1


def _run(target: Target, seconds: float, seed: int) -> bool:
    run = Run(target, time.monotonic() + seconds)
    started_at = time.monotonic()
    is_clean = run.fuzz(seed)
    took = time.monotonic() - started_at
    say(f"{target.name:10} {run.count:9} inputs {took:6.0f} s, slowest {run.slowest:.2f} s")
    if is_clean:
        return True
    if run.failing is None:
        raise RuntimeError("The fuzzer itself failed.")
    content = write(run.failing)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    path = FINDINGS / f"{target.name}-{hashlib.sha256(content).hexdigest()[:8]}"
    path.write_bytes(content)
    say(f"{run.problem}\nFINDING {path}: {content[:500]!r}")
    return False


if __name__ == "__main__":
    sys.exit(main())
