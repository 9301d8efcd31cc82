"""The Inbound Log: received messages with outcome and reason; one message with body, mapping and trace."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    AuthorizedRouter,
    Moment,
    Number,
    PaginatedList,
    PaginationQuery,
    audit_actor_of,
    caller,
    narrowed,
    page,
    require,
)
from tocsin.api.framework.simulation_schemas import TraceSchema
from tocsin.core.db.queries import SearchableText
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import sentence, show_reason
from tocsin.core.runtime import clock
from tocsin.inbound import heartbeats
from tocsin.inbound.admin import delayed_alerts
from tocsin.inbound.deciding.state import DelayReason
from tocsin.inbound.enums import HeartbeatHealth, MessageStatus
from tocsin.inbound.inspect import MAX_REPLAYED_MESSAGES, explain_message, replay, replay_many
from tocsin.inbound.models import DelayedAlert, Heartbeat, InboundMessage, Integration
from tocsin.inbound.storage import retention
from tocsin.resources.resource import find, find_by_uuid

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
    reason: ReasonSchema | None
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
    problem: ReasonSchema | None = Field(description="Why there is no trace; null: there is one.")


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
    return page(_filtered(query), query, _summaries, newest_first=True)


def _filtered(query: MessageFilters) -> list[QuerySet[InboundMessage]]:
    """Return the requested messages, as the parts of a `core.db.queries.QueryUnion`."""
    rows = InboundMessage.objects.defer(*_LARGE).select_related("integration")
    equal = ("alert_id", "source_status", "replay_of", "test", "integration")
    rows = narrowed(rows, query, *equal, status="status__in")
    # Ids are ordered by time, so these conditions let the primary key narrow the scan.
    if query.received_after is not None:
        rows = rows.filter(
            received_at__gte=query.received_after, pk__gte=_first_id(query.received_after, -_max_clock_difference())
        )
    if query.received_before is not None:
        rows = rows.filter(
            received_at__lt=query.received_before, pk__lt=_first_id(query.received_before, _max_clock_difference())
        )
    filters, indexed_filters = Q(), Q()
    if query.source_id is not None:
        filters &= Q(source_id=query.source_id)
        indexed_filters &= Q(source_id=query.source_id, texts__source_id=SearchableText(query.source_id))
    if query.subject is not None:
        filters &= Q(subject__icontains=query.subject)
        indexed_filters &= Q(texts__subject__contains=SearchableText(query.subject))
    return (
        [rows.filter(filters, pk__gt=retention.newest_indexed_id()), rows.filter(indexed_filters)]
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


def _summaries(messages: Sequence[InboundMessage]) -> list[dict[str, Any]]:
    return [show(MessageSummary, message, integration=message.integration.name) for message in messages]


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
        **_summaries([message])[0],
        "raw": text,
        "raw_base64": encoded,
        "content_type": message.content_type,
        "headers": message.headers,
        "mapped": explanation.mapped,
        "trace": explanation.trace.to_json() if explanation.trace is not None else None,
        "problem": show_reason(None if explanation.trace is not None else explanation.problem),
    }


# ---------- message replay
# Replays an inbound message: the current rules process it again, as a new message.


class ReplayBody(Schema):
    """Whether the replay may page. By default it pages only if the message is at most an hour old."""

    model_config = {"extra": "forbid"}

    page: bool | None = Field(default=None)


class ReplayManyBody(ReplayBody):
    """Several messages by their ids, processed oldest first."""

    ids: list[UUID] = Field(min_length=1, max_length=MAX_REPLAYED_MESSAGES)


class ReplayResponse(BaseModel):
    """The number of replayed messages and their outcomes. Messages that are pending or cannot be processed are
    omitted."""

    replayed: int
    statuses: dict[MessageStatus, int]


_EMPTY = ReplayBody()


@routes.post(
    "/{id}/replay",
    Permission.TEST_INTEGRATIONS,
    status=201,
    answers=MessageDetail,
    summary="Decide it again by the rules of now: a new row whose `replay_of` is this message",
)
def replay_message(request: HttpRequest, id: str, body: ReplayBody = _EMPTY) -> dict[str, Any]:
    principal = caller(request)
    message = find_message(id)
    require(principal, Permission.TEST_INTEGRATIONS, message.integration.group_id)
    replayed = replay(message.pk, body.page, audit_actor_of(principal), principal.now)
    return show_detail(find_message(str(replayed.pk)))


@routes.post(
    "/replay/several",
    Permission.TEST_INTEGRATIONS,
    answers=ReplayResponse,
    summary="Decide several messages again, oldest first",
)
def replay_messages(request: HttpRequest, body: ReplayManyBody) -> dict[str, Any]:
    principal = caller(request)
    messages = InboundMessage.objects.filter(pk__in=body.ids)
    if messages.count() != len(set(body.ids)):
        raise Rejected("not_found", sentence("At least one of these IDs has no inbound message."), "ids")
    for group in set(messages.values_list("integration__group", flat=True)):
        require(principal, Permission.TEST_INTEGRATIONS, group)
    outcomes = replay_many(body.ids, body.page, audit_actor_of(principal), principal.now)
    return {"replayed": outcomes.total(), "statuses": dict(outcomes)}


# ---------- heartbeats
# Heartbeats: the state of each monitored sender. They are configured as integrations of the type `heartbeat`.


heartbeats_routes = AuthorizedRouter("heartbeats")


class HeartbeatSchema(BaseModel):
    """A monitored sender. `health` is `new` until its first ping."""

    id: int = Field(description="Of the integration.")
    name: str
    health: HeartbeatHealth
    expected: str = Field(description="When it is expected, in words.")
    last_at: datetime | None
    started_at: datetime | None = Field(description="Since when it runs, between its start and its finish.")
    due_at: datetime | None = Field(description="When an alert opens unless it pings before.")


class HeartbeatFilters(PaginationQuery):
    health: list[HeartbeatHealth] = []
    name: str | None = None


@heartbeats_routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[HeartbeatSchema], summary="Monitored senders")
def list_heartbeats(request: HttpRequest, query: Query[HeartbeatFilters]) -> dict[str, Any]:
    rows = narrowed(_rows(), query, name="name__iexact")
    if query.health:
        with_health = Heartbeat.objects.filter(health__in=query.health).values("integration_id")
        without_health = Heartbeat.objects.exclude(health__in=query.health).values("integration_id")
        # A sender that never pinged has no row.
        rows = (
            rows.exclude(pk__in=without_health)
            if HeartbeatHealth.NEW in query.health
            else rows.filter(pk__in=with_health)
        )
    return page(rows, query, show_heartbeats)


@heartbeats_routes.get("/{id}", Permission.VIEW_ALERTS, answers=HeartbeatSchema, summary="One monitored sender")
def get_heartbeat(request: HttpRequest, id: str) -> dict[str, Any]:
    return show_heartbeats([find(_rows(), id, label="heartbeat")])[0]


def show_heartbeats(integrations: Sequence[Integration]) -> list[dict[str, Any]]:
    statuses = heartbeats.heartbeat_statuses(integrations)
    return [
        {
            "id": integration.pk,
            "name": integration.name,
            **asdict(statuses[integration.pk]),
            "expected": str(statuses[integration.pk].expected),
        }
        for integration in integrations
    ]


def _rows() -> QuerySet[Integration]:
    return Integration.objects.filter(kind=heartbeats.KIND)


# ---------- delayed alerts
# Alerts whose opening is delayed: by a delay, a maintenance window, or flapping detection.


delayed_alerts_routes = AuthorizedRouter("delayed-alerts")

#: Maximum number of alerts listed.
_MAX_ROWS = 500


class DelayedAlertSchema(BaseModel):
    """An alert whose opening is delayed. `reason` completes the sentence "it opens …"."""

    id: str
    integration: str
    subject: str
    source_id: str
    delay_reason: DelayReason
    reason: ReasonSchema | None
    since: datetime
    due_at: datetime | None = Field(description="None: it opens when others come.")
    message_count: int


class DelayedAlertFilters(Schema):
    model_config = {"extra": "forbid"}

    integration: str | None = None
    delay_reason: list[DelayReason] = []


@delayed_alerts_routes.get(
    "",
    Permission.VIEW_ALERTS,
    answers=list[DelayedAlertSchema],
    summary="Alerts that wait to open, the next that is due first",
)
def list_delayed(request: HttpRequest, query: Query[DelayedAlertFilters]) -> list[dict[str, Any]]:
    """Returns at most 500 alerts."""
    rows = narrowed(DelayedAlert.objects.all(), query, "integration", delay_reason="delay_reason__in")
    return [show(DelayedAlertSchema, info) for info in delayed_alerts.list_delayed(rows, _MAX_ROWS)]


@delayed_alerts_routes.post(
    "/{id}/open", Permission.TEST_INTEGRATIONS, status=204, answers=None, summary="Have it open now instead"
)
def open_now(request: HttpRequest, id: str) -> None:
    principal, row = caller(request), delayed_alerts.find(id)
    require(principal, Permission.TEST_INTEGRATIONS, row.integration.group_id)
    delayed_alerts.open_now(row, actor=audit_actor_of(principal), now=principal.now)


@delayed_alerts_routes.delete(
    "/{id}", Permission.TEST_INTEGRATIONS, status=204, answers=None, summary="Let it go: no alert opens for what came"
)
def drop(request: HttpRequest, id: str) -> None:
    principal, row = caller(request), delayed_alerts.find(id)
    require(principal, Permission.TEST_INTEGRATIONS, row.integration.group_id)
    delayed_alerts.drop(row, actor=audit_actor_of(principal), now=principal.now)
