"""Inspection of stored messages: explanation, trace, replay, and fresh ids for samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import uuid7
from tocsin.core.reasons import NO_REASON, Reason, Term, joined, reason_from_json, sentence, show_reason
from tocsin.inbound.config import registry
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.rules import UNKNOWN_KIND, CompiledRules, RouteReference, choose
from tocsin.inbound.deciding.noise_reduction import NOISE_TRACE_KEY
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.fields import FIELDS, MappedFields, Value, one_line, text_of
from tocsin.inbound.mapping.mapping import NOBODY, MappedField
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.parsing.lenient_json import parse
from tocsin.inbound.processing.drain import process_now
from tocsin.inbound.storage.messages import (
    MAX_VALUES,
    TOO_MANY_VALUES,
    IncomingMessage,
    element_of,
    has_too_many_values,
)
from tocsin.oncall import loader

# ---------- trace
# How a message was parsed and decided, for the Inbound Log and dry runs. Recomputed from the stored bytes by the same
# compiled parts as the hot path, one step at a time.


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
        """Returns the trace as plain dicts, lists and texts: each reason as `show_reason` does."""
        return {item.name: _to_json(getattr(self, item.name)) for item in fields(self)}


def _to_json(value: object) -> object:
    if isinstance(value, Reason):
        return show_reason(value)
    if isinstance(value, tuple):
        return [_to_json(part) for part in value]
    if isinstance(value, FieldTrace | TraceStep | RuleTrace):
        return {item.name: _to_json(getattr(value, item.name)) for item in fields(value)}
    return value


def with_noise_trace(trace: Trace, verdict: Mapping[str, object]) -> Trace:
    """Adds the noise reduction's stored verdicts: they depended on the other alerts at the time."""
    stored_entries = verdict.get(NOISE_TRACE_KEY)
    if not isinstance(stored_entries, list):
        return trace
    entries = [item for item in stored_entries if isinstance(item, Mapping)]
    rule_traces = [
        RuleTrace(
            str(item.get("name")),
            bool(item.get("opens")),
            reason_from_json(item.get("reason")),
            is_deciding=item is entries[-1],
        )
        for item in entries
    ]
    return replace(trace, gate=tuple(rule_traces))


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
    mapping = normalizer.mapping
    field_traces, tags, custom = (
        tuple(_trace_field(field, slots, payload, values) for field in group)
        for group in (mapping.fields, mapping.tags, mapping.custom)
    )
    field_traces, tags = _with_aliases(field_traces, mapped.values), _with_aliases(tags, mapped.tags)
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


def _with_aliases(traces: Sequence[FieldTrace], mapped: Mapping[str, Value]) -> tuple[FieldTrace, ...]:
    """Adds what the names that tools share found for fields in which the mapping found nothing."""
    by_name = {trace.field: trace for trace in traces}
    for name, value in mapped.items():
        trace = by_name.get(name) or FieldTrace(name, FIELDS[name].label if name in FIELDS else name, None, ())
        if value is not None and trace.value != (text := _display_text(value)):
            step = TraceStep("", "*", text, sentence("used: found by a name that tools share"))
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
        return sentence("used: no one")
    if source_value is not None and candidate is None and terms:
        return sentence("not used: {terms}", terms=terms)
    if source_value is None or candidate is None:
        return sentence("no value")
    if clean_value is None:
        return sentence(
            "not used: invalid {kind}", kind=Term(FIELDS[field.name].kind if field.name in FIELDS else "text")
        )
    displayed = _display_text(clean_value)
    if displayed == _display_text(source_value):
        return sentence("used")
    return sentence('used as "{value}"', value=one_line(displayed))


def _display_text(value: object) -> str:
    displayed = text_of(value) or ""
    return displayed if len(displayed) <= 500 else f"{displayed[:499]}…"


def _trace_rules(rules: CompiledRules, payload: object, mapped: MappedFields) -> tuple[RuleTrace, ...]:
    """Returns the evaluated rules, up to the one that decided."""
    rule_traces: list[RuleTrace] = []
    for name in ("cancel", "close", "open", "ignore", "update"):
        conditions = (
            [(rule.when, rule.reason) for rule in rules.spec.ignore]
            if name == "ignore"
            else [(getattr(rules.spec, name), None)]
        )
        for condition, own_reason in conditions:
            if condition is not None:
                is_match, reason = condition.matches(payload, mapped), condition.reason(payload, mapped)
                rule_traces.append(RuleTrace(name, is_match, (own_reason if is_match else None) or reason, is_match))
        if rule_traces and rule_traces[-1].is_deciding:
            break
    return tuple(rule_traces)


def _trace_opening(rules: CompiledRules, payload: object, mapped: MappedFields) -> tuple[RuleTrace, ...]:
    for veto_rule in rules.spec.veto:
        if veto_rule.when.matches(payload, mapped):
            return (RuleTrace("veto", False, veto_rule.reason, True),)
    if rules.filters is None:
        return ()
    rule_match = rules.filters.evaluate(payload, mapped)
    return (RuleTrace("filters", rule_match.is_true, rule_match.reason, not rule_match.is_true),)


def _trace_routes(
    normalizer: Normalizer, payload: object, mapped: MappedFields, in_hours: Callable[[RouteReference], bool]
) -> tuple[RuleTrace, ...]:
    """Returns the evaluated routes, up to the one taken."""
    route_traces: list[RuleTrace] = []
    for route in normalizer.routes:
        is_match = route.matches(payload, mapped, in_hours)
        reason = route.when.reason(payload, mapped)
        if route.during is not None and route.when.matches(payload, mapped):
            hours = route.during.describe()
            matched = sentence("{hours}: yes", hours=hours) if is_match else sentence("{hours}: no", hours=hours)
            reason = joined(reason, matched)
        route_traces.append(RuleTrace(route.choice.name, is_match, reason, is_match))
        if is_match:
            break
    return tuple(route_traces)


# ---------- message explanation


@dataclass(frozen=True, slots=True)
class MessageExplanation:
    """The mapped values (None if the body is unreadable) and the trace (None if the rules do not compile); `problem`
    says what is wrong."""

    mapped: dict[str, Any] | None
    trace: Trace | None
    problem: Reason | None = None


def explain_message(message: InboundMessage, version: IntegrationVersion | None = None) -> MessageExplanation:
    """Explains the message by the rules of `version`; None: the version that decided it, else the current one. Support
    hours are evaluated at its arrival."""
    try:
        normalizer, element, trace = _explain_parts(message, version)
    except Rejected as problem:
        return MessageExplanation(None, None, problem.reason)
    if version is None:
        # Only for the version that decided: other rules would have given other verdicts.
        trace = with_noise_trace(trace, message.verdict)
    mapped = None
    if element.problem is None:
        mapped_fields = normalizer.map_completely(element)
        mapped = {
            **msgspec.to_builtins(mapped_fields.values),
            "tags": dict(mapped_fields.tags),
            "custom": dict(mapped_fields.custom),
        }
    return MessageExplanation(mapped, trace, trace.problem)


def normalizer_of_version(
    integration: Integration,
    version: IntegrationVersion | None,
    hours_names: Mapping[RouteReference, str] | None = None,
) -> Normalizer:
    """Compiles one version of the integration's rules; reasons use the support hours' names if given. Raises Rejected
    if the rules do not compile in this version of Tocsin."""
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("unknown_kind", UNKNOWN_KIND(kind=integration.kind))
    stored: Mapping[str, Any] = version.definition if version is not None else {}
    definition = IntegrationDefinition.from_stored(stored, integration.settings)
    return compile_normalizer(kind, definition, hours_names)


def _explain_parts(message: InboundMessage, version: IntegrationVersion | None) -> tuple[Normalizer, Element, Trace]:
    with database.transaction() as connection:
        support_hours_by_id = loader.support_hours(connection)
    hours_names: dict[RouteReference, str] = {
        hours_id: hours_entry.name for hours_id, hours_entry in support_hours_by_id.items()
    }
    integration = message.integration
    normalizer = normalizer_of_version(
        integration, version or message.version or integration.current_version, hours_names
    )
    element = _element(normalizer, message)
    if has_too_many_values(element):
        raise Rejected("too_large", TOO_MANY_VALUES(values=MAX_VALUES))

    def is_open(reference: RouteReference) -> bool:
        support_hours = support_hours_by_id.get(reference) if isinstance(reference, int) else None
        return support_hours is not None and support_hours.is_open(message.received_at)

    return normalizer, element, explain(normalizer, element, is_open)


def _element(normalizer: Normalizer, message: InboundMessage) -> Element:
    """Parses the single element of a stored message; on failure, the element contains the problem."""
    raw = bytes(message.raw)
    element = element_of(raw, message.content_type, lenient=normalizer.kind.lenient)
    return Element(None, raw, problem=element) if isinstance(element, Rejected) else element


# ---------- replay
# Replays messages: the current rules decide the stored bytes again, as a new row. The old row stays unchanged.

#: A replay of a message older than this is log only, unless the user chooses otherwise.
LOG_ONLY_AFTER = timedelta(hours=1)


def replay(message_id: UUID, page: bool | None, actor: AuditActor, now: datetime) -> InboundMessage:
    """Decides the message again and returns the new row, whose `replay_of` is the message.

    A replay is never a duplicate delivery and never late. `page` says whether an alert that it opens pages; None: only
    if the message is at most an hour old. A replayed sample is log only. Raises Rejected("not_found"), or
    Rejected("not_possible") for a pending message or an integration that cannot decide.
    """
    message = InboundMessage.objects.filter(pk=message_id).first()
    if message is None:
        raise Rejected("not_found", sentence("Inbound message {message} not found.", message=str(message_id)))
    if message.status == MessageStatus.PENDING:
        raise Rejected("not_possible", sentence("This message is still pending. Try again in a few seconds."))
    incoming = _replay_message(message, page, now)
    try:
        (stored,) = process_now([incoming], now)
    except UnknownIntegration:
        raise _cannot_decide() from None
    _record(message, incoming, stored.status, actor, now)
    return InboundMessage.objects.select_related("integration").get(pk=incoming.id)


#: The maximum number of messages per bulk replay.
MAX_REPLAYED_MESSAGES = 500

#: The number of messages decided per transaction.
_MESSAGES_PER_TRANSACTION = 50


def replay_many(
    message_ids: Sequence[UUID], page: bool | None, actor: AuditActor, now: datetime
) -> Counter[MessageStatus]:
    """Replays each of the messages as `replay` does, oldest first; returns the number of messages by outcome.

    Messages that cannot be replayed are skipped. Raises Rejected("too_many") for more than 500.
    """
    if len(message_ids) > MAX_REPLAYED_MESSAGES:
        problem = sentence(
            "At most {limit} messages can be replayed at once; you selected {selected}.",
            limit=MAX_REPLAYED_MESSAGES,
            selected=len(message_ids),
        )
        raise Rejected("too_many", problem)
    counts: Counter[MessageStatus] = Counter()
    ids = sorted(set(message_ids))
    for start in range(0, len(ids), _MESSAGES_PER_TRANSACTION):
        rows = InboundMessage.objects.filter(pk__in=ids[start : start + _MESSAGES_PER_TRANSACTION]).order_by("pk")
        replayable: list[_Replay] = []
        for row in rows.exclude(status=MessageStatus.PENDING):
            with suppress(Rejected):  # its integration cannot decide
                replayable.append((row, _replay_message(row, page, now)))
        for row, incoming, status in _decide_together(replayable, now):
            counts[status] += 1
            _record(row, incoming, status, actor, now)
    return counts


type _Replay = tuple[InboundMessage, IncomingMessage]


def _decide_together(
    replays: list[_Replay], now: datetime
) -> Iterator[tuple[InboundMessage, IncomingMessage, MessageStatus]]:
    """Decides them together; one by one if the integration of one of them has just been deleted."""
    if not replays:
        return
    try:
        results = process_now([incoming for _, incoming in replays], now)
    except UnknownIntegration:
        if len(replays) > 1:
            for single_replay in replays:
                yield from _decide_together([single_replay], now)
        return
    for (row, incoming), result in zip(replays, results, strict=True):
        yield row, incoming, result.status


def _record(
    message: InboundMessage, incoming: IncomingMessage, status: MessageStatus, actor: AuditActor, now: datetime
) -> None:
    after = {"message": str(incoming.id), "page": incoming.may_page, "status": status.value}
    audit.record(
        actor,
        "replay",
        now=now,
        object_type="inbound_message",
        object_id=message.pk,
        object_name=message.subject,
        group_id=message.integration.group_id,
        after=after,
    )


def _replay_message(message: InboundMessage, page: bool | None, now: datetime) -> IncomingMessage:
    may_page = message.received_at >= now - LOG_ONLY_AFTER if page is None else page
    integration_registry = registry.shared_registry()
    integration_registry.refresh()
    try:
        integration = integration_registry.get(message.integration_id)
    except UnknownIntegration:
        raise _cannot_decide() from None
    if integration.problem is not None:
        raise _cannot_decide()
    raw = bytes(message.raw)
    return IncomingMessage(
        id=uuid7(),
        integration_id=message.integration_id,
        received_at=now,
        raw=raw,
        element=element_of(raw, message.content_type, lenient=integration.normalizer.kind.lenient),
        content_type=message.content_type,
        headers=message.headers,
        replay_of=message.pk,
        may_page=may_page and not message.test,
    )


def _cannot_decide() -> Rejected:
    return Rejected(
        "not_possible",
        sentence("The integration's configuration is invalid, or the integration was deleted. Fix and save it first."),
    )
