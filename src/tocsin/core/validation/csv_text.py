"""CSV that a spreadsheet opens as text: a cell that begins like a formula is written with an apostrophe before it, and
read without. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from tocsin.core.errors import Rejected

#: With these a spreadsheet takes a cell for a formula, and with the full-width ones in some languages too:
#: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LEADING = ("\t", "\r", "\n")
_MARK = "'"


def write(rows: Iterable[Iterable[object]]) -> str:
    """The rows as CSV with commas. None is an empty cell; numbers stay numbers, negative ones too."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return written.getvalue()


def read(text: str) -> Iterator[list[str]]:
    """The rows of a CSV with commas, semicolons or tabs, whichever its first line has most of; cells without the
    spaces around them, and as they were before `write` made them safe. Raises Rejected that names the row."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            yield [_plain(cell.strip()) for cell in row]
    except csv.Error as error:
        raise Rejected("invalid", f"Row {reader.line_num} cannot be read: {error}.") from None


def _cell(value: object) -> object:
    return f"{_MARK}{value}" if isinstance(value, str) and _is_formula(value) else value


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith(_MARK) and _is_formula(cell[1:]) else cell


def _is_formula(cell: str) -> bool:
    # A spreadsheet drops spaces before it, no-break spaces as well.
    return cell.startswith(_LEADING) or cell.lstrip().startswith(_FORMULA)
