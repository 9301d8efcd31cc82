"""The comparisons in conditions: compiles an operator and its value to a function of one text.

Raises Rejected("invalid_condition") with the field for unusable values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple, Protocol, assert_never

import msgspec
import re2
from pydantic import Field, PlainValidator, ValidationInfo

from tocsin.core.errors import Rejected
from tocsin.core.reasons import MORE, Reason, Term, Text, sentence
from tocsin.core.validation.inputs import (
    AT_PATH,
    MAX_PATH,
    MISSING,
    NOT_TEXT,
    compile_path,
    require_storable,
    sanitize,
    unknown_key,
)
from tocsin.core.validation.spec import InvalidValue, ListOf, Parsed, Spec, SpecErrors, reading_context
from tocsin.inbound.fields import (
    FIELDS,
    MAX_VALUE_CHARS,
    MappedFields,
    cut_bytes,
    is_unset_date,
    join_list,
    number_of,
    one_line,
    parse_moment,
    text_of,
)

ALWAYS = Text("always")

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
            sentence(
                'unknown operator "{operator}" (did you mean "{match}"?); one of {operators}',
                operator=shown,
                match=close_matches[0],
                operators=operators,
            )
            if close_matches
            else sentence('unknown operator "{operator}"; one of {operators}', operator=shown, operators=operators)
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
            raise rejection(f"{field_path.removesuffix('value')}words", sentence("only contains looks for words"))
        return _word_comparison(value, field_path, match_case)
    match operator:
        case Operator.EXISTS:
            if value is not None:
                raise rejection(field_path, sentence("exists takes no value"))

            def describe(field: FieldLabel, text: str) -> Reason:
                return sentence('{field} "{value}" exists', field=field, value=_shown_value(text))

            return Comparison(lambda text: True, describe, describe)
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
        raise rejection(field_path, sentence("one of takes a list of values"))
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
    match_type: Text,
    mismatch_type: Text,
    mismatch_any_type: Text,
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
        Text('{field} "{value}" contains the word {expected}'),
        Text('{field} "{value}" does not contain the word {expected}'),
        Text('{field} "{value}" contains none of the words {expected}'),
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


def _describer(fact: Text, expected: list[str]) -> DescribeFact:
    """Returns the function that describes a text by a fact about what it was compared with."""
    shown = cut_bytes(join_list(expected), _MAX_EXPECTED_BYTES)
    return lambda field, text: fact(field=field, value=_shown_value(text), expected=shown)


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
_FACTS: Final[Mapping[Operator, tuple[Text, Text, Text]]] = {
    Operator.CONTAINS: (
        Text('{field} "{value}" contains {expected}'),
        Text('{field} "{value}" does not contain {expected}'),
        Text('{field} "{value}" does not contain any of {expected}'),
    ),
    Operator.EQUALS: (
        Text('{field} "{value}" equals {expected}'),
        Text('{field} "{value}" does not equal {expected}'),
        Text('{field} "{value}" does not equal any of {expected}'),
    ),
    Operator.STARTS_WITH: (
        Text('{field} "{value}" starts with {expected}'),
        Text('{field} "{value}" does not start with {expected}'),
        Text('{field} "{value}" does not start with any of {expected}'),
    ),
    Operator.ENDS_WITH: (
        Text('{field} "{value}" ends with {expected}'),
        Text('{field} "{value}" does not end with {expected}'),
        Text('{field} "{value}" does not end with any of {expected}'),
    ),
    Operator.ONE_OF: (
        Text('{field} "{value}" is one of {expected}'),
        Text('{field} "{value}" is not one of {expected}'),
        Text('{field} "{value}" is not one of {expected}'),
    ),
}


def _expected_texts(value: object, field_path: str) -> list[str]:
    """Returns the texts to compare with: one value, or a list of alternatives."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise rejection(field_path, sentence("give at least one value"))
    if len(items) > MAX_VALUES:
        raise rejection(field_path, sentence("give at most {maximum} values", maximum=MAX_VALUES))
    texts: list[str] = []
    for i, item in enumerate(items):
        text = text_of(item) if isinstance(item, str | int | float | bool) else None
        if text is None:
            raise rejection(field_path if len(items) == 1 else f"{field_path}[{i}]", sentence("enter text or a number"))
        texts.append(sanitize(text))
    return texts


def _pattern_comparison(value: object, field_path: str, match_case: bool) -> Comparison:
    expected = _expected_texts(value, field_path)
    searches = [compile_pattern(pattern, field_path, match_case).search for pattern in expected]

    def matches(text: str) -> bool:
        sanitized = text if text.isascii() else sanitize(text)  # RE2 expects valid UTF-8
        return any(search(sanitized) is not None for search in searches)

    match_type = Text('{field} "{value}" matches regex {expected}')
    mismatch_type = Text('{field} "{value}" does not match regex {expected}')
    return Comparison(matches, _describer(match_type, expected), _describer(mismatch_type, expected))


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
        raise rejection(field_path, sentence("a regex has at most {maximum} characters", maximum=_MAX_PATTERN_CHARS))
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = match_case
    try:
        compiled: Pattern = re2.compile(pattern, options)  # type: ignore[no-untyped-call]
    except re2.error as error:
        raise rejection(field_path, sentence("invalid regex: {error}", error=_error_text(error))) from None
    return compiled


def _error_text(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)


def _order_comparison(operator: Operator, value: object, field_path: str) -> Comparison:
    is_greater = operator is Operator.GREATER_THAN
    limit = number_of(value)
    limit_time = None if limit is not None else parse_moment(value)
    if limit is None and limit_time is None:
        raise rejection(
            field_path, sentence("{operator} takes a number, or a date such as 2026-11-24", operator=operator.value)
        )
    limit_text = text_of(value) or ""
    match_type, mismatch_type = (
        (Text('{field} "{value}" is greater than {expected}'), Text('{field} "{value}" is not greater than {expected}'))
        if is_greater
        else (Text('{field} "{value}" is less than {expected}'), Text('{field} "{value}" is not less than {expected}'))
    )

    def matches(text: str) -> bool:
        if limit is not None:
            number = number_of(text)
            return number is not None and (number > limit if is_greater else number < limit)
        time = None if is_unset_date(text) else parse_moment(text)
        return time is not None and limit_time is not None and (time > limit_time if is_greater else time < limit_time)

    return Comparison(matches, _describer(match_type, [limit_text]), _describer(mismatch_type, [limit_text]))


def rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_condition", AT_PATH(path=field_path, problem=problem), field_path)


# ---------- conditions
# Conditions: `{field, operator, value, match_case, words, not}`, nested in `{all: […]}`, `{any: […]}`, `{not: …}`.
# Compiled once. `matches` returns only the result, `evaluate` also the reason: the facts with the deciding values.
# Every operator, `exists` included, is false for a field without a value; `not` inverts.

_FACTS_TOGETHER = Text("{facts}")

MAX_DEPTH: Final = 20
MAX_LEAVES: Final = 500
#: Limits in bytes for a field's name in a reason, and for the facts that one reason lists.
_MAX_LABEL_BYTES: Final = 60
_MAX_FACTS_BYTES: Final = 240


class RuleMatch(msgspec.Struct, frozen=True):
    """Whether a condition matched, and the facts with the deciding values. `is_decisive` is false for what remains when
    no condition matched."""

    is_true: bool
    reason: Reason
    is_decisive: bool = True


class _Node(NamedTuple):
    """A part of a condition. The functions take the payload and the mapped fields."""

    matches: Callable[[object, MappedFields], bool]
    reason: Callable[[object, MappedFields], Reason]


class CompiledCondition:
    __slots__ = ("definition", "matches", "reason")

    def __init__(self, definition: object, node: _Node) -> None:
        self.definition = definition
        #: (payload, mapped) → bool, without computing the reason.
        self.matches = node.matches
        #: (payload, mapped) → the deciding facts, such as `status "New" contains New`; under 300 bytes in English.
        self.reason = node.reason

    def evaluate(self, payload: object, mapped: MappedFields) -> RuleMatch:
        return RuleMatch(self.matches(payload, mapped), self.reason(payload, mapped))


def compile_condition(
    definition: object, field_path: str = "condition", fields: Iterable[str] = ()
) -> CompiledCondition:
    """Compiles a condition; None, {} and true always match, false never does.

    `fields` are the mapped, tag and custom fields of the integration: such a name refers to the mapped value, any
    other name is a path, and `^name` forces a path. Raises Rejected("invalid_condition") with the field.
    """
    return CompiledCondition(definition, _Compiler(frozenset(fields)).node(definition, field_path, 0))


def _field_name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue(sentence("give the name of a mapped field, or a path such as ticket^status^name"))
    return value


_SCALAR = {"type": ["string", "number", "boolean"]}


class ComparisonSpec(Spec):
    """A condition that compares one field of a message."""

    field: Annotated[str, Parsed(_field_name, {"type": "string", "minLength": 1, "maxLength": MAX_PATH})] = Field(
        description="Name of a mapped field, or a path such as `ticket^status^name`; `^name` is always a path."
    )
    operator: Annotated[Operator, Parsed(parse_operator, {"type": "string", "enum": list(Operator)})] = Field(
        description="How it is compared."
    )
    value: Annotated[Any, Parsed(lambda value: value, {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]})] = (
        Field(default=None, description="Value that it is compared with, or a list of alternatives.")
    )
    match_case: bool = Field(default=False, description="Whether upper and lower case differ.")
    words: bool = Field(
        default=False,
        description="Whether `contains` looks for words: one that is the value, also with an ending, and is not "
        'negated. "New - 1st line" contains the word `New`; "Renewal" and "Not New" do not.',
    )
    is_inverted: bool = Field(default=False, alias="not", description="Whether the condition is inverted.")


class AllConditionsSpec(Spec):
    """A condition that is true if all of its conditions are."""

    all: ListOf[ConditionSpec] = Field(description="Conditions.")


class AnyConditionSpec(Spec):
    """A condition that is true if one of its conditions is."""

    any: ListOf[ConditionSpec] = Field(description="Conditions.")


class NotConditionSpec(Spec):
    """A condition that is true if another is not."""

    condition: ConditionSpec = Field(alias="not", description="Condition.")


type ConditionSpec = ComparisonSpec | AllConditionsSpec | AnyConditionSpec | NotConditionSpec | bool


def _compile(definition: object, info: ValidationInfo) -> CompiledCondition:
    try:
        compiled = compile_condition(definition, "condition", reading_context(info).get("fields", ()))
        require_storable(definition, "condition")
    except Rejected as problem:
        errors = SpecErrors()
        errors.add_rejection(problem, "condition")
        raise InvalidValue(errors) from None
    return compiled


def _read(definition: object, info: ValidationInfo) -> object:
    return None if definition in ({}, "", True) else _compile(definition, info).definition


#: A condition of a spec, compiled with the field names in `context["fields"]`.
Condition = Annotated[CompiledCondition, PlainValidator(_compile, json_schema_input_type=ConditionSpec)]

#: A condition of a spec as written, after validation; None if it always matches.
OptionalCondition = Annotated[Any, PlainValidator(_read, json_schema_input_type=ConditionSpec)]

_KEYS: Final = frozenset({"field", "all", "any", "not"})


class _Compiler:
    def __init__(self, fields: frozenset[str]) -> None:
        self.fields = fields
        self.leaves = 0

    def node(self, definition: object, field_path: str, depth: int) -> _Node:
        if definition is None or definition is True or definition == {}:
            return _Node(lambda _payload, _mapped: True, lambda _payload, _mapped: ALWAYS())
        if definition is False:
            return _Node(lambda _payload, _mapped: False, lambda _payload, _mapped: sentence("never"))
        if not isinstance(definition, Mapping):
            raise rejection(
                field_path, sentence("a condition is {field, operator, value}, {all: […]}, {any: […]} or {not: …}")
            )
        if depth > MAX_DEPTH:
            raise rejection(field_path, sentence("conditions nest at most {maximum} deep", maximum=MAX_DEPTH))
        if "field" in definition:
            return self.leaf(definition, field_path)
        keys = list(definition)
        match keys:
            case ["all"]:
                return _all(self.group(definition["all"], f"{field_path}.all", depth))
            case ["any"]:
                nodes = self.group(definition["any"], f"{field_path}.any", depth)
                if not nodes:
                    raise rejection(f"{field_path}.any", sentence("give at least one condition"))
                return _any(nodes)
            case ["not"]:
                inner = self.node(definition["not"], f"{field_path}.not", depth + 1)
                return _Node(lambda payload, mapped: not inner.matches(payload, mapped), inner.reason)
        unknown = [str(key) for key in keys if key not in _KEYS]
        if unknown:
            raise rejection(f"{field_path}.{unknown[0]}", unknown_key(unknown[0], _KEYS))
        raise rejection(
            field_path, sentence("{keys} cannot be combined; nest one in the other", keys=tuple(map(str, keys)))
        )

    def group(self, definition: object, field_path: str, depth: int) -> tuple[_Node, ...]:
        if not isinstance(definition, Sequence) or isinstance(definition, str | bytes):
            raise rejection(field_path, sentence("must be a list of conditions"))
        return tuple(self.node(child, f"{field_path}[{i}]", depth + 1) for i, child in enumerate(definition))

    def leaf(self, definition: Mapping[str, object], field_path: str) -> _Node:
        self.leaves += 1
        if self.leaves > MAX_LEAVES:
            raise rejection(field_path, sentence("a condition has at most {maximum} comparisons", maximum=MAX_LEAVES))
        spec = ComparisonSpec.read(definition, field_path)
        label, known_field, read = self.field_reader(spec.field, f"{field_path}.field")
        comparison = compile_comparison(
            spec.operator, spec.value, f"{field_path}.value", spec.match_case, by_words=spec.words
        )
        no_value = sentence("no value at {field}", field=label)

        def reason(payload: object, mapped: MappedFields) -> Reason:
            texts = texts_of(read(payload, mapped))
            if not texts:
                return no_value
            for text in texts:
                if comparison.matches(text):
                    return comparison.describe_match(label, text)
            return comparison.describe_mismatch(label, ", ".join(texts[:10]))

        return _Node(_compile_match(known_field, read, comparison.matches, spec.is_inverted), reason)

    def field_reader(
        self, field: str, field_path: str
    ) -> tuple[FieldLabel, str | None, Callable[[object, MappedFields], object]]:
        """Returns the field's label, its name if it is a known field, and the function that reads it."""
        if field in self.fields and field in FIELDS:
            return Term(FIELDS[field].label), field, lambda _payload, mapped: mapped.values.get(field)
        if field in self.fields:
            label = cut_bytes(field, _MAX_LABEL_BYTES)
            return label, None, lambda _payload, mapped: mapped.custom.get(field) or mapped.tags.get(field)
        # `^x` forces a path; `^^x` is the path of a key that starts with ^.
        is_forced = (len(field) - len(field.lstrip("^"))) % 2 == 1
        path = compile_path(field[1:] if is_forced else field, field_path)
        return cut_bytes(path.text, _MAX_LABEL_BYTES), None, lambda payload, _mapped: path.read(payload)


def _compile_match(
    field: str | None, read: Callable[[object, MappedFields], object], matches: Callable[[str], bool], is_inverted: bool
) -> Callable[[object, MappedFields], bool]:
    """Returns the test function of a comparison. Known fields take a fast path: their text is clean already."""

    def match_value(payload: object, mapped: MappedFields) -> bool:
        return any(map(matches, texts_of(read(payload, mapped)))) is not is_inverted

    def match_field(payload: object, mapped: MappedFields) -> bool:
        value = mapped.values.get(field)  # type: ignore[arg-type]
        if type(value) is str:
            return matches(value) is not is_inverted
        return any(map(matches, texts_of(value))) is not is_inverted

    return match_value if field is None else match_field


def _all(nodes: tuple[_Node, ...]) -> _Node:
    def matches(payload: object, mapped: MappedFields) -> bool:
        for node in nodes:  # noqa: SIM110 - each message comes here, and a generator costs a frame for each node
            if not node.matches(payload, mapped):
                return False
        return True

    def reason(payload: object, mapped: MappedFields) -> Reason:
        failing = next((node for node in nodes if not node.matches(payload, mapped)), None)
        return failing.reason(payload, mapped) if failing is not None else _join_reasons(nodes, payload, mapped)

    return _Node(matches, reason)


def _any(nodes: tuple[_Node, ...]) -> _Node:
    def matches(payload: object, mapped: MappedFields) -> bool:
        for node in nodes:  # noqa: SIM110 - as above
            if node.matches(payload, mapped):
                return True
        return False

    def reason(payload: object, mapped: MappedFields) -> Reason:
        deciding = next((node for node in nodes if node.matches(payload, mapped)), None)
        return deciding.reason(payload, mapped) if deciding is not None else _join_reasons(nodes, payload, mapped)

    return _Node(matches, reason)


def _join_reasons(nodes: tuple[_Node, ...], payload: object, mapped: MappedFields) -> Reason:
    """Returns the facts of all nodes, without repetitions; if they are too long, how many more nodes there are."""
    facts: dict[Reason, None] = {}
    length = 0
    for number, node in enumerate(nodes):
        reason = node.reason(payload, mapped)
        parts = reason["facts"] if reason.code == _FACTS_TOGETHER.code else (reason,)
        new_facts = [fact for fact in parts if isinstance(fact, Reason) and fact not in facts]  # type: ignore[union-attr]
        length += sum(len(str(fact).encode()) + len(" and ") for fact in new_facts)
        if facts and length > _MAX_FACTS_BYTES:
            facts[MORE(count=len(nodes) - number)] = None
            break
        facts.update(dict.fromkeys(new_facts))
    if len(facts) < 2:
        return next(iter(facts), ALWAYS())
    return _FACTS_TOGETHER(facts=tuple(facts))
