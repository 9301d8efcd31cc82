"""Parses what HaloITSM's text templates make of JSON: raw line breaks and control characters inside strings, trailing
commas, a byte order mark, invalid bytes and escapes, missing values, and as a last resort quotes inside strings. Notes
every repair.
"""

from __future__ import annotations

import bisect
import codecs
import re
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.inbound.parsing.json_text import invalid_json, parse, position

#: Larger broken texts are not repaired: no template produces them, and repairing would take seconds.
MAX_MARKS: Final = 500_000  # commas, colons, quotes and backslashes
MAX_QUOTED: Final = 256 * 1024  # characters, for quotes inside strings

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def to_text(body: bytes, charset: str, lenient: bool) -> tuple[str, tuple[str, ...]]:
    """Decodes a body; returns text and notes. Invalid bytes are replaced if `lenient`, else
    Rejected("invalid_json")."""
    notes: tuple[str, ...] = ()
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            body, charset = body[len(mark) :], encoding
            notes = ("read leniently: a byte order mark at the beginning",)
            break
    try:
        return body.decode(charset), notes
    except UnicodeDecodeError as error:
        text = body.decode(charset, "replace")
        at = position(text, len(body[: error.start].decode(charset, "replace")))
        if not lenient:
            raise invalid_json(f"Not JSON: a byte that is not {charset.upper()}", *at) from None
        return text, (*notes, f"read leniently: bytes that are not {charset.upper()} at line {at[0]}")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace"), notes


def read(text: str) -> tuple[object, tuple[str, ...]]:
    """Parses a broken JSON text; returns value and notes. Raises Rejected as `parse` does if it cannot be repaired."""
    if sum(map(text.count, ',:"\\')) > MAX_MARKS:
        return parse(text, strict=False)
    mended = _Repair(text)
    try:
        value, notes = parse(mended.result, strict=False)
    except Rejected as first:
        if first.code != "invalid_json":
            raise
        bold = _Repair(_escape_inner_quotes(text) if len(text) <= MAX_QUOTED else text)
        if bold.text == text:
            raise mended.original(first) from None
        try:
            value, notes = parse(bold.result, strict=False)
        except Rejected:
            raise mended.original(first) from None
        at = next((i for i, (a, b) in enumerate(zip(text, bold.text, strict=False)) if a != b), 0)
        bold.note("a quote inside a string", at)
        return value, bold.notes() + notes
    return value, mended.notes() + notes


#: A string (unterminated: up to the end of the text), a trailing comma, or a colon without a value.
_MENDABLE: Final = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?|,(?=[ \t\r\n]*+[}\]])|:(?=[ \t\r\n]*+[,}])|\bNaN\b|\bInfinity\b', re.DOTALL
)
_BAD_ESCAPE: Final = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}|(.))', re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f]")


class _Repair:
    """Repairs a text token by token in one pass, and remembers where its length changed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._found: dict[str, int] = {}
        self._edits: list[tuple[int, int]] = []  # (position in the result, total growth up to there)
        self._shift = 0
        self.result = _MENDABLE.sub(self._mend, text.rstrip("\x00"))

    def notes(self) -> tuple[str, ...]:
        first = sorted(self._found.items(), key=lambda item: item[1])
        return tuple(f"read leniently: {what} at line {position(self.text, at)[0]}" for what, at in first)

    def note(self, what: str, at: int) -> None:
        self._found.setdefault(what, at)

    def original(self, problem: Rejected) -> Rejected:
        """Returns `problem` with its position translated from the result to the original text."""
        match = re.search(r"at line (\d+) column (\d+)$", problem.detail)
        if match is None:
            return problem
        at = self._original_position(int(match.group(1)), int(match.group(2)))
        return invalid_json(problem.detail[: match.start()].rstrip(", "), *position(self.text, at))

    def _original_position(self, line: int, column: int) -> int:
        at = 0
        for _ in range(line - 1):
            at = self.result.find("\n", at) + 1
        at += column - 1
        edit = bisect.bisect_right(self._edits, (at, 1 << 60)) - 1
        return min(max(at - (self._edits[edit][1] if edit >= 0 else 0), 0), max(len(self.text) - 1, 0))

    def _mend(self, match: re.Match[str]) -> str:
        part, at = match.group(), match.start()
        mended = part
        if part == ",":
            self.note("a trailing comma", at)
            mended = ""
        elif part == ":":
            self.note("a missing value", at)
            mended = ":null"
        elif part[0] != '"':
            self.note(f"{part}, which is not a JSON value,", at)
        else:
            mended = self._string(part, at)
        if len(mended) != len(part):
            self._shift += len(mended) - len(part)
            self._edits.append((at + len(part) + self._shift, self._shift))
        return mended

    def _string(self, part: str, at: int) -> str:
        control = _CONTROL.search(part)
        if control is not None:
            is_break = control.group() in "\r\n"
            self.note(
                "a raw line break in a string" if is_break else "a raw control character in a string",
                at + control.start(),
            )
        if "\\" not in part:
            return part

        def escape(match: re.Match[str]) -> str:
            if match.group(1) is None:
                return match.group()
            self.note("a backslash that escapes nothing in a string", at + match.start())
            return "\\" + match.group()

        return _BAD_ESCAPE.sub(escape, part)


#: A quote that ends a value: before a comma and another entry, a closing bracket, or the end.
_ENDS_VALUE: Final = re.compile(r'"(?=[ \t\r\n]*+(?:,[ \t\r\n]*+["{\[\]}\-0-9tfn]|[}\]]|\Z))')
_ENDS_KEY: Final = re.compile(r'"(?=[ \t\r\n]*+:)')
_BARE_QUOTE: Final = re.compile(r'\\.|"', re.DOTALL)
_NEXT: Final = re.compile(r'["{}\[\],:]')


def _escape_inner_quotes(text: str) -> str:
    """Escapes quotes that do not end their string; what follows a quote tells whether it ends the string."""
    parts: list[str] = []
    stack: list[str] = []
    is_key = False
    at = 0
    while match := _NEXT.search(text, at):
        mark, begin = match.group(), match.end()
        parts.append(text[at:begin])
        at = begin
        if mark in "{[":
            stack.append(mark)
            is_key = mark == "{"
        elif mark in "}]":
            if stack:
                stack.pop()
            is_key = False
        elif mark == ",":
            is_key = bool(stack) and stack[-1] == "{"
        elif mark == ":":
            is_key = False
        else:
            end = _string_end(text, begin, _ENDS_KEY if is_key else _ENDS_VALUE)
            if end is None:
                return text
            parts.append(
                _BARE_QUOTE.sub(lambda found: found.group() if found.group() != '"' else '\\"', text[begin:end])
            )
            parts.append('"')
            at = end + 1
    parts.append(text[at:])
    return "".join(parts)


def _string_end(text: str, begin: int, ends: re.Pattern[str]) -> int | None:
    """Returns the end of the string that starts at `begin`; a quote after an odd number of backslashes is escaped."""
    match = ends.search(text, begin)
    while match is not None:
        at = match.start()
        backslashes = 0
        while at - backslashes - 1 >= begin and text[at - backslashes - 1] == "\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return at
        match = ends.search(text, at + 1)
    return None
