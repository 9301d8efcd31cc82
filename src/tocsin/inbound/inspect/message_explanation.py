"""Explains how a logged message was understood: mapped values and each step. Recomputed on request; read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_reader
from tocsin.inbound.config.routes import RouteReference
from tocsin.inbound.inspect.trace import Trace, explain, with_gate
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.parsing.decode import Element, decode
from tocsin.oncall import loader


@dataclass(frozen=True, slots=True)
class MessageExplanation:
    """The mapped values (None if the body is unreadable) and the trace (None if the rules do not compile); `problem`
    says what is wrong."""

    mapped: dict[str, Any] | None
    trace: Trace | None
    problem: str | None = None


def explain_message(message: InboundMessage, version: IntegrationVersion | None = None) -> MessageExplanation:
    """Explains the message by the rules of `version`; None: the version that decided it, else the current one. Support
    hours are evaluated at its arrival."""
    try:
        reader, element, trace = _read(message, version)
    except Rejected as problem:
        return MessageExplanation(None, None, problem.detail)
    if version is None:
        # Only for the version that decided: other rules would have given other verdicts.
        trace = with_gate(trace, message.verdict)
    mapped = None
    if element.problem is None:
        found = reader.mapping.apply(element.payload)
        mapped = {**msgspec.to_builtins(found.values), "tags": dict(found.tags), "custom": dict(found.custom)}
    return MessageExplanation(mapped, trace, trace.problem)


def reader_of(
    integration: Integration,
    version: IntegrationVersion | None,
    hours_names: Mapping[RouteReference, str] | None = None,
) -> Normalizer:
    """Compiles one version of the integration's rules; reasons use the support hours' names if given. Raises Rejected
    if the rules do not compile in this version of Tocsin."""
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("unknown_kind", f"This version of Tocsin does not know the kind {integration.kind}.")
    stored: Mapping[str, Any] = version.definition if version is not None else {}
    definition = IntegrationDefinition.of(stored, integration.settings)
    return compile_reader(kind, definition, hours_names)


def _read(message: InboundMessage, version: IntegrationVersion | None) -> tuple[Normalizer, Element, Trace]:
    with database.transaction() as connection:
        hours = loader.support_hours(connection)
    names: dict[RouteReference, str] = {number: one.name for number, one in hours.items()}
    integration = message.integration
    reader = reader_of(integration, version or message.version or integration.current_version, names)
    element = _element(reader, message)

    def is_now(reference: RouteReference) -> bool:
        found = hours.get(reference) if isinstance(reference, int) else None
        return found is not None and found.is_open(message.received_at)

    return reader, element, explain(reader, element, is_now)


def _element(reader: Normalizer, message: InboundMessage) -> Element:
    """Parses the single element of a stored message; on failure, the element contains the problem."""
    raw = bytes(message.raw)
    try:
        decoded = decode(raw, message.content_type or None, lenient=reader.kind.lenient)
    except Rejected as problem:
        return Element(None, raw, problem=problem)
    if not decoded.elements:
        return Element(None, raw, problem=Rejected("invalid_json", "The message has nothing in it."))
    return decoded.elements[0]
