"""Makes untrusted text storable in PostgreSQL and encodable as UTF-8, and logins comparable."""

from __future__ import annotations

import csv
import io
import re
import string
from collections.abc import Iterable, Iterator

from tocsin.core.errors import Rejected
from tocsin.core.reasons import sentence

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def sanitize(text: str) -> str:
    """Replaces NUL and lone surrogates, which neither PostgreSQL nor UTF-8 can represent, with U+FFFD."""
    if "\x00" not in text:
        try:
            text.encode()  # the fastest check
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSTORABLE.sub("\ufffd", text)


def fold_login(login: str) -> str:
    """Returns a username or email address in the form in which two are compared: only A to Z are lowered.

    By Unicode's rules a dotless i, a long s or a Kelvin sign would make somebody else's login of a new one. The lookup
    `login` (`User.objects.filter(email__login=…)`) and `lower(… COLLATE "C")` do the same in the database.
    """
    return login.translate(_LOWER)


# ---------- csv text
# CSV that is safe to open in a spreadsheet. A cell that looks like a formula is written with a leading apostrophe,
# which is removed when read. Pure.


#: First characters by which a spreadsheet recognizes a formula; the full-width ones only in some languages. See
#: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_LEADING = ("\t", "\r", "\n")
_MARK = "'"


def write(rows: Iterable[Iterable[object]]) -> str:
    """Returns the rows as comma-separated CSV. None is an empty cell; numbers, also negative ones, stay numbers."""
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return output.getvalue()


def read(text: str) -> Iterator[list[str]]:
    """Yields the rows of a CSV, with cells stripped and without the apostrophes that `write` added.

    The delimiter is the comma, semicolon or tab that is most frequent in the first line. Raises Rejected, naming the
    row.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            yield [_plain(cell.strip()) for cell in row]
    except csv.Error as error:
        raise Rejected(
            "invalid", sentence("Row {row} cannot be read: {error}.", row=str(reader.line_num), error=str(error))
        ) from None


def _cell(value: object) -> object:
    return f"{_MARK}{value}" if isinstance(value, str) and _is_formula(value) else value


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith(_MARK) and _is_formula(cell[1:]) else cell


def _is_formula(cell: str) -> bool:
    # A spreadsheet ignores leading spaces, no-break spaces as well.
    return cell.startswith(_LEADING) or cell.lstrip().startswith(_FORMULA)
