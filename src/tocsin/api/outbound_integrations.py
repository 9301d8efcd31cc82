"""Outbound integrations: configuration, calls, and operations of a connected Halo. Secrets are write-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.alerts.service import find_alert
from tocsin.api.errors import ReasonSchema, show
from tocsin.api.framework.auth import (
    Number,
    PaginatedList,
    PaginationQuery,
    Principal,
    audit_actor_of,
    caller,
    page,
    require,
)
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, show_reason
from tocsin.outbound import commands, writeback
from tocsin.outbound.delivery.results import KINDS
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import Call, Exchange, LookUp, OutboundIntegration
from tocsin.outbound.redaction import MASK
from tocsin.outbound.states import CallStatus, OutboundEvent
from tocsin.resources import registry

_NO_SUCH_CALL = Text("{integration} has no call {call}.")


class OutboundCallFilters(PaginationQuery):
    status: CallStatus | None = None
    alert_id: Number | None = None
    ticket: str | None = None


class OutboundTestResponse(BaseModel):
    """The other side responds and accepts the credentials."""

    ok: bool
    detail: ReasonSchema


class OutboundCallSchema(BaseModel):
    """One pending or completed call to the other side."""

    id: int
    status: CallStatus
    action: str
    description: ReasonSchema | None
    alert_id: int | None
    ticket: str
    attempts: int
    error: ReasonSchema | None
    result: ReasonSchema | None
    queued_at: datetime
    due_at: datetime
    ended_at: datetime | None


class ExchangeSchema(BaseModel):
    """One request of a call and its response, without secrets."""

    at: datetime
    took: int = Field(description="There and back, in milliseconds.")
    method: str
    url: str
    request: str
    status: int | None
    response: str
    error: str


class OutboundCallDetail(OutboundCallSchema):
    """A call with what was said."""

    exchanges: list[ExchangeSchema]


class QueuedCallResponse(BaseModel):
    id: int = Field(description="Number of the call.")


class ResentCallsResponse(BaseModel):
    count: int


class PermissionSchema(BaseModel):
    """A permission in Halo, and why it is missing, if it is."""

    what: ReasonSchema
    needed_for: ReasonSchema | None
    problem: ReasonSchema | None


class ListEntrySchema(BaseModel):
    id: str
    name: str


class HaloProblemsResponse(BaseModel):
    problems: list[ReasonSchema]


class WebhookSetupResponse(BaseModel):
    """The steps that were done; if there is a problem, the last one is where it stopped."""

    ok: bool
    steps: list[ReasonSchema]
    problem: ReasonSchema | None
    without: list[str] = Field(description="Events that this Halo does not have.")


class ImportedAgentsResponse(HaloProblemsResponse):
    """The users and groups that were created."""

    users: list[str]
    groups: list[str]


class AlertReferenceBody(BaseModel):
    alert: int


class PreviewBody(AlertReferenceBody):
    event: OutboundEvent


class PlannedRequestSchema(BaseModel):
    """A request that would be sent, without secrets."""

    method: str
    url: str
    body: str


class IntegrationReferenceBody(BaseModel):
    integration: str


class HaloAgentsBody(BaseModel):
    #: Ids of the agents in Halo.
    agents: list[str]


#: Settings that only callers who may change the integration see; those that every integration of a kind has are masked.
_HIDDEN_SETTINGS = frozenset({"token_url", "headers", "body", "username"})
_MASKED_SETTINGS = frozenset({"url", "client_id"})


class OutboundFields(BaseModel):
    """What is shown of an outbound integration besides its settings."""

    secrets_set: list[str] = Field(description="Names of the stored secrets.")
    problem: ReasonSchema | None = Field(description="Why calls wait.")
    last_polled_at: datetime | None
    webhook_problem: ReasonSchema | None


def _show(rows: Sequence[OutboundIntegration], principal: Principal) -> Iterator[dict[str, Any]]:
    for row, spec in zip(rows, registry.OUTBOUND_INTEGRATIONS.specs(rows), strict=True):
        if not principal.viewer.may(Permission.MANAGE_ROUTING, row.group_id):
            # The URL, headers and body of a call often contain a token of the other side.
            spec = {
                name: MASK if name in _MASKED_SETTINGS else value
                for name, value in spec.items()
                if name not in _HIDDEN_SETTINGS
            }
        yield {
            **spec,
            "secrets_set": sorted(commands.secrets_set(row)),
            "problem": show_reason(row.status.problem or row.status.last_transient_error),
            "last_polled_at": row.status.last_polled_at,
            "webhook_problem": show_reason(row.status.webhook_problem),
        }


OUTBOUND = ApiResource(
    registry.OUTBOUND_INTEGRATIONS,
    filters={"kind": (str, "kind"), "enabled": (bool, "is_enabled")},
    show=_show,
    read_only=OutboundFields,
)
routes = OUTBOUND.routes


@routes.post(
    "/{id}/test",
    Permission.MANAGE_ROUTING,
    answers=OutboundTestResponse,
    summary="Try address and credentials; nothing is changed",
)
def test_outbound(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 502, or 503 if a retry may succeed."""
    principal = caller(request)
    found = commands.verify_outbound(_find_authorized(id, principal), principal.now)
    return {"ok": True, "detail": show_reason(found)}


@routes.get(
    "/{id}/calls",
    Permission.VIEW_ALERTS,
    answers=PaginatedList[OutboundCallSchema],
    summary="What was and is to be done, newest first",
)
def list_calls(request: HttpRequest, id: str, query: Query[OutboundCallFilters]) -> dict[str, Any]:
    rows = Call.objects.filter(integration=OUTBOUND.find(id))
    if query.status is not None:
        rows = rows.filter(status=query.status)
    if query.alert_id is not None:
        rows = rows.filter(alert=query.alert_id)
    if query.ticket is not None:
        rows = rows.filter(ticket=query.ticket)
    return page(rows, query, lambda page_rows: [show(OutboundCallSchema, row) for row in page_rows], newest_first=True)


@routes.get(
    "/{id}/calls/{int:call_id}",
    Permission.MANAGE_ROUTING,
    answers=OutboundCallDetail,
    summary="One call, and what was said",
)
def one_call(request: HttpRequest, id: str, call_id: int) -> dict[str, Any]:
    row = _find_call(_find_authorized(id, caller(request)), call_id)
    exchanges = Exchange.objects.filter(call=row).order_by("pk")
    return show(OutboundCallDetail, row, exchanges=[show(ExchangeSchema, exchange) for exchange in exchanges])


@routes.post(
    "/{id}/calls/{int:call_id}/send-again",
    Permission.MANAGE_ROUTING,
    status=204,
    answers=None,
    summary="Send a dead letter again",
)
def send_again(request: HttpRequest, id: str, call_id: int) -> None:
    principal = caller(request)
    commands.send_again(
        _find_call(_find_authorized(id, principal), call_id), actor=audit_actor_of(principal), now=principal.now
    )


@routes.post(
    "/{id}/calls/send-again",
    Permission.MANAGE_ROUTING,
    answers=ResentCallsResponse,
    summary="Send every dead letter again",
)
def send_all_again(request: HttpRequest, id: str) -> dict[str, int]:
    principal = caller(request)
    return {
        "count": commands.send_all_again(
            _find_authorized(id, principal), actor=audit_actor_of(principal), now=principal.now
        )
    }


@routes.post(
    "/{id}/calls/{int:call_id}/drop",
    Permission.MANAGE_ROUTING,
    status=204,
    answers=None,
    summary="Decide that it is not sent",
)
def drop(request: HttpRequest, id: str, call_id: int) -> None:
    principal = caller(request)
    commands.drop(
        _find_call(_find_authorized(id, principal), call_id), actor=audit_actor_of(principal), now=principal.now
    )


@routes.post(
    "/{id}/call",
    Permission.MANAGE_ROUTING,
    answers=QueuedCallResponse,
    summary="Make the HTTP call, or a ticket, for an alert",
)
def call_for_alert(request: HttpRequest, id: str, body: AlertReferenceBody) -> dict[str, Any]:
    principal = caller(request)
    row, alert = _find_authorized(id, principal), find_alert(body.alert, "alert")
    if (kind := KINDS.get(row.kind)) is not None and kind.has_tickets:
        return {"id": commands.make_ticket(row, alert, audit_actor_of(principal), principal.now)}
    return {"id": commands.call_once(row, alert, audit_actor_of(principal), principal.now)}


@routes.post(
    "/{id}/preview",
    Permission.MANAGE_ROUTING,
    answers=list[PlannedRequestSchema],
    summary="What an event of an alert would write to its ticket; nothing is written",
)
def preview(request: HttpRequest, id: str, body: PreviewBody) -> list[dict[str, Any]]:
    principal = caller(request)
    row, alert = _find_authorized(id, principal), find_alert(body.alert, "alert")
    planned = writeback.preview(row, alert, body.event, audit_actor_of(principal), principal.now)
    return [show(PlannedRequestSchema, one) for one in planned]


@routes.get(
    "/{id}/rights",
    Permission.MANAGE_ROUTING,
    answers=list[PermissionSchema],
    summary="Which of Halo's rights are missing",
)
def rights(request: HttpRequest, id: str) -> list[dict[str, Any]]:
    principal = caller(request)
    checks = halo_commands.check_permissions(_find_authorized(id, principal), principal.now)
    return [
        {
            "what": show_reason(check.permission),
            "needed_for": show_reason(check.purpose),
            "problem": show_reason(check.problem),
        }
        for check in checks
    ]


@routes.get(
    "/{id}/lists",
    Permission.VIEW_ALERTS,
    answers=dict[str, list[ListEntrySchema]],
    summary="The lists of a ticket system, as last read",
)
def lists(request: HttpRequest, id: str) -> dict[str, list[dict[str, str]]]:
    entries_by_list: dict[str, list[dict[str, str]]] = {}
    for row in LookUp.objects.filter(integration=OUTBOUND.find(id)).order_by("list_name", "pk"):
        entries_by_list.setdefault(row.list_name, []).append({"id": row.number, "name": row.name})
    return entries_by_list


@routes.post(
    "/{id}/refresh",
    Permission.MANAGE_ROUTING,
    answers=HaloProblemsResponse,
    summary="Read the lists of a ticket system again",
)
def refresh(request: HttpRequest, id: str) -> dict[str, Any]:
    principal = caller(request)
    problems = halo_commands.refresh(_find_authorized(id, principal), audit_actor_of(principal), principal.now)
    return {"problems": [show_reason(reason) for reason in problems]}


@routes.post(
    "/{id}/set-up-webhook",
    Permission.MANAGE_ROUTING,
    answers=WebhookSetupResponse,
    summary="Set the webhook up in Halo",
)
def set_up_webhook(request: HttpRequest, id: str, body: IntegrationReferenceBody) -> dict[str, Any]:
    principal = caller(request)
    inbound_integration = registry.INTEGRATIONS.find(body.integration)
    # Halo receives the integration's webhook URL and password, so the caller must be allowed to change that
    # integration.
    require(principal, Permission.MANAGE_ROUTING, inbound_integration.group_id)
    result = halo_commands.set_up_webhook(
        _find_authorized(id, principal), inbound_integration, audit_actor_of(principal), principal.now
    )
    return {
        "ok": not result.problem,
        "steps": [show_reason(reason) for reason in result.steps],
        "problem": show_reason(result.problem),
        "without": result.missing_events,
    }


@routes.post("/{id}/look", Permission.MANAGE_ROUTING, status=202, answers=None, summary="Read changed tickets now")
def look(request: HttpRequest, id: str) -> None:
    principal = caller(request)
    halo_commands.poll_now(_find_authorized(id, principal), principal.now)


@routes.post(
    "/{id}/import-people",
    Permission.ADMINISTER,
    answers=ImportedAgentsResponse,
    summary="Agents and teams as users and groups",
)
def import_people(request: HttpRequest, id: str, body: HaloAgentsBody) -> dict[str, Any]:
    principal = caller(request)
    result = halo_commands.import_people(
        _find_authorized(id, principal), body.agents, audit_actor_of(principal), principal.now
    )
    return {
        "users": list(result.users),
        "groups": list(result.groups),
        "problems": [show_reason(reason) for reason in result.problems],
    }


def _find_authorized(id: str, principal: Principal) -> OutboundIntegration:
    return OUTBOUND.find_authorized(id, principal, Permission.MANAGE_ROUTING)


def _find_call(row: OutboundIntegration, call_id: int) -> Call:
    call = Call.objects.filter(integration=row, pk=call_id).first()
    if call is None:
        raise Rejected("not_found", _NO_SUCH_CALL(integration=row.name, call=str(call_id)))
    return call


register(OUTBOUND)
