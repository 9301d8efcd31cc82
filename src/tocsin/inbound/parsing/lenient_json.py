"""Parses what HaloITSM's text templates make of JSON: raw line breaks and control characters inside strings, trailing
commas, a byte order mark, invalid bytes and escapes, missing values, and as a last resort quotes inside strings. Notes
every repair.
"""

from __future__ import annotations

import bisect
import codecs
import json
import math
import re
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, Text, as_reason, sentence
from tocsin.inbound.fields import one_line

# ---------- reasons
# Why a body could not be parsed, and what was repaired in it, where several modules of the room say so.

#: `line` and `column` are texts: they are places, not counts.
AT_POSITION = ReasonType("json.at_position", "{problem}, at line {line} column {column}")
NOT_JSON = ReasonType("json.not_json", "Not JSON: {problem}")
EMPTY_ARRAY = ReasonType("json.empty_array", "The array is empty: it contains no message")
EMPTY_BODY = ReasonType("json.empty_body", "The body is empty")

RAW_CONTROL_CHARACTER = Text("a raw control character in a string")


# ---------- json text
# Parses JSON that the fast decoder rejects: exact error positions, and values that the decoder cannot represent.
# Accepts all of JSON's grammar: numbers beyond a float or 4,300 digits stay text, lone surrogates become U+FFFD, and
# of duplicate keys the last counts.

_UNTERMINATED_STRING = Text("unterminated string")
_EXTRA_TEXT = Text("extra text after the end")
_EXPECTING_VALUE = Text("expecting a value")
_INVALID_ESCAPE = Text("invalid escape sequence")
_TOO_DEEP = ReasonType("body.too_deep_to_parse", "The body is nested too deeply.")
_DUPLICATE_KEY = ReasonType("json.duplicate_key", 'duplicate key "{key}" in an object; the last one is used')
_LONE_SURROGATE = ReasonType("json.lone_surrogate", "lone surrogate replaced with �")

_MAX_DIGITS: Final = 4300  # Python's limit for converting digits to an int
_ESCAPE: Final = re.compile(
    r"\\(?:u([dD][89aAbB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u([dD][c-fC-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
#: A string (unterminated: up to the end of the text), or a structural character.
_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


def invalid_json(problem: Reason, line: int, column: int) -> Rejected:
    return Rejected("invalid_json", AT_POSITION(problem=problem, line=str(line), column=str(column)))


def position(text: str, offset: int) -> tuple[int, int]:
    """Returns line and column of a character, both from 1."""
    before = text.count("\n", 0, offset)
    return before + 1, offset - text.rfind("\n", 0, offset)


def parse(text: str, *, strict: bool = True) -> tuple[object, tuple[Reason, ...]]:
    """Parses a JSON text; returns its value and notes. `strict=False` accepts control characters in strings, and NaN as
    null.

    Raises Rejected("invalid_json") with line and column, or Rejected("too_deep").
    """
    duplicate_keys: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        value = dict(items)
        if len(value) != len(items) and not duplicate_keys:
            seen: set[str] = set()
            duplicate_keys.append(next(key for key, _ in items if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
        return value

    repaired, notes = _without_lone_surrogates(text)
    try:
        value = json.loads(
            repaired,
            strict=strict,
            object_pairs_hook=pairs,
            parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else digits,
            parse_float=_number,
            parse_constant=_refuse_constant if strict else lambda _name: None,
        )
    except json.JSONDecodeError as error:
        known = _SYNTAX_PROBLEMS.get(error.msg)
        problem = known() if known else as_reason(error.msg[:1].lower() + error.msg[1:].rstrip(" :"))
        raise invalid_json(NOT_JSON(problem=problem), error.lineno, error.colno) from None
    except _ConstantError as error:
        constant_match = re.search(rf"(?<![\w\"]){re.escape(str(error))}", text)
        problem = NOT_JSON(problem=sentence("{value} is not a JSON value", value=str(error)))
        raise invalid_json(problem, *position(text, constant_match.start() if constant_match else 0)) from None
    except RecursionError:
        raise Rejected("too_deep", _TOO_DEEP()) from None
    if duplicate_keys:
        notes += (_DUPLICATE_KEY(key=one_line(duplicate_keys[0])),)
    return value, notes


class _ConstantError(Exception):
    pass


def _refuse_constant(name: str) -> object:
    raise _ConstantError(name)


def _number(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


#: Reasons for the usual messages of Python's parser.
_SYNTAX_PROBLEMS: Final = {
    "Invalid control character at": RAW_CONTROL_CHARACTER,
    "Unterminated string starting at": _UNTERMINATED_STRING,
    "Extra data": _EXTRA_TEXT,
    "Expecting value": _EXPECTING_VALUE,
    "Invalid \\escape": _INVALID_ESCAPE,
}


def _without_lone_surrogates(text: str) -> tuple[str, tuple[Reason, ...]]:
    """Replaces escaped lone surrogates by U+FFFD without changing the length, so that positions stay correct."""
    if "\\u" not in text:
        return text, ()
    has_lone_surrogate = False

    def replace_surrogate(match: re.Match[str]) -> str:
        nonlocal has_lone_surrogate
        if (match.group(1) and not match.group(2)) or match.group(3):
            has_lone_surrogate = True
            return "\\ufffd"
        return match.group()

    repaired = _ESCAPE.sub(replace_surrogate, text)
    return repaired, (_LONE_SURROGATE(),) if has_lone_surrogate else ()


def split_array(text: str, limit: int) -> list[str] | None:
    """Returns the texts of an array's elements, at most `limit`; None if the text is not a complete array."""
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if text[start : start + 1] != "[":
        return None
    pieces: list[str] = []
    depth = 0
    begin = start + 1
    for match in _TOKEN.finditer(text, start):
        mark = match.group()
        if mark in ("[", "{"):
            depth += 1
        elif mark == "," and depth == 1:
            pieces.append(text[begin : match.start()].strip())
            begin = match.end()
            if len(pieces) >= limit:
                return pieces
        elif mark in ("]", "}"):
            depth -= 1
            if depth == 0:
                if text[match.end() :].strip(" \t\r\n\x00") or mark != "]":
                    return None
                if last := text[begin : match.start()].strip():  # empty after a trailing comma
                    pieces.append(last)
                return pieces
    return None


_REPAIRED = ReasonType("json.repaired", "parsed leniently: {repair} at line {line}")
_BYTE_ORDER_MARK = ReasonType("json.byte_order_mark", "parsed leniently: a byte order mark at the beginning")
# What was repaired. A body may have half a million of them: a text is parsed once.
_TRAILING_COMMA = Text("a trailing comma")
_MISSING_VALUE = Text("a missing value")
_INVALID_CONSTANT = Text("{value}, which is not a JSON value,")
_RAW_LINE_BREAK = Text("a raw line break in a string")
_INVALID_ESCAPE_IN_STRING = Text("an invalid escape sequence in a string")

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


def to_text(body: bytes, charset: str, lenient: bool) -> tuple[str, tuple[Reason, ...]]:
    """Decodes a body; returns text and notes. Invalid bytes are replaced if `lenient`, else
    Rejected("invalid_json")."""
    notes: tuple[Reason, ...] = ()
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            body, charset = body[len(mark) :], encoding
            notes = (_BYTE_ORDER_MARK(),)
            break
    try:
        return body.decode(charset), notes
    except UnicodeDecodeError as error:
        text = body.decode(charset, "replace")
        line_and_column = position(text, len(body[: error.start].decode(charset, "replace")))
        if not lenient:
            problem = NOT_JSON(problem=sentence("a byte that is not {charset}", charset=charset.upper()))
            raise invalid_json(problem, *line_and_column) from None
        repair = sentence("bytes that are not {charset}", charset=charset.upper())
        return text, (*notes, _REPAIRED(repair=repair, line=str(line_and_column[0])))
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace"), notes


def read(text: str) -> tuple[object, tuple[Reason, ...]]:
    """Parses a broken JSON text; returns value and notes. Raises Rejected as `parse` does if it cannot be repaired."""
    if sum(map(text.count, ',:"\\')) > MAX_MARKS:
        return parse(text, strict=False)
    repair = _Repair(text)
    try:
        value, notes = parse(repair.result, strict=False)
    except Rejected as first_error:
        if first_error.code != "invalid_json":
            raise
        quote_repair = _Repair(_escape_inner_quotes(text) if len(text) <= MAX_QUOTED else text)
        if quote_repair.text == text:
            raise repair.with_original_position(first_error) from None
        try:
            value, notes = parse(quote_repair.result, strict=False)
        except Rejected:
            raise repair.with_original_position(first_error) from None
        offset = next((i for i, (a, b) in enumerate(zip(text, quote_repair.text, strict=False)) if a != b), 0)
        quote_repair.note(sentence("a quote inside a string"), offset)
        return value, quote_repair.notes() + notes
    return value, repair.notes() + notes


#: A string (unterminated: up to the end of the text), a trailing comma, or a colon without a value.
_REPAIRABLE: Final = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?|,(?=[ \t\r\n]*+[}\]])|:(?=[ \t\r\n]*+[,}])|\bNaN\b|\bInfinity\b', re.DOTALL
)
_BAD_ESCAPE: Final = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}|(.))', re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f]")


class _Repair:
    """Repairs a text token by token in one pass, and remembers where its length changed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._repairs: dict[Reason, int] = {}
        self._edits: list[tuple[int, int]] = []  # (position in the result, total growth up to there)
        self._shift = 0
        self.result = _REPAIRABLE.sub(self._repair_token, text.rstrip("\x00"))

    def notes(self) -> tuple[Reason, ...]:
        by_position = sorted(self._repairs.items(), key=lambda item: item[1])
        return tuple(
            _REPAIRED(repair=repair, line=str(position(self.text, offset)[0])) for repair, offset in by_position
        )

    def note(self, repair: Reason, offset: int) -> None:
        self._repairs.setdefault(repair, offset)

    def with_original_position(self, problem: Rejected) -> Rejected:
        """Returns `problem` with its position translated from the result to the original text."""
        match dict(problem.reason.params):
            case {"problem": Reason() as syntax_problem, "line": str(line), "column": str(column)} if (
                problem.reason.code == AT_POSITION.code
            ):
                offset = self._original_position(int(line), int(column))
                return invalid_json(syntax_problem, *position(self.text, offset))
        return problem

    def _original_position(self, line: int, column: int) -> int:
        offset = 0
        for _ in range(line - 1):
            offset = self.result.find("\n", offset) + 1
        offset += column - 1
        edit = bisect.bisect_right(self._edits, (offset, 1 << 60)) - 1
        return min(max(offset - (self._edits[edit][1] if edit >= 0 else 0), 0), max(len(self.text) - 1, 0))

    def _repair_token(self, match: re.Match[str]) -> str:
        matched_text, offset = match.group(), match.start()
        repaired = matched_text
        if matched_text == ",":
            self.note(_TRAILING_COMMA(), offset)
            repaired = ""
        elif matched_text == ":":
            self.note(_MISSING_VALUE(), offset)
            repaired = ":null"
        elif matched_text[0] != '"':
            self.note(_INVALID_CONSTANT(value=matched_text), offset)
        else:
            repaired = self._string(matched_text, offset)
        if len(repaired) != len(matched_text):
            self._shift += len(repaired) - len(matched_text)
            self._edits.append((offset + len(matched_text) + self._shift, self._shift))
        return repaired

    def _string(self, token: str, offset: int) -> str:
        control = _CONTROL.search(token)
        if control is not None:
            repair = _RAW_LINE_BREAK() if control.group() in "\r\n" else RAW_CONTROL_CHARACTER()
            self.note(repair, offset + control.start())
        if "\\" not in token:
            return token

        def escape(match: re.Match[str]) -> str:
            if match.group(1) is None:
                return match.group()
            self.note(_INVALID_ESCAPE_IN_STRING(), offset + match.start())
            return "\\" + match.group()

        return _BAD_ESCAPE.sub(escape, token)


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
    offset = 0
    while match := _NEXT.search(text, offset):
        mark, begin = match.group(), match.end()
        parts.append(text[offset:begin])
        offset = begin
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
                _BARE_QUOTE.sub(
                    lambda quote_match: quote_match.group() if quote_match.group() != '"' else '\\"', text[begin:end]
                )
            )
            parts.append('"')
            offset = end + 1
    parts.append(text[offset:])
    return "".join(parts)


def _string_end(text: str, begin: int, end_pattern: re.Pattern[str]) -> int | None:
    """Returns the end of the string that starts at `begin`; a quote after an odd number of backslashes is escaped."""
    match = end_pattern.search(text, begin)
    while match is not None:
        offset = match.start()
        backslashes = 0
        while offset - backslashes - 1 >= begin and text[offset - backslashes - 1] == "\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return offset
        match = end_pattern.search(text, offset + 1)
    return None
