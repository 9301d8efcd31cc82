"""The Inbound Log: received messages with outcome and reason; one message with body, mapping and trace."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import Moment
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.api.framework.simulation_schemas import TraceSchema
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.db.trigram_index import SearchableText
from tocsin.core.ids import first_uuid7
from tocsin.core.reason_json import show_fields, show_reason
from tocsin.core.reasons import NO_REASON
from tocsin.core.runtime import clock
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.inspect.message_explanation import explain_message
from tocsin.inbound.models import InboundMessage
from tocsin.inbound.storage import search_index
from tocsin.resources import registry
from tocsin.resources.lookup import find_by_uuid

routes = AuthorizedRouter("inbound-messages")

#: Omitted from lists.
_LARGE = ("raw", "headers", "verdict")

#: The range of times that a UUIDv7 can represent.
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class MessageSummary(BaseModel):
    """A message as in the log."""

    id: UUID
    received_at: datetime
    integration: str
    status: MessageStatus
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData
    source_id: str
    source_status: str
    subject: str
    alert_id: int | None
    replay_of: UUID | None
    test: bool


class MessageDetail(MessageSummary):
    """One message with its body and its interpretation."""

    raw: str = Field(description="The body as text; bytes that are not UTF-8 are shown as U+FFFD.")
    raw_base64: str | None = Field(description="The bytes, where they are not UTF-8.")
    content_type: str
    headers: dict[str, str]
    mapped: dict[str, str | bool | list[str | dict[str, str]] | dict[str, str] | None] | None = Field(
        description="Values of the mapped fields by name, and the tags and custom fields."
    )
    trace: TraceSchema | None
    problem: str = Field(description="Why there is no trace; empty: there is one.")
    problem_code: ReasonCode
    problem_data: ReasonData


class MessageFilters(PaginationQuery):
    status: list[MessageStatus] = []
    integration: str | None = None
    alert_id: Number | None = None
    source_id: str | None = None
    source_status: str | None = None
    subject: str | None = Field(default=None, description="A part of the subject, ignoring case.")
    received_after: Moment | None = None
    received_before: Moment | None = None
    replay_of: UUID | None = None
    test: bool | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[MessageSummary], summary="The Inbound Log, newest first")
def list_messages(request: HttpRequest, query: Query[MessageFilters]) -> dict[str, Any]:
    return page(_filtered(query), query, show, newest_first=True)


def _filtered(query: MessageFilters) -> list[QuerySet[InboundMessage]]:
    """Return the requested messages, as the parts of a `core.db.query_union.QueryUnion`."""
    rows = InboundMessage.objects.defer(*_LARGE).select_related("integration")
    for name in ("alert_id", "source_status", "replay_of", "test"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.status:
        rows = rows.filter(status__in=query.status)
    # Ids are ordered by time, so these conditions let the primary key narrow the scan.
    if query.received_after is not None:
        rows = rows.filter(
            received_at__gte=query.received_after, pk__gte=_first_id(query.received_after, -_max_clock_difference())
        )
    if query.received_before is not None:
        rows = rows.filter(
            received_at__lt=query.received_before, pk__lt=_first_id(query.received_before, _max_clock_difference())
        )
    if query.integration is not None:
        integration = registry.INTEGRATIONS.resolve(query.integration, "integration")
        rows = rows.filter(integration=integration)
    filters, indexed_filters = Q(), Q()
    if query.source_id is not None:
        filters &= Q(source_id=query.source_id)
        indexed_filters &= Q(source_id=query.source_id, texts__source_id=SearchableText(query.source_id))
    if query.subject is not None:
        filters &= Q(subject__icontains=query.subject)
        indexed_filters &= Q(texts__subject__contains=SearchableText(query.subject))
    return (
        [rows.filter(filters, pk__gt=search_index.newest_indexed_id()), rows.filter(indexed_filters)]
        if filters
        else [rows]
    )


def _first_id(at: datetime, offset: timedelta) -> UUID:
    """Return the smallest UUIDv7 for `at` shifted by `offset`, clamped to the representable range."""
    return first_uuid7(min(max(at, _EARLIEST), _LATEST) + offset)


def _max_clock_difference() -> timedelta:
    """Return the maximum difference between the time in an id (a node's clock) and the receive time (the database's
    clock)."""
    return abs(clock.now() - datetime.now(UTC)) + timedelta(minutes=5)


@routes.get(
    "/{id}", Permission.VIEW_ALERTS, answers=MessageDetail, summary="One message, with its bytes, mapping and trace"
)
def get_message(request: HttpRequest, id: str) -> dict[str, Any]:
    return show_detail(find_message(id))


def show(messages: Sequence[InboundMessage]) -> list[dict[str, Any]]:
    names = (
        "id", "received_at", "status", "source_id", "source_status", "subject", "alert_id", "replay_of",
        "test",
    )  # fmt: skip
    return [{**show_fields(message, *names, "reason"), "integration": message.integration.name} for message in messages]


def find_message(text: str) -> InboundMessage:
    """Return the message with that id. Raises Rejected("not_found")."""
    rows = InboundMessage.objects.select_related("integration__current_version", "version")
    return find_by_uuid(rows, text, label="inbound message")


def show_detail(message: InboundMessage) -> dict[str, Any]:
    """Return one message with all details. Mapping and trace use the rules that originally decided it."""
    raw = bytes(message.raw)
    explanation = explain_message(message)
    try:
        text, encoded = raw.decode("utf-8"), None
    except UnicodeDecodeError:
        text, encoded = raw.decode("utf-8", "replace"), base64.b64encode(raw).decode()
    return {
        **show([message])[0],
        "raw": text,
        "raw_base64": encoded,
        "content_type": message.content_type,
        "headers": message.headers,
        "mapped": explanation.mapped,
        "trace": explanation.trace.to_json() if explanation.trace is not None else None,
        **show_reason(NO_REASON if explanation.trace is not None else explanation.problem or NO_REASON, "problem"),
    }
