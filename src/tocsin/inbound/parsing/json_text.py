"""Parses JSON that the fast decoder rejects: exact error positions, and values that the decoder cannot represent.

Accepts all of JSON's grammar: numbers beyond a float or 4,300 digits stay text, lone surrogates become U+FFFD, and of
duplicate keys the last counts.
"""

from __future__ import annotations

import json
import re
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, as_reason
from tocsin.inbound.expressions.text_format import one_line
from tocsin.inbound.parsing.reasons import AT_POSITION, NOT_JSON, RAW_CONTROL_CHARACTER

_NOT_A_VALUE = ReasonType("json.not_a_value", "{value} is not a JSON value")
_UNTERMINATED_STRING = ReasonType("json.unterminated_string", "unterminated string")
_EXTRA_TEXT = ReasonType("json.extra_text", "extra text after the end")
_EXPECTING_VALUE = ReasonType("json.expecting_value", "expecting a value")
_INVALID_ESCAPE = ReasonType("json.invalid_escape", "invalid escape sequence")
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
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_refuse_constant if strict else _constant_as_null,
        )
    except json.JSONDecodeError as error:
        raise invalid_json(NOT_JSON(problem=_syntax_problem(error.msg)), error.lineno, error.colno) from None
    except _ConstantError as error:
        constant_match = re.search(rf"(?<![\w\"]){re.escape(str(error))}", text)
        problem = NOT_JSON(problem=_NOT_A_VALUE(value=str(error)))
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


def _constant_as_null(name: str) -> None:
    return None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _number(digits: str) -> float | str:
    number = float(digits)
    return digits if number in (float("inf"), float("-inf")) else number


#: Reasons for the usual messages of Python's parser.
_SYNTAX_PROBLEMS: Final = {
    "Invalid control character at": RAW_CONTROL_CHARACTER,
    "Unterminated string starting at": _UNTERMINATED_STRING,
    "Extra data": _EXTRA_TEXT,
    "Expecting value": _EXPECTING_VALUE,
    "Invalid \\escape": _INVALID_ESCAPE,
}


def _syntax_problem(message: str) -> Reason:
    known_problem = _SYNTAX_PROBLEMS.get(message)
    return known_problem() if known_problem else as_reason(message[:1].lower() + message[1:].rstrip(" :"))


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
