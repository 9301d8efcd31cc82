"""The lines of a proof: it goes on where it stopped, and says what was not held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.prove import records
from tests.prove.bench import Fault
from tests.prove.ledger import Counts
from tests.prove.scenario import Scenario
from tests.prove.worlds import embedded

HELD = Counts(
    answered=200, lost=0, opened_twice=0, never_paged=0, paged_twice=1, separate_pages=0, refused_attempts=3,
    seconds=2.5, page_p95=0.5, page_max=12.0,
)  # fmt: skip


def record(run: int, counts: Counts = HELD, what: str = "kill -9 of the node") -> records.Record:
    return records.make_record("kills", run, 1, what, "", counts)


def test_runs_of_this_source_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    assert records.read("kills") == []
    mine, other = record(1), replace(record(2), code="of another source")
    records.append(mine)
    records.append(other)
    assert records.read("kills") == [mine]


def test_table_sums_each_fault_and_all() -> None:
    lines = records.table([record(1), record(2), record(3, what="kill -9 of both")]).splitlines()
    assert (
        lines[2] == "| kills: kill -9 of the node | 2 | 400 | 0 | 0 | 0 | 2 | 2.5 s | 2.5 s | 0.5 s | 12.0 s | 100% |"
    )
    assert lines[-1] == "| **all** | 3 | 600 | 0 | 0 | 0 | 3 | 2.5 s | 2.5 s | 0.5 s | 12.0 s | 100% |"


def test_table_shows_the_share_of_repeats_with_the_same_id() -> None:
    repeated = replace(HELD, paged_twice=4, separate_pages=1)
    assert records.table([record(1, repeated)]).endswith(" | 75% |")
    assert records.table([record(1, replace(HELD, paged_twice=0))]).endswith(" | - |")


@pytest.mark.parametrize("field", ["lost", "opened_twice", "never_paged", "separate_pages"])
def test_one_broken_promise_is_a_problem(field: str) -> None:
    assert records.problems([record(1)]) == []
    (problem,) = records.problems([record(1), record(2, replace(HELD, **{field: 1}))])
    assert "run 2" in problem


def test_more_than_one_percent_paged_twice_is_a_problem() -> None:
    assert records.problems([record(1, replace(HELD, paged_twice=2))]) == []
    assert len(records.problems([record(1, replace(HELD, paged_twice=3))])) == 1


def test_paging_that_never_resumes_is_a_problem() -> None:
    (problem,) = records.problems([record(1, replace(HELD, seconds=None))])
    assert "no page was sent" in problem


def test_pages_later_than_a_limit_are_named() -> None:
    scenario = Scenario("kills", embedded, lambda bench: Fault("", 0.0), max_seconds=2.0, max_page=20.0)
    (late,) = scenario.late([record(1)])
    assert "the first page took 2.5 s" in late
