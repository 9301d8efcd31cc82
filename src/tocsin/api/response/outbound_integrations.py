"""Outbound integrations: configuration, calls, and operations of a connected Halo. Secrets are write-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, caller, changer, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.errors import Rejected
from tocsin.inbound.models import Integration
from tocsin.outbound import commands
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import Call, Exchange, LookUp, OutboundIntegration

routes = AuthorizedRouter("outbound-integrations")

EXAMPLE = {
    "name": "Halo", "kind": "haloitsm", "base_url": "https://acme.haloitsm.com", "client_id": "…",
    "client_secret": "…",  # nosec B105 # an example
    "sync": {"acknowledge": {"note": True}, "assign": {"note": True, "agent": True}, "close": {"note": True}},
}  # fmt: skip


class OutboundFilters(PaginationQuery):
    name: str | None = None
    kind: str | None = None
    enabled: bool | None = None


class OutboundCallFilters(PaginationQuery):
    status: str | None = None
    alert_id: int | None = None
    ticket: str | None = None


class OutboundTestResponse(BaseModel):
    """The other side responds and accepts the credentials."""

    ok: bool
    detail: str


class OutboundCallSchema(BaseModel):
    """One pending or completed call to the other side."""

    id: int
    status: str
    action: str
    said: str
    alert_id: int | None
    ticket: str
    attempts: int
    error: str
    result: str
    queued_at: datetime
    due_at: datetime
    ended_at: datetime | None


class AlertReferenceBody(BaseModel):
    alert: int


class IntegrationReferenceBody(BaseModel):
    integration: str


class HaloAgentsBody(BaseModel):
    #: Ids of the agents in Halo.
    agents: list[str]


@routes.get("", Permission.SEE, answers=PaginatedList[dict[str, Any]], summary="Outbound integrations")
def list_outbound(request: HttpRequest, query: Query[OutboundFilters]) -> dict[str, Any]:
    who, rows = caller(request), _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    if query.enabled is not None:
        rows = rows.filter(is_enabled=query.enabled)
    return page(rows, query, lambda found: [_show(row, who) for row in found])


@routes.post(
    "/{id}/test",
    Permission.ROUTING,
    answers=OutboundTestResponse,
    summary="Try address and credentials; nothing is changed",
)
def test_outbound(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 502, or 503 if a retry may succeed."""
    who = caller(request)
    return {"ok": True, "detail": commands.verify_outbound(_own(id, who), who.now)}


@routes.get(
    "/{id}/calls",
    Permission.SEE,
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
    return page(rows, query, lambda found: [_call(row) for row in found], newest_first=True)


@routes.get(
    "/{id}/calls/{int:call_id}", Permission.ROUTING, answers=dict[str, Any], summary="One call, and what was said"
)
def one_call(request: HttpRequest, id: str, call_id: int) -> dict[str, Any]:
    row = _found_call(_own(id, caller(request)), call_id)
    said = Exchange.objects.filter(call=row).order_by("pk")
    fields = ("at", "took", "method", "url", "request", "status", "response", "error")
    return {**_call(row), "exchanges": [{name: getattr(one, name) for name in fields} for one in said]}


@routes.post(
    "/{id}/calls/{int:call_id}/send-again",
    Permission.ROUTING,
    status=204,
    answers=None,
    summary="Send a dead letter again",
)
def send_again(request: HttpRequest, id: str, call_id: int) -> None:
    who = caller(request)
    commands.send_again(_found_call(_own(id, who), call_id), actor=changer(who), now=who.now)


@routes.post(
    "/{id}/calls/send-again", Permission.ROUTING, answers=dict[str, int], summary="Send every dead letter again"
)
def send_all_again(request: HttpRequest, id: str) -> dict[str, int]:
    who = caller(request)
    return {"count": commands.send_all_again(_own(id, who), actor=changer(who), now=who.now)}


@routes.post(
    "/{id}/calls/{int:call_id}/drop", Permission.ROUTING, status=204, answers=None, summary="Decide that it is not sent"
)
def drop(request: HttpRequest, id: str, call_id: int) -> None:
    who = caller(request)
    commands.drop(_found_call(_own(id, who), call_id), actor=changer(who), now=who.now)


@routes.post(
    "/{id}/call", Permission.ROUTING, answers=dict[str, Any], summary="Make the HTTP call, or a ticket, for an alert"
)
def call_for_alert(request: HttpRequest, id: str, body: AlertReferenceBody) -> dict[str, Any]:
    who = caller(request)
    row = _own(id, who)
    if row.kind == "haloitsm":
        return {"id": halo_commands.make_ticket(row, body.alert, changer(who), who.now)}
    return {"id": commands.call_once(row, body.alert, changer(who), who.now)}


@routes.get(
    "/{id}/rights", Permission.ROUTING, answers=list[dict[str, str]], summary="Which of Halo's rights are missing"
)
def rights(request: HttpRequest, id: str) -> list[dict[str, str]]:
    who = caller(request)
    found = halo_commands.rights(_own(id, who), who.now)
    return [{"what": one.what, "needed_for": one.needed_for, "problem": one.problem} for one in found]


@routes.get(
    "/{id}/lists", Permission.SEE, answers=dict[str, list[dict[str, str]]], summary="Halo's lists, as last read"
)
def lists(request: HttpRequest, id: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in LookUp.objects.filter(integration=OUTBOUND.find(id)).order_by("noun", "pk"):
        found.setdefault(row.noun, []).append({"id": row.number, "name": row.name})
    return found


@routes.post("/{id}/refresh", Permission.ROUTING, answers=dict[str, Any], summary="Read Halo's lists again")
def refresh(request: HttpRequest, id: str) -> dict[str, Any]:
    who = caller(request)
    return {"problems": halo_commands.refresh(_own(id, who), changer(who), who.now)}


@routes.post("/{id}/set-up-webhook", Permission.ROUTING, answers=dict[str, Any], summary="Set the webhook up in Halo")
def set_up_webhook(request: HttpRequest, id: str, body: IntegrationReferenceBody) -> dict[str, Any]:
    who = caller(request)
    door = find(Integration.objects.all(), body.integration, what="integration")
    # Halo receives the integration's webhook URL and password, so the caller must be allowed to change that
    # integration.
    require(who, Permission.ROUTING, door.group_id)
    done = halo_commands.set_up_webhook(_own(id, who), door, changer(who), who.now)
    return {"ok": not done.problem, "steps": done.steps, "problem": done.problem, "without": done.without}


@routes.post("/{id}/look", Permission.ROUTING, status=202, answers=None, summary="Read changed tickets now")
def look(request: HttpRequest, id: str) -> None:
    who = caller(request)
    halo_commands.poll_now(_own(id, who), who.now)


@routes.post(
    "/{id}/import-people", Permission.ADMINISTER, answers=dict[str, Any], summary="Agents and teams as users and groups"
)
def import_people(request: HttpRequest, id: str, body: HaloAgentsBody) -> dict[str, Any]:
    who = caller(request)
    done = halo_commands.import_people(_own(id, who), body.agents, changer(who), who.now)
    return {"users": list(done.users), "groups": list(done.groups), "problems": list(done.problems)}


def _own(id: str, who: Principal) -> OutboundIntegration:
    return OUTBOUND.find_own(id, who, Permission.ROUTING)


def _found_call(row: OutboundIntegration, number: int) -> Call:
    found = Call.objects.filter(integration=row, pk=number).first()
    if found is None:
        raise Rejected("not_found", f"{row.name} has no call {number}.")
    return found


def _call(row: Call) -> dict[str, Any]:
    names = ("id", "status", "action", "said", "alert_id", "ticket", "attempts", "error", "result", "queued_at",
             "due_at", "ended_at")  # fmt: skip
    return {name: getattr(row, name) for name in names}


#: Settings that only callers who may change the integration see.
_ONLY_OWN = frozenset({"url", "token_url", "headers", "body", "client_id", "username"})


def _rows() -> QuerySet[OutboundIntegration]:
    return OutboundIntegration.objects.select_related("group", "standing").prefetch_related("matches__user")


def _show(row: OutboundIntegration, who: Principal) -> dict[str, Any]:
    standing = row.standing
    spec = commands.outbound_spec(row)
    if not who.viewer.may(Permission.ROUTING, row.group_id):
        # The URL, headers and body of a call often contain a token of the other side.
        spec = {name: value for name, value in spec.items() if name not in _ONLY_OWN}
    return {
        "id": row.pk,
        **spec,
        "secrets_set": sorted(commands.secrets_set(row)),
        "problem": standing.problem or standing.last_transient_error,
        "last_polled_at": standing.last_polled_at,
        "webhook_problem": standing.webhook_problem,
    }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: OutboundIntegration | None) -> OutboundIntegration:
    return commands.save_outbound(spec, existing=existing, actor=changer(caller), now=caller.now)


def _delete(row: OutboundIntegration, actor: AuditActor, who: Principal) -> None:
    commands.delete_outbound(row, actor=actor, now=who.now)


OUTBOUND = ApiResource(
    routes=routes,
    what="outbound integration",
    action=Permission.ROUTING,
    rows=_rows,
    spec_of=commands.outbound_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner=lambda row: row.group_id,
    example=EXAMPLE,
    shown_only=frozenset({"id", "secrets_set", "problem", "last_polled_at", "webhook_problem"}),
    state_of=commands.outbound_state,
)
register(OUTBOUND)
