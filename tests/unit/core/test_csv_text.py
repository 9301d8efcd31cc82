"""CSV exports are safe for spreadsheets and round-trip."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import Rejected
from tocsin.core.validation import inputs

FORMULAS = [
    "=1+1",
    "+41 79 000 00 01",
    "-2",
    "@SUM(A1)",
    "\tcmd",
    "\rcmd",
    '=HYPERLINK("http://x")',
    "  =1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "\u00a0=1",
    "\n=1",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_cell_never_begins_like_a_formula(cell: str) -> None:
    ((written,),) = csv.reader(io.StringIO(inputs.write_csv([[cell]])))
    assert written == f"'{cell}"


def test_numbers_stay_numbers() -> None:
    assert inputs.write_csv([[-2, 1.5, None, "2026-11-24"]]) == "-2,1.5,,2026-11-24\n"


_CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20).map(str.strip)


@given(st.lists(st.tuples(st.just("x"), _CELLS, st.sampled_from(["=1", "+41", "-", "@x", "plain"])), max_size=5))
def test_what_is_written_is_read_again(rows: list[tuple[str, str, str]]) -> None:
    rows = [("a", "b", "c"), *((x, cell.lstrip("'"), last) for x, cell, last in rows)]
    assert [tuple(row) for row in inputs.read_csv(inputs.write_csv(rows))] == rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_first_line_says_what_divides(delimiter: str) -> None:
    text = delimiter.join(["client", "group"]) + "\n" + delimiter.join(["Acme", " Desk "]) + "\n"
    assert list(inputs.read_csv(text)) == [["client", "group"], ["Acme", "Desk"]]


def test_too_long_cell_is_rejected_with_its_row() -> None:
    with pytest.raises(Rejected, match="Row 2 cannot be read"):
        list(inputs.read_csv("a,b\n" + "x" * 200_000 + ",y\n"))
