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
from tocsin.inbound.expressions.fields import is_unset_date, moment, number_of, text_of
from tocsin.inbound.expressions.paths import MISSING
from tocsin.inbound.expressions.text_format import MAX_VALUE_CHARS, join_list

MAX_VALUES: Final = 1000
_PATTERN_LENGTH: Final = 2000
#: Only this many characters of a text are compared.
COMPARED: Final = 200_000


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


def operator_of(value: object, where: str) -> Operator:
    if isinstance(value, str):
        name = " ".join(value.replace("_", " ").split()).casefold()
        try:
            return Operator(name)
        except ValueError:
            near = difflib.get_close_matches(name, list(Operator), 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise rejection(
                where, f"unknown operator '{value[:MAX_VALUE_CHARS]}'{hint}; one of {', '.join(Operator)}"
            ) from None
    raise rejection(where, f"give an operator, one of {', '.join(Operator)}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`matches(text)` compares one text; `said` and `denied` word the result for a reason."""

    matches: Callable[[str], bool]
    said: Callable[[str], str]
    denied: str


def texts_of(value: object) -> tuple[str, ...]:
    """Returns the texts to compare: one for each entry of a list, none for a missing value."""
    if value is MISSING or value is None:
        return ()
    items = value[:MAX_VALUES] if isinstance(value, list | tuple) else (value,)
    texts = (text_of(item) for item in items)
    return tuple(sanitize(text[:COMPARED]) for text in texts if text is not None and not text.isspace())


def compile_comparison(
    operator: Operator, definition: Mapping[str, object], where: str, match_case: bool
) -> Comparison:
    place = f"{where}.value"
    match operator:
        case Operator.EXISTS:
            if definition.get("value") is not None:
                raise rejection(place, "exists takes no value")
            return Comparison(lambda text: True, lambda text: "exists", "does not exist")
        case Operator.GREATER_THAN | Operator.LESS_THAN:
            return _order(operator, definition.get("value"), place)
        case Operator.MATCHES:
            return _patterns(definition.get("value"), place, match_case)
        case Operator.CONTAINS | Operator.EQUALS | Operator.STARTS_WITH | Operator.ENDS_WITH | Operator.ONE_OF:
            return _text(operator, definition.get("value"), place, match_case)
        case _:
            assert_never(operator)


def _text(operator: Operator, value: object, place: str, match_case: bool) -> Comparison:
    if operator is Operator.ONE_OF and not isinstance(value, list | tuple):
        raise rejection(place, "one of takes a list of values")
    wanted = _wanted(value, place)
    matches = _matcher(operator, wanted, match_case)
    verb, denial = _VERBS[operator]
    shown = join_list(wanted)
    if len(wanted) == 1 or operator is Operator.ONE_OF:
        return Comparison(matches, lambda text: f"{verb} {shown}", f"{denial} {shown}")

    def said(text: str) -> str:
        hit = next((one for one in wanted if _matcher(operator, [one], match_case)(text)), "")
        return f"{verb} {hit[:MAX_VALUE_CHARS]}"

    return Comparison(matches, said, f"{denial} any of {shown}")


def _matcher(operator: Operator, wanted: list[str], match_case: bool) -> Callable[[str], bool]:
    """Returns a function that tests a text against any of `wanted`. Specialised, because every message calls it."""
    texts = tuple(wanted if match_case else (text.casefold() for text in wanted))
    match operator, match_case:
        case Operator.CONTAINS, False if len(texts) == 1:
            (one,) = texts
            return lambda text: one in text.casefold()
        case Operator.CONTAINS, False:
            return lambda text: any(map(text.casefold().__contains__, texts))
        case Operator.CONTAINS, True:
            return lambda text: any(map(text.__contains__, texts))
        case Operator.STARTS_WITH, _:
            return lambda text: (text if match_case else text.casefold()).startswith(texts)
        case Operator.ENDS_WITH, _:
            return lambda text: (text if match_case else text.casefold()).endswith(texts)
        case _, False:
            known = frozenset(texts)
            return lambda text: text.casefold() in known
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


def _wanted(value: object, place: str) -> list[str]:
    """Returns the texts to compare with: one value, or a list of alternatives."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise rejection(place, "give at least one value")
    if len(items) > MAX_VALUES:
        raise rejection(place, "give at most 1,000 values")
    texts: list[str] = []
    for i, item in enumerate(items):
        text = text_of(item) if isinstance(item, str | int | float | bool) else None
        if text is None:
            raise rejection(place if len(items) == 1 else f"{place}[{i}]", "give a text or a number that is not empty")
        texts.append(sanitize(text))
    return texts


def _patterns(value: object, place: str, match_case: bool) -> Comparison:
    wanted = _wanted(value, place)
    searches = [compile_pattern(pattern, place, match_case).search for pattern in wanted]

    def matches(text: str) -> bool:
        clean = text if text.isascii() else sanitize(text)  # RE2 expects valid UTF-8
        return any(search(clean) is not None for search in searches)

    shown = join_list(wanted)
    return Comparison(matches, lambda text: f"matches {shown}", f"does not match {shown}")


class Pattern(Protocol):
    """A compiled RE2 pattern, which matches in linear time whatever the pattern."""

    @property
    def groups(self) -> int: ...

    @property
    def groupindex(self) -> Mapping[str, int]: ...

    def search(self, text: str, /) -> Any: ...


def compile_pattern(pattern: str, place: str, match_case: bool) -> Pattern:
    """Compiles a pattern. Raises Rejected if it is too long or not supported by RE2."""
    if len(pattern) > _PATTERN_LENGTH:
        raise rejection(place, f"a pattern has at most {_PATTERN_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = match_case
    try:
        compiled: Pattern = re2.compile(pattern, options)  # type: ignore[no-untyped-call]
    except re2.error as error:
        raise rejection(place, f"cannot be used as a pattern: {_said_by(error)}") from None
    return compiled


def _said_by(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _order(operator: Operator, value: object, place: str) -> Comparison:
    greater = operator is Operator.GREATER_THAN
    limit = number_of(value)
    at = None if limit is not None else moment(value)
    if limit is None and at is None:
        raise rejection(place, f"{operator} takes a number, or a date such as 2026-11-24")
    shown = text_of(value) or ""

    def matches(text: str) -> bool:
        if limit is not None:
            number = number_of(text)
            return number is not None and (number > limit if greater else number < limit)
        found = None if is_unset_date(text) else moment(text)
        return found is not None and at is not None and (found > at if greater else found < at)

    return Comparison(matches, lambda text: f"is {operator} {shown}", f"is not {operator} {shown}")


def rejection(where: str, problem: str) -> Rejected:
    return Rejected("invalid_condition", f"{where}: {problem}", where)
