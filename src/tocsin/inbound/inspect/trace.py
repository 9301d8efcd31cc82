"""Traces how a message was parsed and decided, for the Inbound Log and dry runs. Recomputed from the stored bytes.

Uses the same compiled parts as the hot path, one step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import Normalizer
from tocsin.inbound.config.routes import RouteReference, choose, is_taken
from tocsin.inbound.config.rules import ORDER, CompiledRules
from tocsin.inbound.deciding.noise_trace import GATE
from tocsin.inbound.expressions.fields import FIELDS, Value, text_of
from tocsin.inbound.expressions.mapped import MappedFields
from tocsin.inbound.expressions.text_format import quote
from tocsin.inbound.mapping.mapping import MappedField
from tocsin.inbound.mapping.value_source import NOBODY
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.json_text import parse
from tocsin.inbound.parsing.payload_splitting import elements_of


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One alternative of a field: where it looked, what it found, and the outcome."""

    place: str  # the position in the definition: "mapping.source_status[2].paths[0]"
    source: str  # a path, a template, a literal
    found: str | None
    outcome: str


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
    reason: str
    is_deciding: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything about one message. If it is unreadable, `problem` is set and the rest is empty."""

    notes: tuple[str, ...]
    problem: str | None
    fields: tuple[FieldTrace, ...] = ()
    tags: tuple[FieldTrace, ...] = ()
    custom: tuple[FieldTrace, ...] = ()
    intent: str = ""
    reason: str = ""
    rules: tuple[RuleTrace, ...] = ()
    opening: tuple[RuleTrace, ...] = ()  # vetoes and filters: whether an alert may open
    routes: tuple[RuleTrace, ...] = ()
    route: str = ""
    #: What noise reduction and maintenance decided at the time.
    gate: tuple[RuleTrace, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Returns the trace as plain dicts, lists and texts."""
        plain: dict[str, object] = msgspec.to_builtins(self)
        return plain


def with_gate(trace: Trace, verdict: Mapping[str, object]) -> Trace:
    """Adds the noise reduction's stored verdicts: they depended on the other alerts at the time."""
    kept = verdict.get(GATE)
    if not isinstance(kept, list):
        return trace
    said = [one for one in kept if isinstance(one, Mapping)]
    answers = [RuleTrace(str(one.get("name")), bool(one.get("opens")), str(one.get("reason"))) for one in said]
    ending = len(answers) - 1
    return replace(trace, gate=tuple(replace(one, is_deciding=n == ending) for n, one in enumerate(answers)))


def explain_body(
    reader: Normalizer, body: bytes, content_type: str | None, in_hours: Callable[[RouteReference], bool] | None = None
) -> tuple[Trace, ...]:
    """Returns a trace for each element of a body (a stored message has one)."""
    try:
        decoded = elements_of(reader.kind, body, content_type)
    except Rejected as problem:
        return (Trace((), problem.detail),)
    return tuple(explain(reader, element, in_hours) for element in decoded.elements)


def explain(reader: Normalizer, element: Element, in_hours: Callable[[RouteReference], bool] | None = None) -> Trace:
    """Returns the trace of one element. Without `in_hours`, no support hours are open."""
    notes = element.notes or _notes(element.raw)
    if element.problem is not None:
        return Trace(notes, element.problem.detail)
    reading = reader.read(element)
    payload = element.payload
    mapped = reader.mapping.apply(payload)
    slots = reader.mapping.extraction.read(payload)
    values: dict[str, Value] = {}
    fields = tuple(_field(one, slots, payload, values) for one in reader.mapping.fields)
    tags = tuple(_field(one, slots, payload, values) for one in reader.mapping.tags)
    custom = tuple(_field(one, slots, payload, values) for one in reader.mapping.custom)
    is_now = in_hours or (lambda hours: False)
    if isinstance(reading, Rejected):
        return Trace(notes + mapped.notes, reading.detail, fields, tags, custom)
    return Trace(
        notes=notes + mapped.notes,
        problem=None,
        fields=fields,
        tags=tags,
        custom=custom,
        intent=reading.intent,
        reason=reading.verdict.reason,
        rules=_rules(reader.rules, payload, mapped),
        opening=_opening(reader.rules, payload, mapped),
        routes=_routes(reader, payload, mapped, is_now),
        route=choose(reader.routes, payload, mapped, is_now).reason,
    )


def _notes(raw: bytes) -> tuple[str, ...]:
    """Returns notes that are too costly for the hot path: about a duplicate key."""
    try:
        return parse(raw.decode())[1] if raw[:1] == b"{" else ()
    except (Rejected, UnicodeDecodeError):
        return ()


def _field(field: MappedField, slots: list[object], payload: object, values: dict[str, Value]) -> FieldTrace:
    """Evaluates the alternatives like the mapping, recording each. Adds the value found to `values`."""
    steps: list[TraceStep] = []
    value: str | None = None
    for alternative in field.alternatives:
        there = slots[alternative.slot] if alternative.slot >= 0 else alternative.find(slots, payload, values)
        found = alternative.find(slots, payload, values)
        clean = None if found is None or found is NOBODY else field.cleaner(found, field.length)
        outcome = _outcome(field, there, found, clean, alternative.terms)
        shown = None if there is None or there is NOBODY else _shown(there)
        steps.append(TraceStep(alternative.place, alternative.said, shown, outcome))
        if found is NOBODY:
            values[field.name] = None
            break
        if clean is not None:
            value = _shown(clean)
            if field.name in FIELDS:
                values[field.name] = clean
            break
    label = FIELDS[field.name].label if field.name in FIELDS else field.name
    return FieldTrace(field.name, label, value, tuple(steps))


def _outcome(field: MappedField, there: object, found: object, clean: Value, terms: str) -> str:
    if found is NOBODY:
        return "taken: nobody"
    if there is None:
        return "no value"
    if found is None:
        return f"not taken: {terms}" if terms else "no value"
    if clean is None:
        kind = FIELDS[field.name].kind if field.name in FIELDS else "text"
        return f"not taken: no {kind}"
    said = _shown(clean)
    return "taken" if said == _shown(there) else f"taken as {quote(said)}"


def _shown(value: object) -> str:
    said = text_of(value) or ""
    return said if len(said) <= 500 else f"{said[:499]}…"


def _rules(rules: CompiledRules, payload: object, mapped: MappedFields) -> tuple[RuleTrace, ...]:
    """Returns the evaluated rules, up to the one that decided."""
    asked: list[RuleTrace] = []
    for name in ORDER:
        if name == "ignore":
            for sentence in rules.ignore:
                holds = sentence.when.holds(payload, mapped)
                reason = sentence.reason if holds else sentence.when.reason(payload, mapped)
                asked.append(RuleTrace(name, holds, reason, holds))
        else:
            rule = getattr(rules, name)
            if rule is not None:
                verdict = rule.test(payload, mapped)
                asked.append(RuleTrace(name, verdict.is_true, verdict.reason, verdict.is_true))
        if asked and asked[-1].is_deciding:
            break
    return tuple(asked)


def _opening(rules: CompiledRules, payload: object, mapped: MappedFields) -> tuple[RuleTrace, ...]:
    asked: list[RuleTrace] = []
    for sentence in rules.veto:
        if sentence.when.holds(payload, mapped):
            asked.append(RuleTrace("veto", False, sentence.reason, True))
            return tuple(asked)
    if rules.filters is not None:
        verdict = rules.filters.test(payload, mapped)
        asked.append(RuleTrace("filters", verdict.is_true, verdict.reason, not verdict.is_true))
    return tuple(asked)


def _routes(
    reader: Normalizer, payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]
) -> tuple[RuleTrace, ...]:
    """Returns the evaluated routes, up to the one taken."""
    asked: list[RuleTrace] = []
    for route in reader.routes:
        taken = is_taken(route, payload, mapped, in_hours)
        said = route.when.reason(payload, mapped)
        if route.during is not None and route.when.holds(payload, mapped):
            said = f"{said}; {route.during.said()}: {'yes' if taken else 'no'}"
        asked.append(RuleTrace(route.name, taken, said, taken))
        if taken:
            break
    return tuple(asked)
