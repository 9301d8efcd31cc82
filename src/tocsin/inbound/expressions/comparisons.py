"""The comparisons in conditions: compiles an operator and its value to a function of one text.

Raises Rejected("invalid_condition") with the field for unusable operators and values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, assert_never

import re2

from tocsin.core.errors import Rejected
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.expressions.fields import is_unset_date, number_of, parse_moment, text_of
from tocsin.inbound.expressions.paths import MISSING
from tocsin.inbound.expressions.text_format import MAX_VALUE_CHARS, join_list

MAX_VALUES: Final = 1000
_MAX_PATTERN_CHARS: Final = 2000
#: Only this many characters of a text are compared.
MAX_COMPARED_CHARS: Final = 200_000


class Operator(StrEnum):
    CONTAINS = "contains"
    EQUALS = "equals"
    STARTS_WITH = "starts with"
    ENDS_WITH = "ends with"
    MATCHES = "matches"
    ONE_OF = "one of"
    EXISTS = "exists"
    GREATER_THAN = "greater than"
    LESS_THAN = "less than"


def parse_operator(value: object, field_path: str) -> Operator:
    if isinstance(value, str):
        name = " ".join(value.replace("_", " ").split()).casefold()
        try:
            return Operator(name)
        except ValueError:
            close_matches = difflib.get_close_matches(name, list(Operator), 1)
            hint = f" (did you mean '{close_matches[0]}'?)" if close_matches else ""
            raise rejection(
                field_path, f"unknown operator '{value[:MAX_VALUE_CHARS]}'{hint}; one of {', '.join(Operator)}"
            ) from None
    raise rejection(field_path, f"give an operator, one of {', '.join(Operator)}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`matches(text)` compares one text; `describe_match` and `mismatch_text` word the result for a reason."""

    matches: Callable[[str], bool]
    describe_match: Callable[[str], str]
    mismatch_text: str


def texts_of(value: object) -> tuple[str, ...]:
    """Returns the texts to compare: one for each entry of a list, none for a missing value."""
    if value is MISSING or value is None:
        return ()
    items = value[:MAX_VALUES] if isinstance(value, list | tuple) else (value,)
    texts = (text_of(item) for item in items)
    return tuple(sanitize(text[:MAX_COMPARED_CHARS]) for text in texts if text is not None and not text.isspace())


def compile_comparison(
    operator: Operator, definition: Mapping[str, object], field_path: str, match_case: bool
) -> Comparison:
    value_path = f"{field_path}.value"
    match operator:
        case Operator.EXISTS:
            if definition.get("value") is not None:
                raise rejection(value_path, "exists takes no value")
            return Comparison(lambda text: True, lambda text: "exists", "does not exist")
        case Operator.GREATER_THAN | Operator.LESS_THAN:
            return _order_comparison(operator, definition.get("value"), value_path)
        case Operator.MATCHES:
            return _pattern_comparison(definition.get("value"), value_path, match_case)
        case Operator.CONTAINS | Operator.EQUALS | Operator.STARTS_WITH | Operator.ENDS_WITH | Operator.ONE_OF:
            return _text_comparison(operator, definition.get("value"), value_path, match_case)
        case _:
            assert_never(operator)


def _text_comparison(operator: Operator, value: object, field_path: str, match_case: bool) -> Comparison:
    if operator is Operator.ONE_OF and not isinstance(value, list | tuple):
        raise rejection(field_path, "one of takes a list of values")
    expected = _expected_texts(value, field_path)
    matches = _matcher(operator, expected, match_case)
    match_verb, mismatch_verb = _VERBS[operator]
    listed = join_list(expected)
    if len(expected) == 1 or operator is Operator.ONE_OF:
        return Comparison(matches, lambda text: f"{match_verb} {listed}", f"{mismatch_verb} {listed}")

    def describe(text: str) -> str:
        matching_text = next(
            (candidate for candidate in expected if _matcher(operator, [candidate], match_case)(text)), ""
        )
        return f"{match_verb} {matching_text[:MAX_VALUE_CHARS]}"

    return Comparison(matches, describe, f"{mismatch_verb} any of {listed}")


def _matcher(operator: Operator, expected: list[str], match_case: bool) -> Callable[[str], bool]:
    """Returns a function that tests a text against any of `expected`. Specialised, because every message calls it."""
    texts = tuple(expected if match_case else (text.casefold() for text in expected))
    match operator, match_case:
        case Operator.CONTAINS, False if len(texts) == 1:
            (single_text,) = texts
            return lambda text: single_text in text.casefold()
        case Operator.CONTAINS, False:
            return lambda text: any(map(text.casefold().__contains__, texts))
        case Operator.CONTAINS, True:
            return lambda text: any(map(text.__contains__, texts))
        case Operator.STARTS_WITH, _:
            return lambda text: (text if match_case else text.casefold()).startswith(texts)
        case Operator.ENDS_WITH, _:
            return lambda text: (text if match_case else text.casefold()).endswith(texts)
        case _, False:
            folded_texts = frozenset(texts)
            return lambda text: text.casefold() in folded_texts
        case _:
            return frozenset(texts).__contains__


_VERBS: Final[Mapping[Operator, tuple[str, str]]] = {
    Operator.CONTAINS: ("contains", "does not contain"),
    Operator.EQUALS: ("equals", "does not equal"),
    Operator.ONE_OF: ("is one of", "is not one of"),
    Operator.STARTS_WITH: ("starts with", "does not start with"),
    Operator.ENDS_WITH: ("ends with", "does not end with"),
    Operator.MATCHES: ("matches", "does not match"),
}


def _expected_texts(value: object, field_path: str) -> list[str]:
    """Returns the texts to compare with: one value, or a list of alternatives."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise rejection(field_path, "give at least one value")
    if len(items) > MAX_VALUES:
        raise rejection(field_path, "give at most 1,000 values")
    texts: list[str] = []
    for i, item in enumerate(items):
        text = text_of(item) if isinstance(item, str | int | float | bool) else None
        if text is None:
            raise rejection(
                field_path if len(items) == 1 else f"{field_path}[{i}]", "give a text or a number that is not empty"
            )
        texts.append(sanitize(text))
    return texts


def _pattern_comparison(value: object, field_path: str, match_case: bool) -> Comparison:
    expected = _expected_texts(value, field_path)
    searches = [compile_pattern(pattern, field_path, match_case).search for pattern in expected]

    def matches(text: str) -> bool:
        sanitized = text if text.isascii() else sanitize(text)  # RE2 expects valid UTF-8
        return any(search(sanitized) is not None for search in searches)

    listed = join_list(expected)
    return Comparison(matches, lambda text: f"matches {listed}", f"does not match {listed}")


class Pattern(Protocol):
    """A compiled RE2 pattern, which matches in linear time whatever the pattern."""

    @property
    def groups(self) -> int: ...

    @property
    def groupindex(self) -> Mapping[str, int]: ...

    def search(self, text: str, /) -> Any: ...


def compile_pattern(pattern: str, field_path: str, match_case: bool) -> Pattern:
    """Compiles a pattern. Raises Rejected if it is too long or not supported by RE2."""
    if len(pattern) > _MAX_PATTERN_CHARS:
        raise rejection(field_path, f"a pattern has at most {_MAX_PATTERN_CHARS} characters")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = match_case
    try:
        compiled: Pattern = re2.compile(pattern, options)  # type: ignore[no-untyped-call]
    except re2.error as error:
        raise rejection(field_path, f"cannot be used as a pattern: {_error_text(error)}") from None
    return compiled


def _error_text(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)


def _order_comparison(operator: Operator, value: object, field_path: str) -> Comparison:
    is_greater = operator is Operator.GREATER_THAN
    limit = number_of(value)
    limit_time = None if limit is not None else parse_moment(value)
    if limit is None and limit_time is None:
        raise rejection(field_path, f"{operator} takes a number, or a date such as 2026-11-24")
    limit_text = text_of(value) or ""

    def matches(text: str) -> bool:
        if limit is not None:
            number = number_of(text)
            return number is not None and (number > limit if is_greater else number < limit)
        time = None if is_unset_date(text) else parse_moment(text)
        return time is not None and limit_time is not None and (time > limit_time if is_greater else time < limit_time)

    return Comparison(matches, lambda text: f"is {operator} {limit_text}", f"is not {operator} {limit_text}")


def rejection(field_path: str, problem: str) -> Rejected:
    return Rejected("invalid_condition", f"{field_path}: {problem}", field_path)
