"""The comparisons in conditions: compiles an operator and its value to a function of one text.

Raises Rejected("invalid_condition") with the field for unusable values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Protocol, assert_never

import re2

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType, Term
from tocsin.core.validation.field_errors import AT_PATH, NOT_TEXT
from tocsin.core.validation.payload_paths import MISSING
from tocsin.core.validation.spec import InvalidValue
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.expressions import reasons
from tocsin.inbound.expressions.fields import is_unset_date, number_of, parse_moment, text_of
from tocsin.inbound.expressions.text_format import MAX_VALUE_CHARS, cut_bytes, join_list, one_line

_UNKNOWN_OPERATOR = ReasonType("condition.unknown_operator", 'unknown operator "{operator}"; one of {operators}')
_DID_YOU_MEAN_OPERATOR = ReasonType(
    "condition.did_you_mean_operator", 'unknown operator "{operator}" (did you mean "{match}"?); one of {operators}'
)
_EXISTS_TAKES_NO_VALUE = ReasonType("condition.exists_takes_no_value", "exists takes no value")
_ONE_OF_TAKES_A_LIST = ReasonType("condition.one_of_takes_a_list", "one of takes a list of values")
_NO_VALUES = ReasonType("condition.no_values", "give at least one value")
_TOO_MANY_VALUES = ReasonType("condition.too_many_values", "give at most {maximum} values")
_INVALID_VALUE = ReasonType("condition.invalid_value", "enter text or a number")
_INVALID_LIMIT = ReasonType("condition.invalid_limit", "{operator} takes a number, or a date such as 2026-11-24")
_WORDS_OF_CONTAINS = ReasonType("condition.words_of_contains", "only contains looks for words")
_PATTERN_TOO_LONG = ReasonType("condition.pattern_too_long", "a regex has at most {maximum} characters")
_INVALID_PATTERN = ReasonType("condition.invalid_pattern", "invalid regex: {error}")

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


def parse_operator(value: object) -> Operator:
    """Parses the name of an operator; case and underscores do not matter. Raises InvalidValue."""
    if not isinstance(value, str):
        raise InvalidValue(NOT_TEXT())
    name = " ".join(value.replace("_", " ").split()).casefold()
    try:
        return Operator(name)
    except ValueError:
        close_matches = difflib.get_close_matches(name, list(Operator), 1)
        operators, shown = ", ".join(Operator), value[:MAX_VALUE_CHARS]
        raise InvalidValue(
            _DID_YOU_MEAN_OPERATOR(operator=shown, match=close_matches[0], operators=operators)
            if close_matches
            else _UNKNOWN_OPERATOR(operator=shown, operators=operators)
        ) from None


#: The name of a field in a reason: a known field's label, or a path.
type FieldLabel = Term | str

#: Given a field and its text, returns the fact for a reason.
type DescribeFact = Callable[[FieldLabel, str], Reason]

#: Limits, in bytes of UTF-8, for what a fact shows of the message's value and of what it is compared with.
_MAX_VALUE_BYTES: Final = 80
_MAX_EXPECTED_BYTES: Final = 90


@dataclass(frozen=True, slots=True)
class Comparison:
    """`matches(text)` compares one text; the others return the result as a fact for a reason."""

    matches: Callable[[str], bool]
    describe_match: DescribeFact
    describe_mismatch: DescribeFact


def texts_of(value: object) -> tuple[str, ...]:
    """Returns the texts to compare: one for each entry of a list, none for a missing value."""
    if type(value) is str:  # most are, and each message compares several
        return (sanitize(value[:MAX_COMPARED_CHARS]),) if value and not value.isspace() else ()
    if value is MISSING or value is None:
        return ()
    items = value[:MAX_VALUES] if isinstance(value, list | tuple) else (value,)
    texts = (text_of(item) for item in items)
    return tuple(sanitize(text[:MAX_COMPARED_CHARS]) for text in texts if text is not None and not text.isspace())


def compile_comparison(
    operator: Operator, value: object, field_path: str, match_case: bool, *, by_words: bool = False
) -> Comparison:
    """Compiles a comparison with `value`, which is at `field_path`. `by_words`: what is contained is a word of it."""
    if by_words:
        if operator is not Operator.CONTAINS:
            raise rejection(f"{field_path.removesuffix('value')}words", _WORDS_OF_CONTAINS())
        return _word_comparison(value, field_path, match_case)
    match operator:
        case Operator.EXISTS:
            if value is not None:
                raise rejection(field_path, _EXISTS_TAKES_NO_VALUE())
            return Comparison(lambda text: True, _describe_existing, _describe_existing)
        case Operator.GREATER_THAN | Operator.LESS_THAN:
            return _order_comparison(operator, value, field_path)
        case Operator.MATCHES:
            return _pattern_comparison(value, field_path, match_case)
        case Operator.CONTAINS | Operator.EQUALS | Operator.STARTS_WITH | Operator.ENDS_WITH | Operator.ONE_OF:
            return _text_comparison(operator, value, field_path, match_case)
        case _:
            assert_never(operator)


def _text_comparison(operator: Operator, value: object, field_path: str, match_case: bool) -> Comparison:
    if operator is Operator.ONE_OF and not isinstance(value, list | tuple):
        raise rejection(field_path, _ONE_OF_TAKES_A_LIST())
    expected = _expected_texts(value, field_path)
    match_type, mismatch_type, mismatch_any_type = _FACTS[operator]
    if operator is Operator.ONE_OF:
        matches = _matcher(operator, expected, match_case)
        return Comparison(matches, _describer(match_type, expected), _describer(mismatch_type, expected))
    return _any_of(
        expected, lambda texts: _matcher(operator, texts, match_case), match_type, mismatch_type, mismatch_any_type
    )


def _any_of(
    expected: list[str],
    matcher: Callable[[list[str]], Callable[[str], bool]],
    match_type: ReasonType,
    mismatch_type: ReasonType,
    mismatch_any_type: ReasonType,
) -> Comparison:
    """Returns a comparison with any of `expected`, whose facts name the one that matched."""
    if len(expected) == 1:
        return Comparison(matcher(expected), _describer(match_type, expected), _describer(mismatch_type, expected))

    def describe(field: FieldLabel, text: str) -> Reason:
        matching_text = next((candidate for candidate in expected if matcher([candidate])(text)), "")
        return _describer(match_type, [matching_text])(field, text)

    return Comparison(matcher(expected), describe, _describer(mismatch_any_type, expected))


#: Where one statement of a text ends: "No response - closed" is closed, "No response closed" may not be.
STATEMENT_ENDS: Final = re.compile(r"\s[-–—]+\s|[,;:.!?()\[\]{}/|>→•\n]+")
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
#: Words after which a word of the same statement is not meant, or not yet: "Not New", "To be closed".
NOT_MEANT: Final = frozenset({
    "not", "no", "non", "isn't", "aren't", "wasn't", "never", "without", "cannot", "can't", "won't", "don't", "nothing",
    "neither", "nor", "be", "being", "awaiting", "pending", "waiting", "until", "before", "almost", "nearly",
    "partially", "partly", "pre", "nicht", "kein", "keine", "keinen", "nie", "wird", "werden", "kann", "soll", "muss",
    "darf", "wartet", "warten", "pas", "aucun", "jamais", "sans", "presque", "sera", "sarà", "nessun", "senza", "quasi",
    "sin", "nunca", "sem", "não", "nao", "niet", "geen", "zonder", "nooit",
})  # fmt: skip
#: The letters of an ending: "Newly", "Neues".
_MAX_ENDING: Final = 2
_MAX_WORDS_CHARS: Final = 2000


def _word_comparison(value: object, field_path: str, match_case: bool) -> Comparison:
    expected = _expected_texts(value, field_path)
    return _any_of(
        expected,
        lambda texts: _word_matcher(texts, match_case),
        reasons.CONTAINS_WORD,
        reasons.DOES_NOT_CONTAIN_WORD,
        reasons.CONTAINS_NO_WORD,
    )


def _word_matcher(expected: list[str], match_case: bool) -> Callable[[str], bool]:
    phrases = [[word for word, _ in words] for text in expected if (words := _words_in(text, match_case))]
    contains_sign = _matcher(Operator.CONTAINS, [text for text in expected if not _WORD.search(text)], match_case)

    # A sender has few statuses.
    @lru_cache(maxsize=256)
    def matches(text: str) -> bool:
        words = _words_in(text, match_case)
        return any(_has_phrase(words, phrase) for phrase in phrases) or contains_sign(text)

    return lambda text: matches(text[:_MAX_WORDS_CHARS])


def _words_in(text: str, match_case: bool) -> list[tuple[str, bool]]:
    """Returns the words of a text, each with whether an earlier one of its statement negates it."""
    words: list[tuple[str, bool]] = []
    for statement in STATEMENT_ENDS.split(_CAMEL.sub(" ", text.replace("’", "'"))):
        is_negated = False
        for word in _WORD.findall(statement):
            folded = word.casefold()
            words.append((word if match_case else folded, is_negated))
            is_negated |= folded in NOT_MEANT
    return words


def _has_phrase(words: list[tuple[str, bool]], phrase: list[str]) -> bool:
    """Returns whether words have a phrase, its last word with any ending, that no word before it negates."""
    *first, last = phrase
    for start in range(len(words) - len(first)):
        found = [word for word, _ in words[start : start + len(phrase)]]
        if found[:-1] == first and _is_form_of(found[-1], last) and not words[start][1]:
            return True
    return False


def _is_form_of(word: str, stem: str) -> bool:
    ending = word.removeprefix(stem)
    return not ending or (word != ending and len(ending) <= _MAX_ENDING and ending.isalpha() and stem.isalpha())


def _describer(fact: ReasonType, expected: list[str]) -> DescribeFact:
    """Returns the function that describes a text by a fact about what it was compared with."""
    shown = cut_bytes(join_list(expected), _MAX_EXPECTED_BYTES)
    return lambda field, text: fact(field=field, value=_shown_value(text), expected=shown)


def _describe_existing(field: FieldLabel, text: str) -> Reason:
    return reasons.EXISTS(field=field, value=_shown_value(text))


def _shown_value(text: str) -> str:
    return cut_bytes(one_line(text), _MAX_VALUE_BYTES)


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


#: The fact if a text matches, if it does not match the only value, and if it matches none of several.
_FACTS: Final[Mapping[Operator, tuple[ReasonType, ReasonType, ReasonType]]] = {
    Operator.CONTAINS: (reasons.CONTAINS, reasons.DOES_NOT_CONTAIN, reasons.CONTAINS_NONE),
    Operator.EQUALS: (reasons.EQUALS, reasons.DOES_NOT_EQUAL, reasons.EQUALS_NONE),
    Operator.STARTS_WITH: (reasons.STARTS_WITH, reasons.DOES_NOT_START_WITH, reasons.STARTS_WITH_NONE),
    Operator.ENDS_WITH: (reasons.ENDS_WITH, reasons.DOES_NOT_END_WITH, reasons.ENDS_WITH_NONE),
    Operator.ONE_OF: (reasons.IS_ONE_OF, reasons.IS_NOT_ONE_OF, reasons.IS_NOT_ONE_OF),
}


def _expected_texts(value: object, field_path: str) -> list[str]:
    """Returns the texts to compare with: one value, or a list of alternatives."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise rejection(field_path, _NO_VALUES())
    if len(items) > MAX_VALUES:
        raise rejection(field_path, _TOO_MANY_VALUES(maximum=MAX_VALUES))
    texts: list[str] = []
    for i, item in enumerate(items):
        text = text_of(item) if isinstance(item, str | int | float | bool) else None
        if text is None:
            raise rejection(field_path if len(items) == 1 else f"{field_path}[{i}]", _INVALID_VALUE())
        texts.append(sanitize(text))
    return texts


def _pattern_comparison(value: object, field_path: str, match_case: bool) -> Comparison:
    expected = _expected_texts(value, field_path)
    searches = [compile_pattern(pattern, field_path, match_case).search for pattern in expected]

    def matches(text: str) -> bool:
        sanitized = text if text.isascii() else sanitize(text)  # RE2 expects valid UTF-8
        return any(search(sanitized) is not None for search in searches)

    return Comparison(matches, _describer(reasons.MATCHES, expected), _describer(reasons.DOES_NOT_MATCH, expected))


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
        raise rejection(field_path, _PATTERN_TOO_LONG(maximum=_MAX_PATTERN_CHARS))
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = match_case
    try:
        compiled: Pattern = re2.compile(pattern, options)  # type: ignore[no-untyped-call]
    except re2.error as error:
        raise rejection(field_path, _INVALID_PATTERN(error=_error_text(error))) from None
    return compiled


def _error_text(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)


def _order_comparison(operator: Operator, value: object, field_path: str) -> Comparison:
    is_greater = operator is Operator.GREATER_THAN
    limit = number_of(value)
    limit_time = None if limit is not None else parse_moment(value)
    if limit is None and limit_time is None:
        raise rejection(field_path, _INVALID_LIMIT(operator=operator.value))
    limit_text = text_of(value) or ""
    match_type = reasons.IS_GREATER if is_greater else reasons.IS_LESS
    mismatch_type = reasons.IS_NOT_GREATER if is_greater else reasons.IS_NOT_LESS

    def matches(text: str) -> bool:
        if limit is not None:
            number = number_of(text)
            return number is not None and (number > limit if is_greater else number < limit)
        time = None if is_unset_date(text) else parse_moment(text)
        return time is not None and limit_time is not None and (time > limit_time if is_greater else time < limit_time)

    return Comparison(matches, _describer(match_type, [limit_text]), _describer(mismatch_type, [limit_text]))


def rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_condition", AT_PATH(path=field_path, problem=problem), field_path)
