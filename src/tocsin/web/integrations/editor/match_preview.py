"""Previews each row against the payload: field values, comparison results and pattern matches. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import re2

from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.expressions.comparisons import texts_of
from tocsin.inbound.expressions.conditions import compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.paths import compile_path
from tocsin.inbound.parsing.decode import Element
from tocsin.simulate.chain import SimulatedOutcome
from tocsin.web.integrations.editor import condition_form
from tocsin.web.integrations.editor.condition_form import ComparisonRow, ConditionGroup, ConditionNode, ErrorPlaces
from tocsin.web.integrations.editor.editor_tab import EditorTab
from tocsin.web.integrations.editor.mapping_tab import MappingTab
from tocsin.web.integrations.editor.routing_tab import RoutingTab
from tocsin.web.integrations.editor.rules_tab import RuleMode, RulesTab

#: Maximum number of characters shown around a pattern match.
_MAX_VALUE_CHARS = 200


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """The result of one comparison. `pieces` is the text, split into (piece, matched)."""

    is_true: bool
    reason: str
    pieces: tuple[tuple[str, bool], ...] = ()


@dataclass(slots=True)
class MatchPreview:
    """Per row: the value of a field (None without a value), and the result of a comparison, rule or route."""

    values: dict[str, str | None] = field(default_factory=dict)
    verdicts: dict[str, ComparisonResult] = field(default_factory=dict)


def findings_of(
    door: CompiledIntegration, element: Element, outcome: SimulatedOutcome | None, sheet: EditorTab
) -> MatchPreview:
    """Evaluate all rows of a tab against the payload."""
    found = MatchPreview()
    if element.payload is None:
        return found
    mapped = door.reader.mapping.apply(element.payload)
    if isinstance(sheet, MappingTab):
        _values(found, outcome, sheet)
    for prefix, group in _groups(sheet):
        for row, leaf in _leaves(group, prefix):
            verdict = _verdict(leaf, element.payload, mapped, door.reader.mapping.names)
            if verdict is not None:
                found.verdicts[row] = verdict
    return found


def _values(found: MatchPreview, outcome: SimulatedOutcome | None, sheet: MappingTab) -> None:
    trace = outcome.trace if outcome is not None else None
    if trace is None:
        return
    found.values |= {f"f-{one.field}": one.value for one in trace.fields}
    tags, custom = ({one.field: one.value for one in group} for group in (trace.tags, trace.custom))
    found.values |= {f"t-{n}": tags.get(name) for n, (name, _entry) in enumerate(sheet.tags)}
    found.values |= {f"c-{n}": custom.get(name) for n, (name, _entry) in enumerate(sheet.custom)}
    found.values["key"] = next((one.value for one in trace.fields if one.field == "dedup_key"), None)


def _groups(sheet: EditorTab) -> Iterator[tuple[str, ConditionGroup]]:
    if isinstance(sheet, RulesTab):
        yield from ((name, group) for name, group in sheet.groups.items() if sheet.modes[name] is RuleMode.WHEN)
    elif isinstance(sheet, RoutingTab):
        yield from ((f"routes.{number}.when", route.when) for number, route in enumerate(sheet.routes))


def _leaves(node: ConditionNode, row: str) -> Iterator[tuple[str, ComparisonRow]]:
    if isinstance(node, ComparisonRow):
        yield row, node
    elif isinstance(node, ConditionGroup):
        for number, part in enumerate(node.parts):
            yield from _leaves(part, f"{row}.{number}")


def _verdict(
    leaf: ComparisonRow, payload: object, mapped: MappedFields, names: frozenset[str]
) -> ComparisonResult | None:
    try:
        condition = condition_form.condition_of(ConditionGroup((leaf,)), "condition", "", ErrorPlaces())
        compiled = compile_condition(condition, "condition", names)
    except Rejected:
        return None
    answer = compiled.test(payload, mapped)
    pieces = _pieces(leaf, _texts(leaf.field.strip(), payload, mapped, names)) if "matches" in leaf.operator else ()
    return ComparisonResult(answer.is_true, answer.reason, pieces)


def _texts(name: str, payload: object, mapped: MappedFields, names: frozenset[str]) -> tuple[str, ...]:
    if name in names:
        return texts_of(mapped.values.get(name) or mapped.custom.get(name) or mapped.tags.get(name))
    return texts_of(compile_path(name.removeprefix("^"), "field").read(payload))


def _pieces(leaf: ComparisonRow, texts: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = leaf.match_case
    for pattern in (line for line in leaf.values.split("\n") if line):
        compiled = re2.compile(pattern, options)  # type: ignore[no-untyped-call] # valid: the condition compiled
        for text in texts:
            hit = compiled.search(text)
            if hit is not None:
                begin, end = hit.span()
                before, after = text[:begin][-_MAX_VALUE_CHARS:], text[end:][:_MAX_VALUE_CHARS]
                return ((before, False), (text[begin:end][:_MAX_VALUE_CHARS], True), (after, False))
    return ()
