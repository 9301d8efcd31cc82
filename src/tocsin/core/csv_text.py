"""CSV that a spreadsheet opens as text: a cell that begins like a formula is written with an apostrophe before it, and
read without. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from tocsin.core.errors import Rejected

#: With these a spreadsheet takes a cell for a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
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
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"{_MARK}{value}"
    return value


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith(_MARK) and cell[1:].lstrip(" ").startswith(_FORMULA) else cell
