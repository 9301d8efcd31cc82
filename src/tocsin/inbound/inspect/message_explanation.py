"""Explains how a logged message was understood: mapped values and each step. Recomputed on request; read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.inbound.config.normalizer import IntegrationDefinition, Normalizer, compile_normalizer
from tocsin.inbound.config.reasons import UNKNOWN_KIND
from tocsin.inbound.config.routes import RouteReference
from tocsin.inbound.inspect.trace import Trace, explain, with_noise_trace
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.storage.stored_messages import MAX_VALUES, TOO_MANY_VALUES, element_of, has_too_many_values
from tocsin.oncall import loader


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
