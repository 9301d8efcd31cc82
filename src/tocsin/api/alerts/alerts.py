"""Alerts: list, detail and timeline. `alert_creation` opens alerts, `alert_commands` acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts import search_index, store
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.service import VisibleAlert, find_alert
from tocsin.alerts.states import ACTIVE, INACTIVE, AlertStatus, EventKind, Priority
from tocsin.api.framework.auth import Principal, caller, forbidden
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.moments import Moment
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.api.reasons import ReasonCode, ReasonData, ReasonSchema
from tocsin.core.db import database
from tocsin.core.db.trigram_index import SearchableText
from tocsin.core.reason_json import show_reason
from tocsin.escalation.actions import forecast, why_not_paged
from tocsin.escalation.actions.next_steps import next_steps
from tocsin.resources import registry, visibility

routes = AuthorizedRouter("alerts")

#: Omitted from lists, because each can be as long as an e-mail.
_LONG = ("long_text",)

_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class NextStepSchema(BaseModel):
    """The next escalation step, and its time."""

    at: datetime
    summary: str
    summary_code: ReasonCode
    summary_data: ReasonData


class AlertSummary(BaseModel):
    """An alert as in lists. Users, groups and integrations are given by name."""

    id: int
    status: AlertStatus
    acknowledged: bool
    priority: Priority
    subject: str
    source: str
    source_name: str
    source_id: str
    source_url: str
    source_status: str
    client: str
    count: int
    owner: str | None = Field(description="The user's name, or the name outside that has it.")
    awaits_acceptance: bool = Field(
        description="Whether someone else assigned it to the owner, who was paged and has not accepted yet."
    )
    acknowledged_by: list[str]
    opened_at: datetime
    last_message_at: datetime
    closed_at: datetime | None
    hold_until: datetime | None
    merged_into: int | None
    integration: str | None
    tags: dict[str, str]
    custom: dict[str, str]
    next_step: NextStepSchema | None
    dry_run: bool
    test: bool


class AlertDetail(AlertSummary):
    """One alert with its texts and the details from its source."""

    short_text: str
    long_text: str
    source_priority: str
    source_agent: str
    site: str
    team: str
    requester: str
    requester_phone: str
    previous_alert: int | None = Field(description="The closed alert of the same problem that came before this one.")


class AlertEventSchema(BaseModel):
    """One entry of an alert's timeline."""

    id: int
    at: datetime
    kind: str
    actor: str
    actor_kind: str
    via: str
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData
    data: dict[str, Any]


class AlertFilters(PaginationQuery):
    status: list[AlertStatus] = Field(default=[], description="One or several: `status=open&status=assigned`.")
    acknowledged: bool | None = None
    priority: list[Priority] = []
    source: str | None = None
    source_name: str | None = None
    source_id: str | None = None
    source_status: str | None = None
    client: str | None = None
    subject: str | None = Field(default=None, description="A part of the subject, ignoring case.")
    owner: str | None = Field(default=None, description="A user's name, or a name outside.")
    acknowledged_by: str | None = None
    integration: str | None = None
    opened_after: Moment | None = None
    opened_before: Moment | None = None
    dry_run: bool | None = None
    test: bool | None = None


class EventFilters(PaginationQuery):
    kind: EventKind | None = None


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[AlertSummary], summary="Alerts, newest first")
def list_alerts(request: HttpRequest, query: Query[AlertFilters]) -> dict[str, Any]:
    rows = filtered(Alert.objects.defer(*_LONG).select_related("owner", "integration"), query)
    now = caller(request).now
    return page(rows, query, lambda alerts: show(alerts, now), newest_first=True)


@routes.get("/{int:id}", Permission.VIEW_ALERTS, answers=AlertDetail, summary="One alert")
def get_alert(request: HttpRequest, id: Number) -> dict[str, Any]:
    return show_detail(find_alert(id).row, caller(request).now)


@routes.get(
    "/{int:id}/events",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[AlertEventSchema],
    summary="Its timeline, oldest first",
)
def list_events(request: HttpRequest, id: Number, query: Query[EventFilters]) -> dict[str, Any]:
    rows = AlertEvent.objects.filter(alert=find_alert(id).row)
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    return page(rows, query, _show_events)


class NotCalledSchema(BaseModel):
    """A user who was not paged about the alert, and why."""

    user: str
    name: str
    why: list[ReasonSchema]


class NotCalledResponse(BaseModel):
    items: list[NotCalledSchema]


@routes.get(
    "/{int:id}/not-called",
    Permission.VIEW_ALERTS,
    answers=NotCalledResponse,
    summary="Who was not called about it, and why",
)
def list_not_called(request: HttpRequest, id: Number) -> dict[str, Any]:
    alert = find_alert(id)
    with database.transaction() as connection:
        people = why_not_paged.explain_for_alert(connection, alert)
    return {
        "items": [
            {"user": person.username, "name": person.name, "why": [show_reason(reason) for reason in person.reasons]}
            for person in people
        ]
    }


def require_response(principal: Principal, number: int) -> VisibleAlert:
    """Return the alert on which the caller acts. Raises Rejected: `not_found`, or `forbidden`."""
    alert = find_alert(number)
    if not principal.viewer.may_respond(visibility.groups_of_alert(alert.row)):
        raise forbidden(principal, Permission.RESPOND)
    return alert


def show(alerts: Sequence[Alert], now: datetime) -> list[dict[str, Any]]:
    """Return alerts as in lists, with a constant number of SQL statements."""
    alert_ids = [alert.pk for alert in alerts]
    acknowledged = _acknowledged(alert_ids)
    with database.transaction() as connection:
        next_actions = next_steps(connection, alert_ids, now)
        questions = store.open_questions(connection, alert_ids)
    return [
        {
            **_serialize(alert, acknowledged.get(alert.pk, []), next_actions.get(alert.pk)),
            "awaits_acceptance": alert.pk in questions and questions[alert.pk].awaits_acceptance,
        }
        for alert in alerts
    ]


def show_detail(alert: Alert, now: datetime) -> dict[str, Any]:
    """Return one alert with all its texts."""
    names = ("short_text", *_LONG, "source_priority", "source_agent", "site", "team", "requester", "requester_phone")
    texts = {name: getattr(alert, name) for name in names}
    return {**show([alert], now)[0], **texts, "previous_alert": alert.previous_alert_id}


def _serialize(alert: Alert, acknowledged_by: list[str], next_action: forecast.NextAction | None) -> dict[str, Any]:
    columns = (
        "id", "status", "priority", "subject", "source", "source_name", "source_id", "source_url", "source_status",
        "client", "count", "opened_at", "last_message_at", "closed_at", "hold_until", "tags", "custom", "dry_run",
    )  # fmt: skip
    return {
        **{name: getattr(alert, name) for name in columns},
        "test": alert.is_test,
        "acknowledged": bool(acknowledged_by),
        "acknowledged_by": acknowledged_by,
        "owner": alert.owner.username if alert.owner else alert.owner_name or None,
        "integration": alert.integration.name if alert.integration else None,
        "merged_into": alert.merged_into_id,
        "next_step": {"at": next_action.at, **show_reason(next_action.summary, "summary")} if next_action else None,
    }


def _acknowledged(alert_ids: Sequence[int]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    rows = Acknowledgement.objects.filter(alert__in=alert_ids).order_by("at", "id")
    for alert_id, name in rows.values_list("alert_id", "user__username"):
        names.setdefault(alert_id, []).append(name)
    return names


def _show_events(events: Sequence[AlertEvent]) -> list[dict[str, Any]]:
    return [
        {
            "id": event.pk,
            "at": event.at,
            "kind": event.kind,
            "actor": event.actor_name,
            "actor_kind": event.actor_kind,
            "via": event.via,
            **show_reason(event.reason),
            # The state that an undo restores is internal.
            "data": {name: value for name, value in event.data.items() if name != "before"},
        }
        for event in events
    ]


def filtered(rows: QuerySet[Alert], query: AlertFilters) -> list[QuerySet[Alert]]:
    """Return the requested alerts, as the parts of a `core.db.query_union.QueryUnion`."""
    rows = _filtered_by_people(_filtered_by_columns(rows, query), query)
    filters, indexed_filters = Q(), Q()
    for name in ("source_id", "client"):
        if (text := getattr(query, name)) is not None:
            filters &= Q(**{name: text})
            indexed_filters &= Q(**{f"texts__{name}": SearchableText(text), name: text})
    if query.subject is not None:
        filters &= Q(subject__icontains=query.subject)
        indexed_filters &= Q(texts__subject__contains=SearchableText(query.subject))
    if not filters and not query.priority:
        return [rows]
    active, inactive = rows.filter(status__in=sorted(ACTIVE)), rows.filter(status__in=sorted(INACTIVE))
    return [
        search_index.filter_active(active, filters),
        *search_index.filter_inactive(inactive, filters, indexed_filters),
    ]


def _filtered_by_columns(rows: QuerySet[Alert], query: AlertFilters) -> QuerySet[Alert]:
    for name in ("source", "source_name", "source_status"):
        if (text := getattr(query, name)) is not None:
            rows = rows.filter(**{name: text})
    if query.dry_run is not None:
        rows = rows.filter(dry_run=query.dry_run)
    if query.test is not None:
        rows = rows.filter(is_test=query.test)
    if query.status:
        rows = rows.filter(status__in=query.status)
    if query.priority:
        rows = rows.filter(priority__in=query.priority)
    rows = _filtered_by_time(rows, query)
    if query.integration is not None:
        integration = registry.INTEGRATIONS.resolve(query.integration, "integration")
        rows = rows.filter(integration=integration)
    return rows


def _filtered_by_time(rows: QuerySet[Alert], query: AlertFilters) -> QuerySet[Alert]:
    after, before = query.opened_after, query.opened_before
    if after is None and before is None:
        return rows
    with database.connection() as connection:
        if after is not None:
            rows = rows.filter(opened_at__gte=after, pk__gte=search_index.first_id_opened_since(connection, after))
        if before is not None:
            # `first_opened` allows one hour for alerts that overtook each other; the upper bound needs that hour twice.
            upper_bound = min(before, _LATEST) + timedelta(hours=2)
            rows = rows.filter(opened_at__lt=before, pk__lt=search_index.first_id_opened_since(connection, upper_bound))
    return rows


def _filtered_by_people(rows: QuerySet[Alert], query: AlertFilters) -> QuerySet[Alert]:
    if query.owner is not None:
        external_owner = Q(owner__isnull=True, owner_name__iexact=query.owner)
        rows = rows.filter(Q(owner__username__iexact=query.owner) | external_owner)
    if query.acknowledged is not None:
        has_acknowledgement = Exists(Acknowledgement.objects.filter(alert=OuterRef("pk")))
        rows = rows.filter(has_acknowledgement if query.acknowledged else ~has_acknowledgement)
    if query.acknowledged_by is not None:
        user = registry.USERS.resolve(query.acknowledged_by, "acknowledged_by")
        rows = rows.filter(acknowledgements__user=user)
    return rows
