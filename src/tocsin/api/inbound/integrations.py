"""Inbound integrations: settings and webhook URL. See `integration_preview` and `integration_versions` for the rest.

The URL contains the integration's secret, so it is shown only to callers who may change the integration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Schema
from pydantic import BaseModel, Field

from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, audit_actor_of, caller, require
from tocsin.api.framework.resources import ApiResource, register
from tocsin.core.validation import durations
from tocsin.inbound.admin import commands, secrets
from tocsin.inbound.email import imap_poller
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.outbound.halo_sync import halo_commands
from tocsin.outbound.models import OutboundIntegration
from tocsin.resources import registry
from tocsin.resources.resource import ResourceSpec


class IntegrationFields(BaseModel):
    """What is shown of an integration besides its settings."""

    url: str | None = Field(description="The webhook URL, for callers who may change the integration.")
    version: int | None = Field(description="Number of the current version of its definition.")
    created_at: datetime
    old_token_until: datetime | None = Field(description="Until when the previous URL works.")
    previous_token_requests: int = Field(description="Requests to the previous URL since the last rotation.")


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


def _show(integrations: Sequence[Integration], principal: Principal) -> Iterator[dict[str, Any]]:
    for integration, spec in zip(integrations, registry.INTEGRATIONS.specs(integrations), strict=True):
        may_see_url = principal.viewer.may(Permission.MANAGE_ROUTING, integration.group_id)
        yield {
            **spec,
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


INTEGRATIONS = ApiResource(
    registry.INTEGRATIONS,
    filters={"kind": (str, "kind"), "mode": (IntegrationMode, "mode")},
    show=_show,
    save=_save,
    read_only=IntegrationFields,
)
routes = INTEGRATIONS.routes


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


register(INTEGRATIONS)
