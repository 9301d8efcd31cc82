"""Extracts a part of a text: between two marks, or a group of an RE2 pattern. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tocsin.core.errors import Rejected
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.inbound.expressions.comparisons import COMPARED, compile_pattern
from tocsin.inbound.expressions.fields import text_of

_MARK: Final = 200

type SubstringReader = Callable[[object], str | None]


def compile_part(definition: Mapping[str, object], place: str) -> SubstringReader | None:
    """Compiles `between: [start, end]`, or `pattern` with `group` (a name or number); None if neither is given.

    An omitted or empty `end` means the end of the line. Without `group`, the pattern's first group is used, else the
    whole match. Raises Rejected("invalid_mapping") with the field.
    """
    between, pattern = definition.get("between"), definition.get("pattern")
    if between is not None and pattern is not None:
        raise _refused(place, "between and pattern do not stand beside each other")
    if pattern is None and "group" in definition:
        raise _refused(f"{place}.group", "a group is one of a pattern")
    if between is not None:
        return _between(between, f"{place}.between")
    return None if pattern is None else _pattern(pattern, definition.get("group"), place)


def describe(definition: Mapping[str, object]) -> str:
    """Returns the description for a trace; "" for the whole text."""
    between = definition.get("between")
    if isinstance(between, list | tuple):
        return "between " + " and ".join(f"“{mark}”" for mark in between if mark)
    return f"matching {definition['pattern']}" if definition.get("pattern") else ""


def _between(value: object, place: str) -> SubstringReader:
    marks = [value] if isinstance(value, str) else value
    if not isinstance(marks, list | tuple) or not 1 <= len(marks) <= 2 or not all(isinstance(m, str) for m in marks):
        raise _refused(place, "give the text before it and the text after it")
    start, end = str(marks[0]), str(marks[1]) if len(marks) == 2 else ""
    if not start or len(start) > _MARK or len(end) > _MARK:
        raise _refused(place, f"the text before it is not empty, and neither is longer than {_MARK} characters")

    def find(value: object) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        at = text.find(start)
        if at < 0:
            return None
        rest = text[at + len(start) : at + len(start) + COMPARED]
        stop = rest.find(end or "\n")
        if stop < 0 and end:
            return None
        return (rest if stop < 0 else rest[:stop]).strip() or None

    return find


def _pattern(value: object, group: object, place: str) -> SubstringReader:
    if not isinstance(value, str) or not value:
        raise _refused(f"{place}.pattern", "a pattern is text")
    try:
        compiled = compile_pattern(value, f"{place}.pattern", match_case=True)
    except Rejected as problem:
        raise Rejected("invalid_mapping", problem.detail, problem.field) from None
    number = _group(group, compiled.groupindex, compiled.groups, f"{place}.group")

    def find(value: object) -> str | None:
        text = text_of(value)
        if text is None:
            return None
        found = compiled.search(sanitize(text[:COMPARED]))
        taken = found.group(number) if found is not None else None
        return taken.strip() or None if isinstance(taken, str) else None

    return find


def _group(group: object, names: Mapping[str, int], count: int, place: str) -> int:
    if group is None:
        return min(count, 1)
    if isinstance(group, str) and group in names:
        return names[group]
    if isinstance(group, int) and not isinstance(group, bool) and 0 <= group <= count:
        return group
    known = ", ".join([*names, *map(str, range(count + 1))][:20])
    raise _refused(place, f"the pattern has no group {str(group)[:40]!r}; it has {known}")


def _refused(place: str, problem: str) -> Rejected:
    return Rejected("invalid_mapping", f"{place}: {problem}", place)
