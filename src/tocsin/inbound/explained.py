"""How one message of the log was understood: what the mapping found, and each step of it. Recomputed, reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.decode import Element, decode
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.reading import Definition, Reader, compile_reader
from tocsin.inbound.trace import explain


@dataclass(frozen=True, slots=True)
class Explained:
    """What the mapping found, and how. Either is None where the body or the rules cannot be read, as `problem` says."""

    mapped: dict[str, Any] | None
    trace: dict[str, object] | None
    problem: str | None = None


def explained(message: InboundMessage, version: IntegrationVersion | None = None) -> Explained:
    """The message by the rules of `version`; None: those that decided it, or where they are gone the current ones."""
    integration = message.integration
    try:
        reader = reader_of(integration, version or message.version or integration.current)
        element = _element(reader, message)
    except Rejected as problem:
        return Explained(None, None, problem.detail)
    mapped = None
    if element.problem is None:
        found = reader.mapping.apply(element.payload)
        mapped = {**msgspec.to_builtins(found.values), "tags": dict(found.tags), "custom": dict(found.custom)}
    trace = explain(reader, element)
    return Explained(mapped, trace.to_json(), trace.problem)


def reader_of(integration: Integration, version: IntegrationVersion | None) -> Reader:
    """The integration's rules in one version, compiled. Raises Rejected when they do not compile here."""
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("unknown_kind", f"This version of Tocsin does not know the kind {integration.kind}.")
    stored: Mapping[str, Any] = version.definition if version is not None else {}
    definition = Definition(
        mapping=stored.get("mapping") or {},
        rules=stored.get("rules") or {},
        filters=stored.get("filters"),
        routes=stored.get("routes"),
        dedup_key=stored.get("dedup_key"),
        settings=integration.settings,
    )
    return compile_reader(kind, definition)


def _element(reader: Reader, message: InboundMessage) -> Element:
    """The one element of a stored message."""
    decoded = decode(bytes(message.raw), message.content_type or None, lenient=reader.kind.lenient)
    if not decoded.elements:
        raise Rejected("empty", "The message has nothing in it.")
    return decoded.elements[0]
