"""Traces how a message was parsed and decided, for the Inbound Log and dry runs. Recomputed from the stored bytes.

Uses the same compiled parts as the hot path, one step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from tocsin.core.errors import Rejected
from tocsin.core.reason_json import show_reason
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term, joined, reason_from_json
from tocsin.inbound.config.normalizer import Normalizer
from tocsin.inbound.config.reasons import HOURS_DO_NOT_MATCH, HOURS_MATCH
from tocsin.inbound.config.routes import RouteReference, choose, matches_route
from tocsin.inbound.config.rules import ORDER, CompiledRules
from tocsin.inbound.deciding.noise_reduction import NOISE_TRACE_KEY
from tocsin.inbound.expressions.fields import FIELDS, Value, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.text_format import one_line
from tocsin.inbound.mapping.mapping import MappedField
from tocsin.inbound.mapping.value_source import NOBODY
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.json_text import parse
from tocsin.inbound.parsing.payload_splitting import elements_of

_TAKEN = ReasonType("field.taken", "used")
_TAKEN_AS = ReasonType("field.taken_as", 'used as "{value}"')
_TAKEN_NOBODY = ReasonType("field.taken_as_nobody", "used: no one")
_FOUND_BY_ALIAS = ReasonType("field.found_by_alias", "used: found by a name that tools share")
_NO_VALUE = ReasonType("field.no_value", "no value")
_NOT_TAKEN = ReasonType("field.not_taken", "not used: {terms}")
_WRONG_KIND = ReasonType("field.wrong_kind", "not used: invalid {kind}")


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One alternative of a field: where it looked, what it found, and the outcome."""

    place: str  # the position in the definition: "mapping.source_status[2].paths[0]"
    source: str  # a path, a template, a literal
    found: str | None
    outcome: Reason


@dataclass(frozen=True, slots=True)
class FieldTrace:
    field: str
    label: str
    value: str | None
    steps: tuple[TraceStep, ...]


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """A rule, filter or route with its result and reason. `is_deciding`: evaluation stopped here."""

    name: str
    is_true: bool
    reason: Reason
    is_deciding: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything about one message. If it is unreadable, `problem` is set and the rest is empty."""

    notes: tuple[Reason, ...]
    problem: Reason | None
    fields: tuple[FieldTrace, ...] = ()
    tags: tuple[FieldTrace, ...] = ()
    custom: tuple[FieldTrace, ...] = ()
    intent: str = ""
    reason: Reason = NO_REASON
    rules: tuple[RuleTrace, ...] = ()
    opening: tuple[RuleTrace, ...] = ()  # vetoes and filters: whether an alert may open
    routes: tuple[RuleTrace, ...] = ()
    route: Reason = NO_REASON
    #: What noise reduction and maintenance decided at the time.
    gate: tuple[RuleTrace, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Returns the trace as plain dicts, lists and texts: each reason with its code and data."""
        return _object_to_json(self)


def _object_to_json(value: object) -> dict[str, object]:
    plain: dict[str, object] = {}
    for item in fields(value):  # type: ignore[arg-type]
        part = getattr(value, item.name)
        plain |= show_reason(part, item.name) if isinstance(part, Reason) else {item.name: _to_json(part)}
    return plain


def _to_json(value: object) -> object:
    if isinstance(value, Reason):
        return show_reason(value)
    if isinstance(value, tuple):
        return [_to_json(part) for part in value]
    return _object_to_json(value) if is_dataclass(value) else value


def with_noise_trace(trace: Trace, verdict: Mapping[str, object]) -> Trace:
    """Adds the noise reduction's stored verdicts: they depended on the other alerts at the time."""
    stored_entries = verdict.get(NOISE_TRACE_KEY)
    if not isinstance(stored_entries, list):
        return trace
    entries = [item for item in stored_entries if isinstance(item, Mapping)]
    rule_traces = [
        RuleTrace(str(item.get("name")), bool(item.get("opens")), reason_from_json(item.get("reason")))
        for item in entries
    ]
    last_index = len(rule_traces) - 1
    return replace(
        trace, gate=tuple(replace(item, is_deciding=index == last_index) for index, item in enumerate(rule_traces))
    )


def explain_body(
    normalizer: Normalizer,
    body: bytes,
    content_type: str | None,
    in_hours: Callable[[RouteReference], bool] | None = None,
) -> tuple[Trace, ...]:
    """Returns a trace for each element of a body (a stored message has one)."""
    try:
        decoded = elements_of(normalizer.kind, body, content_type)
    except Rejected as problem:
        return (Trace((), problem.reason),)
    return tuple(explain(normalizer, element, in_hours) for element in decoded.elements)


def explain(
    normalizer: Normalizer, element: Element, in_hours: Callable[[RouteReference], bool] | None = None
) -> Trace:
    """Returns the trace of one element. Without `in_hours`, no support hours are open."""
    notes = element.notes or _notes(element.raw)
    if element.problem is not None:
        return Trace(notes, element.problem.reason)
    event = normalizer.normalize(element)
    payload = normalizer.form_of(element.payload)
    mapped = normalizer.map_fields(payload) if isinstance(event, Rejected) else event.mapped
    notes += mapped.notes
    slots = normalizer.mapping.extraction.read(payload)
    values: dict[str, Value] = {}
    field_traces = _with_aliases(
        [_trace_field(field, slots, payload, values) for field in normalizer.mapping.fields], mapped.values
    )
    tags = _with_aliases(
        [_trace_field(field, slots, payload, values) for field in normalizer.mapping.tags], mapped.tags
    )
    custom = tuple(_trace_field(field, slots, payload, values) for field in normalizer.mapping.custom)
    is_open = in_hours or (lambda hours: False)
    if isinstance(event, Rejected):
        return Trace(notes, event.reason, field_traces, tags, custom)
    return Trace(
        notes=notes,
        problem=None,
        fields=field_traces,
        tags=tags,
        custom=custom,
        intent=event.action,
        reason=event.rule_match.reason,
        rules=_trace_rules(normalizer.rules, payload, normalizer.with_closing_status(payload, mapped)),
        opening=_trace_opening(normalizer.rules, payload, mapped),
        routes=_trace_routes(normalizer, payload, mapped, is_open),
        route=choose(normalizer.routes, payload, mapped, is_open).reason,
    )


def _with_aliases(traces: list[FieldTrace], mapped: Mapping[str, Value]) -> tuple[FieldTrace, ...]:
    """Adds what the names that tools share found for fields in which the mapping found nothing."""
    by_name = {trace.field: trace for trace in traces}
    for name, value in mapped.items():
        trace = by_name.get(name) or FieldTrace(name, FIELDS[name].label if name in FIELDS else name, None, ())
        if value is not None and trace.value != (text := _display_text(value)):
            step = TraceStep("", "*", text, _FOUND_BY_ALIAS())
            by_name[name] = replace(trace, value=text, steps=(*trace.steps, step))
    return tuple(by_name.values())


def _notes(raw: bytes) -> tuple[Reason, ...]:
    """Returns notes that are too costly for the hot path: about a duplicate key."""
    try:
        return parse(raw.decode())[1] if raw[:1] == b"{" else ()
    except (Rejected, UnicodeDecodeError):
        return ()


def _trace_field(field: MappedField, slots: list[object], payload: object, values: dict[str, Value]) -> FieldTrace:
    """Evaluates the alternatives like the mapping, recording each. Adds the value found to `values`."""
    steps: list[TraceStep] = []
    value: str | None = None
    for alternative in field.alternatives:
        source_value = slots[alternative.slot] if alternative.slot >= 0 else alternative.find(slots, payload, values)
        candidate = alternative.find(slots, payload, values)
        clean_value = None if candidate is None or candidate is NOBODY else field.cleaner(candidate, field.length)
        outcome = _outcome(field, source_value, candidate, clean_value, alternative.transformations)
        displayed = None if source_value is None or source_value is NOBODY else _display_text(source_value)
        steps.append(TraceStep(alternative.field_path, alternative.source_text, displayed, outcome))
        if candidate is NOBODY:
            values[field.name] = None
            break
        if clean_value is not None:
            value = _display_text(clean_value)
            if field.name in FIELDS:
                values[field.name] = clean_value
            break
    label = FIELDS[field.name].label if field.name in FIELDS else field.name
    return FieldTrace(field.name, label, value, tuple(steps))


def _outcome(field: MappedField, source_value: object, candidate: object, clean_value: Value, terms: Reason) -> Reason:
    if candidate is NOBODY:
        return _TAKEN_NOBODY()
    if source_value is None:
        return _NO_VALUE()
    if candidate is None:
        return _NOT_TAKEN(terms=terms) if terms else _NO_VALUE()
    if clean_value is None:
        return _WRONG_KIND(kind=Term(FIELDS[field.name].kind if field.name in FIELDS else "text"))
    displayed = _display_text(clean_value)
    if displayed == _display_text(source_value):
        return _TAKEN()
    return _TAKEN_AS(value=one_line(displayed))


def _display_text(value: object) -> str:
    displayed = text_of(value) or ""
    return displayed if len(displayed) <= 500 else f"{displayed[:499]}…"


def _trace_rules(rules: CompiledRules, payload: object, mapped: MappedFields) -> tuple[RuleTrace, ...]:
    """Returns the evaluated rules, up to the one that decided."""
    rule_traces: list[RuleTrace] = []
    for name in ORDER:
        if name == "ignore":
            for ignore_rule in rules.ignore:
                is_match = ignore_rule.when.matches(payload, mapped)
                reason = ignore_rule.reason if is_match else ignore_rule.when.reason(payload, mapped)
                rule_traces.append(RuleTrace(name, is_match, reason, is_match))
        else:
            rule = getattr(rules, name)
            if rule is not None:
                rule_match = rule.evaluate(payload, mapped)
                rule_traces.append(RuleTrace(name, rule_match.is_true, rule_match.reason, rule_match.is_true))
        if rule_traces and rule_traces[-1].is_deciding:
            break
    return tuple(rule_traces)


def _trace_opening(rules: CompiledRules, payload: object, mapped: MappedFields) -> tuple[RuleTrace, ...]:
    rule_traces: list[RuleTrace] = []
    for veto_rule in rules.veto:
        if veto_rule.when.matches(payload, mapped):
            rule_traces.append(RuleTrace("veto", False, veto_rule.reason, True))
            return tuple(rule_traces)
    if rules.filters is not None:
        rule_match = rules.filters.evaluate(payload, mapped)
        is_deciding = not rule_match.is_true
        rule_traces.append(RuleTrace("filters", rule_match.is_true, rule_match.reason, is_deciding))
    return tuple(rule_traces)


def _trace_routes(
    normalizer: Normalizer, payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]
) -> tuple[RuleTrace, ...]:
    """Returns the evaluated routes, up to the one taken."""
    route_traces: list[RuleTrace] = []
    for route in normalizer.routes:
        is_match = matches_route(route, payload, mapped, in_hours)
        reason = route.when.reason(payload, mapped)
        if route.during is not None and route.when.matches(payload, mapped):
            reason_type = HOURS_MATCH if is_match else HOURS_DO_NOT_MATCH
            reason = joined(reason, reason_type(hours=route.during.describe()))
        route_traces.append(RuleTrace(route.name, is_match, reason, is_match))
        if is_match:
            break
    return tuple(route_traces)
