"""Extracts a part of a text: between two marks, or a group of an RE2 pattern. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, ReasonType
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.expressions.comparisons import MAX_COMPARED_CHARS, compile_pattern
from tocsin.inbound.expressions.fields import text_of

_BETWEEN_AND_PATTERN = ReasonType("mapping.between_and_pattern", "between and pattern cannot be combined")
_GROUP_WITHOUT_PATTERN = ReasonType("mapping.group_without_pattern", "group requires pattern")
_MARKS_REQUIRED = ReasonType("mapping.between_malformed", "enter the text before and after the value")
_INVALID_MARK = ReasonType(
    "mapping.between_invalid",
    "the text before must not be empty, and both can have at most {maximum} characters",
)
_PATTERN_NOT_TEXT = ReasonType("mapping.pattern_not_text", "a pattern is text")
_UNKNOWN_GROUP = ReasonType("mapping.unknown_group", 'the pattern has no group "{group}"; it has {groups}')

_BETWEEN = ReasonType("mapping.step_between", "between “{start}” and “{end}”")
_AFTER = ReasonType("mapping.step_after", "after “{start}”")
_MATCHING = ReasonType("mapping.step_matching", "matching {pattern}")

_MAX_MARK_CHARS: Final = 200

type SubstringReader = Callable[[object], str | None]


def compile_part(definition: Mapping[str, object], field_path: str) -> SubstringReader | None:
    """Compiles `between: [start, end]`, or `pattern` with `group` (a name or number); None if neither is given.

    An omitted or empty `end` means the end of the line. Without `group`, the pattern's first group is used, else the
    whole match. Raises Rejected("invalid_mapping") with the field.
    """
    between, pattern = definition.get("between"), definition.get("pattern")
    if between is not None and pattern is not None:
        raise _rejection(field_path, _BETWEEN_AND_PATTERN())
    if pattern is None and "group" in definition:
        raise _rejection(f"{field_path}.group", _GROUP_WITHOUT_PATTERN())
    if between is not None:
        return _between(between, f"{field_path}.between")
    return None if pattern is None else _pattern(pattern, definition.get("group"), field_path)


def describe_part(definition: Mapping[str, object]) -> Reason:
    """Returns the description for a trace; `NO_REASON` for the whole text."""
    between = definition.get("between")
    match [between] if isinstance(between, str) else between:
        case [start, end] if end:
            return _BETWEEN(start=str(start), end=str(end))
        case [start, *_]:
            return _AFTER(start=str(start))
    return _MATCHING(pattern=str(definition["pattern"])) if definition.get("pattern") else NO_REASON


def _between(value: object, field_path: str) -> SubstringReader:
    marks = [value] if isinstance(value, str) else value
    if not isinstance(marks, list | tuple) or not 1 <= len(marks) <= 2 or not all(isinstance(m, str) for m in marks):
        raise _rejection(field_path, _MARKS_REQUIRED())
    start, end = str(marks[0]), str(marks[1]) if len(marks) == 2 else ""
    if not start or len(start) > _MAX_MARK_CHARS or len(end) > _MAX_MARK_CHARS:
        raise _rejection(field_path, _INVALID_MARK(maximum=_MAX_MARK_CHARS))

    def find(value: object) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        start_index = text.find(start)
        if start_index < 0:
            return None
        remainder = text[start_index + len(start) : start_index + len(start) + MAX_COMPARED_CHARS]
        end_index = remainder.find(end or "\n")
        if end_index < 0 and end:
            return None
        return (remainder if end_index < 0 else remainder[:end_index]).strip() or None

    return find


def _pattern(value: object, group: object, field_path: str) -> SubstringReader:
    if not isinstance(value, str) or not value:
        raise _rejection(f"{field_path}.pattern", _PATTERN_NOT_TEXT())
    try:
        compiled = compile_pattern(value, f"{field_path}.pattern", match_case=True)
    except Rejected as problem:
        raise Rejected("invalid_mapping", problem.reason, problem.field) from None
    group_index = _group(group, compiled.groupindex, compiled.groups, f"{field_path}.group")

    def find(value: object) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        pattern_match = compiled.search(sanitize(text[:MAX_COMPARED_CHARS]))
        group_text = pattern_match.group(group_index) if pattern_match is not None else None
        return group_text.strip() or None if isinstance(group_text, str) else None

    return find


def _group(group: object, names: Mapping[str, int], count: int, field_path: str) -> int:
    if group is None:
        return min(count, 1)
    if isinstance(group, str) and group in names:
        return names[group]
    if isinstance(group, int) and not isinstance(group, bool) and 0 <= group <= count:
        return group
    known_groups = ", ".join([*names, *map(str, range(count + 1))][:20])
    raise _rejection(field_path, _UNKNOWN_GROUP(group=str(group)[:40], groups=known_groups))


def _rejection(field_path: str, problem: Reason) -> Rejected:
    return Rejected("invalid_mapping", AT_PATH(path=field_path, problem=problem), field_path)
