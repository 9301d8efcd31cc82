"""Previews each row against the payload: field values, comparison results and pattern matches. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import re2

from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.core.validation.payload_paths import compile_path
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.expressions.comparisons import texts_of
from tocsin.inbound.expressions.conditions import compile_condition
from tocsin.inbound.expressions.mapped import MappedFields
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
    reason: Reason
    pieces: tuple[tuple[str, bool], ...] = ()


@dataclass(slots=True)
class MatchPreview:
    """Per row: the value of a field (None without a value), and the result of a comparison, rule or route."""

    values: dict[str, str | None] = field(default_factory=dict)
    results: dict[str, ComparisonResult] = field(default_factory=dict)


def preview_matches(
    integration: CompiledIntegration, element: Element, outcome: SimulatedOutcome | None, tab: EditorTab
) -> MatchPreview:
    """Evaluate all rows of a tab against the payload."""
    preview = MatchPreview()
    if element.payload is None:
        return preview
    mapped = integration.normalizer.map_completely(element)
    if isinstance(tab, MappingTab):
        _values(preview, outcome, tab)
    for prefix, group in _groups(tab):
        for row, comparison in _comparisons(group, prefix):
            result = _evaluate(comparison, element.payload, mapped, integration.normalizer.mapping.names)
            if result is not None:
                preview.results[row] = result
    return preview


def _values(preview: MatchPreview, outcome: SimulatedOutcome | None, tab: MappingTab) -> None:
    trace = outcome.trace if outcome is not None else None
    if trace is None:
        return
    preview.values |= {f"f-{field_trace.field}": field_trace.value for field_trace in trace.fields}
    tags, custom = (
        {field_trace.field: field_trace.value for field_trace in group} for group in (trace.tags, trace.custom)
    )
    preview.values |= {f"t-{n}": tags.get(name) for n, (name, _entry) in enumerate(tab.tags)}
    preview.values |= {f"c-{n}": custom.get(name) for n, (name, _entry) in enumerate(tab.custom)}
    preview.values["key"] = next(
        (field_trace.value for field_trace in trace.fields if field_trace.field == "dedup_key"), None
    )


def _groups(tab: EditorTab) -> Iterator[tuple[str, ConditionGroup]]:
    if isinstance(tab, RulesTab):
        yield from ((name, group) for name, group in tab.groups.items() if tab.modes[name] is RuleMode.WHEN)
    elif isinstance(tab, RoutingTab):
        yield from ((f"routes.{number}.when", route.when) for number, route in enumerate(tab.routes))


def _comparisons(node: ConditionNode, row: str) -> Iterator[tuple[str, ComparisonRow]]:
    if isinstance(node, ComparisonRow):
        yield row, node
    elif isinstance(node, ConditionGroup):
        for number, part in enumerate(node.parts):
            yield from _comparisons(part, f"{row}.{number}")


def _evaluate(
    comparison: ComparisonRow, payload: object, mapped: MappedFields, names: frozenset[str]
) -> ComparisonResult | None:
    try:
        condition = condition_form.condition_of(ConditionGroup((comparison,)), "condition", "", ErrorPlaces())
        compiled = compile_condition(condition, "condition", names)
    except Rejected:
        return None
    result = compiled.evaluate(payload, mapped)
    pieces = (
        _pieces(comparison, _texts(comparison.field.strip(), payload, mapped, names))
        if "matches" in comparison.operator
        else ()
    )
    return ComparisonResult(result.is_true, result.reason, pieces)


def _texts(name: str, payload: object, mapped: MappedFields, names: frozenset[str]) -> tuple[str, ...]:
    if name in names:
        return texts_of(mapped.values.get(name) or mapped.custom.get(name) or mapped.tags.get(name))
    return texts_of(compile_path(name.removeprefix("^"), "field").read(payload))


def _pieces(comparison: ComparisonRow, texts: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = comparison.match_case
    for pattern in (line for line in comparison.values.split("\n") if line):
        compiled = re2.compile(pattern, options)  # type: ignore[no-untyped-call] # valid: the condition compiled
        for text in texts:
            match = compiled.search(text)
            if match is not None:
                begin, end = match.span()
                before, after = text[:begin][-_MAX_VALUE_CHARS:], text[end:][:_MAX_VALUE_CHARS]
                return ((before, False), (text[begin:end][:_MAX_VALUE_CHARS], True), (after, False))
    return ()
