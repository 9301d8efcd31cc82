"""The spans of a batch's messages, by OpenTelemetry's conventions for messaging."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tocsin.core.runtime import tracing
from tocsin.core.runtime.tracing import Span, SpanExporter, SpanKind
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.processing.batch_item import BatchItem
from tocsin.inbound.storage.messages import MessageResult


def export_spans(
    exporter: SpanExporter, decided: Iterable[tuple[BatchItem, MessageResult]], committed_at: datetime
) -> None:
    """Exports a span for each message, from arrival to commit. The message that opened an alert begins its trace."""
    for item, result in decided:
        exporter.export(_span(item, result, committed_at))


def _span(item: BatchItem, result: MessageResult, committed_at: datetime) -> Span:
    incoming, alert_id = item.incoming, result.alert_id
    attributes: dict[str, str | int] = {
        "messaging.system": "tocsin",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": item.integration.name,
        "messaging.message.id": str(incoming.id),
        "messaging.message.body.size": len(incoming.raw),
        "tocsin.inbound_outcome": result.status.value,
        "tocsin.reason_code": result.reason.code,
    }
    if alert_id is not None:
        attributes["tocsin.alert.id"] = alert_id
    return Span(
        f"process {item.integration.name}",
        SpanKind.CONSUMER,
        tracing.trace_of_message(incoming.id) if alert_id is None else tracing.trace_of_alert(alert_id),
        min(incoming.received_at, committed_at),
        committed_at,
        attributes,
        is_root=alert_id is None or result.status is MessageStatus.OPENED,
        error=result.error or "",
    )
