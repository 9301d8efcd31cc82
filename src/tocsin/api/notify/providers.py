"""Notification providers: the accounts and servers that send messages. For administrators; secrets are write-only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.api.framework.auth import Principal, caller, changer
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import PaginatedList, PaginationQuery, page
from tocsin.api.framework.resources import ApiResource, ResourceSpec, register
from tocsin.core.runtime import clock
from tocsin.notify.enqueue import provider_tests
from tocsin.notify.models import Provider
from tocsin.notify.providers import commands, rejections
from tocsin.notify.providers import status as provider_status
from tocsin.notify.providers.pool import ENVIRONMENT

routes = AuthorizedRouter("providers")

EXAMPLE = {"name": "Phones", "kind": "ntfy", "api_base": "https://ntfy.sh", "order": 1}


class ProviderFilters(PaginationQuery):
    name: str | None = None
    kind: str | None = None
    channel: str | None = None
    enabled: bool | None = None


class ProviderTestBody(BaseModel):
    """The recipient of a test message."""

    channel: str
    address: str


class ProviderTestQueuedResponse(BaseModel):
    """A test message that was queued."""

    notification_id: UUID


class ProviderTestResponse(BaseModel):
    """The other side responds and accepts the credentials."""

    ok: bool
    detail: str


@routes.get("", Permission.ADMINISTER, answers=PaginatedList[dict[str, Any]], summary="Providers")
def list_providers(request: HttpRequest, query: Query[ProviderFilters]) -> dict[str, Any]:
    rows = _rows()
    if query.name is not None:
        rows = rows.filter(name__iexact=query.name)
    if query.kind is not None:
        rows = rows.filter(kind=query.kind)
    if query.channel is not None:
        rows = rows.filter(channels__contains=[query.channel])
    if query.enabled is not None:
        rows = rows.filter(is_enabled=query.enabled)
    now = caller(request).now
    return page(rows, query, lambda found: _shown(found, now))


@routes.post(
    "/{id}/test",
    Permission.ADMINISTER,
    answers=ProviderTestResponse,
    summary="Try address and credentials; nothing is sent",
)
def test_provider(request: HttpRequest, id: str) -> dict[str, Any]:
    """A failure is returned as an error: 502, or 503 if a retry may succeed. `SMTP (environment)` tests the server
    configured by TOCSIN_SMTP_URL."""
    if id.lower() == ENVIRONMENT.lower():
        return {"ok": True, "detail": commands.test_environment()}
    return {"ok": True, "detail": commands.test_provider(PROVIDERS.find(id))}


TO_SMS = {"channel": "sms", "address": "+41790000001"}


@routes.post(
    "/{id}/send-test",
    Permission.ADMINISTER,
    status=202,
    answers=ProviderTestQueuedResponse,
    summary="Send a test through it alone, and see in `deliveries?notification_id=` what becomes of it",
    extra={"requestBody": {"content": {"application/json": {"example": TO_SMS}}}},
)
def send_test(request: HttpRequest, id: str, body: ProviderTestBody) -> dict[str, Any]:
    who, provider = caller(request), PROVIDERS.find(id)
    sent = provider_tests.send_test(provider, body.channel, body.address, user_id=who.user.pk, now=who.now)
    return {"notification_id": sent}


def _rows() -> QuerySet[Provider]:
    return Provider.objects.all()


def _show(provider: Provider, _who: Principal | None = None) -> dict[str, Any]:
    return _shown([provider], clock.now())[0]


def _shown(found: Sequence[Provider], now: datetime) -> list[dict[str, Any]]:
    known, refused = provider_status.statuses(), rejections.recent_rejections(now)
    return [
        _one(row, known.get(row.name, provider_status.ProviderStatus()), refused.get(row.name, ())) for row in found
    ]


def _one(
    provider: Provider, status: provider_status.ProviderStatus, refused: Sequence[rejections.Rejection]
) -> dict[str, Any]:
    secrets = sorted(commands.secrets_set(provider))
    return {
        "id": provider.pk,
        **commands.provider_spec(provider),
        "secrets_set": secrets,
        "callbacks": {point.what: address for point, address in provider_status.webhook_urls(provider)},
        "health": {
            "state": status.state,
            "error": status.error,
            "worked_at": status.worked_at,
            "failed_at": status.failed_at,
        },
        "refused": [
            {"error": one.error, "count": one.count, "last_at": one.last_at, "alert_id": one.alert_id}
            for one in refused
        ],
    }


def _save(spec: ResourceSpec, /, *, caller: Principal, existing: Provider | None) -> Provider:
    return commands.save_provider(spec, existing=existing, actor=changer(caller), now=caller.now)


def _delete(provider: Provider, actor: AuditActor, who: Principal) -> None:
    commands.delete_provider(provider, actor=actor, now=who.now)


PROVIDERS = ApiResource(
    routes=routes,
    what="provider",
    action=Permission.ADMINISTER,
    rows=_rows,
    spec_of=commands.provider_spec,
    show=_show,
    save=_save,
    delete=_delete,
    owner=lambda _provider: None,
    example=EXAMPLE,
    shown_only=frozenset({"id", "secrets_set", "callbacks", "health", "refused"}),
    see=Permission.ADMINISTER,
    state_of=commands.provider_state,
)
register(PROVIDERS)
