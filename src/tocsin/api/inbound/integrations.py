"""Inbound integrations: settings and webhook URL. See `integration_preview` and `integration_versions` for the rest.

The URL contains the integration's secret, so it is shown only to callers who may change the integration.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, Field

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller, require
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.lookup import find_named
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.validation import durations
from tocsin.inbound.admin import commands, secrets, specs
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.email import imap_poller
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group

routes = AuthorizedRouter("integrations")

EXAMPLE = {
    "name": "HaloITSM",
    "kind": "haloitsm",
    "escalation_policy": "Standard",
    "recipients": {"groups": ["Service Desk"]},
    "settings": {"halo_address": "https://acme.haloitsm.com"},
}

#: Fields shown besides the spec.
_READ_ONLY_KEYS = frozenset({"id", "url", "version", "created_at", "old_token_until", "previous_token_requests"})


class IntegrationFilters(PaginationQuery):
    name: str | None = None
    kind: str | None = None
    group: str | None = None
    mode: IntegrationMode | None = None


class RotateBody(Schema):
    model_config = {"extra": "forbid"}

    overlap: str | None = Field(
        default=None, max_length=20, description="How long the old URL still works, such as `1d`; else one day."
    )
    token: str | None = Field(default=None, max_length=300, description="The new token; else one is made.")


class RotateResponse(BaseModel):
    """The new URL, and until when the old one works."""

    token: str
    url: str
    old_token_until: datetime | None


class IntegrationTestResponse(BaseModel):
    """The other side responds and accepts the credentials."""

    ok: bool
    detail: str


_EMPTY = RotateBody()


@routes.get("", Permission.VIEW_ALERTS, answers=PaginatedList[dict[str, Any]], summary="Inbound integrations")
def list_integrations(request: HttpRequest, query: Query[IntegrationFilters]) -> dict[str, Any]:
    principal, rows = caller(request), _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    if query.mode is not None:
        rows = rows.filter(mode=query.mode)
    if query.group is not None:
        rows = rows.filter(group=find_named(Group.objects.all(), query.group, label="group", field="group"))
    return page(rows, query, lambda page_rows: _show_all(page_rows, principal))


@routes.post("/{id}/rotate-token", Permission.MANAGE_ROUTING, answers=RotateResponse, summary="Give it a new URL")
def rotate_token(request: HttpRequest, id: str, body: RotateBody = _EMPTY) -> dict[str, Any]:
    principal = caller(request)
    integration = INTEGRATIONS.find_authorized(id, principal, Permission.MANAGE_ROUTING)
    overlap = secrets.DEFAULT_OVERLAP if body.overlap is None else durations.parse(body.overlap, "overlap")
    token = secrets.rotate_token(
        integration, overlap=overlap, token=body.token, actor=audit_actor_of(principal), now=principal.now
    )
    halo_commands.schedule_webhook_update(integration, principal.now)
    return {"token": token, "url": secrets.url_of(integration), "old_token_until": integration.old_token_until}


@routes.post(
    "/{id}/test-mailbox",
    Permission.MANAGE_ROUTING,
    answers=IntegrationTestResponse,
    summary="Sign in to the mailbox it reads; nothing is read",
)
def test_mailbox(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 400 without a mailbox, 502, or 503 if a retry may succeed."""
    integration = INTEGRATIONS.find_authorized(id, caller(request), Permission.MANAGE_ROUTING)
    imap = secrets.credentials_of(integration).get("imap", {})
    report = imap_poller.check_mailbox(imap.get("mailbox", ""), imap.get("password", ""))
    return {"ok": True, "detail": str(report)}


def _rows() -> QuerySet[Integration]:
    return Integration.objects.select_related("group", "policy", "current_version", "outbound").prefetch_related(
        "recipient_users", "recipient_groups"
    )


def _show_all(integrations: Sequence[Integration], principal: Principal) -> list[dict[str, Any]]:
    names = specs.load_reference_names()
    return [_show(integration, principal, names) for integration in integrations]


def _show(integration: Integration, principal: Principal, names: ReferenceNames | None = None) -> dict[str, Any]:
    may_see_url = principal.viewer.may(Permission.MANAGE_ROUTING, integration.group_id)
    return {
        "id": integration.pk,
        **commands.integration_spec(integration, names),
        "url": (secrets.masked_url(integration) or None) if may_see_url else None,
        "version": integration.current_version.number if integration.current_version else None,
        "created_at": integration.created_at,
        "old_token_until": integration.old_token_until,
        "previous_token_requests": integration.previous_token_requests,
    }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Integration | None) -> Integration:
    previous_outbound_id = existing.outbound_id if existing is not None else None
    saved = commands.save_integration(spec, existing=existing, actor=audit_actor_of(caller), now=caller.now)
    if saved.outbound_id is not None and saved.outbound_id != previous_outbound_id:
        # Everybody who sends to the integration then writes to this outbound integration, so changing it needs
        # permission on it.
        require(caller, Permission.MANAGE_ROUTING, OutboundIntegration.objects.get(pk=saved.outbound_id).group_id)
    return saved


def _delete(integration: Integration, actor: AuditActor, principal: Principal) -> None:
    commands.delete_integration(integration, actor=actor, now=principal.now)


INTEGRATIONS = ApiResource(
    routes=routes,
    label="integration",
    change_permission=Permission.MANAGE_ROUTING,
    rows=_rows,
    to_spec=commands.integration_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner_group_id=lambda integration: integration.group_id,
    example=EXAMPLE,
    read_only_keys=_READ_ONLY_KEYS,
    to_state=commands.integration_state,
)
register(INTEGRATIONS)
